import type { DependencySnapshot } from '../../src/backend/cached-value.js'
import {
  type Freshness,
  freshnessAt,
  type InvalidationMode,
  type Ledger,
  namesOf,
  type Stamp,
} from '../../src/ledger/ledger.js'
import type { Change, Seen, Store } from './client/store.js'
import { clockReader, moved, type Reader, readStamp, stampRecord } from './clock-record.js'
import { stampKey } from './format.js'

/** What an entry was made from, judged, with the records that the judgement rests on. */
export interface Verdict {
  readonly freshness: Freshness
  readonly seen: readonly Seen[]
}

export interface FileLedger extends Ledger {
  /** Judges within a snapshot, so that a write can depend on the verdict. */
  examine(look: Reader, clock: string, snapshot: DependencySnapshot): Verdict
}

/** So many names are conditions of a write each; more are represented by their clock, and the write is tried again when it moves. */
const CONDITIONS = 256

/** Invalidations that come while one is being written go together into the next. */
interface Order {
  readonly names: readonly string[]
  readonly mode: InvalidationMode
  readonly done: () => void
  readonly failed: (error: unknown) => void
}

/**
 * Clocks and stamps in the file. Only names that were invalidated have a stamp; all others stand at the clock's floor,
 * which rises when stamps are dropped. The clock is hybrid: microseconds of the day, never backwards.
 */
export function fileLedger(store: Store): FileLedger {
  const readClock = clockReader()
  const next = (at = 0): number => Math.max(at + 1, Date.now() * 1000)

  const judge = (look: Reader, clock: string, snapshot: DependencySnapshot): Freshness => {
    const { now, floor } = readClock(look, clock)
    if (now === undefined || now.epoch !== snapshot.epoch) return 'invalid'
    if (snapshot.groups.every(({ asOf }) => now.at <= asOf)) return 'fresh'
    return freshnessAt(snapshot, {
      now,
      stamps: namesOf(snapshot).map((name) => readStamp(look, clock, name, floor).stamp),
    })
  }

  const stampAll = (clock: string, batch: readonly Order[]): Promise<void> =>
    store.inTurn(`clock ${clock}`, async (attempt) => {
      for (;;) {
        attempt()
        const { seen, changes } = store.snapshot((look) => {
          const before = readClock(look, clock)
          const at = next(before.now?.at)
          const stamps = new Map<string, Stamp>()
          for (const { names, mode } of batch)
            for (const name of names) {
              const { hard, soft } = stamps.get(name) ?? readStamp(look, clock, name, before.floor).stamp
              stamps.set(name, mode === 'hard' ? { hard: at, soft } : { hard, soft: at })
            }
          const changes: Change[] = [...moved(before, at)]
          for (const [name, stamp] of stamps) changes.push([stampKey(clock, name), stampRecord(stamp)])
          // Every stamp is written together with its clock, so the clock's version stands for all of them.
          return { seen: [before.seen, before.anchor], changes }
        })
        if (await store.commit(seen, changes, true)) return
      }
    })

  const orders = new Map<string, Order[]>()
  const work = async (clock: string): Promise<void> => {
    for (;;) {
      const batch = orders.get(clock) ?? []
      if (batch.length === 0) {
        orders.delete(clock)
        return
      }
      orders.set(clock, [])
      try {
        await stampAll(clock, batch)
        for (const { done } of batch) done()
      } catch (error) {
        for (const { failed } of batch) failed(error)
      }
    }
  }

  return {
    shared: true,
    read: (clock, names) =>
      store.snapshot((look) => {
        const { now, floor } = readClock(look, clock)
        if (now === undefined) return { now, stamps: names.map(() => undefined) }
        return { now, stamps: names.map((name) => readStamp(look, clock, name, floor).stamp) }
      }),
    now(clock) {
      const { now } = store.snapshot((look) => readClock(look, clock))
      if (now !== undefined) return now
      return store.inTurn(`clock ${clock}`, async (attempt) => {
        for (;;) {
          attempt()
          const before = store.snapshot((look) => readClock(look, clock))
          if (before.now !== undefined) return before.now
          // The next look finds it, whoever was first.
          await store.commit([before.seen, before.anchor], moved(before, next()))
        }
      })
    },
    judge: (clock, snapshot) => store.snapshot((look) => judge(look, clock, snapshot)),
    examine(look, clock, snapshot) {
      const freshness = judge(look, clock, snapshot)
      if (freshness !== 'fresh') return { freshness, seen: [] }
      const { seen, anchor, floor } = readClock(look, clock)
      const names = namesOf(snapshot)
      // lmdb nests its conditions, so there cannot be any number of them.
      if (names.length > CONDITIONS) return { freshness, seen: [anchor, seen] }
      // Not the clock itself: it moves with every invalidation of anything.
      const stamps = names.map((name) => readStamp(look, clock, name, floor).seen)
      return { freshness, seen: [anchor, ...stamps] }
    },
    invalidate: (clock, names, mode) =>
      new Promise<void>((done, failed) => {
        const order = { names, mode, done, failed }
        const waiting = orders.get(clock)
        if (waiting !== undefined) {
          waiting.push(order)
          return
        }
        orders.set(clock, [order])
        void work(clock)
      }),
  }
}
