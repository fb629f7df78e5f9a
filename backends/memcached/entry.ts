/**
 * What is kept under a key: a value, or the stub of a lease, or a value whose renewal is leased. All of it is in one
 * item, because memcached compares and swaps one item at a time.
 *
 *     magic+version 2 · flags 1 · key length 4 · lives until 8 · lease's id 16 · leased until 8 · key · value
 */

const MAGIC = 0xc5
const VERSION = 1
const HEAD = 39
const HAS_VALUE = 1
const NOBODY = Buffer.alloc(16)

/** How long the id of a lease is, in bytes. */
export const LEASE_ID = 16

export interface Lease {
  readonly id: Buffer
  /** Epoch ms, by the clock of its holder. */
  readonly until: number
}

export interface Entry {
  /** Absent: a stub, which is a miss. */
  readonly value: Buffer | undefined
  /** Epoch ms; `Infinity`: for ever. */
  readonly livesUntil: number
  readonly lease: Lease | undefined
}

export interface EntryParts {
  readonly value?: Uint8Array | undefined
  readonly livesUntil: number
  readonly lease?: Lease | undefined
  /** The key itself, where its name in memcached is only a hash of it. */
  readonly key?: string | undefined
}

/** The bytes of an entry. The head is always of the same size, so that leasing a value never makes it too large. */
export function packEntry({ value, livesUntil, lease, key }: EntryParts): Buffer {
  const name = key === undefined ? undefined : Buffer.from(key, 'utf16le')
  const valueAt = HEAD + (name?.length ?? 0)
  const bytes = Buffer.allocUnsafe(valueAt + (value?.length ?? 0))
  bytes[0] = MAGIC
  bytes[1] = VERSION
  bytes[2] = value === undefined ? 0 : HAS_VALUE
  bytes.writeUInt32BE(name?.length ?? 0, 3)
  bytes.writeDoubleBE(livesUntil, 7)
  bytes.set(lease?.id ?? NOBODY, 15)
  bytes.writeDoubleBE(lease?.until ?? 0, 31)
  if (name !== undefined) bytes.set(name, HEAD)
  if (value !== undefined) bytes.set(value, valueAt)
  return bytes
}

/** Reads an entry; `undefined` for anything that was not written by this version for this key. */
export function unpackEntry(bytes: Buffer, key: string | undefined): Entry | undefined {
  if (bytes.length < HEAD || bytes[0] !== MAGIC || bytes[1] !== VERSION) return undefined
  const nameLength = bytes.readUInt32BE(3)
  const valueAt = HEAD + nameLength
  if (bytes.length < valueAt) return undefined
  if (bytes.toString('utf16le', HEAD, valueAt) !== (key ?? '')) return undefined
  const until = bytes.readDoubleBE(31)
  return {
    value: ((bytes[2] as number) & HAS_VALUE) === 0 ? undefined : bytes.subarray(valueAt),
    livesUntil: bytes.readDoubleBE(7),
    lease: until === 0 ? undefined : { id: Buffer.from(bytes.subarray(15, 31)), until },
  }
}
