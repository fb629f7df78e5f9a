import { AsyncLocalStorage } from 'node:async_hooks'
import { isPromise } from '../maybe-promise.js'

/** A span, such as a web request, in which a version is asked for at most once. Hang what you like on it by WeakMap. */
export interface Session {
  /** What it was started for has ended: code that it left behind, such as a timer, is in it no longer. */
  readonly over: boolean
}

interface Span extends Session {
  over: boolean
  readonly parent: Span | undefined
}

const spans = new AsyncLocalStorage<Span | undefined>()
let live = 0

/** The innermost session around the caller that is not over. */
export function currentSession(): Session | undefined {
  let span = live > 0 ? spans.getStore() : undefined
  while (span?.over) span = span.parent
  return span
}

/** A new session, to be entered as often as its parts run, and ended once. */
export function beginSession(parent: Span | undefined = spans.getStore()): {
  enter<R>(run: () => R): R
  end(): void
} {
  const span: Span = { over: false, parent }
  live++
  return {
    enter: (run) => spans.run(span, run),
    end() {
      if (span.over) return
      span.over = true
      // Before Node 24 the storage makes every promise of the process dear while it is on.
      if (--live === 0) spans.disable()
    },
  }
}

/** Runs something in a session of its own, which ends with it. */
export function runInSession<R>(run: () => R, parent: Span | undefined = spans.getStore()): R {
  const { enter, end } = beginSession(parent)
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

/** Runs what belongs to nobody's session, such as a renewal that a queue starts whenever it has room. */
export function leaveSession<R>(run: () => R): R {
  return runInSession(run, ROOT)
}

/** Not `undefined`, which a default would take for absent. */
const ROOT: Span = { over: true, parent: undefined }
