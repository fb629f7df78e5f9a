import { failureLog } from '../../../src/base/diagnostics.js'
import { ignoreRejection } from '../../../src/base/maybe-promise.js'
import { clearTimeout, setTimeout } from '../../../src/base/timers.js'
import { type RedisClient, subscriberLike } from '../client/client.js'

interface NearSubscriptionOptions {
  readonly client: () => Promise<RedisClient>
  readonly channel: string
  /** Asks a connection which server is behind it. */
  readonly serverBehind: (client: RedisClient) => Promise<string>
  readonly received: (server: string, text: string) => void
  /** Messages arrive from now on; earlier ones may have been lost. */
  readonly up: () => void
}

/** ms before a refused subscription is tried again. */
const RETRY = 5_000

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
    this.#open().catch((error: unknown) => this.#failed(error))
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#retry)
    this.#connection?.disconnect()
  }

  async #open(): Promise<void> {
    const client = await this.options.client()
    if (this.#closed) return
    const connection = subscriberLike(client)
    this.#connection = connection
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
      if (this.#closed) return
      this.#retry = setTimeout(() => void this.#subscribe(connection), RETRY)
      this.#retry.unref()
    }
  }

  #failed(error: unknown): void {
    if (!this.#closed) this.#failures.failed(() => ({ where: 'redis near cache', error }))
  }
}
