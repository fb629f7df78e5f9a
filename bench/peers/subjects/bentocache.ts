import { BentoCache, bentostore } from 'bentocache'
import { memoryDriver } from 'bentocache/drivers/memory'
import { redisDriver } from 'bentocache/drivers/redis'
import { type Create, LIFETIME_SECONDS, type Subject, type TaggedCache } from '../subject.js'

type Store = ReturnType<typeof bentostore>

function cache(create: Create, store: Store, tags: string[] = []): TaggedCache {
  const bento = new BentoCache({ default: 'bench', ttl: LIFETIME_SECONDS * 1_000, stores: { bench: store } })
  return {
    read: (key) =>
      tags.length > 0
        ? bento.getOrSet({ key, factory: () => create(key), tags })
        : bento.getOrSet({ key, factory: () => create(key) }),
    set: (key, value) => bento.set({ key, value }),
    invalidateTag: () => bento.deleteByTag({ tags }),
    close: () => bento.disconnectAll(),
  }
}

const inMemory = (maxItems: number) => bentostore().useL1Layer(memoryDriver({ maxItems }))
const onRedis = (port: number) =>
  bentostore().useL2Layer(redisDriver({ connection: { host: '127.0.0.1', port } }))

export const subject: Subject = {
  memory: (create, maxEntries) => cache(create, inMemory(maxEntries)),
  taggedMemory: (create, maxEntries) => cache(create, inMemory(maxEntries), ['all']),
  redis: (create, port) => cache(create, onRedis(port)),
  taggedRedis: (create, port) => cache(create, onRedis(port), ['all']),
}
