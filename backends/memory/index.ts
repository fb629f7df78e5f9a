import type { Backend, Outcome, Write, WriteOptions } from '../../src/backend/backend.js'
import type { Bytes, CachedValue } from '../../src/backend/cached-value.js'
import { completeBackend } from '../../src/backend/define-backend.js'
import { localLeases } from '../../src/backend/lease.js'
import { type Clock, checkedClock, coarseClock, expectClock } from '../../src/base/clock.js'
import { report } from '../../src/base/diagnostics.js'
import {
  expectFunction,
  expectInteger,
  expectOneOf,
  optionError,
  ownOptions,
  rejectUnknownOptions,
} from '../../src/base/options.js'
import { validate } from '../../src/ledger/validate.js'
import { type CopyMode, copier } from './copy.js'
import { factsOf, NO_FACTS, storedValue } from './packed.js'
import { bounded } from './s3fifo.js'
import { estimate } from './size.js'
import { NO_SWEEPS, SWEEP_LIMIT, startSweeps } from './sweeps.js'
import { ledgerWithTail } from './tail.js'

/**
 * The options of `memory`.
 * @example
 * ```ts
 * import type { MemoryOptions } from 'corral/backends/memory'
 *
 * export const options: MemoryOptions = { maxEntries: 10_000, copy: 'freeze' }
 * ```
 */
export interface MemoryOptions {
  /** How many entries to hold at most. @default Infinity */
  readonly maxEntries?: number | undefined
  /** How many bytes to hold at most, by `sizeOf`. @default Infinity */
  readonly maxBytes?: number | undefined
  /** The size of an entry in bytes. @default an estimate of its heap; the exact length for bytes */
  readonly sizeOf?: ((value: never, key: string) => number) | undefined
  /**
   * `'share'`: callers get the stored object itself. `'clone'`: a copy on the way in and out. `'freeze'`:
   * the stored object, deeply frozen. @default 'share'
   */
  readonly copy?: CopyMode | undefined
  /** `'bytes'` makes a store for chains with an encoding. @default 'values' */
  readonly stores?: 'values' | 'bytes' | undefined
  /** Where expiry reads the time. @default the time of day */
  readonly clock?: Clock | undefined
}

const KNOWN = ['maxEntries', 'maxBytes', 'sizeOf', 'copy', 'stores', 'clock']

/** Expired entries are looked for after so many writes, so that unread ones leave too. */
const SWEEP_EVERY = 64

/**
 * A backend in this process's memory: synchronous, so that `peek` works and a hit costs one tick. Bounded by entries, by
 * bytes or not at all; evicts by S3-FIFO, which keeps keys that are read again and lets scans pass through.
 * @example
 * ```ts
 * import { makeRegion } from 'corral'
 * import { memory } from 'corral/backends/memory'
 *
 * export const region = makeRegion().configure({ backend: memory({ maxBytes: 50_000_000 }) })
 * ```
 * @throws CorralError `ERR_OPTION` on an unknown or invalid option.
 */
