import type { Backend, LeaseReach, Outcome } from '../backend/backend.js'
import type { CachedValue, NoValue } from '../backend/cached-value.js'
import type { Clock } from '../base/clock.js'
import type { Duration } from '../base/duration.js'
import type { MaybePromise } from '../base/maybe-promise.js'
import type { CreateOptions, Creator, MultiCreator, ServingOptions } from '../creation/types.js'
import type { AsyncCreationRunner } from '../dogpile/runner.js'
import type { Listener } from '../events/emitter.js'
import type { RegionEvents } from '../events/invalidation-events.js'
import type { FunctionKeyGenerator, FunctionMultiKeyGenerator } from '../functions/keys.js'
import type {
  CachedFunctionOf,
  CachedMultiFunctionOf,
  CacheMultiOnArguments,
  CacheMultiOptions,
  CacheOnArguments,
  CacheOptions,
  Known,
  MultiFunction,
  MultiOptionsOf,
  OptionsOf,
  Returning,
  ReturningMany,
} from '../functions/types.js'
import type { Freshness, InvalidationMode, InvalidationReason } from '../ledger/ledger.js'
import type { LedgerTime } from '../ledger/snapshot.js'
import type { RegionInvalidator } from './region-invalidator.js'
import type { RegionStats } from './stats.js'

/**
 * How long leases live, and how long callers wait for them.
 * @example
 * ```ts
 * import { type LeaseOptions, makeRegion } from 'corral'
 *
 * // Reports take long, and a process that died blocks one for at most 30 seconds.
 * const patient: LeaseOptions = { ms: '30s', wait: '5m' }
 * const reports = makeRegion<string>({ name: 'reports', lease: patient })
 * ```
 */
export interface LeaseOptions {
  /** How long a lease lives without renewal, and so how long a creator that died blocks its key. @default '10s' */
  readonly ms?: Duration | undefined
  /**
   * How long a caller without a `hardTimeout` waits for another one's creation before it fails with `ERR_WAIT_TIMEOUT`.
   * @default '60s'
   */
  readonly wait?: Duration | undefined
}

/**
 * Stops creators while their source is away. Stale values are served on, and callers to which nothing stands get
 * `ERR_UNAVAILABLE` at once.
 * @example
 * ```ts
 * import { type CreatorBreakerOptions, makeRegion } from 'corral'
 *
 * const breaker: CreatorBreakerOptions = { failures: 5, cooldown: '10s' }
 * const rates = makeRegion<number>({ name: 'rates', breaker })
 * ```
 */
export interface CreatorBreakerOptions {
  /** After so many creations of any keys that failed in a row, no creator runs. One that `serveStaleIf` calls an answer does not count. */
  readonly failures: number
  /** How long. Then one creation is the probe: if it succeeds, creators run again. A number is ms. */
  readonly cooldown: Duration
}

/**
 * Options that may be known only at an app's bootstrap.
 * @example
 * ```ts
 * import { type ConfigureOptions, makeRegion } from 'corral'
 * import { memory } from 'corral/backends/memory'
 *
 * const sessions = makeRegion<string>({ name: 'sessions' }) // at import
 * const options: ConfigureOptions = { backend: memory({ maxEntries: 50_000 }), expirationTime: '20m' }
 * sessions.configure(options) // at the start of the application
 * ```
 */
export interface ConfigureOptions extends ServingOptions {
  /** A backend, or the result of `wrap`; it must hold values, so a store of bytes needs an encoding around it. */
  readonly backend: Backend<CachedValue>
  /** How long a value is fresh. After that it is renewed by one caller while the others get the old one. @default Infinity */
  readonly expirationTime?: Duration | undefined
  /** Where renewals run while a stale value is served. @default the caller that found it stale */
  readonly asyncCreationRunner?: AsyncCreationRunner | undefined
  /** Replaces the shared or local strategy of `region.invalidate()`. */
  readonly regionInvalidator?: RegionInvalidator | undefined
  /** Where the region reads the time. @default the time of day */
  readonly clock?: Clock | undefined
  readonly lease?: LeaseOptions | undefined
  /** Stops the region's creators while many of them fail, in this process. @default none */
  readonly breaker?: CreatorBreakerOptions | undefined
  /** Allows a second configuration. Creations under way finish against the former backend. @default false */
  readonly replaceExistingBackend?: boolean | undefined
}

