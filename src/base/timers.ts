/**
 * Timers and times of the library. They are taken from Node once, when this module is loaded: fake timers in a caller's test
 * neither stop a deadline nor make it fire early, and the timers of jsdom or Electron are not used. All files take them
 * from here.
 */
import { performance as nodePerformance } from 'node:perf_hooks'
import * as nodeTimers from 'node:timers'

/** ms. The longest delay that a timer of Node holds; Node lets a longer one fire at once. */
export const MAX_DELAY = 2 ** 31 - 1

const start = nodeTimers.setTimeout
const repeat = nodeTimers.setInterval

/** Runs work after `ms`, or after `MAX_DELAY` if that is earlier: work with a later deadline has to check it again. */
export const setTimeout = (work: () => void, ms: number): NodeJS.Timeout =>
  start(work, Math.min(ms, MAX_DELAY))
export const setInterval = (work: () => void, ms: number): NodeJS.Timeout =>
  repeat(work, Math.min(ms, MAX_DELAY))
export const { clearTimeout, clearInterval, setImmediate } = nodeTimers
export const { nextTick } = process
export const hrtime = process.hrtime.bigint
export const queueMicrotask = globalThis.queueMicrotask

const sinceStart = nodePerformance.now.bind(nodePerformance)
const { timeOrigin } = nodePerformance

/** The clock of deadlines, in ms. It never steps. */
export const performance = { now: sinceStart }

/** The time of day, in epoch ms. Where `Date` is fake already, it is the time of day at the start and the time since then. */
export const epochNow: () => number =
  String(Date.now) === 'function now() { [native code] }'
    ? Date.now
    : () => Math.floor(timeOrigin + sinceStart())

/** Epoch ms with fractions, by the clock that hosts read with `performance`: it never steps, and `Date` may run away from it. */
export const preciseEpochNow = (): number => timeOrigin + sinceStart()

/**
 * False if fake timers stood in the place of Node's when this module was loaded. They never fire unless a test says so:
 * no clock may rely on them.
 */
export const timersAreReal = setImmediate(() => {})?.constructor.name === 'Immediate'

/** A deadline runs in so many parts: a process that is busy for longer than one loses that part, and no more. */
export const DEADLINE_PARTS = 4
/** ms. Shorter deadlines have one part. */
const SHORT = 40

/**
 * The outcome of the work, or a rejection with `late()` after `ms`. The work goes on, and its later outcome is ignored. Time
 * for which this process was busy counts for a part only, and a reply that arrived meanwhile is read before the rejection.
 * A time beyond `MAX_DELAY` (24 days) sets no deadline. With `ref` false the deadline does not keep the process running.
 */
export function withTimeout<R>(
  work: Promise<R>,
  ms: number,
  late: () => Error,
  { ref = true } = {},
): Promise<R> {
  if (ms > MAX_DELAY) return work
  return new Promise((resolve, reject) => {
    let left = ms < SHORT ? 1 : DEADLINE_PARTS
    const part = Math.ceil(ms / left)
    const startPart = () => {
      const timer = setTimeout(next, part)
      return ref ? timer : timer.unref()
    }
    const next = () => {
      if (--left > 0) timer = startPart()
      else setImmediate(() => reject(late()))
    }
    let timer = startPart()
    work.then(
      (value) => {
        clearTimeout(timer)
        resolve(value)
      },
      (error) => {
        clearTimeout(timer)
        reject(error)
      },
    )
  })
}

/** Resolves after `ms`, or after `MAX_DELAY` if that is earlier. With `ref` false it does not keep the process running. */
export function delay(ms: number, { ref = true } = {}): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms)
    if (!ref) timer.unref()
  })
}

/** Resolves in a later turn of the event loop. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve))
}
