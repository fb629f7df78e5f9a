import { LRUCache } from 'lru-cache'
import { LIFETIME_SECONDS, type Subject, type Value } from '../subject.js'

export const subject: Subject = {
  memory: (create, maxEntries) => {
    const cache = new LRUCache<string, Value>({
      max: maxEntries,
      ttl: LIFETIME_SECONDS * 1_000,
      fetchMethod: (key) => create(key),
    })
    return { read: (key) => cache.fetch(key), set: (key, value) => cache.set(key, value) }
  },
}
