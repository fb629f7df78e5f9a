import type { Outcome, Write } from '../backend/backend.js'
import { type CachedValue, type Metadata, NO_VALUE } from '../backend/cached-value.js'
import { mapAcquired } from '../backend/lease.js'
import { report } from '../base/diagnostics.js'
import { expectSync } from '../base/expect-sync.js'
import { all, andThen, ignoreRejection, type MaybePromise } from '../base/maybe-promise.js'
import type { DogpileDriver, FillResult } from '../dogpile/types.js'
import { longestFresh, physicalLifetime } from '../freshness/freshness.js'
import { runCreator } from './run-creator.js'
import { toLookup } from './serve.js'
import type { Created, CreationPlan, RegionState } from './state.js'
import { writeAll } from './write.js'

const REASONS = {
  lost: 'its lease was revoked, was stolen or has expired',
  refused: 'something that it was made from was invalidated',
} as const

type Fill = readonly [key: string, created: Created, token: string]

/** The dogpile's driver over a region's backend. */
export function driverOf(region: RegionState, plan: CreationPlan): DogpileDriver<Created> {
  const { backend, tracker, leaseMs } = region
  const { expiration } = plan
  const lookup = (key: string, entry: CachedValue | undefined) => toLookup(region, key, entry, expiration)
  return {
    read(keys) {
      const [key, ...more] = keys
      if (key !== undefined && more.length === 0)
        return andThen(backend.get(key), (entry) => andThen(lookup(key, entry), (found) => [found]))
      return andThen(backend.getMulti(keys), (entries) =>
        all(entries.map((entry, i) => lookup(keys[i] as string, entry))),
      )
    },
    acquire: (key, steal) =>
      andThen(backend.acquire(key, leaseMs, { steal, names: tracker && [region.own] }), (acquired) =>
        mapAcquired(
          acquired,
          ({ found }) => lookup(key, found),
          (entry) => lookup(key, entry),
        ),
      ),
    renew: (key, token) => backend.renew(key, token, leaseMs),
    release: (key, token) => backend.release(key, token),
    create: (keys, signal, leases) => runCreator(region, plan, keys, signal, leases),
    fill: (fills) => fill(region, plan, fills),
  }
}

/** Stores the values that may be stored, and releases the leases of the others. */
function fill(
  region: RegionState,
  { expiration, shouldCache }: CreationPlan,
  fills: readonly Fill[],
): MaybePromise<readonly FillResult[]> {
  const { name, invalidator } = region
  const unstored = (key: string, reason: string) => report('unstored', () => ({ region: name, key, reason }))
  const writes: Write<CachedValue>[] = []
  const withheld = fills.map((one) => {
    const [key, { entry, withheld: own }, token] = one
    const wanted =
      own !== undefined ||
      shouldCache === undefined ||
      expectSync('`shouldCache`', shouldCache(entry.payload as never, key))
    const reason = wanted ? own : 'shouldCache said no'
    if (reason !== undefined) {
      // NO_VALUE says that there is nothing to store, so nothing was kept out.
      if (entry.payload !== NO_VALUE) unstored(key, reason)
      return ignoreRejection(withhold(region, one))
    }
    const fresh = longestFresh(entry.metadata, expiration, region.expiration)
    writes.push([key, entry, { ...physicalLifetime(fresh), token }])
    return undefined
  })
  return andThen(writeAll(region, writes), (outcomes) => {
    const left = outcomes.values()
    return all(
      fills.map(([key, { entry }], i): MaybePromise<FillResult> => {
        const outcome = withheld[i] ?? (left.next().value as Outcome)
        if (outcome === 'lost' || outcome === 'refused') unstored(key, REASONS[outcome])
        return outcome === 'stored' && invalidator !== undefined
          ? stillStands(region, key, entry.metadata)
          : outcome
      }),
    )
  })
}

/** A value that is not stored may be shared only if nothing invalidated it during its creation. */
async function withhold(region: RegionState, [key, { entry, isOwn }, token]: Fill): Promise<FillResult> {
  try {
    const released = await region.backend.release(key, token)
    if (isOwn) return 'own'
    if (!released) return 'lost'
    // Without a snapshot an invalidation may have gone unseen: only callers that asked before the creation may have it.
    if (region.tracker !== undefined && entry.metadata.snapshot === undefined) return 'refused'
    return (await stillStands(region, key, entry.metadata)) === 'stored' ? 'withheld' : 'refused'
  } catch (error) {
    // The caller may still have the value that was created for it.
    report('failure', () => ({ where: 'release', key, error }))
    return isOwn ? 'own' : 'lost'
  }
}

/** Where no ledger refuses a late fill, its value is judged once more after it was stored. */
function stillStands(
  { tracker, invalidator }: RegionState,
  key: string,
  { snapshot, startedAt }: Metadata,
): MaybePromise<FillResult> {
  const byLedger = snapshot === undefined || tracker === undefined ? 'fresh' : tracker.validate(snapshot)
  return andThen(byLedger, (one) =>
    andThen(invalidator?.judge(startedAt, key) ?? 'fresh', (other) =>
      one === 'fresh' && other === 'fresh' ? 'stored' : 'refused',
    ),
  )
}
