/**
 * A region as a driver of `unstorage`, and so of Nitro and Nuxt, whose cached functions and route rules then use the
 * stores, encodings and proxies of Corral, and are cleared by one write for all processes.
 */
import { NO_VALUE } from '../backend/cached-value.js'
import { reportOnce } from '../base/diagnostics.js'
import { CorralError } from '../base/errors.js'
import { checkOptions, expectBoolean, expectMethods, expectText, ownOptions } from '../base/options.js'
import { dep } from '../dependencies/dep.js'
import type { Region } from '../region/types.js'

/**
 * The options of `unstorageDriver()`.
 * @example
 * ```ts
 * import type { UnstorageDriverOptions } from 'corral/integrations/unstorage'
 *
 * export const options: UnstorageDriverOptions = { base: 'nitro' }
 * ```
 */
export interface UnstorageDriverOptions {
  /** Put before every key, so that several mounts share a region. @default none */
  readonly base?: string | undefined
  /** `dispose()` closes the region. @default false */
  readonly closesRegion?: boolean | undefined
}

/**
 * A driver for `createStorage({ driver })` and `storage.mount(point, driver)`.
 * @example
 * ```ts
 * import type { UnstorageDriver } from 'corral/integrations/unstorage'
 *
 * export const has = async (driver: UnstorageDriver, key: string) => driver.hasItem(key)
 * ```
 */
export interface UnstorageDriver {
  name: string
  flags: { ttl: boolean }
  hasItem(key: string): Promise<boolean>
  getItem(key: string): Promise<Stored>
  getItems(items: { key: string }[]): Promise<{ key: string; value: Stored }[]>
  getItemRaw(key: string): Promise<unknown>
  /** `ttl` in seconds. `0`, `null` or none: as long as values of the region last. */
  setItem(key: string, value: string, options?: Lifetime): Promise<void>
  setItemRaw(key: string, value: unknown, options?: Lifetime): Promise<void>
  removeItem(key: string): Promise<void>
  /** When it was written, and the seconds that are left of its lifetime. */
  getMeta(key: string): Promise<{ mtime: Date; ttl?: number } | null>
  /** The keys of the values that are there now. An empty list over stores that cannot list keys; a notice tells of it once. */
  getKeys(base?: string): Promise<string[]>
  clear(base?: string): Promise<void>
  dispose(): Promise<void>
}

type Stored = null | string | number | boolean | object
interface Lifetime {
  readonly ttl?: number | null | undefined
}

/**
 * A driver over a region, whose chain has `dependencies()`. A failure of the store rejects, as with other drivers.
 * @example
 * ```ts
 * import { makeRegion, wrap } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import { unstorageDriver } from 'corral/integrations/unstorage'
 * import { dependencies } from 'corral/proxies/dependencies'
 * import { createStorage } from 'unstorage'
 *
 * const region = makeRegion({ name: 'storage', backend: wrap(memory(), dependencies()) })
 * const storage = createStorage({ driver: unstorageDriver(region) })
 * await storage.setItem('users:5', { name: 'Ada' }, { ttl: 60 })
 * ```
 * @throws CorralError `ERR_OPTION` without a region.
 */
export function unstorageDriver(region: Region, options: UnstorageDriverOptions = {}): UnstorageDriver {
  options = ownOptions(options)
  expectMethods(region, ['get', 'set', 'invalidateDependencies'], 'unstorageDriver() to receive a region')
  checkOptions(options, 'unstorageDriver()', { base: expectText, closesRegion: expectBoolean })
  const { base = '', closesRegion = false } = options
  const path = (key: string) => [base, key].filter((part) => part !== '').join(':')
  const get = async (key: string) => found(await region.get(path(key)))
  const set = async (key: string, value: unknown, { ttl }: Lifetime = {}) => {
    // As for other drivers of unstorage, 0 and `null` say nothing of the end.
    const expirationTime = (ttl ?? 0) === 0 ? undefined : Number(ttl) * 1_000
    if (expirationTime !== undefined && expirationTime <= 0) await region.delete(path(key))
    else await region.set(path(key), value, { dependencies: basesOf(path(key)), asOf: 'now', expirationTime })
  }
  return {
    name: 'corral',
    flags: { ttl: true },
    hasItem: (key) => region.has(path(key)),
    getItem: get,
    async getItems(items) {
      // The caller may change its list while this waits.
      const keys = items.map(({ key }) => key)
      const values = await region.getMulti(keys.map(path))
      return keys.map((key, at) => ({ key, value: found(values[at]) }))
    },
    getItemRaw: get,
    setItem: set,
    setItemRaw: set,
    async removeItem(key) {
      await region.delete(path(key))
    },
    async getMeta(key) {
      const entry = await region.getValueMetadata(path(key))
      if (entry === undefined) return null
      const { metadata, age, expiresAt } = entry
      const left = Math.ceil((expiresAt - metadata.createdAt - age) / 1_000)
      return { mtime: new Date(metadata.createdAt), ...(left < Infinity && { ttl: left }) }
    },
    getKeys: (within = '') => keysOf(region, path(within.replace(/:$/, '')), base),
    clear: (within = '') => region.invalidateDependencies(nameOf(path(within.replace(/:$/, '')))),
    dispose: async () => (closesRegion ? region.close() : undefined),
  }
}

/** The store lists entries that are invalid, too. Those that have a value are the keys of the driver. */
async function keysOf(region: Region, within: string, base: string): Promise<string[]> {
  const keys = new Set<string>()
  try {
    for await (const key of region.keys(within === '' ? '' : `${within}:`)) keys.add(key)
  } catch (error) {
    if (!CorralError.is(error, 'ERR_UNSUPPORTED')) throw error
    reportOnce('notice', 'unstorage.getKeys', () => ({ where: 'unstorage', message: error.message }))
    return []
  }
  const all = [...keys]
  const values = await region.getMulti(all)
  const start = base === '' ? 0 : base.length + 1
  return all.filter((_, at) => values[at] !== NO_VALUE).map((key) => key.slice(start))
}

const found = (value: unknown): Stored => (value === NO_VALUE ? null : (value as Stored))

const nameOf = (base: string) => dep.tag('unstorage', base)

/** The names of all bases around a key: `a:b:c` lies in `a:b`, in `a` and in the root. */
function basesOf(path: string): string[] {
  const parts = path.split(':')
  return parts.map((_, depth) => nameOf(parts.slice(0, depth).join(':')))
}
