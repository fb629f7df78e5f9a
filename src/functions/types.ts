import type { NoValue } from '../backend/cached-value.js'
import type { Duration } from '../base/duration.js'
import type { MaybePromise } from '../base/maybe-promise.js'
import type { CreateOptions, Creator, MultiCreator } from '../creation/types.js'
import type { IdPart } from '../ledger/names.js'
import type { LedgerTime } from '../ledger/snapshot.js'
import type { FunctionKeyGenerator, FunctionMultiKeyGenerator, KeyPart } from './keys.js'

interface CommonOptions {
  /** Tells this function's keys from others'. Optional only with a key generator of yours that needs none. */
  readonly namespace?: string
  /** Whether to store a value. The caller gets it either way. @default always */
  readonly shouldCache?: (value: never, key: string) => boolean
  /** How long to wait for another caller's creation. A number is ms. @default the region's `lease.wait` */
  readonly wait?: Duration
  /**
   * Groups of the results: `{ user: ([id]) => id }`, for functions of many ids `{ user: (id) => id }`.
   * `region.invalidateDependencies(dep.group('user', 5))` then reaches all results of user 5, in every process. Needs
   * `dependencies()` in the region's chain.
   */
  readonly group?: Readonly<Record<string, (args: never) => IdPart | readonly IdPart[]>>
}

/**
 * Options of a cached function or method.
 * @example
 * ```ts
 * import { type CacheOptions, dep, makeRegion } from 'corral'
 *
 * const ofUser: CacheOptions = {
 *   namespace: 'user',
 *   expirationTime: '5m',
 *   shouldCache: (user: { draft: boolean }) => !user.draft,
 *   dependencies: (id: number) => dep.id('user', id),
 * }
 * const loadUser = makeRegion().cacheOnArguments(ofUser)(async (id: number) => ({ id, draft: false }))
 * ```
 */
export interface CacheOptions extends CommonOptions {
  /** How long a result is fresh, or a function of the arguments. A number is ms. @default the region's */
  readonly expirationTime?: Duration | ((...args: never[]) => Duration | undefined)
  /** @default the region's */
  readonly functionKeyGenerator?: FunctionKeyGenerator
  /** One key for all arguments, or a function of them. @default a key of all arguments */
  readonly key?: string | ((...args: never[]) => string)
  /** Called at every call. While it returns `false` the function runs uncached. @default always */
  readonly enabled?: () => boolean
  /**
   * If no key can be made of the arguments: `'throw'` rejects, `'bypass'` runs the function uncached and reports it on
   * `corral:notice`. @default 'throw'
   */
  readonly onKeyError?: 'bypass' | 'throw'
  /** `'clone'` gives every caller a separate copy, which it may change. @default 'share' */
  readonly copy?: 'share' | 'clone'
  /** For methods: the part of the key that tells instances apart, or `'shared'` if all instances share their entries. */
  readonly self?: ((instance: never) => KeyPart) | 'shared'
  /** Names that a result depends on, by its arguments. Needs `dependencies()` in the region's chain. */
  readonly dependencies?: (...args: never[]) => string | readonly string[]
  /** Names that a result depends on, by the result: as safe as those known before. */
  readonly resultDependencies?: (result: never, ...args: never[]) => string | readonly string[]
}

/**
 * Options of a cached function of many ids.
 * @example
 * ```ts
 * import { type CacheMultiOptions, dep } from 'corral'
 *
 * const ofUsers: CacheMultiOptions = { namespace: 'user', dependencies: (id: number) => dep.id('user', id) }
 * ```
 */
export interface CacheMultiOptions extends CommonOptions {
  /** How long a value is fresh. A number is ms. @default the region's */
  readonly expirationTime?: Duration
  /** @default the region's */
  readonly functionMultiKeyGenerator?: FunctionMultiKeyGenerator
  /** The function returns a Map from id to value. Ids without a value are not stored, and absent from the result. @default false */
  readonly asMap?: boolean
  /** Names that the value of an id depends on, by the id. Needs `dependencies()` in the region's chain. */
  readonly dependencies?: (id: never) => string | readonly string[]
  /** Names that the value of an id depends on, by the value. */
  readonly resultDependencies?: (value: never, id: never) => string | readonly string[]
}

/**
 * Caches a function, or replaces a method of a class by one that is cached for each instance.
 * @example
 * ```ts
 * import { type CacheOnArguments, makeRegion } from 'corral'
 *
 * const cached: CacheOnArguments<string> = makeRegion<string>().cacheOnArguments({ namespace: 'greet', self: 'shared' })
 * const greet = cached(async (name: string) => `hello ${name}`)
 * class Greeter {
 *   @cached
 *   async greet(name: string): Promise<string> {
 *     return `hello ${name}`
 *   }
 * }
 * ```
 * @throws CorralError `ERR_OPTION` for anything but a function or method.
 */
export interface CacheOnArguments<V> {
  <F extends (...args: never[]) => MaybePromise<V>>(
    fn: F,
  ): CachedFunction<Parameters<F>, Awaited<ReturnType<F>>>
  <This, A extends readonly unknown[], T extends V>(
    method: (this: This, ...args: A) => Promise<T>,
    context: ClassMethodDecoratorContext<This, (this: This, ...args: A) => Promise<T>>,
  ): (this: This, ...args: A) => Promise<T>
}

/**
 * Caches a function of many ids, which returns their values in the order of the ids.
 * @example
 * ```ts
 * import { makeRegion } from 'corral'
 *
 * const cached = makeRegion<number>().cacheMultiOnArguments({ namespace: 'square' })
 * const squares = cached(async (...ids: number[]) => ids.map((id) => id * id))
 * ```
 * @throws CorralError `ERR_OPTION` for anything but a function.
 */
