import type { Duration } from '../base/duration.js'
import type { MaybePromise } from '../base/maybe-promise.js'
import type { Ledger, WriteCondition } from '../ledger/ledger.js'
import type { Acquired, AcquireOptions, LeaseOperations, PlainMutex } from './lease.js'
import type { NearCache } from './near-cache.js'
import type { Tracker } from './tracker.js'

/**
 * Stored · the lease was revoked, stolen or has expired · a dependency of the value was invalidated.
 * @example
 * ```ts
 * import type { Outcome } from 'corral'
 *
 * export const isStored = (outcome: Outcome) => outcome === 'stored'
 * ```
 */
export type Outcome = 'stored' | 'lost' | 'refused'

/**
 * The options of a write.
 * @example
 * ```ts
 * import type { Backend, WriteOptions } from 'corral'
 *
 * const options: WriteOptions = { ttl: 60_000 }
 * export const write = (backend: Backend, value: unknown) => backend.set('key', value, options)
 * ```
 */
export interface WriteOptions {
  /** Physical lifetime in ms, always longer than the time for which the value is fresh. Absent: for ever. */
  readonly ttl?: number
  /** Makes this write the fill of a lease: stored only while the token still holds. Absent: the lease is revoked. */
  readonly token?: string
  /** Store only if no dependency of the value was invalidated, in the same step where the store can. */
  readonly ifCurrent?: WriteCondition
  /** The entry is there already, and the write only marks it as stale. `dependencies()` then asks for no `ifCurrent`. */
  readonly mark?: boolean
}

/**
 * One write of a batch.
 * @example
 * ```ts
 * import type { Backend, Write } from 'corral'
 *
 * const writes: Write<unknown>[] = [['key', 'value', { ttl: 60_000 }]]
 * export const write = (backend: Backend) => backend.setMulti(writes)
 * ```
 */
export type Write<T> = readonly [key: string, value: T, options: WriteOptions]

/**
 * The representation in a layer: whole cached values, or bytes that an encoding above it makes of them.
 * @example
 * ```ts
 * import type { Representation } from 'corral'
 *
 * export const representations: Representation[] = ['values', 'bytes']
 * ```
 */
export type Representation = 'values' | 'bytes'

/**
 * The methods that a backend's author writes: three, and more if the store can do more. Pass it to `defineBackend`.
 * Every method may answer at once or with a promise; a miss is `undefined`.
 * @example
 * ```ts
 * import { type BackendSpec, type CachedValue, defineBackend } from 'corral'
 *
 * const entries = new Map<string, CachedValue>()
 * const spec: BackendSpec<CachedValue> = {
 *   name: 'map',
 *   get: (key) => entries.get(key),
 *   set: (key, value) => void entries.set(key, value),
 *   delete: (key) => void entries.delete(key),
 * }
 * export const backend = defineBackend(spec)
 * ```
 */
