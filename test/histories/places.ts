import { lmdb } from '../../backends/lmdb/index.js'
import { type MemcachedOptions, memcached } from '../../backends/memcached/index.js'
import { memory } from '../../backends/memory/index.js'
import { type RedisBackendOptions, redis, redisBus } from '../../backends/redis/index.js'
import { broadcast } from '../../proxies/broadcast.js'
import { json } from '../../proxies/json.js'
import { near } from '../../proxies/near.js'
import { type Backend, type CachedValue, delegate, wrap } from '../../src/index.js'
import type { Bus, BusResumption } from '../../src/signals/index.js'
import { sharedNow } from '../support/waiting.js'
import { MAX_DELAY } from './checker.js'
import type { Event } from './events.js'

/** A store, as plain data for a process: where it is, or the bus that joins the stores of all processes. */
export type Place =
  | {
      readonly redis: RedisBackendOptions
      /** ms: with a near cache of this bound. */
      readonly near?: number
      /** Every creation begins with the request for its lease, as where most keys are absent. */
      readonly leasesFirst?: boolean
    }
  | { readonly memcached: MemcachedOptions }
  | { readonly lmdb: string }
  | { readonly bus: string }

export interface OpenPlace {
  readonly backend: Backend<CachedValue>
  /** Begins to collect the messages that are published; the function that it returns ends that. */
  collect(): () => readonly string[]
  /** After the region is closed. */
  close(): Promise<void>
}

export function openPlace(place: Place, log: (event: Event) => void): OpenPlace {
  if ('bus' in place) return joined(place.bus, log)
  const bytes =
    'redis' in place
      ? redis({ timeout: '3s', ...place.redis })
      : 'memcached' in place
        ? memcached(place.memcached)
        : lmdb(place.lmdb, { timeout: '15s' })
  const stored = wrap(bytes, json())
  const far =
    'redis' in place && place.leasesFirst === true ? delegate(stored, { ifAbsentFrom: 0 }, true) : stored
  const backend =
    'redis' in place && place.near !== undefined
      ? wrap(far, near(memory({ maxEntries: 1_000 }), { maxStaleness: place.near }))
      : far
  return { backend, collect: () => () => [], close: async () => {} }
}

function joined(url: string, log: (event: Event) => void): OpenPlace {
  const bus = redisBus(url, { channel: 'history', timeout: 1_000, maxDelay: MAX_DELAY })
  let collected: string[] | undefined
  const tapped: Bus = {
    publish(message) {
      collected?.push(message)
      return bus.publish(message)
    },
    since: (position) => bus.since?.(position) as BusResumption,
    subscribe: (listener) =>
      bus.subscribe({
        ...listener,
        heard(message, position) {
          listener.heard(message, position)
          log({ kind: 'heard', message, end: sharedNow() })
        },
        down() {
          log({ kind: 'gap' })
          listener.down()
        },
      }),
  }
  return {
    backend: wrap(memory(), broadcast(tapped, { name: 'history' })),
    collect() {
      const messages: string[] = (collected = [])
      return () => {
        collected = undefined
        return messages
      }
    },
    close: () => bus.close(),
  }
}
