import { type Duration, milliseconds } from '../base/duration.js'
import { CorralError, formatValue } from '../base/errors.js'
import { isPromise, type MaybePromise } from '../base/maybe-promise.js'
import { expectFunction, expectOneOf, expectThat } from '../base/options.js'
import { processGlobal } from '../base/process-global.js'
import { withTimeout } from '../base/timers.js'
import { currentTransaction } from '../creation/transaction.js'
import { currentSession, isAsking, runQuestion } from './session.js'

/** The values that a version function may return. `undefined`, `null` and `''` mean that there is none yet. */
export type Version = string | number | bigint | Date | null | undefined

export interface CheckOptions {
  /**
   * The session of the call, as an object; versions are kept by it as long as it lives. @default the one that
   * `session.run` or a middleware started
   */
  readonly session?: () => object | undefined
  /** For a call outside of a session: run the check each time, or fail with `ERR_NO_SESSION`. @default 'compute' */
  readonly withoutSession?: 'compute' | 'throw'
  /** Stands for a version that is `undefined`, `null` or `''`; no other version is taken for it. @default '-1' */
  readonly defaultVersion?: string
  /** How long to wait for a version; then it is as if the check had failed with `ERR_TIMEOUT`. @default '10s' */
  readonly timeout?: Duration
}

/** Asks for a version, at most once in a session for each key. */
export interface Check {
  /** The version as text. */
  current(key: string, ask: () => MaybePromise<Version>): MaybePromise<string>
  /** Runs the check even if the version is known, and updates the session. */
  renewed(key: string, ask: () => MaybePromise<Version>): MaybePromise<string>
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
    (typeof session === 'object' && session !== null) || typeof session === 'function',
    session,
    'session.forget() to receive the object of a session, or nothing',
  )
  sessions.delete(session)
}

/** @throws CorralError `ERR_OPTION` when an option cannot be right. */
export function makeCheck(where: string, options: CheckOptions): Check {
  const { session = currentSession, withoutSession = 'compute', defaultVersion = '-1' } = options
  expectFunction(session, `\`session\` of ${where}`, "a function that returns the session's object")
  expectOneOf(withoutSession, `\`withoutSession\` of ${where}`, ['compute', 'throw'])
  expectThat(
    typeof defaultVersion === 'string' && defaultVersion !== '' && !defaultVersion.startsWith(OTHER),
    defaultVersion,
    `\`defaultVersion\` of ${where} to be a non-empty string that does not begin with '${OTHER}'`,
  )
  const timeout = milliseconds(options.timeout ?? '10s', 'timeout')
  const late = () =>
    new CorralError(
      'ERR_TIMEOUT',
      `Expected ${where} to answer within ${timeout} ms. Make its check cheaper, or raise its \`timeout\`.`,
    )
  const identity = {}

  const memo = (needed = true): Memo | undefined => {
    const owner = session()
    if (owner === undefined || owner === null) {
      if (withoutSession === 'compute' || !needed) return undefined
      throw new CorralError(
        'ERR_NO_SESSION',
        `Expected ${where} to be called in a session. Start one with session.run() or a middleware, or say withoutSession: 'compute'.`,
      )
    }
    expectThat(
      typeof owner === 'object' || typeof owner === 'function',
      owner,
      `\`session\` of ${where} to return an object, or undefined outside of a session`,
    )
    let checks = sessions.get(owner)
    if (checks === undefined) sessions.set(owner, (checks = new Map()))
    let found = checks.get(identity)
    if (found === undefined) checks.set(identity, (found = new Map()))
    return found
  }
  /** A session must not learn a version from a transaction, which may be rolled back: each call runs the check there. */
  const open = (): Memo | undefined => {
    const known = memo()
    return known !== undefined && currentTransaction() !== undefined ? new Map() : known
  }
  const told = (version: Version): string => {
    const text = textOf(version, where)
    if (text === undefined) return defaultVersion
    return text === defaultVersion || text.startsWith(OTHER) ? OTHER + text : text
  }
  const timely = (ask: () => MaybePromise<Version>): MaybePromise<Version> => {
    const answer = ask()
    return isPromise(answer) ? withTimeout(answer, timeout, late) : answer
  }
  /** In a session the question itself would be waited for; without one nobody waits, and nothing is paid. */
  const asked = (key: string, ask: () => MaybePromise<Version>) =>
    runQuestion({ of: identity, key }, () => timely(ask))
  const refuseLoop = (key: string): void => {
    if (isAsking({ of: identity, key }))
      throw new CorralError(
        'ERR_VERSION',
        `${where} is asked for from within its own check, which would wait for itself for ever. Read the data of the check without the cache, or from values that do not depend on this version.`,
      )
  }
  const renew = (known: Memo | undefined, key: string, ask: () => MaybePromise<Version>) => {
    // A late result of an earlier check must not be taken for the result of this one.
    known?.delete(key)
    const answer = known === undefined ? timely(ask) : asked(key, ask)
    const token = isPromise(answer) ? answer.then(told) : told(answer)
    if (known === undefined) return token
    known.set(key, token)
    if (isPromise(token))
      token.then(
        (text) => {
          if (known.get(key) === token) known.set(key, text)
        },
        () => {
          // Nothing is known of a version that could not be read: the next call of the session asks again.
          if (known.get(key) === token) known.delete(key)
        },
      )
    return token
  }
  return {
    current(key, ask) {
      const known = open()
      const found = known?.get(key)
      if (typeof found === 'string') return found
      refuseLoop(key)
      return found ?? renew(known, key, ask)
    },
    renewed(key, ask) {
      refuseLoop(key)
      memo(false)?.delete(key)
      return renew(open(), key, ask)
    },
    forget(key) {
      memo(false)?.delete(key)
    },
  }
}

/** Begins the text of a version that would otherwise read like the default. */
const OTHER = '~'

/** A version as text; `undefined`: there is none. */
function textOf(version: unknown, where: string): string | undefined {
  if (version === undefined || version === null || version === '') return undefined
  if (typeof version === 'string' || typeof version === 'bigint') return String(version)
  if (typeof version === 'number' && Number.isFinite(version)) return String(version)
  if (version instanceof Date && !Number.isNaN(version.getTime())) return String(version.getTime())
  throw new CorralError(
    'ERR_VERSION',
    `Expected ${where} to answer a version: a string, a finite number, a bigint, a valid date, or nothing; got ${formatValue(version)}.`,
  )
}
