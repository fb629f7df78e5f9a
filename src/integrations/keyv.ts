/**
 * A region as the store of a Keyv, and so of the programs that take one: cache-manager and Nest's CacheModule (Keyv 5),
 * got, Apollo.
 *
 * A host of Keyv reads, computes and then writes, so one creator at a time and the fence of `getOrCreate` are out of its
 * reach. It gains the stores, encodings and proxies of the region, values that are never stale, and a `clear()` that is one
 * write, whatever the number of keys, and reaches all processes.
 */
import { NO_VALUE } from '../backend/cached-value.js'
import { report } from '../base/diagnostics.js'
import { checkOptions, expectBoolean, expectMethods, ownOptions } from '../base/options.js'
import { epochNow } from '../base/timers.js'
import { dep } from '../dependencies/dep.js'
import type { Region } from '../region/types.js'

/**
 * The options of both stores.
 * @example
 * ```ts
 * import type { KeyvStoreOptions } from 'corral/integrations/keyv'
 *
 * export const options: KeyvStoreOptions = { closesRegion: true }
 * ```
 */
export interface KeyvStoreOptions {
  /** `disconnect()` closes the region. @default false */
  readonly closesRegion?: boolean | undefined
}

type Emitted = (...values: never[]) => void

interface Shared {
  /** Keyv writes it. */
  namespace?: string | undefined
  get<T>(key: string): Promise<T | undefined>
  getMany<T>(keys: readonly string[]): Promise<(T | undefined)[]>
  has(key: string): Promise<boolean>
  hasMany(keys: readonly string[]): Promise<boolean[]>
  /** Whether the store held an entry; `true` over a store that does not say. */
  delete(key: string): Promise<boolean>
  /** Invalidates the namespace, or the whole region where there is none. The entries leave the store at the end of their lives. */
  clear(): Promise<void>
  disconnect(): Promise<void>
}

/**
 * A store for one Keyv of major 5. Its keys come with the namespace in front.
 * @example
 * ```ts
 * import { makeRegion, wrap } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import { type Keyv5Store, keyv5Store } from 'corral/integrations/keyv'
 * import { dependencies } from 'corral/proxies/dependencies'
 *
 * const region = makeRegion({ name: 'keyv', backend: wrap(memory(), dependencies()) })
 * export const store: Keyv5Store = keyv5Store(region)
 * ```
 */
export interface Keyv5Store extends Shared {
  readonly opts: Record<string, unknown>
  /** `ttl` in ms. A negative one has passed already: the key is deleted. */
  set(key: string, value: unknown, ttl?: number): Promise<boolean>
  setMany(
    values: readonly { readonly key: string; readonly value: unknown; readonly ttl?: number }[],
  ): Promise<void>
  /** Whether all of them were there. */
  deleteMany(keys: readonly string[]): Promise<boolean>
  /** Never calls the listener: a Keyv emits the errors that its store throws. */
  on(event: string, listener: Emitted): this
}

/**
 * A store for Keyv 6. Its keys come without the namespace, which the store puts in front.
 * @example
 * ```ts
 * import { makeRegion, wrap } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import { type Keyv6Store, keyv6Store } from 'corral/integrations/keyv'
 * import { dependencies } from 'corral/proxies/dependencies'
 *
 * const region = makeRegion({ name: 'keyv', backend: wrap(memory(), dependencies()) })
 * export const store: Keyv6Store = keyv6Store(region)
 * ```
 */
export interface Keyv6Store extends Omit<Shared, 'get' | 'getMany'>, SilentEmitter {
  readonly capabilities: Keyv6Capabilities
  get<T>(key: string): Promise<Keyv6Value<T>>
  getMany<T>(keys: readonly string[]): Promise<Keyv6Value<T | undefined>[]>
  /** `expires` is an epoch time in ms. If it has passed, the key is deleted. */
  set(key: string, value: unknown, expires?: number): Promise<boolean>
  setMany(
    values: readonly { readonly key: string; readonly value: unknown; readonly expires?: number }[],
  ): Promise<boolean[]>
  deleteMany(keys: readonly string[]): Promise<boolean[]>
}

type Keyv6Value<T> = { value?: T; expires?: number | undefined } | string | undefined

