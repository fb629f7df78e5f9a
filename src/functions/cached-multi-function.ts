import { NO_VALUE, type NoValue } from '../backend/cached-value.js'
import { milliseconds } from '../base/duration.js'
import { CorralError, formatValue } from '../base/errors.js'
import { andThen, type MaybePromise } from '../base/maybe-promise.js'
import { expectOneOf, expectThat } from '../base/options.js'
import {
  type AnyFunction,
  type Arguments,
  attempt,
  cachedCalls,
  checkCommonOptions,
  dress,
  namespaceFor,
} from './cached-calls.js'
import type { Declared } from './declarations.js'
import { type FunctionMultiKeyGenerator, functionMultiKeyGenerator } from './keys.js'
import type {
  CachedMultiFunction,
  CacheMapOnArguments,
  CacheMultiOnArguments,
  CacheMultiOptions,
  FunctionStore,
} from './types.js'

/** Builds `region.cacheMultiOnArguments(options)`. */
export function makeCacheMultiOnArguments<V>(
  store: FunctionStore<V>,
  options: CacheMultiOptions,
  regional: FunctionMultiKeyGenerator,
): CacheMultiOnArguments<V> & CacheMapOnArguments<V> {
  const where = 'cacheMultiOnArguments()'
  const names = checkCommonOptions(where, options, ['functionMultiKeyGenerator', 'asMap'], ([id]) => id)
  const { expirationTime, asMap } = options
  if (expirationTime !== undefined) milliseconds(expirationTime, 'expirationTime')
  if (asMap !== undefined) expectOneOf(asMap, '`asMap`', [true, false])
  const generator = options.functionMultiKeyGenerator ?? regional
  const namespace = namespaceFor(options.namespace, generator === functionMultiKeyGenerator)
  const decorate = (fn: unknown): unknown => {
    expectThat(typeof fn === 'function', fn, `${where} to wrap a function`)
    return cachedMulti(store, options, names, fn as AnyFunction, generator(namespace, fn as AnyFunction))
  }
  return decorate as CacheMultiOnArguments<V> & CacheMapOnArguments<V>
}

function cachedMulti<V>(
  store: FunctionStore<V>,
  options: CacheMultiOptions,
  names: Declared | undefined,
  fn: AnyFunction,
  keysOf: (...ids: Arguments) => readonly string[],
): CachedMultiFunction<unknown, V> {
  const { asMap = false, expirationTime } = options
  const original = (...ids: Arguments) => Reflect.apply(fn, undefined, ids) as MaybePromise<unknown>
  const keysFor = (ids: Arguments): readonly string[] => {
    const keys = keysOf(...ids)
    if (keys.length === ids.length) return keys
    throw new CorralError(
      'ERR_KEY',
      `Expected the functionMultiKeyGenerator to make ${ids.length} keys for ${ids.length} ids, got ${keys.length}. Return one key for each id, in their order.`,
    )
  }
  const calls = cachedCalls<V>(store, options, names, {
    keysOf: (each) => keysFor(each.map(([id]) => id)),
    run(each) {
      const ids = each.map(([id]) => id)
      return andThen(original(...ids), (result) =>
        asMap ? fromMap<V>(ids, result) : (result as readonly V[]),
      )
    },
  })
  const resultOf = (ids: Arguments, values: readonly (V | NoValue)[]): unknown =>
    asMap
      ? new Map(ids.flatMap((id, i) => (values[i] === NO_VALUE ? [] : [[id, values[i]] as const])))
      : values
  const each = (ids: Arguments) => ids.map((id) => [id])

  const call = (...ids: Arguments) =>
    attempt(async () => {
      const keys = keysFor(ids)
      const creator = calls.creatorOf(keys, each(ids))
      return resultOf(ids, await store.getOrCreateMulti(keys, creator, calls.optionsFor(ids)))
    })
  return dress(call, fn, {
    original,
    keys: (...ids: Arguments) => keysFor(ids),
    get: (...ids: Arguments) => attempt(() => store.getMulti(keysFor(ids), { expirationTime })),
    set: (entries: ReadonlyMap<unknown, V>) =>
      attempt(() => {
        const ids = [...entries.keys()]
        return calls.put(keysFor(ids), [...entries.values()], ids)
      }),
    refresh: (...ids: Arguments) =>
      attempt(async () => resultOf(ids, await calls.refresh(keysFor(ids), each(ids)))),
    invalidate: Object.assign((...ids: Arguments) => attempt(() => store.deleteMulti(keysFor(ids))), {
      soft: (...ids: Arguments) =>
        attempt(async () => {
          await Promise.all(keysFor(ids).map((key) => store.expire(key)))
        }),
    }),
  }) as CachedMultiFunction<unknown, V>
}

/** The values of a map in the order of the ids. An id without a value gets `NO_VALUE`, which is not stored. */
function fromMap<V>(ids: Arguments, result: unknown): readonly (V | NoValue)[] {
  if (result instanceof Map) return ids.map((id) => (result.has(id) ? (result.get(id) as V) : NO_VALUE))
  throw new CorralError(
    'ERR_CREATOR',
    `Expected the function to return a Map from id to value, as asMap says, got ${formatValue(result)}. Return a Map, or leave out asMap.`,
  )
}
