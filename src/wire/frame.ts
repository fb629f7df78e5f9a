import { types } from 'node:util'
import { type Bytes, type Metadata, metadataOf } from '../backend/cached-value.js'
import { crc32, crcOfKey, RESIDUE, withoutFourZeros } from './crc.js'
import { readRegionSnapshot, regionNameIn, writeRegionSnapshot } from './region-snapshot.js'
import { readSnapshot, snapshotBytes } from './snapshot-bytes.js'
import { isCount, type Reader, readFloat64, readVarint, writeVarint } from './varint.js'

/** First byte of an entry of this version. Occurs nowhere in UTF-8; the two lowest bits are the version. */
const ENTRY_V2 = 0xfa
/** Entries of Corral 0.1. A reader of this version takes them for misses. */
const ENTRY_V1 = 0xf9

/** The codec stands in the lowest bits of the second byte; 0: in a byte of its own. */
const CODEC = 0x07
const LIFE = 0x08
const SNAPSHOT = 0x10
/** Of a millisecond: `startedAt` has one. */
const FRACTION = 0x20
/** The snapshot has the region's name only, whose text stands in the key. */
const OF_REGION = 0x40
/** A byte with the rarer flags follows. */
const MORE = 0x80

const STALE = 0x01
const UNTRACKED = 0x02
/** The numbers stand as float64: one of them does not fit the compact form. */
const WIDE = 0x04
/** The snapshot ends with versions. */
const VERSIONS = 0x08
/** How long the value stands after its expiry. */
const STANDS = 0x10
const KNOWN_MORE = STALE | UNTRACKED | WIDE | VERSIONS | STANDS

const CRC = 4
/** Less than this is no entry: two bytes of head, started, took, CRC. */
const SMALLEST = 2 + 5 + 1 + CRC

/** Times are told from the beginning of 2020, in five bytes: until 2054. */
const ORIGIN = 1_577_836_800_000
const STARTED_LIMIT = 2 ** 40
/** Until 2039 every epoch ms that a float64 can hold is a whole number of these. */
const TICKS = 4096
const LIFE_LIMIT = 2 ** 50

/** An entry whose payload is still to be written, from `at` on, `size` bytes long. */
export interface OpenFrame {
  readonly bytes: Buffer
  readonly at: number
}

/** An entry that was read. The payload stands in `bytes` from `start` up to `end`. */
export interface Entry {
  readonly codec: number
  readonly metadata: Metadata
  readonly bytes: Buffer
  readonly start: number
  readonly end: number
}

/** The head is written here first, because its length is known only then. */
const head = Buffer.alloc(96)

/**
 * Makes room for an entry and writes all but its payload and CRC. The memory is its own: it pins no slab.
 * @param codec - the id of the payload's codec
 * @param size - of the payload, in bytes
 * @param key - of the entry: the name of its region is not written twice
 * @throws CorralError `ERR_UNENCODABLE` for a dependency's name that is no well-formed text
 */
