import { mapLazily } from '../../../src/base/maybe-promise.js'
import type { LedgerReading } from '../../../src/ledger/ledger.js'
import type { LedgerTime } from '../../../src/ledger/snapshot.js'
import { clockKeys, stampKeys } from '../format.js'
import type { Reads } from './read-batcher.js'

/** Reads clock and stamps by the tick's `MGET`. */
export type ReadLedger = (clock: string, names: readonly string[]) => Promise<LedgerReading>

/** Reads joined with those of entries. Name lists are mapped once, by identity: they come again and again, with one clock. */
export function ledgerReader(reads: Reads): ReadLedger {
  const stamps = new WeakMap<
    readonly string[],
    { readonly clock: string; readonly keys: readonly string[] }
  >()
  const keyOf = clockKeyOf()
  return (clock, names) => {
    let list = stamps.get(names)
    if (list?.clock !== clock) stamps.set(names, (list = { clock, keys: stampKeys(clock, names) }))
    return reads.readLedger(keyOf(clock), list.keys)
  }
}

/** A chain asks for the same clock on every hit. */
function clockKeyOf(): (clock: string) => string {
  let last: string | undefined
  let key = ''
  return (clock) => {
    if (clock !== last) {
      key = clockKeys(clock).clock
      last = clock
    }
    return key
  }
}

const NONE: readonly string[] = []

/** Batches in which the clock must have stood still before stamps are left out. */
const STILL = 32

interface Pace {
  /** Where the clock was seen last. */
  now: LedgerTime | undefined
  /** Batches that asked for it since it was seen to move. */
  batches: number
  latest: Promise<LedgerReading> | undefined
}

/**
 * Reads that leave out the stamps which are known already. Every invalidation moves the clock in the same step, and a
 * clock and its stamps are read in one: while the clock is where it was, so are the stamps. The first read after it moved
 * asks for them in a second round trip; where it moves often they are asked for at once.
 */
export function cachingLedgerReader(reads: Reads): ReadLedger {
  const lists = new WeakMap<
    readonly string[],
    { readonly clock: string; readonly keys: readonly string[]; seen: LedgerReading | undefined }
  >()
  const paces = new Map<string, Pace>()
  const keyOf = clockKeyOf()
  let lastKey: string | undefined
  let pace: Pace = { now: undefined, batches: 0, latest: undefined }

  return (clock, names) => {
    const key = keyOf(clock)
    if (key !== lastKey) {
      pace = paces.get(key) ?? { now: undefined, batches: 0, latest: undefined }
      paces.set(key, pace)
      lastKey = key
    }
    let list = lists.get(names)
    if (list?.clock !== clock)
      lists.set(names, (list = { clock, keys: stampKeys(clock, names), seen: undefined }))
    const [at, known] = [pace, list]
    const ticking = reads.readLedger(key, NONE)
    if (ticking !== at.latest) {
      at.latest = ticking
      at.batches++
    }
    const look = () =>
      mapLazily(reads.readLedger(key, known.keys), (reading) => {
        see(at, reading.now)
        // An absent stamp may be put back without moving the clock.
        known.seen = reading.now === undefined || reading.stamps.includes(undefined) ? undefined : reading
        return reading
      })
    const { seen } = known
    if (seen === undefined || at.batches < STILL || !same(seen.now, at.now))
      return look() as Promise<LedgerReading>
    return mapLazily(ticking, ({ now }) => {
      see(at, now)
      return same(seen.now, now) ? seen : look()
    }) as Promise<LedgerReading>
  }
}

function see(pace: Pace, now: LedgerTime | undefined): void {
  if (same(pace.now, now)) return
  pace.now = now
  pace.batches = 0
}

function same(one: LedgerTime | undefined, other: LedgerTime | undefined): boolean {
  return one === other || (one?.at === other?.at && one?.epoch === other?.epoch)
}
