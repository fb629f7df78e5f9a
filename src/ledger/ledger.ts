import { frozenCopy } from '../base/frozen.js'
import { type MaybePromise, native } from '../base/maybe-promise.js'
import type { DependencySnapshot, LedgerTime } from './snapshot.js'
import type { LedgerTail } from './tail.js'

/** The clock of a chain's ledger, under the prefixes of the layers below. */
export const CHAIN_CLOCK = '~clock'

/**
 * Hard: older values are invalid. Soft: older values may be served while one caller renews them.
 * @example
 * ```ts
 * import type { InvalidationMode, Region } from 'corral'
 *
 * export const invalidate = (region: Region, mode: InvalidationMode) => region.invalidate(mode)
 * ```
 */
export type InvalidationMode = 'hard' | 'soft'

/**
 * Why something is invalidated, in the caller's words.
 * @example
 * ```ts
 * import type { InvalidationReason } from 'corral'
 *
 * export const imported: InvalidationReason = { reason: 'nightly import', meta: { rows: 5_000 } }
 * ```
 */
export interface InvalidationReason {
  readonly reason?: string | undefined
  /** Data for the listeners, as it is at the call: they get a frozen copy of lists, plain objects and dates. Between processes it travels as JSON. */
  readonly meta?: unknown
}

/**
 * Serve · serve while one caller renews · a miss.
 * @example
 * ```ts
 * import type { Freshness } from 'corral'
 *
 * export const mayServe = (freshness: Freshness) => freshness !== 'invalid'
 * ```
 */
export type Freshness = 'fresh' | 'stale' | 'invalid'

/**
 * When a name was last invalidated, on the ledger's clock. A soft stamp and a hard one never replace each other.
 * @example
 * ```ts
 * import type { Stamp } from 'corral'
 *
 * export const never: Stamp = { hard: 0, soft: 0 }
 * ```
 */
export interface Stamp {
  readonly hard: number
  readonly soft: number
}

/**
 * The clock and the stamps of some names, read in one step.
 * @example
 * ```ts
 * import type { LedgerReading } from 'corral'
 *
 * export const untouched: LedgerReading = { now: { epoch: 'e', at: 1 }, stamps: [{ hard: 0, soft: 0 }] }
 * ```
 */
export interface LedgerReading {
  /** `undefined`: the clock is absent, so every entry under it is a miss. */
  readonly now: LedgerTime | undefined
  /** In the order of the names that were asked for. `undefined`: absent, which is a miss: losing a stamp is safe. */
  readonly stamps: readonly (Stamp | undefined)[]
}

/**
 * The bookkeeping of invalidations that a store keeps: clocks, and under each clock a stamp for each name.
 * A backend that offers a ledger honours `ifCurrent` in its `set`.
 * @example
 * ```ts
 * import { type Ledger, memoryLedger } from 'corral'
 *
 * export const ledger: Ledger = memoryLedger()
 * ```
 */
export interface Ledger {
  /** Whether other processes use the same ledger. Its regions then need names. */
  readonly shared: boolean
  /** Binds the ledger to one clock. A chain calls it once, when the chain is built. */
  open(clock: string): OpenLedger
}

/** A ledger bound to one clock. */
export interface OpenLedger {
  /**
   * The clock under the name that the store knows. A layer around a ledger copies it, with `storeNames`, from the ledger
   * below: a write condition under another clock would be checked against no invalidation at all.
   */
  readonly storeClock: string
  /** The names as the store knows them; absent where the store uses them unchanged. */
  storeNames?(names: readonly string[]): readonly string[]
  /** The clock's time, where reading it costs no round trip. It spares most reads a look at their names. */
  time?(): LedgerTime | undefined
  /** Clock and stamps; in the same round trip as the reads of the same tick where the store can. */
  read(names: readonly string[]): MaybePromise<LedgerReading>
  /** The time before a creation. Creates the clock and the stamps that are absent. */
  now(names: readonly string[]): MaybePromise<LedgerTime>
  /**
   * Stamps the names: one small write, however many entries depend on them.
   * @param transaction - its marks at these names go in the same step
   */
  invalidate(names: readonly string[], mode: InvalidationMode, transaction?: string): MaybePromise<void>
  /**
   * Marks names that a transaction is about to change: invalidates them, and judges every value created from them as if they
   * were invalidated again, until each transaction (a text without spaces) that marked them has ended its mark by `invalidate`. The mark of a process
   * that died ends by itself. Resolves with its life in ms. Absent where marks cannot be kept, or are switched off.
   *
   * Two rules carry it, and the verdict on a snapshot stays the same. A marked name is stamped with the time at which the
   * mark ends, which no creation can have begun after. And while a mark lives, `now` returns a time just before the
   * clock's, which is later than every other stamp: so no snapshot taken meanwhile finds the clock unmoved, which would spare it
   * the look at its stamps. A store needs no such time that marks the names before it moves its clock, if each of its
   * writes looks at all stamps, and at the clock once more after it has found one absent.
   */
  pending?:
    | ((names: readonly string[], mode: InvalidationMode, transaction: string) => MaybePromise<number>)
    | undefined
  /** Judges a snapshot some of whose stamps are absent, where the store can prove that no invalidation was lost. */
  restore?(snapshot: DependencySnapshot): MaybePromise<Freshness>
  /**
   * The latest changes in the store, of names under this clock and of keys, as this process knows them. Needed for a near cache.
   * @throws CorralError `ERR_CHAIN` with the reason, if the store cannot tell them.
   */
  tail?: (() => LedgerTail) | undefined
}

