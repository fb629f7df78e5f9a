/** From a stored entry to a caller: is it fresh, may the caller have it, and which creation depends on it. */
import { type CachedValue, type Metadata, NO_VALUE, type NoValue } from '../backend/cached-value.js'
import { discard, isBlind, isCopy, type NearCache, restore, tierOf } from '../backend/near-cache.js'
import { backendError } from '../backend/typed-failures.js'
import { diagnostics, type Messages, reportUndecodable } from '../base/diagnostics.js'
import { all, andThen, isPromise, type MaybePromise, orElse } from '../base/maybe-promise.js'
import { currentScope, forbidTracking, type Scope } from '../creation/scope.js'
import { recordTransactionRead, type Transaction } from '../creation/transaction.js'
import type { Lookup } from '../dogpile/types.js'
import { freshFor, freshnessByAge } from '../freshness/freshness.js'
import { outdated } from '../ledger/checked-names.js'
import type { Freshness } from '../ledger/ledger.js'
import type { Policy } from './policy.js'
import type { Created, ReadTerms, RegionState } from './state.js'
import { originOf } from './stats.js'

const RESULTS = { fresh: 'hit', stale: 'stale', invalid: 'miss' } as const
type ReadResult = (typeof RESULTS)[Freshness]
/** No entry, in the dogpile's terms. */
export const MISSING = { state: 'missing' } as const
const reads = diagnostics('read')

/**
 * Reads one entry by its key in the chain, with failures typed; those of a promise by `whenRead`.
 * @param within - ms by which an invalidation of another process may be late, if the chain has a near cache
 */
export function readOne(
  { chain }: RegionState,
  key: string,
  within?: number,
): MaybePromise<CachedValue | undefined> {
  try {
    const { near } = chain
    // Nearly every read ends here, without a function for it.
    if (near === undefined || (within === undefined && currentScope() === undefined)) return chain.get(key)
    return readWithin(near, [key], within, () => chain.get(key))
  } catch (error) {
    throw backendError(chain.name, error)
  }
}

/** Runs a read of keys. Inside a creator no copy is served that was not proved since: its value is stored as fresh. */
function readWithin<R>(
  near: NearCache,
  keys: readonly string[],
  within: number | undefined,
  read: () => MaybePromise<R>,
): MaybePromise<R> {
  const bound = currentScope() === undefined ? within : 0
  if (bound === undefined || bound >= near.maxStaleness) return read()
  return near.proved(keys, read, bound)
}

/** The entry to go on with. The store may have a newer value than a copy that is not fresh. */
export function newest(
  region: RegionState,
  key: string,
  stored: string,
  entry: CachedValue | undefined,
  terms: ReadTerms,
): MaybePromise<CachedValue | undefined> {
  return andThen(mayStand(region, key, entry, terms), (stands) =>
    stands ? entry : readPast([entry], () => region.chain.get(stored)),
  )
}

/** Reads the store past copies that were discarded. If it fails they stay, for a near cache that serves them while it is away. */
function readPast<R>(
  copies: readonly (CachedValue | undefined)[],
  read: () => MaybePromise<R>,
): MaybePromise<R> {
  return orElse(read, (error) => {
    for (const copy of copies) if (copy !== undefined) restore(copy)
    throw error
  })
}

/** Whether an entry is no copy, or a fresh one. Another copy is discarded. */
function mayStand(
  region: RegionState,
  key: string,
  entry: CachedValue | undefined,
  terms: ReadTerms,
): MaybePromise<boolean> {
  if (!isCopy(entry) || isBlind(entry) || isFreshHit(region, entry, terms.expiration, terms.policy.jitter))
    return true
  return andThen(freshnessOf(region, key, entry, terms), (freshness) => {
    if (freshness !== 'fresh') discard(entry)
    return freshness === 'fresh'
  })
}

/** Reads many entries, as `readOne` and `newest` do one. */
export function readMulti(
  region: RegionState,
  keys: readonly string[],
  terms: ReadTerms,
): MaybePromise<readonly (CachedValue | undefined)[]> {
  const { near } = region.chain
  const { stored, keyOf } = region
  if (near === undefined) return region.backend.getMulti(keys)
  const mapped = Object.freeze(keys.map(keyOf))
  return andThen(
    readWithin(near, mapped, terms.within, () => stored.getMulti(mapped)),
    (entries) =>
      andThen(all(entries.map((one, i) => mayStand(region, keys[i] as string, one, terms))), (stand) => {
        const old = [...entries.keys()].filter((i) => !stand[i])
        if (old.length === 0) return entries
        const past = readPast(
          old.map((i) => entries[i]),
          () => stored.getMulti(Object.freeze(old.map((i) => mapped[i] as string))),
        )
        return andThen(past, (newer) => {
          const found = [...entries]
          old.forEach((i, at) => {
            found[i] = newer[at]
          })
          return found
        })
      }),
  )
}

