import { failureLog } from '../../../src/base/diagnostics.js'
import { ignoreRejection } from '../../../src/base/maybe-promise.js'
import { clearTimeout, setTimeout } from '../../../src/base/timers.js'
import { isCluster, nodeSubscriber, type RedisClient, subscriberLike } from '../client/client.js'

interface NearSubscriptionOptions {
  readonly client: () => Promise<RedisClient>
  readonly channel: string
  /** Asks a connection which server is behind it. A node of a cluster passes the messages of others on: '' is none. */
  readonly serverBehind: (client: RedisClient) => Promise<string>
  readonly received: (server: string, text: string) => void
  /** Messages arrive from now on; earlier ones may have been lost. */
  readonly up: () => void
}

/** ms before a refused subscription is tried again. */
const RETRY = 5_000
/** ms before another node of a cluster is tried. */
const NEXT_NODE = 200

/**
 * Listens to the changes that scripts publish, on a connection of its own. A message may be lost or late at any time: the near
 * cache notices that by the times in the next message, and asks regularly.
 */
export class NearSubscription {
  #connection: RedisClient | undefined
  #closed = false
  #server = ''
  #retry: NodeJS.Timeout | undefined
  readonly #failures = failureLog()

  constructor(private readonly options: NearSubscriptionOptions) {
    void this.#start()
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#retry)
    this.#connection?.disconnect()
  }

  async #start(): Promise<void> {
    try {
      await this.#open()
    } catch (error) {
      this.#failed(error)
      this.#again(() => void this.#start(), RETRY)
    }
  }

  #again(attempt: () => void, ms: number): void {
    clearTimeout(this.#retry)
    if (this.#closed) return
    this.#retry = setTimeout(attempt, ms)
    this.#retry.unref()
  }

  async #open(): Promise<void> {
    const client = await this.options.client()
    if (this.#closed) return
    // A lazy client of a cluster knows no node before.
    if (isCluster(client) && client.status === 'wait') await client.connect()
    if (this.#closed) return
    const connection = isCluster(client) ? nodeSubscriber(client) : subscriberLike(client)
    this.#connection = connection
    // Another node takes the place of one that went.
    if (isCluster(client)) connection.on('end', () => this.#again(() => void this.#start(), NEXT_NODE))
    connection.on('error', (error) => this.#failed(error))
    connection.on('ready', () => void this.#subscribe(connection))
    connection.on('message', (on: string, text: string) => {
      if (on === this.options.channel) this.options.received(this.#server, text)
    })
    // A failure to connect is an event too.
    void ignoreRejection(connection.connect())
  }

  async #subscribe(connection: RedisClient): Promise<void> {
    const { channel, serverBehind, up } = this.options
    if (this.#closed) return
    this.#server = ''
    clearTimeout(this.#retry)
    try {
      // Before it subscribes: afterwards the connection takes no such question.
      const server = await serverBehind(connection)
      await connection.subscribe(channel)
      this.#server = server
      this.#failures.over()
      up()
    } catch (error) {
      this.#failed(error)
      this.#again(() => void this.#subscribe(connection), RETRY)
    }
  }

  #failed(error: unknown): void {
    if (!this.#closed) this.#failures.failed(() => ({ where: 'redis near cache', error }))
  }
}
