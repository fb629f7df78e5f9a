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
const HOLE = code('-')
const TWO_BYTE = code('c')
const UNDERSCORE = code('_')
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

/** Takes numbers whose values do not matter. */
function numbers(count: number): boolean {
  for (let i = 0; i < count; i++) number()
  return at <= end || fail('broken')
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

function sized(): boolean {
  return skip(number())
}

function string(): boolean {
  return sized()
}

function text(): boolean {
  const tag = peek()
  at++
  return FORMS[tag] === string ? string() : fail('broken')
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
function parts(ending: string, count: number, keyed: boolean): Form {
  const last = code(ending)
  return (depth) => {
    for (let tag = peek(); tag !== last; tag = peek()) {
      if (keyed) {
        if (isProto(tag)) return fail('proto')
        if (!any(depth)) return false
      }
      if (!any(depth)) return false
    }
    at++
    return numbers(count)
  }
}

function dense(depth: number): boolean {
  const length = number()
  if (!claim(length)) return false
  for (let i = 0; i < length; i++) {
    if (peek() === HOLE) at++
    else if (!any(depth)) return false
  }
  return denseEnd(depth)
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

/** Takes the bytes that follow a tag. */
type Form = (depth: number) => boolean

const FORMS: Form[] = []

function form(tags: string, take: Form): void {
  for (const tag of tags) FORMS[code(tag)] = take
}

function any(above: number): boolean {
  const take = FORMS[peek()]
  at++
  return take === undefined ? fail('broken') : take(above)
}

function nested(take: Form): Form {
  return (above) => (above >= maxDepth ? fail('deep') : take(above + 1))
}

const denseEnd = parts('$', 2, true)
const sparseEnd = parts('@', 2, true)

// undefined, null, true, false, and the objects of true and false
form('_0TFyx', () => true)
// whole numbers, and references to objects before
form('IU^', () => numbers(1))
// doubles, dates and objects of numbers
form('NDn', () => skip(8))
// bigints and their objects: the lowest bit is the sign
form('Zz', () => skip(Math.floor(number() / 2)))
form('S"c', string)
// the bytes of an ArrayBuffer
form('B', sized)
form('s', text)
// views, which Node writes itself
form('\\', () => numbers(1) && sized())
form('R', () => (regExp ? text() && numbers(1) : fail('regexp')))
form('o', nested(parts('{', 1, true)))
form('A', nested(dense))
form(
  'a',
  nested((depth) => claim(number()) && sparseEnd(depth)),
)
form(';', nested(parts(':', 1, false)))
form("'", nested(parts(',', 1, false)))
form('r', nested(error))
