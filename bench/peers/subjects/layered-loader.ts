/** A group is the tag. An entry is in exactly one group, and its reader has to know which. */
import { Redis } from 'ioredis'
import { GroupLoader, Loader, RedisCache, RedisGroupCache } from 'layered-loader'
import { type Create, LIFETIME_SECONDS, type Subject, type TaggedCache, type Value } from '../subject.js'

const ttlInMsecs = LIFETIME_SECONDS * 1_000
const json = { json: true, ttlInMsecs }

function grouped(
  create: Create,
  caches:
    | { inMemoryCache: { ttlInMsecs: number; maxItemsPerGroup: number } }
    | { asyncCache: RedisGroupCache<Value> },
): TaggedCache {
  const source = {
    name: 'bench',
    isCache: false,
    getFromGroup: (key: string) => create(key),
    getManyFromGroup: (keys: string[]) => Promise.all(keys.map(create)),
  }
  const loader = new GroupLoader<Value>({ ...caches, dataSources: [source] })
  return {
    read: (key) => loader.get(key, 'all'),
    invalidateTag: () => loader.invalidateCacheForGroup('all'),
  }
}

export const subject: Subject = {
  memory: (create, maxItems) => {
    const loader = new Loader<Value>({
      inMemoryCache: { cacheType: 'lru-map', ttlInMsecs, maxItems },
      dataSourceGetOneFn: create,
    })
    return {
      read: (key) => loader.get(key),
      set: (key, value) => loader.forceSetValue(key, value),
    }
  },
  taggedMemory: (create, maxItemsPerGroup) =>
    grouped(create, { inMemoryCache: { ttlInMsecs, maxItemsPerGroup } }),
  redis: (create, port) => {
    const client = new Redis({ port })
    const loader = new Loader<Value>({
      asyncCache: new RedisCache<Value>(client, json),
      dataSourceGetOneFn: create,
    })
    return { read: (key) => loader.get(key), close: () => client.disconnect() }
  },
  taggedRedis: (create, port) => {
    const client = new Redis({ port })
    const cache = grouped(create, { asyncCache: new RedisGroupCache<Value>(client, json) })
    return { ...cache, close: () => client.disconnect() }
  },
}
