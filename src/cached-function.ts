import type {
  CachedFunction,
  CachedMultiFunction,
  CacheMultiOptions,
  CacheOptions,
} from './cached-function-types.js'
import { NO_VALUE, type NoValue } from './cached-value.js'
import { declared } from './declared.js'
import { dependsOn } from './dependencies/depends-on.js'
import { resolveVersions } from './dependencies/versions.js'
import { type Duration, milliseconds } from './duration.js'
import { CorralError, refuseUnknown, shown } from './errors.js'
import {
  checkNamespace,
  type FunctionKeyGenerator,
  type FunctionMultiKeyGenerator,
  functionKeyGenerator,
  functionMultiKeyGenerator,
  type KeyPart,
} from './keys.js'
import { andThen, each, type MaybePromise } from './maybe-promise.js'
import type {
  CacheMapOnArguments,
  CacheMultiOnArguments,
  CacheOnArguments,
  CreateOptions,
  Creator,
  MultiCreator,
  Region,
} from './region-types.js'

/** What a cached function needs of its region. */
export interface RegionAccess<V> {
  readonly region: Region<V>
  refresh<T extends V>(key: string, creator: Creator<T>, options?: CreateOptions<T>): Promise<T>
  refreshMulti<T extends V>(
    keys: readonly string[],
    creator: MultiCreator<T>,
    options?: CreateOptions<T>,
  ): Promise<(T | NoValue)[]>
  /** Creates a softly invalidated value anew; `false`: what was made could not be stored, and the older value stays. */
  renew<T extends V>(key: string, creator: MultiCreator<T>, options: CreateOptions<T>): Promise<boolean>
  /** Notes what a key is made from and how it is made anew, for `refreshDependencies`. */
  remember(key: string, names: readonly string[], renew: () => Promise<boolean>): void
}

type AnyFunction = (...args: never[]) => unknown

const COMMON = ['namespace', 'expirationTime', 'shouldCache', 'wait'] as const
const DECLARATIONS = ['dependencies', 'resultDependencies', 'group'] as const

/** Builds `region.cacheOnArguments(options)`. */
export function makeCacheOnArguments<V>(
  access: RegionAccess<V>,
  options: CacheOptions,
  regional: FunctionKeyGenerator,
): CacheOnArguments<V> {
  checkOptions(
    'cacheOnArguments()',
    options,
    [...COMMON, ...DECLARATIONS, 'functionKeyGenerator', 'self'],
    'function',
  )
  const { functionKeyGenerator: own, self } = options
  mustBeOption('functionKeyGenerator', own, 'a function', own === undefined || typeof own === 'function')
  mustBeOption(
    'self',
    self,
    "a function of the instance, or 'shared'",
    self === undefined || self === 'shared' || typeof self === 'function',
  )
  const generator = own ?? regional
  const namespace = namespaceFor(options.namespace, generator === functionKeyGenerator)

  const decorate = (fn: unknown, context?: ClassMethodDecoratorContext): unknown => {
    mustBeFunction('cacheOnArguments()', fn)
    if (context === undefined) return cached(access, options, fn, generator(namespace, fn))
    if (context.kind !== 'method')
      throw new CorralError(
        'ERR_OPTION',
        `Expected cacheOnArguments() to decorate a method, got a ${context.kind as string}.`,
      )
    return cachedMethod(access, options, fn, (space = namespace) => generator(space, fn), namespace, context)
  }
  return decorate as CacheOnArguments<V>
}

/** Builds `region.cacheMultiOnArguments(options)`. */
export function makeCacheMultiOnArguments<V>(
  access: RegionAccess<V>,
  options: CacheMultiOptions,
  regional: FunctionMultiKeyGenerator,
): CacheMultiOnArguments<V> & CacheMapOnArguments<V> {
  checkOptions(
    'cacheMultiOnArguments()',
    options,
    [...COMMON, ...DECLARATIONS, 'functionMultiKeyGenerator', 'asMap'],
    'duration',
  )
  const { functionMultiKeyGenerator: own, asMap } = options
  mustBeOption('functionMultiKeyGenerator', own, 'a function', own === undefined || typeof own === 'function')
  mustBeOption('asMap', asMap, 'true or false', asMap === undefined || typeof asMap === 'boolean')
  const generator = own ?? regional
  const namespace = namespaceFor(options.namespace, generator === functionMultiKeyGenerator)
  const decorate = (fn: unknown): unknown => {
    mustBeFunction('cacheMultiOnArguments()', fn)
    return cachedMulti(access, options, fn, generator(namespace, fn))
  }
  return decorate as CacheMultiOnArguments<V> & CacheMapOnArguments<V>
}