/** Continues with the result of `readOne`. */
export function whenRead<R>(
  { chain, calling }: RegionState,
  found: MaybePromise<CachedValue | undefined>,
  next: (entry: CachedValue | undefined) => MaybePromise<R>,
): MaybePromise<R> {
  if (!isPromise(found)) return calling.count(next(found))
  calling.begin()
  return found.then(
    (entry) => {
      try {
        return calling.count(next(entry))
      } finally {
        calling.end()
      }
    },
    (error) => {
      calling.end()
      throw backendError(chain.name, error)
    },
  )
}

/** Whether an entry may be served without asking further, as nearly every hit may. */
export function isFreshHit(
  region: RegionState,
  found: CachedValue | Promise<CachedValue | undefined> | undefined,
  expiration: number | undefined,
  jitter?: number,
): found is CachedValue {
  const metadata = (found as CachedValue | null | undefined)?.metadata
  if (!metadata || region.invalidator !== undefined || metadata.stale === true) return false
  const limit =
    expiration === undefined
      ? (metadata.expiresIn ?? region.expiration)
      : freshFor(metadata, expiration, region.expiration, jitter ?? region.policy.jitter)
  if (limit === Number.POSITIVE_INFINITY) return typeof metadata.createdAt === 'number'
  const age = region.clock.now() - metadata.createdAt
  return age >= 0 && age <= limit
}

/** The payload of a fresh hit. */
export function serveHit<T>(
  region: RegionState,
  key: string,
  entry: CachedValue,
  expiration: number | undefined,
  jitter = region.policy.jitter,
): T {
  countHit(region.counters, entry)
  if (reads.hasSubscribers) publishRead(region, key, 'hit', entry)
  if (currentScope() !== undefined) recordRead(region, key, entry, { expiration, policy: { jitter } }, false)
  return entry.payload as T
}

function countHit(counters: RegionState['counters'], entry: CachedValue | undefined): void {
  counters.hits++
  // Cheaper than `isCopy`, and only copies have a mark.
  if (entry?.metadata.near !== undefined) counters.nearHits++
}

/** Lookups of one key after which the share of absent keys counts mostly those. */
const RECENT = 8

/** Learns whether keys are usually absent. */
export function countLookup({ counters }: RegionState, isAbsent: boolean): void {
  counters.absent += ((isAbsent ? 1 : 0) - counters.absent) / RECENT
}

/** Counts and reports the result of a read. */
export function countRead(
  region: RegionState,
  key: string,
  freshness: Freshness,
  entry?: CachedValue,
  terms = region.terms,
): void {
  const { counters } = region
  if (freshness === 'fresh') countHit(counters, entry)
  else if (freshness === 'stale') counters.stale++
  else counters.misses++
  if (!reads.hasSubscribers) return
  const why = freshness === 'stale' && entry !== undefined ? whyStale(region, entry, terms) : undefined
  publishRead(region, key, RESULTS[freshness], entry, why)
}

/** Counts callers that share what another one read or creates. */
export function countShared(region: RegionState, key: string, callers: number, found: Lookup<Created>): void {
  if (found.state === 'missing') region.counters.joined += callers
  while (callers-- > 0) countRead(region, key, freshnessIn(found), found.value?.entry)
}

export function freshnessIn({ state }: Lookup<Created>): Freshness {
  return state === 'missing' ? 'invalid' : state
}

/** Counts a read that found a stale value. It is reported when it is known which value the caller got, and why. */
export function countStale(
  region: RegionState,
  key: string,
  entry: CachedValue,
  terms: ReadTerms,
): (why?: StaleReason) => void {
  region.counters.stale++
  return (why = whyStale(region, entry, terms)) => {
    if (reads.hasSubscribers) publishRead(region, key, 'stale', entry, why)
  }
}

export type StaleReason = NonNullable<Messages['read']['reason']>

/** Why a stale value is served to which no caller may create a newer one now. `undefined`: one may. */
export function withoutCreation({ breaker }: RegionState, entry: CachedValue): StaleReason | undefined {
  if (isBlind(entry)) return 'blind'
  return breaker?.refuses() ? 'error' : undefined
}

/** An entry may have expired and be marked as well. */
function whyStale(region: RegionState, entry: CachedValue, { expiration, policy }: ReadTerms): StaleReason {
  if (isBlind(entry)) return 'blind'
  const { metadata } = entry
  const fresh = freshFor(metadata, expiration, region.expiration, policy.jitter)
  return nowFor(region, metadata) - metadata.createdAt > fresh ? 'expired' : 'soft'
}

function publishRead(
  region: RegionState,
  key: string,
  result: ReadResult,
  entry: CachedValue | undefined,
  reason?: StaleReason,
): void {
  const tier = result === 'miss' ? {} : tierOf(region.chain.near, entry)
  reads.publish({
    ...originOf(region),
    key,
    result,
    ...(reason !== undefined && { reason }),
    ...tier,
  })
}

