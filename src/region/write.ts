import type { Outcome, Write } from '../backend/backend.js'
import { type CachedValue, type Metadata, metadataOf } from '../backend/cached-value.js'
import { andThen, attempt, ignoreRejection, isPromise, type MaybePromise } from '../base/maybe-promise.js'
import { rejectUnknownOptions } from '../base/options.js'
import { UNCACHEABLE } from '../creation/collector.js'
import { CREATE_OPTIONS } from '../creation/create-options.js'
import { jittered, physicalLifetime } from '../freshness/freshness.js'
import { isVersion } from '../ledger/checked-names.js'
import type { DependencySnapshot, LedgerTime } from '../ledger/snapshot.js'
import { checkPairs, checkValue, dependenciesOf, limitOf } from './checks.js'
import { graceOf } from './policy.js'
import type { RegionHandle, RegionState } from './state.js'
import type { Region, SetOptions } from './types.js'

const SET_OPTIONS = ['expirationTime', 'dependencies', 'asOf', 'grace', 'jitter']

/** A value to write, with the options of its own over those of the batch. */
interface Draft {
  readonly key: string
  readonly asOf: SetOptions['asOf'] | undefined
  readonly entry: Pick<CachedValue, 'payload'> & { metadata?: Metadata }
  readonly expiresIn: number | undefined
  /** ms for which the value stands after its expiry, if it says so itself. */
  readonly standsFor: number | undefined
  readonly jitter: number
  readonly dependencies: readonly string[]
}

/** Puts values into a region that no creator created. */
export function regionWrites<V>({ operation }: RegionHandle): Pick<Region<V>, 'set' | 'setMulti'> {
  const setMulti: Region<V>['setMulti'] = (given, set = {}) =>
    operation(async (region) => {
      const pairs = checkPairs(given)
      const drafts = draftsOf(region, pairs, set)
      if (pairs.length === 0) return []
      const isRefused = drafts.map(({ dependencies }) => dependencies.includes(UNCACHEABLE))
      const storable = drafts.filter((_, i) => !isRefused[i])
      const refused = drafts.filter((_, i) => isRefused[i]).map(({ key }) => key)
      const removed = refused.length > 0 ? region.backend.deleteMulti(refused) : undefined
      const written = storable.length > 0 ? writeDrafts(region, storable) : []
      const [outcomes] = await Promise.all([written, removed])
      region.dogpile.detach(pairs.map(([key]) => key))
      for (const [key] of pairs) region.errors.forget(key)
      let next = 0
      return isRefused.map((refused) => (refused ? 'refused' : (outcomes[next++] as Outcome)))
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

/** Values with the options that count for each. They are read once, however many values share them. */
function draftsOf(region: RegionState, pairs: ReturnType<typeof checkPairs>, shared: SetOptions): Draft[] {
  const read = (set: SetOptions) => {
    rejectUnknownOptions(set, SET_OPTIONS, 'set()')
    return { set, ...timesOf(region, set), dependencies: dependenciesOf(region, set) }
  }
  const common = read(shared)
  return pairs.map(([key, payload, own]) => {
    if (own !== undefined) rejectUnknownOptions(own, SET_OPTIONS, 'set()')
    const { set, ...rest } = own === undefined ? common : read({ ...shared, ...own })
    return { key, entry: draftOf(payload), asOf: set.asOf, ...rest }
  })
}

function timesOf(
  { policy }: RegionState,
  { expirationTime, grace, jitter }: SetOptions,
): Pick<Draft, 'expiresIn' | 'standsFor' | 'jitter'> {
  if (grace !== undefined) CREATE_OPTIONS.grace?.(grace, '`grace` of set()')
  if (jitter !== undefined) CREATE_OPTIONS.jitter?.(jitter, '`jitter` of set()')
  return {
    expiresIn: limitOf(expirationTime),
    standsFor: graceOf({ grace }),
    jitter: jitter ?? policy.jitter,
  }
}

/** Writes values as of the times that their options say, or as of now. */
async function writeDrafts(region: RegionState, drafts: readonly Draft[]): Promise<readonly Outcome[]> {
  const { tracker } = region
  const undated = drafts.some(({ asOf }) => asOf === undefined || asOf === 'now')
  const taken = undated ? tracker?.asOf(region.ownNames) : undefined
  // A wait comes before the values are encoded, and the caller may use them again.
  if (isPromise(taken))
    for (const { key, entry } of drafts) region.backend.capture?.(entry as CachedValue, () => key)
  // Without a wait the values are encoded within the call.
  const now = isPromise(taken) ? await orRemoved(region, taken, drafts) : taken
  const createdAt = region.precise.now()
  const startedAt = region.stamp(createdAt)
  const writes = drafts.map((draft): Write<CachedValue> => {
    const { key, entry, asOf, expiresIn, standsFor, jitter } = draft
    const snapshot = snapshotOf(region, draft, asOf === undefined || asOf === 'now' ? now : asOf)
    const lasts = jittered(expiresIn, region.expiration, jitter)
    const metadata: { standsFor?: number } & Metadata = metadataOf(startedAt, createdAt, snapshot, lasts)
    if (standsFor !== undefined) metadata.standsFor = standsFor
    const written = Object.assign(entry, { metadata }) as CachedValue
    return [region.keyOf(key), written, lifeOf(region, lasts, standsFor)]
  })
  return writeStored(region, writes)
}

function snapshotOf(
  region: RegionState,
  draft: Draft,
  asOf: LedgerTime | undefined,
): DependencySnapshot | undefined {
  if (asOf === undefined) return undefined
  const versions = draft.dependencies.filter(isVersion)
  const names =
    draft.dependencies.length === 0 ? region.ownNames : Object.freeze([region.own, ...storedNames(draft)])
  const groups = [{ asOf: asOf.at, names }]
  return versions.length === 0 ? { epoch: asOf.epoch, groups } : { epoch: asOf.epoch, groups, versions }
}

/** The names that a ledger knows of. */
function storedNames({ dependencies }: Draft): readonly string[] {
  return dependencies.filter((one) => !isVersion(one))
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
    region.errors.forget(key)
    return outcome
  })
}

function lifeOf(
  { policy, expiration }: RegionState,
  lasts = expiration,
  grace = policy.grace,
): { readonly ttl?: number } {
  return physicalLifetime(lasts, grace)
}

/**
 * The time of the ledger. A write that fails without it is a failed invalidation of the older values: their removal is tried
 * beside the rejection, and a store that repeats failed invalidations remembers it.
 */
function orRemoved<T>(
  { backend }: RegionState,
  now: PromiseLike<T>,
  drafts: readonly Draft[],
): PromiseLike<T> {
  return now.then(undefined, (error: unknown) => {
    const keys = drafts.map(({ key }) => key)
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
    : stored.setMulti(Object.freeze(writes))
}
