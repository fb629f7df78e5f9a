/**
 * Timers of the library. They are taken from Node when this module is loaded, so that fake timers in a caller's test
 * neither stop a deadline nor make it fire early.
 */
import { clearTimeout, setImmediate, setTimeout } from 'node:timers'

const start = setTimeout
const stop = clearTimeout
const afterIo = setImmediate

/** ms. The longest delay that a timer of Node holds; a longer one fires at once. */
export const MAX_DELAY = 2 ** 31 - 1

/**
 * The outcome of the work, or a rejection with `late()` after `ms`. The work goes on, and its later outcome is ignored. A
 * reply that arrived while this process was busy still counts: it is read before the rejection.
 * A time beyond `MAX_DELAY` (24 days) sets no deadline.
 */
export function withTimeout<R>(work: Promise<R>, ms: number, late: () => Error): Promise<R> {
  if (ms > MAX_DELAY) return work
  return new Promise((resolve, reject) => {
    const timer = start(() => afterIo(() => reject(late())), ms)
    work.then(
      (value) => {
        stop(timer)
        resolve(value)
      },
      (error) => {
        stop(timer)
        reject(error)
      },
    )
  })
}

/** Resolves after `ms`, or after `MAX_DELAY` if that is earlier. With `ref` false it does not keep the process running. */
export function delay(ms: number, { ref = true } = {}): Promise<void> {
  return new Promise((resolve) => {
    const timer = start(resolve, Math.min(ms, MAX_DELAY))
    if (!ref) timer.unref()
  })
}
