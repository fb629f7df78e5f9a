import { expectMethods, expectThat } from './options.js'
import { processGlobal } from './process-global.js'
import { epochNow, setImmediate, timersAreReal } from './timers.js'

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

/** @throws CorralError `ERR_OPTION` unless it is a clock. */
export function expectClock(value: unknown, subject: string): void {
  expectMethods(value, ['now'], `${subject} to have now()`)
  expectTime((value as Clock).now(), subject)
}

function expectTime(now: unknown, subject: string): void {
  // With another value no comparison of times holds: nothing would expire.
  expectThat(Number.isFinite(now), now, `now() of ${subject} to return epoch ms`)
}

/** An application's clock, each of whose answers is checked; `undefined`: there is none. */
export function checkedClock(clock: Clock | undefined, subject: string): Clock | undefined {
  return (
    clock && {
      now() {
        const now = clock.now()
        if (!Number.isFinite(now)) expectTime(now, subject)
        return now
      },
    }
  )
}

/** A time in which something is not tried again. ms. */
export interface Pause {
  readonly since: number
  readonly ms: number
}

/**
 * Whether a pause lasts. If it seems to begin in the future, the clock was ahead then and has been set back: the pause would
 * last that much longer, so it is over.
 */
export function isPausing({ since, ms }: Pause, now: number): boolean {
  return since <= now && now < since + ms
}

let cached = 0

/** The time of day, read at every call. */
export const preciseClock: Clock = {
  // A hit must not find the coarse clock behind the moment at which this process created the entry.
  now: () => (cached = epochNow()),
}

let fresh = false
const forget = () => {
  fresh = false
}

/**
 * The time of day, read once per turn of the event loop: a hit must not pay for a system call. It stands still
 * while only microtasks run; expiry is late by at most that long. Where fake timers would never end a turn, it is read at
 * every call.
 */
export const coarseClock: Clock = !timersAreReal
  ? preciseClock
  : {
      now() {
        if (!fresh) {
          fresh = true
          cached = epochNow()
          setImmediate(forget).unref()
        }
        return cached
      },
    }

interface Sequence {
  last: number
}

const sequences = processGlobal('stamps', () => new WeakMap<object, Sequence>())

/**
 * The stamps of work: times that strictly increase. Work that starts after other work has a later stamp, even within one
 * millisecond or after the system clock stepped back. That holds among all work of this process that shares one of the
 * scopes; a clock far ahead changes no stamp of other work.
 * @param scopes - the objects over which stamps are compared
 */
export function stampsOf(...scopes: readonly object[]): (now: number) => number {
  const shared = scopes.map(sequenceOf)
  return (now) => {
    const last = shared.reduce((latest, one) => Math.max(latest, one.last), 0)
    // 2^-10 ms is the finest step that a double holds exactly at today's epoch; a later time needs a larger one.
    const next = now > last ? now : last + Math.max(2 ** -10, last * 2 ** -52)
    for (const one of shared) one.last = next
    return next
  }
}

function sequenceOf(scope: object): Sequence {
  let found = sequences.get(scope)
  if (found === undefined) sequences.set(scope, (found = { last: 0 }))
  return found
}
