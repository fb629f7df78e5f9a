/** The cache of query results of TypeORM in a region. */
import type { Region } from '../../region/types.js'
import { changesName } from '../orm/core.js'
import { type Pending, queryCache, type ResultCacheOptions } from '../orm/query-cache.js'
import { typeOf } from './entities.js'
import type { Metadata } from './host.js'

/**
 * What TypeORM passes to its cache.
 * @example
 * ```ts
 * import type { TypeOrmCachedQuery } from 'corral/integrations/typeorm'
 *
 * export const named: TypeOrmCachedQuery = { identifier: 'front-page', duration: 60_000 }
 * ```
 */
export interface TypeOrmCachedQuery {
  readonly identifier?: string
  readonly query?: string
  readonly time?: number
  readonly duration: number
  readonly result?: unknown
}

/**
 * A `QueryResultCache` of TypeORM.
 * @example
 * ```ts
 * import type { TypeOrmResultCache } from 'corral/integrations/typeorm'
 *
 * export const forget = (cache: TypeOrmResultCache) => cache.remove(['front-page'])
 * ```
 */
export interface TypeOrmResultCache {
  connect(): Promise<void>
  disconnect(): Promise<void>
  synchronize(): Promise<void>
  getFromCache(query: TypeOrmCachedQuery): Promise<TypeOrmCachedQuery | undefined>
  storeInCache(query: TypeOrmCachedQuery, saved: TypeOrmCachedQuery | undefined): Promise<void>
  isExpired(saved: TypeOrmCachedQuery): boolean
  clear(): Promise<void>
  remove(identifiers: string[]): Promise<void>
}

/**
 * The provider for `cache: { provider }` of TypeORM: `find({ cache: 60_000 })` then has its result from the region. One caller of all
 * processes sends a query. A result depends on all changes of the entities whose tables its query names; `typeOrm()` invalidates
 * them after each commit.
 * @example
 * ```ts
 * import type { Region } from 'corral'
 * import { typeOrmResultCache } from 'corral/integrations/typeorm'
 *
 * export const cache = (results: Region) => ({ provider: typeOrmResultCache(results) })
 * ```
 * @throws CorralError `ERR_OPTION` for options that cannot be right
 */
export function typeOrmResultCache(
  region: Region,
  options: ResultCacheOptions = {},
): (dataSource: { readonly entityMetadatas: readonly object[] }) => TypeOrmResultCache {
  const cache = queryCache(region, options, 'typeOrmResultCache()')
  // A query is under way from its question on. TypeORM hands the answer back with the result.
  const pending = new WeakMap<object, Pending>()
  const keyOf = ({ identifier, query = '' }: TypeOrmCachedQuery): string => identifier ?? query
  return (dataSource) => ({
    ...{ connect: nothing, disconnect: nothing, synchronize: nothing },
    async getFromCache(query) {
      const missing = { ...query }
      const found = await cache.reserve(keyOf(query))
      if ('value' in found) return { ...missing, result: found.value }
      pending.set(missing, found)
      return missing
    },
    async storeInCache(query, saved) {
      const types = typesIn(dataSource.entityMetadatas as readonly Metadata[], query.query ?? '')
      const stored = { dependencies: types.map(changesName), expirationTime: query.duration }
      await cache.fill(saved && pending.get(saved), () => query.result, stored)
    },
    isExpired: (saved) => saved.result === undefined,
    clear: cache.clear,
    remove: cache.remove,
  })
}

async function nothing(): Promise<void> {}

/** The types whose tables a query names; all of them if it names none, as one of a view. */
function typesIn(all: readonly Metadata[], query: string): readonly string[] {
  const words = new Set(query.split(/[^\p{L}\p{N}_$]+/u))
  const named = all.filter(({ tableName }) => words.has(tableName.split('.').at(-1) ?? ''))
  const read = named.some(({ tableType }) => tableType === 'view') || named.length === 0 ? all : named
  const types = read.flatMap((one) =>
    one.isJunction ? one.foreignKeys.map(({ referencedEntityMetadata }) => referencedEntityMetadata) : [one],
  )
  return [...new Set(types.map(typeOf))]
}
