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
 * @param options.goesFirst - before all work that does not. `@default false`
 * @param options.weight - the works of the usual size that it stands for; more than run at one time run alone. `@default 1`
 */
export type Turns = <R>(
  work: () => MaybePromise<R>,
  options?: { readonly goesFirst?: boolean; readonly weight?: number },
) => MaybePromise<R>

interface Waiting {
  readonly weight: number
  begin(): void
}

/** So often as many as run at one time may go before the usual line. */
const IN_A_ROW = 4

export function turns({ maxRunning, maxWaiting, refuse }: TurnsOptions): Turns {
  const first = new Fifo<Waiting>()
  const usual = new Fifo<Waiting>()
  let running = 0
  /** Works that went before the usual line since it had its turn. */
  let passed = 0
  const fits = (weight: number) => running + weight <= maxRunning
  /** So many in a row, and the usual line has a turn in between: it never waits for ever. */
  const mayPass = () => usual.size === 0 || passed < IN_A_ROW * maxRunning
  const leave = (weight: number) => {
    running -= weight
    for (;;) {
      const line = first.size > 0 && mayPass() ? first : usual
      if (line.first === undefined || !fits(line.first.weight)) return
      const next = line.shift() as Waiting
      passed = line === first ? passed + 1 : 0
      running += next.weight
      next.begin()
    }
  }
  const run = <R>(work: () => MaybePromise<R>, weight: number): MaybePromise<R> => {
    const end = () => leave(weight)
    let result: MaybePromise<R>
    try {
      result = work()
    } catch (error) {
      end()
      throw error
    }
    if (isPromise(result)) result.then(end, end)
    else end()
    return result
  }
  return (work, { goesFirst = false, weight: wanted = 1 } = {}) => {
    const weight = Math.min(wanted, maxRunning)
    if (fits(weight) && first.size === 0 && (usual.size === 0 || (goesFirst && mayPass()))) {
      if (usual.size > 0) passed++
      running += weight
      return run(work, weight)
    }
    const waiting = goesFirst ? first : usual
    if (waiting.size >= maxWaiting) return Promise.reject(refuse(waiting.size))
    // A promise, so that the work goes on in the asynchronous context of its own caller.
    return new Promise<void>((resolve) => waiting.push({ weight, begin: resolve })).then(() =>
      run(work, weight),
    )
  }
}
