import type { Clock } from '../base/clock.js'
import { andThen, type MaybePromise } from '../base/maybe-promise.js'
import { clearTimeout, performance, setTimeout } from '../base/timers.js'
import type { LedgerQuestion, Stamp } from '../ledger/ledger.js'
import type { LedgerTime } from '../ledger/snapshot.js'

/** Options of a request for a lease. */
export interface AcquireOptions {
  /** Takes the lease from its holder, whose fill is then lost. @default false */
  readonly steal?: boolean
  /**
   * Takes a lease that was kept after a failure as if it were free, if the failed creation began by this time of the ledger.
   * `Infinity`: any. @default none
   */
  readonly overFailed?: number | undefined
  /**
   * Takes the lease only if nothing is stored under the key. Otherwise the grant has an empty token, no lease was taken, and
   * `found` is the entry, whose names' stamps are read as a read of the ledger does. For stores that say `ifAbsentFrom`.
   * @default false
   */
  readonly ifAbsent?: boolean | undefined
  /** Names whose ledger time the caller needs; a layer that tracks dependencies turns them into `question`. */
  readonly names?: readonly string[] | undefined
  /** A question about the ledger. The store answers it in the step that grants the lease if it can. */
  readonly question?: LedgerQuestion | undefined
}

/**
 * Keeps a lease after its creator failed, so that no process tries again for a while. An invalidation revokes it.
 * @example
 * ```ts
 * import type { FailureOptions } from 'corral'
 *
 * export const failure: FailureOptions = { failedFor: 5_000 }
 * ```
 */
export interface FailureOptions {
  /** ms. */
  readonly failedFor: number
  /** The time at which the failed creation began, on the ledger's clock. Every request for the lease receives it. */
  readonly failedAsOf?: number | undefined
}

/** The mark of a lease that was kept after a failure. */
export type LeaseFailure = Pick<FailureOptions, 'failedAsOf'>

/** A lease that was granted, and the value that the store held then. */
export interface Granted<T = never> {
  /** Fences exactly one fill. Empty: there is no lease, since `ifAbsent` found an entry. */
  readonly token: string
  /** The stored value, read in the step of the grant or after it. */
  readonly found: T | undefined
  /** The ledger's time, taken in the step of the grant or after it; absent where no question was asked. */
  readonly asOf?: LedgerTime | undefined
  /** The stamps of the question's `expected` names, if they were read in the same step. */
  readonly stamps?: readonly (Stamp | undefined)[] | undefined
}

/**
 * A lease that another caller holds. `settled` resolves when it was filled, released, revoked or has expired; `remaining`
 * is in ms. `settled` may bring the stored value, if the store proves that the lease ended after it was asked for here:
 * only callers that began before that may have the value, since an invalidation may have come in between for later ones.
 */
export interface Denied<T = never> {
  readonly token?: undefined
  readonly remaining: number
  readonly settled: Promise<T | void>
  /** Present if the lease was kept after a failure: `settled` has resolved, since there is nothing to wait for. */
  readonly failure?: LeaseFailure | undefined
  /** Called when nothing waits any longer, so that the store does not go on asking. Absent where waiting costs nothing. */
  readonly leave?: (() => void) | undefined
}

/**
 * The result of a request for a lease: granted, or held by another caller.
 * @example
 * ```ts
 * import type { Acquired } from 'corral/dogpile'
 *
 * export const isGranted = ({ token }: Acquired<unknown>) => token !== undefined
 * ```
 */
export type Acquired<T = never> = Granted<T> | Denied<T>

/** The result of a store's own `acquire`. A grant leaves out `found` and `asOf` if the store cannot read them in the same step. */
export type StoreAcquired<T = never> =
  | (Omit<Granted<T>, 'found'> & { readonly found?: T | undefined })
  | Denied<T>

/** Changes the values that an acquisition brings, as a layer changes values that it reads. */
export function mapAcquired<T, R>(
  acquired: Acquired<T>,
  ofGranted: (granted: Granted<T>) => MaybePromise<R | undefined>,
  ofSettled: (value: T) => MaybePromise<R | undefined>,
): MaybePromise<Acquired<R>> {
  if (acquired.token !== undefined) {
    const { token, asOf, stamps } = acquired
    return andThen(ofGranted(acquired), (found) => ({ token, found, asOf, stamps }))
  }
  const settled = Promise.resolve(acquired.settled).then((value) =>
    value === undefined ? undefined : ofSettled(value),
  )
  return { ...acquired, settled }
}

/**
 * The operations of a fenced lease, as an author writes them: a backend has all of them or none.
 * @example
 * ```ts
 * import type { LeaseOperations } from 'corral'
 *
 * export const isFree = async (lease: LeaseOperations, key: string) => !(await lease.held(key))
 * ```
 */