export function openFrame(codec: number, metadata: Metadata, size: number, key: string): OpenFrame {
  const { startedAt, expiresIn, snapshot, stale, untracked, standsFor } = metadata
  const isWide = !isCompact(metadata)
  const isCommon = codec > 0 && codec <= CODEC
  const region = isWide || snapshot === undefined ? undefined : regionNameIn(key, snapshot)
  const more =
    (stale === true ? STALE : 0) |
    (untracked === true ? UNTRACKED : 0) |
    (isWide ? WIDE : 0) |
    (snapshot?.versions === undefined ? 0 : VERSIONS) |
    (standsFor === undefined ? 0 : STANDS)
  head[1] =
    (isCommon ? codec : 0) |
    (expiresIn === undefined ? 0 : LIFE) |
    (snapshot === undefined ? 0 : SNAPSHOT) |
    (isWide || Number.isInteger(startedAt) ? 0 : FRACTION) |
    (region === undefined ? 0 : OF_REGION) |
    (more === 0 ? 0 : MORE)
  let at = 2
  if (!isCommon) head[at++] = codec
  if (more !== 0) head[at++] = more
  at = isWide ? writeWide(metadata, at) : writeCompact(metadata, at)
  if (standsFor !== undefined) at = writeVarint(head, at, lifeOf(standsFor))
  const sent = isWide ? undefined : Math.floor(startedAt) * 1000
  if (region !== undefined && snapshot !== undefined)
    at = writeRegionSnapshot(head, at, snapshot, region, sent as number)
  const rest = snapshot === undefined || region !== undefined ? undefined : snapshotBytes(snapshot, sent)
  const length = at + (rest === undefined ? 0 : rest.length)

  // Not from Node's shared slab: an entry of 50 bytes kept in memory would hold 8 KiB.
  const bytes = Buffer.allocUnsafeSlow(length + size + CRC)
  bytes[0] = ENTRY_V2
  for (let i = 1; i < at; i++) bytes[i] = head[i] as number
  if (rest !== undefined) bytes.set(rest, at)
  return { bytes, at: length }
}

function isCompact({ startedAt, createdAt, expiresIn }: Metadata): boolean {
  const whole = Math.floor(startedAt)
  return (
    whole >= ORIGIN &&
    whole < ORIGIN + STARTED_LIMIT &&
    Number.isInteger((startedAt - whole) * TICKS) &&
    isCount(createdAt - whole) &&
    (expiresIn === undefined ||
      expiresIn === Number.POSITIVE_INFINITY ||
      (isCount(expiresIn) && expiresIn < LIFE_LIMIT))
  )
}

function writeCompact({ startedAt, createdAt, expiresIn }: Metadata, start: number): number {
  const whole = Math.floor(startedAt)
  let at = head.writeUIntLE(whole - ORIGIN, start, 5)
  if (whole !== startedAt) at = head.writeUInt16LE((startedAt - whole) * TICKS, at)
  at = writeVarint(head, at, createdAt - whole)
  return expiresIn === undefined ? at : writeVarint(head, at, lifeOf(expiresIn))
}

/** A lifetime as a whole number: 0 for ever, odd for seconds, even for ms. */
function lifeOf(ms: number): number {
  if (ms === Number.POSITIVE_INFINITY) return 0
  return ms > 0 && ms % 1000 === 0 ? (ms / 1000) * 2 - 1 : (ms + 1) * 2
}

function writeWide({ startedAt, createdAt, expiresIn }: Metadata, start: number): number {
  const at = head.writeDoubleLE(createdAt, head.writeDoubleLE(startedAt, start))
  return expiresIn === undefined ? at : head.writeDoubleLE(expiresIn, at)
}

/** Completes an entry with the CRC over the key and everything before it. */
export function closeFrame(bytes: Buffer, key: string): Bytes {
  const end = bytes.length - CRC
  bytes.writeUInt32LE(0, end)
  const crc = withoutFourZeros(crc32(bytes, crcOfKey(key)))
  bytes.writeUInt32LE(crc, end)
  return bytes
}

const NO_HEAD = new Uint8Array()

/**
 * A complete entry from a payload that stands elsewhere, which is copied.
 * @param before - a few bytes that belong before the payload
 */
export function frame(
  codec: number,
  metadata: Metadata,
  payload: Uint8Array,
  key: string,
  before: Uint8Array = NO_HEAD,
): Bytes {
  const { bytes, at } = openFrame(codec, metadata, before.length + payload.length, key)
  for (let i = 0; i < before.length; i++) bytes[at + i] = before[i] as number
  bytes.set(payload, at + before.length)
  return closeFrame(bytes, key)
}

/**
 * Reads an entry. `undefined` means a miss: it was damaged, belongs to another key, or is of another version. The
 * CRC is checked before any length is believed.
 */
