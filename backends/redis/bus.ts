import { report } from '../../src/base/diagnostics.js'
import { type Duration, milliseconds } from '../../src/base/duration.js'
import { CorralError } from '../../src/base/errors.js'
import { expectText, expectThat, rejectUnknownOptions } from '../../src/base/options.js'
import { MAX_DELAY } from '../../src/base/timers.js'
import type { Bus, BusListener } from '../../src/signals/bus.js'
import {
  checkUrl,
  isCluster,
  isRedisClient,
  openStandalone,
  type RedisClient,
  subscriberLike,
} from './client/client.js'
import { RedisConnection } from './client/connection.js'

export interface RedisBusOptions {
  /** The channel that all processes share. */
  readonly channel: string
  /** For a message to be taken by Redis, waiting for a connection included. @default '2s' */
  readonly timeout?: Duration
  /**
   * How late a message may be. Redis is asked for a sign of life four times as often; when the last one is older than
   * this, the subscription is not trusted. @default '2s'
   */
  readonly maxDelay?: Duration
}

export interface RedisBus extends Bus {
  /** Closes the connections that it opened; a client that was passed in is left alone. */
  close(): Promise<void>
}

type Publisher = RedisClient & { publish(channel: string, message: string): Promise<unknown> }

/** ms between attempts to subscribe. */
const RETRY_FROM = 50
const RETRY_TO = 2_000

/**
 * A bus over Redis pub/sub, for `broadcast` and `relay`. Publishes through the client, or one that it opens for a URL, and
 * listens on a connection of its own: on Redis Cluster one to any primary, since they pass messages on to each other.
 *
 * What Redis has acknowledged has been heard `maxDelay` later by every process whose reads still trust its subscription;
 * on Cluster that holds as far as the nodes pass messages on in time.
 * @param given a URL, or a client of ioredis 5 or 6, which is never closed here.
 * @throws CorralError `ERR_OPTION`. Publishing rejects with `ERR_TIMEOUT`, `ERR_UNAVAILABLE`, `ERR_BACKEND` or `ERR_CLOSED`.
 */
export function redisBus(given: string | RedisClient, options: RedisBusOptions): RedisBus {
  const channel = (options as RedisBusOptions | undefined)?.channel
  expectText(channel, '`channel` of redisBus()', 'a text that all processes share')
  rejectUnknownOptions(options, ['channel', 'timeout', 'maxDelay'], 'redisBus()')
  const timeout = milliseconds(options.timeout ?? '2s', 'timeout')
  const maxDelay = milliseconds(options.maxDelay ?? '2s', 'maxDelay')
  expectThat(maxDelay < Number.POSITIVE_INFINITY, maxDelay, '`maxDelay` to be finite')
  const passed = typeof given === 'string' ? undefined : given
  if (passed === undefined) checkUrl(given)
  else expectThat(isRedisClient(passed), passed, 'redisBus() to receive a URL or a client of ioredis 5 or 6')

  const connection = new RedisConnection({
    open: async () => passed ?? openStandalone(given as string, {}),
    isOurs: passed === undefined,
    timeout,
    maxPending: 10_000,
    breaker: undefined,
  })
  const ears = new Set<Ear>()
  return {
    publish: async (message) => {
      await connection.run((client) => (client as Publisher).publish(channel, message))
    },
    subscribe(listener) {
      const ear = listen(connection.client, channel, listener, { timeout, maxDelay })
      ears.add(ear)
      return {
        live: ear.live,
        async close() {
          ears.delete(ear)
          ear.close()
        },
      }
    },
    async close() {
      for (const ear of ears) ear.close()
      ears.clear()
      await connection.close()
    },
  }
}

interface Ear {
  live(): boolean
  close(): void
}

/** Keeps one subscription: connects, subscribes, asks for signs of life, and begins again elsewhere when they stay away. */
function listen(
  client: () => Promise<RedisClient>,
  channel: string,
  listener: BusListener,
  { timeout, maxDelay }: { readonly timeout: number; readonly maxDelay: number },
): Ear {
  let connection: RedisClient | undefined
  let subscribed = false
  let closed = false
  /** When the latest question was asked that Redis has answered: all that it had acknowledged by then has arrived. */
  let provenAt = Number.NEGATIVE_INFINITY
  let pause = RETRY_FROM
  let timer: NodeJS.Timeout | undefined

  const later = (ms: number, work: () => void) => {
    clearTimeout(timer)
    timer = setTimeout(work, Math.min(ms, MAX_DELAY))
    timer.unref()
  }
  const drop = (from: RedisClient | undefined, error?: unknown) => {
    if (from === undefined || from !== connection) return
    connection = undefined
    from.disconnect()
    if (error !== undefined) report('failure', () => ({ where: 'redis bus', error }))
    if (closed) return
    if (subscribed) listener.down()
    subscribed = false
    // Spread out, so that a server that comes back is not stormed.
    later(pause * (0.5 + Math.random() / 2), () => void open())
    pause = Math.min(pause * 2, RETRY_TO)
  }
  const prove = async (on: RedisClient): Promise<void> => {
    const asked = performance.now()
    await on.ping()
    if (on === connection) provenAt = asked
  }
  const beat = (on: RedisClient) => {
    later(maxDelay / 4, () => {
      if (on !== connection) return
      beat(on)
      prove(on).catch((error: unknown) => drop(on, error))
      if (performance.now() - provenAt > maxDelay + timeout)
        drop(on, new Error('Redis gives no sign of life.'))
    })
  }
  const open = async (): Promise<void> => {
    let made: RedisClient | undefined
    try {
      const source = await client()
      // A lazy client of a cluster knows no node before.
      if (isCluster(source) && source.status === 'wait') await source.connect()
      if (closed) return
      made = connection = nodeSubscriber(source)
      const mine = made
      made.on('error', (error) => drop(mine, error))
      made.on('close', () => drop(mine))
      made.on('message', (on: string, message: string) => {
        if (on === channel && mine === connection) listener.heard(message)
      })
      const ready = async () => {
        await mine.connect()
        await mine.subscribe(channel)
        await prove(mine)
      }
      later(timeout, () => drop(mine, new Error(`Redis did not answer within ${timeout} ms.`)))
      await ready()
      if (mine !== connection) return
      subscribed = true
      pause = RETRY_FROM
      listener.up()
      beat(mine)
    } catch (error) {
      if (made !== undefined) return drop(made, error)
      report('failure', () => ({ where: 'redis bus', error }))
      if (!closed) later(RETRY_TO, () => void open())
    }
  }
  void open()

  return {
    live: () => subscribed && !closed && performance.now() - provenAt <= maxDelay,
    close() {
      closed = true
      clearTimeout(timer)
      drop(connection)
    },
  }
}

/** A connection like the client's, or to some primary of its cluster, which does not come back by itself. */
function nodeSubscriber(client: RedisClient): RedisClient {
  const nodes = isCluster(client)
    ? (client as unknown as { nodes(role: 'master'): RedisClient[] }).nodes('master')
    : [client]
  const node = nodes[Math.floor(Math.random() * nodes.length)]
  if (node === undefined)
    throw new CorralError('ERR_UNAVAILABLE', 'The cluster has no primary to listen to yet.')
  return subscriberLike(node, { readOnly: false, retryStrategy: () => null })
}
