import type { Backend, Outcome, Write } from './backend.js'
import { type CachedValue, isCachedValue, type Metadata, NO_VALUE, type NoValue } from './cached-value.js'
import { type Clock, stamp } from './clock.js'
import { untracked } from './dependencies/depends-on.js'
import { checkNames } from './dependencies/names.js'
import { outdated, refuseOpen } from './dependencies/versions.js'
import { diagnostics, report, reportUndecodable } from './diagnostics.js'
import type { Dogpile, Found, Steps } from './dogpile-types.js'
import { milliseconds } from './duration.js'
import { CorralError, shown } from './errors.js'
import type { Filled } from './flight.js'
import { type Gathering, gather } from './gathering.js'
import type { RegionInvalidator } from './invalidation.js'
import type { Freshness, Tracker } from './ledger.js'
import { all, andThen, handled, isPromise, type MaybePromise } from './maybe-promise.js'
import type { Creation } from './region-types.js'
import { currentScope, enterScope, type Scope } from './scope.js'

/** What a creation made: the entry, and whether it may be stored. */
export interface Made {
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
  readonly pile: Dogpile<Made>
}

/** What a creation is told to do, already validated. */
export interface Plan {
  readonly create: (keys: readonly string[], creation: Creation) => MaybePromise<readonly unknown[]>
  readonly expiration: number | undefined
  readonly shouldCache: ((value: never, key: string) => boolean) | undefined
}

const MISSING = { state: 'missing' } as const
const reads = diagnostics('read')

