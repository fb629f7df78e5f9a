import { createHash } from 'node:crypto'
import { epochNow } from '../../src/base/timers.js'
import {
  type Freshness,
  freshnessAt,
  type InvalidationMode,
  type Ledger,
  type OpenLedger,
  type WriteCondition,
} from '../../src/ledger/ledger.js'
import { type LedgerTime, namesOf } from '../../src/ledger/snapshot.js'
import { machineNow } from './client/machine-clock.js'
import type { Change, Plan, ReadRecord, RecordVersion, Store } from './client/store.js'
import {
  type ClockKeys,
  clockKeys,
  encodeMarks,
  encodeStamp,
  type ListedMark,
  type Mark,
  type MarkedStamp,
  moveClock,
  readClock,
  readMarkedStamp,
  readMarks,
  readStamp,
} from './clock-records.js'
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
export function fileLedger(store: Store, pendingFor: number, recordHit: (key: string) => void): Ledger {
  const invalidate = batchedInvalidations((clock, batch) =>
    store.transact(clockSubject(clock), (read) => planStamps(read, clock, batch)),
  )
  const tail = fileTail(store, recordHit)
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
          store.snapshot((read) => startIn(read, keys)) ??
          store.transact(clockSubject(clock), (read) => planStart(read, keys)),
        invalidate: (names, mode, transaction = '') => invalidate(clock, { names, mode, transaction, ms: 0 }),
        ...(pendingFor > 0 && {
          pending: async (names: readonly string[], mode: InvalidationMode, transaction: string) => {
            await invalidate(clock, { names, mode, transaction, ms: pendingFor })
            return pendingFor
          },
        }),
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

/** The clock is one ahead of the stamps: the time between is that of creations that begin while a mark lives. */
function nextTime(at = 0): number {
  return Math.max(at + 2, epochNow() * 1000)
}

/** ms that a mark has left. By the machine's clock: setting the time of day ends no transaction. */
function timeLeft({ life: { since, ms } }: ListedMark): number {
  const age = machineNow() - since
  // The machine has booted since the mark was set, so the process of its transaction is gone.
  return age < 0 ? 0 : ms - age
}

const isLive = (mark: ListedMark): boolean => timeLeft(mark) > 0

/**
 * The marks of a clock that stay, and its next time. While marks live, the clock moves as the machine's does and not by the time of
 * day, so it comes to the end of none of them early. If no mark lives, it moves past the ends of all.
 */
function advance(at: number | undefined, marks: readonly ListedMark[]) {
  const live = marks.filter(isLive)
  if (live.length === 0) return { left: [], next: Math.max(nextTime(at), ...marks.map(({ end }) => end + 2)) }
  const reached = Math.min(...live.map((mark) => mark.end - (timeLeft(mark) + 1) * 1000))
  const next = Math.max((at ?? 0) + 2, reached)
  return { left: marks.filter((mark) => isLive(mark) || mark.end >= next), next }
}

/** The time before a creation that begins now; `undefined` if the clock must be started, or moved past marks that are over. */
function startIn(read: ReadRecord, keys: ClockKeys): LedgerTime | undefined {
  const { now } = readClock(read, keys)
  const { marks } = readMarks(read, keys)
  if (now === undefined || marks.length === 0) return now
  return marks.some(isLive) ? { epoch: now.epoch, at: now.at - 1 } : undefined
}

function planStart(read: ReadRecord, keys: ClockKeys): Plan<LedgerTime> {
  const start = startIn(read, keys)
  if (start !== undefined) return { result: start }
  const found = readClock(read, keys)
  const { record, marks } = readMarks(read, keys)
  const { left, next } = advance(found.now?.at, marks)
  const { now, changes } = moveClock(found, next)
  const isSame = left.length === marks.length
  return {
    result: left.length === 0 ? now : { epoch: now.epoch, at: now.at - 1 },
    conditions: [found.record, found.anchor, record],
    changes: [...changes, ...(isSame ? [] : [encodeMarks(record, left)])],
  }
}

/** The changes of one invalidation or mark. */
interface Stamping {
  readonly names: readonly string[]
  readonly mode: InvalidationMode
  /** '': none. */
  readonly transaction: string
  /** For which it marks the names; 0: its marks end. */
  readonly ms: number
}

/** An invalidation that waits for the transaction before it; all that wait are written together. */
interface Invalidation extends Stamping {
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

/** Moves the clock and stamps all names of a batch at its new time. */
function planStamps(read: ReadRecord, clock: string, batch: readonly Invalidation[]): Plan<void> {
  const keys = clockKeys(clock)
  const before = readClock(read, keys)
  const { record, marks } = readMarks(read, keys)
  const { left: living, next } = advance(before.now?.at, marks)
  const { now, changes } = moveClock(before, next)
  const at = now.at - 1
  const stamps = new Map<string, MarkedStamp>()
  let left: readonly ListedMark[] = living
  for (const { names, mode, transaction, ms } of batch) {
    const id = transaction === '' ? 0 : numberOf(transaction)
    const mark: ListedMark = {
      mode,
      end: now.at + ms * 1000,
      transaction: id,
      life: { since: machineNow(), ms },
    }
    const others = <M extends Mark>(all: readonly M[]) =>
      all.filter((one) => one.transaction !== id || one.mode !== mode)
    if (id !== 0) left = ms > 0 ? [...others(left), mark] : others(left)
    for (const name of names) {
      const found = stamps.get(name) ?? readMarkedStamp(read, clock, name, before.floor)
      stamps.set(
        name,
        restamped(found, { at, mode, left: others(found.marks), mark: ms > 0 ? mark : undefined }),
      )
    }
  }
  const stamped = [...stamps].map(([name, stamp]): Change => [stampKey(clock, name), encodeStamp(stamp)])
  return {
    result: undefined,
    // Every stamp is written together with its clock, so the clock's version stands for all of them.
    conditions: [before.record, before.anchor, record],
    changes: [...changes, ...stamped, ...(marks.length + left.length > 0 ? [encodeMarks(record, left)] : [])],
    durably: true,
  }
}

interface Restamping {
  readonly at: number
  readonly mode: InvalidationMode
  /** The marks that stay. */
  readonly left: readonly Mark[]
  readonly mark: Mark | undefined
}

/** A stamp after an invalidation. A mark that is over is an invalidation at its end. */
function restamped({ own }: MarkedStamp, { at, mode, left, mark }: Restamping): MarkedStamp {
  const latest = (of: InvalidationMode) => {
    const over = left.filter((one) => one.mode === of && one.end <= at).map(({ end }) => end)
    return Math.max(own[of], ...over, of === mode ? at : 0)
  }
  const live = left.filter(({ end }) => end > at)
  return {
    own: { hard: latest('hard'), soft: latest('soft') },
    marks: mark === undefined ? live : [...live, mark],
  }
}

/** 48 bits of a digest, so that a record is made of numbers. */
function numberOf(transaction: string): number {
  return createHash('sha256').update(transaction).digest().readUIntBE(0, 6)
}

/** Writes the invalidations of a clock one batch at a time. */
function batchedInvalidations(
  write: (clock: string, batch: readonly Invalidation[]) => Promise<void>,
): (clock: string, stamping: Stamping) => Promise<void> {
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
  return (clock, stamping) =>
    new Promise<void>((resolve, reject) => {
      const invalidation = { ...stamping, resolve, reject }
      const batch = waiting.get(clock)
      if (batch !== undefined) return void batch.push(invalidation)
      waiting.set(clock, [invalidation])
      void writeAll(clock)
    })
}
