import { CorralError } from '../base/errors.js'
import type { CreationNode } from '../creation/scope.js'
import { addWait } from '../creation/wait-graph.js'

/**
 * What becomes of a fill. `kept`: held back by choice, but nothing invalidated it while the lease was held, so that it may
 * be shared like a stored one.
 */
export type FillResult = 'stored' | 'withheld' | 'lost' | 'refused'

/**
 * How a creation ended for those who wait for it. A value that was stored is for everybody who joined. Any other is only
 * for those who joined before the flight last looked at the store: what was made after that look is new enough for them,
 * while for a later joiner an invalidation may have come in between.
 */
export type FlightResult<V> =
  | { readonly kind: 'value'; readonly value: V; readonly filled: FillResult; readonly readCount: number }
  | { readonly kind: 'retry' }

/** A creation that the callers of this process share. */
export interface Flight<V> {
  readonly node: CreationNode
  /** Takes joiners: until its fill is sent. After that an invalidation could be acknowledged unseen. */
  open: boolean
  /** Its creator runs. */
  creating: boolean
  /** How often it has looked at the store, or asked it for a lease. */
  readCount: number
  /** Aborted when nobody waits any more. */
  readonly abandoned: AbortSignal
  /** Who may not have the value of the result is told to start over. */
  complete(result: FlightResult<V>): void
  fail(error: unknown): void
  /**
   * Resolves with the result, within the caller's limits. The deadline does not run against a caller's own creator.
   * @throws CorralError `ERR_WAIT_TIMEOUT` at the deadline; the signal's reason when it is aborted.
   */
  wait(limits: Limits, leads: boolean): Promise<FlightResult<V>>
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
  readonly resolve: (result: FlightResult<V>) => void
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

export function startFlight<V>(node: CreationNode): Flight<V> {
  const waiters = new Set<Waiter<V>>()
  const abandoned = new AbortController()
  // One timer for all waiters, set for the earliest deadline: a thousand joiners must not cost a thousand timers.
  let timer: NodeJS.Timeout | undefined
  let armedFor = Number.POSITIVE_INFINITY
  let ended: { readonly result: FlightResult<V> } | { readonly error: unknown } | undefined

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
        giveUp(waiter, late(node.keys[0] ?? '', waiter.limits.wait))
    arm(next)
  }
  const end = (how: { readonly result: FlightResult<V> } | { readonly error: unknown }): void => {
    if (ended !== undefined) return
    ended = how
    clearTimeout(timer)
    for (const waiter of waiters) {
      part(waiter)
      if ('result' in how) waiter.resolve(resultFor(waiter.joined, how.result))
      else waiter.reject(how.error)
    }
    waiters.clear()
  }

  const flight: Flight<V> = {
    node,
    open: true,
    creating: false,
    readCount: 0,
    abandoned: abandoned.signal,
    complete: (result) => end({ result }),
    fail: (error) => end({ error }),
    wait: (limits, leads) =>
      new Promise((resolve, reject) => {
        if (ended !== undefined)
          return 'result' in ended ? resolve(resultFor(flight.readCount, ended.result)) : reject(ended.error)
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
          joined: flight.readCount,
          deadline,
          endWait: addWait(node),
          abort: signal && (() => giveUp(waiter, signal.reason)),
        }
        if (signal !== undefined && waiter.abort !== undefined) abortsOf(signal).add(waiter.abort)
        waiters.add(waiter)
        arm(waiter.deadline)
      }),
  }
  return flight
}

const RETRY = { kind: 'retry' } as const

/** A result's value is for those who joined early enough; the others start over. */
function resultFor<V>(joined: number, result: FlightResult<V>): FlightResult<V> {
  return result.kind === 'value' && !shareable(result.filled) && joined >= result.readCount ? RETRY : result
}

function shareable(filled: FillResult): boolean {
  return filled === 'stored' || filled === 'withheld'
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
