import { NO_VALUE, type NoValue } from '../backend/cached-value.js'
import { type Duration, milliseconds } from '../base/duration.js'
import { CorralError } from '../base/errors.js'
import { andThen, type MaybePromise, mapEach } from '../base/maybe-promise.js'
import { expectFunction, expectThat, rejectUnknownOptions } from '../base/options.js'
import type { CreateOptions, MultiCreator } from '../creation/types.js'
import { resolveVersions } from '../ledger/checked-names.js'
import { type Declared, declared } from './declarations.js'
import { checkNamespace } from './keys.js'
import type { CacheMultiOptions, CacheOptions, FunctionStore } from './types.js'

export type AnyFunction = (...args: never[]) => unknown
export type Arguments = readonly unknown[]

/** The difference between functions of one value and of many ids. `each` has the arguments that belong to each key. */
export interface CallForm<V> {
  readonly keysOf: (each: readonly Arguments[]) => readonly string[]
  readonly run: (each: readonly Arguments[]) => MaybePromise<readonly (V | NoValue)[]>
}

type CommonOptions = Pick<CacheOptions, 'expirationTime' | 'wait' | 'shouldCache'>

/** Creations, refreshes and writes of a cached function, told for many keys: a function of one value has a single one. */
export interface CachedCalls<V> {
  creatorOf(keys: readonly string[], each: readonly Arguments[]): MultiCreator<V>
  optionsFor(args: Arguments): CreateOptions<V>
  refresh(keys: readonly string[], each: readonly Arguments[]): Promise<(V | NoValue)[]>
  put(keys: readonly string[], values: readonly V[], args: Arguments): Promise<void>
}

export function cachedCalls<V>(
  store: FunctionStore<V>,
  options: CommonOptions,
  names: Declared | undefined,
  { keysOf, run }: CallForm<V>,
  self?: object,
): CachedCalls<V> {
  const optionsFor = createOptions<V>(options)
  const creatorOf = (keys: readonly string[], each: readonly Arguments[]): MultiCreator<V> => {
    const argsOf = new Map(keys.map((key, i) => [key, each[i]]))
    return (missing, creation) => {
      const wanted = missing.map((key) => argsOf.get(key) as Arguments)
      if (names === undefined) return run(wanted)
      const ahead = mapEach(wanted, (args) => resolveVersions(names.fromArguments(args)))
      return andThen(ahead, (lists) => {
        wanted.forEach((args, i) => {
          const [key, list] = [missing[i] as string, lists[i] as readonly string[]]
          creation.dependsOn(key, list)
          store.recordCall(key, list, self === undefined ? () => repeat(args) : whileReachable(weakly, args))
        })
        return andThen(run(wanted), (values) => {
          wanted.forEach((args, i) => {
            if (values[i] !== NO_VALUE)
              creation.dependsOn(missing[i] as string, names.fromResult(values[i], args))
          })
          return values
        })
      })
    }
  }
  const repeat: Repeat = (args) =>
    attempt(() => {
      const keys = keysOf([args])
      return store.renew(keys[0] as string, creatorOf(keys, [args]), optionsFor(args))
    })
  const weakly = new WeakRef(repeat)

  return {
    creatorOf,
    optionsFor,
    refresh: (keys, each) => store.refreshMulti(keys, creatorOf(keys, each), optionsFor(each[0] ?? [])),
    async put(keys, values, args) {
      const { expirationTime, shouldCache } = optionsFor(args)
      const kept: [key: string, value: V][] = []
      const withheld: string[] = []
      keys.forEach((key, i) => {
        const value = values[i] as V
        if (shouldCache?.(value, key) ?? true) kept.push([key, value])
        else withheld.push(key)
      })
      if (names !== undefined && kept.length > 0) throw asOfMissing()
      await store.setMulti(kept, { expirationTime })
      if (withheld.length > 0) await store.deleteMulti(withheld)
    },
  }
}

function createOptions<V>(options: CommonOptions): (args: Arguments) => CreateOptions<V> {
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

type Repeat = (args: Arguments) => Promise<boolean>

/** Stands outside, where the instance is not in sight: the recorded closure would keep the instance alive. */
function whileReachable(repeat: WeakRef<Repeat>, args: Arguments): () => Promise<boolean> {
  return () => repeat.deref()?.(args) ?? Promise.resolve(true)
}

function asOfMissing(): CorralError {
  return new CorralError(
    'ERR_AS_OF_MISSING',
    'A value with dependencies needs to know as of when it was loaded: take `const asOf = await region.asOf()` before loading, and pass { dependencies, asOf } to region.set(fn.key(…), value, …), with fn.keys(…) for functions of many ids. Or use refresh().',
  )
}

/** Arguments without a key, and every other synchronous failure, reject like all failures of a call. */
export function attempt<R>(work: () => MaybePromise<R>): Promise<R> {
  try {
    return Promise.resolve(work())
  } catch (error) {
    return Promise.reject(error)
  }
}

/** Gives a wrapper its members, and the name and length of the function that it wraps. */
export function dress(wrapper: object, fn: AnyFunction, members: object): unknown {
  for (const property of ['name', 'length'] as const)
    Object.defineProperty(wrapper, property, { value: fn[property], configurable: true })
  return Object.assign(wrapper, members)
}

/** Checks the options that functions of one value and of many ids share. Returns the names that they declare. */
export function checkCommonOptions(
  where: string,
  options: CacheOptions | CacheMultiOptions,
  own: readonly string[],
  grouped?: (args: Arguments) => unknown,
): Declared | undefined {
  expectThat(
    typeof options !== 'function',
    options,
    'options before the function',
    `Call ${where.slice(0, -1)}{ namespace })(fn).`,
  )
  rejectUnknownOptions(
    options,
    [
      'namespace',
      'expirationTime',
      'shouldCache',
      'wait',
      'dependencies',
      'resultDependencies',
      'group',
      ...own,
    ],
    where,
  )
  for (const name of ['shouldCache', 'functionKeyGenerator', 'functionMultiKeyGenerator', 'enabled']) {
    const value = (options as Readonly<Record<string, unknown>>)[name]
    if (value !== undefined) expectFunction(value, `\`${name}\` of ${where}`)
  }
  if (options.wait !== undefined) milliseconds(options.wait, 'wait')
  return declared(options, grouped)
}

export function namespaceFor(namespace: unknown, needed: boolean): string {
  return namespace === undefined && !needed ? '' : checkNamespace(namespace)
}
