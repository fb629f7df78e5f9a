import type { Backend } from '../../src/backend/backend.js'
import type { Bytes } from '../../src/backend/cached-value.js'
import { completeBackend } from '../../src/backend/define-backend.js'
import { leaseWaiters } from '../../src/backend/lease-waiters.js'
import { Recovery } from '../../src/backend/recovery.js'
import { breaker } from './client/breaker.js'
import { primaryOf, type RedisClient } from './client/client.js'
import { atMost, RedisConnection } from './client/connection.js'
import { isUnreachable } from './client/errors.js'
import { scriptRunner } from './client/script-runner.js'
import * as scripts from './client/scripts.js'
import { clusterLedger } from './cluster-ledger.js'
import { closable } from './drain.js'
import { type EntryWrites, entryWrites } from './entries.js'
import { failurePolicy } from './failure-policy.js'
import { clockKeys, RESERVED, slotOf } from './format.js'
import { scanKeys } from './keys.js'
import { redisLeases } from './lease.js'
import { type RedisLedger, standaloneLedger } from './ledger.js'
import { nearJournal } from './near/journal.js'
import { parseOptions, type RedisBackendOptions, type RedisSettings } from './options.js'
import { clusterBatcher } from './reads/cluster-batcher.js'
import { clusterFetch, standaloneFetch } from './reads/fetch.js'
import { type BatchedReads, type FetchKeys, ReadBatcher } from './reads/read-batcher.js'
import type { RedisStore } from './store.js'
import { ChannelSubscription, ShardSubscriptions, type WakeSubscriptions } from './wake/subscriptions.js'

export { type RedisBus, type RedisBusOptions, redisBus } from './bus.js'
export type { ClusterNode, Connection, RedisClient } from './client/client.js'
export type { RedisBackendOptions } from './options.js'

/** Bytes expected in one reply to an `MGET`. */
const MAX_REPLY = 1_024 * 1_024

/**
 * A backend on Redis 6.2 or later, or Valkey: standalone, behind Sentinel, or a Cluster. It stores bytes, so an encoding
 * goes around it: `wrap(redis(url), msgpack())`. Leases are fenced by the server, waiters are woken by a message, the
 * ledger of invalidations is shared by all processes, and reads of the same tick are one `MGET`.
 *
 * Connects at the first use. A client that was passed in is never closed, and keeps its own settings of queues and
 * reconnection.
 * @param given a URL, a client of ioredis 5 or 6, or options.
 * @throws CorralError `ERR_OPTION` for options that cannot be right. Operations reject with `ERR_UNAVAILABLE`,
 * `ERR_TIMEOUT`, `ERR_UNSUPPORTED` (a server before 6.2, ioredis before 5), `ERR_BACKEND` (Redis returned an error) or `ERR_CLOSED`.
 * @example
 * ```ts
 * import { makeRegion, wrap } from 'corral'
 * import { redis } from 'corral/backends/redis'
 * import { msgpack } from 'corral/proxies/msgpack'
 *
 * export const users = makeRegion({
 *   name: 'users',
 *   expirationTime: '10m',
 *   backend: wrap(redis('redis://localhost:6379'), msgpack()),
 * })
 * ```
 */
export function redis(given: string | RedisClient | RedisBackendOptions): Backend<Bytes> {
  const settings = parseOptions(given)
  const { source, timeout } = settings
  const { clustered, prefix } = source
  const connection = new RedisConnection({
    ...settings,
    ...source,
    breaker: settings.breaker && breaker(settings.breaker),
    failFast: settings.failOpen,
    ...(clustered && { nodeOf: (client, key) => primaryOf(client, slotOf(prefix + key)) }),
  })
  const { outage } = connection
  const reads = readsOver(connection, settings)
  const runner = scriptRunner(connection, settings.replicas, clustered)
  const channel = `${RESERVED}wake:${source.database}`
  const nearChannel = `${RESERVED}near:${source.database}`
  const journal = nearJournal({ connection, runner, prefix, clustered, channel: nearChannel })
  const store: RedisStore = { ...settings, connection, reads, runner, channel, prefix, clustered, journal }
  const ledger = clustered ? clusterLedger(store) : standaloneLedger(store)
  const writes = entryWrites(store, ledger)
  const waiters = leaseWaiters<Buffer>({
    store: 'redis',
    poll: { from: 5, to: 250, growth: 3 },
    push: { isLive: (lease): boolean => subscriptions.isLive(lease), checkEvery: 1_000 },
  })
  const channels = new ChannelSubscription(connection.client, channel, waiters)
  const subscriptions: WakeSubscriptions = clustered
    ? new ShardSubscriptions(connection.client, prefix, waiters, channels)
    : channels
  const recovery = recoveryOver(settings.recovery, writes, ledger, store)
  connection.onReady(() => void recovery.replay())
  const lease = redisLeases({ store, waiters, subscriptions })
  const close = async () => {
    drain.shut()
    waiters.close()
    await atMost(timeout, drain.idle())
    recovery.close()
    await atMost(timeout, recovery.replay())
    await subscriptions.close()
    journal.close()
    await connection.close()
  }
  let closing: Promise<void> | undefined
  const backend = completeBackend<Bytes>({
    name: 'redis',
    stores: 'bytes',
    // Every command has its deadline already; a second timer for each read would cost more than the read.
    timeout: Number.POSITIVE_INFINITY,
    ...failurePolicy({ reads, writes, lease, ledger, recovery, failOpen: settings.failOpen, outage }),
    // Not by a read: with `failOpen` it hides an outage.
    ping: () => connection.run(async (client) => void (await client.ping())),
    trouble: () => connection.trouble,
    close: () => (closing ??= close()),
    keys: (beginning) => scanKeys(store, beginning),
  })
  const drain = closable(backend, () => reads.isBusy || connection.isBusy)
  return drain.backend
}

function readsOver(
  connection: RedisConnection,
  { source, timeout, maxWaiting, maxBatch }: RedisSettings,
): BatchedReads {
  const batched = (fetch: FetchKeys) =>
    new ReadBatcher({ fetch, timeout, maxWaiting, maxKeys: maxBatch, maxBytes: MAX_REPLY })
  if (!source.clustered) return batched(standaloneFetch(connection))
  const { nodeOf, fetch } = clusterFetch(connection, source.prefix)
  return clusterBatcher(nodeOf, () => batched(fetch))
}

function recoveryOver(
  max: number,
  writes: EntryWrites,
  ledger: RedisLedger,
  { journal, runner }: RedisStore,
): Recovery {
  return new Recovery({
    name: 'redis',
    max,
    // A failed invalidation may have been executed, or may be later.
    hidden: {
      key: (key) => journal.keysChanged([key]),
      names: (clock, names) => journal.namesChanged(clock, names),
    },
    store: {
      isUnreachable,
      deleteMulti: writes.deleteMulti,
      invalidate: async (clock, names, mode) => ledger.open(clock).invalidate(names, mode),
      async dropClock(name) {
        const { clock, ring } = clockKeys(name)
        await runner.runDurably({ script: scripts.dropClock, keys: [clock, ring], args: [] })
      },
    },
  })
}
