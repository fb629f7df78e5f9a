import { expectMethods } from '../base/options.js'
import { checkNamespace } from './keys.js'
import type { CacheOnArguments, CacheOptions } from './types.js'

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
export interface CacheResultsOptions<V> extends CacheOptions {
  /** Stores the results. The application may configure it later, at bootstrap. */
  readonly region: { cacheOnArguments(options: CacheOptions): CacheOnArguments<V> }
  /** Tells this function's results from those of others. */
  readonly namespace: string
  /** @default 'bypass' */
  readonly onKeyError?: 'bypass' | 'throw'
}

/**
 * Caches the results of a function or method in one line: `region.cacheOnArguments`, but arguments without a key make the
 * function run uncached.
 * @example
 * ```ts
 * import { makeRegion } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import { cacheResults } from 'corral/signals'
 *
 * const region = makeRegion<number>({ backend: memory() })
 * const area = cacheResults({ region, namespace: 'area', expirationTime: '10m' })(
 *   async (width: number, height: number) => width * height,
 * )
 * await area(3, 4)
 * await area.invalidate(3, 4)
 * ```
 * @throws CorralError `ERR_OPTION` or `ERR_NAMESPACE` for an invalid option.
 */
export function cacheResults<V>(options: CacheResultsOptions<V>): CacheOnArguments<V> {
  const { region, ...others } = options
  checkNamespace(options.namespace)
  expectRegion(region, '`region` of cacheResults()')
  return region.cacheOnArguments({ ...others, onKeyError: options.onKeyError ?? 'bypass' })
}

/** @throws CorralError `ERR_OPTION` unless it is a region. */
export function expectRegion(value: unknown, subject: string): void {
  expectMethods(value, ['cacheOnArguments'], `${subject} to be a region`, 'Pass a region of makeRegion().')
}
