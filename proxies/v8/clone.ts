/** The verdict on bytes of V8's structured clone. Only `fine` bytes may be passed to V8. */
export type CloneVerdict = 'fine' | 'broken' | 'deep' | 'absurd' | 'proto' | 'regexp'

export interface CloneLimits {
  readonly maxDepth: number
  readonly regExp: boolean
}

/** Holes take no bytes. An array may have as many beyond the size of its bytes, all arrays of an entry together. */
const SPARE_LENGTH = 65_536

const code = (tag: string) => tag.charCodeAt(0)
const PADDING = 0
const UNDEFINED = code('_')
const NULL = code('0')
const TRUE = code('T')
const FALSE = code('F')
const HOLE = code('-')
const INT32 = code('I')
const UINT32 = code('U')
const DOUBLE = code('N')
const BIGINT = code('Z')
const UTF8 = code('S')
const ONE_BYTE = code('"')
const TWO_BYTE = code('c')
const REFERENCE = code('^')
const OBJECT = code('o')
const OBJECT_END = code('{')
const DENSE = code('A')
const DENSE_END = code('$')
const SPARSE = code('a')
const SPARSE_END = code('@')
const DATE = code('D')
const TRUE_OBJECT = code('y')
const FALSE_OBJECT = code('x')
const NUMBER_OBJECT = code('n')
const BIGINT_OBJECT = code('z')
const STRING_OBJECT = code('s')
const REGEXP = code('R')
const MAP = code(';')
const MAP_END = code(':')
const SET = code("'")
const SET_END = code(',')
const BUFFER = code('B')
const HOST_OBJECT = code('\\')
const ERROR = code('r')

const UNDERSCORE = UNDEFINED
const PROTO_NARROW = Buffer.from('__proto__', 'latin1')
const PROTO_WIDE = Buffer.from('__proto__', 'utf16le')

// One clone is judged at a time, without a pause, so that the state of doing it needs no closures of its own.
const NOTHING = Buffer.alloc(0)
let clone: Buffer = NOTHING
let end = 0
let at = 0
let lengths = 0
let maxDepth = 0
let regExp = false
let verdict: CloneVerdict = 'fine'

/**
 * Reads through a structured clone, as Node writes it, without making anything. V8 believes the length of an array: five
 * bytes can ask for 256 MB, and nested arrays for that much each.
 * @param bytes - with V8's header: 0xFF and a version
 */
export function scanClone(bytes: Buffer, limits: CloneLimits): CloneVerdict {
  clone = bytes
  end = bytes.length
  at = 2
  lengths = end + SPARE_LENGTH
  maxDepth = limits.maxDepth
  regExp = limits.regExp
  verdict = 'fine'
  if (bytes[0] !== 0xff || (any(0) && at !== end)) verdict = 'broken'
  clone = NOTHING
  return verdict
}

function fail(as: CloneVerdict): false {
  verdict = as
  return false
}

function number(): number {
  const first = clone[at++]
  if (first !== undefined && first < 0x80) return first
  let value = (first ?? 0) & 0x7f
  for (let weight = 2 ** 7; weight <= 2 ** 28; weight *= 2 ** 7) {
    const byte = clone[at++]
    if (byte === undefined) break
    value += (byte & 0x7f) * weight
    if (byte < 0x80) return value
  }
  at = end + 1
  return 0
}

function skip(bytes: number): boolean {
  at += bytes
  return at <= end || fail('broken')
}

function claim(length: number): boolean {
  lengths -= length
  return lengths >= 0 || fail('absurd')
}

/** The next tag, without taking it. */
function peek(): number {
  while (clone[at] === PADDING) at++
  return clone[at] ?? -1
}

function text(): boolean {
  const tag = peek()
  at++
  return tag === ONE_BYTE || tag === TWO_BYTE || tag === UTF8 ? skip(number()) : fail('broken')
}

/** Whether text that stands here, its tag first, is the name. */
function isProto(tag: number): boolean {
  if (clone[at + 2] !== UNDERSCORE) return false
  const name = tag === TWO_BYTE ? PROTO_WIDE : PROTO_NARROW
  return (
    clone[at + 1] === name.length && name.compare(clone, at + 2, Math.min(end, at + 2 + name.length)) === 0
  )
}

/** Keys and values, or members, up to a tag that ends them and so many numbers. */
function parts(last: number, numbers: number, depth: number, keyed: boolean): boolean {
  for (;;) {
    const tag = peek()
    if (tag === last) break
    if (keyed) {
      if (isProto(tag)) return fail('proto')
      if (!any(depth)) return false
    }
    if (!any(depth)) return false
  }
  at++
  for (let i = 0; i < numbers; i++) number()
  return at <= end || fail('broken')
}

function dense(depth: number): boolean {
  const length = number()
  if (!claim(length)) return false
  for (let i = 0; i < length; i++) {
    if (peek() === HOLE) at++
    else if (!any(depth)) return false
  }
  return parts(DENSE_END, 2, depth, true)
}

const ERROR_KINDS = new Set([...'ERFSTU'].map(code))
const MESSAGE = code('m')
const STACK = code('s')
const CAUSE = code('c')
const ERROR_END = code('.')

function error(depth: number): boolean {
  for (;;) {
    const tag = clone[at++] ?? -1
    if (tag === ERROR_END) return true
    if (tag === MESSAGE || tag === STACK) {
      if (!text()) return false
    } else if (tag === CAUSE) {
      if (!any(depth)) return false
    } else if (!ERROR_KINDS.has(tag)) return fail('broken')
  }
}

function any(above: number): boolean {
  const tag = peek()
  at++
  switch (tag) {
    case UTF8:
    case ONE_BYTE:
    case TWO_BYTE:
    case BUFFER:
      return skip(number())
    case INT32:
    case UINT32:
    case REFERENCE:
      number()
      return at <= end || fail('broken')
    case UNDEFINED:
    case NULL:
    case TRUE:
    case FALSE:
    case TRUE_OBJECT:
    case FALSE_OBJECT:
      return true
    case DOUBLE:
    case DATE:
    case NUMBER_OBJECT:
      return skip(8)
    case BIGINT:
    case BIGINT_OBJECT:
      return skip(Math.floor(number() / 2))
    case STRING_OBJECT:
      return text()
    case HOST_OBJECT:
      number()
      return skip(number())
    case REGEXP:
      return regExp ? text() && skip(Math.min(0, number())) : fail('regexp')
    default:
      return above >= maxDepth ? fail('deep') : inside(tag, above + 1)
  }
}

function inside(tag: number, depth: number): boolean {
  switch (tag) {
    case OBJECT:
      return parts(OBJECT_END, 1, depth, true)
    case DENSE:
      return dense(depth)
    case SPARSE:
      return claim(number()) && parts(SPARSE_END, 2, depth, true)
    case MAP:
      return parts(MAP_END, 1, depth, false)
    case SET:
      return parts(SET_END, 1, depth, false)
    case ERROR:
      return error(depth)
    default:
      return fail('broken')
  }
}
