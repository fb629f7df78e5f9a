import type { AnyFunction, ArgumentsOf } from '../base/any-function.js'
import type { MaybePromise } from '../base/maybe-promise.js'
import { didYouMean, expectMethods, rejectOptions } from '../base/options.js'
import { expectFunctionFirst, expectNoDecorator } from './cached-method.js'
import { checkNamespace } from './keys.js'
import type { CachedFunctionOf, CacheOnArguments, CacheOptions, Known, OptionsOf, SelfOf } from './types.js'

/**
 * Options of `cacheResults`: those of `region.cacheOnArguments`, and the region.
 * @example
 * ```ts
 * import { makeRegion } from 'corral'
 * import type { CacheResultsOptions } from 'corral/signals'
 *
 * const options: CacheResultsOptions<number> = { region: makeRegion<number>(), namespace: 'area', copy: 'clone' }
 * ```
 */
export interface CacheResultsOptions<
  V,
  A extends readonly unknown[] = never,
  T = never,
  This = [A] extends [never] ? never : unknown,
> extends CacheOptions<A, T, This> {
  /** Stores the results. The application may configure it later, at bootstrap. */
  readonly region: CachingRegion<V>
  /** Tells this function's results from those of others. */
  readonly namespace: string
  /** @default 'bypass' */
  readonly onKeyError?: 'bypass' | 'throw' | undefined
}

interface CachingRegion<V> {
  cacheOnArguments<F extends (...args: never[]) => MaybePromise<V>>(
    fn: F,
    options: OptionsOf<F>,
  ): CachedFunctionOf<F>
  cacheOnArguments<const O extends CacheOptions>(options: O & Known<O, CacheOptions>): CacheOnArguments<V, O>
}

/**
 * Caches the results of a function in one line: `region.cacheOnArguments`, but arguments without a key make the function
 * run uncached. Without a function it makes a method decorator, standard or legacy.
 * @example
 * ```ts
 * import { makeRegion } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import { cacheResults } from 'corral/signals'
 *
 * const region = makeRegion<number>({ backend: memory() })
 * const area = cacheResults(async (width: number, height: number) => width * height, {
 *   region,
 *   namespace: 'area',
 *   expirationTime: '10m',
 * })
 * await area(3, 4)
 * await area.invalidate(3, 4)
 * ```
 * @throws CorralError `ERR_OPTION` or `ERR_NAMESPACE` for an invalid option.
 */
export function cacheResults<V, F extends AnyFunction>(
  fn: F & Holds<V, Awaited<ReturnType<F>>>,
  options: CacheResultsOptions<V, ArgumentsOf<F>, Awaited<ReturnType<F>>, ThisParameterType<F>> & SelfOf<F>,
): CachedFunctionOf<F>
export function cacheResults<V, const O extends CacheOptions>(
  options: O & Known<O, CacheResultsOptions<V>> & Pick<CacheResultsOptions<V>, 'region' | 'namespace'>,
): CacheOnArguments<V, O>
export function cacheResults(...given: readonly unknown[]): unknown {
  expectNoDecorator('cacheResults()', given)
  const fn = typeof given[0] === 'function' ? given[0] : undefined
  const options = Object(fn === undefined ? given[0] : given[1]) as CacheResultsOptions<unknown>
  const { region, onKeyError = 'bypass', ...others } = options
  refuseMisspelt(others, region === undefined ? 'region' : 'namespace')
  checkNamespace(others.namespace)
  expectRegion(region, '`region` of cacheResults()')
  const cached = region.cacheOnArguments({ ...others, onKeyError })
  if (fn !== undefined) return cached(fn as never)
  expectFunctionFirst('cacheResults()', given[1])
  return cached
}

/** The region decides what it holds: the type of its values is not inferred from the function. */
type Holds<V, T> = [T] extends [V] ? unknown : 'the region does not hold the result of this function'

/** An option that is needed is not only missing where another name is near. @throws CorralError `ERR_OPTION` */
function refuseMisspelt(given: object, needed: string): void {
  if (needed in given) return
  for (const name of Object.keys(given)) {
    const question = didYouMean(name, [needed])
    if (question !== '') rejectOptions(`Unknown option \`${name}\` of cacheResults(). ${question.trim()}`)
  }
}

/** @throws CorralError `ERR_OPTION` unless it is a region. */
export function expectRegion(value: unknown, subject: string): void {
  expectMethods(value, ['cacheOnArguments'], `${subject} to be a region`, 'Pass a region of makeRegion().')
}