export function memory(options?: MemoryOptions & { readonly stores?: 'values' }): Backend<CachedValue>
export function memory(options: MemoryOptions & { readonly stores: 'bytes' }): Backend<Bytes>
export function memory(options: MemoryOptions = {}): Backend<CachedValue> | Backend<Bytes> {
  options = ownOptions(options)
  const { maxEntries, maxBytes, stores, clock, copies, sizeOf } = checked(options)
  const store = bounded<unknown>({
    maxEntries,
    maxWeight: maxBytes,
    onEvict: (key, reason) => report('evict', () => ({ backend: 'memory', key, reason })),
  })
  const leases = localLeases(options.clock && clock)
  const { ledger, keyChanged } = ledgerWithTail()

  let untilSweep = SWEEP_EVERY
  let sweeps = NO_SWEEPS
  const put = (key: string, value: unknown, { ttl }: WriteOptions): void => {
    const kept = copies.in(value)
    // Fills too: they cost copies in this process only, and the leases need not tell which of them were stolen.
    keyChanged(key)
    const expiresAt = ttl === undefined ? Infinity : clock.now() + ttl
    const size = sizeOf(kept, key)
    if (!(size >= 0))
      throw optionError(size, `\`sizeOf\` to return the bytes of '${key}', a number from 0 up`)
    const facts = stores === 'values' ? factsOf(kept) : NO_FACTS
    const held = facts === NO_FACTS ? kept : (kept as CachedValue).payload
    if (!store.set(key, held, expiresAt, size, facts))
      report('evict', () => ({ backend: 'memory', key, reason: 'oversized' }))
    // It runs behind a timer, where nobody handles an error.
    if (ttl !== undefined && !sweeps.running) sweeps = startSweeps(store, options.clock ?? clock)
    if (--untilSweep === 0) {
      untilSweep = SWEEP_EVERY
      store.sweep(clock.now(), SWEEP_LIMIT)
    }
  }

  const get = (key: string): unknown => {
    const entry = store.get(key)
    if (entry === undefined) return undefined
    if (entry.expiresAt !== Infinity && entry.expiresAt <= clock.now()) {
      store.delete(key)
      return undefined
    }
    return copies.out(storedValue(entry))
  }
  const set = (key: string, value: unknown, options: WriteOptions): Outcome => {
    const { token, ifCurrent } = options
    if (token === undefined) leases.revoke(key)
    else if (!leases.owns(key, token)) return 'lost'
    if (ifCurrent !== undefined && validate(ledger.open(ifCurrent.clock), ifCurrent.snapshot) !== 'fresh') {
      if (token !== undefined) leases.revoke(key)
      else {
        keyChanged(key)
        store.delete(key)
      }
      return 'refused'
    }
    put(key, value, options)
    if (token !== undefined) leases.release(key, token)
    return 'stored'
  }
  const remove = (key: string): boolean => {
    leases.revoke(key)
    keyChanged(key)
    return store.delete(key)
  }

  // One store serves both: it never looks into a value.
  const backend: unknown = completeBackend<unknown>({
    name: 'memory',
    timeout: Infinity,
    stores,
    copyOut: copies.shared,
    get,
    set,
    delete: remove,
    getMulti: (keys) => keys.map(get),
    setMulti: (writes: readonly Write<unknown>[]) =>
      writes.map(([key, value, options]) => set(key, value, options)),
    deleteMulti: (keys) => void keys.forEach(remove),
    async *keys(prefix) {
      // A list of now: the store may change while the caller goes through it.
      const found = [...store.entries()].filter((entry) => entry.key.startsWith(prefix))
      for (const { key, expiresAt } of found) if (expiresAt > clock.now()) yield key
    },
    acquire(key, ms, options) {
      const acquired = leases.acquire(key, ms, options)
      return acquired.token === undefined ? acquired : { token: acquired.token, found: get(key) }
    },
    renew: leases.renew,
    release: leases.release,
    keepsFailures: true,
    held: leases.held,
    close: () => sweeps.stop(),
    ledger,
  })
  return backend as Backend<CachedValue>
}

function checked(options: MemoryOptions) {
  rejectUnknownOptions(options, KNOWN, 'memory()')
  const { maxEntries = Infinity, maxBytes = Infinity, stores = 'values' } = options
  expectInteger(maxEntries, '`maxEntries`', 1, Infinity)
  expectInteger(maxBytes, '`maxBytes`', 1, Infinity)
  expectOneOf(stores, '`stores`', ['values', 'bytes'])
  if (options.sizeOf !== undefined) expectFunction(options.sizeOf, '`sizeOf`', 'a function of value and key')
  if (options.clock !== undefined) expectClock(options.clock, '`clock` of memory()')
  const measure = (options.sizeOf ?? estimate) as (value: unknown, key: string) => number
  // Sizes that no limit needs are not measured.
  const sizeOf = maxBytes === Infinity ? () => 0 : measure
  const clock = checkedClock(options.clock, '`clock` of memory()') ?? coarseClock
  return { maxEntries, maxBytes, stores, clock, copies: copier(options.copy ?? 'share'), sizeOf }
}
