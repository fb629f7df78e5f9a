/**
 * The results of queries in a region, for ORMs with a cache of their own: they ask for a result, query the database, and then bring
 * it. One caller of all processes does that for each query, and a result that was invalidated meanwhile is not stored.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { report } from '../../base/diagnostics.js'
import type { Duration } from '../../base/duration.js'
import { checkOptions, expectMethods, ownOptions } from '../../base/options.js'
import type { Region, Reservation } from '../../region/types.js'

/**
 * Options of the caches of query results.
 * @example
 * ```ts
 * import type { ResultCacheOptions } from 'corral/integrations/typeorm'
 *
 * // A query of this application takes a second at most.
 * export const options: ResultCacheOptions = { hold: '3s' }
 * ```
 */
export interface ResultCacheOptions {
  /**
   * How long the other callers of a query wait for the one that sent it, also if it fails, as no ORM tells of that. A result
   * that comes later is not stored. A number is ms. @default '10s'
   */
  readonly hold?: Duration | undefined
}

type Reserved = Extract<Reservation<unknown>, { fill: unknown }>

/** A query between the question for its result and the result. */
export interface Pending {
  readonly key: string
  reserved: Reserved | undefined
  readonly around: Pending | undefined
}

export interface Stored {
  readonly dependencies: readonly string[]
  readonly expirationTime: Duration | undefined
}

export interface QueryCache {
  /** The result, or the right to bring it. */
  reserve(key: string): Promise<{ readonly value: unknown } | Pending>
  fill(pending: Pending | undefined, value: () => unknown, options: Stored): Promise<void>
  /**
   * The same for ORMs that bring a result without saying for which question: it is the one that was asked in the same asynchronous
   * flow. Call it in the turn of the ORM's call.
   */
  get(key: string): Promise<unknown>
  put(key: string, value: () => unknown, options: Stored): Promise<void>
  readonly remove: (keys: readonly string[]) => Promise<void>
  readonly clear: () => Promise<void>
}

export function queryCache(region: Region, options: ResultCacheOptions, where: string): QueryCache {
  options = ownOptions(options)
  expectMethods(region, ['reserve', 'deleteMulti', 'invalidate'], `${where} to get a region`)
  checkOptions(options, where, { hold: () => {} })
  const { hold } = options
  const flows = new AsyncLocalStorage<Pending | undefined>()
  const fail = (error: unknown): void => report('failure', () => ({ where, region: region.name, error }))
  const reserveInto = async (pending: Pending): Promise<{ readonly value: unknown } | Pending> => {
    try {
      const found = await region.reserve(pending.key, { hold })
      if ('value' in found) return found
      pending.reserved = found
    } catch (error) {
      // A query needs no cache.
      fail(error)
    }
    return pending
  }
  const fill: QueryCache['fill'] = async (pending, value, stored) => {
    const reserved = pending?.reserved
    if (pending === undefined || reserved === undefined) return
    pending.reserved = undefined
    try {
      await reserved.fill(value(), stored)
    } catch (error) {
      fail(error)
      await reserved.release().catch(fail)
    }
  }
  return {
    reserve: (key) => reserveInto({ key, reserved: undefined, around: undefined }),
    fill,
    get(key) {
      const before = flows.getStore()
      const pending: Pending = { key, reserved: undefined, around: before?.reserved ? before : undefined }
      flows.enterWith(pending)
      return reserveInto(pending).then((found) => ('value' in found ? found.value : undefined))
    },
    put(key, value, stored) {
      let pending = flows.getStore()
      while (pending !== undefined && pending.key !== key) pending = pending.around
      return fill(pending, value, stored)
    },
    remove: (keys) => region.deleteMulti(keys),
    clear: () => region.invalidate(),
  }
}
