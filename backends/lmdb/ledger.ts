import type { ClockedLedger } from '../../src/ledger/clocked-ledger.js'
import { type Freshness, freshnessAt, type InvalidationMode, type Stamp } from '../../src/ledger/ledger.js'
import type { DependencySnapshot } from '../../src/ledger/snapshot.js'
import { namesOf } from '../../src/ledger/snapshot.js'
import type { Change, Plan, ReadRecord, RecordVersion, Store } from './client/store.js'
import { clockReader, encodeStamp, moveClock, readStamp } from './clock-records.js'
import { stampKey } from './format.js'

/** The freshness of a snapshot, with the records that it rests on: a write can depend on them. */
export interface RecordedFreshness {
  readonly freshness: Freshness
  readonly records: readonly RecordVersion[]
}

export interface FileLedger extends ClockedLedger {
  freshnessIn(read: ReadRecord, clock: string, snapshot: DependencySnapshot): RecordedFreshness
}

/**
 * Up to so many names are conditions of a write each, since lmdb nests its conditions. For more of them the clock is
 * the condition, and the write is repeated when it moves.
 */
const MAX_NAME_CONDITIONS = 256

/** An invalidation that waits for the transaction before it; all that wait are written together. */
interface Invalidation {
  readonly names: readonly string[]
  readonly mode: InvalidationMode
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

/**
 * Clocks and stamps in the file. Only invalidated names have a stamp; all others stand at the clock's floor, which rises
 * when stamps are dropped. The clock is hybrid: microseconds of the day, never backwards.
 */
export function fileLedger(store: Store): FileLedger {
  const readClock = clockReader()

  const freshnessOf = (read: ReadRecord, clock: string, snapshot: DependencySnapshot): Freshness => {
    const { now, floor } = readClock(read, clock)
    if (now === undefined || now.epoch !== snapshot.epoch) return 'invalid'
    if (snapshot.groups.every(({ asOf }) => now.at <= asOf)) return 'fresh'
    return freshnessAt(snapshot, {
      now,
      stamps: namesOf(snapshot).map((name) => readStamp(read, clock, name, floor).stamp),
    })
  }

  return {
    shared: true,
    read: (clock, names) =>
      store.snapshot((read) => {
        const { now, floor } = readClock(read, clock)
        if (now === undefined) return { now, stamps: names.map(() => undefined) }
        return { now, stamps: names.map((name) => readStamp(read, clock, name, floor).stamp) }
      }),
    now(clock) {
      const { now } = store.snapshot((read) => readClock(read, clock))
      if (now !== undefined) return now
      return store.transact(clockSubject(clock), (read) => {
        const found = readClock(read, clock)
        if (found.now !== undefined) return { result: found.now }
        const { now: started, changes } = moveClock(found, nextTime())
        return { result: started, conditions: [found.record, found.anchor], changes }
      })
    },
    judge: (clock, snapshot) => store.snapshot((read) => freshnessOf(read, clock, snapshot)),
    freshnessIn(read, clock, snapshot) {
      const freshness = freshnessOf(read, clock, snapshot)
      if (freshness !== 'fresh') return { freshness, records: [] }
      const { record, anchor, floor } = readClock(read, clock)
      const names = namesOf(snapshot)
      if (names.length > MAX_NAME_CONDITIONS) return { freshness, records: [anchor, record] }
      // Not the clock itself: it moves with every invalidation of any name.
      const stamps = names.map((name) => readStamp(read, clock, name, floor).record)
      return { freshness, records: [anchor, ...stamps] }
    },
    invalidate: batchedInvalidations((clock, batch) =>
      store.transact(clockSubject(clock), (read) => planStamps(read, readClock, clock, batch)),
    ),
  }
}

type ReadClock = ReturnType<typeof clockReader>

function clockSubject(clock: string): string {
  return `clock ${clock}`
}

function nextTime(at = 0): number {
  return Math.max(at + 1, Date.now() * 1000)
}

/** Moves the clock and stamps all names of a batch at its new time. */
function planStamps(
  read: ReadRecord,
  readClock: ReadClock,
  clock: string,
  batch: readonly Invalidation[],
): Plan<void> {
  const before = readClock(read, clock)
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
): ClockedLedger['invalidate'] {
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
