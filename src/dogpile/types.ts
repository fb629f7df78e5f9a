import type { Acquired, Granted, LeaseFailure } from '../backend/lease.js'
import type { Origin } from '../base/diagnostics.js'
import type { Duration } from '../base/duration.js'
import type { MaybePromise } from '../base/maybe-promise.js'
import type { AsyncCreationRunner } from './runner.js'

/**
 * The result of a read of the store: serve it · serve it while one caller renews · nothing of use.
 * @example
 * ```ts
 * import type { Lookup } from 'corral/dogpile'
 *
 * export const lookUp = (text: string | undefined): Lookup<string> =>
 *   text === undefined ? { state: 'missing' } : { state: 'fresh', value: text }
 * ```
 */
export type Lookup<V> =
  | { readonly state: 'fresh' | 'stale'; readonly value: V }
  | { readonly state: 'missing'; readonly value?: undefined }

/**
 * A value that a read found.
 * @example
 * ```ts
 * import type { Standing } from 'corral/dogpile'
 *
 * export const isCurrent = ({ state }: Standing<unknown>): boolean => state === 'fresh'
 * ```
 */
export type Standing<V> = Extract<Lookup<V>, { readonly state: 'fresh' | 'stale' }>

/**
 * The lease of a key that a creation runs under: the ledger's time of the grant, and the value that stood then.
 * @example
 * ```ts
 * import type { LeasedKey } from 'corral/dogpile'
 *
 * export const previousOf = ({ found }: LeasedKey<string>): string | undefined => found?.value
 * ```
 */
export interface LeasedKey<V> extends Pick<Granted, 'asOf'> {
  readonly found?: Lookup<V> | undefined
}

/**
 * The steps of a creation, for the dogpile. It knows no backend, no clock and no meaning of a key.
 * @example
 * ```ts
 * import type { DogpileDriver } from 'corral/dogpile'
 *
 * const files = new Map<string, string>()
 * // Renders each file once. A rendered file stays.
 * export const rendering: DogpileDriver<string> = {
 *   read: (keys) =>
 *     keys.map((key) => {
 *       const value = files.get(key)
 *       return value === undefined ? { state: 'missing' } : { state: 'fresh', value }
 *     }),
 *   create: (keys) =>
 *     keys.map((key) => {
 *       files.set(key, `<p>${key}</p>`)
 *       return `<p>${key}</p>`
 *     }),
 * }
 * ```
 */
export interface DogpileDriver<V> {
  /** Looks at the store; never waits for a creation. */
  read(keys: readonly string[]): MaybePromise<readonly Lookup<V>[]>
  /** Does the expensive work for all of the keys, in their order. `leases` are those that it runs under, if any. */
  create(
    keys: readonly string[],
    signal: AbortSignal,
    leases?: readonly LeasedKey<V>[],
  ): MaybePromise<readonly V[]>
  /** Takes the place of `create` for a driver that needs the signal only if its creator does. */
  createLazily?(
    keys: readonly string[],
    signalOf: () => AbortSignal,
    leases: readonly LeasedKey<V>[],
  ): MaybePromise<readonly V[]>
  /**
   * Asks for the lease of a key; never waits. Without leases there is only this process.
   * @param overFailed - take also a lease that was kept after a failure of a creation that began by this time of the ledger
   */
  acquire?(key: string, steal: boolean, overFailed?: number): MaybePromise<Acquired<Lookup<V>>>
  /** Stores what was made, each under its token. The first thing it does must be to send it. */
  fill?(
    fills: readonly (readonly [key: string, value: V, token: string])[],
  ): MaybePromise<readonly FillResult[]>
  renew?(key: string, token: string): MaybePromise<boolean>
  /** @param failedFor - ms for which to keep the lease after a failure. `undefined`: it is given back */
  release?(key: string, token: string, failedFor?: number): MaybePromise<boolean>
  /**
   * Called when a creation failed. `found` was read after the failure. Returns the time in ms for which no process shall try
   * again; 0: the lease is given back.
   * @param isGivenUp - the creation did not end by `abandonAfter`, or after its callers gave up: no failure of the source
   * @param handUp - passes on what the creation had learnt, if its creator ran in a region
   */
  failed?(
    found: Lookup<V>,
    error: unknown,
    key: string,
    isGivenUp: boolean,
    handUp?: (into: object) => void,
  ): number
  /** Called when a creation is given up. */
  abandoned?(): void
  /** Members that messages on the diagnostics channels get. */
  readonly origin?: Origin
  /** ms after which a creation is given up: its lease is free, and its result is not stored. @default Infinity */
  readonly abandonAfter?: number
  /**
   * Whether a stale value was invalidated since the creation began whose failure denies the lease. The caller then tries.
   * @param remaining - ms for which the failure still denies it
   */
  isOvertaken?(key: string, value: V, failure: LeaseFailure, remaining: number): MaybePromise<boolean>
}