export interface CacheMultiOnArguments<V> {
  <Id, T extends V>(fn: (...ids: Id[]) => MaybePromise<readonly T[]>): CachedMultiFunction<Id, T>
}

/**
 * Caches a function of many ids, which returns a Map from id to value.
 * @example
 * ```ts
 * import { makeRegion } from 'corral'
 *
 * const cached = makeRegion<string>().cacheMultiOnArguments({ namespace: 'name', asMap: true })
 * const names = cached(async (...ids: number[]) => new Map(ids.map((id) => [id, `name ${id}`])))
 * ```
 * @throws CorralError `ERR_OPTION` for anything but a function.
 */
export interface CacheMapOnArguments<V> {
  <Id, T extends V>(fn: (...ids: Id[]) => MaybePromise<ReadonlyMap<Id, T>>): CachedMapFunction<Id, T>
}

/**
 * A function whose results are stored in a region, each under the key of its arguments.
 * @example
 * ```ts
 * import { type CachedFunction, NO_VALUE } from 'corral'
 *
 * async function rename(loadName: CachedFunction<[id: number], string>, id: number): Promise<void> {
 *   if ((await loadName.get(id)) !== NO_VALUE) await loadName.invalidate(id)
 *   await loadName(id)
 * }
 * ```
 */
export interface CachedFunction<A extends readonly unknown[], T> {
  (...args: A): Promise<T>
  /** The wrapped function. */
  readonly original: (...args: A) => MaybePromise<T>
  /** The key of a call. @throws CorralError `ERR_KEY_ARGUMENT` for an argument that it cannot encode. */
  key(...args: A): string
  /** The cached value. Never calls the function. */
  get(...args: A): Promise<T | NoValue>
  /**
   * Stores a value as if the function had returned it.
   * @throws CorralError `ERR_AS_OF_MISSING` if the function declares dependencies: use `region.set` with `asOf`.
   */
  set(value: T, ...args: A): Promise<void>
  /** Calls the function and stores its result, even if a fresh value is stored. */
  refresh(...args: A): Promise<T>
  readonly invalidate: Invalidate<A>
}

/**
 * A function of many ids whose values are stored one by one.
 * @example
 * ```ts
 * import { type CachedMultiFunction, NO_VALUE } from 'corral'
 *
 * async function known(users: CachedMultiFunction<number, string>, ids: number[]): Promise<number> {
 *   const values = await users.get(...ids)
 *   return values.filter((value) => value !== NO_VALUE).length
 * }
 * ```
 */
export interface CachedMultiFunction<Id, T> {
  (...ids: Id[]): Promise<T[]>
  /** The wrapped function. */
  readonly original: (...ids: Id[]) => MaybePromise<readonly T[]>
  /** The keys of the ids. @throws CorralError `ERR_KEY_ARGUMENT` for an id that it cannot encode. */
  keys(...ids: Id[]): readonly string[]
  /** The cached values in the order of the ids. Never calls the function. */
  get(...ids: Id[]): Promise<(T | NoValue)[]>
  /**
   * Stores values as if the function had returned them.
   * @throws CorralError `ERR_AS_OF_MISSING` if the function declares dependencies: use `region.setMulti` with `asOf`.
   */
  set(values: ReadonlyMap<Id, T>): Promise<void>
  /** Calls the function for all ids and stores its values, even if fresh values are stored. */
  refresh(...ids: Id[]): Promise<T[]>
  readonly invalidate: Invalidate<Id[]>
}

/**
 * A cached function that returns a Map. Ids without a value are absent from it, and are not stored.
 * @example
 * ```ts
 * import type { CachedMapFunction } from 'corral'
 *
 * async function nameOf(names: CachedMapFunction<number, string>, id: number): Promise<string> {
 *   return (await names(id)).get(id) ?? 'unknown'
 * }
 * ```
 */
export interface CachedMapFunction<Id, T> extends Omit<CachedMultiFunction<Id, T>, 'original' | 'refresh'> {
  (...ids: Id[]): Promise<Map<Id, T>>
  readonly original: (...ids: Id[]) => MaybePromise<ReadonlyMap<Id, T>>
  refresh(...ids: Id[]): Promise<Map<Id, T>>
}

/**
 * Invalidates the results of a call, hard or softly.
 * @example
 * ```ts
 * import type { Invalidate } from 'corral'
 *
 * const later = (invalidate: Invalidate<[id: number]>, id: number) => invalidate.soft(id)
 * ```
 */
export interface Invalidate<A extends readonly unknown[]> {
  /** Removes the values. A creation under way will not bring them back. */
  (...args: A): Promise<void>
  /** Marks the values stale: they are served while one caller renews them. */
  soft(...args: A): Promise<void>
}

/** The members of a region that cached functions use. Those from `refreshMulti` on are not public. */
export interface FunctionStore<V> {
  get(key: string, options: Lifetime): Promise<V | NoValue>
  getMulti(keys: readonly string[], options: Lifetime): Promise<(V | NoValue)[]>
  getOrCreate<T extends V>(key: string, creator: Creator<T>, options: CreateOptions<T>): Promise<T>
  getOrCreateMulti: CreateMulti<V>
  setMulti(values: Iterable<readonly [key: string, value: V]>, options: Lifetime): Promise<unknown>
  deleteMulti(keys: readonly string[]): Promise<void>
  expire(key: string): Promise<void>
  asOf(): Promise<LedgerTime>
  /** Creates and stores values even if fresh values are stored. */
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

export type Lifetime = Pick<CreateOptions<never>, 'expirationTime'>