/** The payload of an entry, if it is fresh enough. @param isCounted - false for a key that stands in a list again */
export function serve<V>(
  region: RegionState,
  key: string,
  found: CachedValue | undefined,
  terms: ReadTerms,
  isCounted = true,
): MaybePromise<V | NoValue> {
  return andThen(freshnessOf(region, key, found, terms), (freshness) => {
    if (isCounted) countRead(region, key, freshness, found, terms)
    if (freshness === 'invalid' || (freshness === 'stale' && terms.staleToo !== true)) return NO_VALUE
    recordRead(region, key, found as CachedValue, terms, freshness === 'stale')
    return (found as CachedValue).payload as V
  })
}

/** Whether an entry is fresh, stale or invalid, by its age and by invalidations. */
export function freshnessOf(
  region: RegionState,
  key: string,
  found: CachedValue | undefined,
  terms: ReadTerms,
): MaybePromise<Freshness> {
  if (found === undefined) return 'invalid'
  // The cheapest test that tells a cached value from a foreign one: it runs on every read.
  const metadata = (found as CachedValue | null)?.metadata
  if (typeof metadata?.createdAt !== 'number' || typeof metadata.startedAt !== 'number') {
    reportUndecodable(region.backend.name, key, 'not a cached value')
    return 'invalid'
  }
  const { grace } = terms.policy
  const byAge = ageOf(region, metadata, terms)
  if (region.invalidator === undefined || byAge === 'invalid') return byAge
  return andThen(region.invalidator.judge(metadata.startedAt, key), (verdict) => {
    if (verdict === 'stale' && (grace === 0 || metadata.standsFor === 0)) return 'invalid'
    return verdict === 'fresh' ? byAge : verdict
  })
}

/** Whether an entry is fresh, stale or gone by its age, within the limits of a caller. */
export function ageOf(
  region: RegionState,
  metadata: Metadata,
  { expiration, policy: { grace, jitter } }: ReadTerms,
): Freshness {
  return freshnessByAge(metadata, expiration, region.expiration, grace, nowFor(region, metadata), jitter)
}

/** The time at which to judge an entry. The clock of hits may stand behind the moment at which the entry was created. */
function nowFor({ clock, precise }: RegionState, { createdAt }: Metadata): number {
  const now = clock.now()
  return now < createdAt ? precise.now() : now
}

/** A stored entry in the dogpile's terms. */
export function toLookup(
  region: RegionState,
  key: string,
  entry: CachedValue | undefined,
  terms: ReadTerms,
): MaybePromise<Lookup<Created>> {
  return andThen(freshnessOf(region, key, entry, terms), (freshness): Lookup<Created> => {
    if (freshness === 'invalid') return MISSING
    const value = { entry: entry as CachedValue }
    // Nothing in the entry itself may say that its region was invalidated softly.
    return { state: freshness, value: freshness === 'fresh' ? value : { ...value, isStale: true } }
  })
}

/**
 * Records that a caller gets the entry: a creation around that caller depends on it from then on.
 * @param inside - the transaction in which the entry was created, if it was
 */
export function recordRead(
  region: RegionState,
  key: string,
  entry: CachedValue,
  {
    expiration,
    policy: { jitter },
  }: Pick<ReadTerms, 'expiration'> & { readonly policy: Pick<Policy, 'jitter'> },
  stale = entry.metadata.stale === true,
  inside?: Transaction,
): void {
  const scope = currentScope()
  if (scope === undefined) return
  const { metadata } = entry
  const fresh = freshFor(metadata, expiration, region.expiration, jitter)
  const left = stale ? 0 : metadata.createdAt + fresh - region.precise.now()
  inherit(scope, region, key, metadata, left, inside)
}

/**
 * Adds what a part of a creation depends on to that creation: of an entry that it read, or of another creation that failed.
 * @param left - ms for which the part stays fresh
 * @param inside - the transaction in which the part was created, if it was
 */
export function inherit(
  scope: Scope,
  region: RegionState,
  key: string,
  { snapshot, untracked }: { [one in 'snapshot' | 'untracked']?: Metadata[one] | undefined },
  left: number,
  inside: Transaction | undefined,
): void {
  const { collector } = scope
  const tracks = region.tracker?.tracksDependencies ?? false
  // A region in between that tracks nothing passes no dependencies on, so an outer creation would miss an invalidation.
  if (untracked === true || (collector === undefined && tracks))
    forbidTracking(scope, `it was made from '${key}' through a region that does not track dependencies`)
  if (collector === undefined) return
  recordTransactionRead(inside, collector)
  if (snapshot === undefined) {
    if (tracks) collector.forbidStoring(`it was made from '${key}', which has no snapshot`)
    return
  }
  collector.inherit(snapshot, tracks, inside)
  collector.limitLifetime(left)
}

/** The payload for a caller that shares a creation. A store that copies its values gives each caller a copy there too. */
export function sharedPayload<T>({ backend }: RegionState, { entry }: Created): T {
  return (backend.copyOut === undefined ? entry : backend.copyOut(entry)).payload as T
}

/** Whether a caller may have an entry that another caller created or found: its session may know another version. */
export function matchesSession({ entry }: Created): MaybePromise<boolean> {
  const versions = entry.metadata.snapshot?.versions
  return versions === undefined || andThen(outdated(versions), ({ length }) => length === 0)
}