/** Whether an entry is fresh, stale or as good as missing, by its age and by what was invalidated. */
export function assess(
  region: Configured,
  key: string,
  found: CachedValue | undefined,
  expiration: number | undefined,
): MaybePromise<Freshness> {
  if (found === undefined) return 'dead'
  // The least that tells a cached value from what a foreign writer left: this runs on every hit.
  const metadata = (found as CachedValue | null)?.metadata
  if (typeof metadata?.createdAt !== 'number' || typeof metadata.startedAt !== 'number') {
    reportUndecodable(region.backend.name, key, 'not a cached value')
    return 'dead'
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
export function plainlyFresh(
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
export function seen(
  region: Configured,
  key: string,
  entry: CachedValue | undefined,
  expiration: number | undefined,
): MaybePromise<Found<Made>> {
  return andThen(assess(region, key, entry, expiration), (freshness) =>
    freshness === 'dead' ? MISSING : { state: freshness, value: { entry: entry as CachedValue } },
  )
}

/** The entry goes to a caller: a creation around that caller is now made from it too. */
export function handOut(
  region: Configured,
  key: string,
  entry: CachedValue,
  stale: boolean,
  expiration: number | undefined,
): void {
  const scope = currentScope()
  if (scope === undefined) return
  const { gathering } = scope
  const { basis, createdAt, expiresIn } = entry.metadata
  const explicit = region.tracker?.explicit ?? false
  if (gathering === undefined) {
    // The region in between hands nothing up: what is made further out would not hear of an invalidation.
    if (explicit)
      outerGathering(scope)?.taint(
        `it was made from '${key}' through a region that does not track dependencies`,
      )
    return
  }
  if (basis === undefined) {
    if (explicit) gathering.taint(`it was made from '${key}', which has no basis`)
    return
  }
  gathering.handUp(basis, explicit)
  const limit = expiration ?? expiresIn ?? region.expiration
  gathering.liveUntil(stale ? 0 : createdAt + limit)
}

/**
 * A creation around the caller is made from something of a version.
 * @param name - `undefined`: the version cannot be asked for by a name, so the result must not be stored; `why` tells
 */
export function handUpVersion(name: string | undefined, why: string): void {
  const scope = currentScope()
  if (scope === undefined) return
  if (scope.gathering !== undefined && name !== undefined) scope.gathering.declare([name])
  else (scope.gathering ?? outerGathering(scope))?.taint(why)
}

/** Whether a caller may have what another one made or found: its session may know another version. */
export function suits({ entry }: Made): MaybePromise<boolean> {
  const versions = entry.metadata.basis?.versions
  return versions === undefined || andThen(outdated(versions), ({ length }) => length === 0)
}

function outerGathering(scope: Scope): Gathering | undefined {
  for (let outer = scope.parent; outer !== undefined; outer = outer.parent)
    if (outer.gathering !== undefined) return outer.gathering
  return undefined
}

/** How long the store keeps a value: twice as long as it is fresh, and at least a minute more, to be served stale. */
export function physicalLifetime(freshFor: number): { readonly ttl?: number } {
  return freshFor === Number.POSITIVE_INFINITY ? {} : { ttl: freshFor + Math.max(freshFor, 60_000) }
}

const REASONS = {
  lost: 'its lease was revoked, was stolen or has expired',
  refused: 'something that it was made from was invalidated',
} as const

/** The steps of a dogpile over a region's backend. */
export function stepsOf(region: Configured, plan: Plan): Steps<Made> {
  const { backend, tracker, invalidator, leaseMs } = region
  const { expiration, shouldCache } = plan

  /** What was not stored may be shared only if nothing invalidated it while it was made. */
  const keptBack = async (key: string, { entry }: Made, token: string): Promise<Filled> => {
    try {
      if (!(await backend.release(key, token))) return 'lost'
      // What no basis vouches for may have been invalidated unseen: only who asked before it was begun may have it.
      if (tracker !== undefined && entry.metadata.basis === undefined) return 'refused'
      return (await standing(region, key, entry.metadata)) === 'stored' ? 'kept' : 'refused'
    } catch (error) {
      // The caller may still have what was made for it.
      report('failure', () => ({ where: 'release', key, error }))
      return 'lost'
    }
  }
  const write = ([key, { entry }, token]: readonly [string, Made, string]): Write<CachedValue> => [
    key,
    entry,
    { ...physicalLifetime(freshness(region, entry.metadata, expiration)), token },
  ]

  return {
    look: (keys) => {
      if (keys.length === 1) {
        const [key] = keys as [string]
        return andThen(backend.get(key), (entry) =>
          andThen(seen(region, key, entry, expiration), (found) => [found]),
        )
      }
      return andThen(backend.getMulti(keys), (entries) =>
        all(entries.map((entry, i) => seen(region, keys[i] as string, entry, expiration))),
      )
    },
    acquire: (key, steal) => backend.acquire(key, leaseMs, { steal }),
    renew: (key, token) => backend.renew(key, token, leaseMs),
    release: (key, token) => backend.release(key, token),
    create: (keys, signal) => make(region, plan, keys, signal),
    fill(fills) {
      const outcomes: MaybePromise<Filled>[] = []
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
          outcomes[i] = handled(keptBack(key, made, token))
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
  function standing(of: Configured, key: string, metadata: Metadata): MaybePromise<Filled> {
    const byLedger =
      metadata.basis === undefined || tracker === undefined ? 'fresh' : tracker.judge(metadata.basis)
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
async function make(
  region: Configured,
  plan: Plan,
  keys: readonly string[],
  signal: AbortSignal,
): Promise<Made[]> {
  const { precise, tracker } = region
  const asOf = await tracker?.asOf([region.own])
  const startedAt = stamp(precise.now())
  const gathering = asOf && gather(asOf, [region.own])
  const tracked = tracker?.explicit === true
  const apart = new Map<string, string[]>()
  let known: ReadonlySet<string> | undefined
  let expiresIn: number | undefined
  const creation: Creation = {
    key: keys[0] as string,
    keys,
    startedAt,
    signal,
    expireIn(duration) {
      expiresIn = milliseconds(duration, 'expireIn')
    },
    dependsOn(key, names) {
      const list = typeof names === 'string' ? [names] : names
      checkNames(list, false)
      refuseOpen(list)
      if (!tracked) throw untracked(key)
      if (!(known ??= new Set(keys)).has(key))
        throw new CorralError(
          'ERR_KEY',
          `Expected one of the keys of this creation, got ${shown(key)}. See creation.keys.`,
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
      : enterScope(
          {
            parent: scope,
            work: scope.work,
            gathering: tracked ? gathering : undefined,
            span: scope.span,
          },
          run,
        ))
    if (!Array.isArray(values) || values.length !== keys.length)
      throw new CorralError(
        'ERR_BATCH_LENGTH',
        `Expected the creator of ${keys.length} keys to return an array of ${keys.length} values in their order, got ${
          Array.isArray(values) ? `${values.length} values` : shown(values)
        }. Answer NO_VALUE for a key that has none.`,
      )
    outcome = 'made'
    const createdAt = precise.now()
    const together = gathering?.basis()
    const until = gathering?.until() ?? Number.POSITIVE_INFINITY
    const limit = expiresIn ?? plan.expiration ?? region.expiration
    // A parent lives no longer than what it was made from; made from something stale it is stale at once.
    const shortened = until < createdAt + limit ? Math.max(until - createdAt, 1) : expiresIn
    return values.map((payload: unknown, i): Made => {
      const own = apart.get(keys[i] as string)
      const gathered = own === undefined ? together : gathering?.basis(own)
      return {
        entry: {
          payload,
          metadata: {
            startedAt,
            createdAt,
            ...(shortened !== undefined && { expiresIn: shortened }),
            ...(gathered !== undefined && 'basis' in gathered && { basis: gathered.basis }),
            ...(until <= createdAt && { stale: true }),
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

/** Reads one entry and hands its payload out if it is fresh enough. */
export function deliver<V>(
  region: Configured,
  key: string,
  found: CachedValue | undefined,
  expiration: number | undefined,
  staleToo: boolean,
): MaybePromise<V | NoValue> {
  const freshness = assess(region, key, found, expiration)
  return isPromise(freshness)
    ? freshness.then((later) => settle<V>(region, key, found, expiration, staleToo, later))
    : settle<V>(region, key, found, expiration, staleToo, freshness)
}

function settle<V>(
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
  handOut(region, key, found as CachedValue, freshness === 'stale', expiration)
  return (found as CachedValue).payload as V
}

/** How often a soft invalidation tries to mark an entry before it removes it instead. */
const MARKINGS = 3

/**
 * Marks one key stale: takes its lease, which voids creations under way, and rewrites its metadata under that token.
 * Whatever voids the token meanwhile is newer than the mark, unless the lease merely expired: hence the repetition.
 */
export async function softenKey(region: Configured, key: string): Promise<void> {
  for (let attempt = 0; attempt < MARKINGS; attempt++) if ((await markStale(region, key)) !== 'lost') return
  await region.backend.delete(key)
}

async function markStale(region: Configured, key: string): Promise<Outcome> {
  const { backend } = region
  const { token } = await backend.acquire(key, region.leaseMs, { steal: true })
  if (token === undefined)
    throw new CorralError('ERR_BACKEND', `Backend '${backend.name}' did not hand over the lease of '${key}'.`)
  let outcome: Outcome | undefined
  try {
    const found = await backend.get(key)
    if (isCachedValue(found)) {
      const { payload, metadata } = found
      const { ttl } = physicalLifetime(metadata.expiresIn ?? region.expiration)
      const left =
        ttl === undefined ? {} : { ttl: Math.max(60_000, ttl - (region.precise.now() - metadata.createdAt)) }
      outcome = await backend.set(
        key,
        { payload, metadata: { ...metadata, stale: true } },
        { ...left, token },
      )
    }
  } finally {
    if (outcome === undefined) await backend.release(key, token)
  }
  return outcome ?? 'stored'
}
