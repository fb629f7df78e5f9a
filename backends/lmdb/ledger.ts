import { epochNow } from '../../src/base/timers.js'
import {
  type Freshness,
  freshnessAt,
  type InvalidationMode,
  type Ledger,
  type OpenLedger,
  type Stamp,
  type WriteCondition,
} from '../../src/ledger/ledger.js'
import { namesOf } from '../../src/ledger/snapshot.js'
import type { Change, Plan, ReadRecord, RecordVersion, Store } from './client/store.js'
import { clockKeys, encodeStamp, moveClock, readClock, readStamp } from './clock-records.js'
import { stampKey } from './format.js'
import { fileTail } from './tail.js'

/** The freshness of a snapshot, with the records that it rests on: a write can depend on them. */
export interface RecordedFreshness {
  readonly freshness: Freshness
  readonly records: readonly RecordVersion[]
}

/**
 * Clocks and stamps in the file. Only invalidated names have a stamp; all others stand at the clock's floor, which rises
 * when stamps are dropped. The clock is hybrid: microseconds of the day, never backwards.
 */
export function fileLedger(store: Store): Ledger {
  const invalidate = batchedInvalidations((clock, batch) =>
    store.transact(clockSubject(clock), (read) => planStamps(read, clock, batch)),
  )
  const tail = fileTail(store)
  return {
    shared: true,
    open(clock): OpenLedger {
      const keys = clockKeys(clock)
      const time = () => store.snapshot((read) => readClock(read, keys)).now
      return {
        storeClock: clock,
        time,
        read: (names) =>
          store.snapshot((read) => {
            const { now, floor } = readClock(read, keys)
            return { now, stamps: names.map((name) => now && readStamp(read, clock, name, floor).stamp) }
          }),
        now: () =>
          time() ??
          store.transact(clockSubject(clock), (read) => {
            const found = readClock(read, keys)
            if (found.now !== undefined) return { result: found.now }
            const { now, changes } = moveClock(found, nextTime())
            return { result: now, conditions: [found.record, found.anchor], changes }
          }),
        invalidate: (names, mode) => invalidate(clock, names, mode),
        tail: () => tail,
      }
    },
  }
}

/**
 * Up to so many names are conditions of a write each, since lmdb nests its conditions. For more of them the clock is
 * the condition, and the write is repeated when it moves.
 */
const MAX_NAME_CONDITIONS = 256

/** Judges the condition of a write in the write's own snapshot. */
export function freshnessIn(read: ReadRecord, { clock, snapshot }: WriteCondition): RecordedFreshness {
  const { record, anchor, now, floor } = readClock(read, clockKeys(clock))
  const found = namesOf(snapshot).map((name) => readStamp(read, clock, name, floor))
  const freshness = freshnessAt(snapshot, { now, stamps: found.map(({ stamp }) => stamp) })
  if (freshness !== 'fresh') return { freshness, records: [] }
  if (found.length > MAX_NAME_CONDITIONS) return { freshness, records: [anchor, record] }
  // Not the clock itself: it moves with every invalidation of any name.
  return { freshness, records: [anchor, ...found.map((stamp) => stamp.record)] }
}

function clockSubject(clock: string): string {
  return `clock ${clock}`
}

function nextTime(at = 0): number {
  return Math.max(at + 1, epochNow() * 1000)
}

/** An invalidation that waits for the transaction before it; all that wait are written together. */
interface Invalidation {
  readonly names: readonly string[]
  readonly mode: InvalidationMode
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

/** Moves the clock and stamps all names of a batch at its new time. */
function planStamps(read: ReadRecord, clock: string, batch: readonly Invalidation[]): Plan<void> {
  const before = readClock(read, clockKeys(clock))
  const { now, changes } = moveClock(before, nextTime(before.now?.at))
  const stamps = new Map<string, Stamp>()
  for (const { names, mode } of batch)
    for (const name of names) {
      const { hard, soft } = stamps.get(name) ?? readStamp(read, clock, name, before.floor).stamp
      stamps.set(name, mode === 'hard' ? { hard: now.at, soft } : { hard, soft: now.at })
    }
  const stamped = [...stamps].map(([name, stamp]): Change => [stampKey(clock, name), encodeStamp(stamp)])
  return {
    result: undefined,
    // Every stamp is written together with its clock, so the clock's version stands for all of them.
    conditions: [before.record, before.anchor],
    changes: [...changes, ...stamped],
    durably: true,
  }
}

/** Writes the invalidations of a clock one batch at a time. */
function batchedInvalidations(
  write: (clock: string, batch: readonly Invalidation[]) => Promise<void>,
): (clock: string, names: readonly string[], mode: InvalidationMode) => Promise<void> {
  const waiting = new Map<string, Invalidation[]>()
  const writeAll = async (clock: string): Promise<void> => {
    for (;;) {
      const batch = waiting.get(clock) ?? []
      if (batch.length === 0) return void waiting.delete(clock)
      waiting.set(clock, [])
      try {
        await write(clock, batch)
        for (const { resolve } of batch) resolve()
      } catch (error) {
        for (const { reject } of batch) reject(error)
      }
    }
  }
  return (clock, names, mode) =>
    new Promise<void>((resolve, reject) => {
      const invalidation = { names, mode, resolve, reject }
      const batch = waiting.get(clock)
      if (batch !== undefined) return void batch.push(invalidation)
      waiting.set(clock, [invalidation])
      void writeAll(clock)
    })
}
