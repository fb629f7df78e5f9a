import { report } from '../../../src/base/diagnostics.js'
import { CorralError } from '../../../src/base/errors.js'
import { ignoreRejection } from '../../../src/base/maybe-promise.js'
import { delay, MAX_DELAY, withTimeout } from '../../../src/base/timers.js'
import type { Breaker } from './breaker.js'
import { isCluster, type RedisClient } from './client.js'
import { isCredentials, isUnreachable, redisError, wasNotExecuted } from './errors.js'

export interface ConnectionOptions {
  /** Makes the client at the first use, unless one was passed in, which then stays the caller's. */
  readonly open: () => Promise<RedisClient>
  readonly isOurs: boolean
  /** ms for a command, waiting for a connection included. */
  readonly timeout: number
  /** How many commands may be under way. */
  readonly maxPending: number
  readonly breaker: Breaker | undefined
}

/** The one way to the server: opens the connection, bounds every command in time and number, and names its failures. */
export interface RedisConnection {
  /**
   * Does something with the client. Unless `once`, it is done again after a lost connection: it must then be harmless
   * to do twice. It must have ended by `until`, on the clock of `performance`: what has waited already has less time left.
   * @throws CorralError `ERR_TIMEOUT`, `ERR_UNAVAILABLE`, `ERR_UNSUPPORTED`, `ERR_CLOSED` or `ERR_BACKEND`.
   */
  run<T>(work: (client: RedisClient) => Promise<T>, once?: boolean, until?: number): Promise<T>
  client(): Promise<RedisClient>
  /** The latest moment at which the server may begin what is sent now, on its own clock in µs; '' where that is unknown. */
  writeDeadline(): string
  /** The server has told its time. */
  setServerTime(microseconds: number): void
  /** Called whenever the connection is there (again). */
  onReady(listener: () => void): void
  /** Whether a command has not been answered. */
  readonly isBusy: boolean
  /** What is under way fails. */
  close(): Promise<void>
}

/** A command that has not been answered. */
interface Pending {
  /** On the clock of `performance`. */
  readonly until: number
  over: boolean
  /** While it waits for the connection. */
  waiter: Waiter | undefined
  give(error: unknown): void
}

interface Waiter {
  resolve(): void
  reject(error: unknown): void
}

/** Between attempts on a server that is there but cannot answer yet. */
const PAUSE = 50

/** ms by which the clocks of a cluster's nodes may differ: one offset serves for all. docs/redis.md says what more of it means. */
const SKEW = 1_000