function cached<V>(
  { region, refresh, renew, remember }: RegionAccess<V>,
  options: CacheOptions,
  fn: AnyFunction,
  keyOf: (...args: readonly unknown[]) => string,
  self?: unknown,
): CachedFunction<readonly unknown[], V> {
  const run = (args: readonly unknown[]) => Reflect.apply(fn, self, args) as MaybePromise<V>
  const names = declared(options)
  const make = (args: readonly unknown[], key: string): MaybePromise<V> =>
    names === undefined
      ? run(args)
      : andThen(resolveVersions(names.ahead(args)), (ahead) => {
          dependsOn(ahead)
          remember(key, ahead, self === undefined ? () => again(args) : whileReachable(weakly, args))
          return andThen(run(args), (result) => {
            dependsOn(names.after(result, args))
            return result
          })
        })
  const create = (args: readonly unknown[]): CreateOptions<V> => ({
    expirationTime: lifetime(options, args),
    ...(options.shouldCache !== undefined && {
      shouldCache: options.shouldCache as (value: V, key: string) => boolean,
    }),
    ...(options.wait !== undefined && { wait: options.wait }),
  })
  // Built once where nothing depends on the arguments: a hit must not pay for it.
  const constant = typeof options.expirationTime === 'function' ? undefined : create([])
  const call = (...args: unknown[]) =>
    attempt(() => region.getOrCreate(keyOf(...args), ({ key }) => make(args, key), constant ?? create(args)))
  const again = (args: readonly unknown[]) =>
    attempt(() =>
      renew(
        keyOf(...args),
        ([key]) => andThen(make(args, key as string), (value) => [value]),
        constant ?? create(args),
      ),
    )
  const weakly = new WeakRef(again)
  const invalidate = (...args: readonly unknown[]) => attempt(() => region.delete(keyOf(...args)))
  return dress(call, fn, {
    original: (...args: readonly unknown[]) => run(args),
    key: (...args: readonly unknown[]) => keyOf(...args),
    get: (...args: readonly unknown[]) =>
      attempt(() => region.get(keyOf(...args), { expirationTime: lifetime(options, args) })),
    set: (value: V, ...args: readonly unknown[]) =>
      attempt(async () => {
        const key = keyOf(...args)
        const keep =
          (options.shouldCache as ((value: V, key: string) => boolean) | undefined)?.(value, key) ?? true
        const expirationTime = lifetime(options, args)
        if (!keep) await region.delete(key)
        else if (names === undefined) await region.set(key, value, { expirationTime })
        else throw loadedWhen()
      }),
    refresh: (...args: readonly unknown[]) =>
      attempt(() => refresh(keyOf(...args), ({ key }) => make(args, key), constant ?? create(args))),
    invalidate: Object.assign(invalidate, {
      soft: (...args: readonly unknown[]) => attempt(() => region.invalidateKey(keyOf(...args), 'soft')),
    }),
  }) as CachedFunction<readonly unknown[], V>
}

/** The members of a cached method need its instance: `cachedMethod.call`-like access goes through `methodOf`. */
export const methods = new WeakMap<object, (self: object) => unknown>()

function cachedMethod<V>(
  access: RegionAccess<V>,
  options: CacheOptions,
  fn: AnyFunction,
  keysIn: (namespace?: string) => (...args: readonly unknown[]) => string,
  namespace: string,
  context: ClassMethodDecoratorContext,
): unknown {
  const { self } = options
  if (self === undefined && !context.static)
    throw new CorralError(
      'ERR_OPTION',
      `Expected \`self\` for the method '${String(context.name)}': all instances would share its entries. Give self: (instance) => instance.id, or self: 'shared'.`,
    )
  const part = typeof self === 'function' ? (self as (instance: unknown) => KeyPart) : undefined
  const shared = keysIn()
  const bound = new WeakMap<object, CachedFunction<readonly unknown[], V>>()
  const bind = (instance: object): CachedFunction<readonly unknown[], V> => {
    let found = bound.get(instance)
    if (found === undefined) {
      // The instance is a matter of the namespace: a generator may expect nothing but the method's own arguments.
      const key =
        part === undefined
          ? shared
          : (...args: readonly unknown[]) =>
              keysIn(functionKeyGenerator(namespace || 'self', fn)(part(instance)))(...args)
      bound.set(instance, (found = cached(access, options, fn, key, instance)))
    }
    return found
  }
  const method = function (this: object | undefined, ...args: readonly unknown[]) {
    if (typeof this !== 'object' && typeof this !== 'function')
      return Promise.reject(
        new CorralError(
          'ERR_OPTION',
          `The cached method '${String(context.name)}' was called without its instance. Call it as instance.${String(context.name)}(…).`,
        ),
      )
    return bind(this)(...args)
  }
  methods.set(method, bind as (self: object) => unknown)
  return dress(method, fn, {})
}

