/** Reads forwards through bytes that may say anything: every read past the end fails, and failing is remembered. */
export interface Reader {
  readonly bytes: Buffer
  readonly end: number
  at: number
  failed: boolean
}

const SEVEN_BITS = 0x80
/** 2^53 takes eight groups of seven bits; a ninth byte is never written. */
const LONGEST = 8

/** How many bytes `writeVarint` takes for a whole number from 0 to 2^53 − 1. */
export function varintSize(value: number): number {
  let size = 1
  for (let rest = value; rest >= SEVEN_BITS; rest = Math.floor(rest / SEVEN_BITS)) size++
  return size
}

/** Writes a whole number from 0 to 2^53 − 1, seven bits a byte, lowest first. Returns where it ended. */
export function writeVarint(into: Uint8Array, at: number, value: number): number {
  let rest = value
  let next = at
  while (rest >= SEVEN_BITS) {
    into[next++] = (rest % SEVEN_BITS) | SEVEN_BITS
    rest = Math.floor(rest / SEVEN_BITS)
  }
  into[next++] = rest
  return next
}

/** Reads the output of `writeVarint`. Fails on encodings longer than needed and on numbers beyond 2^53 − 1. */
export function readVarint(from: Reader): number {
  let value = 0
  let weight = 1
  for (let i = 0; i < LONGEST; i++) {
    if (from.at >= from.end) break
    const byte = from.bytes[from.at++] as number
    value += (byte & 0x7f) * weight
    if (byte < SEVEN_BITS) {
      if ((byte === 0 && i > 0) || value > Number.MAX_SAFE_INTEGER) break
      return value
    }
    weight *= SEVEN_BITS
  }
  from.failed = true
  return 0
}

export function readFloat64(from: Reader): number {
  if (from.end - from.at < 8) {
    from.failed = true
    return 0
  }
  from.at += 8
  return from.bytes.readDoubleLE(from.at - 8)
}

/** Whether `writeVarint` can take a number. −0 is none of its numbers. */
export function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0 && !Object.is(value, -0)
}
