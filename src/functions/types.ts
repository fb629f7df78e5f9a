import type { Outcome } from '../backend/backend.js'
import type { NoValue } from '../backend/cached-value.js'
import type { Arguments, ArgumentsOf } from '../base/any-function.js'
import type { Duration } from '../base/duration.js'
import type { MaybePromise } from '../base/maybe-promise.js'
import type { CreateOptions, MultiCreator, ServingOptions } from '../creation/types.js'
import type { InvalidationReason } from '../ledger/ledger.js'
import type { IdPart } from '../ledger/names.js'
import type { LedgerTime } from '../ledger/snapshot.js'
import type { FunctionKeyGenerator, FunctionMultiKeyGenerator, KeyPart } from './keys.js'

/**
 * A lifetime that a result brings along, such as the `expires_in` of a token. Called once, when the entry is created.
 * @example
 * ```ts
 * import { makeRegion, type ResultLifetime } from 'corral'
 *
 * interface Token {
 *   readonly secret: string
 *   readonly expires_in: number
 * }
 * const ofToken: ResultLifetime<Token, [user: string]> = { ofResult: (token) => token.expires_in * 1_000 }
 * const login = async (user: string): Promise<Token> => ({ secret: user, expires_in: 60 })
 * const loadToken = makeRegion<Token>().cacheOnArguments(login, { namespace: 'token', expirationTime: ofToken })
 * ```
 */
export interface ResultLifetime<T, A extends readonly unknown[]> {
  /** `undefined`: the region's. A number is ms. */
  readonly ofResult: (result: T, ...args: A) => Duration | undefined
}

interface CommonOptions<T> extends ServingOptions {
  /** Tells this function's keys from others'. Optional only with a key generator of yours that needs none. */
  readonly namespace?: string | undefined
  /**
   * Says that another function of the region has the same namespace on purpose: both return the same values for the same
   * arguments, and share their entries. @default false
   */
  readonly sharesNamespace?: boolean | undefined
  /** Whether to store a value. The caller gets it either way. @default always */
  readonly shouldCache?: ((value: T, key: string) => boolean) | undefined
}

/**
 * Options of a cached function or method. The parameters are those of the function: its arguments, result and instance.
 * Without them it is the type of options for any function.
 * @example
 * ```ts
 * import { type CacheOptions, dep, makeRegion } from 'corral'
 *
 * interface User {
 *   readonly id: number
 *   readonly draft: boolean
 * }
 * const ofUser: CacheOptions<[id: number], User> = {
 *   namespace: 'user',
 *   expirationTime: '5m',
 *   shouldCache: (user) => !user.draft,
 *   dependencies: (id) => dep.id('user', id),
 * }
 * const loadUser = makeRegion().cacheOnArguments(async (id: number) => ({ id, draft: false }), ofUser)
 * ```
 */
export interface CacheOptions<
  A extends readonly unknown[] = never,
  T = never,
  This = [A] extends [never] ? never : unknown,
> extends CommonOptions<T> {
  /**
   * How long a result is fresh. A function of the arguments, or `{ ofResult }`, is called once for each entry, when it is
   * created; the entry keeps its lifetime. A number is ms. @default the region's
   */
  readonly expirationTime?:
    | Duration
    | ((...args: A) => Duration | undefined)
    | ResultLifetime<T, A>
    | undefined
  /** @default the region's */
  readonly functionKeyGenerator?: FunctionKeyGenerator | undefined
  /** One key for all arguments, or a function of them. @default a key of all arguments */
  readonly key?: string | ((...args: A) => string) | undefined
  /**
   * Whether `f()` and `f(undefined)` have different keys.
   * @default they have for functions whose source may have rest parameters or `arguments`, or is hidden, and an invalidation
   * of one call ends both
   */
  readonly exactArity?: boolean | undefined
  /** Called at every call. While it returns `false` the function runs uncached. @default always */
  readonly enabled?: (() => boolean) | undefined
  /**
   * If no key can be made of the arguments: `'throw'` rejects, `'bypass'` runs the function uncached and reports it on
   * `corral:notice`. @default 'throw'
   */
  readonly onKeyError?: 'bypass' | 'throw' | undefined
  /** `'clone'` gives every caller a separate copy, which it may change. @default 'share' */
  readonly copy?: 'share' | 'clone' | undefined
  /**
   * The part of the key that tells instances apart, those of derived classes included, or `'shared'` if all instances share
   * their entries. A function in a class field takes it from its closure: `self: () => this.id`.
   */
  readonly self?: ((instance: This) => KeyPart) | 'shared' | undefined
  /** Names that a result depends on, by its arguments. Needs `dependencies()` in the region's chain. */
  readonly dependencies?: ((...args: A) => string | readonly string[]) | undefined
  /** Names that a result depends on, by the result: as safe as those known before. */
  readonly resultDependencies?: ((result: T, ...args: A) => string | readonly string[]) | undefined
  /**
   * Groups of the results: `{ user: ([id]) => id }`. `region.invalidateDependencies(dep.group('user', 5))` then reaches all
   * results of user 5, in every process. Needs `dependencies()` in the region's chain.
   */
  readonly group?: Readonly<Record<string, (args: A) => IdPart | readonly IdPart[]>> | undefined
}

