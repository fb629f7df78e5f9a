import type { Writable } from 'node:stream'
import { failureLog, report } from '../../../src/base/diagnostics.js'
import { CorralError } from '../../../src/base/errors.js'
import { ignoreRejection } from '../../../src/base/maybe-promise.js'
import { delay, nextTick, performance, withTimeout } from '../../../src/base/timers.js'
import type { Breaker } from './breaker.js'
import { isCluster, optionsOf, type RedisClient } from './client.js'
import { isCredentials, isUnreachable, markUnsent, redisError, wasNotExecuted } from './errors.js'
import { listenTo } from './listeners.js'
import { type Lane, type Pending, PendingCommands } from './pending-commands.js'

interface ConnectionOptions {
  /** Creates the client at the first use, unless the caller passed one. */
  readonly open: () => Promise<RedisClient>
  /** Whether the client is created here. One that was passed stays the caller's. */
  readonly isOurs: boolean
  /** ms for a command, waiting for a connection included. */
  readonly timeout: number
  /** Commands of a node that are under way at one time; more wait for their turn. */
  readonly maxPending: number
  /** Commands that wait for their turn; more are refused. */
  readonly maxWaiting: number
  readonly breaker: Breaker | undefined
  /** Whether a command fails at once while its node is known to be away, unless it is patient. */
  readonly failFast: boolean
  /** The node of a key; '' unless there are several. */
  readonly nodeOf?: (client: RedisClient, key: string) => string
}

interface RunOptions {
  /** Never sent again. @default false */
  readonly once?: boolean
  /** It waits for a connection that was lost, until its deadline. @default false */
  readonly patient?: boolean
  /** Any of its keys. */
  readonly key?: string | undefined
  /** The moment by which it must have ended, on the clock of `performance`. */
  readonly until?: number
}

/** @param until - when its caller gives up, on the clock of `performance` */
type Work<T> = (client: RedisClient, until: number) => Promise<T>

/** The statuses of a client that has no connection and had one, or tried. */
const LOST: readonly string[] = ['close', 'reconnecting', 'end']

/** Between attempts on a server that is there but cannot reply yet. */
const PAUSE = 50

/** ms by which the clocks of a cluster's nodes may differ: one offset serves for all. docs/redis.md has the consequences of more. */
const SKEW = 1_000

/** The one way to the server: opens the connection, bounds every command in time and number, and names its failures. */
export class RedisConnection {
  /** Failures because Redis is away: many callers see one outage. */
  readonly outage = failureLog()
  readonly #pending: PendingCommands
  readonly #readyListeners: (() => void)[] = []
  readonly #lostListeners: (() => void)[] = []
  #link = 0
  #opening: Promise<RedisClient> | undefined
  /** The client once it exists. */
  #client: RedisClient | undefined
  /** Whether its connection was closed and is not there again. */
  #lost = false
  /** When it was lost, on the clock of `performance`. */
  #lostAt = 0
  /** The client once its server's version is known. */
  #verified: RedisClient | undefined
  #verifying: Promise<void> | undefined
  #lastError: Error | undefined
  /** The server's clock less ours, in µs. */
  #ahead: number | undefined
  #closed = false
  #stopListening = () => {}

