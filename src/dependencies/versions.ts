import { report } from '../diagnostics.js'
import type { MaybePromise } from '../maybe-promise.js'

/** What is known of versions, once any was declared: a region that never meets one does not carry it. */
export interface Knowledge {
  outdated(versions: readonly string[]): MaybePromise<readonly string[]>
  resolve(names: readonly string[]): MaybePromise<readonly string[]>
  /** Throws for a version that nobody read before the data; `all`: for those that were read too. */
  refuse(names: readonly string[], all: boolean): void
}

let knowledge: Knowledge | undefined

export function teach(known: Knowledge): void {
  knowledge = known
}

/** Whether a name is that of a version which was read. `~` marks what is the library's own: no name made by hand looks like it. */
export function isVersion(name: string): boolean {
  return name.startsWith('~version:')
}

/**
 * Those of an entry's versions that are not the present ones any more. What cannot be told counts as outdated: a miss is
 * always safe.
 */
export function outdated(versions: readonly string[]): MaybePromise<readonly string[]> {
  if (knowledge !== undefined) return knowledge.outdated(versions)
  reportUnknown(versions[0])
  return versions
}

/** Told where nothing else is: this process lacks the module that declares the version. */
export function reportUnknown(version: string | undefined): void {
  report('notice', () => ({
    where: 'version',
    key: version,
    message: 'no function of this process alone is declared to check it, so what depends on it is a miss',
  }))
}

/** Reads the versions among some names that are still to be read; at once where there are none. */
export function resolveVersions(names: readonly string[]): MaybePromise<readonly string[]> {
  return knowledge === undefined ? names : knowledge.resolve(names)
}

/** @throws CorralError `ERR_VERSION` for a version that nobody read before the data; `all`: for those that were read too. */
export function refuseVersions(names: readonly string[], all = false): void {
  knowledge?.refuse(names, all)
}