export function readFrame(stored: Uint8Array, key: string): Entry | undefined {
  if (!(stored instanceof Uint8Array || types.isUint8Array(stored))) return undefined
  if (stored.length < SMALLEST || stored[0] !== ENTRY_V2) return undefined
  if (crc32(stored, crcOfKey(key)) !== RESIDUE) return undefined
  const bytes = Buffer.isBuffer(stored)
    ? stored
    : Buffer.from(stored.buffer, stored.byteOffset, stored.length)
  const from: Reader = { bytes, at: 2, end: stored.length - CRC, failed: false }
  const flags = stored[1] as number
  const codec = (flags & CODEC) === 0 ? (stored[from.at++] as number) : flags & CODEC
  const more = (flags & MORE) === 0 ? 0 : (stored[from.at++] as number)
  if ((more & ~KNOWN_MORE) !== 0 || contradict(flags, more)) return undefined
  const metadata = readMetadata(from, flags, more, key)
  if (from.failed) return undefined
  return { codec, metadata, bytes, start: from.at, end: from.end }
}

/** Whether flags stand together that no writer sets together. */
function contradict(flags: number, more: number): boolean {
  return (
    ((more & VERSIONS) !== 0 && (flags & (SNAPSHOT | OF_REGION)) !== SNAPSHOT) ||
    ((flags & OF_REGION) !== 0 && (flags & SNAPSHOT) === 0) ||
    ((more & WIDE) !== 0 && (flags & (FRACTION | OF_REGION)) !== 0)
  )
}

/** Whether bytes are a whole entry of an earlier version: a miss, but no fault. */
export function isOlderFrame(stored: Uint8Array, key: string): boolean {
  return types.isUint8Array(stored) && stored[0] === ENTRY_V1 && crc32(stored, crcOfKey(key)) === RESIDUE
}

/** Reads an entry of one encoding. An entry of another codec, or with a payload above `maxBytes`, is a miss too. */
export function readFrameOf(
  codec: number,
  maxBytes: number,
  stored: Uint8Array,
  key: string,
): Entry | undefined {
  const entry = readFrame(stored, key)
  return entry?.codec === codec && entry.end - entry.start <= maxBytes ? entry : undefined
}

function readMetadata(from: Reader, flags: number, more: number, key: string): Metadata {
  const isWide = (more & WIDE) !== 0
  const whole = isWide ? readFloat64(from) : readStarted(from)
  const fraction = (flags & FRACTION) === 0 ? 0 : readFraction(from)
  const createdAt = isWide ? readFloat64(from) : whole + readVarint(from)
  const expiresIn = (flags & LIFE) === 0 ? undefined : isWide ? readFloat64(from) : readLife(from)
  const standsFor = (more & STANDS) === 0 ? undefined : readLife(from)
  const sent = isWide ? undefined : whole * 1000
  const snapshot =
    (flags & SNAPSHOT) === 0
      ? undefined
      : (flags & OF_REGION) === 0
        ? readSnapshot(from, (more & VERSIONS) !== 0, sent)
        : readRegionSnapshot(from, key, whole * 1000)
  const metadata = metadataOf(isWide ? whole : whole + fraction, createdAt, snapshot, expiresIn)
  if ((more & STALE) !== 0) metadata.stale = true
  if ((more & UNTRACKED) !== 0) metadata.untracked = true
  if (standsFor !== undefined) metadata.standsFor = standsFor
  return metadata
}

function readStarted(from: Reader): number {
  if (from.end - from.at < 5) {
    from.failed = true
    return 0
  }
  from.at += 5
  return ORIGIN + from.bytes.readUIntLE(from.at - 5, 5)
}

function readFraction(from: Reader): number {
  const ticks = from.end - from.at < 2 ? 0 : from.bytes.readUInt16LE(from.at)
  if (ticks === 0 || ticks >= TICKS) from.failed = true
  from.at += 2
  return ticks / TICKS
}

function readLife(from: Reader): number {
  const life = readVarint(from)
  if (life === 0) return Number.POSITIVE_INFINITY
  return life % 2 === 0 ? life / 2 - 1 : ((life + 1) / 2) * 1000
}
