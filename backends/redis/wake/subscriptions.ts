import type { LeaseWaiters } from '../../../src/backend/lease-waiters.js'
import { report } from '../../../src/base/diagnostics.js'
import type { MaybePromise } from '../../../src/base/maybe-promise.js'
import { isCluster, optionsOf, type RedisClient, subscriberLike } from '../client/client.js'
import { BY_CHANNEL, BY_SHARD } from '../client/scripts.js'
import { parseWakeMessage } from './wake-message.js'

/** The messages that wake waiters. They may be lost: a waiter also reads its lease now and then. */
export interface WakeSubscriptions {
  /** The text that must be left at a lease for its holder to wake this process. */
  readonly mark: string
  /** Whether messages about a lease arrive at this moment. */
  isLive(lease: string): boolean
  /** A lease is going to be requested. Await the returned promise before `mark` is read. */
  prepare(): MaybePromise<void>
  /** A waiter listens for the end of a lease, until the returned function is called. */
  listen(lease: string): () => void
  close(): Promise<void>
}

type Waiters = Pick<LeaseWaiters<Buffer>, 'wake' | 'recheck'>

/** ms before a refused subscription is tried again; until then waiters poll. */
const RETRY = 5_000

/** Backends over one client share the connection that listens for it. */
const shared = new WeakMap<RedisClient, { readonly connection: RedisClient; users: number }>()

function shareSubscriber(client: RedisClient): RedisClient {
  let found = shared.get(client)
  if (found === undefined) {
    found = { connection: subscriberLike(client), users: 0 }
    shared.set(client, found)
    // Without a listener ioredis prints every error.
    found.connection.on('error', failed)
    found.connection.connect().catch(failed)
  }
  found.users++
  return found.connection
}

function releaseSubscriber(client: RedisClient): void {
  const found = shared.get(client)
  if (found === undefined || --found.users > 0) return
  shared.delete(client)
  found.connection.disconnect()
}

function failed(error: unknown): void {
  report('failure', () => ({ where: 'redis subscription', error }))
}

/**
 * One connection of its own for all leases of a database, opened at the first lease. Pub/sub knows no databases, so the
 * channel carries the number. Where it cannot subscribe (an ACL may forbid it), nobody is woken and waiters poll.
 */
export function channelSubscription(
  client: () => Promise<RedisClient>,
  channel: string,
  waiters: Waiters,
): WakeSubscriptions {
  let owner: RedisClient | undefined
  let connection: RedisClient | undefined
  let subscribed = false
  let begun = false
  let closed = false
  let retry: NodeJS.Timeout | undefined

  const subscribe = async (): Promise<void> => {
    if (closed || connection === undefined) return
    try {
      await connection.subscribe(channel)
      subscribed = true
      waiters.recheck()
    } catch (error) {
      failed(error)
      if (closed) return
      retry = setTimeout(ready, RETRY)
      retry.unref()
    }
  }
  const ready = () => void subscribe()
  const message = (on: Buffer, text: Buffer) => {
    const message = on.toString() === channel ? parseWakeMessage(text) : undefined
    if (message === undefined) return
    const { lease, held, value } = message
    // A message of a former lease may be late by any time: the value it brings may have been invalidated long ago.
    waiters.wake(lease, (mark) => (mark !== undefined && held.includes(mark) ? value : undefined))
  }
  const gone = () => {
    subscribed = false
    clearTimeout(retry)
    // Waiters turn to polling at once.
    waiters.recheck()
  }

  const open = async (): Promise<void> => {
    try {
      const made = await client()
      if (closed) return
      owner = made
      // A cluster client keeps a subscriber of its own, and moves it when its node goes.
      connection = isCluster(made) ? made : shareSubscriber(made)
      connection.on('messageBuffer', message)
      connection.on('ready', ready)
      if (connection !== made) connection.on('close', gone)
      if (connection.status === 'ready') ready()
    } catch (error) {
      failed(error)
    }
  }

  return {
    mark: BY_CHANNEL,
    isLive: () => subscribed,
    prepare() {
      if (begun) return
      begun = true
      void open()
    },
    listen: () => () => {},
    async close() {
      closed = true
      clearTimeout(retry)
      if (connection === undefined || owner === undefined) return
      connection.off('messageBuffer', message)
      connection.off('ready', ready)
      connection.off('close', gone)
      if (connection !== owner) releaseSubscriber(owner)
      else await connection.unsubscribe(channel).catch(() => {})
    },
  }
}

/** The calls of an ioredis cluster client that has sharded subscribers. */
interface ShardedClient extends RedisClient {
  ssubscribe(channel: string): Promise<unknown>
  sunsubscribe(channel: string): Promise<unknown>
}

/** Whether the client can listen to one shard: the message then does not go through every node of the cluster. */
function canShard(client: RedisClient): client is ShardedClient {
  return (
    isCluster(client) &&
    optionsOf(client).shardedSubscribers === true &&
    typeof (client as Partial<ShardedClient>).ssubscribe === 'function'
  )
}

/**
 * On Redis Cluster: a sharded channel for each lease that somebody waits for, on the node that has the lease. Where
 * that is not to be had (Redis 6.2, a client without `shardedSubscribers`), the channel that all nodes pass on.
 */
export function shardSubscriptions(
  client: () => Promise<RedisClient>,
  prefix: string,
  waiters: Waiters,
  fallback: WakeSubscriptions,
): WakeSubscriptions {
  let sharded: ShardedClient | undefined
  let preparing: Promise<void> | undefined
  let known = false
  const counts = new Map<string, number>()
  const live = new Set<string>()

  const message = (lease: string) => waiters.wake(lease)
  const fallBack = () => {
    sharded?.off('smessage', message)
    sharded = undefined
    return fallback.prepare()
  }
  const open = async (): Promise<void> => {
    const made = await client().catch(() => undefined)
    known = made !== undefined
    preparing = undefined
    if (made === undefined) return
    if (!canShard(made)) return fallBack()
    sharded = made
    made.on('smessage', message)
  }
  const subscribe = async (to: ShardedClient, lease: string): Promise<void> => {
    try {
      // ioredis takes the channel for a key, and puts its prefix before it.
      await to.ssubscribe(lease.slice(prefix.length))
      if (!counts.has(lease)) return
      live.add(lease)
      waiters.recheck(lease)
    } catch (error) {
      report('failure', () => ({ where: 'redis subscription', error }))
      if (sharded === to) await fallBack()
    }
  }

  return {
    get mark() {
      return sharded === undefined ? fallback.mark : BY_SHARD
    },
    isLive: (lease) => (sharded === undefined ? fallback.isLive(lease) : live.has(lease)),
    prepare: () => (known ? undefined : (preparing ??= open())),
    listen(lease) {
      if (sharded === undefined) return fallback.listen(lease)
      const to = sharded
      const count = counts.get(lease) ?? 0
      counts.set(lease, count + 1)
      if (count === 0) void subscribe(to, lease)
      return () => {
        const left = (counts.get(lease) ?? 1) - 1
        if (left > 0) return void counts.set(lease, left)
        counts.delete(lease)
        live.delete(lease)
        to.sunsubscribe(lease.slice(prefix.length)).catch(() => {})
      }
    },
    async close() {
      sharded?.off('smessage', message)
      await fallback.close()
    },
  }
}
