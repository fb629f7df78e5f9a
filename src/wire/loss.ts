import type { FidelityRules } from './keeps.js'
import { isWellFormed } from './text.js'

/** A part of a value that an encoding would not keep. */
export interface Loss {
  /** From the payload, as one would write it in code: `value.rows[3].price`. */
  readonly path: string
  readonly what: string
  readonly advice?: string
}

const IDENTIFIER = /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u
const LONGEST_KEY = 40

/** Finds the first part that would be lost. Linear in the size of the value, however its parts are shared. */
export function explainLoss(keeps: FidelityRules, value: unknown): { loss?: Loss; negativeZero: boolean } {
  const path: string[] = ['value']
  const done = new Set<object>()
  const open = new Set<object>()
  let negativeZero = false

  const lost = (what: string, advice?: string): Loss =>
    advice === undefined ? { path: path.join(''), what } : { path: path.join(''), what, advice }

  const lostAt = (segment: string, what: string): Loss => {
    path.push(segment)
    const loss = lost(what)
    path.pop()
    return loss
  }
  const step = (segment: string, part: unknown): Loss | undefined => {
    path.push(segment)
    const loss = look(part)
    path.pop()
    return loss
  }
  const look = (part: unknown): Loss | undefined => {
    switch (typeof part) {
      case 'string':
        return !keeps.loneSurrogates && !isWellFormed(part)
          ? lost('text with half a surrogate pair')
          : undefined
      case 'number':
        if (Object.is(part, -0)) negativeZero = true
        return keeps.nonFinite || Number.isFinite(part) ? undefined : lost(String(part))
      case 'undefined':
        return keeps.undefined ? undefined : lost('undefined')
      case 'bigint':
        return keeps.bigint ? undefined : lost('a bigint')
      case 'boolean':
        return undefined
      case 'object':
        return part === null ? undefined : lookInside(part)
      default:
        return lost(`a ${typeof part}`)
    }
  }
  const lookInside = (part: object): Loss | undefined => {
    if (open.has(part))
      return keeps.cycles ? undefined : lost('a reference back to an object that contains it')
    if (done.has(part)) return undefined
    if (open.size >= keeps.maxDepth)
      return lost(`objects nested deeper than ${keeps.maxDepth}`, 'Store flatter data, or raise maxDepth.')
    open.add(part)
    const loss = lookAtParts(part)
    open.delete(part)
    done.add(part)
    return loss
  }
  const lookAtParts = (part: object): Loss | undefined => {
    const prototype: object | null = Object.getPrototypeOf(part)
    if (prototype === Object.prototype || prototype === null) return lookAtProperties(part)
    if (prototype === Array.prototype && Array.isArray(part)) return lookAtElements(part)
    switch (keeps.classes.get(prototype)) {
      case 'whole':
        return undefined
      case 'map':
        return lookAtEntries(part as Map<unknown, unknown>)
      case 'set':
        return lookAtMembers(part as Set<unknown>)
      case 'error':
        return lookAtError(part as Error)
      default:
        return lost(`an instance of ${nameOf(prototype)}`)
    }
  }
  const lookAtProperties = (part: object): Loss | undefined => {
    for (const key in part) {
      if (key === '__proto__') return lost('a key named __proto__', 'No encoding takes it: rename the key.')
      const found = keyLoss(key) ?? step(property(key), (part as Record<string, unknown>)[key])
      if (found !== undefined) return found
    }
    return undefined
  }
  const keyLoss = (key: string): Loss | undefined =>
    !keeps.loneSurrogates && !isWellFormed(key) ? lost('a key with half a surrogate pair') : undefined

  const lookAtElements = (part: readonly unknown[]): Loss | undefined => {
    if (keeps.holes) return lookAtPresent(part)
    for (let i = 0; i < part.length; i++) {
      const found = i in part ? step(`[${i}]`, part[i]) : lostAt(`[${i}]`, 'a hole in an array')
      if (found !== undefined) return found
    }
    return undefined
  }
  /** By keys: an array of holes may be 2^32 long. */
  const lookAtPresent = (part: readonly unknown[]): Loss | undefined => {
    for (const key of Object.keys(part)) {
      const found = step(`[${key}]`, (part as unknown as Record<string, unknown>)[key])
      if (found !== undefined) return found
    }
    return undefined
  }
  const lookAtEntries = (part: Map<unknown, unknown>): Loss | undefined => {
    let i = 0
    for (const [key, item] of part) {
      const found =
        step(`.keys()[${i}]`, key) ??
        step(
          typeof key === 'string' || typeof key === 'number' ? `.get(${quoted(key)})` : `.values()[${i}]`,
          item,
        )
      if (found !== undefined) return found
      i++
    }
    return undefined
  }
  const lookAtMembers = (part: Set<unknown>): Loss | undefined => {
    let i = 0
    for (const item of part) {
      const found = step(`.values()[${i++}]`, item)
      if (found !== undefined) return found
    }
    return undefined
  }
  const lookAtError = (part: Error): Loss | undefined => {
    for (const key of Object.keys(part))
      if (key !== 'cause')
        return lostAt(property(key), 'a property that an Error has beyond its message, stack and cause')
    return 'cause' in part ? step('.cause', part.cause) : undefined
  }

  const loss = look(value)
  return loss === undefined ? { negativeZero } : { loss, negativeZero }
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

/** The class that a prototype belongs to, for messages. */
export function nameOf(prototype: object | null): string {
  const maker = (prototype as { readonly constructor?: unknown } | null)?.constructor
  return typeof maker === 'function' && maker.name !== '' ? maker.name : 'a nameless class'
}
