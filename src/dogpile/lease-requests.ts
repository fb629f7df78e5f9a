/** How a caller asks for the lease of a key, and what a denied one means while a stale value stands. */
import type { Acquired, Denied } from '../backend/lease.js'
import { CorralError } from '../base/errors.js'
import { andThen, ignoreRejection, isPromise, type MaybePromise, native } from '../base/maybe-promise.js'
import { clearTimeout, setTimeout } from '../base/timers.js'
import type { HeldLease } from './create-and-fill.js'
import type { Flight } from './flight.js'
import type { DogpileDriver, Lookup } from './types.js'

/** The lease of a key with a stale value, which is served instead of a new try while a failure denies the lease. */
export function acquireUnlessFailed<V>(
  driver: DogpileDriver<V>,
  key: string,
  stale: V,
  overFailed?: number,
): MaybePromise<Acquired<Lookup<V>>> {
  return andThen(acquire(driver, key, overFailed), (acquired) => {
    if (acquired.token !== undefined || acquired.failure === undefined) return acquired
    const { failedAsOf = 0 } = acquired.failure
    // Another caller may have tried and failed meanwhile: that failure is a later one.
    return andThen(
      native(driver.isOvertaken?.(key, stale, acquired.failure, acquired.remaining) ?? false),
      (overtaken) =>
        overtaken && failedAsOf !== overFailed
          ? acquireUnlessFailed(driver, key, stale, failedAsOf)
          : acquired,
    )
  })
}

/** The lease of a key, with a read of the key after the grant. Without leases, every caller is granted one. */
export function acquire<V>(
  driver: DogpileDriver<V>,
  key: string,
  overFailed?: number,
): MaybePromise<Acquired<Lookup<V>>> {
  if (driver.acquire === undefined)
    return andThen(native(driver.read([key])), ([found]) => ({ token: '', found }))
  return andThen(native(driver.acquire(key, false, overFailed)), (acquired) => {
    // It may reject before a caller listens, while the other leases of a batch are asked for.
    if (acquired.token === undefined) void ignoreRejection(acquired.settled)
    return acquired
  })
}

/** Takes the lease of a flight's key from its holder, if it has one. */
export async function steal<V>(driver: DogpileDriver<V>, flight: Flight<V>): Promise<HeldLease<V>> {
  const { key } = flight
  const asked = driver.acquire?.(key, true)
  if (isPromise(asked)) flight.watch()
  const acquired = (await asked) ?? { token: '', found: undefined }
  if (acquired.token !== undefined) {
    const { token, asOf, found } = acquired
    return { flight, token, asOf, found }
  }
  void ignoreRejection(acquired.settled)
  throw new CorralError('ERR_BACKEND', `The store refused to hand over the lease of '${key}'.`)
}

/** Another process renews. Until its lease is over the old value is served without asking for the lease each time. */
export function serveStaleUntil<V>(
  flight: Flight<V>,
  { settled, remaining, failure }: Denied<Lookup<V>>,
): void {
  flight.isHeldBack = failure !== undefined
  flight.retry()
  // There is nothing to wait for, and an invalidation may end it at any time.
  if (failure !== undefined) {
    flight.close()
    return
  }
  const over = () => {
    clearTimeout(timer)
    flight.close()
  }
  const timer = setTimeout(over, remaining).unref()
  settled.then(over, over)
}
