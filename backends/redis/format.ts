import { CorralError, formatValue } from '../../src/base/errors.js'
import type { Stamp } from '../../src/ledger/ledger.js'
import type { LedgerTime } from '../../src/ledger/snapshot.js'

/**
 * Everything that this backend writes beside the values has this prefix: `~corral:<kind>:…`, or `~corral:<kind>={…}`
 * where the name has no hash tag of its own. Keys of users may not begin with it.
 */
export const RESERVED = '~corral:'

const TILDE = RESERVED.charCodeAt(0)

/**
 * The key under which a value is stored: nearly always the caller's own. A key whose braces no other key can be
 * made to share a slot with (`a}b`, `{}a`) is escaped.
 * @throws CorralError `ERR_KEY` for keys that begin like bookkeeping, and for strings that have no bytes of their own.
 */
export function valueKey(key: string): string {
  if (key.charCodeAt(0) === TILDE && key.startsWith(RESERVED))
    throw new CorralError(
      'ERR_KEY',
      `Expected a key that does not begin with '${RESERVED}', which the Redis backend keeps its leases and stamps under, got ${formatValue(key)}.`,
    )
  // Two such keys would become the same bytes. Node 20 has the method; the types of ES2023 do not yet.
  if (!(key as unknown as { isWellFormed(): boolean }).isWellFormed())
    throw new CorralError(
      'ERR_KEY',
      `Expected a key of well-formed text, got ${formatValue(key)} with half of a surrogate pair in it.`,
    )
  return key.includes('}') && hashTag(key) === undefined ? escaped('v', key) : key
}

/** The key of a value from the key under which it is stored; `undefined` for bookkeeping. */
export function unescapedKey(stored: string): string | undefined {
  if (!stored.startsWith(RESERVED)) return stored
  const [kind, text] = [`${RESERVED}v:`, stored.slice(RESERVED.length + 2)]
  return stored.startsWith(kind) ? text.replace(/%7D|%25/g, (one) => (one === '%25' ? '%' : '}')) : undefined
}

/** A key that sits in the slot of another one: the lease of a value, the ring of a clock. Different names, different keys. */
export function companion(kind: string, name: string): string {
  return name.includes('}') ? `${RESERVED}${kind}:${name}` : `${RESERVED}${kind}={${name}}`
}

/** The clock, its ring and its pending transactions, which share a slot. */
export function clockKeys(clock: string): {
  readonly clock: string
  readonly ring: string
  readonly pending: string
} {
  const name = clock.includes('}') && hashTag(clock) === undefined ? escaped('n', clock) : clock
  return {
    clock: companion('clock', name),
    ring: companion('ring', name),
    pending: companion('pending', name),
  }
}

/**
 * The clock is part of it: `tag:x` under the prefix `a:` and `x` under `a:tag:` are one text, but ledgers whose clocks
 * differ must not put each other's stamps back.
 */
export function stampKey(clock: string, name: string): string {
  return `${RESERVED}stamp:${clock.length}:${clock}${name}`
}

/** The stamps of names, in their order. */
export function stampKeys(clock: string, names: readonly string[]): readonly string[] {
  return names.map((name) => stampKey(clock, name))
}

function escaped(kind: string, text: string): string {
  return `${RESERVED}${kind}:${text.replace(/[%}]/g, (found) => (found === '%' ? '%25' : '%7D'))}`
}

/** The part that Redis Cluster hashes instead of the whole key, if the key has it. */
function hashTag(key: string): string | undefined {
  const open = key.indexOf('{')
  if (open < 0) return undefined
  const end = key.indexOf('}', open + 1)
  return end > open + 1 ? key.slice(open + 1, end) : undefined
}

const TABLE = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8
  for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1
  return crc
})

/** The slot of a key in Redis Cluster: CRC-16/XMODEM of its hash tag, modulo 16384. */
export function slotOf(key: string): number {
  const hashed = hashTag(key) ?? key
  let crc = 0
  for (let i = 0; i < hashed.length; i++) {
    const byte = hashed.charCodeAt(i)
    if (byte > 0x7f) return slotOfBytes(Buffer.from(hashed))
    crc = ((crc << 8) & 0xffff) ^ (TABLE[(crc >> 8) ^ byte] as number)
  }
  return crc % 16_384
}

function slotOfBytes(hashed: Buffer): number {
  let crc = 0
  for (const byte of hashed) crc = ((crc << 8) & 0xffff) ^ (TABLE[(crc >> 8) ^ byte] as number)
  return crc % 16_384
}

let lastText = ''
let lastTime: LedgerTime | undefined

/** A clock as it is stored: `epoch:microseconds`. Any other text is no clock, and entries that rest on it are misses. */
export function parseClock(stored: Buffer | string | null | undefined): LedgerTime | undefined {
  if (stored === null || stored === undefined) return undefined
  const text = typeof stored === 'string' ? stored : stored.toString('latin1')
  // The clock seldom moves between two reads.
  if (text === lastText) return lastTime
  const colon = text.lastIndexOf(':')
  const at = colon > 0 ? number(text.slice(colon + 1)) : undefined
  if (at === undefined) return undefined
  lastText = text
  lastTime = { epoch: text.slice(0, colon), at }
  return lastTime
}

export function expectClock(reply: unknown): LedgerTime {
  const found = parseClock(typeof reply === 'string' || Buffer.isBuffer(reply) ? reply : undefined)
  if (found === undefined)
    throw new CorralError(
      'ERR_BACKEND',
      'Expected the clock of the ledger, got a value of another form: another program writes to its key. Give the backend keys of its own.',
    )
  return found
}

/** A stamp as it is stored: `hard`, `hard soft`, or that with the marks behind it. A placeholder is none yet. */
export function parseStamp(stored: Buffer | null | undefined): Stamp | undefined {
  if (stored === null || stored === undefined) return undefined
  const text = stored.toString('latin1')
  const space = text.indexOf(' ')
  const hard = number(space < 0 ? text : text.slice(0, space))
  const end = space < 0 ? -1 : text.indexOf(' ', space + 1)
  const soft = space < 0 ? 0 : number(text.slice(space + 1, end < 0 ? undefined : end))
  return hard === undefined || soft === undefined ? undefined : { hard, soft }
}

function number(text: string): number | undefined {
  return /^\d{1,16}$/.test(text) ? Number(text) : undefined
}

/** Redis takes whole milliseconds above zero; a longer lifetime is a hundred years. */
export function lifetimeArg(ms: number): string {
  return `${Math.min(Math.max(1, Math.ceil(ms)), 3_153_600_000_000)}`
}
