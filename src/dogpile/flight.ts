import { CorralError } from '../base/errors.js'
import { noteWait, type Work } from '../creation/scope.js'

/**
 * What becomes of a fill. `kept`: held back by choice, but nothing invalidated it while the lease was held, so that it may
 * be shared like a stored one.
 */
export type Filled = 'stored' | 'kept' | 'lost' | 'refused'

/**
 * How a creation ended for those who wait for it. A value that was stored is for everybody who joined. Any other is only
 * for those who joined before the flight last looked at the store: what was made after that look is new enough for them,
 * while for a later joiner an invalidation may have come in between.
 */
export type Landing<V> =
  | { readonly kind: 'value'; readonly value: V; readonly filled: Filled; readonly look: number }
  | { readonly kind: 'again' }

/** A creation that the callers of this process share. */
export interface Flight<V> {
  readonly work: Work
  /** Takes joiners: until its fill is sent. After that an invalidation could be acknowledged unseen. */
  open: boolean
  /** Its creator runs. */
  creating: boolean
  /** How often it has looked at the store, or asked it for a lease. */
  looks: number
  /** Aborted when nobody waits any more. */
  readonly abandoned: AbortSignal
  /** Who may not have the value of the landing is told to start over. */
  land(landing: Landing<V>): void
  fail(error: unknown): void
  /**
   * Resolves with the landing, within the caller's limits. The deadline does not run against a caller's own creator.
   * @throws CorralError `ERR_WAIT_TIMEOUT` at the deadline; the signal's reason when it is aborted.
   */
  wait(limits: Limits, leads: boolean): Promise<Landing<V>>
}

/** How long a caller waits for what somebody else is making. */
export interface Limits {
  /** ms; Infinity: as long as it takes. */
  readonly wait: number
  /** The same as a moment of `performance.now()`. */
  readonly deadline: number
  readonly signal?: AbortSignal | undefined
}

interface Waiter<V> {
  readonly resolve: (landing: Landing<V>) => void
  readonly reject: (error: unknown) => void
  readonly limits: Limits
  readonly leads: boolean
  /** After so many looks of the flight. */
  readonly joined: number
  readonly deadline: number
  readonly endWait: (() => void) | undefined
  readonly abort: (() => void) | undefined
}

/** The longest delay that a timer can hold; what is longer is looked at again then. */
const LONGEST = 2 ** 31 - 1

export function takeOff<V>(work: Work): Flight<V> {
  const waiters = new Set<Waiter<V>>()
  const abandoned = new AbortController()
  // One timer for all waiters, set for the earliest deadline: a thousand joiners must not cost a thousand timers.
  let timer: NodeJS.Timeout | undefined
  let armedFor = Number.POSITIVE_INFINITY
  let ended: { readonly landing: Landing<V> } | { readonly error: unknown } | undefined

  const giveUp = (waiter: Waiter<V>, error: unknown): void => {
    part(waiter)
    waiters.delete(waiter)
    waiter.reject(error)
    if (waiters.size === 0) {
      clearTimeout(timer)
      abandon(error)
    }
  }
  /** Whoever comes now must not join what is being called off. */
  const abandon = (reason: unknown): void => {
    flight.open = false
    abandoned.abort(reason)
  }
  const arm = (deadline: number): void => {
    if (deadline >= armedFor) return
    clearTimeout(timer)
    armedFor = deadline
    timer = setTimeout(expire, Math.min(Math.max(deadline - performance.now(), 0), LONGEST))
  }
  const expire = (): void => {
    armedFor = Number.POSITIVE_INFINITY
    const now = performance.now()
    let next = Number.POSITIVE_INFINITY
    for (const waiter of [...waiters])
      if (waiter.deadline > now) next = Math.min(next, waiter.deadline)
      else if (!(waiter.leads && flight.creating))
        giveUp(waiter, late(work.keys[0] ?? '', waiter.limits.wait))
    arm(next)
  }
  const end = (how: { readonly landing: Landing<V> } | { readonly error: unknown }): void => {
    if (ended !== undefined) return
    ended = how
    clearTimeout(timer)
    for (const waiter of waiters) {
      part(waiter)
      if ('landing' in how) waiter.resolve(landingFor(waiter.joined, how.landing))
      else waiter.reject(how.error)
    }
    waiters.clear()
  }

  const flight: Flight<V> = {
    work,
    open: true,
    creating: false,
    looks: 0,
    abandoned: abandoned.signal,
    land: (landing) => end({ landing }),
    fail: (error) => end({ error }),
    wait: (limits, leads) =>
      new Promise((resolve, reject) => {
        if (ended !== undefined)
          return 'landing' in ended ? resolve(landingFor(flight.looks, ended.landing)) : reject(ended.error)
        const { deadline, signal } = limits
        if (signal?.aborted) {
          reject(signal.reason)
          if (waiters.size === 0) abandon(signal.reason)
          return
        }
        const waiter: Waiter<V> = {
          resolve,
          reject,
          limits,
          leads,
          joined: flight.looks,
          deadline,
          endWait: noteWait(work),
          abort: signal && (() => giveUp(waiter, signal.reason)),
        }
        if (signal !== undefined && waiter.abort !== undefined) abortsOf(signal).add(waiter.abort)
        waiters.add(waiter)
        arm(waiter.deadline)
      }),
  }
  return flight
}

const AGAIN = { kind: 'again' } as const

/** A landing's value is for those who joined early enough; the others start over. */
function landingFor<V>(joined: number, landing: Landing<V>): Landing<V> {
  return landing.kind === 'value' && !shareable(landing.filled) && joined >= landing.look ? AGAIN : landing
}

function shareable(filled: Filled): boolean {
  return filled === 'stored' || filled === 'kept'
}

const aborts = new WeakMap<AbortSignal, Set<() => void>>()

/** Who waits under a signal. One listener for all: a request's signal serves many calls, and Node warns from eleven on. */
function abortsOf(signal: AbortSignal): Set<() => void> {
  let waiting = aborts.get(signal)
  if (waiting === undefined) {
    const all = new Set<() => void>()
    aborts.set(signal, (waiting = all))
    signal.addEventListener(
      'abort',
      () => {
        for (const abort of [...all]) abort()
      },
      { once: true },
    )
  }
  return waiting
}

function part<V>({ endWait, abort, limits }: Waiter<V>): void {
  endWait?.()
  if (limits.signal !== undefined && abort !== undefined) abortsOf(limits.signal).delete(abort)
}

function late(key: string, wait: number): CorralError {
  return new CorralError(
    'ERR_WAIT_TIMEOUT',
    `Waited ${wait} ms for another caller to create '${key}'. Raise \`wait\`, or look why its creator takes so long.`,
  )
}