/**
 * Options of `makeRegion`. A region without a backend is configured later.
 * @example
 * ```ts
 * import { makeRegion, type RegionOptions } from 'corral'
 * import { memory } from 'corral/backends/memory'
 *
 * const common: RegionOptions = { backend: memory(), expirationTime: '5m' }
 * const users = makeRegion<{ id: number }>({ ...common, name: 'users' })
 * const teams = makeRegion<string[]>({ ...common, name: 'teams', expirationTime: '1h' })
 * ```
 */
export interface RegionOptions extends Partial<Omit<ConfigureOptions, 'replaceExistingBackend'>> {
  /**
   * Tells the region from others: over one store, regions of different names share no entries, in one process and across
   * processes. Required where several regions use one store, or processes share its ledger.
   */
  readonly name?: string | undefined
  /**
   * The text before the region's keys in the store. Regions with one keyspace share their entries, and their invalidations.
   * @default the name
   */
  readonly keyspace?: string | undefined
  readonly functionKeyGenerator?: FunctionKeyGenerator | undefined
  readonly functionMultiKeyGenerator?: FunctionMultiKeyGenerator | undefined
}

/**
 * Options of one read.
 * @example
 * ```ts
 * import { NO_VALUE, type ReadOptions, type Region } from 'corral'
 *
 * const atMostAMinute: ReadOptions = { expirationTime: '1m' }
 * export const isRecent = async (rates: Region<number>, currency: string) =>
 *   (await rates.get(currency, atMostAMinute)) !== NO_VALUE
 * ```
 */
export interface ReadOptions {
  /** Overrides the entry's and the region's own, for this call. */
  readonly expirationTime?: Duration | undefined
  /** Also return expired and softly invalidated values, never hard-invalidated ones. @default false */
  readonly ignoreExpiration?: boolean | undefined
  /**
   * With `near()` in the chain: how late this call may see an invalidation of another process; `0` is never. It can ask for less
   * than the near cache's own bound, not for more. A number is ms. @default the bound of `near()`; 0 inside a creator
   */
  readonly maxStaleness?: Duration | undefined
}

/**
 * Options of one write.
 * @example
 * ```ts
 * import { dep, type Region } from 'corral'
 *
 * export async function store(users: Region<string>, load: () => Promise<string>): Promise<void> {
 *   const asOf = await users.asOf()
 *   await users.set('user:5', await load(), { asOf, dependencies: dep.id('user', 5) })
 * }
 * ```
 */
export interface SetOptions {
  /** The entry's own expiration time, kept with it. */
  readonly expirationTime?: Duration | undefined
  /** Names that the value was made from. */
  readonly dependencies?: string | readonly string[] | undefined
  /**
   * The moment before the value was loaded, from `region.asOf()`: required with `dependencies`. `'now'`: the moment of the call,
   * for values that come from no source that is invalidated, or whose caller cannot tell. An invalidation between the load
   * and the call is then not noticed.
   */
  readonly asOf?: LedgerTime | 'now' | undefined
  /** How long this value may be served stale after its expiry. `0`: never. @default as the region and its callers say */
  readonly grace?: ServingOptions['grace'] | undefined
  /** The part by which the lifetime is shortened at most, from 0 to 1. @default the region's */
  readonly jitter?: ServingOptions['jitter'] | undefined
}

/**
 * Options of a soft invalidation of a key.
 * @example
 * ```ts
 * import type { ExpireOptions } from 'corral'
 *
 * export const options: ExpireOptions = { expirationTime: '1h', grace: '1d' }
 * ```
 */
export interface ExpireOptions extends Pick<ServingOptions, 'grace'> {
  readonly expirationTime?: Duration | undefined
}

