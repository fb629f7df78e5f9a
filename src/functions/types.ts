import type { NoValue } from '../backend/cached-value.js'
import type { Duration } from '../base/duration.js'
import type { MaybePromise } from '../base/maybe-promise.js'
import type { CreateOptions, Creator, MultiCreator } from '../creation/types.js'
import type { IdPart } from '../ledger/names.js'
import type { LedgerTime } from '../ledger/snapshot.js'
import type { FunctionKeyGenerator, FunctionMultiKeyGenerator, KeyPart } from './keys.js'

export interface CacheOptions {
  /** Tells this function's keys from others'. May be left out only with a `functionKeyGenerator` that needs none. */
  readonly namespace?: string
  /** How long its values are fresh, or a function of the arguments that says so; `undefined`: the region's. */
  readonly expirationTime?: Duration | ((...args: never[]) => Duration | undefined)
  /** Whether to store what the function made. */
  readonly shouldCache?: (value: never, key: string) => boolean
  readonly functionKeyGenerator?: FunctionKeyGenerator
  /** One key for all arguments, or a function of them. @default all arguments */
  readonly key?: string | ((...args: never[]) => string)
  /** Called at every call. While it returns `false` the function runs uncached. @default always */
  readonly enabled?: () => boolean
  /** Arguments without a key make the call reject, or run the function uncached with a message on `corral:notice`. @default 'throw' */
  readonly onKeyError?: 'bypass' | 'throw'
  /** `'clone'` gives every caller a separate copy, which it may change. @default 'share' */
  readonly copy?: 'share' | 'clone'
  /**
   * For methods: the part of the key that tells instances apart, or `'shared'` when all instances may share entries.
   */
  readonly self?: ((instance: never) => KeyPart) | 'shared'
  /** How long to wait for another caller's creation. @default the region's */
  readonly wait?: Duration
  /** Names that a result is made from, as the arguments tell. Needs `dependencies()` in the region's chain. */
  readonly dependencies?: (...args: never[]) => string | readonly string[]
  /** Names that a result is made from, as only the result tells: as safe as those declared ahead. */
  readonly resultDependencies?: (result: never, ...args: never[]) => string | readonly string[]
  /**
   * Groups that the results belong to: `{ user: ([id]) => id }`, for functions of many ids `{ user: (id) => id }`.
   * `region.invalidateDependencies(dep.group('user', 5))` then reaches all that has to do with user 5, in every process.
   */
  readonly group?: Readonly<Record<string, (args: never) => IdPart | readonly IdPart[]>>
}

export interface CacheMultiOptions
  extends Omit<
    CacheOptions,
    | 'expirationTime'
    | 'functionKeyGenerator'
    | 'key'
    | 'enabled'
    | 'onKeyError'
    | 'copy'
    | 'self'
    | 'dependencies'
    | 'resultDependencies'
  > {
  readonly expirationTime?: Duration
  /** Names that the value of an id is made from. Needs `dependencies()` in the region's chain. */
  readonly dependencies?: (id: never) => string | readonly string[]
  /** Names that the value of an id is made from, as only the value tells. */
  readonly resultDependencies?: (value: never, id: never) => string | readonly string[]
  readonly functionMultiKeyGenerator?: FunctionMultiKeyGenerator
  /** The function answers a Map from id to value; ids that are not in it are not stored, and absent from the result. @default false */
  readonly asMap?: boolean
}

/** A function whose results are cached by its arguments. */
export interface CachedFunction<A extends readonly unknown[], T> {
  (...args: A): Promise<T>
  /** The function that was wrapped. */
  readonly original: (...args: A) => MaybePromise<T>
  /** The key of a call. */
  key(...args: A): string
  /** The cached value, never calling the function. */
  get(...args: A): Promise<T | NoValue>
  /** Stores a value as if the function had returned it. */
  set(value: T, ...args: A): Promise<void>
  /** Calls the function and stores what it returns, whatever is there. */
  refresh(...args: A): Promise<T>
  readonly invalidate: Invalidate<A>
}

export interface Invalidate<A extends readonly unknown[]> {
  /** Removes the value; a call under way will not bring it back. */
  (...args: A): Promise<void>
  /** Marks the value stale: served while one caller renews it. */
  soft(...args: A): Promise<void>
}

/** A function of many ids whose values are cached one by one. */
export interface CachedMultiFunction<Id, T> {
  (...ids: Id[]): Promise<T[]>
  readonly original: (...ids: Id[]) => MaybePromise<readonly T[]>
  keys(...ids: Id[]): readonly string[]
  get(...ids: Id[]): Promise<(T | NoValue)[]>
  set(values: ReadonlyMap<Id, T>): Promise<void>
  refresh(...ids: Id[]): Promise<T[]>
  readonly invalidate: Invalidate<Id[]>
}

/** The same for a function that answers a Map; ids without a value are absent from it, and are not stored. */
export interface CachedMapFunction<Id, T> extends Omit<CachedMultiFunction<Id, T>, 'original' | 'refresh'> {
  (...ids: Id[]): Promise<Map<Id, T>>
  readonly original: (...ids: Id[]) => MaybePromise<ReadonlyMap<Id, T>>
  refresh(...ids: Id[]): Promise<Map<Id, T>>
}

/** Wraps a function, or replaces a method of a class. */
export interface CacheOnArguments<V> {
  <F extends (...args: never[]) => MaybePromise<V>>(
    fn: F,
  ): CachedFunction<Parameters<F>, Awaited<ReturnType<F>>>
  <This, A extends readonly unknown[], T extends V>(
    method: (this: This, ...args: A) => Promise<T>,
    context: ClassMethodDecoratorContext<This, (this: This, ...args: A) => Promise<T>>,
  ): (this: This, ...args: A) => Promise<T>
}

export interface CacheMultiOnArguments<V> {
  <Id, T extends V>(fn: (...ids: Id[]) => MaybePromise<readonly T[]>): CachedMultiFunction<Id, T>
}

export interface CacheMapOnArguments<V> {
  <Id, T extends V>(fn: (...ids: Id[]) => MaybePromise<ReadonlyMap<Id, T>>): CachedMapFunction<Id, T>
}

/** The members of a region that cached functions use. Those from `refreshMulti` on are not public. */
export interface FunctionStore<V> {
  get(key: string, options: Lifetime): Promise<V | NoValue>
  getMulti(keys: readonly string[], options: Lifetime): Promise<(V | NoValue)[]>
  getOrCreate<T extends V>(key: string, creator: Creator<T>, options: CreateOptions<T>): Promise<T>
  getOrCreateMulti: CreateMulti<V>
  setMulti(values: Iterable<readonly [key: string, value: V]>, options: Lifetime): Promise<unknown>
  delete(key: string): Promise<void>
  deleteMulti(keys: readonly string[]): Promise<void>
  expire(key: string): Promise<void>
  asOf(): Promise<LedgerTime>
  /** Creates and stores values even if the store holds some. */
  refreshMulti: CreateMulti<V>
  /** Renews a softly invalidated value. `false`: the new value could not be stored, and the older one stays. */
  renew<T extends V>(key: string, creator: MultiCreator<T>, options: CreateOptions<T>): Promise<boolean>
  /** Records the dependencies of a key and its renewal, for `refreshDependencies`. */
  recordCall(key: string, names: readonly string[], renew: () => Promise<boolean>): void
}

type CreateMulti<V> = <T extends V>(
  keys: readonly string[],
  creator: MultiCreator<T>,
  options: CreateOptions<T>,
) => Promise<(T | NoValue)[]>

interface Lifetime {
  readonly expirationTime: Duration | undefined
}
