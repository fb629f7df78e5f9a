/**
 * The snapshot of an entry that depends on its region alone, as nearly all entries of a region without `dependencies()` do.
 * The text of the region's name stands in the key already, and entries that are read one after another share the snapshot.
 */
import type { DependencySnapshot } from '../ledger/snapshot.js'
import { isWellFormed } from './text.js'
import { isCount, type Reader, readVarint, writeVarint } from './varint.js'

/** The names of regions begin with this. */
const REGION = 'region:'
/** An epoch as `newEpoch` draws it: eight letters for six bytes. */
const EPOCH = /^[\w-]{8}$/
export const EPOCH_BYTES = 6
/** Longer names are written out. */
const LONGEST = 64

/** Where the text of a region's name stands in a key. */
interface NameInKey {
  readonly start: number
  readonly length: number
}

/** Where the key has the one name of a snapshot, if the short form can take the snapshot. */
export function regionNameIn(
  key: string,
  { epoch, groups, versions }: DependencySnapshot,
): NameInKey | undefined {
  const [only] = groups
  if (groups.length !== 1 || only?.names.length !== 1 || versions !== undefined) return undefined
  const name = only.names[0] as string
  if (!name.startsWith(REGION) || !isCount(only.asOf) || only.asOf >= AS_OF_LIMIT) return undefined
  const length = name.length - REGION.length
  if (length === 0 || length > LONGEST || !isShortEpoch(epoch) || !isWellFormed(name)) return undefined
  const start = key.indexOf(name.slice(REGION.length))
  return start < 0 ? undefined : { start, length }
}

/** Whether an epoch takes six bytes. */
export function isShortEpoch(epoch: string): boolean {
  return EPOCH.test(epoch)
}

/** Writes the short form into bytes that have room for it, and returns where it ends. */
export function writeRegionSnapshot(
  into: Buffer,
  at: number,
  { epoch, groups }: DependencySnapshot,
  { start, length }: NameInKey,
  sent: number,
): number {
  let next = writeVarint(into, at, length * 2 + (start === 0 ? 0 : 1))
  if (start > 0) next = writeVarint(into, next, start)
  next += into.write(epoch, next, EPOCH_BYTES, 'base64url')
  return writeAsOf(into, next, groups[0]?.asOf as number, sent)
}

/** Beyond it a time stands as float64. */
export const AS_OF_LIMIT = 2 ** 52

/**
 * Writes a time of a ledger's clock below `AS_OF_LIMIT`: told backwards from the start of the creation where that is
 * shorter, as it is for clocks in microseconds.
 */
export function writeAsOf(into: Buffer, at: number, asOf: number, sent: number | undefined): number {
  const before = sent === undefined ? -1 : sent - asOf
  return writeVarint(into, at, before >= 0 && before < asOf ? before * 2 + 2 : asOf * 2 + 1)
}

/** The time from its number, which is not 0. */
export function asOfFrom(from: Reader, number: number, sent: number | undefined): number {
  const asOf = number % 2 === 1 ? (number - 1) / 2 : (sent ?? -1) - (number - 2) / 2
  if (asOf < 0) from.failed = true
  return asOf
}

interface Seen {
  readonly text: string
  readonly epoch: number
  readonly asOf: number
  readonly snapshot: DependencySnapshot
}

/** The snapshots that were read last, by the length of the name: nearly every entry of a region has the same one. */
const seen: (Seen | undefined)[] = new Array(16).fill(undefined)

const NONE: DependencySnapshot = Object.freeze({ epoch: '', groups: Object.freeze([]) })

/** Reads the output of `writeRegionSnapshot`. Other bytes leave `from.failed` set. */
export function readRegionSnapshot(from: Reader, key: string, sent: number): DependencySnapshot {
  const form = readVarint(from)
  const start = form % 2 === 0 ? 0 : readVarint(from)
  const length = Math.floor(form / 2)
  if (from.failed || length === 0 || start + length > key.length || from.end - from.at < EPOCH_BYTES) {
    from.failed = true
    return NONE
  }
  const epochAt = from.at
  const epoch = from.bytes.readUIntLE(epochAt, EPOCH_BYTES)
  from.at += EPOCH_BYTES
  const number = readVarint(from)
  if (number === 0) from.failed = true
  const asOf = asOfFrom(from, number, sent)
  if (from.failed) return NONE
  const slot = length % seen.length
  const last = seen[slot]
  const isSameName = last?.text.length === length && key.startsWith(last.text, start)
  if (isSameName && last.epoch === epoch && last.asOf === asOf) return last.snapshot
  const text = isSameName ? last.text : key.slice(start, start + length)
  const names = isSameName ? namesIn(last.snapshot) : Object.freeze([REGION + text])
  const snapshot = Object.freeze({
    epoch: from.bytes.toString('base64url', epochAt, epochAt + EPOCH_BYTES),
    groups: Object.freeze([Object.freeze({ asOf, names })]),
  })
  seen[slot] = { text, epoch, asOf, snapshot }
  return snapshot
}

/** The same list for the same name: ledgers know lists by their identity. */
function namesIn({ groups }: DependencySnapshot): readonly string[] {
  return groups[0]?.names ?? []
}
