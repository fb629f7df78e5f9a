import { type MaybePromise, mapLazily } from '../../../src/base/maybe-promise.js'
import type { LedgerReading } from '../../../src/ledger/ledger.js'
import type { LedgerTime } from '../../../src/ledger/snapshot.js'
import { clockKeys, stampKeys } from '../format.js'
import type { Reads } from './read-batcher.js'

/** Reads a clock and stamps by the tick's `MGET`. Lists of names are mapped once, by identity: they recur. */
export type ReadLedger = (names: readonly string[]) => Promise<LedgerReading>

export function ledgerReader(reads: Reads, clock: string): ReadLedger {
  const lists = new WeakMap<readonly string[], readonly string[]>()
  const key = clockKeys(clock).clock
  return (names) => {
    let stamps = lists.get(names)
    if (stamps === undefined) lists.set(names, (stamps = stampKeys(clock, names)))
    return reads.readLedger(key, stamps)
  }
}

/** Batches in which the clock must have stood still before stamps are left out. */
const STILL = 32

interface KnownList {
  readonly names: readonly string[]
  readonly keys: readonly string[]
  seen: LedgerReading | undefined
  /** The batch of the latest read, and the result that all reads with it share. */
  batch: Promise<LedgerReading> | undefined
  result: MaybePromise<LedgerReading> | undefined
}

/**
 * A reader that leaves out the stamps which are known already. Every invalidation moves the clock in the same step, and a
 * clock and its stamps are read in one: while the clock is where it was, so are the stamps. The first read after it moved
 * asks for them in a second round trip; where it moves often they are asked for at once.
 */
export function cachingLedgerReader(reads: Reads, clock: string): ReadLedger {
  const lists = new WeakMap<readonly string[], KnownList>()
  const key = clockKeys(clock).clock
  const none: readonly string[] = []
  /** Where the clock was seen last. */
  let latest: LedgerTime | undefined
  /** Batches that asked for the clock since it was seen to move. */
  let batches = 0
  let latestBatch: Promise<LedgerReading> | undefined

  const see = (now: LedgerTime | undefined) => {
    if (isSame(latest, now)) return
    latest = now
    batches = 0
  }
  const readAll = (list: KnownList) =>
    mapLazily(reads.readLedger(key, list.keys), (reading) => {
      see(reading.now)
      // An absent stamp may be put back without moving the clock.
      list.seen = reading.now === undefined || reading.stamps.includes(undefined) ? undefined : reading
      return reading
    })
  const read = (known: KnownList, ticking: Promise<LedgerReading>) => {
    const { seen } = known
    if (seen === undefined || batches < STILL || !isSame(seen.now, latest)) return readAll(known)
    return mapLazily(ticking, ({ now }) => {
      see(now)
      return isSame(seen.now, now) ? seen : readAll(known)
    })
  }
  const listOf = (names: readonly string[]): KnownList => {
    const found = lists.get(names)
    if (found !== undefined) return found
    const list = {
      names,
      keys: stampKeys(clock, names),
      seen: undefined,
      batch: undefined,
      result: undefined,
    }
    lists.set(names, list)
    return list
  }
  /** The list of the latest read: most reads of a region have the same. */
  let recent: KnownList | undefined
  return (names) => {
    const known = recent?.names === names ? recent : listOf(names)
    recent = known
    const ticking = reads.readLedger(key, none)
    if (ticking !== latestBatch) {
      latestBatch = ticking
      batches++
    }
    if (known.batch !== ticking) {
      known.result = read(known, ticking)
      known.batch = ticking
    }
    return known.result as Promise<LedgerReading>
  }
}

function isSame(one: LedgerTime | undefined, other: LedgerTime | undefined): boolean {
  return one === other || (one?.at === other?.at && one?.epoch === other?.epoch)
}
