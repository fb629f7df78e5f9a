import { NO_VALUE, type NoValue } from '../backend/cached-value.js'
import { report } from '../base/diagnostics.js'
import type { Duration } from '../base/duration.js'
import { CorralError, formatValue } from '../base/errors.js'
import { expectSync } from '../base/expect-sync.js'
import type { MaybePromise } from '../base/maybe-promise.js'
import { rejectUnknownOptions } from '../base/options.js'
import { currentScope, handUpVersion } from '../creation/scope.js'
import { dependsOn } from '../dependencies/depends-on.js'
import { resolveVersions } from '../ledger/checked-names.js'
import { methods } from './cached-method.js'
import { declared } from './declarations.js'
import { checkNamespace, type FunctionKeyGenerator, functionKeyGenerator } from './keys.js'
import type { CachedFunction, CacheOptions, CachingRegion } from './types.js'

export interface CacheResultsOptions<V>
  extends Pick<CacheOptions, 'self' | 'shouldCache' | 'dependencies' | 'resultDependencies' | 'group'> {
  /** Where results are kept. It may be configured later, at bootstrap. */
  readonly region: CachingRegion<V>
  /** Tells this function's results from others'. */
  readonly namespace: string
  /** How long results are fresh: ms, or `'10m'`. @default the region's expiration time */
  readonly timeout?: Duration
  /** A key for all arguments, or a function of them; `invalidate` knows it too. @default made of the arguments */
  readonly key?: string | ((...args: never[]) => string)
  /** Asked at every call; while it answers false the function runs uncached. @default always */
  readonly enabled?: () => boolean
  /** What happens with arguments that no key can be made of: the function runs uncached, or the call rejects. @default 'bypass' */
  readonly onKeyError?: 'bypass' | 'throw'
  /** `'clone'`: every caller gets a copy of its own, which it may change. @default 'share' */
  readonly copy?: 'share' | 'clone'
}

/** Wraps a function, or replaces a method of a class. */
export interface CacheResults<V> {
  <F extends (...args: never[]) => MaybePromise<V>>(
    fn: F,
  ): CachedFunction<Parameters<F>, Awaited<ReturnType<F>>>
  <This, A extends readonly unknown[], T extends V>(
    method: (this: This, ...args: A) => Promise<T>,
    context: ClassMethodDecoratorContext<This, (this: This, ...args: A) => Promise<T>>,
  ): (this: This, ...args: A) => Promise<T>
}

const KNOWN = [
  'region',
  'namespace',
  'timeout',
  'key',
  'enabled',
  'onKeyError',
  'copy',
  'self',
  'shouldCache',
  'dependencies',
  'resultDependencies',
  'group',
]

type AnyFunction = (...args: never[]) => unknown
type Cached = CachedFunction<readonly unknown[], unknown>

/**
 * Caches what a function returns, for those who want to write no more than a timeout. It is `region.cacheOnArguments` that
 * runs the function uncached where it cannot make a key, can be switched off, and can keep callers from each other's objects.
 * @throws CorralError `ERR_OPTION` or `ERR_NAMESPACE` for an option that cannot be right.
 */
export function cacheResults<V>(options: CacheResultsOptions<V>): CacheResults<V> {
  check(options)
  const { namespace, self, key } = options
  const keys: FunctionKeyGenerator =
    key === undefined
      ? functionKeyGenerator
      : (space, fn) =>
          // In its namespace, so that the same key of another function is another one.
          (...args) =>
            functionKeyGenerator(space, fn)(typeof key === 'string' ? key : key(...(args as never[])))

  const { region, timeout, shouldCache, dependencies, resultDependencies, group } = options
  const cacheOnArguments = region.cacheOnArguments({
    namespace,
    functionKeyGenerator: keys,
    ...(self !== undefined && { self }),
    ...(timeout !== undefined && { expirationTime: timeout }),
    ...(shouldCache !== undefined && { shouldCache }),
    ...(dependencies !== undefined && { dependencies }),
    ...(resultDependencies !== undefined && { resultDependencies }),
    ...(group !== undefined && { group }),
  })

  const decorate = (fn: unknown, context?: ClassMethodDecoratorContext): unknown => {
    if (typeof fn !== 'function')
      throw new CorralError(
        'ERR_OPTION',
        `Expected cacheResults() to wrap a function, got ${formatValue(fn)}.`,
      )
    const plain = fn as AnyFunction
    const cached: unknown = cacheOnArguments(plain as never, context as never)
    if (context === undefined) return resultsOf(options, plain, cached as Cached)
    const inner = methods.get(cached as object) as (instance: object) => Cached
    const bound = new WeakMap<object, Cached>()
    const bind = (instance: object): Cached => {
      let found = bound.get(instance)
      if (found === undefined) bound.set(instance, (found = resultsOf(options, plain, inner(instance))))
      return found
    }
    const method = async function (this: object | undefined, ...args: readonly unknown[]) {
      const isInstance = (typeof this === 'object' && this !== null) || typeof this === 'function'
      // The cached method knows what to say to those who call it without one.
      return isInstance
        ? bind(this)(...args)
        : (Reflect.apply(cached as AnyFunction, undefined, args) as unknown)
    }
    // methodOf() finds it here.
    methods.set(method, bind)
    return dressed(method, plain, {})
  }
  return decorate as CacheResults<V>
}