/**
 * Options of a reservation.
 * @example
 * ```ts
 * import type { ReserveOptions } from 'corral'
 *
 * // A query of this host takes a second: after three the next caller may try.
 * export const options: ReserveOptions = { hold: '3s', hardTimeout: '5s' }
 * ```
 */
export interface ReserveOptions extends Pick<CreateOptions<never>, 'expirationTime' | 'hardTimeout'> {
  /** Ends the wait, or gives the reservation back unless it is filled by then. */
  readonly signal?: CreateOptions<never>['signal'] | undefined
  /** How long a reservation lasts that is neither filled nor released. Then the next caller gets it. @default '10s' */
  readonly hold?: Duration | undefined
}

/**
 * Options of a fill.
 * @example
 * ```ts
 * import { dep, type FillOptions } from 'corral'
 *
 * export const options: FillOptions = { dependencies: dep.id('user', 5), expirationTime: '1m' }
 * ```
 */
export type FillOptions = Pick<SetOptions, 'expirationTime' | 'dependencies'>

/**
 * A value, or the right to create it: see `region.reserve`.
 * @example
 * ```ts
 * import type { Region, Reservation } from 'corral'
 *
 * export const isThere = <V>(found: Reservation<V>): found is { readonly value: V } => 'value' in found
 * ```
 */
export type Reservation<V> =
  | { readonly value: V }
  | {
      /**
       * Stores the value, unless the key or one of the dependencies was invalidated since the reservation: then it is `'lost'` or
       * `'refused'`. `'lost'` also if the reservation is over; inside a transaction nothing is stored. The value must not change
       * until then. After an error, such as for a value that cannot be encoded, the key is still reserved.
       */
      fill(value: V, options?: FillOptions): Promise<Outcome>
      /** Gives the reservation back without a value, to the next caller. Does nothing once it is over. */
      release(): Promise<void>
    }

/**
 * A value with its metadata, as `getValueMetadata` answers it.
 * @example
 * ```ts
 * import type { ValueMetadata } from 'corral'
 *
 * export const ageHeader = ({ age }: ValueMetadata<unknown>) => ({ age: String(Math.floor(age / 1_000)) })
 * ```
 */
export interface ValueMetadata<V> extends CachedValue<V> {
  /** ms since the creator returned. */
  readonly age: number
  /** Epoch ms up to which the value is fresh by its age, as this call sees it. `Infinity`: for ever. */
  readonly expiresAt: number
}

/**
 * Why a key would hit or miss now.
 * @example
 * ```ts
 * import type { Explanation } from 'corral'
 *
 * export const inOneLine = ({ verdict, reason, invalidated }: Explanation) =>
 *   `${verdict}: ${reason} [${invalidated.join(', ')}]`
 * ```
 */
export interface Explanation {
  readonly verdict: 'hit' | 'stale' | 'miss'
  /** In words. */
  readonly reason: string
  /** ms since the creator returned; absent when nothing is stored. */
  readonly age?: number
  /** ms for which the entry is fresh, from its making. */
  readonly expiresIn?: number
  /** The dependencies of the entry. */
  readonly dependsOn: readonly string[]
  /** Those of them that were invalidated since. */
  readonly invalidated: readonly string[]
  /** Whether a creator of the key runs now. */
  readonly locked: boolean
  /** With a near cache in the chain: the store that the value came from. */
  readonly tier?: 'near' | 'far'
  /** For a value of the near cache: ms since the question was sent whose reply proves it. */
  readonly proofAge?: number
}

/**
 * A named part of a cache: a backend with its proxies, an expiration time, and one creator at a time for each key.
 * @example
 * ```ts
 * import type { Region } from 'corral'
 *
 * interface User {
 *   readonly id: number
 *   readonly name: string
 * }
 * export async function rename(users: Region<User>, user: User, save: (user: User) => Promise<void>) {
 *   await save(user)
 *   await users.delete(`user:${user.id}`)
 *   return users.getOrCreate(`user:${user.id}`, () => user)
 * }
 * ```
 */