/**
 * Options of a cached function of many ids. The parameters are an id and a value of the function.
 * @example
 * ```ts
 * import { type CacheMultiOptions, dep } from 'corral'
 *
 * const ofUsers: CacheMultiOptions<number> = { namespace: 'user', dependencies: (id) => dep.id('user', id) }
 * ```
 */
export interface CacheMultiOptions<Id = never, T = never> extends CommonOptions<T> {
  /**
   * How long a value is fresh. A function of the id, or `{ ofResult }`, is called once for each entry, when it is created.
   * A number is ms. @default the region's
   */
  readonly expirationTime?:
    | Duration
    | ((id: Id) => Duration | undefined)
    | ResultLifetime<T, [id: Id]>
    | undefined
  /** @default the region's */
  readonly functionMultiKeyGenerator?: FunctionMultiKeyGenerator | undefined
  /** The function returns a Map from id to value. Ids without a value are not stored, and absent from the result. @default false */
  readonly asMap?: boolean | undefined
  /** `'array'`: the function takes its ids as one array. @default it takes them as `(...ids)` */
  readonly ids?: 'array' | undefined
  /** Names that the value of an id depends on, by the id. Needs `dependencies()` in the region's chain. */
  readonly dependencies?: ((id: Id) => string | readonly string[]) | undefined
  /** Names that the value of an id depends on, by the value. */
  readonly resultDependencies?: ((value: T, id: Id) => string | readonly string[]) | undefined
  /** Groups of the values: `{ user: (id) => id }`. Needs `dependencies()` in the region's chain. */
  readonly group?: Readonly<Record<string, (id: Id) => IdPart | readonly IdPart[]>> | undefined
}

/**
 * Caches a function, or as a decorator replaces a method of a class by one that is cached for each instance. Standard
 * decorators and those of `experimentalDecorators` both work. `O` are the options, which have to fit the function.
 * @example
 * ```ts
 * import { type CacheOnArguments, type CacheOptions, makeRegion } from 'corral'
 *
 * const shared: CacheOptions = { namespace: 'greet', self: 'shared' }
 * const cached: CacheOnArguments<string> = makeRegion<string>().cacheOnArguments(shared)
 * class Greeter {
 *   @cached
 *   async greet(name: string): Promise<string> {
 *     return `hello ${name}`
 *   }
 * }
 * ```
 * @throws CorralError `ERR_OPTION` for anything but a function or method.
 */
export interface CacheOnArguments<V, O = CacheOptions> {
  // A decorator gets the first signature that fits with fewer arguments, too: that of functions comes last. Methods keep
  // their whole type, because their arguments and result alone would lose type parameters and overloads.
  <This, F extends (this: This, ...args: never[]) => Promise<V>>(
    method: F & Fits<O, MethodOptions<F, This>, CacheOptions>,
    context: MethodContext<This>,
  ): F
  <This, F extends (...args: never[]) => Promise<V>>(
    target: This,
    name: string | symbol,
    method: TypedPropertyDescriptor<F & Fits<O, MethodOptions<F, This>, CacheOptions>>,
  ): TypedPropertyDescriptor<F>
  <F extends (this: ThisOf<O>, ...args: never[]) => MaybePromise<V>>(
    fn: F & Fits<O, MethodOptions<F, ThisParameterType<F>>, CacheOptions>,
  ): CachedFunctionOf<F>
}

/**
 * Caches a function of many ids. `O` are the options, which have to fit the function.
 * @example
 * ```ts
 * import { makeRegion } from 'corral'
 *
 * const cached = makeRegion<number>().cacheMultiOnArguments({ namespace: 'square' })
 * const squares = cached(async (...ids: number[]) => ids.map((id) => id * id))
 * ```
 * @throws CorralError `ERR_OPTION` for anything but a function.
 */
