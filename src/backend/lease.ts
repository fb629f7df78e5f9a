import { randomUUID } from 'node:crypto'
import { type Clock, preciseClock } from '../base/clock.js'
import type { MaybePromise } from '../base/maybe-promise.js'

/**
 * The answer to `acquire`: a token that fences exactly one fill, or how long to wait.
 * `settled` resolves when the lease was filled, released, revoked or has expired; `remaining` is in ms. It may resolve
 * with what was stored when the lease ended, where the store proves that this was after it was asked for here: only who
 * began before that may have it, since for a later one it may have been invalidated in between.
 */
export type Acquired<T = never> =
  | { readonly token: string }
  | { readonly token?: undefined; readonly remaining: number; readonly settled: Promise<T | void> }

/** Lets a layer change what a waiter may be given, or keep it back with `undefined`: the waiter then reads for himself. */
export function arriving<T, R>(
  acquired: Acquired<T>,
  change: (value: T) => MaybePromise<R | undefined>,
): Acquired<R> {
  if (acquired.token !== undefined) return acquired
  const settled = acquired.settled.then((value) => (value === undefined ? undefined : change(value)))
  return { ...acquired, settled }
}

/** The four operations of a fenced lease: a backend has all of them or none. */
export interface LeaseOperations<T = never> {
  /** Never waits and never answers a value: whoever is granted a lease reads again. `steal` takes it from its holder. */
  acquire(key: string, ms: number, options?: { readonly steal?: boolean }): MaybePromise<Acquired<T>>
  /** Extends the lease while its holder works. False: it is no longer held. */
  renew(key: string, token: string, ms: number): MaybePromise<boolean>
  /** Gives the lease back unused. False: it was no longer held, so the key was invalidated or stolen meanwhile. */
  release(key: string, token: string): MaybePromise<boolean>
  /** Whether anybody holds the lease; must not take it. */
  held(key: string): MaybePromise<boolean>
}

/** A lock as most stores have it: exclusive, but without a token that a write could be checked against. */
export interface PlainMutex {
  /** True when the lock was taken; with `wait` false it answers at once. */
  acquire(wait: boolean): MaybePromise<boolean>
  release(): MaybePromise<unknown>
  locked?(): MaybePromise<boolean>
}

/** Leases of this process, with what a synchronous store needs to fence its writes. */
export interface LocalLeases extends LeaseOperations {
  acquire(key: string, ms: number, options?: { readonly steal?: boolean }): Acquired
  renew(key: string, token: string, ms: number): boolean
  release(key: string, token: string): boolean
  held(key: string): boolean
  /** Whether the token still holds. */
  owns(key: string, token: string): boolean
  /** Voids the lease, if any, and wakes who waits: an invalidation's half of the fence. */
  revoke(key: string): void
}

interface Lease {
  readonly token: string
  expiresAt: number
  wake?: () => void
  settled?: Promise<void>
  timer?: NodeJS.Timeout
}

/** Keeps leases in this process. A waiter is woken at once; a timer exists only while somebody waits. */
export function localLeases(clock: Clock = preciseClock): LocalLeases {
  const leases = new Map<string, Lease>()

  const current = (key: string): Lease | undefined => {
    const lease = leases.get(key)
    if (lease === undefined || clock.now() < lease.expiresAt) return lease
    drop(key, lease)
    return undefined
  }
  const drop = (key: string, lease: Lease) => {
    if (leases.get(key) === lease) leases.delete(key)
    clearTimeout(lease.timer)
    lease.wake?.()
  }
  const settled = (key: string, lease: Lease): Promise<void> => {
    lease.settled ??= new Promise((resolve) => {
      lease.wake = resolve
      const watch = () => {
        const remaining = lease.expiresAt - clock.now()
        if (remaining > 0) lease.timer = setTimeout(watch, Math.min(remaining, 2 ** 31 - 1))
        else drop(key, lease)
      }
      watch()
    })
    return lease.settled
  }

  return {
    acquire(key, ms, { steal = false } = {}) {
      const holder = current(key)
      if (holder !== undefined) {
        if (!steal) return { remaining: holder.expiresAt - clock.now(), settled: settled(key, holder) }
        drop(key, holder)
      }
      const token = randomUUID()
      leases.set(key, { token, expiresAt: clock.now() + ms })
      return { token }
    },
    renew(key, token, ms) {
      const lease = current(key)
      if (lease?.token !== token) return false
      lease.expiresAt = clock.now() + ms
      return true
    },
    release(key, token) {
      const lease = current(key)
      if (lease?.token !== token) return false
      drop(key, lease)
      return true
    },
    owns: (key, token) => current(key)?.token === token,
    held: (key) => current(key) !== undefined,
    revoke(key) {
      const lease = leases.get(key)
      if (lease !== undefined) drop(key, lease)
    },
  }
}
