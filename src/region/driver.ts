import type { Outcome, Write } from '../backend/backend.js'
import type { CachedValue, Metadata } from '../backend/cached-value.js'
import { mapAcquired } from '../backend/lease.js'
import { report } from '../base/diagnostics.js'
import { all, andThen, ignoreRejection, type MaybePromise } from '../base/maybe-promise.js'
import type { FillResult } from '../dogpile/flight.js'
import type { DogpileDriver } from '../dogpile/types.js'
import { longestFresh, physicalLifetime } from '../freshness/freshness.js'
import { runCreator } from './run-creator.js'
import { toLookup } from './serve.js'
import type { Created, CreationPlan, RegionState } from './state.js'

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
  const results: MaybePromise<FillResult>[] = []
  const places: number[] = []
  const writes: Write<CachedValue>[] = []
  fills.forEach((one, i) => {
    const [key, { entry, withheld }, token] = one
    const reason =
      withheld ??
      (shouldCache === undefined || shouldCache(entry.payload as never, key)
        ? undefined
        : 'shouldCache said no')
    if (reason === undefined) {
      places.push(i)
      const fresh = longestFresh(entry.metadata, expiration, region.expiration)
      writes.push([key, entry, { ...physicalLifetime(fresh), token }])
    } else {
      report('unstored', () => ({ region: region.name, key, reason }))
      results[i] = ignoreRejection(withhold(region, one))
    }
  })
  return andThen(write(region, writes), (outcomes) => {
    outcomes.forEach((outcome, i) => {
      const place = places[i] as number
      const [key, { entry }] = fills[place] as Fill
      if (outcome !== 'stored')
        report('unstored', () => ({ region: region.name, key, reason: REASONS[outcome] }))
      results[place] =
        outcome === 'stored' && region.invalidator !== undefined
          ? stillStands(region, key, entry.metadata)
          : outcome
    })
    return all(results)
  })
}

function write(
  { backend }: RegionState,
  writes: readonly Write<CachedValue>[],
): MaybePromise<readonly Outcome[]> {
  const [only] = writes
  return writes.length === 1 && only !== undefined
    ? andThen(backend.set(...only), (outcome) => [outcome])
    : backend.setMulti(writes)
}

/** A value that is not stored may be shared only if nothing invalidated it during its creation. */
async function withhold(region: RegionState, [key, { entry }, token]: Fill): Promise<FillResult> {
  try {
    if (!(await region.backend.release(key, token))) return 'lost'
    // Without a snapshot an invalidation may have gone unseen: only callers that asked before the creation may have it.
    if (region.tracker !== undefined && entry.metadata.snapshot === undefined) return 'refused'
    return (await stillStands(region, key, entry.metadata)) === 'stored' ? 'withheld' : 'refused'
  } catch (error) {
    // The caller may still have the value that was created for it.
    report('failure', () => ({ where: 'release', key, error }))
    return 'lost'
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
