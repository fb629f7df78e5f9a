import { failureLog } from '../../src/base/diagnostics.js'
import { type Duration, milliseconds } from '../../src/base/duration.js'
import { expectText, expectThat, ownOptions, rejectUnknownOptions } from '../../src/base/options.js'
import { clearTimeout, MAX_DELAY, performance, setTimeout } from '../../src/base/timers.js'
import { newEpoch } from '../../src/ledger/snapshot.js'
import type { Bus, BusListener } from '../../src/signals/bus.js'
import { type Announcement, announce, announced } from './client/announcements.js'
import {
  checkUrl,
  isCluster,
  isRedisClient,
  nodeSubscriber,
  openStandalone,
  prefixOf,
  type RedisClient,
} from './client/client.js'
import { RedisConnection } from './client/connection.js'
import { clockKeys } from './format.js'

/**
 * The options of `redisBus`.
 * @example
 * ```ts
 * import { type RedisBusOptions, redisBus } from 'corral/backends/redis'
 *
 * const options: RedisBusOptions = { channel: 'invalidations', maxDelay: '1s' }
 * export const bus = redisBus('redis://localhost:6379', options)
 * ```
 */
export interface RedisBusOptions {
  /** The channel that all processes share. */
  readonly channel: string
  /** For a message to be taken by Redis, waiting for a connection included. @default '2s' */
  readonly timeout?: Duration | undefined
  /**
   * How late a message may be. Redis is asked for a sign of life four times as often; when the last one is older than
   * this, the subscription is not trusted. @default '2s'
   */
  readonly maxDelay?: Duration | undefined
}

/**
 * A bus that holds connections to Redis.
 * @example
 * ```ts
 * import type { RedisBus } from 'corral/backends/redis'
 *
 * export const stop = (bus: RedisBus) => bus.close()
 * ```
 */
export interface RedisBus extends Bus {
  /**
   * Waits for the messages under way, each for at most its timeout. Then closes the connections that it opened; a client that
   * was passed in is left alone.
   */
  close(): Promise<void>
}

/** ms that the latest messages of a channel are kept after the last one. */
const LIFETIME = 86_400_000
/** ms between attempts to subscribe. */
const RETRY_FROM = 50
const RETRY_TO = 2_000

/**
 * A bus over Redis pub/sub, for `broadcast` and `relay`. Publishes through the client, or one that it opens for a URL, and
 * listens on a connection of its own: on Redis Cluster one to any primary, since they pass messages on to each other.
 *
 * Redis keeps the latest 1,024 messages, in the step that publishes: a process whose subscription was cut makes up for those that it
 * missed, and keeps the rest of its store. If more were sent meanwhile, it drops everything.
 *
 * Once Redis has acknowledged a message, every process whose reads still trust its subscription has received it within
 * `maxDelay`. On Cluster that holds as far as the nodes pass messages on in time.
 * @param given a URL, or a client of ioredis 5 or 6, which is never closed here.
 * @throws CorralError `ERR_OPTION`. Publishing rejects with `ERR_TIMEOUT`, `ERR_UNAVAILABLE`, `ERR_BACKEND` or `ERR_CLOSED`.
 * @example
 * ```ts
 * import { makeRegion, wrap } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import { redisBus } from 'corral/backends/redis'
 * import { broadcast } from 'corral/proxies/broadcast'
 *
 * const bus = redisBus('redis://localhost:6379', { channel: 'invalidations' })
 * export const users = makeRegion({ name: 'users', backend: wrap(memory(), broadcast(bus, { name: 'users' })) })
 * ```
 */
export function redisBus(given: string | RedisClient, options: RedisBusOptions): RedisBus {
  options = ownOptions(options)
  const channel = (options as RedisBusOptions | undefined)?.channel
  expectText(channel, '`channel` of redisBus()', 'a text that all processes share')
  rejectUnknownOptions(options, ['channel', 'timeout', 'maxDelay'], 'redisBus()')
  const timeout = milliseconds(options.timeout ?? '2s', 'timeout')
  const maxDelay = milliseconds(options.maxDelay ?? '2s', 'maxDelay')
  expectThat(maxDelay <= MAX_DELAY, maxDelay, '`maxDelay` of redisBus() to be at most 24 days')
  const passed = typeof given === 'string' ? undefined : given
  if (passed === undefined) checkUrl(given)
  else expectThat(isRedisClient(passed), passed, 'redisBus() to receive a URL or a client of ioredis 5 or 6')

  const connection = new RedisConnection({
    open: async () => passed ?? openStandalone(given as string, {}),
    isOurs: passed === undefined,
    timeout,
    maxPending: 1_000,
    maxWaiting: 100_000,
    breaker: undefined,
    failFast: false,
  })
  const { clock, ring } = clockKeys(`bus:${channel}`)
  const clustered = passed !== undefined && isCluster(passed)
  expectThat(
    !clustered || prefixOf(passed) === '',
    passed && prefixOf(passed),
    'a cluster client without `keyPrefix`',
    'Processes with another prefix would not find the messages that they missed.',
  )
  // All processes on a channel share its record, whatever database or prefix their clients have. By the text, and not by a hash
  // that a server may not know: messages would overtake each other.
  const keys = clustered ? [clock, ring] : []
  const ask = ({ lua }: Announcement, ...args: string[]) =>
    connection.run((client) =>
      client.eval(lua, keys.length, ...keys, clock, ring, newEpoch(), `${LIFETIME}`, ...args),
    )
  const subscriptions = new Set<BusSubscription>()
  const underWay = new Set<Promise<unknown>>()
  return {
    publish: async (message) => {
      const sent = ask(announce, channel, message)
      underWay.add(sent)
      await sent.finally(() => underWay.delete(sent))
    },
    async since(position) {
      const [, epoch = '', at = ''] = /^(.*):(\d+)$/.exec(position ?? '') ?? []
      const reply = await ask(announced, epoch, at)
      const [present, isComplete, ...messages] = reply as [string, unknown, ...string[]]
      return { position: present, messages: Number(isComplete) === 1 ? messages : undefined }
    },
    subscribe(listener) {
      const settings = { client: connection.client, channel, timeout, maxDelay }
      const subscription = new BusSubscription(settings, listener)
      subscriptions.add(subscription)
      return {
        live: () => subscription.live(),
        async close() {
          subscriptions.delete(subscription)
          subscription.close()
        },
      }
    },
    async close() {
      for (const subscription of subscriptions) subscription.close()
      subscriptions.clear()
      await Promise.allSettled(underWay)
      await connection.close()
    },
  }
}