/** A condition of a write, in the store's own names: store only if the snapshot is current. */
export interface WriteCondition {
  readonly clock: string
  readonly snapshot: DependencySnapshot
}

/** A question about a ledger that goes along with another operation, in the store's own names. */
export interface LedgerQuestion {
  readonly clock: string
  /** Names whose absent stamps are created, as `now` creates them. */
  readonly names: readonly string[]
  /** Names whose stamps are read, as `read` reads them. */
  readonly expected: readonly string[]
}

/** A snapshot as the condition of a write. */
export function conditionOf(opened: OpenLedger, { epoch, groups }: DependencySnapshot): WriteCondition {
  return {
    clock: opened.storeClock,
    snapshot: { epoch, groups: groups.map(({ asOf, names }) => ({ asOf, names: inStore(opened, names) })) },
  }
}

/** Names as the store knows them. */
export function inStore(opened: OpenLedger, names: readonly string[]): readonly string[] {
  return opened.storeNames?.(names) ?? names
}

/**
 * An opened ledger whose members need no receiver, so that a layer may spread it: a store's own may be a class. It gets frozen
 * lists: one that sorts its names must not change those of an entry.
 */
export function bindLedger(opened: OpenLedger): OpenLedger {
  const { storeNames, time, restore, pending, tail } = opened
  return {
    storeClock: opened.storeClock,
    read: (names) => native(opened.read(frozenCopy(names))),
    now: (names) => native(opened.now(names && frozenCopy(names))),
    invalidate: (names, mode, transaction) => native(opened.invalidate(frozenCopy(names), mode, transaction)),
    ...(storeNames !== undefined && { storeNames: storeNames.bind(opened) }),
    ...(time !== undefined && { time: time.bind(opened) }),
    ...(restore !== undefined && { restore: (snapshot) => native(restore.call(opened, snapshot)) }),
    ...(pending !== undefined && {
      pending: (names, ...marked) => native(pending.call(opened, frozenCopy(names), ...marked)),
    }),
    ...(tail !== undefined && { tail: tail.bind(opened) }),
  }
}

/** Judges a snapshot by a reading of the ledger that has its stamps in the order of `namesOf`. */
export function freshnessAt(snapshot: DependencySnapshot, reading: LedgerReading): Freshness {
  const { now, stamps } = reading
  if (now === undefined || now.epoch !== snapshot.epoch) return 'invalid'
  let verdict: Freshness = 'fresh'
  let position = 0
  for (const { asOf, names } of snapshot.groups) {
    // A time ahead of the clock is none that the ledger gave. No invalidation would be newer than it.
    if (asOf > now.at) return 'invalid'
    // The clock stands where it stood before the group was created, so nothing is missing that is not there. A stamp may still be
    // ahead of it: that of a mark, whose clock was lost.
    const stands = asOf === now.at
    for (let i = 0; i < names.length; i++) {
      const stamp = stamps[position++]
      if (stamp === undefined) {
        if (stands) continue
        return 'invalid'
      }
      if (stamp.hard > asOf) return 'invalid'
      if (stamp.soft > asOf) verdict = 'stale'
    }
  }
  return verdict
}

/** Whether the ledger invalidated nothing at all since the snapshot was taken. */
export function isUnmoved({ epoch, groups }: DependencySnapshot, now: LedgerTime | undefined): boolean {
  if (now === undefined || epoch !== now.epoch) return false
  for (let i = 0; i < groups.length; i++)
    if ((groups[i] as { readonly asOf: number }).asOf !== now.at) return false
  return true
}
