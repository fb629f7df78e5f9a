import { types } from 'node:util'
import type { Bytes, Metadata } from '../backend/cached-value.js'
import { crc32, crcOfKey, RESIDUE, withoutFourZeros } from './crc.js'
import { readSnapshot, snapshotBytes } from './snapshot-bytes.js'
import { isCount, type Reader, readFloat64, readVarint, varintSize, writeVarint } from './varint.js'

/** First byte of an entry of version 1. Occurs nowhere in UTF-8; the two lowest bits are the version. */
const ENTRY_V1 = 0xf9

const EXPIRES = 0x01
const STALE = 0x02
const BASIS = 0x04
/** The numbers stand as float64: one of them does not fit the compact form. */
const WIDE = 0x08
/** The snapshot ends with versions. */
const VERSIONS = 0x10
const UNTOLD = 0x20
const KNOWN_FLAGS = EXPIRES | STALE | BASIS | WIDE | VERSIONS | UNTOLD

const HEAD = 3
const STARTED = 7
const CRC = 4
/** Less than this is no entry: head, started, duration, CRC. */
const SMALLEST = HEAD + STARTED + 1 + CRC

/** Until 2039 every epoch ms that a float64 can hold is a whole number of these. */
const TICKS = 4096
/** Six bytes are the most that Node writes as one number; the seventh follows. */
const LOW = 2 ** 48
const STARTED_LIMIT = 2 ** 56

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

/**
 * Makes room for an entry and writes all but its payload and CRC. The memory is its own: it pins no slab.
 * @param codec - the id of the payload's codec
 * @param size - of the payload, in bytes
 * @throws CorralError `ERR_UNENCODABLE` for a dependency's name that is no well-formed text
 */
export function openFrame(codec: number, metadata: Metadata, size: number): OpenFrame {
  const { startedAt, createdAt, expiresIn, snapshot, stale, untracked } = metadata
  const ticks = startedAt * TICKS
  const duration = createdAt * TICKS - ticks
  const compact =
    Number.isInteger(ticks) &&
    ticks > 0 &&
    ticks < STARTED_LIMIT &&
    isCount(duration) &&
    (ticks + duration) / TICKS === createdAt &&
    (expiresIn === undefined ||
      expiresIn === Number.POSITIVE_INFINITY ||
      (isCount(expiresIn) && expiresIn < Number.MAX_SAFE_INTEGER))
  const grounds = snapshot === undefined ? undefined : snapshotBytes(snapshot)
  const expires = expiresIn === undefined || expiresIn === Number.POSITIVE_INFINITY ? 0 : expiresIn + 1
  let length = HEAD + (grounds === undefined ? 0 : grounds.length)
  if (compact) length += STARTED + varintSize(duration) + (expiresIn === undefined ? 0 : varintSize(expires))
  else length += expiresIn === undefined ? 16 : 24

  // Not from Node's shared slab: an entry of 50 bytes kept in memory would hold 8 KiB.
  const bytes = Buffer.allocUnsafeSlow(length + size + CRC)
  bytes[0] = ENTRY_V1
  bytes[1] = codec
  bytes[2] =
    (expiresIn === undefined ? 0 : EXPIRES) |
    (stale === true ? STALE : 0) |
    (grounds === undefined ? 0 : BASIS) |
    (snapshot?.versions === undefined ? 0 : VERSIONS) |
    (untracked === true ? UNTOLD : 0) |
    (compact ? 0 : WIDE)
  let at = HEAD
  if (compact) {
    at = bytes.writeUIntLE(ticks % LOW, at, 6)
    bytes[at] = ticks / LOW
    at = writeVarint(bytes, at + 1, duration)
    if (expiresIn !== undefined) at = writeVarint(bytes, at, expires)
  } else {
    at = bytes.writeDoubleLE(startedAt, at)
    at = bytes.writeDoubleLE(createdAt, at)
    if (expiresIn !== undefined) at = bytes.writeDoubleLE(expiresIn, at)
  }
  if (grounds !== undefined) {
    bytes.set(grounds, at)
    at += grounds.length
  }
  return { bytes, at }
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
 * @param head - a few bytes that belong before the payload
 */
export function frame(
  codec: number,
  metadata: Metadata,
  payload: Uint8Array,
  key: string,
  head: Uint8Array = NO_HEAD,
): Bytes {
  const { bytes, at } = openFrame(codec, metadata, head.length + payload.length)
  for (let i = 0; i < head.length; i++) bytes[at + i] = head[i] as number
  bytes.set(payload, at + head.length)
  return closeFrame(bytes, key)
}

/**
 * Reads an entry. `undefined` means a miss: it was damaged, belongs to another key, or is of an unknown version. The
 * CRC is checked before any length is believed.
 */
export function readFrame(stored: Uint8Array, key: string): Entry | undefined {
  if (!(stored instanceof Uint8Array || types.isUint8Array(stored))) return undefined
  if (stored.length < SMALLEST || stored[0] !== ENTRY_V1) return undefined
  const flags = stored[2] as number
  if ((flags & ~KNOWN_FLAGS) !== 0 || (flags & (BASIS | VERSIONS)) === VERSIONS) return undefined
  if (crc32(stored, crcOfKey(key)) !== RESIDUE) return undefined
  const bytes = Buffer.isBuffer(stored)
    ? stored
    : Buffer.from(stored.buffer, stored.byteOffset, stored.length)
  const from: Reader = { bytes, at: HEAD, end: stored.length - CRC, failed: false }
  const metadata = readMetadata(from, flags)
  if (from.failed) return undefined
  return { codec: stored[1] as number, metadata, bytes, start: from.at, end: from.end }
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

type Draft = { -readonly [K in keyof Metadata]: Metadata[K] }

function readMetadata(from: Reader, flags: number): Metadata {
  const metadata: Draft =
    (flags & WIDE) === 0 ? readTimes(from) : { startedAt: readFloat64(from), createdAt: readFloat64(from) }
  if ((flags & EXPIRES) !== 0)
    metadata.expiresIn = (flags & WIDE) === 0 ? readExpiry(from) : readFloat64(from)
  if ((flags & BASIS) !== 0) metadata.snapshot = readSnapshot(from, (flags & VERSIONS) !== 0)
  if ((flags & STALE) !== 0) metadata.stale = true
  if ((flags & UNTOLD) !== 0) metadata.untracked = true
  return metadata
}

function readTimes(from: Reader): Draft {
  // The shortest entry has these seven bytes, so there is no end to run over.
  const { bytes, at } = from
  const ticks = bytes.readUIntLE(at, 6) + (bytes[at + 6] as number) * LOW
  from.at = at + STARTED
  return { startedAt: ticks / TICKS, createdAt: (ticks + readVarint(from)) / TICKS }
}

function readExpiry(from: Reader): number {
  const expires = readVarint(from)
  return expires === 0 ? Number.POSITIVE_INFINITY : expires - 1
}
