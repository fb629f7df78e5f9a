/**
 * The source of time of a region and a backend, in epoch ms. Inject one to test expiry without waiting.
 * @example
 * ```ts
 * import type { Clock } from 'corral'
 *
 * const time = { now: 0 }
 * export const clock: Clock = { now: () => time.now }
 * ```
 */
export interface Clock {
  now(): number
}

let cached = 0
let fresh = false
const forget = () => {
  fresh = false
}

/**
 * The time of day, read once per turn of the event loop: a hit must not pay for a system call. It stands still
 * while only microtasks run; expiry is late by at most that long.
 */
export const coarseClock: Clock = {
  now() {
    if (!fresh) {
      fresh = true
      cached = Date.now()
      setImmediate(forget).unref()
    }
    return cached
  },
}

/** The time of day, read at every call. */
export const preciseClock: Clock = { now: () => Date.now() }

let last = 0

/**
 * The time as a strictly increasing number: work that starts after other work of this process has a later stamp,
 * even within one millisecond or after the system clock stepped back.
 */
export function stamp(now: number): number {
  // 2^-10 ms is the finest step that a double holds exactly at today's epoch.
  last = now > last ? now : last + 0.0009765625
  return last
}