/**
 * Options of a dogpile, for all of its calls.
 * @example
 * ```ts
 * import { dogpile, type DogpileOptions } from 'corral/dogpile'
 *
 * const stopping = new AbortController()
 * const options: DogpileOptions = { wait: '5s', signal: stopping.signal }
 * const reports = dogpile<string>(options)
 * ```
 */
export interface DogpileOptions {
  /** How long a caller waits for another one's creation. @default '60s' */
  readonly wait?: Duration
  /** How often leases are renewed while a creator runs. @default '3s' */
  readonly renewEvery?: Duration
  /** Takes renewals off the caller's hands when a stale value can be served. */
  readonly runner?: AsyncCreationRunner | undefined
  /** Passed on to the runner's jobs: aborted when the owner closes. */
  readonly signal?: AbortSignal
}

/**
 * Options of one call of a dogpile.
 * @example
 * ```ts
 * import type { Dogpile, DogpileDriver, RunOptions } from 'corral/dogpile'
 *
 * export function quickly(reports: Dogpile<string>, driver: DogpileDriver<string>): Promise<string> {
 *   const options: RunOptions<string> = { wait: 500, signal: AbortSignal.timeout(2_000) }
 *   return reports.run('today', driver, options)
 * }
 * ```
 */
export interface RunOptions<V> {
  /** ms. @default the dogpile's */
  readonly wait?: number | undefined
  readonly signal?: AbortSignal | undefined
  /** The lookups of the keys that the caller has already, one for each: they spare the first read. */
  readonly seen?: readonly Lookup<V>[]
  /** Whether this caller may have a value that another caller created or found. If not, it starts over. @default it may */
  readonly accept?: ((value: V) => MaybePromise<boolean>) | undefined
  /**
   * Called for a key of a stale value. The caller then waits for a new value instead of getting the stale one, unless it
   * would wait for itself; the function may start its creation. @default the caller gets the stale value if another renews it
   */
  readonly onStale?: ((key: string) => void) | undefined
  /** When this caller stops waiting, also for its own creator. They take the place of `wait`. */
  readonly deadlines?: Deadlines | undefined
  /**
   * Whether this caller takes a value that stands, after its creation failed or at a deadline. The value was read after
   * that. @default it does not
   */
  readonly fallsBack?:
    | ((found: Standing<V>, failure: CreationFailure | undefined, key: string) => boolean)
    | undefined
  /** Called for a key whose stale value is served because no caller may try: a creation failed not long ago. */
  readonly onHeldBack?: ((key: string) => void) | undefined
  /** Called for each key that another caller of this process is creating, and that this caller waits for. */
  readonly onJoin?: (() => void) | undefined
  /**
   * Called when this caller gets no value of a creation that it waits for.
   * @param handUp - see `DogpileDriver.failed`
   */
  readonly onFailed?: ((error: unknown, handUp: ((into: object) => void) | undefined) => void) | undefined
  /** This caller creates missing values for itself: it joins no creation, no caller joins its own, and nothing is stored. */
  readonly alone?: boolean
}

/**
 * The deadlines of a call, as moments of `performance.now()`; Infinity: none.
 * @example
 * ```ts
 * import type { Deadlines } from 'corral/dogpile'
 *
 * export const within = (ms: number): Deadlines => ({
 *   softAt: Number.POSITIVE_INFINITY,
 *   hardAt: performance.now() + ms,
 *   hardTimeout: ms,
 * })
 * ```
 */
export interface Deadlines {
  /** The caller takes a value that stands. */
  readonly softAt: number
  /** The caller takes a value that stands, or fails with `ERR_CREATION_TIMEOUT`. */
  readonly hardAt: number
  /** ms from the start of the call to `hardAt`, for the message. */
  readonly hardTimeout: number
  /** Why the store does not reply, if it is known: the `cause` of the error at `hardAt`. */
  readonly trouble?: (() => unknown) | undefined
}

