import { report } from '../base/diagnostics.js'
import { CorralError } from '../base/errors.js'
import type { MaybePromise } from '../base/maybe-promise.js'
import { processGlobal } from '../base/process-global.js'

/** The checks of versions, once any was declared: a region that never meets one does not carry it. */
export interface CheckedNames {
  outdated(versions: readonly string[]): MaybePromise<readonly string[]>
  resolve(names: readonly string[]): MaybePromise<readonly string[]>
  /** Throws for a version that was not read before the data; `all`: for those that were read too. */
  refuse(names: readonly string[], all: boolean): void
}

const shared = processGlobal('versions', (): { knowledge?: CheckedNames } => ({}))

export function registerCheckedNames(known: CheckedNames): void {
  shared.knowledge ??= known
}

/** Whether this process declared any version: the session of a caller then says which values it may have. */
export function hasVersions(): boolean {
  return shared.knowledge !== undefined
}

/** Begins the name of a version that is still to be read. */
export const OPEN = '~version?:'

/** Whether a name is that of a version which was read. `~` marks the library's names: no name made by hand looks like it. */
export function isVersion(name: string): boolean {
  return name.startsWith('~version:')
}

/**
 * Those of an entry's versions that are not the present ones any more. An unknown version counts as outdated: a miss is
 * always safe.
 */
export function outdated(versions: readonly string[]): MaybePromise<readonly string[]> {
  if (shared.knowledge !== undefined) return shared.knowledge.outdated(versions)
  if (versions.length > 0) reportUnknown(versions[0])
  return versions
}

/** Reports a version whose module this process has not loaded. */
export function reportUnknown(version: string | undefined): void {
  report('notice', () => ({
    where: 'version',
    key: version,
    message:
      'no function of this process alone is declared to check it, so entries that depend on it are misses',
  }))
}

/** Reads the versions among some names that are still to be read; at once where there are none. */
export function resolveVersions(names: readonly string[]): MaybePromise<readonly string[]> {
  if (shared.knowledge !== undefined) return shared.knowledge.resolve(names)
  refuseUndeclared(names, false)
  return names
}

/** @throws CorralError `ERR_VERSION` for a version that was not read before the data; `all`: for those that were read too. */
export function refuseVersions(names: readonly string[], all = false): void {
  if (shared.knowledge !== undefined) shared.knowledge.refuse(names, all)
  else refuseUndeclared(names, all)
}

/** As an ordinary name it would never be invalidated. It is from another process, or from another release of this package. */
function refuseUndeclared(names: readonly string[], all: boolean): void {
  const version = names.find((name) => name.startsWith(OPEN) || (all && isVersion(name)))
  if (version !== undefined)
    throw new CorralError(
      'ERR_VERSION',
      `Expected a version that this process declares, got '${version}'. Call dep.version() in the module that is used here; two releases of the package in one process do not know each other's.`,
    )
}
