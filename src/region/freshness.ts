import type { Backend } from '../backend/backend.js'
import { type CachedValue, NO_VALUE, type NoValue } from '../backend/cached-value.js'
import type { Tracker } from '../backend/tracker.js'
import { backendError } from '../backend/typed-failures.js'
import type { Clock } from '../base/clock.js'
import { diagnostics, reportUndecodable } from '../base/diagnostics.js'
import { andThen, isPromise, type MaybePromise } from '../base/maybe-promise.js'
import { currentScope, forbidTracking } from '../creation/scope.js'
import { recordTransactionRead, type Transaction } from '../creation/transaction.js'
import type { Creation } from '../creation/types.js'
import type { Dogpile, Lookup } from '../dogpile/types.js'
import { outdated } from '../ledger/checked-names.js'
import type { Freshness } from '../ledger/ledger.js'
import type { RegionInvalidator } from './region-invalidator.js'

/** What a creation made: the entry, and whether it may be stored. */
export interface Created {
  readonly entry: CachedValue
  readonly withheld?: string | undefined
}

/** A configured region, validated: everything that its operations need. */
export interface Configured {
  readonly name: string | undefined
  /** The name by which everything in the region is invalidated. */
  readonly own: string
  /** The chain with its failures typed. */
  readonly backend: Backend<CachedValue>
  /** The chain as it is: single reads type their failures themselves, which spares hits a layer. */
  readonly chain: Backend<CachedValue>
  readonly tracker: Tracker | undefined
  readonly invalidator: RegionInvalidator | undefined
  readonly expiration: number
  /** For hits: may stand still while only microtasks run. */
  readonly clock: Clock
  /** For stamps. */
  readonly precise: Clock
  readonly leaseMs: number
  readonly dogpile: Dogpile<Created>
}

/** What a creation is told to do, already validated. */
export interface CreationPlan {
  readonly create: (keys: readonly string[], creation: Creation) => MaybePromise<readonly unknown[]>
  readonly expiration: number | undefined
  readonly shouldCache: ((value: never, key: string) => boolean) | undefined
}

const MISSING = { state: 'missing' } as const
const reads = diagnostics('read')

/** Whether an entry is fresh, stale or as good as missing, by its age and by what was invalidated. */
export function freshnessOf(
  region: Configured,
  key: string,
  found: CachedValue | undefined,
  expiration: number | undefined,
): MaybePromise<Freshness> {
  if (found === undefined) return 'invalid'
  // The least that tells a cached value from what a foreign writer left: this runs on every hit.
  const metadata = (found as CachedValue | null)?.metadata
  if (typeof metadata?.createdAt !== 'number' || typeof metadata.startedAt !== 'number') {
    reportUndecodable(region.backend.name, key, 'not a cached value')
    return 'invalid'
  }
  const limit = expiration ?? metadata.expiresIn ?? region.expiration
  const stale =
    metadata.stale === true ||
    (limit !== Number.POSITIVE_INFINITY && region.clock.now() - metadata.createdAt > limit)
  if (region.invalidator === undefined) return stale ? 'stale' : 'fresh'
  return andThen(region.invalidator.judge(metadata.startedAt, key), (verdict) =>
    verdict === 'fresh' && stale ? 'stale' : verdict,
  )
}

/** Whether an entry may be served without another thought: what nearly every hit comes down to. */
export function isFreshHit(
  region: Configured,
  found: CachedValue | Promise<CachedValue | undefined> | undefined,
  expiration: number | undefined,
): found is CachedValue {
  const metadata = (found as CachedValue | null | undefined)?.metadata
  if (!metadata || region.invalidator !== undefined || metadata.stale === true) return false
  const limit = expiration ?? metadata.expiresIn ?? region.expiration
  return limit === Number.POSITIVE_INFINITY
    ? typeof metadata.createdAt === 'number'
    : region.clock.now() - metadata.createdAt <= limit
}

