/** Work on one key runs in the order of the calls; work on different keys runs side by side. */
import { isPromise, type MaybePromise } from './maybe-promise.js'

/** Runs the work after the earlier work on the same key, whether that succeeded or failed. */
export type KeyedQueue = <R>(key: string, work: () => MaybePromise<R>) => MaybePromise<R>

/** Work runs at once, and returns a plain value, if no earlier work on its key is pending. */
export function keyedQueue(): KeyedQueue {
  const tails = new Map<string, Promise<void>>()
  return (key, work) => {
    const before = tails.get(key)
    const result = before === undefined ? work() : before.then(work)
    if (!isPromise(result)) return result
    const end = (): void => {
      if (tails.get(key) === tail) tails.delete(key)
    }
    const tail = result.then(end, end)
    tails.set(key, tail)
    return result
  }
}