function resultsOf<V>(options: CacheResultsOptions<V>, fn: AnyFunction, cached: Cached): Cached {
  const { namespace, enabled, onKeyError = 'bypass', copy = 'share' } = options
  const { key: keyOf } = cached
  const original = declaring(options, cached.original)

  const hasKey = (args: readonly unknown[]): boolean => {
    if (onKeyError === 'throw') return true
    try {
      keyOf(...args)
      return true
    } catch (error) {
      if (!CorralError.is(error, 'ERR_KEY_ARGUMENT')) throw error
      report('notice', () => ({
        where: `cacheResults: ${namespace}`,
        message: `Not cached. ${error.message}`,
      }))
      return false
    }
  }
  const isOn = (): boolean => {
    return Boolean(expectSync('`enabled` of cacheResults()', enabled?.() ?? true))
  }
  const uncached = (args: readonly unknown[]) => !isOn() || !hasKey(args)
  const own = <T>(value: T): T => {
    if (copy === 'share' || value === NO_VALUE) return value
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
  const call = async (...args: readonly unknown[]): Promise<unknown> =>
    uncached(args) ? original(...args) : own(await cached(...args))
  return dressed(call, fn, {
    original: cached.original,
    key: keyOf,
    get: async (...args: readonly unknown[]): Promise<unknown | NoValue> =>
      uncached(args) ? NO_VALUE : own(await cached.get(...args)),
    set: async (value: unknown, ...args: readonly unknown[]) => {
      if (!uncached(args)) await cached.set(own(value), ...args)
    },
    refresh: async (...args: readonly unknown[]) =>
      uncached(args) ? original(...args) : own(await cached.refresh(...args)),
    // Also while it is switched off: what is stored must not come back with the switch.
    invalidate: Object.assign(
      async (...args: readonly unknown[]) => {
        if (hasKey(args)) await cached.invalidate(...args)
      },
      {
        soft: async (...args: readonly unknown[]) => {
          if (hasKey(args)) await cached.invalidate.soft(...args)
        },
      },
    ),
  }) as unknown as Cached
}

/**
 * The function run uncached. What a creation around the caller makes of its result depends on what is declared of it all
 * the same; it must not be stored where that creation cannot say so.
 */
function declaring<V>(
  options: CacheResultsOptions<V>,
  original: (...args: readonly unknown[]) => unknown,
): (...args: readonly unknown[]) => unknown {
  const names = declared(options)
  if (names === undefined) return original
  const why = `it was made from a result of '${options.namespace}', run uncached, whose dependencies this region does not track`
  return async (...args) => {
    if (currentScope() === undefined) return original(...args)
    const ahead = await resolveVersions(names.fromArguments(args))
    const asOf = await options.region.asOf().catch(() => undefined)
    const hand = (list: readonly string[]): void => {
      const collector = currentScope()?.collector
      // Names mean something only in the ledger in which they are invalidated: another one is told by its epoch.
      if (collector === undefined || asOf === undefined) handUpVersion(undefined, why)
      else {
        collector.inherit({ epoch: asOf.epoch, groups: [] }, true)
        dependsOn(list)
      }
    }
    hand(ahead)
    const result = await original(...args)
    hand(names.fromResult(result, args))
    return result
  }
}

function dressed(wrapper: object, fn: AnyFunction, members: object): object {
  for (const property of ['name', 'length'] as const)
    Object.defineProperty(wrapper, property, { value: fn[property], configurable: true })
  return Object.assign(wrapper, members)
}

function check<V>(options: CacheResultsOptions<V>): void {
  rejectUnknownOptions(options, KNOWN, 'cacheResults()')
  const { region, namespace, key, enabled, onKeyError, copy, self } = options
  checkNamespace(namespace)
  const wrong = (expected: string, value: unknown) =>
    new CorralError('ERR_OPTION', `Expected ${expected}, got ${formatValue(value)}.`)
  if (typeof (region as Partial<CachingRegion<V>> | undefined)?.cacheOnArguments !== 'function')
    throw wrong('`region` of cacheResults() to be a region', region)
  if (key !== undefined && typeof key !== 'string' && typeof key !== 'function')
    throw wrong('`key` to be a text or a function of the arguments', key)
  if (enabled !== undefined && typeof enabled !== 'function')
    throw wrong('`enabled` to be a function', enabled)
  if (onKeyError !== undefined && onKeyError !== 'bypass' && onKeyError !== 'throw')
    throw wrong("`onKeyError` to be 'bypass' or 'throw'", onKeyError)
  if (copy !== undefined && copy !== 'share' && copy !== 'clone')
    throw wrong("`copy` to be 'share' or 'clone'", copy)
  if (self !== undefined && self !== 'shared' && typeof self !== 'function')
    throw wrong("`self` to be a function of the instance, or 'shared'", self)
}
