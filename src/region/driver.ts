import type { Outcome, Write } from '../backend/backend.js'
import { type CachedValue, type Metadata, NO_VALUE } from '../backend/cached-value.js'
import { type Acquired, type FailureOptions, type LeaseFailure, mapAcquired } from '../backend/lease.js'
import { type Origin, report } from '../base/diagnostics.js'
import { expectSync } from '../base/expect-sync.js'
import { all, andThen, ignoreRejection, type MaybePromise } from '../base/maybe-promise.js'
import type { HandUp } from '../creation/scope.js'
import { softInvalidatedAt } from '../dependencies/tracking-layer.js'
import type { DogpileDriver, FillResult, LeasedKey, Lookup } from '../dogpile/types.js'
import { graceLeft, longestFresh, physicalLifetime } from '../freshness/freshness.js'
import { namesOf } from '../ledger/snapshot.js'
import { mayFallBack } from './policy.js'
import type { Failure } from './remembered-errors.js'
import { type CreationStart, runCreator } from './run-creator.js'
import { countLookup, countRead, countShared, MISSING, toLookup } from './serve.js'
import type { Created, CreationPlan, RegionState } from './state.js'
import { originOf } from './stats.js'
import { writeStored } from './write.js'

const REASONS = {
  lost: 'its lease was revoked, was stolen or has expired',
  refused: 'something that it was made from was invalidated, or is changed by a transaction',
} as const

type Leases = readonly LeasedKey<Created>[]
type Fill = readonly [key: string, created: Created, token: string]

/**
 * The dogpile's driver over a region's backend.
 * @param key - the one key of a creation, with the key under which the store knows it: it is mapped once for all steps
 */
export function driverOf(
  region: RegionState,
  plan: CreationPlan,
  key?: string,
  stored?: string,
): RegionDriver {
  return new RegionDriver(region, plan, key, stored)
}

/** A class, because most misses need one driver each. */
export class RegionDriver implements DogpileDriver<Created> {
  readonly #region: RegionState
  readonly #plan: CreationPlan
  readonly #key: string | undefined
  readonly #stored: string | undefined
  readonly #start: CreationStart = { at: undefined }
  readonly #generation: number
  /** Its next request for a lease is the first read of the key. */
  isUnread = false
  /** How many other callers share that read. */
  sharing = 0
  /** The entry that came instead of a lease. */
  brought: CachedValue | undefined
  /** Keys without a value that stands, whose creation failed. */
  #failures: Map<string, Failure> | undefined

  constructor(region: RegionState, plan: CreationPlan, key: string | undefined, stored: string | undefined) {
    this.#region = region
    this.#plan = plan
    this.#key = key
    this.#stored = stored
    this.#generation = region.errors.generation
  }

  get origin(): Origin {
    return originOf(this.#region)
  }

  get abandonAfter(): number {
    return this.#plan.policy.abandonAfter
  }

  #keyOf(key: string): string {
    return key === this.#key && this.#stored !== undefined ? this.#stored : this.#region.keyOf(key)
  }

  #lookup(key: string, entry: CachedValue | undefined): MaybePromise<Lookup<Created>> {
    return entry === undefined ? MISSING : toLookup(this.#region, key, entry, this.#plan)
  }

  /** Past a near cache: a dogpile reads again because the store may have a newer value. */
  read(keys: readonly string[]): MaybePromise<readonly Lookup<Created>[]> {
    const { near } = this.#region.stored
    return near === undefined ? this.#readStored(keys) : near.beyond(() => this.#readStored(keys))
  }

