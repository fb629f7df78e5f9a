import type { CachedValue, NoValue } from '../backend/cached-value.js'
import type { Arguments } from '../base/any-function.js'
import { milliseconds } from '../base/duration.js'
import { andThen, isPromise, type MaybePromise } from '../base/maybe-promise.js'
import { renewalOnDemand } from '../creation/renewal.js'
import { currentTransaction, type Transaction } from '../creation/transaction.js'
import type { CreateOptions, Creator, MultiCreator } from '../creation/types.js'
import type { Lookup, Renewed } from '../dogpile/types.js'
import { checkKey, listKeys } from '../functions/keys.js'
import type { CreatorOfCall, FunctionStore } from '../functions/types.js'
import type { Freshness } from '../ledger/ledger.js'
import { checkCreateOptions, checkCreator, limitOf } from './checks.js'
import { driverOf } from './driver.js'
import {
  countRead,
  isFreshHit,
  matchesSession,
  readOne,
  recordRead,
  serveHit,
  sharedPayload,
  toLookup,
  whenRead,
} from './serve.js'
import type { Created, CreationPlan, RegionHandle, RegionState } from './state.js'
import type { Region } from './types.js'

/** The operations that create values: if they are missing or stale, or because the caller says so. */
export function regionCreations<V>(
  handle: RegionHandle,
): Pick<Region<V>, 'getOrCreate' | 'getOrCreateMulti'> &
  Pick<FunctionStore<V>, 'getOrCreateWith' | 'refreshMulti' | 'renew'> {
  const { operation } = handle
  return {
    getOrCreate: (key, creator, create) => getOrCreate(handle, key, creator, create, undefined),
    getOrCreateWith: (key, args, creatorOf, create) => getOrCreate(handle, key, creatorOf, create, args),
    getOrCreateMulti: (keys, creator, create) =>
      operation((region) => getOrCreateMulti(region, keys, creator, checkCreateOptions(create))),
    refreshMulti: (keys, creator, create) =>
      operation((region) => refreshMulti(region, keys, creator, checkCreateOptions(create))),
    renew: (key, creator, create) =>
      operation((region) => renew(region, key, creator, checkCreateOptions(create))),
  }
}

/** @param args - `given` makes the creator of a call with these arguments. It runs at the call, and never for a hit. */
function getOrCreate<T>(
  { use }: RegionHandle,
  key: string,
  given: Creator<T> | CreatorOfCall<T>,
  create: CreateOptions<T> | undefined,
  args: Arguments | undefined,
): Promise<T> {
  try {
    const region = use()
    checkKey(key)
    checkCreator(given)
    const limit = limitOf(create?.expirationTime)
    const found = readOne(region, key)
    if (isFreshHit(region, found, limit)) return Promise.resolve(serveHit<T>(region, key, found, limit))
    const options = checkCreateOptions(create)
    const creator: MultiCreator<T> =
      args === undefined ? single(given as Creator<T>) : (given as CreatorOfCall<T>)([key], args)
    return Promise.resolve(createUnlessFresh(region, key, creator, options, limit, found))
  } catch (error) {
    return Promise.reject(error)
  }
}

/** Stands apart from `getOrCreate`: a hit must not pay for the closures of a miss. */
function createUnlessFresh<T>(
  region: RegionState,
  key: string,
  creator: MultiCreator<T>,
  options: CreateOptions<never>,
  limit: number | undefined,
  found: MaybePromise<CachedValue | undefined>,
): MaybePromise<T> {
  return whenRead(region, found, (entry) =>
    andThen(toLookup(region, key, entry, limit), (lookup) =>
      lookup.state === 'fresh'
        ? serveHit<T>(region, key, lookup.value.entry, limit)
        : createOne<T>(region, key, creator, options, limit, lookup),
    ),
  )
}

