import type { CachedValue, NoValue } from '../backend/cached-value.js'
import { backendError } from '../backend/typed-failures.js'
import { diagnostics } from '../base/diagnostics.js'
import { milliseconds } from '../base/duration.js'
import { andThen, isPromise, type MaybePromise } from '../base/maybe-promise.js'
import { currentTransaction, type Transaction } from '../creation/transaction.js'
import type { CreateOptions, Creator, MultiCreator } from '../creation/types.js'
import type { Lookup } from '../dogpile/types.js'
import { checkKey, checkKeys } from '../functions/keys.js'
import type { FunctionStore } from '../functions/types.js'
import { checkCreateOptions, checkCreator } from './checks.js'
import {
  type Configured,
  type Created,
  type CreationPlan,
  isFreshHit,
  matchesSession,
  readOne,
  recordRead,
  serveHit,
  toLookup,
} from './freshness.js'
import { limitOf, type RegionUse } from './holder.js'
import { driverOf } from './run-creator.js'
import type { Region } from './types.js'

const reads = diagnostics('read')
const NO_OPTIONS = {}
/** What most callers have found before they create. */
const NOTHING: readonly Lookup<Created>[] = [{ state: 'missing' }]

/** What makes the values of a region: when they are missing or stale, or because it is told to. */
export function regionCreations<V>({
  use,
  operation,
}: RegionUse): Pick<Region<V>, 'getOrCreate' | 'getOrCreateMulti'> &
  Pick<FunctionStore<V>, 'refreshMulti' | 'renew'> {
  /** The slow half of getOrCreate. Of a thousand callers one needs the steps, so the others do not build them. */
  const createOne = <T>(
    region: Configured,
    key: string,
    creator: Creator<T>,
    options: CreateOptions<never>,
    expiration: number | undefined,
    seen: readonly Lookup<Created>[],
  ): Promise<T> => {
    if (reads.hasSubscribers)
      reads.publish({ region: region.name, key, result: seen === NOTHING ? 'miss' : 'stale' })
    const steps = () =>
      driverOf(
        region,
        planOf((_, creation) => one(creator(creation)), options),
      )
    const inside = currentTransaction()
    return region.dogpile.run(key, steps, { ...reading(options, inside), seen }).then(({ entry }) => {
      recordRead(region, key, entry, entry.metadata.stale === true, expiration, inside)
      return entry.payload as T
    })
  }

  const getOrCreate = <T extends V>(
    key: string,
    creator: Creator<T>,
    create?: CreateOptions<T>,
  ): Promise<T> => {
    try {
      const region = use()
      checkKey(key)
      checkCreator(creator)
      const limit = limitOf(create?.expirationTime)
      const found = readOne(region, key)
      if (isFreshHit(region, found, limit)) return Promise.resolve(serveHit<T>(region, key, found, limit))
      const options = (create ?? NO_OPTIONS) as CreateOptions<never>
      if (typeof options !== 'object') checkCreateOptions(options)
      if (found === undefined) return createOne<T>(region, key, creator, options, limit, NOTHING)
      const go = (entry: CachedValue | undefined): MaybePromise<T> =>
        andThen(toLookup(region, key, entry, limit), (first) =>
          first.state === 'fresh'
            ? serveHit<T>(region, key, entry as CachedValue, limit)
            : createOne<T>(
                region,
                key,
                creator,
                options,
                limit,
                first.state === 'missing' ? NOTHING : [first],
              ),
        )
      if (!isPromise(found)) return Promise.resolve(go(found))
      return found.then(go, (error) => {
        throw backendError(region.chain.name, error)
      })
    } catch (error) {
      return Promise.reject(error)
    }
  }

  const getOrCreateMulti = <T extends V>(
    keys: readonly string[],
    creator: MultiCreator<T>,
    create: CreateOptions<T> = {},
  ): Promise<(T | NoValue)[]> =>
    operation(async (region) => {
      checkKeys(keys)
      checkCreator(creator)
      if (keys.length === 0) return []
      const options = create as CreateOptions<never>
      const plan = planOf(creator, options)
      const unique = [...new Set(keys)].sort()
      const inside = currentTransaction()
      const made = await region.dogpile.runMulti(unique, driverOf(region, plan), reading(options, inside))
      for (const [key, { entry }] of made)
        recordRead(region, key, entry, entry.metadata.stale === true, plan.expiration, inside)
      return keys.map((key) => made.get(key)?.entry.payload as T)
    })

  /** Creates a softly invalidated value anew; `false`: what was made could not be stored, and the older value stays. */
  const renew = <T>(key: string, creator: MultiCreator<T>, create: CreateOptions<T>): Promise<boolean> =>
    operation(async (region) => {
      checkKey(key)
      const options = create as CreateOptions<never>
      const plan = planOf(creator, options)
      const { filled } = await region.dogpile.renew(key, driverOf(region, plan), runOptions(options))
      // What is kept back by choice, such as NO_VALUE for a record that is gone, must not be outlived by an older value.
      if (filled === 'withheld') await region.backend.delete(key)
      return filled === 'stored' || filled === 'withheld'
    })

  /** Creates anew, in one creation. What could not be stored leaves nothing behind: an older value must not outlive it. */
  const refreshMulti = <T>(
    keys: readonly string[],
    creator: MultiCreator<T>,
    create: CreateOptions<T> = {},
  ): Promise<(T | NoValue)[]> =>
    operation(async (region) => {
      checkKeys(keys)
      if (keys.length === 0) return []
      const options = create as CreateOptions<never>
      const plan = planOf(creator, options)
      const inside = currentTransaction()
      const renewed = await region.dogpile.renewMulti(
        [...new Set(keys)],
        driverOf(region, plan),
        runOptions(options),
      )
      for (const [key, { value, filled }] of renewed) {
        if (filled !== 'stored') await region.backend.delete(key)
        recordRead(region, key, value.entry, false, plan.expiration, inside)
      }
      return keys.map((key) => renewed.get(key)?.value.entry.payload as T)
    })

  return { getOrCreate, getOrCreateMulti, refreshMulti, renew }
}

const planOf = (create: CreationPlan['create'], options: CreateOptions<never>): CreationPlan => {
  checkCreateOptions(options)
  const { expirationTime, shouldCache } = options
  return { create, expiration: limitOf(expirationTime), shouldCache }
}
const runOptions = ({ wait, signal }: CreateOptions<never>) => ({
  wait: wait === undefined ? undefined : milliseconds(wait, 'wait'),
  signal,
})

/** Who reads may have what others make; what is made in a transaction is for nobody else. */
const reading = (options: CreateOptions<never>, inside: Transaction | undefined) => ({
  ...runOptions(options),
  accept: matchesSession,
  alone: !!inside,
})

function one(value: unknown): MaybePromise<readonly unknown[]> {
  return isPromise(value) ? Promise.resolve(value).then((later: unknown) => [later]) : [value]
}
