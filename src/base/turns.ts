import { Fifo } from './fifo.js'
import { isPromise, type MaybePromise } from './maybe-promise.js'

export interface TurnsOptions {
  readonly maxRunning: number
  /** Work beyond it is refused. Work that goes first is counted by itself. */
  readonly maxWaiting: number
  refuse(waiting: number): Error
}

/**
 * Runs work, so much of it at one time; further work waits for its turn, in order.
 * @param goesFirst - before all work that does not. `@default false`
 */
export type Turns = <R>(work: () => MaybePromise<R>, goesFirst?: boolean) => MaybePromise<R>

export function turns({ maxRunning, maxWaiting, refuse }: TurnsOptions): Turns {
  const first = new Fifo<() => void>()
  const usual = new Fifo<() => void>()
  let running = 0
  const leave = () => {
    const next = first.shift() ?? usual.shift()
    // The place goes on to the next one.
    if (next === undefined) running--
    else next()
  }
  const run = <R>(work: () => MaybePromise<R>): MaybePromise<R> => {
    let result: MaybePromise<R>
    try {
      result = work()
    } catch (error) {
      leave()
      throw error
    }
    if (isPromise(result)) result.then(leave, leave)
    else leave()
    return result
  }
  return (work, goesFirst = false) => {
    if (running < maxRunning) {
      running++
      return run(work)
    }
    const waiting = goesFirst ? first : usual
    if (waiting.size >= maxWaiting) return Promise.reject(refuse(waiting.size))
    // A promise, so that the work goes on in the asynchronous context of its own caller.
    return new Promise<void>((resolve) => waiting.push(resolve)).then(() => run(work))
  }
}