interface Keyv6Capabilities {
  compatible: boolean
  store: 'keyvStorage'
  expires: boolean
  methods: Record<Keyv6Method, { exists: boolean; methodType: 'async' | 'none' }>
}

const METHODS = [
  ...(['get', 'getMany', 'has', 'hasMany', 'set', 'setMany', 'delete', 'deleteMany', 'clear'] as const),
  'disconnect',
] as const
type Keyv6Method = (typeof METHODS)[number] | 'iterator'

/** The events of a store of Keyv 6. It never emits one: a Keyv emits the errors that its store throws. */
interface SilentEmitter {
  on(event: string | symbol, listener: Emitted): SilentEmitter
  addListener(event: string | symbol, listener: Emitted): SilentEmitter
  once(event: string | symbol, listener: Emitted): SilentEmitter
  off(event: string | symbol, listener: Emitted): SilentEmitter
  removeListener(event: string | symbol, listener: Emitted): SilentEmitter
  prependListener(event: string | symbol, listener: Emitted): SilentEmitter
  prependOnceListener(event: string | symbol, listener: Emitted): SilentEmitter
  removeAllListeners(event?: string | symbol): SilentEmitter
  emit(event: string | symbol, ...values: readonly unknown[]): boolean
  listenerCount(event: string | symbol): number
  eventNames(): (string | symbol)[]
  listeners(event: string | symbol): never[]
  rawListeners(event: string | symbol): never[]
}

/**
 * A store for one Keyv of major 5: `new Keyv({ store: keyv5Store(region) })`. Every Keyv needs a store of its own, since it
 * writes its namespace into it. The stores may share a region, whose chain has `dependencies()`.
 *
 * A read that fails is a miss, reported on `corral:failure`. A write, a deletion or a `clear()` that fails rejects. A Keyv
 * turns that into an `error` event unless it has `throwOnErrors`, so failed deletions are reported on `corral:failure`, too.
 * @example
 * ```ts
 * import { makeRegion, wrap } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import { keyv5Store } from 'corral/integrations/keyv'
 * import { dependencies } from 'corral/proxies/dependencies'
 * import { Keyv } from 'keyv'
 *
 * const region = makeRegion({ name: 'keyv', backend: wrap(memory(), dependencies()) })
 * const users = new Keyv({ store: keyv5Store(region), namespace: 'users', throwOnErrors: true })
 * await users.set('5', 'Ada', 60_000)
 * await users.clear() // one write, for all processes
 * ```
 * @throws CorralError `ERR_OPTION` without a region.
 */
export function keyv5Store(region: Region, options: KeyvStoreOptions = {}): Keyv5Store {
  const { closesRegion = false } = checked(region, options, 'keyv5Store()')
  const entries = entriesOf(region, (key) => key)
  const store: Keyv5Store = {
    ...entries.operations(() => store.namespace, closesRegion),
    opts: {},
    set: (key, value, ttl) =>
      entries.write(key, value, ttl === undefined || ttl === 0 ? undefined : ttl, store.namespace),
    async setMany(values) {
      await Promise.all(values.map(({ key, value, ttl }) => store.set(key, value, ttl)))
    },
    deleteMany: async (keys) => (await entries.removeAll(keys)).every(Boolean),
    on: () => store,
  }
  return store
}

/**
 * A store for Keyv 6: `new Keyv({ store: keyv6Store(region) })`. The entries of a namespace lie under `namespace:key` in the
 * region, those without one under `:key`. Failures and the chain are as with `keyv5Store`.
 * @example
 * ```ts
 * import { makeRegion, wrap } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import { keyv6Store } from 'corral/integrations/keyv'
 * import { dependencies } from 'corral/proxies/dependencies'
 * import { Keyv } from 'keyv6' // your 'keyv', of major 6
 *
 * const region = makeRegion({ name: 'keyv', backend: wrap(memory(), dependencies()) })
 * export const users = new Keyv({ store: keyv6Store(region), namespace: 'users' })
 * ```
 * @throws CorralError `ERR_OPTION` without a region.
 */
