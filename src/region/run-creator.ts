import type { Write } from '../backend/backend.js'
import { type CachedValue, type Metadata, NO_VALUE } from '../backend/cached-value.js'
import { type Granted, mapAcquired } from '../backend/lease.js'
import { stamp } from '../base/clock.js'
import { report } from '../base/diagnostics.js'
import { milliseconds } from '../base/duration.js'
import { CorralError, formatValue } from '../base/errors.js'
import { all, andThen, ignoreRejection, type MaybePromise } from '../base/maybe-promise.js'
import { collectDependencies } from '../creation/collector.js'
import { currentScope, runCollecting } from '../creation/scope.js'
import type { Creation } from '../creation/types.js'
import { notTracked } from '../dependencies/depends-on.js'
import type { FillResult } from '../dogpile/flight.js'
import type { DogpileDriver } from '../dogpile/types.js'
import { refuseVersions } from '../ledger/checked-names.js'
import { listNames } from '../ledger/names.js'
import type { LedgerTime } from '../ledger/snapshot.js'
import { type Configured, type Created, type CreationPlan, physicalLifetime, toLookup } from './freshness.js'

const REASONS = {
  lost: 'its lease was revoked, was stolen or has expired',
  refused: 'something that it was made from was invalidated',
} as const

/** The steps of a dogpile over a region's backend. */
export function driverOf(region: Configured, plan: CreationPlan): DogpileDriver<Created> {
  const { backend, tracker, invalidator, leaseMs } = region
  const { expiration, shouldCache } = plan

  /** What was not stored may be shared only if nothing invalidated it while it was made. */
  const keptBack = async (key: string, { entry }: Created, token: string): Promise<FillResult> => {
    try {
      if (!(await backend.release(key, token))) return 'lost'
      // What no snapshot vouches for may have been invalidated unseen: only who asked before it was begun may have it.
      if (tracker !== undefined && entry.metadata.snapshot === undefined) return 'refused'
      return (await standing(region, key, entry.metadata)) === 'stored' ? 'withheld' : 'refused'
    } catch (error) {
      // The caller may still have what was made for it.
      report('failure', () => ({ where: 'release', key, error }))
      return 'lost'
    }
  }
  const write = ([key, { entry }, token]: readonly [string, Created, string]): Write<CachedValue> => [
    key,
    entry,
    { ...physicalLifetime(freshness(region, entry.metadata, expiration)), token },
  ]

  return {
    read: (keys) => {
      if (keys.length === 1) {
        const [key] = keys as [string]
        return andThen(backend.get(key), (entry) =>
          andThen(toLookup(region, key, entry, expiration), (found) => [found]),
        )
      }
      return andThen(backend.getMulti(keys), (entries) =>
        all(entries.map((entry, i) => toLookup(region, keys[i] as string, entry, expiration))),
      )
    },
    acquire: (key, steal) =>
      andThen(backend.acquire(key, leaseMs, { steal, names: tracker && [region.own] }), (acquired) =>
        mapAcquired(
          acquired,
          ({ found }) => toLookup(region, key, found, expiration),
          (entry) => toLookup(region, key, entry, expiration),
        ),
      ),
    renew: (key, token) => backend.renew(key, token, leaseMs),
    release: (key, token) => backend.release(key, token),
    create: (keys, signal, leases) => runCreator(region, plan, keys, signal, leases),
    fill(fills) {
      const outcomes: MaybePromise<FillResult>[] = []
      const writes: Write<CachedValue>[] = []
      const places: number[] = []
      fills.forEach((fill, i) => {
        const [key, made, token] = fill
        const reason =
          made.withheld ??
          (shouldCache === undefined || shouldCache(made.entry.payload as never, key)
            ? undefined
            : 'shouldCache said no')
        if (reason === undefined) {
          places.push(i)
          writes.push(write(fill))
        } else {
          report('unstored', () => ({ region: region.name, key, reason }))
          outcomes[i] = ignoreRejection(keptBack(key, made, token))
        }
      })
      const [only] = writes
      const written =
        writes.length === 1 && only !== undefined
          ? andThen(backend.set(...only), (outcome) => [outcome])
          : backend.setMulti(writes)
      const done = andThen(written, (results) => {
        results.forEach((outcome, i) => {
          const place = places[i] as number
          const [key, { entry }] = fills[place] as (typeof fills)[number]
          if (outcome !== 'stored')
            report('unstored', () => ({ region: region.name, key, reason: REASONS[outcome] }))
          outcomes[place] =
            outcome === 'stored' && invalidator !== undefined
              ? standing(region, key, entry.metadata)
              : outcome
        })
        return all(outcomes)
      })
      return done
    },
  }

  /** Where no ledger refuses a late fill, its value is judged once more after it was stored. */
  function standing(of: Configured, key: string, metadata: Metadata): MaybePromise<FillResult> {
    const byLedger =
      metadata.snapshot === undefined || tracker === undefined ? 'fresh' : tracker.validate(metadata.snapshot)
    return andThen(byLedger, (one) =>
      andThen(of.invalidator?.judge(metadata.startedAt, key) ?? 'fresh', (other) =>
        one === 'fresh' && other === 'fresh' ? 'stored' : 'refused',
      ),
    )
  }
}

