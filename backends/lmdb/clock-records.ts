import type { Pause } from '../../src/base/clock.js'
import type { InvalidationMode, Stamp } from '../../src/ledger/ledger.js'
import { type LedgerTime, newEpoch } from '../../src/ledger/snapshot.js'
import type { Change, ReadRecord, RecordVersion } from './client/store.js'
import { clockOf, encodeNumbers, newVersion, stampKey, TAG, taggedKey } from './format.js'

/** A clock in a snapshot. Without `now` it was never started, or is lost. */
export interface ClockRecord {
  /** Changes with every invalidation. */
  readonly record: RecordVersion
  /** Changes with the floor and the epoch only, so that a fill can depend on it. */
  readonly anchor: RecordVersion
  readonly now?: LedgerTime
  /** The stamp of every name that has none. */
  readonly floor: number
}

export interface StampRecord {
  readonly record: RecordVersion
  readonly stamp: Stamp
}

const EPOCH_AT = 32

/** The records of a clock, with the epoch that was read last: it hardly changes, and every hit needs it. */
export interface ClockKeys {
  readonly key: Buffer
  readonly anchorKey: Buffer
  anchor: number
  epoch: string
}

export function clockKeys(clock: string): ClockKeys {
  return keysOf(taggedKey(TAG.clock, clock))
}

/** From the key of a clock's record, whose text may be digested. */
export function keysOf(key: Buffer): ClockKeys {
  return { key, anchorKey: clockOf(key, TAG.anchor), anchor: -1, epoch: '' }
}

export function readClock(read: ReadRecord, known: ClockKeys): ClockRecord {
  const { key, anchorKey } = known
  let at = 0
  let floor = 0
  let version: number | undefined
  const record = read(key, (bytes) => {
    at = bytes.readDoubleLE(8)
    floor = bytes.readDoubleLE(16)
    version = bytes.readDoubleLE(24)
    if (known.anchor === version) return
    known.anchor = version
    known.epoch = bytes.toString('latin1', EPOCH_AT, bytes.length)
  })
  if (version === undefined) return { record, anchor: read(anchorKey), floor }
  return { record, anchor: { key: anchorKey, version }, now: { epoch: known.epoch, at }, floor }
}

export function readStamp(read: ReadRecord, clock: string, name: string, floor: number): StampRecord {
  let stamp: Stamp = { hard: floor, soft: floor }
  const record = read(stampKey(clock, name), (bytes) => {
    stamp = { hard: Math.max(floor, bytes.readDoubleLE(8)), soft: Math.max(floor, bytes.readDoubleLE(16)) }
  })
  return { record, stamp }
}

/** Moves a clock to `at`, or starts it there in a new epoch. */
export function moveClock(
  { record, anchor, now, floor }: ClockRecord,
  at: number,
): { readonly now: LedgerTime; readonly changes: readonly Change[] } {
  if (now === undefined) {
    const started = { epoch: newEpoch(), at }
    return { now: started, changes: anchorClock(record, anchor, started, floor) }
  }
  const moved = { epoch: now.epoch, at }
  return { now: moved, changes: [[record.key, encodeClock(moved, floor, anchor.version ?? 0)]] }
}

/** Writes a clock together with a new anchor: its floor or its epoch changes. */
export function anchorClock(
  record: RecordVersion,
  anchor: RecordVersion,
  now: LedgerTime,
  floor: number,
): readonly Change[] {
  const version = newVersion()
  return [
    [anchor.key, encodeNumbers(version)],
    [record.key, encodeClock(now, floor, version)],
  ]
}

function encodeClock({ epoch, at }: LedgerTime, floor: number, anchor: number): Buffer {
  return Buffer.concat([encodeNumbers(newVersion(), at, floor, anchor), Buffer.from(epoch, 'latin1')])
}

/** A mark that a transaction left, at a name or in the list of a clock's. */
export interface Mark {
  readonly mode: InvalidationMode
  /** A time of the clock. */
  readonly end: number
  /** A number drawn from its name. */
  readonly transaction: number
}

/** A mark in the list of a clock. */
export interface ListedMark extends Mark {
  /** By the machine's clock. */
  readonly life: Pause
}

/** A stamp with its marks: `own` is the stamp without them. */
export interface MarkedStamp {
  readonly own: Stamp
  readonly marks: readonly Mark[]
}

/** Numbers of a stamp's record before those of its marks, of a mark, and of one in the list. */
const HEAD = 5
const MARK = 3
const LISTED = 5

export function readMarkedStamp(read: ReadRecord, clock: string, name: string, floor: number): MarkedStamp {
  let found: MarkedStamp = { own: { hard: floor, soft: floor }, marks: [] }
  read(stampKey(clock, name), (bytes) => {
    const isMarked = bytes.length > HEAD * 8
    const at = isMarked ? 24 : 8
    const own = {
      hard: Math.max(floor, bytes.readDoubleLE(at)),
      soft: Math.max(floor, bytes.readDoubleLE(at + 8)),
    }
    found = { own, marks: isMarked ? rowsOf(bytes, HEAD, MARK).map(markOf) : [] }
  })
  return found
}

/** Readers find the ends of the marks in the stamp itself. */
export function encodeStamp({ own, marks }: MarkedStamp): Buffer {
  const latest = (mode: InvalidationMode) =>
    Math.max(own[mode], ...marks.filter((mark) => mark.mode === mode).map(({ end }) => end))
  const stamp = [newVersion(), latest('hard'), latest('soft')]
  if (marks.length === 0) return encodeNumbers(...stamp)
  return encodeNumbers(...stamp, own.hard, own.soft, ...marks.flatMap(numbersOf))
}

/** The marks of a clock's transactions, and their record. */
export function readMarks(
  read: ReadRecord,
  { key }: ClockKeys,
): { readonly record: RecordVersion; readonly marks: readonly ListedMark[] } {
  let marks: readonly ListedMark[] = []
  const record = read(clockOf(key, TAG.marks), (bytes) => {
    marks = listedMarks(bytes)
  })
  return { record, marks }
}

export function encodeMarks({ key }: RecordVersion, marks: readonly ListedMark[]): Change {
  const numbers = marks.flatMap((mark) => [...numbersOf(mark), mark.life.since, mark.life.ms])
  return marks.length === 0 ? [key] : [key, encodeNumbers(newVersion(), ...numbers)]
}

function numbersOf({ mode, end, transaction }: Mark): readonly number[] {
  return [mode === 'hard' ? 1 : 0, end, transaction]
}

function markOf([mode, end, transaction]: readonly number[]): Mark {
  return { mode: mode === 1 ? 'hard' : 'soft', end: end as number, transaction: transaction as number }
}

/** The marks in a record of `readMarks`. */
export function listedMarks(record: Buffer): readonly ListedMark[] {
  return rowsOf(record, 1, LISTED).map((row) => {
    const [since, ms] = row.slice(MARK) as [number, number]
    return { ...markOf(row), life: { since, ms } }
  })
}

/** The numbers of a record behind the first ones, in rows of a width. */
function rowsOf(bytes: Buffer, from: number, width: number): readonly (readonly number[])[] {
  const rows: number[][] = []
  for (let at = from * 8; at + width * 8 <= bytes.length; at += width * 8)
    rows.push(Array.from({ length: width }, (_, i) => bytes.readDoubleLE(at + i * 8)))
  return rows
}

/** The later of the two times in a stamp's record. */
export function latestInvalidation(record: Buffer): number {
  return Math.max(record.readDoubleLE(8), record.readDoubleLE(16))
}