export interface CacheMultiOnArguments<V, O = CacheMultiOptions> {
  <F extends MultiFunction<V>>(
    fn: F &
      Fits<O, CacheMultiOptions<IdOf<F>, ValueOf<F>>, CacheMultiOptions> &
      ModesFit<O, F> &
      ReturningMany<F, V>,
  ): CachedMultiFunctionOf<F>
}

/** A function of many ids, which returns values in the order of the ids, or a Map. It is no method: no `self` tells instances apart. */
export type MultiFunction<V> = (
  this: void,
  ...args: never[]
) => MaybePromise<readonly V[] | ReadonlyMap<unknown, V>>

type AnyOf = (...args: never[]) => unknown
type ResultOf<F extends AnyOf> = Awaited<ReturnType<F>>

/** A type parameter in the result fits each type of values, and what it stands for need not: so the result as a whole has to. */
export type Returning<F extends AnyOf, V> = ResultFits<ResultOf<F>, V>
export type ReturningMany<F extends AnyOf, V> = ResultFits<
  ResultOf<F>,
  readonly V[] | ReadonlyMap<unknown, V>
>
type ResultFits<R, V> = [R] extends [V]
  ? unknown
  : { readonly 'the function returns values that the region does not take': R }

/** The options that fit a function. */
export type OptionsOf<F extends AnyOf> = MethodOptions<F, ThisParameterType<F>> & SelfOf<F>
/** A function that declares `this` is a method: without `self`, all instances would share its entries unsaid. */
export type SelfOf<F extends AnyOf> =
  IsMethod<F> extends true ? { readonly self: NonNullable<unknown> } : unknown
type IsMethod<F extends AnyOf> = [void] extends [ThisParameterType<F>] ? false : true
/** Without `self` a function must not declare `this`. */
type ThisOf<O> = 'self' extends keyof O ? never : void
/** Without `access`, whose `any` makes a decorator prefer the signature of functions. */
type MethodContext<This> = Pick<
  ClassMethodDecoratorContext<This>,
  'kind' | 'name' | 'static' | 'addInitializer'
>
type MethodOptions<F extends AnyOf, This> = CacheOptions<ArgumentsOf<F>, ResultOf<F>, This>
/**
 * A generic or an overloaded function keeps its whole type for calls, because its arguments and result alone would lose type parameters and
 * overloads. Not one with members, which a cached function does not have, nor one that returns more than a promise.
 */
export type Typed<F extends AnyOf, Cached> = [keyof F] extends [never]
  ? ((...args: ArgumentsOf<F>) => ReturnType<F>) extends F
    ? Cached
    : Promise<ResultOf<F>> extends ReturnType<F>
      ? F & { readonly original: F; with(options: CallOptions<ResultOf<F>>): Typed<F, Cached> } & Cached
      : Cached
  : Cached
/** A function that declares `this` is a method: its members are those of `methodOf`. */
export type CachedFunctionOf<F extends AnyOf> =
  IsMethod<F> extends true
    ? (this: ThisParameterType<F>, ...args: ArgumentsOf<F>) => Promise<ResultOf<F>>
    : Typed<F, CachedFunction<ArgumentsOf<F>, ResultOf<F>>>

/** Whether it is a list of any length whose first elements are of the type of all others. */
type IsList<A> = A extends readonly unknown[]
  ? number extends A['length']
    ? A extends readonly (A[99] | undefined)[]
      ? true
      : false
    : false
  : false
type TakesIds<F extends AnyOf> = [IsList<ArgumentsOf<F>>] extends [true] ? true : false
type FirstOf<F extends AnyOf> = Exclude<ArgumentsOf<F>[0], undefined>
type IdOf<F extends AnyOf> =
  TakesIds<F> extends true ? ArgumentsOf<F>[number] : FirstOf<F> extends readonly (infer Id)[] ? Id : never
type ValueOf<F extends AnyOf> =
  ResultOf<F> extends readonly (infer T)[] ? T : ResultOf<F> extends ReadonlyMap<unknown, infer T> ? T : never