/**
 * A creation that failed, and whether the caller led it.
 * @example
 * ```ts
 * import type { CreationFailure, RunOptions } from 'corral/dogpile'
 *
 * const isMissing = ({ error }: CreationFailure) => (error as Error).message === 'not found'
 * export const options: RunOptions<string> = { fallsBack: (_, failure) => failure === undefined || !isMissing(failure) }
 * ```
 */
export interface CreationFailure {
  readonly error: unknown
  readonly leads: boolean
}

/**
 * One creator at a time for each key; the others are served the previous value, or wait for the new one.
 * @example
 * ```ts
 * import type { Dogpile, DogpileDriver } from 'corral/dogpile'
 *
 * export async function renewAll(pages: Dogpile<string>, driver: DogpileDriver<string>): Promise<void> {
 *   await pages.renewMulti(['home', 'help'], driver)
 *   await pages.idle()
 * }
 * ```
 */
export interface Dogpile<V> {
  /** `driver` may be a function that returns one: a caller that joins another caller's creation needs none. */
  run(key: string, driver: DogpileDriver<V> | (() => DogpileDriver<V>), options?: RunOptions<V>): Promise<V>
  /**
   * Leads a creation of a key that the caller has not read. The driver's `acquire` is the read: an empty token says that there
   * is an entry. Returns `undefined` if this process works on the key already. Resolves with `undefined` if the caller has to go on with
   * that entry, or has to start over.
   */
  lead(
    key: string,
    driver: DogpileDriver<V>,
    options: RunOptions<V>,
  ): Promise<Renewed<V> | undefined> | undefined
  /** The same for many keys: one creation for all keys that no other caller creates. Never holds a lease while it waits for another. */
  runMulti(
    keys: readonly string[],
    driver: DogpileDriver<V>,
    options?: RunOptions<V>,
  ): Promise<Map<string, V>>
  /** Creates the value also where a fresh one stands, and voids a creation under way. Returns the outcome of the fill. */
  renew(key: string, driver: DogpileDriver<V>, options?: RunOptions<V>): Promise<Renewed<V>>
  /** The same for many keys, in one creation. */
  renewMulti(
    keys: readonly string[],
    driver: DogpileDriver<V>,
    options?: RunOptions<V>,
  ): Promise<Map<string, Renewed<V>>>
  /**
   * Renews values behind the back of a caller, those whose lease is granted and of which `isDue` says that it still stands
   * then. Resolves to the ms for which another caller holds a lease; 0 if none does.
   */
  renewAhead(
    keys: readonly string[],
    driver: DogpileDriver<V>,
    isDue: (key: string, value: V) => boolean,
  ): Promise<number>
  /**
   * Closes the flights of these keys for new callers: their values are void. Their tokens keep these out of the store in
   * any case; closing spares new callers the wait.
   */
  detach(keys: readonly string[]): void
  /**
   * An object that stands for the creation of the key under way and its progress. Callers without options of their own that
   * find the same one, outside of every creator, would join with the same result: they may share the promise of one of them.
   */
  momentOf(key: string): object | undefined
  /** Whether the caller is inside a creation of the key, or inside a renewal that such a creation asked for. */
  isCreating(key: string): boolean
  /** Resolves when no creation is under way. */
  idle(): Promise<void>
}

/**
 * The outcome of a fill. `withheld`: held back by choice, while nothing invalidated it under the lease, so that it may be
 * shared like a stored value. `own`: the value belongs to the caller that led the creation, and not under the key.
 * @example
 * ```ts
 * import type { FillResult } from 'corral/dogpile'
 *
 * export const mayShare = (filled: FillResult): boolean => filled === 'stored' || filled === 'withheld'
 * ```
 */
export type FillResult = 'stored' | 'withheld' | 'lost' | 'refused' | 'own'

/**
 * A renewed value, and the outcome of its fill.
 * @example
 * ```ts
 * import type { Renewed } from 'corral/dogpile'
 *
 * export function log({ value, filled }: Renewed<string>): void {
 *   if (filled !== 'stored') console.warn(`'${value}' was not stored: ${filled}`)
 * }
 * ```
 */
export interface Renewed<V> {
  readonly value: V
  readonly filled: FillResult
}
