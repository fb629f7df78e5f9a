import * as zlib from 'node:zlib'

/** The CRC-32 of zlib and PNG (reflected, polynomial 0xEDB88320), continued from the CRC of the preceding bytes. */
type Crc32 = (data: Uint8Array | string, before?: number) => number

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1
  return crc
})

/** Four tables in a row, for four bytes at a time: each is the one before it, a zero byte later. */
const BY_FOUR = new Int32Array(4 * 256)
for (let i = 0; i < BY_FOUR.length; i++) {
  const before = BY_FOUR[i - 256] as number
  BY_FOUR[i] = i < 256 ? (TABLE[i] as number) : (TABLE[before & 0xff] as number) ^ (before >>> 8)
}

/** For short data, and for a Node older than 20.15, whose zlib has none. */
export const tableCrc32: Crc32 = (data, before = 0) => {
  const bytes = typeof data === 'string' ? Buffer.from(data) : data
  const { length } = bytes
  let crc = ~before
  let i = 0
  for (; i + 4 <= length; i += 4) {
    crc ^=
      (bytes[i] as number) |
      ((bytes[i + 1] as number) << 8) |
      ((bytes[i + 2] as number) << 16) |
      ((bytes[i + 3] as number) << 24)
    crc =
      (BY_FOUR[768 + (crc & 0xff)] as number) ^
      (BY_FOUR[512 + ((crc >>> 8) & 0xff)] as number) ^
      (BY_FOUR[256 + ((crc >>> 16) & 0xff)] as number) ^
      (BY_FOUR[crc >>> 24] as number)
  }
  for (; i < length; i++) crc = (BY_FOUR[(crc ^ (bytes[i] as number)) & 0xff] as number) ^ (crc >>> 8)
  return ~crc >>> 0
}

const native = (zlib as { readonly crc32?: Crc32 }).crc32

/** Up to so many bytes the table is faster than a call out of JavaScript. */
const SHORT = 192

/** The CRC of bytes, or of a text's UTF-8 form. */
export const crc32: Crc32 = (data, before = 0) =>
  native === undefined || (typeof data !== 'string' && data.length <= SHORT)
    ? tableCrc32(data, before)
    : native(data, before)

/** The CRC of any data followed by its own CRC, lowest byte first: checking needs no second view. */
export const RESIDUE = 0x2144df1c

/** Which entry of the table has a highest byte, to undo a step. */
const BY_HIGHEST = new Uint8Array(256)
for (let byte = 0; byte < 256; byte++) BY_HIGHEST[(TABLE[byte] as number) >>> 24] = byte

/**
 * The CRC of data from the CRC of that data with four zero bytes after it: room for the CRC itself. Making a view on
 * all but the last four bytes costs more than undoing four steps.
 */
export function withoutFourZeros(crc: number): number {
  let register = ~crc
  for (let i = 0; i < 4; i++) {
    const byte = BY_HIGHEST[register >>> 24] as number
    register = ((register ^ (TABLE[byte] as number)) << 8) | byte
  }
  return ~register >>> 0
}

/** Of a longer key the CRC in zlib is faster than one byte at a time. */
const LONG_KEY = 64

/** The CRC of a key. */
export function crcOfKey(key: string): number {
  if (key.length > LONG_KEY) return crc32(key)
  let crc = -1
  for (let i = 0; i < key.length; i++) {
    const unit = key.charCodeAt(i)
    if (unit > 0x7f) return crc32(key)
    crc = (TABLE[(crc ^ unit) & 0xff] as number) ^ (crc >>> 8)
  }
  return ~crc >>> 0
}