  #readStored(keys: readonly string[]): MaybePromise<readonly Lookup<Created>[]> {
    const { stored } = this.#region
    const [key, ...more] = keys
    if (key !== undefined && more.length === 0)
      return andThen(stored.get(this.#keyOf(key)), (entry) =>
        andThen(this.#lookup(key, entry), (found) => [found]),
      )
    return andThen(stored.getMulti(Object.freeze(keys.map((one) => this.#keyOf(one)))), (entries) =>
      all(entries.map((entry, i) => this.#lookup(keys[i] as string, entry))),
    )
  }

  acquire(key: string, steal: boolean, overFailed?: number): MaybePromise<Acquired<Lookup<Created>>> {
    const { stored, leaseMs, tracker, ownNames } = this.#region
    const names = tracker && ownNames
    const ifAbsent = this.isUnread
    this.isUnread = false
    const how = { steal, overFailed, ifAbsent, names }
    return andThen(stored.acquire(this.#keyOf(key), leaseMs, how), (acquired) => {
      if (ifAbsent) {
        if (acquired.token === '') {
          countLookup(this.#region, false)
          this.brought = acquired.found
          return { token: '', found: undefined }
        }
        countRead(this.#region, key, 'invalid')
        countShared(this.#region, key, this.sharing, MISSING)
      }
      return mapAcquired(
        acquired,
        ({ found }) => this.#lookup(key, found),
        (entry) => this.#lookup(key, entry),
      )
    })
  }

  renew(key: string, token: string): MaybePromise<boolean> {
    return this.#region.stored.renew(this.#keyOf(key), token, this.#region.leaseMs)
  }

  release(key: string, token: string, failedFor?: number): MaybePromise<boolean> {
    const failure: FailureOptions | undefined =
      failedFor === undefined ? undefined : { failedFor, failedAsOf: this.#start.at }
    const { stored, errors } = this.#region
    return andThen(stored.release(this.#keyOf(key), token, failure), (released) => {
      // A lease that was lost says that an invalidation came in between: the next caller tries.
      const failed = this.#failures?.get(key)
      if (released && failed && this.#generation === errors.generation)
        errors.remember(key, failed, this.#plan.policy.errorsFor)
      return released
    })
  }

  failed(found: Lookup<Created>, error: unknown, key: string, isGivenUp: boolean, handUp?: HandUp): number {
    const { policy, expiration: wish } = this.#plan
    const region = this.#region
    if (found.state === 'missing') {
      if (policy.errorsFor > 0) (this.#failures ??= new Map()).set(key, { error, handUp })
      return 0
    }
    if (
      (found.state === 'fresh' && !this.#plan.isAhead) ||
      !(isGivenUp || mayFallBack(region, this.#plan, error))
    )
      return 0
    const { metadata } = found.value.entry
    const { grace, jitter } = policy
    const left = graceLeft(metadata, wish, region.expiration, grace, region.precise.now(), jitter)
    // A softly invalidated value may be so new that its grace has no end.
    return Math.max(0, Math.min(policy.retryAfter, left))
  }

  abandoned(): void {
    this.#start.abandon?.()
  }

  isOvertaken(
    key: string,
    { entry: { metadata } }: Created,
    { failedAsOf }: LeaseFailure,
    remaining: number,
  ): MaybePromise<boolean> {
    const { invalidator, tracker, precise } = this.#region
    if (failedAsOf === undefined) return false
    const byLedger = () => this.#isOvertakenByLedger(metadata, failedAsOf)
    if (invalidator === undefined) return byLedger()
    // The ledger's time says nothing to a strategy: it is asked about the time of the failure.
    const at = tracker === undefined ? failedAsOf : precise.now() + remaining - this.#plan.policy.retryAfter
    return andThen(invalidator.judge(at, key), (freshness) => freshness !== 'fresh' || byLedger())
  }

  #isOvertakenByLedger(metadata: Metadata, failedAsOf: number): MaybePromise<boolean> {
    const { tracker } = this.#region
    const { snapshot } = metadata
    // An entry that merely expired was not invalidated.
    if (metadata.stale !== true || snapshot === undefined || tracker === undefined) return false
    const at = softInvalidatedAt(metadata)
    if (at !== undefined) return at > failedAsOf
    const since = { epoch: snapshot.epoch, groups: [{ asOf: failedAsOf, names: namesOf(snapshot) }] }
    return andThen(tracker.validate(since), (freshness) => freshness !== 'fresh')
  }

  create(keys: readonly string[], signal: AbortSignal, leases?: Leases): MaybePromise<Created[]> {
    return runCreator(this.#region, this.#plan, keys, () => signal, this.#start, leases)
  }

  createLazily(
    keys: readonly string[],
    signalOf: () => AbortSignal,
    leases: Leases,
  ): MaybePromise<Created[]> {
    return runCreator(this.#region, this.#plan, keys, signalOf, this.#start, leases)
  }

  /** Stores the values that may be stored, and releases the leases of the others. */
  fill(fills: readonly Fill[]): MaybePromise<readonly FillResult[]> {
    const region = this.#region
    const writes: Write<CachedValue>[] = []
    for (const [key] of fills) region.errors.forget(key)
    const withheld = fills.map((one) => {
      const reason = reasonAgainst(this.#plan, one)
      if (reason === undefined) {
        writes.push(this.#writeOf(one))
        return undefined
      }
      // NO_VALUE says that there is nothing to store, so nothing was kept out.
      if (one[1].entry.payload !== NO_VALUE) reportUnstored(region, one[0], reason)
      return ignoreRejection(withhold(region, this.#keyOf(one[0]), one))
    })
    return andThen(writeStored(region, writes), (outcomes) => {
      let next = 0
      return all(
        fills.map(
          (one, i): MaybePromise<FillResult> =>
            withheld[i] ?? outcomeOf(region, one, outcomes[next++] as Outcome),
        ),
      )
    })
  }

  #writeOf([key, { entry }, token]: Fill): Write<CachedValue> {
    const fresh = longestFresh(entry.metadata, this.#plan.expiration, this.#region.expiration)
    const { ttl } = physicalLifetime(fresh, entry.metadata.standsFor ?? this.#plan.policy.grace)
    return [this.#keyOf(key), entry, ttl === undefined ? { token } : { ttl, token }]
  }
}

/** Why a value is not to be stored. */
function reasonAgainst({ shouldCache }: CreationPlan, [key, created]: Fill): string | undefined {
  const { entry, withheld } = created
  if (withheld !== undefined || shouldCache === undefined) return withheld
  const wanted = expectSync('`shouldCache`', shouldCache(entry.payload as never, key))
  return wanted ? undefined : 'shouldCache said no'
}

function reportUnstored(region: RegionState, key: string, reason: string): void {
  report('unstored', () => ({ ...originOf(region), key, reason }))
}

function outcomeOf(region: RegionState, [key, { entry }]: Fill, outcome: Outcome): MaybePromise<FillResult> {
  const { invalidator } = region
  if (outcome === 'lost' || outcome === 'refused') reportUnstored(region, key, REASONS[outcome])
  return outcome === 'stored' && invalidator !== undefined
    ? stillStands(region, key, entry.metadata)
    : outcome
}

/** A value that is not stored may be shared only if nothing invalidated it during its creation. */
async function withhold(
  region: RegionState,
  stored: string,
  [key, { entry, isOwn }, token]: Fill,
): Promise<FillResult> {
  try {
    const released = await region.stored.release(stored, token)
    if (isOwn) return 'own'
    if (!released) return 'lost'
    // Without a snapshot an invalidation may have gone unseen: only callers that asked before the creation may have it.
    if (region.tracker !== undefined && entry.metadata.snapshot === undefined) return 'refused'
    return (await stillStands(region, key, entry.metadata)) === 'stored' ? 'withheld' : 'refused'
  } catch (error) {
    // The caller may still have the value that was created for it.
    region.releases.failed(() => ({ where: 'release', ...originOf(region), key, error }))
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
