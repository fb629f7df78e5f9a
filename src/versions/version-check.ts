import { types } from 'node:util'
import { type Duration, expectDuration, milliseconds } from '../base/duration.js'
import { CorralError, formatValue } from '../base/errors.js'
import { expectSync } from '../base/expect-sync.js'
import { andThen, isPromise, type MaybePromise } from '../base/maybe-promise.js'
import { expectFunction, expectOneOf, expectThat, type OptionCheck } from '../base/options.js'
import { processGlobal } from '../base/process-global.js'
import { withTimeout } from '../base/timers.js'
import { currentTransaction } from '../creation/transaction.js'
import { currentSession, isAsking, runInSession } from './session.js'

/**
 * The values that a version function may return. `undefined`, `null` and `''` mean that there is none yet.
 * @example
 * ```ts
 * import type { Version } from 'corral/session'
 *
 * export const versionOf = (row: { updatedAt: Date } | undefined): Version => row?.updatedAt
 * ```
 */
export type Version = string | number | bigint | Date | null | undefined

/**
 * Options of a check: how to read a version, and in which session.
 * @example
 * ```ts
 * import { dep } from 'corral'
 * import type { CheckOptions } from 'corral/session'
 *
 * const patient: CheckOptions = { timeout: '30s', withoutSession: 'throw' }
 * export const schema = dep.version('schema', async () => 7, patient)
 * ```
 */
export interface CheckOptions {
  /**
   * The session of the call, as an object; versions are kept by it as long as it lives. @default the one that
   * `session.run` or a middleware started
   */
  readonly session?: (() => object | undefined) | undefined
  /** For a call outside of a session: run the check each time, or fail with `ERR_NO_SESSION`. @default 'compute' */
  readonly withoutSession?: 'compute' | 'throw' | undefined
  /** Stands for a version that is `undefined`, `null` or `''`; no other version is taken for it. @default '-1' */
  readonly defaultVersion?: string | undefined
  /** How long to wait for a version; then it is as if the check had failed with `ERR_TIMEOUT`. @default '10s' */
  readonly timeout?: Duration | undefined
}

type Ask = () => MaybePromise<Version>

/** Asks for a version, at most once in a session for each key. */
export interface Check {
  /** The version as text. */
  current(key: string, ask: Ask): MaybePromise<string>
  /** Runs the check even if the version is known, and updates the session. */
  renewed(key: string, ask: Ask): MaybePromise<string>
  /** The session's next call asks again. */
  forget(key: string): void
}

type Memo = Map<string, MaybePromise<string>>

/** The versions that each session has read, check by check. */
const sessions = processGlobal('asked', () => new WeakMap<object, Map<object, Memo>>())

/** The session reads every version again, because it changed the data itself. */
export function forget(session: object | undefined = currentSession()): void {
  if (session === undefined) return
  expectThat(
    Object(session) === session,
    session,
    'session.forget() to receive the object of a session, or nothing',
  )
  sessions.delete(session)
}

/** The checks of `CheckOptions`, for the options of a function that takes them among others. */
export const VERSION_OPTIONS: Readonly<Record<string, OptionCheck>> = {
  session: (value, subject) => expectFunction(value, subject, "a function that returns the session's object"),
  withoutSession: (value, subject) => expectOneOf(value, subject, ['compute', 'throw']),
  defaultVersion(value, subject) {
    const fits = typeof value === 'string' && value !== '' && !value.startsWith(OTHER)
    expectThat(fits, value, `${subject} to be a non-empty string that does not begin with '${OTHER}'`)
  },
  timeout: expectDuration,
}

/**
 * A check that reads each version at most once in a session.
 * @param where - names the check in messages
 * @param options - checked by `VERSION_OPTIONS`
 */
