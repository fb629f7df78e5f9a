import { milliseconds } from '../base/duration.js'
import { andThen, type MaybePromise, mapEach } from '../base/maybe-promise.js'
import { expectOneOf, expectThat } from '../base/options.js'
import { cachedMethod } from './cached-method.js'
import { checkNamespace, type FunctionKeyGenerator, functionKeyGenerator } from './keys.js'
import {
  type AnyFunction,
  type Arguments,
  type CallForm,
  checkFunction,
  readOptions,
  withMembers,
} from './members.js'
import type { CachedFunction, CacheOnArguments, CacheOptions, FunctionStore } from './types.js'

/** `region.cacheOnArguments(options)`: caches functions of one value, and methods. */
export function makeCacheOnArguments<V>(
  store: FunctionStore<V>,
  options: CacheOptions,
  regional: FunctionKeyGenerator,
): CacheOnArguments<V> {
  const names = readOptions('cacheOnArguments()', options, OWN, (args) => args)
  const { key, self } = options
  const generator = options.functionKeyGenerator ?? (key === undefined ? regional : functionKeyGenerator)
  const namespace = checkNamespace(options.namespace, generator === functionKeyGenerator)

  const decorate = (fn: AnyFunction, context?: ClassMethodDecoratorContext): unknown => {
    expectThat(typeof fn === 'function', fn, 'cacheOnArguments() to wrap a function')
    const keysIn = (space: string) => {
      const keyOf = generator(space, fn)
      if (key === undefined) return keyOf
      return (...args: Arguments) => keyOf(typeof key === 'string' ? key : key(...(args as never[])))
    }
    const shared = keysIn(namespace)
    const cached = (keyOf = shared, instance?: object) =>
      withMembers(store, options, names, fn, singleForm(store, keyOf), instance) as CachedFunction<
        Arguments,
        V
      >
    if (context === undefined) return cached()
    expectThat(context.kind === 'method', context.kind, 'cacheOnArguments() to decorate a method')
    return cachedMethod(fn, self, context, (instance) => {
      if (typeof self !== 'function') return cached(shared, instance)
      // The instance belongs to the namespace: a generator may expect the method's own arguments only.
      const spaceOf = functionKeyGenerator(namespace || 'self', fn)
      return cached((...args) => keysIn(spaceOf(self(instance as never)))(...args), instance)
    })
  }
  return decorate as CacheOnArguments<V>
}

const OWN = {
  functionKeyGenerator: checkFunction,
  enabled: checkFunction,
  expirationTime(value: unknown, option: string) {
    if (typeof value !== 'function') milliseconds(value, option)
  },
  self: (value: unknown) =>
    expectThat(
      value === 'shared' || typeof value === 'function',
      value,
      "`self` to be a function of the instance, or 'shared'",
    ),
  key: (value: unknown) =>
    expectThat(
      typeof value === 'string' || typeof value === 'function',
      value,
      '`key` to be a string or a function of the arguments',
    ),
  onKeyError: (value: unknown) => expectOneOf(value, '`onKeyError`', ['bypass', 'throw']),
  copy: (value: unknown) => expectOneOf(value, '`copy`', ['share', 'clone']),
}

/** A call has one key, made of all its arguments. */
function singleForm<V>(store: FunctionStore<V>, keyOf: (...args: Arguments) => string): CallForm<V> {
  return {
    keysOf: (args) => [keyOf(...args)],
    argsPerKey: (args) => [args],
    run: (original, each) => mapEach(each, (args) => original(...args) as MaybePromise<V>),
    create: (keys, creator, options) =>
      store.getOrCreate(
        keys[0] as string,
        (creation) => andThen(creator(creation.keys, creation), ([value]) => value as V),
        options,
      ),
    read: (keys, options) => store.get(keys[0] as string, options),
    resultOf: (_, [value]) => value,
    splitSet: ([value, ...args]) => [args, [value as V]],
    members: { key: (...args: Arguments) => keyOf(...args) },
  }
}
