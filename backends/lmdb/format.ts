import { createHash, randomInt } from 'node:crypto'

/**
 * The keys and records of the file. A key starts with a byte for its kind. Every record starts with its version, except
 * those of the two orders: a number that no other write of the record has, so that a write can depend on it.
 */
export const TAG = {
  /** `entry key` → version, expiry, time of writing, the key itself if the tree's is a digest, payload. */
  entry: 0x65,
  /** `entry key` → version, expiry, token and length, or the failure that it is kept for. */
  lease: 0x6c,
  /** `shard` → version, which changes with every removal of an entry in the shard. */
  absence: 0x6e,
  /** `clock` → version, the stamp of the latest invalidation, floor, version of the anchor, epoch. */
  clock: 0x63,
  /** `clock` → version, which changes with the floor and the epoch only. */
  anchor: 0x61,
  /** `clock, name` → version, hard, soft; of a marked name also hard and soft without marks, then mode, end and transaction of each. */
  stamp: 0x73,
  /** `clock` → version, then mode, end and transaction of the marks that were set, and their lives. Absent without any. */
  marks: 0x6d,
  /** expiry, version → key of the entry. */
  byExpiry: 0x78,
  /** time of writing, version → key of the entry. */
  byAge: 0x77,
} as const

/** Marks a tag whose text was too long for a key of the tree, or not well formed, and stands there as a digest. */
const DIGESTED = 0x80

/** Text of at most this many UTF-16 units fits into a key of the tree (1,978 bytes) as UTF-8. */
const FITS = 600

/** A key of the tree. An entry's key is given as text, which spares every hit a buffer. */
export type TreeKey = string | Buffer

/** Writes our keys: text as an entry's, bytes as they are. */
export const keyEncoder = {
  writeKey(key: TreeKey, target: Buffer, at: number): number {
    if (typeof key === 'string') {
      target[at] = TAG.entry
      return at + 1 + target.write(key, at + 1)
    }
    target.set(key, at)
    return at + key.length
  },
  readKey: (target: Uint8Array, start: number, end: number): Buffer =>
    Buffer.from(target.subarray(start, end)),
}

/** Whether a key belongs in the tree of the bookkeeping. */
export function isBookkeeping(key: TreeKey): boolean {
  if (typeof key === 'string') return false
  const tag = (key[0] as number) & ~DIGESTED
  return tag === TAG.clock || tag === TAG.anchor || tag === TAG.stamp || tag === TAG.marks
}

/** The tree's key for an entry. */
export function entryKey(key: string): TreeKey {
  return fits(key) ? key : digest(TAG.entry, key)
}

/** Enough that removals seldom conflict, few enough to take little room. */
const SHARDS = 1024

/**
 * The tree's key for the version of a key's absence. Without it "there is no entry" would look like "the entry was
 * removed", and a late write would undo the removal in between.
 */
export function absenceKey(key: string): Buffer {
  let sum = 0x811c9dc5
  for (let i = 0; i < key.length && i < FITS; i++) sum = Math.imul(sum ^ key.charCodeAt(i), 0x01000193)
  const shard = (sum ^ (sum >>> 16)) & (SHARDS - 1)
  return Buffer.of(TAG.absence, shard >> 8, shard & 0xff)
}

/** The tree's key for text under any tag. */
export function taggedKey(tag: number, text: string): Buffer {
  if (!fits(text)) return digest(tag, text)
  const size = Buffer.byteLength(text)
  const bytes = Buffer.allocUnsafe(1 + size)
  bytes[0] = tag
  bytes.write(text, 1)
  return bytes
}

/** The tree's key for the stamp of a name on a clock. */
export function stampKey(clock: string, name: string): Buffer {
  return taggedKey(TAG.stamp, `${clock.length}:${clock}${name}`)
}

/** The key of an entry in the tree, if it stands there as text. */
export function keyText(key: Buffer): string | undefined {
  return key[0] === TAG.entry ? key.toString('utf8', 1) : undefined
}

/** The ranges of a tag: with their text, and with a digest of it. */
export function rangesOf(tag: number): readonly (readonly [start: Buffer, end: Buffer])[] {
  return [tag, tag | DIGESTED].map((first) => [Buffer.of(first), Buffer.of(first + 1)])
}