type IdArguments<F extends AnyOf> = TakesIds<F> extends true ? IdOf<F>[] : [ids: readonly IdOf<F>[]]
type IdMode<F extends AnyOf> =
  TakesIds<F> extends true
    ? { readonly ids?: undefined }
    : [true] extends [IsList<FirstOf<F>>]
      ? F extends (ids: never) => unknown
        ? { readonly ids: 'array' }
        : 'a function of one array of ids takes nothing else: close over its other arguments'
      : number extends ArgumentsOf<F>['length']
        ? 'a function of (...ids) takes nothing else: close over its other arguments'
        : "a function of many ids takes them as (...ids), or as one array with ids: 'array'"
type MapMode<F extends AnyOf> =
  ResultOf<F> extends ReadonlyMap<infer K, unknown>
    ? [K] extends [IdOf<F>]
      ? { readonly asMap: true }
      : [IdOf<F>] extends [K]
        ? { readonly asMap: true }
        : 'the keys of the Map that a function of many ids returns are its ids'
    : { readonly asMap?: false }
/** The options that fit a function of many ids. Its shape decides on `ids` and `asMap`, which have to say it. */
export type MultiOptionsOf<F extends AnyOf> = Omit<CacheMultiOptions<IdOf<F>, ValueOf<F>>, 'ids' | 'asMap'> &
  IdMode<F> &
  MapMode<F>
export type CachedMultiFunctionOf<F extends AnyOf> =
  ResultOf<F> extends ReadonlyMap<unknown, unknown>
    ? Typed<F, CachedMapFunction<IdOf<F>, ValueOf<F>, IdArguments<F>>>
    : Typed<F, CachedMultiFunction<IdOf<F>, ValueOf<F>, IdArguments<F>>>

/** Refuses the options that `E` does not have: a type parameter would take them. */
export type Known<O, E> = { readonly [K in Exclude<keyof O, keyof E>]: never }
/** `unknown` if each option fits; otherwise the sentence that the compiler shows. Options of the type `Loose` fit all. */
export type Fits<O, E, Loose> =
  Misfit<O, E, Loose, keyof O & keyof E & keyof Loose & string> extends infer S
    ? [S] extends [never]
      ? unknown
      : S
    : never
type Misfit<O, E, Loose, K extends keyof O & keyof E & keyof Loose & string> = {
  [P in K]: Loose[P] extends O[P]
    ? never
    : O[P] extends E[P]
      ? never
      : `the option \`${P}\` does not take the arguments, result or instance of this function: put the function first, and its types are inferred`
}[K]
type ModesFit<O, F extends AnyOf> =
  IdMode<F> extends string
    ? IdMode<F>
    : MapMode<F> extends string
      ? MapMode<F>
      : CacheMultiOptions extends O
        ? unknown
        : Modes<O> extends IdMode<F> & MapMode<F>
          ? unknown
          : "this function needs other options: ids: 'array' if it takes one array instead of (...ids), asMap: true if it returns a Map"
interface Modes<O> {
  readonly ids: O extends { readonly ids: infer M } ? M : undefined
  readonly asMap: O extends { readonly asMap: infer M } ? M : false
}

/**
 * Options of one call of a cached function, for `fn.with(options)`.
 * @example
 * ```ts
 * import type { CachedFunction, CallOptions } from 'corral'
 *
 * const patience: CallOptions<string> = { signal: AbortSignal.timeout(2_000), hardTimeout: '1s' }
 * export const load = (page: CachedFunction<[id: number], string>) => page.with(patience)(5)
 * ```
 */
export interface CallOptions<T> extends CreateOptions<T>, InvalidationReason {}

/**
 * The outcome of `fn.set`: that of the store, or `'withheld'` if `shouldCache`, `enabled` or a missing key
 * kept the value out.
 * @example
 * ```ts
 * import type { CachedFunction, SetOutcome } from 'corral'
 *
 * export async function preload(page: CachedFunction<[id: number], string>, id: number, html: string) {
 *   const outcome: SetOutcome = await page.set(html, id)
 *   if (outcome === 'lost') console.warn(`page ${id} was invalidated meanwhile`)
 * }
 * ```
 */