/**
 * The cached function behind a decorated method, bound to its instance, with `.get .set .invalidate .refresh` and so on.
 * @throws CorralError `ERR_OPTION` when the method is not a cached one.
 */
export function methodOf<I extends object, N extends keyof I>(
  instance: I,
  name: N,
): I[N] extends (...args: infer A) => Promise<infer T> ? CachedFunction<A, T> : never {
  const bind = methods.get(instance[name] as object)
  if (bind === undefined)
    throw new CorralError(
      'ERR_OPTION',
      `Expected '${String(name)}' to be a method decorated with cacheOnArguments().`,
    )
  return bind(instance) as never
}

function cachedMulti<V>(
  { region, refreshMulti, renew, remember }: RegionAccess<V>,
  options: CacheMultiOptions,
  fn: AnyFunction,
  keysOf: (...ids: readonly unknown[]) => readonly string[],
): CachedMultiFunction<unknown, V> {
  const { asMap = false, wait, shouldCache, expirationTime } = options
  const create: CreateOptions<V> = {
    expirationTime,
    ...(shouldCache !== undefined && { shouldCache: shouldCache as (value: V, key: string) => boolean }),
    ...(wait !== undefined && { wait }),
  }
  const keysFor = (ids: readonly unknown[]): readonly string[] => {
    const keys = keysOf(...ids)
    if (keys.length === ids.length) return keys
    throw new CorralError(
      'ERR_KEY',
      `Expected the functionMultiKeyGenerator to make ${ids.length} keys for ${ids.length} ids, got ${keys.length}.`,
    )
  }
  /** Calls the function for some ids; an id without a value answers NO_VALUE. */
  const values = (ids: readonly unknown[]): MaybePromise<readonly (V | NoValue)[]> =>
    andThen(Reflect.apply(fn, undefined, ids) as MaybePromise<unknown>, (result) => {
      if (!asMap) return result as readonly V[]
      if (result instanceof Map) return ids.map((id) => (result.has(id) ? (result.get(id) as V) : NO_VALUE))
      throw new CorralError(
        'ERR_CREATOR',
        `Expected the function to return a Map from id to value, as asMap says, got ${shown(result)}.`,
      )
    })
  const names = declared(options, ([id]) => id)
  const creatorFor = (keys: readonly string[], ids: readonly unknown[]): MultiCreator<V> => {
    const idOf = new Map(keys.map((key, i) => [key, ids[i]]))
    return (missing, creation) => {
      const wanted = missing.map((key) => idOf.get(key))
      if (names === undefined) return values(wanted)
      return andThen(
        each(wanted, (id) => resolveVersions(names.ahead([id]))),
        (lists) => {
          for (const [i, key] of missing.entries()) {
            const ahead = lists[i] as readonly string[]
            creation.dependsOn(key, ahead)
            remember(key, ahead, () => again(key, [wanted[i]]))
          }
          return andThen(values(wanted), (made) => {
            for (const [i, key] of missing.entries())
              if (made[i] !== NO_VALUE) creation.dependsOn(key, names.after(made[i], [wanted[i]]))
            return made
          })
        },
      )
    }
  }
  const again = (key: string, ids: readonly unknown[]) =>
    attempt(() => renew(key, creatorFor([key], ids), create))
  const answer = (ids: readonly unknown[], results: readonly (V | NoValue)[]): unknown =>
    asMap
      ? new Map(ids.flatMap((id, i) => (results[i] === NO_VALUE ? [] : [[id, results[i]] as const])))
      : results
  const call = (...ids: unknown[]) =>
    attempt(async () => {
      const keys = keysFor(ids)
      const results = await region.getOrCreateMulti(keys, creatorFor(keys, ids), create)
      return answer(ids, results)
    })
  const invalidate = (...ids: readonly unknown[]) => attempt(() => region.deleteMulti(keysFor(ids)))
  return dress(call, fn, {
    original: (...ids: readonly unknown[]) => Reflect.apply(fn, undefined, ids) as unknown,
    keys: (...ids: readonly unknown[]) => keysFor(ids),
    get: (...ids: readonly unknown[]) => attempt(() => region.getMulti(keysFor(ids), { expirationTime })),
    set: (entries: ReadonlyMap<unknown, V>) =>
      attempt(async () => {
        const ids = [...entries.keys()]
        const keys = keysFor(ids)
        const pairs = ids.map((id, i) => [keys[i] as string, entries.get(id) as V] as const)
        const keep = (key: string, value: V) =>
          (shouldCache as ((value: V, key: string) => boolean) | undefined)?.(value, key) ?? true
        if (names !== undefined && pairs.some(([key, value]) => keep(key, value))) throw loadedWhen()
        await region.setMulti(
          pairs.filter(([key, value]) => keep(key, value)),
          { expirationTime },
        )
        await region.deleteMulti(pairs.filter(([key, value]) => !keep(key, value)).map(([key]) => key))
      }),
    refresh: (...ids: readonly unknown[]) =>
      attempt(async () => {
        const keys = keysFor(ids)
        return answer(ids, await refreshMulti(keys, creatorFor(keys, ids), create))
      }),
    invalidate: Object.assign(invalidate, {
      soft: (...ids: readonly unknown[]) =>
        attempt(async () => {
          await Promise.all(keysFor(ids).map((key) => region.invalidateKey(key, 'soft')))
        }),
    }),
  }) as unknown as CachedMultiFunction<unknown, V>
}

