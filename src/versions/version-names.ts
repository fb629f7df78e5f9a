import { report } from '../base/diagnostics.js'
import { CorralError } from '../base/errors.js'
import { andThen, type MaybePromise, mapEach, orElse } from '../base/maybe-promise.js'
import { processGlobal } from '../base/process-global.js'
import {
  type CheckedNames,
  isVersion,
  OPEN,
  registerCheckedNames,
  reportUnknown,
} from '../ledger/checked-names.js'

/** Tells the present version for the arguments that a name carries, as the text that stands in names. */
type Present = (args: string) => MaybePromise<string>

/** Names of this process's checks; `'ambiguous'`: two functions claim the name, so that neither may answer for it. */
const checks = processGlobal('checks', () => new Map<string, Present | 'ambiguous'>())

const READ = '~version:'

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
  registerCheckedNames(knowledge)
}

export function registered(check: string): Present | 'ambiguous' | undefined {
  return checks.get(check)
}

const knowledge: CheckedNames = {
  resolve(names) {
    if (!names.some((name) => name.startsWith(OPEN))) return names
    return mapEach(names, (name) => {
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
  },

  refuse(names, all) {
    const open = names.find((name) => name.startsWith(OPEN))
    if (open !== undefined && !all)
      throw new CorralError(
        'ERR_VERSION',
        `Expected the version '${checkOf(open, OPEN)}' to be read before the data: declare it ahead in \`dependencies\`, or take \`const seen = await version.current(…)\` before loading, and then say dependsOn(seen).`,
      )
    const version = open ?? (all ? names.find(isVersion) : undefined)
    if (version !== undefined)
      throw new CorralError(
        'ERR_VERSION',
        `Expected names that can be invalidated, got the version '${checkOf(version, open === undefined ? READ : OPEN)}', which changes with the data that its check reads. Declare a dep.tag() beside it.`,
      )
  },

  outdated(versions) {
    const verdicts = mapEach(versions, (version) =>
      orElse(
        () => stands(version),
        (error) => {
          report('failure', () => ({ where: 'version', key: version, error }))
          return false
        },
      ),
    )
    return andThen(verdicts, (standing) => versions.filter((_, i) => !standing[i]))
  },
}

function stands(version: string): MaybePromise<boolean> {
  const [check = '', args = '', token] = String(version).slice(READ.length).split(':')
  const present = checks.get(plain(check))
  if (typeof present === 'function') return andThen(present(plain(args)), (now) => escaped(now) === token)
  reportUnknown(version)
  return false
}

function checkOf(name: string, kind: string): string {
  return plain(name.slice(kind.length).split(':')[0] ?? '')
}

function escaped(text: string): string {
  return text.includes(':') || text.includes('%') ? text.replace(/%/g, '%25').replace(/:/g, '%3A') : text
}

function plain(text: string): string {
  return text.includes('%') ? text.replace(/%3A/g, ':').replace(/%25/g, '%') : text
}
