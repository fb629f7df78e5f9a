import type { LeaseWaiters } from '../../../src/backend/lease-waiters.js'
import { type FailureLog, failureLog } from '../../../src/base/diagnostics.js'
import { attempt, ignoreRejection, type MaybePromise } from '../../../src/base/maybe-promise.js'
import { clearTimeout, setTimeout } from '../../../src/base/timers.js'
import { isCluster, optionsOf, type RedisClient, subscriberLike } from '../client/client.js'
import { listenTo } from '../client/listeners.js'
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

/** Reports the failures of an outage; a connection tries again several times in a second. */
function reporter(failures: FailureLog): (error: unknown) => void {
  return (error) => failures.failed(() => ({ where: 'redis subscription', error }))
}

function shareSubscriber(client: RedisClient): RedisClient {
  let found = shared.get(client)
  if (found === undefined) {
    found = { connection: subscriberLike(client), users: 0 }
    shared.set(client, found)
    const failures = failureLog()
    const failed = reporter(failures)
    // Without a listener ioredis prints every error.
    found.connection.on('error', failed)
    found.connection.on('ready', () => void failures.over())
    // A failure to connect is an event, too; a second message would only repeat it.
    found.connection.connect().catch(() => {})
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

/**
 * One connection for all leases of a database, opened at the first lease. Pub/sub knows no databases, so the channel
 * carries the number. Where it cannot subscribe (an ACL may forbid it), no message arrives and waiters poll.
 */
export class ChannelSubscription implements WakeSubscriptions {
  readonly mark = BY_CHANNEL
  #opened = false
  #closed = false
  #subscribed = false
  #retry: NodeJS.Timeout | undefined
  #stop: () => unknown = () => {}
  readonly #failures = failureLog()
  readonly #failed = reporter(this.#failures)

  constructor(
    private readonly client: () => Promise<RedisClient>,
    private readonly channel: string,
    private readonly waiters: Waiters,
  ) {}

  isLive(): boolean {
    return this.#subscribed
  }

  prepare(): void {
    if (this.#opened) return
    this.#opened = true
    this.#open().catch(this.#failed)
  }

  listen(): () => void {
    return () => {}
  }

  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#retry)
    await this.#stop()
  }

  async #open(): Promise<void> {
    const client = await this.client()
    if (this.#closed) return
    // A cluster client keeps a subscriber of its own, and moves it when its node goes.
    const isOwn = !isCluster(client)
    const connection = isOwn ? shareSubscriber(client) : client
    const listeners = {
      messageBuffer: (on: Buffer, text: Buffer) => this.#onMessage(on, text),
      ready: () => void this.#subscribe(connection),
      ...(isOwn && { close: () => this.#onClose() }),
    }
    const stops = Object.entries(listeners).map(([event, listener]) => listenTo(connection, event, listener))
    this.#stop = () => {
      for (const stop of stops) stop()
      return isOwn ? releaseSubscriber(client) : client.unsubscribe(this.channel).catch(() => {})
    }
    if (connection.status === 'ready') listeners.ready()
  }

  async #subscribe(connection: RedisClient): Promise<void> {
    if (this.#closed) return
    try {
      await connection.subscribe(this.channel)
      this.#failures.over()
      this.#subscribed = true
      this.waiters.recheck()
    } catch (error) {
      this.#failed(error)
      if (this.#closed) return
      this.#retry = setTimeout(() => void this.#subscribe(connection), RETRY)
      this.#retry.unref()
    }
  }

  #onMessage(on: Buffer, text: Buffer): void {
    const message = on.toString() === this.channel ? parseWakeMessage(text) : undefined
    if (message === undefined) return
    const { lease, held, value } = message
    // A message of a former lease may be late by any time: the value it brings may have been invalidated long ago.
    this.waiters.wake(lease, (mark) => (mark !== undefined && held.includes(mark) ? value : undefined))
  }

  #onClose(): void {
    this.#subscribed = false
    clearTimeout(this.#retry)
    // Waiters turn to polling at once.
    this.waiters.recheck()
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
 * On Redis Cluster: a sharded channel for each lease with a waiter, on the node that has the lease. Where sharded channels
 * are missing (Redis 6.2, a client without `shardedSubscribers`), the channel that all nodes pass on.
 */
export class ShardSubscriptions implements WakeSubscriptions {
  /** The client, unless the fallback serves. */
  #sharded: ShardedClient | undefined
  #preparing: Promise<void> | undefined
  #isPrepared = false
  /** Waiters by lease. */
  readonly #counts = new Map<string, number>()
  readonly #live = new Set<string>()
  readonly #onMessage = (lease: string) => this.waiters.wake(lease)
  readonly #failures = failureLog()
  readonly #failed = reporter(this.#failures)
  #stopListening = () => {}

  constructor(
    private readonly client: () => Promise<RedisClient>,
    private readonly prefix: string,
    private readonly waiters: Waiters,
    private readonly fallback: WakeSubscriptions,
  ) {}

  get mark(): string {
    return this.#sharded === undefined ? this.fallback.mark : BY_SHARD
  }

  isLive(lease: string): boolean {
    return this.#sharded === undefined ? this.fallback.isLive(lease) : this.#live.has(lease)
  }

  prepare(): MaybePromise<void> {
    return this.#isPrepared ? undefined : (this.#preparing ??= this.#open())
  }

  listen(lease: string): () => void {
    const client = this.#sharded
    if (client === undefined) return this.fallback.listen(lease)
    const count = this.#counts.get(lease) ?? 0
    this.#counts.set(lease, count + 1)
    if (count === 0) void this.#subscribe(client, lease)
    return () => {
      const left = (this.#counts.get(lease) ?? 1) - 1
      if (left > 0) return void this.#counts.set(lease, left)
      this.#counts.delete(lease)
      this.#live.delete(lease)
      // ioredis throws at once for a slot that it knows no node of.
      void ignoreRejection(attempt(() => client.sunsubscribe(lease.slice(this.prefix.length))))
    }
  }

  async close(): Promise<void> {
    this.#stopListening()
    await this.fallback.close()
  }

  async #open(): Promise<void> {
    const client = await this.client().catch(() => undefined)
    this.#isPrepared = client !== undefined
    this.#preparing = undefined
    if (client === undefined) return
    if (!canShard(client)) return this.#fallBack()
    this.#sharded = client
    this.#stopListening = listenTo(client, 'smessage', this.#onMessage)
  }

  async #subscribe(client: ShardedClient, lease: string): Promise<void> {
    try {
      // ioredis takes the channel for a key, and puts its prefix before it.
      await client.ssubscribe(lease.slice(this.prefix.length))
      if (!this.#counts.has(lease)) return
      this.#failures.over()
      this.#live.add(lease)
      this.waiters.recheck(lease)
    } catch (error) {
      this.#failed(error)
      if (this.#sharded === client) await this.#fallBack()
    }
  }

  #fallBack(): MaybePromise<void> {
    this.#stopListening()
    this.#sharded = undefined
    return this.fallback.prepare()
  }
}
