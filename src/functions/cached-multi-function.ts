import { types } from 'node:util'
import { NO_VALUE } from '../backend/cached-value.js'
import type { AnyFunction, Arguments } from '../base/any-function.js'
import { CorralError, formatValue } from '../base/errors.js'
import { frozenCopy } from '../base/frozen.js'
import { andThen, type MaybePromise, native } from '../base/maybe-promise.js'
import {
  expectBoolean,
  expectFunction,
  expectThat,
  type OptionCheck,
  rejectOptions,
} from '../base/options.js'
import { checkWhole, ignoreRejections } from '../base/parts.js'
import { showsRest } from './arity.js'
import { expectNoDecorator, functionFirst } from './cached-method.js'
import { areChangeable, capturing, isByNamespace } from './captured.js'
import { copyOptions, readOptions } from './declarations.js'
import { checkNamespace, expectKeysOf, type FunctionMultiKeyGenerator } from './keys.js'
import { type CallForm, withMembers } from './members.js'
import { claimNamespace, type Declaring } from './namespaces.js'
import type { CacheMultiOptions, FunctionStore } from './types.js'

/** `region.cacheMultiOnArguments(fn, options)`, or `(options)` for a function that does the rest. */
export function makeCacheMultiOnArguments<V>(
  storeOf: (namespace: string | undefined) => FunctionStore<V>,
  regional: FunctionMultiKeyGenerator,
  given: Arguments,
): unknown {
  return functionFirst(
    'cacheMultiOnArguments()',
    given,
    makeCacheMultiOnArguments as AnyFunction,
    (options: CacheMultiOptions, by) => cacher(storeOf, regional, options, by),
  )
}

function cacher<V>(
  storeOf: (namespace: string | undefined) => FunctionStore<V>,
  regional: FunctionMultiKeyGenerator,
  given: CacheMultiOptions,
  by?: Declaring,
): (...given: Arguments) => unknown {
  const options = copyOptions(given)
  const names = readOptions('cacheMultiOnArguments()', options, OWN, ([id]) => id)
  const generator = options.functionMultiKeyGenerator ?? regional
  const namespace = checkNamespace(options.namespace, isByNamespace(generator))
  const store = storeOf(options.namespace)
  const declare = (...given: Arguments): unknown => {
    expectNoDecorator('cacheMultiOnArguments()', given)
    const fn = given[0] as AnyFunction
    expectThat(typeof fn === 'function', fn, 'cacheMultiOnArguments() to wrap a function')
    if (options.ids === 'array' && showsRest(fn))
      rejectOptions(
        "Expected a function of one array, as ids: 'array' says, got one of (...ids). Leave out `ids`.",
      )
    if (isByNamespace(generator))
      claimNamespace(store.home, namespace, fn, options.sharesNamespace, by ?? { called: declare })
    const form = multiForm(store, generator, expectKeysOf(generator(namespace, fn)), options)
    return withMembers(store, options, names, fn, form)
  }
  return declare
}

const OWN: Readonly<Record<string, OptionCheck>> = {
  functionMultiKeyGenerator: expectFunction,
  asMap: expectBoolean,
  ids: (value, subject) =>
    expectThat(value === 'array', value, `${subject} to be 'array'`, 'Leave it out for (...ids).'),
}

/** Ids that a generator receives at once: they are parameters, of which the stack holds about 100,000. */
const AT_ONCE = 5_000

