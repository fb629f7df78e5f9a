import type { AnyFunction, Arguments } from '../base/any-function.js'
import { expectDuration } from '../base/duration.js'
import { andThen, type MaybePromise } from '../base/maybe-promise.js'
import { expectFunction, expectOneOf, expectThat, type OptionCheck } from '../base/options.js'
import { cachedMethod } from './cached-method.js'
import { readOptions } from './declarations.js'
import { checkNamespace, type FunctionKeyGenerator, functionKeyGenerator } from './keys.js'
import { type CallForm, withMembers } from './members.js'
import type { CacheOnArguments, CacheOptions, FunctionStore } from './types.js'

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
      withMembers(store, options, names, fn, singleForm(store, keyOf), instance)
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

const OWN: Readonly<Record<string, OptionCheck>> = {
  functionKeyGenerator: expectFunction,
  enabled: expectFunction,
  expirationTime: (value, subject) => typeof value === 'function' || expectDuration(value, subject),
  self: (value, subject) =>
    value === 'shared' || expectFunction(value, subject, "a function of the instance, or 'shared'"),
  key: (value, subject) =>
    typeof value === 'string' || expectFunction(value, subject, 'a string or a function of the arguments'),
  onKeyError: (value, subject) => expectOneOf(value, subject, ['bypass', 'throw']),
  copy: (value, subject) => expectOneOf(value, subject, ['share', 'clone']),
}

/** A call has one key, made of all its arguments. */
function singleForm<V>(store: FunctionStore<V>, keyOf: (...args: Arguments) => string): CallForm<V> {
  return {
    keysOf: (...args) => [keyOf(...args)],
    argsPerKey: (args) => [args],
    run: (original, [args = []]) => andThen(original(...args) as MaybePromise<V>, (value) => [value]),
    create: ([key], creator, options) =>
      store.getOrCreate(
        key as string,
        (creation) => andThen(creator(creation.keys, creation), ([value]) => value as V),
        options,
      ),
    read: ([key], options) => store.get(key as string, options),
    resultOf: (_, [value]) => value,
    splitSet: ([value, ...args]) => [args, [value as V]],
    members: { key: keyOf },
  }
}
