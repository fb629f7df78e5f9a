import { report } from '../diagnostics.js'
import { CorralError } from '../errors.js'
import { andThen, isPromise, type MaybePromise, orElse } from '../maybe-promise.js'

/** Tells the present version for the arguments that a name carries, as the text that stands in names. */
export type Present = (args: string) => MaybePromise<string>

/** Names of this process's checks; `'ambiguous'`: two functions claim the name, so that neither may answer for it. */
const checks = new Map<string, Present | 'ambiguous'>()

/** `~` marks what is the library's own: no name made by hand looks like it. */
const READ = '~version:'
/** Of a version that is still to be read. */
const OPEN = '~version?:'

/** Whether a name is that of a version which was read. */
export function isVersion(name: string): boolean {
  return name.startsWith(READ)
}

/** The name of a version that is still to be read, before the data that it vouches for. */
export function openName(check: string, args: string): string {
  return `${OPEN}${escaped(check)}:${escaped(args)}`
}

/** The name of a version that was read. */
export function readName(check: string, args: string, token: string): string {
  return `${READ}${escaped(check)}:${escaped(args)}:${escaped(token)}`
}

/** Makes a check known under its name, in this process. */
export function register(check: string, present: Present | 'ambiguous'): void {
  checks.set(check, present)
}

export function registered(check: string): Present | 'ambiguous' | undefined {
  return checks.get(check)
}

/** Reads the versions among some names that are still to be read; at once where there are none. */
export function resolveVersions(names: readonly string[]): MaybePromise<readonly string[]> {
  if (!names.some((name) => name.startsWith(OPEN))) return names
  const read = names.map((name) => {
    if (!name.startsWith(OPEN)) return name
    const [check = '', args = ''] = name.slice(OPEN.length).split(':').map(plain)
    const present = checks.get(check)
    if (typeof present !== 'function')
      throw new CorralError(
        'ERR_VERSION',
        `Nobody declared the version '${check}': dep.version('${check}', …).`,
      )
    return andThen(present(args), (token) => readName(check, args, token))
  })
  return read.some(isPromise) ? Promise.all(read) : (read as string[])
}

/** @throws CorralError `ERR_VERSION` for a version that nobody read before the data. */
export function refuseOpen(names: readonly string[]): void {
  const open = names.find((name) => name.startsWith(OPEN))
  if (open === undefined) return
  const check = plain(open.slice(OPEN.length).split(':')[0] ?? '')
  throw new CorralError(
    'ERR_VERSION',
    `Expected the version '${check}' to be read before the data: declare it ahead in \`dependencies\`, or take \`const seen = await version.current(…)\` before loading, and then say dependsOn(seen).`,
  )
}

/** @throws CorralError `ERR_VERSION` for versions, which change by themselves. */
export function refuseVersions(names: readonly string[]): void {
  refuseOpen(names)
  const version = names.find(isVersion)
  if (version !== undefined)
    throw new CorralError(
      'ERR_VERSION',
      `Expected names that can be invalidated, got the version '${version}', which changes with what its check reads. Declare a dep.tag() beside it.`,
    )
}

/**
 * Those of an entry's versions that are not the present ones any more. What cannot be told counts as outdated: a miss is
 * always safe.
 */
export function outdated(versions: readonly string[]): MaybePromise<readonly string[]> {
  const verdicts = versions.map((version) =>
    orElse(
      () => stands(version),
      (error) => {
        report('failure', () => ({ where: 'version', key: version, error }))
        return false
      },
    ),
  )
  const blamed = (standing: readonly boolean[]) => versions.filter((_, i) => !standing[i])
  return verdicts.some(isPromise) ? Promise.all(verdicts).then(blamed) : blamed(verdicts as boolean[])
}

function stands(version: string): MaybePromise<boolean> {
  const [check = '', args = '', token] = String(version).slice(READ.length).split(':')
  const present = checks.get(plain(check))
  if (typeof present === 'function') {
    const now = present(plain(args))
    return isPromise(now) ? now.then((later) => escaped(later) === token) : escaped(now) === token
  }
  report('notice', () => ({
    where: 'version',
    key: version,
    message:
      present === undefined
        ? `no check named '${plain(check)}' is declared in this process, so what depends on it is a miss`
        : `several functions are declared as '${plain(check)}', so what depends on it is a miss`,
  }))
  return false
}

function escaped(text: string): string {
  return text.includes(':') || text.includes('%') ? text.replace(/%/g, '%25').replace(/:/g, '%3A') : text
}

function plain(text: string): string {
  return text.includes('%') ? text.replace(/%3A/g, ':').replace(/%25/g, '%') : text
}
