import { report } from '../../../src/base/diagnostics.js'
import { CorralError } from '../../../src/base/errors.js'
import { ignoreRejection } from '../../../src/base/maybe-promise.js'
import { delay, MAX_DELAY, withTimeout } from '../../../src/base/timers.js'
import type { Breaker } from './breaker.js'
import { isCluster, type RedisClient } from './client.js'
import { isCredentials, isUnreachable, redisError, wasNotExecuted } from './errors.js'

interface ConnectionOptions {
  /** Creates the client at the first use, unless the caller passed one. */
  readonly open: () => Promise<RedisClient>
  /** Whether the client is created here. One that was passed stays the caller's. */
  readonly isOurs: boolean
  /** ms for a command, waiting for a connection included. */
  readonly timeout: number
  /** Commands without a reply at one time; more are refused. */
  readonly maxPending: number
  readonly breaker: Breaker | undefined
}

type Work<T> = (client: RedisClient) => Promise<T>

/** Between attempts on a server that is there but cannot reply yet. */
const PAUSE = 50

/** ms by which the clocks of a cluster's nodes may differ: one offset serves for all. docs/redis.md has the consequences of more. */
const SKEW = 1_000

/** The one way to the server: opens the connection, bounds every command in time and number, and names its failures. */
export class RedisConnection {
  readonly #pending = new PendingCommands(() => timeoutError(this.options.timeout, this.#lastError))
  readonly #readyListeners: (() => void)[] = []
  #opening: Promise<RedisClient> | undefined
  /** The client once its server's version is known. */
  #verified: RedisClient | undefined
  #verifying: Promise<void> | undefined
  #lastError: Error | undefined
  /** The server's clock less ours, in µs. */
  #ahead: number | undefined
  #closed = false
  #stopListening = () => {}

  constructor(private readonly options: ConnectionOptions) {}

