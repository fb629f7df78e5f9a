/** The result cache of MikroORM in a region. */
import { expectFunction } from '../../base/options.js'
import type { Region } from '../../region/types.js'
import { changesName } from '../orm/core.js'
import { queryCache, type ResultCacheOptions } from '../orm/query-cache.js'
import type { Metadata, MikroOrmHost } from './host.js'

/**
 * A `CacheAdapter` of MikroORM.
 * @example
 * ```ts
 * import type { MikroOrmCacheAdapter } from 'corral/integrations/mikro-orm'
 *
 * export const forget = (cache: MikroOrmCacheAdapter, name: string) => cache.remove(name)
 * ```
 */
export interface MikroOrmCacheAdapter {
  get<T = unknown>(name: string): Promise<T | undefined>
  set(name: string, data: unknown, origin: string, expiration?: number): Promise<void>
  remove(name: string): Promise<void>
  clear(): Promise<void>
}

/**
 * The class for `resultCache: { adapter }` of MikroORM: `em.find(Article, {}, { cache: 60_000 })` then has its result from the region.
 * One caller of all processes sends a query. A result depends on all changes of the types in its query; `mikroOrm()`
 * invalidates them after each commit. A result under a name of yours depends on all changes of all types. `em.clearCache(name)` removes one.
 * @param orm - the `MikroORM`, once there is one: its entities tell the relations
 * @example
 * ```ts
 * import type { Region } from 'corral'
 * import { type MikroOrmHost, mikroOrmResultCache } from 'corral/integrations/mikro-orm'
 *
 * export const resultCache = (results: Region, orm: () => MikroOrmHost) => ({
 *   adapter: mikroOrmResultCache(results, orm),
 * })
 * ```
 * @throws CorralError `ERR_OPTION` for options that cannot be right
 */
export function mikroOrmResultCache(
  region: Region,
  orm: () => MikroOrmHost,
  options: ResultCacheOptions = {},
): new () => MikroOrmCacheAdapter {
  expectFunction(orm, '`orm` of mikroOrmResultCache()')
  const cache = queryCache(region, options, 'mikroOrmResultCache()')
  return class CorralResultCache implements MikroOrmCacheAdapter {
    async #clone<T>(found: Promise<unknown>): Promise<T> {
      // MikroORM makes entities of it.
      return structuredClone(await found) as T
    }
    get<T = unknown>(name: string): Promise<T | undefined> {
      return this.#clone(cache.get(name))
    }
    set(name: string, data: unknown, _origin: string, expiration?: number): Promise<void> {
      const dependencies = typesIn(orm(), name).map(changesName)
      return cache.put(name, () => structuredClone(data), { dependencies, expirationTime: expiration })
    }
    remove(name: string): Promise<void> {
      return cache.remove([name])
    }
    clear(): Promise<void> {
      return cache.clear()
    }
  }
}

/** The types that a query may read, by the key that MikroORM makes of it. */
function typesIn(orm: MikroOrmHost, key: string): readonly string[] {
  const storage = orm.getMetadata?.() as { getAll?(): Iterable<Metadata> | object } | undefined
  const all: readonly Metadata[] = valuesOf(storage?.getAll?.() ?? {})
  const types = new Set<string>()
  const [entity, , ...parts] = parsed(key)
  const name: unknown = Array.isArray(entity) ? entity[1] : entity
  const root = all.find(
    ({ className, tableName }) => name === (Array.isArray(entity) ? tableName : className),
  )
  if (root === undefined) return [...new Set(all.map((one) => one.root.className))]
  collect(root, parts, types.add(root.root.className))
  return [...types]
}

const valuesOf = (all: object): readonly Metadata[] =>
  all instanceof Map ? [...(all as Map<unknown, Metadata>).values()] : Object.values(all)

/** The relations that conditions, orders and populated fields name. */
function collect(metadata: Metadata, part: unknown, types: Set<string>): void {
  if (typeof part === 'string') {
    const [name = '', ...more] = part.split(/[.:]/)
    if (name !== '') follow(metadata, name, more.join('.'), types)
  } else if (Array.isArray(part)) for (const one of part) collect(metadata, one, types)
  else if (typeof part === 'object' && part !== null)
    for (const [name, value] of Object.entries(part)) {
      const { field, children } = part as { readonly field?: unknown; readonly children?: unknown }
      if (name === 'children' && typeof field === 'string')
        follow(metadata, field.split(':')[0] ?? '', children, types)
      else follow(metadata, name, value, types)
    }
}

function follow(metadata: Metadata, name: string, deeper: unknown, types: Set<string>): void {
  const target = metadata.properties[name]?.targetMeta
  if (target !== undefined) types.add(target.root.className)
  collect(target ?? metadata, deeper, types)
}

function parsed(key: string): readonly unknown[] {
  try {
    const value: unknown = JSON.parse(key)
    return Array.isArray(value) ? value : []
  } catch {
    return []
  }
}
