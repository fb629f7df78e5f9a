import { dep, dependsOn, makeRegion, type RegionOptions, wrap } from 'corral'
import { memory } from 'corral/backends/memory'
import { redis } from 'corral/backends/redis'
import { dependencies } from 'corral/proxies/dependencies'
import { msgpack } from 'corral/proxies/msgpack'
import {
  type Cache,
  type Create,
  LIFETIME_SECONDS,
  type Subject,
  type TaggedCache,
  type Value,
} from '../subject.js'

function cache(create: Create, backend: Exclude<RegionOptions['backend'], undefined>): Cache {
  const region = makeRegion<Value>({ name: 'bench', expirationTime: LIFETIME_SECONDS * 1_000, backend })
  return {
    read: (key) => region.getOrCreate(key, () => create(key)),
    set: (key, value) => region.set(key, value),
    close: () => region.close(),
  }
}

function tagged(create: Create, backend: Exclude<RegionOptions['backend'], undefined>): TaggedCache {
  const region = makeRegion<Value>({ name: 'tagged', expirationTime: LIFETIME_SECONDS * 1_000, backend })
  return {
    read: (key) =>
      region.getOrCreate(key, () => {
        dependsOn(dep.tag('all'))
        return create(key)
      }),
    invalidateTag: () => region.invalidateDependencies(dep.tag('all')),
    close: () => region.close(),
  }
}

const url = (port: number) => `redis://127.0.0.1:${port}`

export const subject: Subject = {
  memory: (create, maxEntries) => cache(create, memory({ maxEntries })),
  taggedMemory: (create, maxEntries) => tagged(create, wrap(memory({ maxEntries }), dependencies())),
  redis: (create, port) => cache(create, wrap(redis(url(port)), msgpack())),
  taggedRedis: (create, port) => tagged(create, wrap(redis(url(port)), msgpack(), dependencies())),
}