  /**
   * Runs work with the client. Unless `once`, the work is repeated after a lost connection, so it must be harmless to do
   * twice. It must have ended by `until`, on the clock of `performance`.
   * @throws CorralError `ERR_TIMEOUT`, `ERR_UNAVAILABLE`, `ERR_UNSUPPORTED`, `ERR_CLOSED` or `ERR_BACKEND`.
   */
  run<T>(work: Work<T>, once = false, until = performance.now() + this.options.timeout): Promise<T> {
    const { breaker, isOurs } = this.options
    try {
      this.#admit()
    } catch (error) {
      return Promise.reject(error)
    }
    return new Promise<T>((resolve, reject) => {
      const done = (result: T) => {
        if (command.over) return
        this.#end(command)
        breaker?.succeeded()
        resolve(result)
      }
      const fail = (error: unknown) => {
        if (command.over) return
        this.#end(command)
        if (isUnreachable(error)) breaker?.failed()
        else breaker?.succeeded()
        reject(redisError(error, this.#lastError))
      }
      const command: Pending = { until, over: false, waiter: undefined, fail }
      this.#pending.add(command)
      const persist = () => this.#attempt(work, once, command).then(done, fail)
      const client = this.#verified
      // The usual case goes without any of the waiting that the unusual ones need.
      if (client === undefined || (isOurs && client.status !== 'ready')) void persist()
      else
        void work(client).then(done, (error) =>
          this.#mayRepeat(error, once) ? delay(PAUSE).then(persist) : fail(error),
        )
    })
  }

  // A missing package or a wrong option does not get better: every caller receives that failure.
  client = (): Promise<RedisClient> => (this.#opening ??= this.#open())

  /** The latest time at which the server may execute a command that is sent now, on its own clock in µs; '' if unknown. */
  writeDeadline(): string {
    const { timeout } = this.options
    return this.#ahead === undefined || timeout === Number.POSITIVE_INFINITY
      ? ''
      : (performance.now() * 1_000 + this.#ahead + (timeout + SKEW) * 1_000).toFixed(0)
  }

  setServerTime(microseconds: number): void {
    if (Number.isFinite(microseconds)) this.#ahead = microseconds - performance.now() * 1_000
  }

  /** Calls the listener whenever the connection is ready (again). */
  onReady(listener: () => void): void {
    this.#readyListeners.push(listener)
  }

  /** Whether a command has no reply yet. */
  get isBusy(): boolean {
    return this.#pending.commands.size > 0
  }

  /** Pending commands fail. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#pending.failAll(new CorralError('ERR_CLOSED', 'This Redis backend was closed.'))
    const client = await this.#opening?.catch(() => undefined)
    this.#stopListening()
    if (client === undefined || !this.options.isOurs) return
    if (client.status === 'ready') await atMost(500, client.quit())
    client.disconnect()
  }

  async #open(): Promise<RedisClient> {
    const client = await this.options.open()
    this.#listenTo(client)
    return client
  }

  #admit(): void {
    const { maxPending, breaker } = this.options
    if (this.#closed)
      throw new CorralError('ERR_CLOSED', 'This Redis backend was closed. Create another one.')
    if (this.#pending.commands.size >= maxPending)
      throw new CorralError(
        'ERR_UNAVAILABLE',
        `${this.#pending.commands.size} commands wait for Redis already, which is the most: see \`maxPending\`.`,
      )
    breaker?.admit()
  }

  #end(command: Pending): void {
    command.over = true
    this.#pending.delete(command)
  }

  #mayRepeat(error: unknown, once: boolean): boolean {
    return this.options.isOurs && !this.#closed && isUnreachable(error) && (!once || wasNotExecuted(error))
  }

  async #attempt<T>(work: Work<T>, once: boolean, command: Pending): Promise<T> {
    for (;;) {
      try {
        const client = await this.client()
        await this.#connected(client, command)
        if (this.#verified !== client) {
          this.#verifying ??= this.#verify(client).finally(() => {
            this.#verifying = undefined
          })
          await this.#verifying
        }
        if (command.over) throw new Error('expired')
        return await work(client)
      } catch (error) {
        if (command.over || !this.#mayRepeat(error, once)) throw error
        await delay(PAUSE)
      }
    }
  }

  /** Our standalone client queues nothing: a command waits here, where it can be abandoned. */
  async #connected(client: RedisClient, command: Pending): Promise<void> {
    if (!this.options.isOurs || isCluster(client) || client.status === 'ready') return
    if (client.status === 'wait' || client.status === 'end') void ignoreRejection(client.connect())
    await new Promise<void>((resolve, reject) => {
      command.waiter = { resolve, reject }
    })
  }

  async #verify(client: RedisClient): Promise<void> {
    // Without it writes have no deadline on the server, and work nevertheless.
    await this.#learnTime(client).catch(() => {})
    try {
      rejectOldServer(await client.info('server'))
    } catch (error) {
      // An ACL may forbid INFO. The server is then assumed to be recent enough.
      if (CorralError.is(error) || isUnreachable(error) || isCredentials(error)) throw error
    }
    this.#verified = client
  }

  async #learnTime(client: RedisClient): Promise<void> {
    const [seconds, rest] = ((await client.time()) ?? []) as (string | number)[]
    this.setServerTime(Number(seconds) * 1e6 + Number(rest))
  }

  #listenTo(client: RedisClient): void {
    const ready = () => {
      // It may be another server now, with another clock.
      if (this.#verified === client) void this.#learnTime(client).catch(() => {})
      for (const { waiter } of this.#pending.commands) waiter?.resolve()
      for (const listener of this.#readyListeners) listener()
    }
    client.on('ready', ready)
    this.#stopListening = () => client.off('ready', ready)
    if (!this.options.isOurs) return
    const failed = (error: Error) => {
      this.#lastError = error
      report('failure', () => ({ where: 'redis connection', error }))
      if (isCredentials(error)) for (const { waiter } of this.#pending.commands) waiter?.reject(error)
    }
    client.on('error', failed)
    client.on('node error', failed)
  }
}

/** A command without a reply. */
interface Pending {
  /** On the clock of `performance`. */
  readonly until: number
  over: boolean
  /** While it waits for the connection. */
  waiter: { resolve(): void; reject(error: unknown): void } | undefined
  fail(error: unknown): void
}

/** Fails commands at their deadlines. One timer for all: one for each command would cost more than the rest of it. */
class PendingCommands {
  readonly commands = new Set<Pending>()
  #timer: NodeJS.Timeout | undefined
  /** When the timer fires. */
  #due = Number.POSITIVE_INFINITY

  constructor(private readonly late: () => Error) {}

  add(command: Pending): void {
    this.commands.add(command)
    if (command.until < this.#due) this.#wakeAt(command.until)
    else if (this.commands.size === 1) this.#timer?.ref()
  }

  delete(command: Pending): void {
    this.commands.delete(command)
    if (this.commands.size === 0) this.#timer?.unref()
  }

  failAll(error: Error): void {
    for (const { fail } of this.commands) fail(error)
    clearTimeout(this.#timer)
  }

  #wakeAt(moment: number): void {
    clearTimeout(this.#timer)
    this.#due = moment
    this.#timer =
      moment === Number.POSITIVE_INFINITY
        ? undefined
        : // If this process itself was busy, the reply may have arrived unread: let the event loop read the network first.
          setTimeout(() => setImmediate(() => this.#sweep()), Math.min(moment - performance.now(), MAX_DELAY))
  }

  #sweep(): void {
    const now = performance.now()
    let next = Number.POSITIVE_INFINITY
    for (const { until, fail } of this.commands)
      if (until <= now) fail(this.late())
      else next = Math.min(next, until)
    this.#wakeAt(next)
  }
}

function timeoutError(timeout: number, lastError: Error | undefined): CorralError {
  const why = lastError === undefined ? '' : ` The last error of the connection: ${lastError.message}`
  return new CorralError(
    'ERR_TIMEOUT',
    `Redis did not answer within ${timeout} ms. Check the server, or raise \`timeout\`.${why}`,
    { cause: lastError },
  )
}

/** @throws CorralError `ERR_UNSUPPORTED` for a server before 6.2. */
function rejectOldServer(info: string): void {
  const [, text = ''] = /^redis_version:(\S+)/m.exec(info) ?? []
  const [major = 0, minor = 0] = text.split('.').map(Number)
  if (major < 6 || (major === 6 && minor < 2))
    throw new CorralError(
      'ERR_UNSUPPORTED',
      `Expected Redis 6.2 or later, or Valkey, got a server that says version '${text}'. Upgrade it.`,
    )
}

/** Waits for work, but no longer than `ms`, and not for its failure. */
export function atMost(ms: number, work: Promise<unknown>): Promise<unknown> {
  return withTimeout(work, ms, () => new Error('late')).catch(() => {})
}