export function makeCheck(where: string, options: CheckOptions): Check {
  const identity = {}
  const memo = memos(where, options, identity)
  const question = questions(where, options, identity)
  /** A session must not learn a version from a transaction, which may be rolled back: each call runs the check there. */
  const open = (): Memo | undefined => {
    const known = memo()
    return known !== undefined && currentTransaction() !== undefined ? new Map() : known
  }
  const renew = (known: Memo | undefined, key: string, ask: Ask): MaybePromise<string> => {
    const token = question(key, ask, known !== undefined)
    known?.set(key, token)
    if (known !== undefined && isPromise(token))
      token.then(
        (text) => {
          if (known.get(key) === token) known.set(key, text)
        },
        () => {
          // A version that could not be read stays unknown: the next call of the session asks again.
          if (known.get(key) === token) known.delete(key)
        },
      )
    return token
  }
  // A session that goes on must not take a late result of an earlier check for the result of the next one.
  const forget = (key: string) => void memo(false)?.delete(key)
  return {
    current(key, ask) {
      const known = open()
      const found = known?.get(key)
      if (typeof found === 'string') return found
      question.refuseLoop(key)
      return found ?? renew(known, key, ask)
    },
    renewed(key, ask) {
      question.refuseLoop(key)
      forget(key)
      return renew(open(), key, ask)
    },
    forget,
  }
}

/** The versions that one check has read in the caller's session; absent outside of a session. */
function memos(where: string, { session = currentSession, withoutSession }: CheckOptions, identity: object) {
  const subject = `\`session\` of ${where}`
  return (needed = withoutSession === 'throw'): Memo | undefined => {
    const owner = expectSync(subject, session())
    if (owner === undefined || owner === null) {
      if (!needed) return undefined
      throw new CorralError(
        'ERR_NO_SESSION',
        `Expected ${where} to be called in a session. Start one with session.run() or a middleware, or say withoutSession: 'compute'.`,
      )
    }
    expectThat(
      Object(owner) === owner,
      owner,
      `${subject} to return an object, or undefined outside of a session`,
    )
    let checks = sessions.get(owner)
    if (checks === undefined) sessions.set(owner, (checks = new Map()))
    let known = checks.get(identity)
    if (known === undefined) checks.set(identity, (known = new Map()))
    return known
  }
}

/** Asks a check for a version, as text. `refuseLoop` throws if the caller is inside the same question. */
function questions(where: string, options: CheckOptions, of: object) {
  const { defaultVersion = '-1' } = options
  const timeout = milliseconds(options.timeout ?? '10s', 'timeout')
  const late = () =>
    new CorralError(
      'ERR_TIMEOUT',
      `Expected ${where} to return within ${timeout} ms. Make its check cheaper, or raise its \`timeout\`.`,
    )
  const toText = (version: Version): string => {
    const text = textOf(version, where)
    if (text === undefined) return defaultVersion
    return text === defaultVersion || text.startsWith(OTHER) ? OTHER + text : text
  }
  const timely = (ask: Ask): MaybePromise<Version> => {
    const version = ask()
    // A time that the caller chose keeps the process running, so that the error arrives.
    const ref = options.timeout !== undefined
    return isPromise(version) ? withTimeout(version, timeout, late, { ref }) : version
  }
  /** Only in a session a check could wait for itself. Without one the caller does not pay for finding that out. */
  const question = (key: string, ask: Ask, inSession: boolean): MaybePromise<string> =>
    andThen(inSession ? runInSession(() => timely(ask), undefined, { of, key }) : timely(ask), toText)
  const refuseLoop = (key: string): void => {
    if (isAsking({ of, key }))
      throw new CorralError(
        'ERR_VERSION',
        `${where} is asked for from within its own check, which would wait for itself for ever. Read the data of the check without the cache, or from values that do not depend on this version.`,
      )
  }
  return Object.assign(question, { refuseLoop })
}

/** Begins the text of a version that would otherwise read like the default. */
const OTHER = '~'

/** A version as text; `undefined`: there is none. */
function textOf(version: unknown, where: string): string | undefined {
  if (version === undefined || version === null || version === '') return undefined
  if (typeof version === 'string' || typeof version === 'bigint') return String(version)
  if (typeof version === 'number' && Number.isFinite(version)) return String(version)
  if (types.isDate(version) && !Number.isNaN(version.getTime())) return String(version.getTime())
  throw new CorralError(
    'ERR_VERSION',
    `Expected ${where} to return a version: a string, a finite number, a bigint, a valid date, or nothing; got ${formatValue(version)}.`,
  )
}
