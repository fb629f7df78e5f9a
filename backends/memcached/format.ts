/**
 * The form of keys, lifetimes and entries in memcached. An entry is a value, the stub of a lease, or a value whose
 * renewal is leased. All of it is in one item, because memcached compares and swaps one item at a time:
 *
 *     magic+version 2 · flags 1 · key length 4 · lives until 8 · lease's id 16 · leased until 8 · key · value
 */
import { createHash } from 'node:crypto'
import type { LeaseFailure } from '../../src/backend/lease.js'

export interface StoredLease {
  readonly id: Buffer
  /** Epoch ms, by the clock of its holder. */
  readonly until: number
  /** Of one that was kept after a failure. Epoch ms, by the clock of the process that kept it. */
  readonly since?: number | undefined
  /** Kept after a failure: the id is of no holder. */
  readonly failure?: LeaseFailure | undefined
}

export interface Entry {
  /** Absent: a stub, which is a miss. */
  readonly value: Buffer | undefined
  /** Epoch ms; `Infinity`: for ever. */
  readonly livesUntil: number
  readonly lease: StoredLease | undefined
}

/** memcached's limit for a key, in bytes. */
const MAX_KEY = 250

/** Safe in every protocol and tool of memcached, and free of our escape character. */
const PLAIN = /^[!-$&-~]+$/

/** Marks of bookkeeping; no escaped key can begin with them, since no hexadecimal digit follows the `%`. */
export const CLOCK = '%k'
export const STAMP = '%s'
export const LOG = '%l'
/** How long the marks of a transaction live. */
export const LIFE = '%t'
const EMPTY = '%-'
const HASHED = '%#'

/** The name of a key in memcached. If it is a hash, the entry carries the key, to be compared. */
interface WireKey {
  readonly text: string
  readonly carried?: string
}

/** Longer keys are not kept in their entries: they would take the room of the value. */
const MAX_CARRIED = 2_000

/**
 * Printable ASCII of at most 250 bytes, different for different keys. Plain keys stay readable, other characters are
 * escaped, longer keys are hashed.
 */
export function wireKey(key: string): WireKey {
  const text = plainOrEscaped(key, MAX_KEY)
  if (text !== undefined) return { text }
  const carried = key.length > MAX_CARRIED ? `${key.length} ${digest('sha512', key)}` : key
  return { text: hash(key), carried }
}

/** The name of a piece of bookkeeping, apart from every entry's. */
export function wireName(mark: typeof CLOCK | typeof STAMP | typeof LOG | typeof LIFE, name: string): string {
  return mark + (plainOrEscaped(name, MAX_KEY - mark.length) ?? hash(name))
}

function plainOrEscaped(key: string, most: number): string | undefined {
  if (key === '') return EMPTY
  if (key.length > most) return undefined
  if (PLAIN.test(key)) return key
  let escaped = ''
  // By code units, not by UTF-8, in which all lone surrogates are the same.
  for (let i = 0; i < key.length; i++) {
    const code = key.charCodeAt(i)
    if (code > 0x20 && code < 0x7f && code !== 0x25) escaped += key[i]
    else if (code < 0x80) escaped += `%${code.toString(16).padStart(2, '0')}`
    else escaped += `%u${code.toString(16).padStart(4, '0')}`
  }
  return escaped.length <= most ? escaped : undefined
}

function hash(key: string): string {
  return HASHED + digest('sha256', key)
}

function digest(algorithm: string, key: string): string {
  return createHash(algorithm).update(key, 'utf16le').digest('base64url')
}

/** From here on memcached takes a number of seconds for a point in time. */
const ABSOLUTE = 30 * 86_400

/**
 * The expiry to send for a moment (epoch ms): never earlier, so one second more, since memcached's clock ticks in seconds.
 * Beyond 30 days it is a point in time; 0 is for ever.
 */
export function secondsUntil(moment: number, now: number): number {
  if (moment === Number.POSITIVE_INFINITY) return 0
  const seconds = Math.max(1, Math.ceil((moment - now) / 1000)) + 1
  const expiry = seconds < ABSOLUTE ? seconds : Math.ceil(now / 1000) + seconds
  // The protocol can carry no time beyond the year 2106.
  return expiry < 2 ** 32 ? expiry : 0
}

const MAGIC = 0xc5
const VERSION = 1
const HEAD = 39
const HAS_VALUE = 1
/** The lease was kept after a failure. The halves of its id are the time of that, and the ledger's time. */
const HAS_FAILED = 2

/** Bytes of a lease's id. */
export const LEASE_ID = 16
const NO_LEASE = Buffer.alloc(LEASE_ID)

export interface EntryParts {
  readonly value?: Uint8Array | undefined
  readonly livesUntil: number
  readonly lease?: StoredLease | undefined
  /** The key itself, where its name in memcached is only a hash of it. */
  readonly key?: string | undefined
}

/** The head is always of the same size, so that leasing a value never makes its item too large. */
export function encodeEntry({ value, livesUntil, lease, key = '' }: EntryParts): Buffer {
  const valueAt = HEAD + key.length * 2
  const bytes = Buffer.allocUnsafe(valueAt + (value?.length ?? 0))
  bytes[0] = MAGIC
  bytes[1] = VERSION
  bytes[2] = (value === undefined ? 0 : HAS_VALUE) | (lease?.failure === undefined ? 0 : HAS_FAILED)
  bytes.writeUInt32BE(key.length * 2, 3)
  bytes.writeDoubleBE(livesUntil, 7)
  bytes.set(lease?.id ?? NO_LEASE, 15)
  bytes.writeDoubleBE(lease?.until ?? 0, 31)
  bytes.write(key, HEAD, 'utf16le')
  if (value !== undefined) bytes.set(value, valueAt)
  return bytes
}

/** `undefined` for bytes that this version did not write for this key. */
export function decodeEntry(bytes: Buffer, key = ''): Entry | undefined {
  if (bytes.length < HEAD || bytes[0] !== MAGIC || bytes[1] !== VERSION) return undefined
  const valueAt = HEAD + bytes.readUInt32BE(3)
  if (bytes.length < valueAt) return undefined
  if (bytes.toString('utf16le', HEAD, valueAt) !== key) return undefined
  const until = bytes.readDoubleBE(31)
  return {
    value: ((bytes[2] as number) & HAS_VALUE) === 0 ? undefined : bytes.subarray(valueAt),
    livesUntil: bytes.readDoubleBE(7),
    lease: until === 0 ? undefined : leaseIn(bytes, until),
  }
}

function leaseIn(bytes: Buffer, until: number): StoredLease {
  const id = Buffer.from(bytes.subarray(15, 31))
  if (((bytes[2] as number) & HAS_FAILED) === 0) return { id, until }
  const failedAsOf = id.readDoubleBE(8)
  const failure = { failedAsOf: Number.isNaN(failedAsOf) ? undefined : failedAsOf }
  return { id, until, since: id.readDoubleBE(0), failure }
}

/** A lease that is kept after a failure. */
export function failedLease(since: number, until: number, { failedAsOf }: LeaseFailure): StoredLease {
  const id = Buffer.alloc(LEASE_ID)
  id.writeDoubleBE(since, 0)
  id.writeDoubleBE(failedAsOf ?? Number.NaN, 8)
  return { id, until, since, failure: { failedAsOf } }
}