/** The slow half of getOrCreate. Of a thousand callers one needs the driver, so the others do not build it. */
function createOne<T>(
  region: RegionState,
  key: string,
  creator: MultiCreator<T>,
  options: CreateOptions<never>,
  expiration: number | undefined,
  found: Lookup<Created>,
): Promise<T> {
  countRead(region, key, freshnessIn(found))
  const inside = currentTransaction()
  const run = { ...readOptions(region, options, inside), seen: [found] }
  return region.dogpile
    .run(key, () => driverOf(region, planOf(creator, options)), run)
    .then((created) => {
      recordRead(region, key, created.entry, expiration, undefined, inside)
      return sharedPayload<T>(region, created)
    })
}

async function getOrCreateMulti<T>(
  region: RegionState,
  given: readonly string[],
  creator: MultiCreator<T>,
  options: CreateOptions<never>,
): Promise<(T | NoValue)[]> {
  const keys = listKeys(given)
  checkCreator(creator)
  if (keys.length === 0) return []
  const plan = planOf(creator, options)
  const unique = [...new Set(keys)].sort()
  const inside = currentTransaction()
  const driver = driverOf(region, plan)
  const seen = await driver.read(unique)
  unique.forEach((key, i) => {
    countRead(region, key, freshnessIn(seen[i] as Lookup<Created>))
  })
  const run = { ...readOptions(region, options, inside), seen }
  const created = await region.dogpile.runMulti(unique, driver, run)
  for (const [key, { entry }] of created) recordRead(region, key, entry, plan.expiration, undefined, inside)
  return keys.map((key) => sharedPayload<T>(region, created.get(key) as Created))
}

function freshnessIn({ state }: Lookup<Created>): Freshness {
  return state === 'missing' ? 'invalid' : state
}

/** Creates again, in one creation. A value that could not be stored is removed, so that no older one outlives it. */
async function refreshMulti<T>(
  region: RegionState,
  given: readonly string[],
  creator: MultiCreator<T>,
  options: CreateOptions<never>,
): Promise<(T | NoValue)[]> {
  const keys = listKeys(given)
  if (keys.length === 0) return []
  const plan = planOf(creator, options)
  const inside = currentTransaction()
  const unique = [...new Set(keys)]
  const renewed = await region.dogpile.renewMulti(unique, driverOf(region, plan), runOptions(options))
  for (const [key, { value, filled }] of renewed) {
    if (filled !== 'stored') await region.backend.delete(key)
    recordRead(region, key, value.entry, plan.expiration, false, inside)
  }
  return keys.map((key) => sharedPayload<T>(region, (renewed.get(key) as Renewed<Created>).value))
}

/** Creates a softly invalidated value again. `false`: the new value could not be stored, and the older one stays. */
async function renew<T>(
  region: RegionState,
  key: string,
  creator: MultiCreator<T>,
  options: CreateOptions<never>,
): Promise<boolean> {
  checkKey(key)
  const plan = planOf(creator, options)
  const { filled } = await region.dogpile.renew(key, driverOf(region, plan), runOptions(options))
  // An older value must not outlive a value that is withheld by choice, such as NO_VALUE for a record that is gone.
  if (filled === 'withheld') await region.backend.delete(key)
  return filled === 'stored' || filled === 'withheld'
}

function planOf(
  create: CreationPlan['create'],
  { expirationTime, shouldCache }: CreateOptions<never>,
): CreationPlan {
  return { create, expiration: limitOf(expirationTime), shouldCache }
}

function runOptions({ wait, signal }: CreateOptions<never>) {
  return { wait: wait === undefined ? undefined : milliseconds(wait, 'wait'), signal }
}

/** A reader may share another caller's creation. A value created inside a transaction is never shared. */
function readOptions(region: RegionState, options: CreateOptions<never>, inside: Transaction | undefined) {
  const onStale = renewalOnDemand(region.calls ?? region)
  const { onJoin } = region.counters
  return { ...runOptions(options), accept: matchesSession, alone: !!inside, onStale, onJoin }
}

/** A creator of one value as the creator of a list of one. */
function single<T>(creator: Creator<T>): MultiCreator<T> {
  return (_, creation) => {
    const value: unknown = creator(creation)
    return (isPromise(value) ? Promise.resolve(value).then((later) => [later]) : [value]) as MaybePromise<T[]>
  }
}