export interface BackendSpec<T> extends Partial<LeaseOperations<T>> {
  readonly name: string
  get(key: string): MaybePromise<T | undefined>
  /** A write without a token revokes the lease of its key; a refused one without a token leaves no older value behind. */
  set(key: string, value: T, options: WriteOptions): MaybePromise<Outcome | void>
  /**
   * Idempotent; revokes the lease of its key. Returns whether there was an entry, current or not, if the store knows that
   * without a further step.
   */
  delete(key: string): MaybePromise<boolean | void>
  getMulti?(keys: readonly string[]): MaybePromise<readonly (T | undefined)[]>
  setMulti?(writes: readonly Write<T>[]): MaybePromise<readonly Outcome[]>
  deleteMulti?(keys: readonly string[]): MaybePromise<void>
  /**
   * Rejects if the store cannot be reached, for `region.ready()`. Needed where `get` hides an outage. @default a `get` of
   * one key
   */
  ping?(): MaybePromise<void>
  close?(): MaybePromise<void>
  /**
   * The keys of stored entries that begin with a text, for tools and for hosts that list keys. Entries that come or go meanwhile may
   * be listed or not, or twice; those that are expired or invalidated may be among them.
   */
  keys?(prefix: string): AsyncIterable<string>
  /** Why the store does not reply now, if it is known: the `cause` of the error of a caller whose deadline is over. */
  trouble?(): unknown
  /** A store's own bookkeeping of invalidations, which `set` then honours through `ifCurrent`. */
  readonly ledger?: Ledger | undefined
  readonly tracker?: Tracker | undefined
  /** A plain lock for stores that have nothing better: one creator, but no fence against a late write of another process. */
  mutex?(key: string): PlainMutex
  /** Whether `release` keeps the lease of a failed creation. If not, each process keeps it for itself. */
  readonly keepsFailures?: boolean | undefined
  /**
   * The share of keys that are absent, from 0 to 1, from which one step that brings an entry or takes the lease is cheaper than
   * a read, and a request for the lease if there is none. Absent: `acquire` ignores `ifAbsent`.
   */
  readonly ifAbsentFrom?: number | undefined
  /** How long an operation may take before it rejects with `ERR_TIMEOUT`. @default '10s' */
  readonly timeout?: Duration
  /** The copy of an entry that a caller gets which did not read it from the store; absent where callers share objects. */
  readonly copyOut?: ((entry: T) => T) | undefined
  /** Set 'bytes' for a store of bytes, so that a chain without an encoding is refused at run time too. */
  readonly stores?: Representation | undefined
}

/**
 * The reach of a backend's lease: the store fences · a plain mutex excludes · this process only.
 * @example
 * ```ts
 * import type { LeaseReach } from 'corral'
 *
 * export const isFenced = (reach: LeaseReach) => reach === 'store'
 * ```
 */
export type LeaseReach = 'store' | 'mutex' | 'process'

/**
 * The complete backend that proxies receive and regions hold. Made by `defineBackend`.
 * @example
 * ```ts
 * import type { Backend, CachedValue } from 'corral'
 * import { memory } from 'corral/backends/memory'
 *
 * export const backend: Backend<CachedValue> = memory()
 * ```
 */
export interface Backend<in out T = unknown>
  extends Omit<
    Required<BackendSpec<T>>,
    | 'set'
    | 'acquire'
    | 'keys'
    | 'trouble'
    | 'ledger'
    | 'tracker'
    | 'mutex'
    | 'timeout'
    | 'copyOut'
    | 'stores'
    | 'keepsFailures'
    | 'ifAbsentFrom'
  > {
  /** The stored type. Exists in types only, and the compiler shows its name where no encoding is around a store of bytes. */
  readonly '~stores: put an encoding such as msgpack() around a backend of bytes'?: T | undefined
  set(key: string, value: T, options: WriteOptions): MaybePromise<Outcome>
  /** Never waits. Brings, with the token, the stored value and the ledger's time. */
  acquire(key: string, ms: number, options?: AcquireOptions): MaybePromise<Acquired<T>>
  readonly ledger: Ledger | undefined
  readonly tracker: Tracker | undefined
  readonly reach: LeaseReach
  /** Whether all processes know of a failed creation, and not only the one that ran it. */
  readonly keepsFailures: boolean
  /** Absent where `acquire` ignores `ifAbsent`, or a layer would not see that read. */
  readonly ifAbsentFrom?: number | undefined
  readonly stores: Representation | undefined
  readonly copyOut?: ((entry: T) => T) | undefined
  /**
   * Keeps the payload of an entry as it is now: a later write of this very entry stores that, under its key and metadata of
   * then. Present where the chain encodes. `keyOf` returns the key of the entry in this layer.
   */
  readonly capture?: ((entry: T, keyOf: () => string) => void) | undefined
  /** Absent where the store cannot list keys, or a layer changes them without a way back. */
  readonly keys?: ((prefix: string) => AsyncIterable<string>) | undefined
  /** The near cache in the chain, if there is one. */
  readonly near?: NearCache | undefined
  /** The promises that the layer breaks, in plain words, for `region.guarantees.limits`. */
  readonly limits?: readonly string[] | undefined
  /** The key under which the layers below and the store know a key. Absent where they use it unchanged. */
  readonly storeKey?: ((key: string) => string) | undefined
  /** The backend under all proxies. */
  readonly actual: object
}