function freshness(region: Configured, metadata: Metadata, expiration: number | undefined): number {
  const own = metadata.expiresIn ?? region.expiration
  if (expiration === undefined) return own
  return own === Number.POSITIVE_INFINITY ? expiration : Math.max(expiration, own)
}

/** Runs the creator as of a moment that was taken before, and makes entries of what it returns. */
async function runCreator(
  region: Configured,
  plan: CreationPlan,
  keys: readonly string[],
  signal: AbortSignal,
  leases: readonly Pick<Granted, 'asOf'>[] = [],
): Promise<Created[]> {
  const { precise, tracker } = region
  const asOf = timeOf(leases) ?? (await tracker?.asOf([region.own]))
  const startedAt = stamp(precise.now())
  const collector = asOf && collectDependencies(asOf, [region.own])
  const tracked = tracker?.tracksDependencies === true
  const apart = new Map<string, string[]>()
  let known: ReadonlySet<string> | undefined
  let expiresIn: number | undefined
  let untracked = false
  const creation: Creation = {
    key: keys[0] as string,
    keys,
    startedAt,
    signal,
    expireIn(duration) {
      expiresIn = milliseconds(duration, 'expireIn')
    },
    dependsOn(key, names) {
      const list = listNames(names, false)
      refuseVersions(list)
      if (!tracked) throw notTracked(key)
      if (!(known ??= new Set(keys)).has(key))
        throw new CorralError(
          'ERR_KEY',
          `Expected one of the keys of this creation, got ${formatValue(key)}. See creation.keys.`,
        )
      apart.set(key, [...(apart.get(key) ?? []), ...list])
    },
  }
  const scope = currentScope()
  const run = () => plan.create(keys, creation)
  const began = performance.now()
  let outcome: 'made' | 'failed' = 'failed'
  let failure: unknown
  try {
    const values = await (scope === undefined
      ? run()
      : runCollecting(scope, tracked ? collector : undefined, () => (untracked = true), run))
    if (!Array.isArray(values) || values.length !== keys.length)
      throw new CorralError(
        'ERR_BATCH_LENGTH',
        `Expected the creator of ${keys.length} keys to return an array of ${keys.length} values in their order, got ${
          Array.isArray(values) ? `${values.length} values` : formatValue(values)
        }. Answer NO_VALUE for a key that has none.`,
      )
    outcome = 'made'
    const createdAt = precise.now()
    const together = collector?.snapshot()
    const until = collector?.expiresAt() ?? Number.POSITIVE_INFINITY
    const limit = expiresIn ?? plan.expiration ?? region.expiration
    // A parent lives no longer than what it was made from; made from something stale it is stale at once.
    const shortened = until < createdAt + limit ? Math.max(until - createdAt, 1) : expiresIn
    return values.map((payload: unknown, i): Created => {
      const own = apart.get(keys[i] as string)
      const gathered = own === undefined ? together : collector?.snapshot(own)
      return {
        entry: {
          payload,
          metadata: {
            startedAt,
            createdAt,
            ...(shortened !== undefined && { expiresIn: shortened }),
            ...(gathered !== undefined && 'snapshot' in gathered && { snapshot: gathered.snapshot }),
            ...(until <= createdAt && { stale: true }),
            ...(untracked && { untracked }),
          },
        },
        withheld: payload === NO_VALUE ? 'the creator answered NO_VALUE' : gathered?.unstorable,
      }
    })
  } catch (error) {
    failure = error
    throw error
  } finally {
    report('create', () => ({
      region: region.name,
      keys,
      milliseconds: performance.now() - began,
      outcome,
      ...(outcome === 'failed' && { error: failure }),
    }))
  }
}

/** The earliest time that came with the leases: nothing that the creator reads is older. */
function timeOf(leases: readonly Pick<Granted, 'asOf'>[]): LedgerTime | undefined {
  let earliest: LedgerTime | undefined
  for (const { asOf } of leases) {
    if (asOf === undefined || (earliest !== undefined && earliest.epoch !== asOf.epoch)) return undefined
    if (earliest === undefined || asOf.at < earliest.at) earliest = asOf
  }
  return earliest
}