interface SubscriptionOptions {
  readonly client: () => Promise<RedisClient>
  readonly channel: string
  readonly timeout: number
  readonly maxDelay: number
}

/** Keeps one subscription: connects, subscribes, asks for signs of life, and connects again elsewhere when they stay away. */
class BusSubscription {
  #connection: RedisClient | undefined
  #subscribed = false
  #closed = false
  /** When the latest question was sent that Redis has replied to: every message that it had acknowledged by then has arrived. */
  #provenAt = Number.NEGATIVE_INFINITY
  #pause = RETRY_FROM
  #timer: NodeJS.Timeout | undefined
  readonly #failures = failureLog()

  constructor(
    private readonly options: SubscriptionOptions,
    private readonly listener: BusListener,
  ) {
    void this.#open()
  }

  live(): boolean {
    return this.#subscribed && !this.#closed && performance.now() - this.#provenAt <= this.options.maxDelay
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
    this.#drop(this.#connection)
  }

  async #open(): Promise<void> {
    let connection: RedisClient | undefined
    try {
      const client = await this.options.client()
      // A lazy client of a cluster knows no node before.
      if (isCluster(client) && client.status === 'wait') await client.connect()
      if (this.#closed) return
      connection = this.#connection = nodeSubscriber(client)
      await this.#subscribe(connection)
      if (connection !== this.#connection) return
      this.#subscribed = true
      this.#failures.over()
      this.#pause = RETRY_FROM
      this.listener.up()
      this.#beat(connection)
    } catch (error) {
      if (connection !== undefined) return this.#drop(connection, error)
      this.#failed(error)
      if (!this.#closed) this.#later(RETRY_TO, () => void this.#open())
    }
  }

  async #subscribe(connection: RedisClient): Promise<void> {
    const { channel, timeout } = this.options
    connection.on('error', (error) => this.#drop(connection, error))
    connection.on('close', () => this.#drop(connection))
    connection.on('message', (on: string, message: string) => {
      // Before the subscription is proved, messages are among those that `since` brings.
      if (on !== channel || connection !== this.#connection || !this.#subscribed) return
      const [whole = '', position] = /^(?:-|([^ ]+:\d+)) /.exec(message) ?? []
      this.listener.heard(message.slice(whole.length), position)
    })
    const late = new Error(`Redis did not answer within ${timeout} ms.`)
    this.#later(timeout, () => this.#drop(connection, late))
    await connection.connect()
    await connection.subscribe(channel)
    await this.#prove(connection)
  }

  async #prove(connection: RedisClient): Promise<void> {
    const asked = performance.now()
    await connection.ping()
    if (connection === this.#connection) this.#provenAt = asked
  }

  #beat(connection: RedisClient): void {
    const { timeout, maxDelay } = this.options
    this.#later(maxDelay / 4, () => {
      if (connection !== this.#connection) return
      this.#beat(connection)
      this.#prove(connection).catch((error: unknown) => this.#drop(connection, error))
      if (performance.now() - this.#provenAt > maxDelay + timeout)
        this.#drop(connection, new Error('Redis gives no sign of life.'))
    })
  }

  #drop(connection: RedisClient | undefined, error?: unknown): void {
    if (connection === undefined || connection !== this.#connection) return
    this.#connection = undefined
    connection.disconnect()
    if (error !== undefined) this.#failed(error)
    if (this.#closed) return
    if (this.#subscribed) this.listener.down()
    this.#subscribed = false
    // Spread out, so that a server that comes back is not stormed.
    this.#later(this.#pause * (0.5 + Math.random() / 2), () => void this.#open())
    this.#pause = Math.min(this.#pause * 2, RETRY_TO)
  }

  #failed(error: unknown): void {
    this.#failures.failed(() => ({ where: 'redis bus', error }))
  }

  #later(ms: number, work: () => void): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(work, ms)
    this.#timer.unref()
  }
}
