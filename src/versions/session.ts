import { asyncContext, type ContextFrame, innermostActive } from '../base/async-context.js'
import { isPromise } from '../base/maybe-promise.js'
import { whenLeavingSession } from '../creation/renewal.js'

/**
 * A span, such as a web request, in which a version is read at most once. Attach state to it by WeakMap.
 * @example
 * ```ts
 * import { session, type Session } from 'corral/session'
 *
 * const startedAt = new WeakMap<Session, number>()
 * export function started(): number | undefined {
 *   const current = session.current()
 *   return current && startedAt.get(current)
 * }
 * ```
 */
export interface Session {
  /** The work that it was started for has ended: code that it left behind, such as a timer, is in it no longer. */
  readonly over: boolean
}

/** A question for a version that is under way: whose, and for which key. */
export interface Question {
  readonly of: object
  readonly key: string
}

/** A session; or, within one, a question, to recognise one that is asked from within itself. */
interface Span extends Session, ContextFrame<Span> {
  readonly question: Question | undefined
}

const sessions = asyncContext<Span>('sessions')

/** The innermost session around the caller that is not over. */
export function currentSession(): Session | undefined {
  let span = sessions.current()
  while (span?.question !== undefined) span = innermostActive(span.parent)
  return span
}

/** Whether the caller runs inside this check. */
export function isAsking({ of, key }: Question): boolean {
  for (let span = sessions.current(); span !== undefined; span = innermostActive(span.parent))
    if (span.question?.of === of && span.question.key === key) return true
  return false
}

/** A new session, to be entered as often as its parts run, and ended once. */
export function beginSession(
  parent: Span | undefined = sessions.current(),
  question?: Question,
): {
  enter<R>(run: () => R): R
  end(): void
} {
  whenLeavingSession(leaveSession)
  const span = { over: false, parent, question }
  sessions.begin()
  return {
    enter: (run) => (span.over ? run() : sessions.enter(span, run)),
    end() {
      if (span.over) return
      span.over = true
      // Each may be begun in the one before, without end.
      span.parent = innermostActive(span.parent)
      sessions.end()
    },
  }
}

/**
 * Runs something in a session of its own, which ends with it.
 * @param question - runs a check within the caller's session instead, so that isAsking() is true inside of it
 */
export function runInSession<R>(run: () => R, parent?: Span, question?: Question): R {
  const { enter, end } = beginSession(parent, question)
  let result: R
  try {
    result = enter(run)
  } catch (error) {
    end()
    throw error
  }
  if (isPromise(result)) result.then(end, end)
  else end()
  return result
}

/** Runs work outside of every session, such as a renewal that a queue starts when it has room. */
function leaveSession<R>(run: () => R): R {
  return runInSession(run, ROOT)
}

/** Not `undefined`, which a default would take for absent. */
const ROOT: Span = { over: true, parent: undefined, question: undefined }
