import { createKeyv as createRedis } from '@keyv/redis'
import { Cacheable, createKeyv } from 'cacheable'
import { type Cache, type Create, LIFETIME_SECONDS, type Subject, type TaggedCache } from '../subject.js'

type Primary = ReturnType<typeof createKeyv>

const ttl = LIFETIME_SECONDS * 1_000

function cache(create: Create, primary: Primary): Cache {
  const cacheable = new Cacheable({ primary, ttl })
  return {
    read: (key) => cacheable.getOrSet(key, () => create(key)),
    set: (key, value) => cacheable.set(key, value),
    close: () => cacheable.disconnect(),
  }
}

/** `getOrSet` takes no tags, so a miss is stored by `set`. */
function tagged(create: Create, primary: Primary): TaggedCache {
  const cacheable = new Cacheable({ primary, ttl, tags: true })
  return {
    read: async (key) => {
      const found = await cacheable.get(key)
      if (found !== undefined) return found
      const value = await create(key)
      await cacheable.set(key, value, { ttl, tags: ['all'] })
      return value
    },
    invalidateTag: () => cacheable.tags.invalidateTag('all'),
    close: () => cacheable.disconnect(),
  }
}

const inMemory = (lruSize: number) => createKeyv({ ttl, lruSize })
const onRedis = (port: number) => createRedis(`redis://127.0.0.1:${port}`) as Primary

export const subject: Subject = {
  memory: (create, maxEntries) => cache(create, inMemory(maxEntries)),
  taggedMemory: (create, maxEntries) => tagged(create, inMemory(maxEntries)),
  redis: (create, port) => cache(create, onRedis(port)),
  taggedRedis: (create, port) => tagged(create, onRedis(port)),
}