  constructor(private readonly options: ConnectionOptions) {
    this.#pending = new PendingCommands({
      timeout: options.timeout,
      maxInFlight: options.maxPending,
      late: () => timeoutError(options.timeout, this.#lastError),
    })
  }

  /**
   * Runs work with the client. Unless `once`, the work is repeated after a lost connection, so it must be harmless to do
   * twice.
   * @throws CorralError `ERR_TIMEOUT`, `ERR_UNAVAILABLE`, `ERR_UNSUPPORTED`, `ERR_CLOSED` or `ERR_BACKEND`.
   */
  run<T>(work: Work<T>, { once = false, patient = false, key, until }: RunOptions = {}): Promise<T> {
    const { breaker, timeout } = this.options
    const lane = this.#laneOf(key)
    try {
      this.#admit(lane, patient)
    } catch (error) {
      return Promise.reject(markUnsent(error as Error))
    }
    return new Promise<T>((resolve, reject) => {
      const done = (result: T) => {
        this.#replied(lane)
        if (command.over) return
        this.#pending.delete(command)
        breaker?.succeeded()
        resolve(result)
      }
      const fail = (error: unknown) => {
        if (command.over) {
          // Its end without a reply is no proof of silence either: the next command finds out.
          lane.silent = false
          return
        }
        this.#pending.delete(command)
        if (isUnreachable(error)) breaker?.failed()
        else {
          this.#replied(lane)
          breaker?.succeeded()
        }
        const failure = redisError(error, this.#lastError)
        reject(command.begun ? failure : markUnsent(failure))
      }
      const start = () => this.#start(work, once, command, done)
      const command: Pending = {
        until: until ?? performance.now() + timeout,
        patient,
        lane,
        over: false,
        sent: false,
        begun: false,
        waiter: undefined,
        start,
        fail,
      }
      this.#pending.add(command)
    })
  }

  // A missing package or a wrong option does not get better: every caller receives that failure.
  client = (): Promise<RedisClient> => (this.#opening ??= this.#open())

  /** The latest time at which the server may execute a command that has so long, on its own clock in µs; '' if unknown. */
  writeDeadline(until: number): string {
    return this.#ahead === undefined || until === Number.POSITIVE_INFINITY
      ? ''
      : ((until + SKEW) * 1_000 + this.#ahead).toFixed(0)
  }

  setServerTime(microseconds: number): void {
    if (Number.isFinite(microseconds)) this.#ahead = microseconds - performance.now() * 1_000
  }

  /** Calls the listener whenever the connection is ready (again). */
  onReady(listener: () => void): void {
    this.#readyListeners.push(listener)
  }

  /** Calls the listener whenever the connection was lost, or one to a node of a cluster. */
  onLost(listener: () => void): void {
    this.#lostListeners.push(listener)
  }

  /** The number of the connection: it changes whenever one is lost. Replies to commands of one number are of one server. */
  get link(): number {
    return this.#link
  }

  /** Whether a command has no reply yet. */
  get isBusy(): boolean {
    return this.#pending.commands.size > 0
  }

  /** Pending commands fail. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#pending.failAll(() => new CorralError('ERR_CLOSED', 'This Redis backend was closed.'))
    const client = await this.#opening?.catch(() => undefined)
    this.#stopListening()
    if (client === undefined || !this.options.isOurs) return
    if (client.status === 'ready') await atMost(500, client.quit())
    client.disconnect()
  }

  async #open(): Promise<RedisClient> {
    const began = performance.now()
    const client = await this.options.open()
    // To load the package is this process's own work, in which no server can be late.
    this.#pending.extend(performance.now() - began)
    this.#client = client
    if (LOST.includes(client.status)) this.#noteLoss()
    this.#listenTo(client)
    return client
  }

  #laneOf(key: string | undefined): Lane {
    const { nodeOf } = this.options
    const client = this.#verified
    const isKnown = key !== undefined && nodeOf !== undefined && client !== undefined
    return this.#pending.lane(isKnown ? nodeOf(client, key) : '')
  }

  #admit(lane: Lane, patient: boolean): void {
    const { maxWaiting, breaker, failFast } = this.options
    if (this.#closed)
      throw new CorralError('ERR_CLOSED', 'This Redis backend was closed. Create another one.')
    if (failFast && !patient) this.#expectThere(lane)
    if (this.#pending.isFull(lane) && this.#pending.waiting >= maxWaiting)
      throw new CorralError(
        'ERR_UNAVAILABLE',
        `${this.#pending.waiting} commands wait for their turn at Redis already, which is the most: see \`maxWaiting\`.`,
      )
    breaker?.admit()
  }

  /**
   * Refuses what must not wait once more for a server that is away: a connection that is lost for a moment only is waited for.
   * @throws CorralError `ERR_UNAVAILABLE` if the connection has been lost for one `timeout`, or an earlier command has had no
   * reply in time
   */
  expectThere(key: string): void {
    this.#expectThere(this.#laneOf(key), this.options.timeout)
  }

  #expectThere(lane: Lane, patience = 0): void {
    if (this.#isLost() && performance.now() - this.#lostAt >= patience) throw this.#lostError()
    if (lane.silent)
      throw new CorralError(
        'ERR_UNAVAILABLE',
        'Redis has not replied to an earlier command. Nothing else is sent to it until a reply comes.',
      )
  }

  /** The latest failure to connect, while there is no connection. */
  get trouble(): Error | undefined {
    if (this.#client?.status === 'ready') return undefined
    return this.#lastError ?? (this.#isLost() ? this.#lostError() : undefined)
  }

  #noteLoss(): void {
    // Each failed attempt to connect again is told as a loss too.
    if (!this.#lost) this.#lostAt = performance.now()
    this.#lost = true
  }

  /** Whether the connection is gone. If the client has given up connecting, it is asked to try again. */
  #isLost(): boolean {
    const client = this.#client
    if (!this.#lost || client === undefined || client.status === 'ready') return false
    if (this.options.isOurs && client.status === 'end') void ignoreRejection(client.connect())
    return true
  }

  #lostError(): CorralError {
    const last = this.#lastError
    const why = last === undefined ? 'the connection was closed' : last.message
    return new CorralError('ERR_UNAVAILABLE', `Redis cannot be reached: ${why}`, { cause: last })
  }

  #replied(lane: Lane): void {
    if (lane.silent) this.#isBack()
    this.#pending.replied(lane)
  }

  #isBack(): void {
    const unreported = this.outage.over()
    if (unreported === undefined) return
    const more = unreported === 0 ? '' : `, ${unreported} more failures since the last message`
    report('notice', () => ({ where: 'redis connection', message: `Redis is back${more}` }))
  }

  #start<T>(work: Work<T>, once: boolean, command: Pending, done: (result: T) => void): void {
    const { fail } = command
    const persist = () => this.#attempt(work, once, command).then(done, fail)
    const client = this.#verified
    // The usual case goes without any of the waiting that the unusual ones need.
    if (client === undefined || (this.options.isOurs && client.status !== 'ready')) void persist()
    else {
      command.begun = true
      if (this.options.isOurs) joinWrites(client)
      void work(client, command.until).then(done, (error) =>
        this.#mayRepeat(error, once) ? delay(PAUSE).then(persist) : fail(error),
      )
    }
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
        command.begun = true
        return await work(client, command.until)
      } catch (error) {
        if (command.over || !this.#mayRepeat(error, once)) throw error
        await delay(PAUSE)
      }
    }
  }

  /** A client that queues nothing, as our standalone one: a command waits here, where it can be abandoned. */
  async #connected(client: RedisClient, command: Pending): Promise<void> {
    const { isOurs } = this.options
    if (isCluster(client) || client.status === 'ready') return
    // The caller's own client connects once for us. Afterwards it fails or queues as its options say.
    if (!isOurs && (optionsOf(client).enableOfflineQueue !== false || LOST.includes(client.status))) return
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
    // A client that no Sentinel answers stays connecting, and closes nothing.
    let unanswered = 0
    const withoutSentinel = (error: Error) => {
      if (++unanswered < (optionsOf(client).sentinels?.length ?? 0)) return
      unanswered = 0
      this.#lastError = error
      lost()
    }
    const ready = () => {
      unanswered = 0
      // It may be another server now, with another clock.
      if (this.#verified === client) void this.#learnTime(client).catch(() => {})
      this.#lost = false
      this.#pending.forgetSilence()
      this.#isBack()
      for (const { waiter } of this.#pending.commands) waiter?.resolve()
      for (const listener of this.#readyListeners) listener()
    }
    const relinked = () => {
      this.#link++
      for (const listener of this.#lostListeners) listener()
    }
    const lost = () => {
      this.#noteLoss()
      relinked()
      if (this.options.failFast)
        this.#pending.failAll(
          () => this.#lostError(),
          ({ patient }) => !patient,
        )
    }
    const stops = [
      listenTo(client, 'ready', ready),
      listenTo(client, 'close', lost),
      listenTo(client, 'sentinelError', withoutSentinel),
    ]
    // A cluster's client stays, and loses the connections to its nodes one by one.
    if (isCluster(client))
      stops.push(listenTo(client, '+node', relinked), listenTo(client, '-node', relinked))
    this.#stopListening = () => {
      for (const stop of stops) stop()
    }
    if (!this.options.isOurs) return
    const failed = (error: Error) => {
      this.#lastError = error
      this.outage.failed(() => ({ where: 'redis connection', error }))
      if (isCredentials(error)) for (const { waiter } of this.#pending.commands) waiter?.reject(error)
    }
    client.on('error', failed)
    client.on('node error', failed)
  }
}

/** Commands of one tick go to the socket in one write: a write each costs a sixth of what 100 creations at once do. */
function joinWrites(client: RedisClient): void {
  const { stream } = client as { readonly stream?: Writable }
  if (stream?.writableCorked !== 0) return
  stream.cork()
  nextTick(() => stream.uncork())
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
