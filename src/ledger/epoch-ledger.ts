import { randomUUID } from 'node:crypto'
import type { MaybePromise } from '../base/maybe-promise.js'
import { checkOptions, expectBoolean, expectFunction, ownOptions } from '../base/options.js'
import type { Ledger, OpenLedger, Stamp } from './ledger.js'
import type { LedgerTime } from './snapshot.js'

/**
 * The three operations that the ledger needs of a store. Values are short texts that must not expire.
 * @example
 * ```ts
 * import type { EpochStore } from 'corral'
 *
 * const records = new Map<string, string>()
 * export const store: EpochStore = {
 *   get: (key) => records.get(key),
 *   set: (key, value) => records.set(key, value),
 *   add: (key, value) => records.has(key) || records.set(key, value),
 * }
 * ```
 */
export interface EpochStore {
  get(key: string): MaybePromise<string | undefined>
  /** Must take effect before it settles: a client that sends it again later could undo another write. */
  set(key: string, value: string): MaybePromise<unknown>
  /** Writes only if the key is absent. */
  add(key: string, value: string): MaybePromise<unknown>
}

const MOMENT = 0
const UNHARMED: Stamp = { hard: MOMENT, soft: MOMENT }

/**
 * A ledger for a store that can neither count nor compare and swap. Every invalidation, of any name and in any mode,
 * begins a new epoch, and entries of earlier epochs are misses. No invalidation is lost, and the loss of its one record
 * costs no more than an invalidation. But each invalidation takes all entries: use it where invalidations are rare.
 * @example
 * ```ts
 * import { epochLedger, type EpochStore } from 'corral'
 * import { dependencies } from 'corral/proxies/dependencies'
 *
 * export const layer = (store: EpochStore) => dependencies({ ledger: epochLedger(store) })
 * ```
 * @param options.shared - whether other processes use the same store. `@default true`
 * @throws CorralError `ERR_OPTION` when the store lacks one of its three functions, or on an unknown or invalid option.
 */
export function epochLedger(store: EpochStore, options: { readonly shared?: boolean } = {}): Ledger {
  options = ownOptions(options)
  checkOptions(options, 'epochLedger()', { shared: expectBoolean })
  const { shared = true } = options
  for (const name of ['get', 'set', 'add'] as const)
    expectFunction(store?.[name], `\`${name}\` of the store of epochLedger()`)
  return { shared, open: (clock) => openEpoch(store, clock) }
}

function openEpoch(store: EpochStore, clock: string): OpenLedger {
  const current = async (): Promise<LedgerTime | undefined> => {
    const epoch = await store.get(clock)
    return typeof epoch === 'string' && epoch !== '' ? { epoch, at: MOMENT } : undefined
  }
  return {
    storeClock: clock,
    read: async (names) => ({ now: await current(), stamps: names.map(() => UNHARMED) }),
    async now() {
      const found = await current()
      if (found !== undefined) return found
      // The first writer wins. If the record is gone again, use a random epoch: nothing matches it, so reads are misses.
      await store.add(clock, randomUUID())
      return (await current()) ?? { epoch: randomUUID(), at: MOMENT }
    },
    async invalidate() {
      // A random epoch never comes back.
      await store.set(clock, randomUUID())
    },
  }
}