function loadedWhen(): CorralError {
  return new CorralError(
    'ERR_AS_OF_MISSING',
    'The results of this function have dependencies, so that a value set by hand needs to know as of when it was loaded: take `const asOf = await region.asOf()` before loading, then region.set(fn.key(…), value, { dependencies, asOf }), with fn.keys(…) for functions of many ids. Or use refresh().',
  )
}

function lifetime({ expirationTime }: CacheOptions, args: readonly unknown[]): Duration | undefined {
  return typeof expirationTime === 'function'
    ? (expirationTime as (...args: readonly unknown[]) => Duration | undefined)(...args)
    : expirationTime
}

type Again = (args: readonly unknown[]) => Promise<boolean>

/** Must not be made where the instance is in sight: what is remembered would keep it alive. */
function whileReachable(again: WeakRef<Again>, args: readonly unknown[]): () => Promise<boolean> {
  return () => again.deref()?.(args) ?? Promise.resolve(true)
}

/** Unencodable arguments reject like everything else that goes wrong in a call. */
function attempt<R>(work: () => Promise<R>): Promise<R> {
  try {
    return work()
  } catch (error) {
    return Promise.reject(error)
  }
}

/** Gives a wrapper its members, and the name and length of what it wraps. */
function dress(wrapper: (...args: never[]) => unknown, fn: AnyFunction, members: object): unknown {
  for (const property of ['name', 'length'] as const)
    Object.defineProperty(wrapper, property, { value: fn[property], configurable: true })
  return Object.assign(wrapper, members)
}

function namespaceFor(namespace: unknown, needed: boolean): string {
  return namespace === undefined && !needed ? '' : checkNamespace(namespace)
}

function mustBeFunction(where: string, fn: unknown): asserts fn is AnyFunction {
  if (typeof fn !== 'function')
    throw new CorralError('ERR_OPTION', `Expected ${where} to wrap a function, got ${shown(fn)}.`)
}

function checkOptions(
  where: string,
  options: CacheOptions | CacheMultiOptions,
  known: readonly string[],
  time: 'function' | 'duration',
): void {
  if (typeof options === 'function')
    throw new CorralError(
      'ERR_OPTION',
      `Expected options before the function: ${where.slice(0, -1)}{ namespace })(fn).`,
    )
  refuseUnknown(options, known, where)
  const { expirationTime, shouldCache, wait } = options
  if (expirationTime !== undefined && !(time === 'function' && typeof expirationTime === 'function'))
    milliseconds(expirationTime, 'expirationTime')
  if (wait !== undefined) milliseconds(wait, 'wait')
  mustBeOption(
    'shouldCache',
    shouldCache,
    'a function of value and key',
    shouldCache === undefined || typeof shouldCache === 'function',
  )
}

function mustBeOption(option: string, value: unknown, expected: string, fits: boolean): void {
  if (!fits)
    throw new CorralError('ERR_OPTION', `Expected \`${option}\` to be ${expected}, got ${shown(value)}.`)
}
