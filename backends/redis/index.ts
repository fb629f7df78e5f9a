import type { Backend } from '../../src/backend/backend.js'
import type { Bytes } from '../../src/backend/cached-value.js'
import { defineBackend } from '../../src/backend/define-backend.js'
import { leaseWaiters } from '../../src/backend/lease-waiters.js'
import { breaker } from './client/breaker.js'
import {
  isCluster,
  openCluster,
  openStandalone,
  optionsOf,
  prefixOf,
  type RedisClient,
  rejectUnsafeClient,
} from './client/client.js'
import { openConnection, soon } from './client/connection.js'
import { scriptRunner } from './client/script-runner.js'
import * as scripts from './client/scripts.js'
import { clusterLedger } from './cluster-ledger.js'
import { closable } from './drain.js'
import { writes } from './entries.js'
import { failurePolicy } from './failure-policy.js'
import { clockKeys, RESERVED, valueKey } from './format.js'
import { redisLeases } from './lease.js'
import { standaloneLedger } from './ledger.js'
import { parseOptions, type RedisBackendOptions, type RedisSettings } from './options.js'
import { clusterBatcher } from './reads/cluster-batcher.js'
import { clusterFetch, standaloneFetch } from './reads/fetch.js'
import { type FetchKeys, readBatcher } from './reads/read-batcher.js'
import { recovery } from './recovery.js'
import { channelSubscription, shardSubscriptions, type WakeSubscriptions } from './wake/subscriptions.js'

export { type RedisBus, type RedisBusOptions, redisBus } from './bus.js'
export type { ClusterNode, Connection, RedisClient } from './client/client.js'
export type { RedisBackendOptions } from './options.js'

/** Bytes expected in one reply to an `MGET`. */
const REPLY = 1_024 * 1_024

/**
 * A backend on Redis 6.2 or later, or Valkey: standalone, behind Sentinel, or a Cluster. It stores bytes, so an encoding
 * goes around it: `wrap(redis(url), msgpack())`. Leases are fenced by the server, waiters are woken by a message, the
 * ledger of invalidations is shared by all processes, and reads of the same tick are one `MGET`.
 *
 * Connects at the first use. A client that was passed in is never closed, and keeps its own ideas about queues and
 * reconnection.
 * @param given a URL, a client of ioredis 5 or 6, or options.
 * @throws CorralError `ERR_OPTION` for options that cannot be right. Operations reject with `ERR_UNAVAILABLE`,
 * `ERR_TIMEOUT`, `ERR_UNSUPPORTED` (a server before 6.2), `ERR_BACKEND` (an error that Redis answered) or `ERR_CLOSED`.
 */
export function redis(given: string | RedisClient | RedisBackendOptions): Backend<Bytes> {
  const options = parseOptions(given)
  const { source, timeout, failOpen } = options
  const passed = 'client' in source ? source.client : undefined
  const clustered = passed === undefined ? 'nodes' in source : isCluster(passed)
  const prefix = keyPrefixOf(source)
  const channel = `${RESERVED}wake:${clustered ? 0 : databaseOf(source)}`
  const connection = openConnection({
    open: async () => {
      const client = passed ?? (await connect(source))
      rejectUnsafeClient(client)
      return client
    },
    isOurs: passed === undefined,
    timeout,
    maxPending: options.maxPending,
    breaker: options.breaker && breaker(options.breaker.failures, options.breaker.cooldown),
  })
  const joined = (fetch: FetchKeys) =>
    readBatcher({
      fetch,
      timeout,
      maxWaiting: options.maxPending,
      maxKeys: options.maxBatch,
      maxBytes: REPLY,
    })
  const nodes = clustered ? clusterFetch(connection, prefix) : undefined
  const reads =
    nodes === undefined
      ? joined(standaloneFetch(connection))
      : clusterBatcher(nodes.nodeOf, () => joined(nodes.fetch))
  const scripted = scriptRunner(connection, options.replicas, clustered)
  const parts = { reads, runner: scripted, lifetime: options.stampLifetime }
  const split = clustered ? clusterLedger(parts) : undefined
  const book = split ?? standaloneLedger(parts)
  const written = writes({
    connection,
    runner: scripted,
    channel,
    lifetime: options.stampLifetime,
    maxValueBytes: options.maxValueBytes,
    clustered: split,
  })

  const waiters = leaseWaiters<Buffer>({
    store: 'redis',
    poll: { from: 5, to: 250, growth: 3 },
    push: { isLive: (lease): boolean => subscriptions.isLive(lease), checkEvery: 1_000 },
  })
  const channels = channelSubscription(connection.client, channel, waiters)
  const subscriptions: WakeSubscriptions = clustered
    ? shardSubscriptions(connection.client, prefix, waiters, channels)
    : channels
  const lease = redisLeases({ runner: scripted, waiters, subscriptions, channel, prefix, get: reads.get })

  const clocks = new Set<string>()
  const unfinished =
    options.recovery === undefined
      ? undefined
      : recovery(options.recovery, clocks, {
          remove: written.deleteMulti,
          invalidate: async (clock, names, mode) => book.invalidate(clock, names, mode),
          forget: async (clock) => {
            const { clock: at, ring } = clockKeys(clock)
            await scripted.runDurably({ script: scripts.dropClock, keys: [at, ring], args: [] })
          },
        })
  connection.onReady(() => void unfinished?.replay())

  const policed = failurePolicy({
    get: (key) => reads.get(valueKey(key)),
    getMulti: (keys) => reads.getMulti(keys.map(valueKey)),
    writes: written,
    lease,
    ledger: book,
    recovery: unfinished,
    clocks,
    failOpen,
  })
  const drain = closable(policed, () => reads.isBusy || connection.isBusy)
  let closing: Promise<void> | undefined
  const close = async () => {
    drain.shut()
    waiters.close()
    await soon(timeout, drain.idle())
    unfinished?.close()
    if (unfinished !== undefined && unfinished.size > 0) await soon(timeout, unfinished.replay())
    await subscriptions.close()
    await connection.close()
  }

  return defineBackend<Bytes>({
    name: 'redis',
    stores: 'bytes',
    // Every command has its deadline already; a second timer for each read would cost more than the read.
    timeout: Number.POSITIVE_INFINITY,
    ...drain.operations,
    close: () => (closing ??= close()),
  })
}

function connect(source: RedisSettings['source']): Promise<RedisClient> {
  if ('client' in source) return Promise.resolve(source.client)
  return 'nodes' in source
    ? openCluster(source.nodes, source.connection, source.clusterOptions)
    : openStandalone(source.url, source.connection)
}

function keyPrefixOf(source: RedisSettings['source']): string {
  if (!('client' in source)) return `${source.connection.keyPrefix ?? ''}`
  return prefixOf(source.client)
}

/** As ioredis sees it: what the URL says goes before the options. */
function databaseOf(source: RedisSettings['source']): number {
  if ('client' in source) return optionsOf(source.client).db ?? 0
  if ('nodes' in source) return 0
  const inUrl = /^rediss?:\/\/[^/]+\/(\d+)/.exec(source.url ?? '')?.[1]
  return inUrl === undefined ? (source.connection.db ?? 0) : Number(inUrl)
}