export function keyv6Store(region: Region, options: KeyvStoreOptions = {}): Keyv6Store {
  const { closesRegion = false } = checked(region, options, 'keyv6Store()')
  // Escaped: the namespace `a` with the key `b:c` is not `a:b` with `c`.
  const entries = entriesOf(region, (key) => `${(store.namespace ?? '').replace(/[\\:]/g, '\\$&')}:${key}`)
  const store: Keyv6Store = {
    ...entries.operations(() => store.namespace, closesRegion),
    ...silent(() => store),
    capabilities: capabilities(),
    set: (key, value, expires) =>
      entries.write(key, value, expires === undefined ? undefined : expires - epochNow(), store.namespace),
    setMany: (values) => Promise.all(values.map(({ key, value, expires }) => store.set(key, value, expires))),
    deleteMany: (keys) => entries.removeAll(keys),
  }
  return store
}

function checked(region: Region, options: KeyvStoreOptions, where: string): KeyvStoreOptions {
  options = ownOptions(options)
  expectMethods(region, ['getMulti', 'set', 'invalidateDependencies'], `${where} to receive a region`)
  checkOptions(options, where, { closesRegion: expectBoolean })
  return options
}

/** An empty namespace is none, as it is to Keyv. */
const nameOf = (namespace: string | undefined) => dep.tag('keyv', namespace ?? '')

/** The operations that both majors have, on the keys of the region. */
function entriesOf(region: Region, keyOf: (key: string) => string) {
  const read = async (given: readonly string[]): Promise<unknown[]> => {
    const keys = [...given]
    const found = await region.getMulti(keys.map(keyOf)).catch((error: unknown) => {
      report('failure', () => ({ where: 'keyv', region: region.name, key: keys[0], error }))
      return keys.map(() => NO_VALUE)
    })
    return found.map((value) => (value === NO_VALUE ? undefined : value))
  }
  const hasMany = async (keys: readonly string[]) => (await read(keys)).map((value) => value !== undefined)
  /** A Keyv without `throwOnErrors` hides the rejection from its caller. */
  const reported = <T>(key: string | undefined, work: Promise<T>): Promise<T> =>
    work.catch((error: unknown) => {
      report('failure', () => ({ where: 'keyv', region: region.name, key, error }))
      throw error
    })
  const remove = async (key: string) => (await reported(key, region.delete(keyOf(key)))) ?? true
  const removeAll = (keys: readonly string[]): Promise<boolean[]> => Promise.all(keys.map(remove))
  return {
    removeAll,
    async write(key: string, value: unknown, lifetime: number | undefined, namespace: string | undefined) {
      if (lifetime !== undefined && lifetime <= 0) await remove(key)
      else
        await region.set(keyOf(key), value, {
          ...{ dependencies: nameOf(namespace), asOf: 'now', expirationTime: lifetime },
        })
      return true
    },
    operations(namespace: () => string | undefined, closesRegion: boolean): Shared {
      return {
        namespace: undefined,
        get: async <T>(key: string) => (await read([key]))[0] as T | undefined,
        getMany: (keys) => read(keys) as Promise<never[]>,
        has: async (key) => (await hasMany([key]))[0] === true,
        hasMany,
        delete: remove,
        clear: () =>
          reported(
            undefined,
            (namespace() ?? '') === ''
              ? region.invalidate()
              : region.invalidateDependencies(nameOf(namespace())),
          ),
        disconnect: async () => (closesRegion ? region.close() : undefined),
      }
    },
  }
}

function capabilities(): Keyv6Capabilities {
  const methods = Object.fromEntries(METHODS.map((name) => [name, { exists: true, methodType: 'async' }]))
  return {
    compatible: true,
    store: 'keyvStorage',
    expires: true,
    methods: { ...methods, iterator: { exists: false, methodType: 'none' } } as Keyv6Capabilities['methods'],
  }
}

function silent(self: () => SilentEmitter): SilentEmitter {
  const chained = self
  return {
    on: chained,
    addListener: chained,
    once: chained,
    off: chained,
    removeListener: chained,
    prependListener: chained,
    prependOnceListener: chained,
    removeAllListeners: chained,
    emit: () => false,
    listenerCount: () => 0,
    eventNames: () => [],
    listeners: () => [],
    rawListeners: () => [],
  }
}
