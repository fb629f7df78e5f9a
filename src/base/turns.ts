import { Fifo } from './fifo.js'
import { isPromise, type MaybePromise } from './maybe-promise.js'

export interface TurnsOptions {
  readonly maxRunning: number
  /** Work beyond it is refused. */
  readonly maxWaiting: number
  refuse(waiting: number): Error
}

/** Runs work, so much of it at one time; further work waits for its turn, in order. */
export type Turns = <R>(work: () => MaybePromise<R>) => MaybePromise<R>

export function turns({ maxRunning, maxWaiting, refuse }: TurnsOptions): Turns {
  const waiting = new Fifo<() => void>()
  let running = 0
  const leave = () => {
    const next = waiting.shift()
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
  return (work) => {
    if (running < maxRunning) {
      running++
      return run(work)
    }
    if (waiting.size >= maxWaiting) return Promise.reject(refuse(waiting.size))
    // A promise, so that the work goes on in the asynchronous context of its own caller.
    return new Promise<void>((resolve) => waiting.push(resolve)).then(() => run(work))
  }
}
