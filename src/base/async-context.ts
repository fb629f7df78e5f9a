import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks'
import { attempt } from './maybe-promise.js'
import { processGlobal } from './process-global.js'

/** A stretch of work, as the code inside it sees it, at any depth and after any `await`. */
export interface ContextFrame<S> {
  readonly parent: S | undefined
  /** Code that is left behind, such as a timer, is in the surrounding context instead. */
  readonly over: boolean
}

/** The frames of one kind. All copies of the package in this process share them. */
export interface AsyncContext<S> {
  /** The innermost active frame around the caller. Costs nothing while this process has no frame. */
  current(): S | undefined
  /** Counts one more active frame. Each of its parts enters it. */
  begin(): void
  /** Counts one active frame less. */
  end(): void
  enter<R>(span: S, run: () => R): R
  /** Runs the whole work of a span, which is over when the work has settled. */
  during<R>(span: S & { over: boolean }, run: () => R | Promise<R>): Promise<R>
  /** Runs work outside of all of them. */
  leave<R>(run: () => R): R
}

/**
 * Binds work to the asynchronous context of the caller, its `AsyncLocalStorage` values included. Work that a queue, a timer
 * or a connection runs later would otherwise run in the context of another caller.
 */
export function bindContext<A extends unknown[], R>(work: (...args: A) => R): (...args: A) => R {
  const context = new AsyncResource('corral')
  return (...args) => context.runInAsyncScope(work, undefined, ...args)
}

const loading = new AsyncResource('corral')

/** Runs work in the context in which this module was loaded: a timer that it starts belongs to no request. */
export function inNoContext<R>(work: () => R): R {
  return loading.runInAsyncScope(work)
}

/** The innermost active frame, from this one outwards. */
export function innermostActive<S extends ContextFrame<S>>(span: S | undefined): S | undefined {
  let found = span
  while (found?.over) found = found.parent
  return found
}

export function asyncContext<S extends ContextFrame<S>>(name: string): AsyncContext<S> {
  return processGlobal(name, () => {
    const storage = new AsyncLocalStorage<S | undefined>()
    let running = 0
    const begin = (): void => {
      running++
    }
    const end = (): void => {
      // Before Node 24 the storage makes every promise of the process two to four times as expensive while it is on.
      if (--running === 0) storage.disable()
    }
    return {
      current: () => (running > 0 ? innermostActive(storage.getStore()) : undefined),
      begin,
      end,
      enter: (span, run) => storage.run(span, run),
      during(span, run) {
        begin()
        const over = () => {
          span.over = true
          end()
        }
        const work = attempt(() => storage.run(span, run))
        // Not finally(): it costs three promises more.
        return work.then(
          (value) => {
            over()
            return value
          },
          (error) => {
            over()
            throw error
          },
        )
      },
      // Not exit(): before Node 24 a context entered inside ends it, and later code is inside of the old span again.
      leave: (run) => storage.run(undefined, run),
    }
  })
}