export function openConnection({
  open,
  isOurs,
  timeout,
  maxPending,
  breaker,
}: ConnectionOptions): RedisConnection {
  let opening: Promise<RedisClient> | undefined
  let verified: RedisClient | undefined
  let verifying: Promise<void> | undefined
  let lastError: Error | undefined
  /** The server's clock less ours, in µs. */
  let ahead: number | undefined
  const pending = new Set<Pending>()
  let timer: NodeJS.Timeout | undefined
  /** When the timer looks at them. */
  let due = Number.POSITIVE_INFINITY
  let closed = false
  let ready = () => {}
  const readyListeners: (() => void)[] = []
  const waiting = new Set<Waiter>()

  const onReady = (made: RedisClient) => {
    // It may be another server now, with another clock.
    if (verified === made) void learnTime(made).catch(() => {})
    for (const { resolve } of emptied(waiting)) resolve()
    for (const listener of readyListeners) listener()
  }
  const client = (): Promise<RedisClient> => {
    opening ??= open().then((made) => {
      ready = () => onReady(made)
      made.on('ready', ready)
      if (isOurs) {
        const failed = (error: Error) => {
          lastError = error
          report('failure', () => ({ where: 'redis connection', error }))
          if (isCredentials(error)) for (const { reject } of emptied(waiting)) reject(error)
        }
        made.on('error', failed)
        made.on('node error', failed)
      }
      return made
    })
    // A missing package or a wrong option does not get better; a caller is told each time.
    return opening
  }

  /** Our standalone client queues nothing itself: what waits for a connection waits here, where it can be called off. */
  const connected = async (made: RedisClient, command: Pending): Promise<void> => {
    if (!isOurs || isCluster(made) || made.status === 'ready') return
    if (made.status === 'wait' || made.status === 'end') void ignoreRejection(made.connect())
    await new Promise<void>((resolve, reject) => {
      command.waiter = { resolve, reject }
      waiting.add(command.waiter)
    })
  }

  const setServerTime = (microseconds: number) => {
    if (Number.isFinite(microseconds)) ahead = microseconds - performance.now() * 1_000
  }
  const learnTime = async (made: RedisClient): Promise<void> => {
    const [seconds, rest] = ((await made.time()) ?? []) as (string | number)[]
    setServerTime(Number(seconds) * 1e6 + Number(rest))
  }

  const verify = async (made: RedisClient): Promise<void> => {
    // Without it writes have no deadline on the server, and work all the same.
    await learnTime(made).catch(() => {})
    let info: string
    try {
      info = await made.info('server')
    } catch (error) {
      if (isUnreachable(error) || isCredentials(error)) throw error
      // An ACL may forbid INFO: then the server is taken at its word.
      verified = made
      return
    }
    const [, text = ''] = /^redis_version:(\S+)/m.exec(info) ?? []
    const [major = 0, minor = 0] = text.split('.').map(Number)
    if (major < 6 || (major === 6 && minor < 2))
      throw new CorralError(
        'ERR_UNSUPPORTED',
        `Expected Redis 6.2 or later, or Valkey, got a server that says version '${text}'. Upgrade it.`,
      )
    verified = made
  }

  // One timer for all: one for each command would cost more than anything else here.
  const watch = (command: Pending) => {
    pending.add(command)
    if (command.until < due) wakeAt(command.until)
    else if (pending.size === 1) timer?.ref()
  }
  const wakeAt = (moment: number) => {
    clearTimeout(timer)
    due = moment
    timer =
      moment === Number.POSITIVE_INFINITY
        ? undefined
        : // If this process itself was busy for so long, the answer may lie here unread: one look at the network first.
          setTimeout(() => setImmediate(sweep), Math.min(moment - performance.now(), MAX_DELAY))
  }
  const settled = (command: Pending) => {
    pending.delete(command)
    if (command.waiter !== undefined) waiting.delete(command.waiter)
    if (pending.size === 0) timer?.unref()
  }
  const sweep = () => {
    const now = performance.now()
    let next = Number.POSITIVE_INFINITY
    for (const { until, give } of pending)
      if (until <= now) give(late(timeout, lastError))
      else next = Math.min(next, until)
    wakeAt(next)
  }

  const mayRepeat = (error: unknown, once: boolean) =>
    isOurs && !closed && isUnreachable(error) && (!once || wasNotExecuted(error))

  const attempt = async <T>(
    work: (client: RedisClient) => Promise<T>,
    once: boolean,
    command: Pending,
  ): Promise<T> => {
    for (;;) {
      try {
        const made = await client()
        await connected(made, command)
        if (verified !== made) {
          verifying ??= verify(made).finally(() => {
            verifying = undefined
          })
          await verifying
        }
        if (command.over) throw new Error('expired')
        return await work(made)
      } catch (error) {
        if (command.over || !mayRepeat(error, once)) throw error
        await delay(PAUSE)
      }
    }
  }

  return {
    client,
    setServerTime,
    writeDeadline: () =>
      ahead === undefined || timeout === Number.POSITIVE_INFINITY
        ? ''
        : (performance.now() * 1_000 + ahead + (timeout + SKEW) * 1_000).toFixed(0),
    onReady: (listener) => readyListeners.push(listener),
    get isBusy() {
      return pending.size > 0
    },
    run<T>(
      work: (client: RedisClient) => Promise<T>,
      once = false,
      until = performance.now() + timeout,
    ): Promise<T> {
      try {
        if (closed) throw new CorralError('ERR_CLOSED', 'This Redis backend was closed. Make another one.')
        if (pending.size >= maxPending)
          throw new CorralError(
            'ERR_UNAVAILABLE',
            `${pending.size} commands wait for Redis already, which is the most: see \`maxPending\`.`,
          )
        breaker?.admit()
      } catch (error) {
        return Promise.reject(error)
      }
      return new Promise<T>((resolve, reject) => {
        const done = (result: T) => {
          if (command.over) return
          end()
          breaker?.succeeded()
          resolve(result)
        }
        const failed = (error: unknown) => {
          if (command.over) return
          end()
          if (isUnreachable(error)) breaker?.failed()
          else breaker?.succeeded()
          reject(redisError(error, lastError))
        }
        const command: Pending = { until, over: false, waiter: undefined, give: failed }
        const end = () => {
          command.over = true
          settled(command)
        }
        watch(command)
        const persist = () => attempt(work, once, command).then(done, failed)
        // The usual case goes without any of the waiting that the unusual ones need.
        if (verified === undefined || (isOurs && verified.status !== 'ready')) void persist()
        else
          void work(verified).then(done, (error) =>
            mayRepeat(error, once) ? delay(PAUSE).then(persist) : failed(error),
          )
      })
    },
    async close() {
      if (closed) return
      closed = true
      for (const { give } of pending) give(new CorralError('ERR_CLOSED', 'This Redis backend was closed.'))
      clearTimeout(timer)
      const made = await opening?.catch(() => undefined)
      made?.off('ready', ready)
      if (made === undefined || !isOurs) return
      if (made.status === 'ready') await atMost(500, made.quit())
      made.disconnect()
    },
  }
}

function late(timeout: number, lastError: Error | undefined): CorralError {
  const why = lastError === undefined ? '' : ` The last error of the connection: ${lastError.message}`
  return new CorralError(
    'ERR_TIMEOUT',
    `Redis did not answer within ${timeout} ms. Check the server, or raise \`timeout\`.${why}`,
    {
      cause: lastError,
    },
  )
}

function emptied<T>(set: Set<T>): readonly T[] {
  const all = [...set]
  set.clear()
  return all
}

/** Waits for work, but no longer than `ms`, and not for its failure. */
export function atMost(ms: number, work: Promise<unknown>): Promise<unknown> {
  return withTimeout(work, ms, () => new Error('late')).catch(() => {})
}
