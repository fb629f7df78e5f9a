/** The cache of Drizzle in a region. */
import { oneOrMany } from '../../base/one-or-many.js'
import { expectOneOf, ownOptions, rejectUnknownOptions } from '../../base/options.js'
import { dep } from '../../dependencies/dep.js'
import type { Region } from '../../region/types.js'
import { changesName } from '../orm/core.js'
import { queryCache, type ResultCacheOptions } from '../orm/query-cache.js'

/**
 * A `Cache` of Drizzle.
 * @example
 * ```ts
 * import type { DrizzleResultCache } from 'corral/integrations/drizzle'
 *
 * export const changed = (cache: DrizzleResultCache) => cache.onMutate({ tables: 'article' })
 * ```
 */
export interface DrizzleResultCache {
  strategy(): 'explicit' | 'all'
  get(key: string, tables: string[], isTag: boolean, isAutoInvalidate?: boolean): Promise<never[] | undefined>
  put(
    key: string,
    response: unknown,
    tables: string[],
    isTag: boolean,
    config?: { readonly ex?: number | undefined; readonly px?: number | undefined },
  ): Promise<void>
  onMutate(change: {
    readonly tags?: string | string[] | undefined
    readonly tables?: unknown
  }): Promise<void>
}

/**
 * Options of `drizzleResultCache`.
 * @example
 * ```ts
 * import type { DrizzleResultCacheOptions } from 'corral/integrations/drizzle'
 *
 * export const all: DrizzleResultCacheOptions = { strategy: 'all' }
 * ```
 */
export interface DrizzleResultCacheOptions extends ResultCacheOptions {
  /** `'explicit'`: queries with `$withCache()`; `'all'`: every query of a builder. @default 'explicit' */
  readonly strategy?: 'explicit' | 'all' | undefined
}

/**
 * The `cache` of a Drizzle database in a region. One caller of all processes sends a query. A result depends on all changes of its
 * tables. Drizzle tells its cache of a change beside the statement, and before the commit: use `drizzleCache(db, …)` with the same
 * ledger, too, which invalidates once more when the change is done.
 * @example
 * ```ts
 * import type { Region } from 'corral'
 * import { drizzleResultCache } from 'corral/integrations/drizzle'
 *
 * export const config = (results: Region) => ({ cache: drizzleResultCache(results) })
 * ```
 * @throws CorralError `ERR_OPTION` for options that cannot be right
 */
export function drizzleResultCache(
  region: Region,
  options: DrizzleResultCacheOptions = {},
): DrizzleResultCache {
  options = ownOptions(options)
  const where = 'drizzleResultCache()'
  rejectUnknownOptions(options, ['strategy', 'hold'], where)
  const { strategy = 'explicit', ...rest } = options
  expectOneOf(strategy, `\`strategy\` of ${where}`, ['explicit', 'all'])
  const cache = queryCache(region, rest, where)
  const tagName = (tag: string) => dep.tag('drizzle', tag)
  return {
    strategy: () => strategy,
    get: (key) => cache.get(key).then((found) => structuredClone(found) as never[] | undefined),
    put(key, response, tables, isTag, { ex, px } = {}) {
      const dependencies = [...tables.map(changesName), ...(isTag ? [tagName(key)] : [])]
      const expirationTime = px ?? (ex === undefined ? undefined : ex * 1_000)
      return cache.put(key, () => dataOf(response), { dependencies, expirationTime })
    },
    // Drizzle calls it as a function of another object, too.
    async onMutate({ tags = [], tables = [] }) {
      const changed = oneOrMany(tables).map((table) => changesName(tableName(table)))
      const names = [...changed, ...oneOrMany(tags).map(tagName)]
      if (names.length > 0) await region.invalidateDependencies(names)
    },
  }
}

/** The data of a driver's result: rows of some are lists with names beside, which no copy has, and results are objects of classes. */
function dataOf(response: unknown): unknown {
  if (Array.isArray(response)) return response.map(dataOf)
  const { rows, rowCount, length } = (response ?? {}) as Readonly<Record<string, unknown>>
  if (Array.isArray(rows)) return { rows: dataOf(rows), rowCount }
  return typeof length === 'number' && typeof response === 'object'
    ? Array.from(response as ArrayLike<unknown>)
    : structuredClone(response)
}

const tableName = (table: unknown): string =>
  typeof table === 'string'
    ? table
    : String((table as Readonly<Record<symbol, unknown>>)[Symbol.for('drizzle:Name')])
