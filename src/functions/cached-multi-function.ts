import { NO_VALUE, type NoValue } from '../backend/cached-value.js'
import { CorralError, formatValue } from '../base/errors.js'
import { andThen, type MaybePromise, mapEach } from '../base/maybe-promise.js'
import type { CreateOptions, MultiCreator } from '../creation/types.js'
import { resolveVersions } from '../ledger/checked-names.js'
import { declared } from './declarations.js'
import { type FunctionMultiKeyGenerator, functionMultiKeyGenerator } from './keys.js'
import { attempt, dress, loadedWhen } from './members.js'
import {
  type AnyFunction,
  COMMON,
  checkOptions,
  DECLARATIONS,
  mustBeFunction,
  mustBeOption,
  namespaceFor,
} from './options.js'
import type {
  CachedMultiFunction,
  CacheMapOnArguments,
  CacheMultiOnArguments,
  CacheMultiOptions,
  FunctionStore,
} from './types.js'

/** Builds `store.cacheMultiOnArguments(options)`. */
export function makeCacheMultiOnArguments<V>(
  store: FunctionStore<V>,
  options: CacheMultiOptions,
  regional: FunctionMultiKeyGenerator,
): CacheMultiOnArguments<V> & CacheMapOnArguments<V> {
  checkOptions(
    'cacheMultiOnArguments()',
    options,
    [...COMMON, ...DECLARATIONS, 'functionMultiKeyGenerator', 'asMap'],
    'duration',
  )
  const { functionMultiKeyGenerator: own, asMap } = options
  mustBeOption('functionMultiKeyGenerator', own, 'a function', own === undefined || typeof own === 'function')
  mustBeOption('asMap', asMap, 'true or false', asMap === undefined || typeof asMap === 'boolean')
  const generator = own ?? regional
  const namespace = namespaceFor(options.namespace, generator === functionMultiKeyGenerator)
  const decorate = (fn: unknown): unknown => {
    mustBeFunction('cacheMultiOnArguments()', fn)
    return cachedMulti(store, options, fn, generator(namespace, fn))
  }
  return decorate as CacheMultiOnArguments<V> & CacheMapOnArguments<V>
}

function cachedMulti<V>(
  store: FunctionStore<V>,
  options: CacheMultiOptions,
  fn: AnyFunction,
  keysOf: (...ids: readonly unknown[]) => readonly string[],
): CachedMultiFunction<unknown, V> {
  const { asMap = false, wait, shouldCache, expirationTime } = options
  const create: CreateOptions<V> = {
    expirationTime,
    ...(shouldCache !== undefined && { shouldCache: shouldCache as (value: V, key: string) => boolean }),
    ...(wait !== undefined && { wait }),
  }
  const keysFor = (ids: readonly unknown[]): readonly string[] => {
    const keys = keysOf(...ids)
    if (keys.length === ids.length) return keys
    throw new CorralError(
      'ERR_KEY',
      `Expected the functionMultiKeyGenerator to make ${ids.length} keys for ${ids.length} ids, got ${keys.length}.`,
    )
  }
  /** Calls the function for some ids; an id without a value answers NO_VALUE. */
  const values = (ids: readonly unknown[]): MaybePromise<readonly (V | NoValue)[]> =>
    andThen(Reflect.apply(fn, undefined, ids) as MaybePromise<unknown>, (result) => {
      if (!asMap) return result as readonly V[]
      if (result instanceof Map) return ids.map((id) => (result.has(id) ? (result.get(id) as V) : NO_VALUE))
      throw new CorralError(
        'ERR_CREATOR',
        `Expected the function to return a Map from id to value, as asMap says, got ${formatValue(result)}.`,
      )
    })
  const names = declared(options, ([id]) => id)
  const creatorFor = (keys: readonly string[], ids: readonly unknown[]): MultiCreator<V> => {
    const idOf = new Map(keys.map((key, i) => [key, ids[i]]))
    return (missing, creation) => {
      const wanted = missing.map((key) => idOf.get(key))
      if (names === undefined) return values(wanted)
      return andThen(
        mapEach(wanted, (id) => resolveVersions(names.fromArguments([id]))),
        (lists) => {
          for (const [i, key] of missing.entries()) {
            const ahead = lists[i] as readonly string[]
            creation.dependsOn(key, ahead)
            store.recordCall(key, ahead, () => again(key, [wanted[i]]))
          }
          return andThen(values(wanted), (made) => {
            for (const [i, key] of missing.entries())
              if (made[i] !== NO_VALUE) creation.dependsOn(key, names.fromResult(made[i], [wanted[i]]))
            return made
          })
        },
      )
    }
  }
  const again = (key: string, ids: readonly unknown[]) =>
    attempt(() => store.renew(key, creatorFor([key], ids), create))
  const answer = (ids: readonly unknown[], results: readonly (V | NoValue)[]): unknown =>
    asMap
      ? new Map(ids.flatMap((id, i) => (results[i] === NO_VALUE ? [] : [[id, results[i]] as const])))
      : results
  const call = (...ids: unknown[]) =>
    attempt(async () => {
      const keys = keysFor(ids)
      const results = await store.getOrCreateMulti(keys, creatorFor(keys, ids), create)
      return answer(ids, results)
    })
  const invalidate = (...ids: readonly unknown[]) => attempt(() => store.deleteMulti(keysFor(ids)))
  return dress(call, fn, {
    original: (...ids: readonly unknown[]) => Reflect.apply(fn, undefined, ids) as unknown,
    keys: (...ids: readonly unknown[]) => keysFor(ids),
    get: (...ids: readonly unknown[]) => attempt(() => store.getMulti(keysFor(ids), { expirationTime })),
    set: (entries: ReadonlyMap<unknown, V>) =>
      attempt(async () => {
        const ids = [...entries.keys()]
        const keys = keysFor(ids)
        const pairs = ids.map((id, i) => [keys[i] as string, entries.get(id) as V] as const)
        const keep = (key: string, value: V) =>
          (shouldCache as ((value: V, key: string) => boolean) | undefined)?.(value, key) ?? true
        if (names !== undefined && pairs.some(([key, value]) => keep(key, value))) throw loadedWhen()
        await store.setMulti(
          pairs.filter(([key, value]) => keep(key, value)),
          { expirationTime },
        )
        await store.deleteMulti(pairs.filter(([key, value]) => !keep(key, value)).map(([key]) => key))
      }),
    refresh: (...ids: readonly unknown[]) =>
      attempt(async () => {
        const keys = keysFor(ids)
        return answer(ids, await store.refreshMulti(keys, creatorFor(keys, ids), create))
      }),
    invalidate: Object.assign(invalidate, {
      soft: (...ids: readonly unknown[]) =>
        attempt(async () => {
          await Promise.all(keysFor(ids).map((key) => store.expire(key)))
        }),
    }),
  }) as unknown as CachedMultiFunction<unknown, V>
}
