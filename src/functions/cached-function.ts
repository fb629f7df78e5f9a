import { NO_VALUE, type NoValue } from '../backend/cached-value.js'
import { report } from '../base/diagnostics.js'
import { milliseconds } from '../base/duration.js'
import { CorralError, formatValue } from '../base/errors.js'
import { expectSync } from '../base/expect-sync.js'
import { andThen, type MaybePromise, mapEach } from '../base/maybe-promise.js'
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
import { cachedMethod } from './cached-method.js'
import { type Declared, runUncached } from './declarations.js'
import { type FunctionKeyGenerator, functionKeyGenerator } from './keys.js'
import type { CachedFunction, CacheOnArguments, CacheOptions, FunctionStore } from './types.js'

/** Builds `region.cacheOnArguments(options)`. */
export function makeCacheOnArguments<V>(
  store: FunctionStore<V>,
  options: CacheOptions,
  regional: FunctionKeyGenerator,
): CacheOnArguments<V> {
  const names = checkOptions(options)
  const { key, self } = options
  const generator = options.functionKeyGenerator ?? (key === undefined ? regional : functionKeyGenerator)
  const namespace = namespaceFor(options.namespace, generator === functionKeyGenerator)

  const decorate = (fn: unknown, context?: ClassMethodDecoratorContext): unknown => {
    expectThat(typeof fn === 'function', fn, 'cacheOnArguments() to wrap a function')
    const plain = fn as AnyFunction
    const keysIn = (space: string) => {
      const keyOf = generator(space, plain)
      if (key === undefined) return keyOf
      return (...args: Arguments) => keyOf(typeof key === 'string' ? key : key(...(args as never[])))
    }
    const keyOf = keysIn(namespace)
    if (context === undefined) return cachedFunction(store, options, names, plain, keyOf)
    expectThat(context.kind === 'method', context.kind, 'cacheOnArguments() to decorate a method')
    return cachedMethod(plain, self, context, (instance) => {
      // The instance belongs to the namespace: a generator may expect the method's own arguments only.
      const spaceOf = () =>
        functionKeyGenerator(namespace || 'self', plain)((self as (of: object) => unknown)(instance))
      const own = typeof self === 'function' ? (...args: Arguments) => keysIn(spaceOf())(...args) : keyOf
      return cachedFunction(store, options, names, plain, own, instance)
    })
  }
  return decorate as CacheOnArguments<V>
}

function checkOptions(options: CacheOptions): Declared | undefined {
  const where = 'cacheOnArguments()'
  const names = checkCommonOptions(where, options, [
    'functionKeyGenerator',
    'self',
    'key',
    'enabled',
    'onKeyError',
    'copy',
  ])
  const { expirationTime, self, key, onKeyError, copy } = options
  if (expirationTime !== undefined && typeof expirationTime !== 'function')
    milliseconds(expirationTime, 'expirationTime')
  expectThat(
    self === undefined || self === 'shared' || typeof self === 'function',
    self,
    "`self` to be a function of the instance, or 'shared'",
  )
  expectThat(
    key === undefined || typeof key === 'string' || typeof key === 'function',
    key,
    '`key` to be a string or a function of the arguments',
  )
  if (onKeyError !== undefined) expectOneOf(onKeyError, '`onKeyError`', ['bypass', 'throw'])
  if (copy !== undefined) expectOneOf(copy, '`copy`', ['share', 'clone'])
  return names
}

/** A function whose results are kept in a region, each under the key of its arguments. */
function cachedFunction<V>(
  store: FunctionStore<V>,
  options: CacheOptions,
  names: Declared | undefined,
  fn: AnyFunction,
  keyOf: (...args: Arguments) => string,
  self?: object,
): CachedFunction<Arguments, V> {
  const { namespace, copy = 'share' } = options
  const original = (...args: Arguments) => Reflect.apply(fn, self, args) as MaybePromise<V>
  const uncached = (args: Arguments) => runUncached(store, names, namespace, original, args)
  const calls = cachedCalls(
    store,
    options,
    names,
    {
      keysOf: (each) => each.map((args) => keyOf(...args)),
      run: (each) => mapEach(each, (args) => original(...args)),
    },
    self,
  )

  const withKey = keyedWork(options, keyOf)
  const copyOf = <T>(value: T): T => (copy === 'share' || value === NO_VALUE ? value : clone(value))
  const own = <T>(result: Promise<T>): Promise<T> => (copy === 'share' ? result : result.then(copyOf))
  const nothing = () => undefined

  const call = withKey(
    (key, args) =>
      own(
        store.getOrCreate(
          key,
          (creation) =>
            andThen(calls.creatorOf([key], [args])(creation.keys, creation), ([value]) => value as V),
          calls.optionsFor(args),
        ),
      ),
    uncached,
  )
  return dress(call, fn, {
    original,
    key: (...args: Arguments) => keyOf(...args),
    get: withKey<V | NoValue>(
      (key, args) => own(store.get(key, { expirationTime: calls.optionsFor(args).expirationTime })),
      () => NO_VALUE,
    ),
    set: (value: V, ...given: Arguments) =>
      withKey((key, args) => calls.put([key], [copyOf(value)], args), nothing)(...given),
    refresh: withKey(
      (key, args) => own(calls.refresh([key], [args]).then(([value]) => value as V)),
      uncached,
    ),
    // Also while the function is switched off: its stored values must not come back with the switch.
    invalidate: Object.assign(
      withKey((key) => store.delete(key), nothing, true),
      { soft: withKey((key) => store.expire(key), nothing, true) },
    ),
  }) as CachedFunction<Arguments, V>
}

/** Does work with the key of a call, or does `otherwise` where the call has no key or the function is switched off. */
type KeyedWork = <R>(
  work: (key: string, args: Arguments) => MaybePromise<R>,
  otherwise: (args: Arguments) => MaybePromise<R>,
  whileOff?: boolean,
) => (...args: Arguments) => Promise<R>

function keyedWork(
  { namespace, enabled, onKeyError = 'throw' }: CacheOptions,
  keyOf: (...args: Arguments) => string,
): KeyedWork {
  const keyOrNone = (args: Arguments): string | undefined => {
    try {
      return keyOf(...args)
    } catch (error) {
      if (onKeyError === 'throw' || !CorralError.is(error, 'ERR_KEY_ARGUMENT')) throw error
      report('notice', () => ({
        where: `cacheOnArguments: ${namespace}`,
        message: `Not cached. ${error.message}`,
      }))
      return undefined
    }
  }
  const isOn = () =>
    enabled === undefined || Boolean(expectSync('`enabled` of cacheOnArguments()', enabled()))
  return (work, otherwise, whileOff = false) =>
    (...args) =>
      attempt(() => {
        const key = whileOff || isOn() ? keyOrNone(args) : undefined
        return key === undefined ? otherwise(args) : work(key, args)
      })
}

function clone<T>(value: T): T {
  try {
    return structuredClone(value)
  } catch (cause) {
    throw new CorralError(
      'ERR_UNENCODABLE',
      `Expected a result that can be cloned, as copy: 'clone' says: ${cause instanceof Error ? cause.message : formatValue(cause)}`,
      { cause },
    )
  }
}
