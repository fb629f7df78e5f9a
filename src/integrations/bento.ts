/**
 * A region as the second layer of BentoCache, and so of `@adonisjs/cache`: a way to bring both to one store, entry by entry.
 *
 * Bento keeps its own rules above the driver, such as grace and timeouts. One creator at a time and the fence of
 * `getOrCreate` are out of its reach: they come with the calls that move to the region.
 */
import { NO_VALUE } from '../backend/cached-value.js'
import { report } from '../base/diagnostics.js'
import { checkOptions, expectBoolean, expectMethods, ownOptions } from '../base/options.js'
import { dep } from '../dependencies/dep.js'
import type { Region } from '../region/types.js'

/**
 * The options of `bentoDriver()`.
 * @example
 * ```ts
 * import type { BentoDriverOptions } from 'corral/integrations/bento'
 *
 * export const options: BentoDriverOptions = { closesRegion: true }
 * ```
 */
export interface BentoDriverOptions {
  /** `disconnect()` closes the region. @default false */
  readonly closesRegion?: boolean | undefined
}

/**
 * A driver of Bento's second layer, for one namespace.
 * @example
 * ```ts
 * import type { BentoDriver } from 'corral/integrations/bento'
 *
 * export const isThere = async (driver: BentoDriver) => (await driver.get('5')) !== undefined
 * ```
 */
export interface BentoDriver {
  type: 'l2'
  namespace(namespace: string): BentoDriver
  get(key: string): Promise<string | undefined>
  /** A read and then a deletion: two callers at once may both get the value. */
  pull(key: string): Promise<string | undefined>
  set(key: string, value: string, ttl?: number): Promise<boolean>
  /** Invalidates the namespace and those in it, by one write for all processes. */
  clear(): Promise<void>
  /** Whether the store held an entry; `true` over a store that does not say. */
  delete(key: string): Promise<boolean>
  deleteMany(keys: string[]): Promise<boolean>
  disconnect(): Promise<void>
}

/**
 * A driver for `bentostore().useL2Layer(…)`. The chain of the region has `dependencies()`.
 *
 * Failures reject. Bento hides them from your code by default (`suppressL2Errors`), so failed deletions are reported on
 * `corral:failure`, too.
 * @example
 * ```ts
 * import { BentoCache, bentostore } from 'bentocache'
 * import { makeRegion, wrap } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import { bentoDriver } from 'corral/integrations/bento'
 * import { dependencies } from 'corral/proxies/dependencies'
 *
 * const region = makeRegion({ name: 'bento', backend: wrap(memory(), dependencies()) })
 * const stores = { main: bentostore().useL2Layer(bentoDriver(region)) }
 * export const bento = new BentoCache({ default: 'main', stores })
 * ```
 * @throws CorralError `ERR_OPTION` without a region.
 */
export function bentoDriver(
  region: Region,
  options: BentoDriverOptions = {},
): { options: Record<string, unknown>; factory: (config?: { prefix?: string | undefined }) => BentoDriver } {
  options = ownOptions(options)
  expectMethods(region, ['get', 'set', 'invalidateDependencies'], 'bentoDriver() to receive a region')
  checkOptions(options, 'bentoDriver()', { closesRegion: expectBoolean })
  const { closesRegion = false } = options
  return { options: {}, factory: (config) => driverOf(region, config?.prefix ?? '', closesRegion) }
}

function driverOf(region: Region, prefix: string, closesRegion: boolean): BentoDriver {
  const path = (key: string) => (prefix === '' ? key : `${prefix}:${key}`)
  const get = async (key: string) => {
    const value = await region.get(path(key))
    return value === NO_VALUE ? undefined : (value as string)
  }
  const remove = async (keys: readonly string[]) => {
    await reported(region, region.deleteMulti(keys.map(path)))
    return true
  }
  return {
    type: 'l2',
    namespace: (namespace) => driverOf(region, path(namespace), closesRegion),
    get,
    async pull(key) {
      const value = await get(key)
      if (value !== undefined) await remove([key])
      return value
    },
    async set(key, value, ttl) {
      if (ttl !== undefined && ttl <= 0) return remove([key])
      const set = { dependencies: namespacesOf(path(key)), asOf: 'now', expirationTime: ttl } as const
      return (await region.set(path(key), value, set)) === 'stored'
    },
    clear: () => reported(region, region.invalidateDependencies(nameOf(prefix))),
    delete: async (key) => (await reported(region, region.delete(path(key)))) ?? true,
    deleteMany: remove,
    disconnect: async () => (closesRegion ? region.close() : undefined),
  }
}

const nameOf = (namespace: string) => dep.tag('bento', namespace)

/** The names of all namespaces around a key: `a:b:c` lies in `a:b`, in `a` and in the root. */
function namespacesOf(path: string): string[] {
  const parts = path.split(':')
  return parts.map((_, depth) => nameOf(parts.slice(0, depth).join(':')))
}

/** Bento may hide the rejection from its caller. */
function reported<T>({ name }: Region, work: Promise<T>): Promise<T> {
  return work.catch((error: unknown) => {
    report('failure', () => ({ where: 'bento', region: name, error }))
    throw error
  })
}
