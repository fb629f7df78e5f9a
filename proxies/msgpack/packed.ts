import { randomBytes } from 'node:crypto'

/** A double that no value has by chance: its lower 48 bits are this process's secret. */
const STAND_IN_BYTES = Buffer.concat([Buffer.of(0x7f, 0xe5), randomBytes(6)])

/** The stand-in for a −0 while MessagePack is written, by an encoder that would write it as 0. */
export const STAND_IN: number = STAND_IN_BYTES.readDoubleBE(0)

const FLOAT64 = 0xcb
const STAND_IN_PACKED = Buffer.concat([Buffer.of(FLOAT64), STAND_IN_BYTES])

/** Turns every stand-in back into a −0. False: there were not as many as were put in, so the bytes are of no use. */
export function mendNegativeZeros(packed: Buffer, count: number): boolean {
  let found = 0
  for (let at = packed.indexOf(STAND_IN_PACKED); at >= 0; at = packed.indexOf(STAND_IN_PACKED, at + 9)) {
    packed.fill(0, at + 1, at + 9)
    packed[at + 1] = 0x80
    found++
  }
  return found === count
}

const REGEXP = 0x78

/**
 * Whether MessagePack may hold a RegExp: its extension type after a header that can introduce one. Text can look the
 * same, so that a yes has to be checked; a no is certain.
 */
export function mayHoldRegExp(packed: Buffer): boolean {
  for (let at = packed.indexOf(REGEXP); at >= 0; at = packed.indexOf(REGEXP, at + 1)) {
    const before = packed[at - 1] as number
    if (before >= 0xd4 && before <= 0xd8) return true
    if (packed[at - 2] === 0xc7 || packed[at - 3] === 0xc8 || packed[at - 5] === 0xc9) return true
  }
  return false
}

const REPLACEMENT = Buffer.from('\ufffd')

/** Whether MessagePack may hold a replaced half of a surrogate pair. The caller has to check a yes. */
export function mayHoldLoneSurrogate(packed: Buffer): boolean {
  for (let at = packed.indexOf(0xed); at >= 0; at = packed.indexOf(0xed, at + 1))
    if ((packed[at + 1] as number) >= 0xa0) return true
  return packed.includes(REPLACEMENT)
}

const PROTO = Buffer.from('__proto__')
const UNDERSCORE = 0x5f

/** Whether the bytes have a `__proto__` in them, be it a key or plain text. */
export function mentionsProto(packed: Buffer): boolean {
  // Looking for one byte first: most small values have no underscore, and it is four times as fast.
  const underscore = packed.indexOf(UNDERSCORE)
  return underscore >= 0 && packed.includes(PROTO, underscore)
}

/** How often the bytes have a `__proto__` in them. */
export function countProto(packed: Buffer): number {
  let count = 0
  for (let at = packed.indexOf(PROTO); at >= 0; at = packed.indexOf(PROTO, at + PROTO.length)) count++
  return count
}

const DEFINITION = Buffer.of(0xd4, 0x72)
/** Below this size the definitions that fit cost less than looking for them. */
const SMALL = 4096
const MANY = 256

/**
 * Whether MessagePack defines so many records that compiling a reader for each, at some 20 µs, would be an attack:
 * 16 bytes can demand one.
 */
export function definesMany(packed: Buffer): boolean {
  if (packed.length < SMALL) return false
  let count = 0
  for (let at = packed.indexOf(DEFINITION); at >= 0; at = packed.indexOf(DEFINITION, at + 2))
    if (++count > MANY) return true
  return false
}

const WIDE_DEFINITION = 0xd5

/** Whether MessagePack may define records with ids of two bytes, which no writer of ours does. */
export function mayDefineWide(packed: Buffer): boolean {
  for (let at = packed.indexOf(WIDE_DEFINITION); at >= 0; at = packed.indexOf(WIDE_DEFINITION, at + 1))
    if (packed[at + 1] === 0x72) return true
  return false
}
