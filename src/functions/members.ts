import { NO_VALUE, type NoValue } from '../backend/cached-value.js'
import type { AnyFunction, Arguments } from '../base/any-function.js'
import { report } from '../base/diagnostics.js'
import type { Duration } from '../base/duration.js'
import { CorralError, formatValue } from '../base/errors.js'
import { expectSync } from '../base/expect-sync.js'
import { attempt, type MaybePromise, mapEach } from '../base/maybe-promise.js'
import type { CreateOptions, Creation, MultiCreator } from '../creation/types.js'
import { resolveVersions } from '../ledger/checked-names.js'
import { type Declared, runUncached } from './declarations.js'
import type { CacheOptions, FunctionStore, Lifetime } from './types.js'

type Values<V> = readonly (V | NoValue)[]

/** The parts in which functions of one value and of many ids differ. */
export interface CallForm<V> {
  keysOf(...args: Arguments): readonly string[]
  /** The arguments of a call for each key alone. */
  argsPerKey(args: Arguments): readonly Arguments[]
  /** Calls the function for some of the keys. */
  run(original: (...args: Arguments) => unknown, each: readonly Arguments[]): MaybePromise<Values<V>>
  create(
    keys: readonly string[],
    creator: MultiCreator<V>,
    options: CreateOptions<V>,
    args: Arguments,
  ): Promise<unknown>
  read(keys: readonly string[], options: Lifetime): Promise<unknown>
  resultOf(args: Arguments, values: Values<V>): unknown
  /** Splits the arguments of `set` into those of the call and the values of its keys. */
  splitSet(given: Arguments): readonly [args: Arguments, values: readonly V[]]
  readonly members: object
}

/** Wraps a function whose results are kept in a region, and gives it its members. */
export function withMembers<V>(
  store: FunctionStore<V>,
  options: CacheOptions,
  names: Declared | undefined,
  fn: AnyFunction,
  form: CallForm<V>,
  self?: object,
): (...args: Arguments) => Promise<unknown> {
  const { namespace, copy = 'share' } = options
  const original = (...args: Arguments) => Reflect.apply(fn, self, args) as unknown
  const uncached = (args: Arguments) => runUncached(store, names, namespace, original, args)
  const optionsFor = createOptions<V>(options)
  const creatorOf = trackedCreator(store, names, form, original, optionsFor, self)
  const withKeys = keyedWork(options, form)
  const copyOf = <T>(value: T): T => (copy === 'share' || value === NO_VALUE ? value : clone(value))
  const own = <T>(result: Promise<T>): Promise<T> => (copy === 'share' ? result : result.then(copyOf))
  const nothing = () => undefined

  const call = withKeys<unknown>(
    (keys, args) => own(form.create(keys, creatorOf(keys, args), optionsFor(args), args)),
    uncached,
  )
  return dress(call, fn, {
    original,
    ...form.members,
    get: withKeys<unknown>(
      (keys, args) => own(form.read(keys, { expirationTime: optionsFor(args).expirationTime })),
      () => NO_VALUE,
    ),
    set: (...given: Arguments) =>
      attempt(() => {
        const [args, values] = form.splitSet(given)
        const put = (keys: readonly string[]) =>
          putValues(store, names, keys, values.map(copyOf), optionsFor(args))
        return withKeys(put, nothing)(...args)
      }),
    refresh: withKeys<unknown>((keys, args) => {
      const refreshed = store.refreshMulti(keys, creatorOf(keys, args), optionsFor(args))
      return own(refreshed.then((values) => form.resultOf(args, values)))
    }, uncached),
    // Also while the function is switched off: its stored values must not come back with the switch.
    invalidate: Object.assign(
      withKeys((keys) => store.deleteMulti(keys), nothing, true),
      {
        soft: withKeys(
          (keys) => Promise.all(keys.map((key) => store.expire(key))).then(nothing),
          nothing,
          true,
        ),
      },
    ),
  })
}

function createOptions<V>(options: CacheOptions): (args: Arguments) => CreateOptions<V> {
  const { expirationTime, wait } = options
  const shouldCache = options.shouldCache as CreateOptions<V>['shouldCache']
  if (typeof expirationTime === 'function') {
    const lifetimeOf = expirationTime as (...args: Arguments) => Duration | undefined
    return (args) => ({ expirationTime: lifetimeOf(...args), shouldCache, wait })
  }
  // Built once, because a hit must not pay for it.
  const constant = { expirationTime, shouldCache, wait }
  return () => constant
}