export type SetOutcome = Outcome | 'withheld'

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
  /** The function that was passed. For a method: bound to its instance. */
  readonly original: (...args: A) => MaybePromise<T>
  /** The same function and members, with options for this call: `fn.with({ signal })(...args)`. */
  with(options: CallOptions<T>): CachedFunction<A, T>
  /** The key of a call. @throws CorralError `ERR_KEY_ARGUMENT` for an argument that it cannot encode. */
  key(...args: A): string
  /** The cached value. Never calls the function. */
  get(...args: A): Promise<T | NoValue>
  /**
   * Stores a value as if the function had returned it. Returns what became of it.
   * @throws CorralError `ERR_AS_OF_MISSING` if the function declares dependencies: use `region.set` with `asOf`.
   */
  set(value: T, ...args: A): Promise<SetOutcome>
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
export interface CachedMultiFunction<Id, T, A extends readonly unknown[] = Id[]> {
  (...ids: A): Promise<T[]>
  /** The function that was passed. */
  readonly original: (...ids: A) => MaybePromise<readonly T[]>
  /** The same function and members, with options for this call: `fn.with({ signal })(...ids)`. */
  with(options: CallOptions<T>): CachedMultiFunction<Id, T, A>
  /** The keys of the ids. @throws CorralError `ERR_KEY_ARGUMENT` for an id that it cannot encode. */
  keys(...ids: A): readonly string[]
  /** The cached values in the order of the ids. Never calls the function. */
  get(...ids: A): Promise<(T | NoValue)[]>
  /**
   * Stores values as if the function had returned them. Returns an outcome for each, in the order of the map.
   * @throws CorralError `ERR_AS_OF_MISSING` if the function declares dependencies: use `region.setMulti` with `asOf`.
   */
  set(values: ReadonlyMap<Id, T>): Promise<readonly SetOutcome[]>
  /** Calls the function for all ids and stores its values, even if fresh values are stored. */
  refresh(...ids: A): Promise<T[]>
  readonly invalidate: Invalidate<A>
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
export interface CachedMapFunction<Id, T, A extends readonly unknown[] = Id[]>
  extends Omit<CachedMultiFunction<Id, T, A>, 'original' | 'refresh' | 'with'> {
  (...ids: A): Promise<Map<Id, T>>
  readonly original: (...ids: A) => MaybePromise<ReadonlyMap<Id, T>>
  with(options: CallOptions<T>): CachedMapFunction<Id, T, A>
  refresh(...ids: A): Promise<Map<Id, T>>
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
  /** Of the region. */
  readonly name: string | undefined
  /** Stands for the region, in which namespaces must differ. */
  readonly home: object
  get(key: string, options: CreateOptions<V>): Promise<V | NoValue>
  getMulti(keys: readonly string[], options: CreateOptions<V>): Promise<(V | NoValue)[]>
  /**
   * `getOrCreate` with a creator that is made at the call, and not at all for a hit that the store returns at once. The
   * arguments are passed apart from `creatorOf`, because a hit must not pay for a closure.
   */
  getOrCreateWith<T extends V>(
    key: string,
    args: Arguments,
    creatorOf: CreatorOfCall<T>,
    options: CreateOptions<T>,
  ): Promise<T>
  getOrCreateMulti: CreateMulti<V>
  setMulti(
    values: Iterable<readonly [key: string, value: V]>,
    options: Lifetime & Pick<ServingOptions, 'grace' | 'jitter'>,
  ): Promise<readonly Outcome[]>
  deleteMulti(keys: readonly string[], reason?: InvalidationReason): Promise<void>
  expire(
    key: string,
    reason?: InvalidationReason,
    options?: Pick<ServingOptions, 'grace'> & Lifetime,
  ): Promise<void>
  /**
   * Checks options of a function as soon as those of its region are known.
   * @throws CorralError `ERR_OPTION` if they contradict each other.
   */
  checkServing(options: ServingOptions): void
  asOf(): Promise<LedgerTime>
  /** Creates and stores values even if fresh values are stored. */
  refreshMulti: CreateMulti<V>
  /** Renews a softly invalidated value. `false`: the new value could not be stored, and the older one stays. */
  renew<T extends V>(key: string, creator: MultiCreator<T>, options: CreateOptions<T>): Promise<boolean>
  /** Records the dependencies of a key and its renewal, for `refreshDependencies`. */
  recordCall(key: string, names: readonly string[], renew: () => Promise<boolean>): void
}

/** Makes the creator of a call. @param options - those of the call. @default the function's own */
export type CreatorOfCall<V> = (
  keys: readonly string[],
  args: Arguments,
  options?: CreateOptions<V>,
) => MultiCreator<V>

type CreateMulti<V> = <T extends V>(
  keys: readonly string[],
  creator: MultiCreator<T>,
  options: CreateOptions<T>,
) => Promise<(T | NoValue)[]>

export type Lifetime = Pick<CreateOptions<never>, 'expirationTime'>