export interface Region<V = unknown> {
  readonly name: string | undefined
  readonly isConfigured: boolean
  /** The backend under all proxies, as it was passed to `defineBackend`. */
  readonly actualBackend: object
  /** How far the region's leases reach, and the `limits`: promises that the backend cannot keep, as sentences. */
  readonly guarantees: { readonly reach: LeaseReach; readonly limits: readonly string[] }

  /**
   * Connects the region to its backend. Returns the region.
   * @throws CorralError `ERR_ALREADY_CONFIGURED`, `ERR_OPTION` or `ERR_CHAIN`, leaving the region as it was.
   */
  configure(options: ConfigureOptions): Region<V>
  /**
   * The same from flat settings, such as environment variables: `prefix + 'backend'` and so on, with the names that
   * `registerBackend` and `registerProxy` made known. Durations need a unit; unknown settings are errors.
   */
  configureFromConfig(settings: Readonly<Record<string, unknown>>, prefix: string): Region<V>

  /** The value if it is fresh; never creates, never waits for a creation. */
  get(key: string, options?: ReadOptions): Promise<V | NoValue>
  getMulti(keys: readonly string[], options?: ReadOptions): Promise<(V | NoValue)[]>
  /** Synchronous `get`. @throws CorralError `ERR_ASYNC_BACKEND` when a layer answers later. */
  peek(key: string, options?: ReadOptions): V | NoValue
  has(key: string, options?: ReadOptions): Promise<boolean>
  /**
   * The keys of stored entries that begin with a text: for tools, and for hosts that list keys. It reads the store in pieces. Entries
   * that come or go meanwhile may be missing or come twice; expired and invalidated ones may be among them, so read those
   * that matter. A region without a name lists all keys of its store.
   * @throws CorralError `ERR_UNSUPPORTED` over stores that cannot list keys, such as memcached.
   */
  keys(prefix?: string): AsyncIterable<string>
  getValueMetadata(key: string, options?: ReadOptions): Promise<ValueMetadata<V> | undefined>

  /**
   * The value, made by `creator` if there is none. One caller creates; while a stale value exists the others get
   * that, else they wait. A failing creator rejects its waiters with its own error, and leaves no lease.
   */
  getOrCreate<T extends V>(key: string, creator: Creator<T>, options?: CreateOptions<T>): Promise<T>
  /** The same for many keys, in one creation for all that are missing. Keys for which the creator answers `NO_VALUE` are not stored. */
  getOrCreateMulti<T extends V>(
    keys: readonly string[],
    creator: MultiCreator<T>,
    options?: CreateOptions<T>,
  ): Promise<(T | NoValue)[]>

  /**
   * The value, or the reservation of its key: for hosts that read, compute and then write. One caller gets the reservation, in all
   * processes; the others wait, until it is filled or released, and so do callers of `getOrCreate`. An expired value counts
   * as missing.
   * @throws CorralError `ERR_WAIT_TIMEOUT`, `ERR_OPTION`
   */
  reserve(key: string, options?: ReserveOptions): Promise<Reservation<V>>

