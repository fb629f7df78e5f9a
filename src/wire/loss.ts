import { CorralError } from '../base/errors.js'
import { shortPath } from '../base/nesting.js'
import { prototypeHere } from '../base/realms.js'
import type { FidelityRules, Visit } from './keeps.js'
import { isWellFormed } from './text.js'

/** A part of a value that an encoding would not keep. */
export interface Loss {
  /** From the payload, as one would write it in code: `value.rows[3].price`. */
  readonly path: string
  readonly what: string
  readonly advice?: string | undefined
}

const IDENTIFIER = /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u
const LONGEST_KEY = 40
const ADVICE = 'Store plain data, choose an encoding that keeps it (docs/encodings.md), or pass lossy: true.'

/** @throws CorralError `ERR_UNENCODABLE` naming the path of a part that an encoding would not keep. */
export function refuseLoss(keeps: FidelityRules, { path, what, advice = ADVICE }: Loss): never {
  throw new CorralError(
    'ERR_UNENCODABLE',
    `Expected a value that ${keeps.encoding} keeps whole, got ${what} at \`${shortPath(path)}\`. ${advice}`,
  )
}

/** The words for a value that an encoding does not keep; `undefined` if it keeps it, the parts inside left aside. */
export function lossOf(keeps: FidelityRules, value: unknown): string | undefined {
  switch (typeof value) {
    case 'string':
      return keeps.loneSurrogates || isWellFormed(value) ? undefined : 'text with half a surrogate pair'
    case 'number':
      return keeps.structured || Number.isFinite(value) ? undefined : String(value)
    case 'undefined':
      return keeps.structured ? undefined : 'undefined'
    case 'bigint':
      return keeps.structured ? undefined : 'a bigint'
    case 'boolean':
      return undefined
    case 'object':
      return value === null || isKept(keeps, value) ? undefined : instanceName(value)
    default:
      return `a ${typeof value}`
  }
}

function isKept(keeps: FidelityRules, value: object): boolean {
  const prototype = prototypeHere(value)
  if (Array.isArray(value)) return prototype === Array.prototype
  return prototype === Object.prototype || prototype === null || keeps.classes.has(prototype)
}

/** The words for an instance of a class. */
export function instanceName(value: object): string {
  const maker = (Object.getPrototypeOf(value) as { readonly constructor?: unknown } | null)?.constructor
  return `an instance of ${typeof maker === 'function' && maker.name !== '' ? maker.name : 'a nameless class'}`
}

/** Traits of a value that an encoder may have to treat apart. */
export interface Traits {
  /** A −0 is in there. */
  negativeZero: boolean
  /** Something of another realm is in there. */
  foreign: boolean
}

/** A look at one value. */
interface Look extends Traits {
  readonly keeps: FidelityRules
  readonly path: string[]
  /** The objects that contain the part at `path`. */
  readonly open: Set<object>
  readonly seen: Set<object>
}

/**
 * Looks at a value with care: sees each object once and knows where it is. Linear in the size of the value, however
 * its parts are shared.
 * @throws CorralError `ERR_UNENCODABLE` naming the path of the first part that the encoding would not keep.
 */
export function carefulCheck(keeps: FidelityRules, value: unknown): Traits {
  const traits = { negativeZero: false, foreign: false }
  const look: Look = { keeps, path: ['value'], open: new Set(), seen: new Set(), ...traits }
  lookAt(look, value)
  return look
}

function lookAt(look: Look, part: unknown): void {
  const { keeps, open, seen } = look
  if (Object.is(part, -0)) look.negativeZero = true
  refuseIf(look, lossOf(keeps, part))
  if (typeof part !== 'object' || part === null) return
  refuseIf(look, !keeps.structured && open.has(part) && 'a reference back to an object that contains it')
  if (seen.has(part)) return
  if (open.size >= keeps.maxDepth)
    refuseIf(look, `objects nested deeper than ${keeps.maxDepth}`, 'Store flatter data, or raise maxDepth.')
  seen.add(part)
  open.add(part)
  lookInside(look, part)
  open.delete(part)
}

function refuseIf({ keeps, path }: Look, what: string | false | undefined, advice?: string): void {
  if (what) refuseLoss(keeps, { path: path.join(''), what, advice })
}

function step(look: Look, segment: string, part: unknown): void {
  look.path.push(segment)
  lookAt(look, part)
  look.path.pop()
}

function lookInside(look: Look, part: object): void {
  const here = prototypeHere(part)
  if (here !== Object.getPrototypeOf(part)) look.foreign = true
  const visit = here === null ? undefined : look.keeps.classes.get(here)
  if (visit !== undefined) VISITS[visit](look, part as never)
  else if (Array.isArray(part)) lookAtElements(look, part)
  else lookAtProperties(look, part)
}

const VISITS: Record<Visit, (look: Look, part: never) => void> = {
  whole() {},
  foreign: (look) => void (look.foreign = true),
  map: lookAtEntries,
  set: lookAtMembers,
  error: lookAtError,
}

function lookAtProperties(look: Look, part: object): void {
  for (const key in part) {
    refuseIf(look, key === '__proto__' && 'a key named __proto__', 'No encoding takes it: rename the key.')
    refuseIf(look, !look.keeps.loneSurrogates && !isWellFormed(key) && 'a key with half a surrogate pair')
    step(look, property(key), (part as Record<string, unknown>)[key])
  }
}

function lookAtElements(look: Look, part: readonly unknown[]): void {
  // By keys: an array of holes may be 2^32 long.
  if (look.keeps.holes) for (const key of Object.keys(part)) step(look, `[${key}]`, part[key as never])
  else
    for (let i = 0; i < part.length; i++) {
      if (!(i in part)) refuseAt(look, `[${i}]`, 'a hole in an array')
      step(look, `[${i}]`, part[i])
    }
}

function refuseAt(look: Look, segment: string, what: string): void {
  look.path.push(segment)
  refuseIf(look, what)
}

function lookAtEntries(look: Look, part: Map<unknown, unknown>): void {
  let i = 0
  for (const [key, item] of part) {
    const named = typeof key === 'string' || typeof key === 'number'
    step(look, `.keys()[${i}]`, key)
    step(look, named ? `.get(${quoted(key)})` : `.values()[${i}]`, item)
    i++
  }
}

function lookAtMembers(look: Look, part: Set<unknown>): void {
  let i = 0
  for (const item of part) step(look, `.values()[${i++}]`, item)
}

function lookAtError(look: Look, part: Error): void {
  for (const key of Object.keys(part))
    if (key !== 'cause')
      refuseAt(look, property(key), 'a property that an Error has beyond its message, stack and cause')
  if ('cause' in part) step(look, '.cause', part.cause)
}

/** A step of a path from an object to one of its parts. */
export function segmentOf(holder: object, key: string): string {
  return Array.isArray(holder) ? `[${key}]` : property(key)
}

function property(key: string): string {
  return IDENTIFIER.test(key) && key.length <= LONGEST_KEY ? `.${key}` : `[${quoted(key)}]`
}

function quoted(key: string | number): string {
  if (typeof key === 'number') return String(key)
  return JSON.stringify(key.length > LONGEST_KEY ? `${key.slice(0, LONGEST_KEY)}…` : key)
}
