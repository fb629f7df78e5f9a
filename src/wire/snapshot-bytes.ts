import { CorralError, formatValue } from '../base/errors.js'
import type { DependencyGroup, DependencySnapshot } from '../ledger/snapshot.js'
import { AS_OF_LIMIT, asOfFrom, EPOCH_BYTES, isShortEpoch, writeAsOf } from './region-snapshot.js'
import { isWellFormed } from './text.js'
import { isCount, type Reader, readFloat64, readVarint, varintSize, writeVarint } from './varint.js'

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
const UUID_BYTES = 16

// Nearly every entry of a process has the same epoch.
let lastEpoch: string | undefined
let lastEpochBytes: Buffer = Buffer.alloc(0)

/** The bytes of an epoch: 0 and 16 bytes for a UUID, 1 and six bytes for an own one, else length + 2 and UTF-8. */
function epochBytes(epoch: string): Buffer {
  if (epoch !== lastEpoch) {
    lastEpochBytes = UUID.test(epoch)
      ? Buffer.concat([Buffer.of(0), Buffer.from(epoch.replaceAll('-', ''), 'hex')])
      : isShortEpoch(epoch)
        ? Buffer.concat([Buffer.of(1), Buffer.from(epoch, 'base64url')])
        : withLength(epoch, 2)
    lastEpoch = epoch
  }
  return lastEpochBytes
}

function withLength(text: string, extra: number): Buffer {
  const bytes = Buffer.from(text)
  const size = varintSize(bytes.length + extra)
  const all = Buffer.allocUnsafe(size + bytes.length)
  writeVarint(all, 0, bytes.length + extra)
  all.set(bytes, size)
  return all
}

/**
 * The bytes of an entry's dependency snapshot.
 * @param sent - the whole ms at which the creation started, in microseconds; absent where it stands as float64
 * @throws CorralError `ERR_UNENCODABLE` for a name that UTF-8 cannot hold: under a changed name the entry would
 *   survive the invalidation of the true one.
 */
export function snapshotBytes(snapshot: DependencySnapshot, sent: number | undefined): Buffer {
  const epoch = epochBytes(snapshot.epoch)
  let room = epoch.length + 9
  for (const { names } of snapshot.groups) {
    room += 18
    for (const name of names) room += 9 + name.length * 3
  }
  const { versions } = snapshot
  if (versions !== undefined) room += versions.reduce((sum, name) => sum + 9 + name.length * 3, 9)
  const into = Buffer.allocUnsafe(room)
  into.set(epoch, 0)
  let at = writeVarint(into, epoch.length, snapshot.groups.length)
  for (const { asOf, names } of snapshot.groups) {
    if (isCount(asOf) && asOf < AS_OF_LIMIT) at = writeAsOf(into, at, asOf, sent)
    else {
      into[at++] = 0
      at = into.writeDoubleLE(asOf, at)
    }
    at = writeNames(into, at, names)
  }
  if (versions !== undefined) at = writeNames(into, at, versions)
  return into.subarray(0, at)
}

function writeNames(into: Buffer, start: number, names: readonly string[]): number {
  let at = writeVarint(into, start, names.length)
  for (const name of names) {
    if (!isWellFormed(name))
      throw new CorralError(
        'ERR_UNENCODABLE',
        `Expected the names of dependencies to be well-formed text, got ${formatValue(name)} with half a surrogate pair. Encode or hash that part of the name.`,
      )
    const length = Buffer.byteLength(name)
    at = writeVarint(into, at, length)
    at += into.write(name, at)
  }
  return at
}

let seenEpoch: Buffer = Buffer.alloc(0)
let seenText = ''

/** Reads the output of `snapshotBytes`. Other bytes leave `from.failed` set. */
export function readSnapshot(from: Reader, versioned: boolean, sent: number | undefined): DependencySnapshot {
  const epoch = readEpoch(from)
  const count = readVarint(from)
  const groups: DependencyGroup[] = []
  // Every group and every name takes a byte at least: a count beyond the remaining bytes is a lie, and nothing is allocated.
  for (let i = 0; i < count && !from.failed; i++) groups.push(readGroup(from, sent))
  return versioned ? { epoch, groups, versions: readNames(from) } : { epoch, groups }
}

function readEpoch(from: Reader): string {
  const length = readVarint(from)
  if (length === 1 && from.end - from.at >= EPOCH_BYTES) {
    from.at += EPOCH_BYTES
    return from.bytes.toString('base64url', from.at - EPOCH_BYTES, from.at)
  }
  if (length > 0) return readText(from, length - 2)
  const start = from.at
  if (from.end - start < UUID_BYTES) {
    from.failed = true
    return ''
  }
  from.at = start + UUID_BYTES
  if (seenEpoch.length > 0 && from.bytes.compare(seenEpoch, 0, UUID_BYTES, start, from.at) === 0)
    return seenText
  seenEpoch = Buffer.from(from.bytes.subarray(start, from.at))
  seenText = seenEpoch.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
  return seenText
}

function readGroup(from: Reader, sent: number | undefined): DependencyGroup {
  const number = readVarint(from)
  return { asOf: number === 0 ? readFloat64(from) : asOfFrom(from, number, sent), names: readNames(from) }
}

/** Lists of names that were read, by their bytes: the same ones come again and again, and equal lists are one list. */
const lists = new Map<string, readonly string[]>()
const LISTS = 10_000
/** Longer lists are not kept: they would cost more memory than they save time. */
const LONGEST = 1_024

function readNames(from: Reader): readonly string[] {
  const start = from.at
  const count = readVarint(from)
  for (let i = 0; i < count && !from.failed; i++) skipText(from)
  if (from.failed) return []
  const end = from.at
  const bytes = end - start <= LONGEST ? from.bytes.toString('latin1', start, end) : undefined
  const known = bytes === undefined ? undefined : lists.get(bytes)
  if (known !== undefined) return known
  from.at = start
  readVarint(from)
  const names: string[] = []
  for (let i = 0; i < count; i++) names.push(readText(from, readVarint(from)))
  Object.freeze(names)
  if (bytes !== undefined) {
    if (lists.size >= LISTS) lists.clear()
    lists.set(bytes, names)
  }
  return names
}

function skipText(from: Reader): void {
  const length = readVarint(from)
  if (length > from.end - from.at) from.failed = true
  else from.at += length
}

function readText(from: Reader, length: number): string {
  if (from.failed || length < 0 || length > from.end - from.at) {
    from.failed = true
    return ''
  }
  const start = from.at
  from.at += length
  return from.bytes.toString('utf8', start, from.at)
}