export interface LeaseOperations<T = never> {
  /**
   * Never waits. Leave `found` and `asOf` out of the grant if the store cannot read them in the same step: `defineBackend`
   * then reads them afterwards.
   */
  acquire(key: string, ms: number, options?: AcquireOptions): MaybePromise<StoreAcquired<T>>
  /** Extends the lease while its holder works. False: it is no longer held. */
  renew(key: string, token: string, ms: number): MaybePromise<boolean>
  /**
   * Gives the lease back unused. False: it was no longer held, so the key was invalidated or stolen meanwhile. With
   * `failure` the lease is kept without a holder: a store that does that says `keepsFailures`.
   */
  release(key: string, token: string, failure?: FailureOptions): MaybePromise<boolean>
  /** Whether a caller holds the lease; one that was kept after a failure has no holder. Must not take it. */
  held(key: string): MaybePromise<boolean>
}

/**
 * A lock as most stores have it: exclusive, but without a token that a write could be checked against.
 * @example
 * ```ts
 * import type { PlainMutex } from 'corral'
 *
 * let locked = false
 * export const mutex: PlainMutex = {
 *   acquire: () => !locked && (locked = true),
 *   release: () => (locked = false),
 * }
 * ```
 */
export interface PlainMutex {
  /** True if the lock was taken. With `wait` false it does not wait for the lock. */
  acquire(wait: boolean): MaybePromise<boolean>
  release(): MaybePromise<unknown>
  locked?(): MaybePromise<boolean>
}

/** Leases of this process, with the members that a synchronous store needs to fence its writes. */
export interface LocalLeases extends LeaseOperations<never> {
  acquire(key: string, ms: number, options?: AcquireOptions): { readonly token: string } | Denied<never>
  renew(key: string, token: string, ms: number): boolean
  release(key: string, token: string, failure?: FailureOptions): boolean
  held(key: string): boolean
  /** Whether the token still holds. */
  owns(key: string, token: string): boolean
  /** Voids the lease, if any, and wakes the waiters: an invalidation's half of the fence. */
  revoke(key: string): void
}

interface Lease {
  readonly token: string
  since: number
  ms: number
  wake?: () => void
  settled?: Promise<void>
  timer?: NodeJS.Timeout
  /** Its creator works: the end of the process is not up to its waiters. */
  renewed?: boolean
  /** Kept after a failure, without a holder. */
  failure?: LeaseFailure
}

/** Whether a request takes over a lease that was kept after a failure, if it is one. A failure without a time is the oldest. */
export function isTakenOver(failure: LeaseFailure | undefined, overFailed: number | undefined): boolean {
  return failure !== undefined && overFailed !== undefined && (failure.failedAsOf ?? 0) <= overFailed
}

function isHeld(lease: Lease | undefined): boolean {
  return lease !== undefined && lease.failure === undefined
}

/** The leases that this process granted so far: no two have the same number. */
let granted = 0

/**
 * Keeps leases in this process. A waiter is woken at once; a timer exists only while a caller waits.
 * @param clock - by default a clock that never steps: a lease neither ends early nor late when the time of day is corrected
 */
export function localLeases(clock: Clock = performance): LocalLeases {
  const leases = new Map<string, Lease>()

  const current = (key: string): Lease | undefined => {
    const lease = leases.get(key)
    if (lease === undefined || left(lease) > 0) return lease
    drop(key, lease)
    return undefined
  }
  /**
   * ms that are left. If the clock was set back, nobody knows for how long it was ahead: a failure then counts as over, and a
   * holder gets its whole lease again.
   */
  const left = (lease: Lease): number => {
    const now = clock.now()
    if (lease.since > now) {
      if (lease.failure !== undefined) return 0
      lease.since = now
    }
    return lease.since + lease.ms - now
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
        const remaining = left(lease)
        if (remaining <= 0) return drop(key, lease)
        lease.timer = setTimeout(watch, remaining)
        if (lease.renewed) lease.timer.unref()
      }
      watch()
    })
    return lease.settled
  }

  const keepFailed = (key: string, { failedFor, failedAsOf }: FailureOptions) => {
    // A key that no caller asks for again must not fill memory. An invalidation ends the timer with the lease.
    const timer = setTimeout(() => current(key), failedFor).unref()
    const token = String(++granted)
    leases.set(key, { token, since: clock.now(), ms: failedFor, failure: { failedAsOf }, timer })
  }

  return {
    acquire(key, ms, { steal = false, overFailed } = {}) {
      const holder = current(key)
      if (holder !== undefined) {
        const { failure } = holder
        const remaining = left(holder)
        if (failure === undefined && !steal) return { remaining, settled: settled(key, holder) }
        if (!steal && !isTakenOver(failure, overFailed))
          return { remaining, settled: Promise.resolve(), failure }
        drop(key, holder)
      }
      // Compared among the leases of this process alone.
      const token = String(++granted)
      leases.set(key, { token, since: clock.now(), ms })
      return { token }
    },
    renew(key, token, ms) {
      const lease = current(key)
      if (lease?.token !== token) return false
      lease.since = clock.now()
      lease.ms = ms
      lease.renewed = true
      lease.timer?.unref()
      return true
    },
    release(key, token, failure) {
      const lease = current(key)
      if (lease?.token !== token) return false
      drop(key, lease)
      if (failure !== undefined) keepFailed(key, failure)
      return true
    },
    owns: (key, token) => current(key)?.token === token,
    held: (key) => isHeld(current(key)),
    revoke(key) {
      const lease = leases.get(key)
      if (lease !== undefined) drop(key, lease)
    },
  }
}
