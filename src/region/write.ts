import type { Outcome, Write } from '../backend/backend.js'
import { type CachedValue, type Metadata, metadataOf } from '../backend/cached-value.js'
import { andThen, attempt, ignoreRejection, isPromise, type MaybePromise } from '../base/maybe-promise.js'
import { rejectUnknownOptions } from '../base/options.js'
import { UNCACHEABLE } from '../creation/collector.js'
import { jittered, physicalLifetime } from '../freshness/freshness.js'
import { isVersion } from '../ledger/checked-names.js'
import { checkPairs, checkValue, dependenciesOf, limitOf } from './checks.js'
import type { RegionHandle, RegionState } from './state.js'
import type { Region, SetOptions } from './types.js'

const SET_OPTIONS = ['expirationTime', 'dependencies', 'asOf']

/** Puts values into a region that no creator created. */
export function regionWrites<V>({ operation }: RegionHandle): Pick<Region<V>, 'set' | 'setMulti'> {
  const setMulti = (
    given: Iterable<readonly [key: string, value: V]>,
    set: SetOptions = {},
  ): Promise<readonly Outcome[]> =>
    operation(async (region) => {
      const values = checkPairs(given)
      rejectUnknownOptions(set, SET_OPTIONS, 'set()')
      const expiresIn = limitOf(set.expirationTime)
      const dependencies = dependenciesOf(region, set)
      if (values.length === 0) return []
      if (dependencies.includes(UNCACHEABLE)) {
        await region.backend.deleteMulti(values.map(([key]) => key))
        return values.map(() => 'refused' as const)
      }
      const { tracker } = region
      const now = set.asOf ?? tracker?.asOf([region.own])
      const drafts = values.map(([key, payload]) => [key, draftOf(payload)] as const)
      // A wait comes before the values are encoded, and the caller may use them again.
      if (isPromise(now))
        for (const [key, draft] of drafts) region.backend.capture?.(draft as CachedValue, () => key)
      // Without a wait the values are encoded within the call.
      const asOf = isPromise(now) ? await orRemoved(region, now, values) : now
      const createdAt = region.precise.now()
      const snapshot = asOf && {
        epoch: asOf.epoch,
        groups: [{ asOf: asOf.at, names: namesWith(region, dependencies) }],
        ...(dependencies.some(isVersion) && { versions: dependencies.filter(isVersion) }),
      }
      const startedAt = region.stamp(createdAt)
      const writes = drafts.map(([key, draft]): Write<CachedValue> => {
        const lasts = jittered(expiresIn, region.expiration, region.policy.jitter)
        const entry = Object.assign(draft, { metadata: metadataOf(startedAt, createdAt, snapshot, lasts) })
        return [region.keyOf(key), entry as CachedValue, lifeOf(region, lasts)]
      })
      const outcomes = await writeStored(region, writes)
      region.dogpile.detach(values.map(([key]) => key))
      return outcomes
    })

  return {
    set: (key, value, set) =>
      operation((region) =>
        set === undefined && region.tracker?.shared !== true
          ? (setOne(region, key, value) ?? firstOf(setMulti([[key, value]])))
          : firstOf(setMulti([[key, value]], set)),
      ),
    setMulti,
  }
}

async function firstOf(outcomes: Promise<readonly Outcome[]>): Promise<Outcome> {
  return (await outcomes)[0] ?? 'lost'
}

/** Writes one value that has no options. `undefined`: the ledger takes its time, so nothing is written yet. */
function setOne(region: RegionState, key: string, payload: unknown): MaybePromise<Outcome> | undefined {
  checkValue(key, payload)
  const { tracker, ownNames } = region
  const asOf = tracker?.asOf(ownNames)
  if (isPromise(asOf)) {
    void ignoreRejection(asOf)
    return undefined
  }
  const createdAt = region.precise.now()
  const snapshot = asOf && { epoch: asOf.epoch, groups: [{ asOf: asOf.at, names: ownNames }] }
  const lasts = jittered(undefined, region.expiration, region.policy.jitter)
  const metadata = metadataOf(region.stamp(createdAt), createdAt, snapshot, lasts)
  const written = region.stored.set(region.keyOf(key), { payload, metadata }, lifeOf(region, lasts))
  return andThen(written, (outcome) => {
    region.dogpile.detach([key])
    return outcome
  })
}

function lifeOf({ policy, expiration }: RegionState, lasts = expiration): { readonly ttl?: number } {
  return physicalLifetime(lasts, policy.grace)
}

/** Entries without names of their own share one list. */
function namesWith({ own, ownNames }: RegionState, dependencies: readonly string[]): readonly string[] {
  return dependencies.length === 0 ? ownNames : [own, ...dependencies.filter((one) => !isVersion(one))]
}

/**
 * The time of the ledger. A write that fails without it is a failed invalidation of the older values: their removal is tried
 * beside the rejection, and a store that repeats failed invalidations remembers it.
 */
function orRemoved<T>(
  { backend }: RegionState,
  now: PromiseLike<T>,
  values: readonly (readonly [key: string, value: unknown])[],
): PromiseLike<T> {
  return now.then(undefined, (error: unknown) => {
    const keys = values.map(([key]) => key)
    void ignoreRejection(attempt(() => backend.deleteMulti(keys)))
    throw error
  })
}

/** An entry whose metadata is still to come. It stays one object, by which the chain knows the payload that it captured. */
function draftOf(payload: unknown): Pick<CachedValue, 'payload'> & { metadata?: Metadata } {
  return { payload }
}

/** Writes under keys as the store knows them. */
export function writeStored(
  { stored }: RegionState,
  writes: readonly Write<CachedValue>[],
): MaybePromise<readonly Outcome[]> {
  const [only] = writes
  return writes.length === 1 && only !== undefined
    ? andThen(stored.set(...only), (outcome) => [outcome])
    : stored.setMulti(writes)
}
