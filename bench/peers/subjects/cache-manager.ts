/** In memory it is the default store, an unbounded Map. Its bounded store is the one of cacheable, and dearer. */
import { createKeyv as createRedis } from '@keyv/redis'
import { createCache } from 'cache-manager'
import { type Cache, type Create, LIFETIME_SECONDS, type Subject } from '../subject.js'

const ttl = LIFETIME_SECONDS * 1_000

function cache(create: Create, options: Parameters<typeof createCache>[0]): Cache {
  const manager = createCache({ ttl, ...options })
  return {
    read: (key) => manager.wrap(key, () => create(key)),
    set: (key, value) => manager.set(key, value),
    close: () => manager.disconnect(),
  }
}

export const subject: Subject = {
  memory: (create) => cache(create, {}),
  redis: (create, port) => cache(create, { stores: [createRedis(`redis://127.0.0.1:${port}`)] }),
}
