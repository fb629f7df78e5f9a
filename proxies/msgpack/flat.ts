/**
 * Reads the payload that most small values are, one object of texts and numbers, without msgpackr: that makes two views on
 * the bytes and a reader of the record for each entry, which cost more than the values. All else is left to msgpackr.
 */

/** The payload is of another kind. */
export const OTHER = Symbol('other')

/** The head of a definition of the first record, as msgpackr writes it for an object. */
const [EXTENSION, DEFINITION, FIRST] = [0xd4, 0x72, 0x40]
const HEAD = 4
/** In bytes: larger payloads gain little. */
const LONGEST = 512

/** The names of an object's fields, and the bytes that define them. */
interface Fields {
  readonly definition: Uint8Array
  readonly names: readonly string[]
}

/** The fields that were read last, by their number: entries of a region are alike. */
const recent: (Fields | undefined)[] = new Array(16).fill(undefined)

/** Returns the object, or `OTHER` for bytes that are not exactly one object of short plain values. */
export function readFlat(bytes: Buffer, start: number, end: number): unknown {
  if (bytes[start] !== EXTENSION || bytes[start + 1] !== DEFINITION || bytes[start + 2] !== FIRST)
    return OTHER
  if (end - start <= HEAD || end - start > LONGEST) return OTHER
  const fields = fieldsAt(bytes, start, end)
  if (fields === undefined) return OTHER
  const { names, definition } = fields
  const found: Record<string, unknown> = {}
  next = start + definition.length
  for (let i = 0; i < names.length; i++) {
    const value = readScalar(bytes, end)
    if (value === OTHER) return OTHER
    found[names[i] as string] = value
  }
  return next === end ? found : OTHER
}

function fieldsAt(bytes: Buffer, start: number, end: number): Fields | undefined {
  // An array of fewer than 16 names.
  const count = (bytes[start + HEAD - 1] as number) - 0x90
  if (count < 0 || count >= recent.length) return undefined
  const last = recent[count]
  if (last !== undefined && standsAt(last.definition, bytes, start, end)) return last
  const names: string[] = []
  next = start + HEAD
  for (let i = 0; i < count; i++) {
    const name = readScalar(bytes, end)
    // msgpackr renames a `__proto__`, which is judged elsewhere.
    if (typeof name !== 'string' || name.startsWith('__proto_')) return undefined
    names.push(name)
  }
  const fields = { definition: Uint8Array.prototype.slice.call(bytes, start, next), names }
  recent[count] = fields
  return fields
}

function standsAt(definition: Uint8Array, bytes: Buffer, start: number, end: number): boolean {
  const { length } = definition
  if (end - start < length) return false
  for (let i = HEAD; i < length; i++) if (definition[i] !== bytes[start + i]) return false
  return true
}

/** Where the next value begins. */
let next = 0

function readScalar(bytes: Buffer, end: number): unknown {
  if (next >= end) return OTHER
  const token = bytes[next++] as number
  // From 0x40 on it may be a record.
  if (token < 0x40) return token
  if (token >= 0xe0) return token - 0x100
  if (token >= 0xa0 && token < 0xc0) return readText(bytes, token - 0xa0, end)
  const size = SIZES[token]
  if (size === undefined || next + size > end) return OTHER
  const at = next
  next += size
  switch (token) {
    case 0xc0:
      return null
    case 0xc2:
      return false
    case 0xc3:
      return true
    case 0xcb:
      return bytes.readDoubleBE(at)
    case 0xcc:
      return bytes[at]
    case 0xcd:
      return bytes.readUInt16BE(at)
    case 0xce:
      return bytes.readUInt32BE(at)
    case 0xd0:
      return bytes.readInt8(at)
    case 0xd1:
      return bytes.readInt16BE(at)
    case 0xd2:
      return bytes.readInt32BE(at)
    default:
      return readText(bytes, bytes[at] as number, end)
  }
}

/** How many bytes follow a token: null, booleans, float64, whole numbers, and the length of a text. */
const SIZES: (number | undefined)[] = new Array(256).fill(undefined)
for (const [token, size] of [
  ...([
    [0xc0, 0],
    [0xc2, 0],
    [0xc3, 0],
    [0xcb, 8],
    [0xcc, 1],
    [0xcd, 2],
  ] as const),
  ...([
    [0xce, 4],
    [0xd0, 1],
    [0xd1, 2],
    [0xd2, 4],
    [0xd9, 1],
  ] as const),
])
  SIZES[token] = size

/** `toString` without its checks, which cost as much. msgpackr uses it, too. */
type Latin1 = Buffer & { latin1Slice(start: number, end: number): string }

function readText(bytes: Buffer, length: number, end: number): unknown {
  const start = next
  next += length
  if (next > end) return OTHER
  // A check of the whole text costs less than a decoder of UTF-8.
  for (let i = start; i < next; i++) if ((bytes[i] as number) > 0x7f) return OTHER
  return (bytes as Latin1).latin1Slice(start, next)
}