/** A call has one key for each id. */
function multiForm<V>(
  store: FunctionStore<V>,
  generator: FunctionMultiKeyGenerator,
  generate: (...ids: Arguments) => readonly string[],
  { asMap = false, ids: shape }: CacheMultiOptions,
): CallForm<V> {
  const idsOf = (args: Arguments): Arguments => (shape === 'array' ? expectIds(args) : args)
  const keysOfSome = (ids: Arguments): readonly string[] => {
    const keys = generate(...ids)
    // A generator may fill the same list at its next call.
    if (Array.isArray(keys) && keys.length === ids.length) return frozenCopy(keys)
    ignoreRejections(keys)
    throw new CorralError(
      'ERR_KEY',
      `Expected the functionMultiKeyGenerator to make ${ids.length} keys for ${ids.length} ids, got ${Array.isArray(keys) ? keys.length : formatValue(keys)}. Return one key for each id, in their order.`,
    )
  }
  const keysOf = (args: Arguments): readonly string[] => {
    const ids = idsOf(args)
    if (ids.length <= AT_ONCE) return keysOfSome(ids)
    return checkWhole(ids, () => {
      const keys: string[] = []
      for (let at = 0; at < ids.length; at += AT_ONCE)
        for (const key of keysOfSome(ids.slice(at, at + AT_ONCE))) keys.push(key)
      return Object.freeze(keys)
    })
  }
  const resultOf: CallForm<V>['resultOf'] = (args, values) =>
    asMap
      ? new Map(
          idsOf(args)
            .map((id, i) => [id, values[i]] as const)
            .filter(([, v]) => v !== NO_VALUE),
        )
      : values
  return {
    keysOf,
    kept: (args) => (shape === 'array' ? [[...expectIds(args)]] : args),
    capture: capturing(generator),
    mayChange: areChangeable,
    argsPerKey: (args) => idsOf(args).map((id) => [id]),
    callOf: (own) => (shape === 'array' ? [own] : own),
    run: (original, each) => {
      const ids = each.map(([id]) => id)
      // Frozen: its values are assigned to the ids in their order here, and a function that sorts its list has another.
      const result = (
        shape === 'array' ? original(Object.freeze(ids)) : original(...ids)
      ) as MaybePromise<unknown>
      return andThen(native(result), (found) =>
        asMap ? fromMap<V>(ids, found, generate) : (found as readonly V[]),
      )
    },
    create: async (keys, args, creatorOf, options) =>
      resultOf(args, await store.getOrCreateMulti(keys, creatorOf(keys, args), options)),
    read: (keys, options) => store.getMulti(keys, options),
    resultOf,
    splitSet([entries]) {
      expectThat(types.isMap(entries), entries, '`set` to receive a Map from id to value', SET_A_MAP)
      const values = entries as ReadonlyMap<unknown, V>
      const ids = [...values.keys()]
      return [shape === 'array' ? [ids] : ids, [...values.values()]]
    },
    outcomeOf: (outcomes) => outcomes,
    members: { keys: (...args: Arguments) => keysOf(args) },
  }
}

/** @throws CorralError `ERR_OPTION` unless a function of one array of ids is called with an array. */
function expectIds([ids, ...more]: Arguments): Arguments {
  const asked = "an array of ids and nothing else, as ids: 'array' says"
  expectThat(Array.isArray(ids) && more.length === 0, more.length === 0 ? ids : more, asked, CALL_IT)
  for (let i = 0; i < ids.length; i++) expectThat(i in ids, ids, 'an array of ids without holes', CALL_IT)
  return ids
}

const CALL_IT = 'Call it as fn([1, 2]).'
const SET_A_MAP = 'Call it as fn.set(new Map([[1, value]])).'

/** The values of a map in the order of the ids. An id without a value gets `NO_VALUE`, which is not stored. */
function fromMap<V>(ids: Arguments, result: unknown, generate: (...ids: Arguments) => readonly string[]) {
  if (!types.isMap(result))
    throw new CorralError(
      'ERR_CREATOR',
      `Expected the function to return a Map from id to value, as asMap says, got ${formatValue(result)}. Return a Map, or leave out asMap.`,
    )
  const values = ids.map((id) => (result.has(id) ? (result.get(id) as V) : NO_VALUE))
  if (values.includes(NO_VALUE)) refuseOtherIds(ids, result, generate)
  return values
}

/**
 * An id of another type, such as the text of a number from a driver, or another object that is equal would never be found, nor
 * its value stored.
 */
function refuseOtherIds(
  ids: Arguments,
  found: ReadonlyMap<unknown, unknown>,
  generate: (...ids: Arguments) => readonly string[],
): void {
  const textOf = (id: unknown): unknown => {
    if (isPlainId(id)) return String(id)
    try {
      return generate(id)[0]
    } catch {
      return id
    }
  }
  const asked = new Set(ids)
  const others = new Map([...found.keys()].filter((id) => !asked.has(id)).map((id) => [textOf(id), id]))
  for (const id of ids) {
    const other = found.has(id) ? undefined : others.get(textOf(id))
    if (other !== undefined)
      throw new CorralError(
        'ERR_CREATOR',
        `Expected a Map whose keys are the ids of the call, got ${formatValue(other)} in place of ${formatValue(id)}. Give the Map the ids that the function received.`,
      )
  }
}

function isPlainId(id: unknown): boolean {
  return typeof id === 'string' || typeof id === 'number' || typeof id === 'bigint'
}