/** A look at the store in the dogpile's terms. */
export function toLookup(
  region: Configured,
  key: string,
  entry: CachedValue | undefined,
  expiration: number | undefined,
): MaybePromise<Lookup<Created>> {
  return andThen(freshnessOf(region, key, entry, expiration), (freshness) =>
    freshness === 'invalid' ? MISSING : { state: freshness, value: { entry: entry as CachedValue } },
  )
}

/**
 * The entry goes to a caller: a creation around that caller is now made from it too.
 * @param inside - the transaction in which it was made, if it was
 */
export function recordRead(
  region: Configured,
  key: string,
  entry: CachedValue,
  stale: boolean,
  expiration: number | undefined,
  inside?: Transaction,
): void {
  const scope = currentScope()
  if (scope === undefined) return
  const { collector } = scope
  const { snapshot, createdAt, expiresIn, untracked } = entry.metadata
  const explicit = region.tracker?.tracksDependencies ?? false
  // The region in between hands nothing up: what is made further out would not hear of an invalidation.
  if (untracked === true || (collector === undefined && explicit))
    forbidTracking(scope, `it was made from '${key}' through a region that does not track dependencies`)
  if (collector === undefined) return
  recordTransactionRead(inside, collector)
  if (snapshot === undefined) {
    if (explicit) collector.forbidStoring(`it was made from '${key}', which has no snapshot`)
    return
  }
  collector.inherit(snapshot, explicit, inside)
  const limit = expiration ?? expiresIn ?? region.expiration
  collector.limitLifetime(stale ? 0 : createdAt + limit)
}

/** Whether a caller may have what another one made or found: its session may know another version. */
export function matchesSession({ entry }: Created): MaybePromise<boolean> {
  const versions = entry.metadata.snapshot?.versions
  return versions === undefined || andThen(outdated(versions), ({ length }) => length === 0)
}

/** How long the store keeps a value: twice as long as it is fresh, and at least a minute more, to be served stale. */
export function physicalLifetime(freshFor: number): { readonly ttl?: number } {
  return freshFor === Number.POSITIVE_INFINITY ? {} : { ttl: freshFor + Math.max(freshFor, 60_000) }
}

/** Reads one entry and hands its payload out if it is fresh enough. */
export function serve<V>(
  region: Configured,
  key: string,
  found: CachedValue | undefined,
  expiration: number | undefined,
  staleToo: boolean,
): MaybePromise<V | NoValue> {
  const freshness = freshnessOf(region, key, found, expiration)
  return isPromise(freshness)
    ? freshness.then((later) => serveJudged<V>(region, key, found, expiration, staleToo, later))
    : serveJudged<V>(region, key, found, expiration, staleToo, freshness)
}

function serveJudged<V>(
  region: Configured,
  key: string,
  found: CachedValue | undefined,
  expiration: number | undefined,
  staleToo: boolean,
  freshness: Freshness,
): V | NoValue {
  const served = freshness === 'fresh' || (freshness === 'stale' && staleToo)
  if (reads.hasSubscribers)
    reads.publish({
      region: region.name,
      key,
      result: freshness === 'fresh' ? 'hit' : freshness === 'stale' ? 'stale' : 'miss',
    })
  if (!served) return NO_VALUE
  recordRead(region, key, found as CachedValue, freshness === 'stale', expiration)
  return (found as CachedValue).payload as V
}

/** A hit: the entry goes to a caller. */
export function serveHit<T>(
  region: Configured,
  key: string,
  entry: CachedValue,
  limit: number | undefined,
): T {
  if (reads.hasSubscribers) reads.publish({ region: region.name, key, result: 'hit' })
  recordRead(region, key, entry, false, limit)
  return entry.payload as T
}

/** A single read of the chain, its failures typed. */
export function readOne({ chain }: Configured, key: string): MaybePromise<CachedValue | undefined> {
  try {
    return chain.get(key)
  } catch (error) {
    throw backendError(chain.name, error)
  }
}