/** The key of the same clock under another tag. */
export function clockOf(key: Buffer, tag: number): Buffer {
  const other = Buffer.from(key)
  other[0] = tag | ((key[0] as number) & DIGESTED)
  return other
}

/** The first key that comes after another. */
export function after(key: Buffer): Buffer {
  return Buffer.concat([key, Buffer.of(0)])
}

// UTF-8 has no form for half a surrogate pair: two such keys would become one.
function fits(text: string): boolean {
  return text.length <= FITS && (text as string & { isWellFormed(): boolean }).isWellFormed()
}

function digest(tag: number, text: string): Buffer {
  const bytes = Buffer.allocUnsafe(33)
  bytes[0] = tag | DIGESTED
  createHash('sha256').update(Buffer.from(text, 'utf16le')).digest().copy(bytes, 1)
  return bytes
}

/** A version that no record has had: 48 random bits. */
export function newVersion(): number {
  return randomInt(1, 2 ** 48 - 1)
}

/** A record of numbers, the first of which is its version. */
export function encodeNumbers(...values: readonly number[]): Buffer {
  const bytes = Buffer.allocUnsafe(values.length * 8)
  for (const [i, value] of values.entries()) bytes.writeDoubleLE(value, i * 8)
  return bytes
}

export interface EntryHead {
  readonly version: number
  /** Epoch ms; Infinity: never. */
  readonly expiresAt: number
  readonly writtenAt: number
}

const HEAD = 28

/** Copies the payload: lmdb writes the record later, when the caller's bytes may have changed. */
export function encodeEntry(head: EntryHead, key: string, payload: Uint8Array): Buffer {
  const name = fits(key) ? 0 : key.length * 2
  const bytes = Buffer.allocUnsafe(HEAD + name + payload.length)
  writeHead(bytes, head)
  bytes.writeUInt32LE(name, 24)
  if (name > 0) bytes.write(key, HEAD, 'utf16le')
  bytes.set(payload, HEAD + name)
  return bytes
}

export function writeHead(bytes: Buffer, { version, expiresAt, writtenAt }: EntryHead): void {
  bytes.writeDoubleLE(version, 0)
  bytes.writeDoubleLE(expiresAt, 8)
  bytes.writeDoubleLE(writtenAt, 16)
}

export function readHead(bytes: Buffer): EntryHead {
  return {
    version: bytes.readDoubleLE(0),
    expiresAt: bytes.readDoubleLE(8),
    writtenAt: bytes.readDoubleLE(16),
  }
}

/** The key that a digested entry carries. */
export function carriedKey(bytes: Buffer): string {
  return bytes.toString('utf16le', HEAD, HEAD + bytes.readUInt32LE(24))
}

/** ms by which a clock may be set back without an effect: entries, leases and marks last that much longer. */
export const SMALL_STEP = 1_000

/** A copy of the payload, if the entry has not expired and is this key's. */
export function payloadOf(bytes: Buffer, place: TreeKey, key: string, now: number): Buffer | undefined {
  const { expiresAt, writtenAt } = readHead(bytes)
  // Written while the clock was ahead by more than the entry may live, it would live that much longer.
  if (expiresAt <= now || writtenAt - now > expiresAt - writtenAt + SMALL_STEP) return undefined
  if (typeof place !== 'string' && carriedKey(bytes) !== key) return undefined
  const start = HEAD + bytes.readUInt32LE(24)
  const payload = Buffer.allocUnsafe(bytes.length - start)
  bytes.copy(payload, 0, start, bytes.length)
  return payload
}

/** Where an entry stands in the two orders: by age, and by expiry if it ever does. */
export function orderKeys({ version, expiresAt, writtenAt }: EntryHead): readonly Buffer[] {
  const byAge = orderKey(TAG.byAge, writtenAt, version)
  return expiresAt === Infinity ? [byAge] : [byAge, orderKey(TAG.byExpiry, expiresAt, version)]
}

/** Positive doubles, big end first, sort as they should. */
function orderKey(tag: number, time: number, version: number): Buffer {
  const bytes = Buffer.allocUnsafe(17)
  bytes[0] = tag
  bytes.writeDoubleBE(time, 1)
  bytes.writeDoubleBE(version, 9)
  return bytes
}

export function versionInOrder(key: Buffer): number {
  return key.readDoubleBE(9)
}
