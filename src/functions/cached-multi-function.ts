import { NO_VALUE } from '../backend/cached-value.js'
import type { AnyFunction, Arguments } from '../base/any-function.js'
import { CorralError, formatValue } from '../base/errors.js'
import { andThen, type MaybePromise } from '../base/maybe-promise.js'
import { expectBoolean, expectFunction, expectThat } from '../base/options.js'
import { readOptions } from './declarations.js'
import { checkNamespace, type FunctionMultiKeyGenerator, functionMultiKeyGenerator } from './keys.js'
import { type CallForm, withMembers } from './members.js'
import type { CacheMapOnArguments, CacheMultiOnArguments, CacheMultiOptions, FunctionStore } from './types.js'

/** `region.cacheMultiOnArguments(options)`: caches functions of many ids, whose values are stored one by one. */
export function makeCacheMultiOnArguments<V>(
  store: FunctionStore<V>,
  options: CacheMultiOptions,
  regional: FunctionMultiKeyGenerator,
): CacheMultiOnArguments<V> & CacheMapOnArguments<V> {
  const names = readOptions('cacheMultiOnArguments()', options, OWN, ([id]) => id)
  const generator = options.functionMultiKeyGenerator ?? regional
  const namespace = checkNamespace(options.namespace, generator === functionMultiKeyGenerator)
  const decorate = (fn: AnyFunction): unknown => {
    expectThat(typeof fn === 'function', fn, 'cacheMultiOnArguments() to wrap a function')
    return withMembers(store, options, names, fn, multiForm(store, generator(namespace, fn), options.asMap))
  }
  return decorate as CacheMultiOnArguments<V> & CacheMapOnArguments<V>
}

const OWN = { functionMultiKeyGenerator: expectFunction, asMap: expectBoolean }

/** A call has one key for each id. */
function multiForm<V>(
  store: FunctionStore<V>,
  generate: (...ids: Arguments) => readonly string[],
  asMap = false,
): CallForm<V> {
  const keysOf = (...ids: Arguments): readonly string[] => {
    const keys = generate(...ids)
    if (keys.length === ids.length) return keys
    throw new CorralError(
      'ERR_KEY',
      `Expected the functionMultiKeyGenerator to make ${ids.length} keys for ${ids.length} ids, got ${keys.length}. Return one key for each id, in their order.`,
    )
  }
  const resultOf: CallForm<V>['resultOf'] = (ids, values) =>
    asMap ? new Map(ids.map((id, i) => [id, values[i]] as const).filter(([, v]) => v !== NO_VALUE)) : values
  return {
    keysOf,
    argsPerKey: (ids) => ids.map((id) => [id]),
    run: (original, each) => {
      const ids = each.flat()
      const result = original(...ids) as MaybePromise<unknown>
      return andThen(result, (found) => (asMap ? fromMap<V>(ids, found) : (found as readonly V[])))
    },
    create: async (keys, creator, options, ids) =>
      resultOf(ids, await store.getOrCreateMulti(keys, creator, options)),
    read: (keys, options) => store.getMulti(keys, options),
    resultOf,
    splitSet([entries]) {
      const values = entries as ReadonlyMap<unknown, V>
      return [[...values.keys()], [...values.values()]]
    },
    members: { keys: keysOf },
  }
}

/** The values of a map in the order of the ids. An id without a value gets `NO_VALUE`, which is not stored. */
function fromMap<V>(ids: Arguments, result: unknown) {
  if (result instanceof Map) return ids.map((id) => (result.has(id) ? (result.get(id) as V) : NO_VALUE))
  throw new CorralError(
    'ERR_CREATOR',
    `Expected the function to return a Map from id to value, as asMap says, got ${formatValue(result)}. Return a Map, or leave out asMap.`,
  )
}
