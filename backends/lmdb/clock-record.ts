import { randomUUID } from 'node:crypto'
import type { LedgerTime } from '../../src/backend/cached-value.js'
import type { Stamp } from '../../src/ledger/ledger.js'
import type { Change, Look, Seen } from './client/store.js'
import { newVersion, stampKey, TAG, taggedKey } from './format.js'

/** Reads within a snapshot. */
export type Reader = (key: Buffer, found?: Look) => Seen

/** A clock as a snapshot shows it. Without `now` it was never begun, or is lost. */
export interface ClockRead {
  /** Its record, which changes with every invalidation. */
  readonly seen: Seen
  /** Its anchor, which changes only when its floor or epoch does: what a fill can depend on. */
  readonly anchor: Seen
  readonly now?: LedgerTime
  /** What an absent stamp stands for. */
  readonly floor: number
}

export interface StampRead {
  readonly seen: Seen
  readonly stamp: Stamp
}

const EPOCH_AT = 32
const CLOCKS = 1000

/** Reads clocks; what hardly changes of them is kept, since every hit reads one. */
export function clockReader(): (look: Reader, clock: string) => ClockRead {
  interface Known {
    readonly key: Buffer
    readonly anchorKey: Buffer
    anchor: number
    epoch: string
  }
  const known = new Map<string, Known>()
  return (look, clock) => {
    let of = known.get(clock)
    if (of === undefined) {
      if (known.size >= CLOCKS) known.clear()
      of = {
        key: taggedKey(TAG.clock, clock),
        anchorKey: taggedKey(TAG.anchor, clock),
        anchor: -1,
        epoch: '',
      }
      known.set(clock, of)
    }
    const { key, anchorKey } = of
    let at = 0
    let floor = 0
    let anchor: number | undefined
    const seen = look(key, (bytes, size) => {
      at = bytes.readDoubleLE(8)
      floor = bytes.readDoubleLE(16)
      anchor = bytes.readDoubleLE(24)
      if (of.anchor === anchor) return
      of.anchor = anchor
      of.epoch = bytes.toString('latin1', EPOCH_AT, size)
    })
    if (anchor === undefined) return { seen, anchor: look(anchorKey), floor }
    return { seen, anchor: { key: anchorKey, version: anchor }, now: { epoch: of.epoch, at }, floor }
  }
}

export function readStamp(look: Reader, clock: string, name: string, floor: number): StampRead {
  let stamp: Stamp | undefined
  const seen = look(stampKey(clock, name), (bytes) => {
    stamp = { hard: Math.max(floor, bytes.readDoubleLE(8)), soft: Math.max(floor, bytes.readDoubleLE(16)) }
  })
  return { seen, stamp: stamp ?? { hard: floor, soft: floor } }
}

/** What moves a clock on, or begins it. */
export function moved({ seen, anchor, now, floor }: ClockRead, at: number): readonly Change[] {
  if (now !== undefined) return [[seen.key, clockRecord(at, floor, anchor.version ?? 0, now.epoch)]]
  return anchored(seen, anchor, at, floor, randomUUID())
}

/** What gives a clock another floor. */
export function raised(
  { seen, anchor, now }: ClockRead & { readonly now: LedgerTime },
  floor: number,
): readonly Change[] {
  return anchored(seen, anchor, now.at, floor, now.epoch)
}

function anchored(seen: Seen, anchor: Seen, at: number, floor: number, epoch: string): readonly Change[] {
  const record = numbers()
  return [
    [anchor.key, record],
    [seen.key, clockRecord(at, floor, record.readDoubleLE(0), epoch)],
  ]
}

function clockRecord(at: number, floor: number, anchor: number, epoch: string): Buffer {
  return Buffer.concat([numbers(at, floor, anchor), Buffer.from(epoch, 'latin1')])
}

export function stampRecord({ hard, soft }: Stamp): Buffer {
  return numbers(hard, soft)
}

/** The later half of a stamp's record. */
export function latest(record: Buffer): number {
  return Math.max(record.readDoubleLE(8), record.readDoubleLE(16))
}

function numbers(...values: readonly number[]): Buffer {
  const bytes = Buffer.allocUnsafe(8 + values.length * 8)
  bytes.writeDoubleLE(newVersion(), 0)
  values.forEach((value, i) => {
    bytes.writeDoubleLE(value, 8 + i * 8)
  })
  return bytes
}
