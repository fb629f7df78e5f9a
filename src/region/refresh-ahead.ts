/** Renews values that are near the end of their life, behind the backs of callers that found them fresh. */
import type { CachedValue } from '../backend/cached-value.js'
import { isPausing } from '../base/clock.js'
import { report } from '../base/diagnostics.js'
import { setImmediate } from '../base/timers.js'
import { runDetached } from '../creation/renewal.js'
import { currentTransaction } from '../creation/transaction.js'
import { freshFor, isDue } from '../freshness/freshness.js'
import { driverOf } from './driver.js'
import type { Policy } from './policy.js'
import type { CreationPlan, RegionState } from './state.js'

/** Attempts that are remembered: a source that fails for ever new keys must not fill memory. */
const MOST = 10_000

/** Whether a caller that finds a fresh entry is to renew it. A transaction may see other data than the value to store. */
export function isAhead(
  { ahead, breaker, expiration: regional, precise }: RegionState,
  key: string,
  { metadata }: CachedValue,
  expiration: number | undefined,
  { refreshAhead, jitter }: Policy,
): boolean {
  if (refreshAhead === undefined) return false
  const now = precise.now()
  if (!isDue(metadata, freshFor(metadata, expiration, regional, jitter), refreshAhead, now)) return false
  const pause = ahead.get(key)
  if (pause !== undefined && isPausing(pause, now)) return false
  return currentTransaction() === undefined && !breaker?.refuses()
}

/** Begins in a later turn, so that no hit waits for it. @param found - the entries that the caller gets */
export function renewAhead(
  region: RegionState,
  plan: CreationPlan,
  found: ReadonlyMap<string, CachedValue>,
): void {
  const { ahead, calling, dogpile, leaseMs, precise } = region
  const keys = [...found.keys()]
  const pause = (ms: number) => {
    for (const key of keys) {
      ahead.delete(key)
      ahead.set(key, { since: precise.now(), ms })
      const [oldest = key] = ahead.keys()
      if (ahead.size > MOST) ahead.delete(oldest)
    }
  }
  pause(plan.policy.retryAfter || leaseMs)
  // close() waits for it.
  calling.begin()
  const driver = driverOf(region, { ...plan, isAhead: true })
  const begin = async () => {
    try {
      const denied = await dogpile.renewAhead(
        keys,
        driver,
        (key, { entry }) => entry.metadata.createdAt === found.get(key)?.metadata.createdAt,
      )
      // Another caller renews, or has failed: until its lease is over there is nothing to do.
      if (denied > 0) pause(denied)
    } catch (error) {
      report('failure', () => ({ where: 'refreshAhead', ...driver.origin, key: keys[0], error }))
    } finally {
      calling.end()
    }
  }
  setImmediate(() => void runDetached(begin))
}
