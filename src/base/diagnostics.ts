import { type Channel, channel, type TracingChannel, tracingChannel } from 'node:diagnostics_channel'
import { processGlobal } from './process-global.js'
import { performance } from './timers.js'

/**
 * The messages of each channel. The channel's name is `corral:` and the key. A message is built only if the channel has a
 * subscriber.
 * @example
 * ```ts
 * import type { Messages } from 'corral'
 *
 * export const line = ({ region, key, result }: Messages['read']) => `${region ?? ''} ${key}: ${result}`
 * ```
 */
export interface Messages {
  /** A read at a region, of any form. A read of many keys is a message for each of them. */
  read: {
    readonly region: string | undefined
    /** Of a cached function. */
    readonly namespace?: string
    readonly key: string
    readonly result: 'hit' | 'stale' | 'miss'
    /**
     * Why a stale value was served, or stood while the caller waited: it had expired, was softly invalidated, its creator has
     * failed, or was slower than the caller's deadline; `blind`: it is a copy of a near cache whose store is away.
     */
    readonly reason?: 'expired' | 'soft' | 'error' | 'timeout' | 'blind'
    /** With a near cache in the chain: the store that the value came from. */
    readonly tier?: 'near' | 'far'
    /** For a value of the near cache: ms since the question was sent whose reply proves it. */
    readonly proofAge?: number
  }
  /** A creation that ended. Values that could not be stored are reported by `unstored`. */
  create: {
    readonly region: string | undefined
    /** Of a cached function. */
    readonly namespace?: string
    readonly keys: readonly string[]
    readonly milliseconds: number
    /** `abandoned`: it did not end in time and was given up. */
    readonly outcome: 'made' | 'failed' | 'abandoned'
    readonly error?: unknown
  }
  /** An invalidation that was acknowledged. */
  invalidate: {
    readonly region: string | undefined
    readonly what: 'key' | 'region' | 'dependencies'
    readonly names: readonly string[]
    readonly mode: 'hard' | 'soft'
    readonly reason?: string
  }
  /** A stored value that could not be used and counts as a miss. */
  undecodable: {
    readonly layer: string
    readonly key: string
    readonly reason: string
    readonly error?: unknown
    /** The number of such values in this process so far. */
    readonly total: number
  }
  /** An entry that left a bounded backend. */
  evict: {
    readonly backend: string
    readonly key: string
    readonly reason: 'evicted' | 'expired' | 'oversized'
  }
  /** A value that was created but not stored, and the reason. */
  unstored: {
    readonly region: string | undefined
    /** Of a cached function. */
    readonly namespace?: string
    readonly key: string
    readonly reason: string
  }
  /** A failure that had no caller to be thrown at. */
  failure: {
    readonly where: string
    /** Absent where no region is known, as in the client of a store that many regions share. */
    readonly region?: string | undefined
    /** Of a cached function. */
    readonly namespace?: string
    readonly key?: string | undefined
    readonly error: unknown
    /** The number of failures since the last message, where a store that is away causes many: this one is the latest. */
    readonly count?: number
  }
  /** A configured region, and the promises that its backend cannot keep. */
  configure: {
    readonly region: string | undefined
    readonly backend: string
    readonly limits: readonly string[]
  }
  /** Something worth a look that is not a failure, such as a clock or a lease that was lost. */
  notice: {
    readonly where: string
    readonly region?: string | undefined
    /** Of a cached function. */
    readonly namespace?: string | undefined
    readonly key?: string | undefined
    readonly message: string
  }
}

/** The region of a message, and the namespace of a cached function. */
export type Origin = Pick<Messages['read'], 'region' | 'namespace'>

/**
 * The object that all events of one creation share on the tracing channel `corral:creation`, which runs the creator.
 * @example
 * ```ts
 * import { tracingChannel } from 'node:diagnostics_channel'
 * import type { CreationTrace } from 'corral'
 *
 * tracingChannel('corral:creation').start.subscribe((creation) => console.log((creation as CreationTrace).keys.length))
 * ```
 */
export interface CreationTrace {
  readonly region: string | undefined
  /** Of a cached function. */
  readonly namespace: string | undefined
  readonly keys: readonly string[]
  /** Of a creator that failed. */
  readonly error?: unknown
}

/** Creators run inside of it if it has subscribers, or stores that are bound to its start. */
export const creationChannel: TracingChannel<unknown, CreationTrace> = tracingChannel('corral:creation')

const channels = new Map<keyof Messages, Channel>()

/**
 * The channel of a kind of message, to subscribe to or to ask for subscribers.
 * @example
 * ```ts
 * import { diagnostics } from 'corral'
 *
 * diagnostics('failure').subscribe((message) => console.error(message))
 * ```
 */
export function diagnostics<K extends keyof Messages>(kind: K): Channel<unknown, Messages[K]> {
  let found = channels.get(kind)
  if (found === undefined) channels.set(kind, (found = channel(`corral:${kind}`)))
  return found as Channel<unknown, Messages[K]>
}

/** Publishes a message if the channel has subscribers; `make` runs only then. */
export function report<K extends keyof Messages>(kind: K, make: () => Messages[K]): void {
  const target = diagnostics(kind)
  if (target.hasSubscribers) target.publish(make())
}

/** ms between messages about a state that lasts. */
const INTERVAL = 10_000

/**
 * Reports the failures of one state, such as a store that is away: the first one at once, later ones as a count, one
 * message for each interval. `over` tells that the state has ended, and returns the number of failures since the last message.
 */
export function failureLog(now: () => number = () => performance.now()) {
  let reportedAt: number | undefined
  let count = 0
  return {
    failed(make: () => Messages['failure']): void {
      count++
      if (reportedAt !== undefined && now() - reportedAt < INTERVAL) return
      const since = count
      report('failure', () => (since === 1 ? make() : { ...make(), count: since }))
      reportedAt = now()
      count = 0
    },
    /** `undefined`: no failure was reported. */
    over(): number | undefined {
      const unreported = reportedAt === undefined ? undefined : count
      reportedAt = undefined
      count = 0
      return unreported
    },
  }
}

export type FailureLog = ReturnType<typeof failureLog>

/** The most subjects of warnings and of reports: names that come from outside must not fill memory, or a log. */
const WARNING_LIMIT = 1_000

const told = processGlobal('told', () => new Set<string>())

/** Reports once for each subject. Without a subscriber the report waits for the next call. */
export function reportOnce<K extends keyof Messages>(
  kind: K,
  subject: string,
  make: () => Messages[K],
): void {
  if (told.has(subject) || told.size >= WARNING_LIMIT || !diagnostics(kind).hasSubscribers) return
  told.add(subject)
  report(kind, make)
}

const counts = processGlobal('counts', () => ({ undecodable: 0 }))

/** Counts and reports a stored value that cannot be used. Returns a miss. */
export function reportUndecodable(layer: string, key: string, reason: string, error?: unknown): undefined {
  const total = ++counts.undecodable
  report('undecodable', () => ({ layer, key, reason, error, total }))
  return undefined
}

const warned = processGlobal('warned', () => new Set<string>())

/** Emits a warning of the process, once for each subject. */
export function warnOnce(subject: string, message: () => string): void {
  if (warned.has(subject) || warned.size >= WARNING_LIMIT) return
  warned.add(subject)
  process.emitWarning(message(), 'CorralWarning')
}