/** The creator of a call: it declares the dependencies of each key, and records how to repeat the call for that key. */
function trackedCreator<V>(
  store: FunctionStore<V>,
  names: Declared | undefined,
  form: CallForm<V>,
  original: (...args: Arguments) => unknown,
  optionsFor: (args: Arguments) => CreateOptions<V>,
  self: object | undefined,
): (keys: readonly string[], args: Arguments) => MultiCreator<V> {
  const creatorOf =
    (keys: readonly string[], args: Arguments): MultiCreator<V> =>
    (missing, creation) => {
      const each = form.argsPerKey(args)
      const argsOf = new Map(keys.map((key, i) => [key, each[i]]))
      const wanted = missing.map((key) => argsOf.get(key) as Arguments)
      return names === undefined ? form.run(original, wanted) : declaring(names, wanted, creation)
    }
  const declaring = async (names: Declared, wanted: readonly Arguments[], creation: Creation) => {
    const { keys } = creation
    const lists = await mapEach(wanted, (args) => resolveVersions(names.fromArguments(args)))
    wanted.forEach((args, i) => {
      const [key, list] = [keys[i] as string, lists[i] as readonly string[]]
      creation.dependsOn(key, list)
      store.recordCall(key, list, self === undefined ? () => repeat(args) : whileReachable(weakly, args))
    })
    const values = await form.run(original, wanted)
    wanted.forEach((args, i) => {
      if (values[i] !== NO_VALUE) creation.dependsOn(keys[i] as string, names.fromResult(values[i], args))
    })
    return values
  }
  const repeat: Repeat = (args) =>
    attempt(() => {
      const keys = form.keysOf(...args)
      return store.renew(keys[0] as string, creatorOf(keys, args), optionsFor(args))
    })
  const weakly = new WeakRef(repeat)
  return creatorOf
}

type Repeat = (args: Arguments) => Promise<boolean>

/** Stands outside, where the instance is not in sight: the recorded closure would keep the instance alive. */
function whileReachable(repeat: WeakRef<Repeat>, args: Arguments): () => Promise<boolean> {
  return () => repeat.deref()?.(args) ?? Promise.resolve(true)
}

/** Does work with the keys of a call, or `otherwise` where the call has no keys or the function is switched off. */
function keyedWork<V>(options: CacheOptions, { keysOf }: CallForm<V>) {
  const { namespace, enabled, onKeyError = 'throw' } = options
  const usableKeys = (args: Arguments, whileOff: boolean): readonly string[] | undefined => {
    if (!whileOff && enabled !== undefined && !expectSync('`enabled` of cacheOnArguments()', enabled()))
      return undefined
    try {
      return keysOf(...args)
    } catch (error) {
      if (onKeyError === 'throw' || !CorralError.is(error, 'ERR_KEY_ARGUMENT')) throw error
      const message = `Not cached. ${error.message}`
      report('notice', () => ({ where: `cacheOnArguments: ${namespace}`, message }))
      return undefined
    }
  }
  return <R>(
    work: (keys: readonly string[], args: Arguments) => MaybePromise<R>,
    otherwise: (args: Arguments) => MaybePromise<R>,
    whileOff = false,
  ) =>
    (...args: Arguments): Promise<R> =>
      attempt(() => {
        const keys = usableKeys(args, whileOff)
        return keys === undefined ? otherwise(args) : work(keys, args)
      })
}

function clone<T>(value: T): T {
  try {
    return structuredClone(value)
  } catch (cause) {
    throw new CorralError(
      'ERR_UNENCODABLE',
      `Expected a result that can be cloned, as copy: 'clone' says: ${cause instanceof Error ? cause.message : formatValue(cause)}`,
      { cause },
    )
  }
}

async function putValues<V>(
  store: FunctionStore<V>,
  names: Declared | undefined,
  keys: readonly string[],
  values: readonly V[],
  { expirationTime, shouldCache }: CreateOptions<V>,
): Promise<void> {
  const stores = keys.map((key, i) => shouldCache?.(values[i] as V, key) ?? true)
  const kept = keys.flatMap((key, i) => (stores[i] ? [[key, values[i] as V] as const] : []))
  const withheld = keys.filter((_, i) => !stores[i])
  if (names !== undefined && kept.length > 0)
    throw new CorralError(
      'ERR_AS_OF_MISSING',
      'A value with dependencies needs to know as of when it was loaded: take `const asOf = await region.asOf()` before loading, and pass { dependencies, asOf } to region.set(fn.key(…), value, …), with fn.keys(…) for functions of many ids. Or use refresh().',
    )
  await store.setMulti(kept, { expirationTime })
  if (withheld.length > 0) await store.deleteMulti(withheld)
}

/** Gives a wrapper its members, and the name and length of the function that it wraps. */
export function dress<F extends object, M extends object>(wrapper: F, fn: AnyFunction, members: M): F & M {
  for (const property of ['name', 'length'] as const)
    Object.defineProperty(wrapper, property, { value: fn[property], configurable: true })
  return Object.assign(wrapper, members)
}
