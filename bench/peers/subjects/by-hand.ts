/** The base line: the least code that gives the same results, without the guarantees of a library. */
import { Redis } from 'ioredis'
import {
  type Cache,
  type Create,
  LIFETIME_SECONDS,
  type Subject,
  type TaggedCache,
  type Value,
} from '../subject.js'

interface Entry {
  readonly value: Value
  readonly expiresAt: number
  readonly version: number
}

const LIFETIME = LIFETIME_SECONDS * 1_000

function memory(create: Create): TaggedCache {
  const entries = new Map<string, Entry>()
  const flights = new Map<string, Promise<Value>>()
  let version = 0
  const set = (key: string, value: Value): void => {
    entries.set(key, { value, expiresAt: Date.now() + LIFETIME, version })
  }
  const fill = async (key: string): Promise<Value> => {
    try {
      const value = await create(key)
      set(key, value)
      return value
    } finally {
      flights.delete(key)
    }
  }
  return {
    read: async (key) => {
      const entry = entries.get(key)
      if (entry !== undefined && entry.expiresAt > Date.now() && entry.version === version) return entry.value
      let flight = flights.get(key)
      if (flight === undefined) flights.set(key, (flight = fill(key)))
      return flight
    },
    set,
    invalidateTag: () => version++,
  }
}

function redis(create: Create, port: number): Cache {
  const client = new Redis({ port })
  return {
    read: async (key) => {
      const found = await client.get(key)
      if (found !== null) return JSON.parse(found)
      const value = await create(key)
      await client.set(key, JSON.stringify(value), 'EX', LIFETIME_SECONDS)
      return value
    },
    close: () => client.disconnect(),
  }
}

/** A counter is the tag: an entry is valid while the counter has the number that the entry was stored with. */
function taggedRedis(create: Create, port: number): TaggedCache {
  const client = new Redis({ port })
  return {
    read: async (key) => {
      const [found, version] = await client.mget(key, 'tag')
      const entry = found == null ? undefined : JSON.parse(found)
      if (entry !== undefined && entry.version === version) return entry.value
      const value = await create(key)
      await client.set(key, JSON.stringify({ value, version }), 'EX', LIFETIME_SECONDS)
      return value
    },
    invalidateTag: () => client.incr('tag'),
    close: () => client.disconnect(),
  }
}

export const subject: Subject = { memory, taggedMemory: memory, redis, taggedRedis }
