import { createCache } from 'async-cache-dedupe'
import { Redis } from 'ioredis'
import { type Create, LIFETIME_SECONDS, type Subject, type TaggedCache } from '../subject.js'

type Storage = NonNullable<NonNullable<Parameters<typeof createCache>[0]>['storage']>

function define(create: Create, storage: Storage, tagged: boolean): TaggedCache {
  const cache = createCache({ ttl: LIFETIME_SECONDS, storage }).define(
    'read',
    tagged ? { references: () => ['all'] } : {},
    (key: string) => create(key),
  )
  return { read: (key) => cache.read(key), invalidateTag: () => cache.invalidateAll('all') }
}

function onRedis(create: Create, port: number, tagged: boolean): TaggedCache {
  const client = new Redis({ port })
  const invalidation = tagged && { referencesTTL: LIFETIME_SECONDS }
  const cache = define(create, { type: 'redis', options: { client, invalidation } }, tagged)
  return { ...cache, close: () => client.disconnect() }
}

export const subject: Subject = {
  memory: (create, size) => define(create, { type: 'memory', options: { size } }, false),
  taggedMemory: (create, size) =>
    define(create, { type: 'memory', options: { size, invalidation: true } }, true),
  redis: (create, port) => onRedis(create, port, false),
  taggedRedis: (create, port) => onRedis(create, port, true),
}