  /**
   * Stores a value and voids every creation of its key that is under way. Over a chain that answers at once it is stored when
   * the call returns.
   */
  set(key: string, value: V, options?: SetOptions): Promise<Outcome>
  /** The same for many values, each with options of its own over those of all if it has some. */
  setMulti(
    values: Iterable<readonly [key: string, value: V, options?: SetOptions]>,
    options?: SetOptions,
  ): Promise<readonly Outcome[]>
  /**
   * After it resolves no read that starts later sees the old value, nor does a creation under way bring it back. Resolves to whether
   * the store held an entry, also an expired or invalidated one; `undefined`: the store does not say.
   */
  delete(key: string, cause?: InvalidationReason): Promise<boolean | undefined>
  deleteMulti(keys: readonly string[], cause?: InvalidationReason): Promise<void>
  /**
   * Marks the value of a key stale: callers get it only while one of them renews it. `delete` is the hard form.
   * @param options - the `grace` and `expirationTime` that the value was created with, if they are not those of the region
   */
  expire(key: string, reason?: InvalidationReason, options?: ExpireOptions): Promise<void>
  /** Everything in the region. */
  invalidate(mode?: InvalidationMode, cause?: InvalidationReason): Promise<void>
  /** Invalidates every entry that depends on the names, in every region over the same ledger. @throws CorralError `ERR_NO_LEDGER` without `dependencies()` in the chain. */
  invalidateDependencies(
    names: string | readonly string[],
    mode?: InvalidationMode,
    cause?: InvalidationReason,
  ): Promise<void>
  /**
   * Invalidates the names softly, in every process, then renews what cached functions of this region object made of them:
   * the latest 10,000 calls that declared their names ahead, methods as long as their instance lives. Until then the old
   * values are served, also where the new value could not be stored. Inside a creation it leaves out
   * the keys that are created around it, and those that a refresh around it renews already.
   * @throws CorralError `ERR_VERSION` for a version; whatever a function throws, when all have ended; its value stays stale.
   */
  refreshDependencies(names: string | readonly string[], cause?: InvalidationReason): Promise<void>
  /**
   * Calls the listener at every invalidation that this region is asked for: before it (`'invalidating'`), when the store
   * has acknowledged it (`'invalidate'`), or when it failed (`'invalidate-failed'`). No caller waits for a listener; its own
   * failure is reported on the `failure` channel. Returns a function that ends it.
   */
  on<K extends keyof RegionEvents>(event: K, listener: Listener<RegionEvents[K]>): () => void
  /**
   * The moment to take before loading data that is put with `set(…, { dependencies, asOf })`. With `names` it may be asked
   * later whether one of them was invalidated since: `freshnessOf`.
   */
  asOf(names?: string | readonly string[]): Promise<LedgerTime>
  /**
   * Whether one of the names, or the region as a whole, was invalidated since a moment of `asOf(names)`: `'invalid'` hard,
   * `'stale'` softly. `'invalid'` also where that cannot be known, such as for names that `asOf` was not asked with.
   * @throws CorralError `ERR_NO_LEDGER` without `dependencies()` in the chain; `ERR_AS_OF_MISSING` for another moment.
   */
  freshnessOf(names: string | readonly string[], since: LedgerTime): Promise<Freshness>

  /** Tells why a key would hit or miss now, and its dependencies. For tests, a REPL, a page for operators. */
  explain(key: string): Promise<Explanation>

  /**
   * Whether the store can be reached, for a readiness probe. Never rejects: the failure is reported on `corral:failure`.
   * `false` also before the region is configured and after it was closed.
   */
  ready(): Promise<boolean>
  /** Counts of reads and creations in this process, in all and for each namespace. Hits cost an increment. */
  stats(): RegionStats

  /** Whether a creator of the key runs. Takes no lock. */
  keyIsLocked(key: string): Promise<boolean>

  /** Caches a function by its arguments. May be used before the region is configured. */
  cacheOnArguments<F extends (...args: never[]) => MaybePromise<V>>(
    fn: F,
    options: OptionsOf<F> & Returning<F, V>,
  ): CachedFunctionOf<F>
  /** The same in two steps; the result is also a method decorator, standard or legacy. */
  cacheOnArguments<const O extends CacheOptions>(options: O & Known<O, CacheOptions>): CacheOnArguments<V, O>
  /** Caches a function of many ids, calling it only with those that are missing. */
  cacheMultiOnArguments<F extends MultiFunction<V>>(
    fn: F,
    options: MultiOptionsOf<F> & ReturningMany<F, V>,
  ): CachedMultiFunctionOf<F>
  /** The same in two steps. */
  cacheMultiOnArguments<const O extends CacheMultiOptions>(
    options: O & Known<O, CacheMultiOptions>,
  ): CacheMultiOnArguments<V, O>

  /** Calls off background renewals; the last region over a backend closes it. Idempotent. */
  close(): Promise<void>
}
