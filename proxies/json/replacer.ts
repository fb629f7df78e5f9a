import { refuseLoss } from '../../src/wire/fidelity.js'
import type { FidelityRules } from '../../src/wire/keeps.js'
import { nameOf, segmentOf } from '../../src/wire/loss.js'

/** A function as `JSON.stringify` and `JSON.parse` take it. */
export type JsonTransform = (this: unknown, key: string, value: unknown) => unknown

interface Place {
  readonly above: Place | undefined
  readonly segment: string
  readonly depth: number
}

/**
 * A replacer that also refuses values that the user's own replacer leaves to be lost. The user's replacer may change or
 * drop any property. The others must be values that JSON keeps.
 * @param standIn - the text for a −0
 */
export function strictReplacer(
  keeps: FidelityRules,
  replacer: JsonTransform,
  standIn: string,
): JsonTransform {
  const places = new WeakMap<object, Place>()
  return function (this: unknown, key, value) {
    const holder = this as Record<string, unknown>
    const above = places.get(holder)
    const place: Place = {
      above,
      segment: above === undefined ? 'value' : segmentOf(holder, key),
      depth: above === undefined ? 0 : above.depth + 1,
    }
    const original = holder[key]
    const made = replacer.call(holder, key, value)
    const what = key === '__proto__' ? 'a key named __proto__' : lossOf(holder, key, original, value, made)
    if (what !== undefined) refuseLoss(keeps, { path: pathOf(place), what })
    if (typeof made === 'object' && made !== null) {
      if (place.depth >= keeps.maxDepth)
        refuseLoss(keeps, { path: pathOf(place), what: `objects nested deeper than ${keeps.maxDepth}` })
      places.set(made, place)
    }
    return Object.is(made, -0) ? standIn : made
  }
}

function lossOf(
  holder: object,
  key: string,
  original: unknown,
  value: unknown,
  made: unknown,
): string | undefined {
  if (made === value) {
    // JSON.stringify has asked toJSON before it asks the replacer.
    if (value !== original && !Number.isNaN(value)) return kindOf(original)
    if (made === undefined) return key in holder ? 'undefined' : 'a hole in an array'
  } else if (made === undefined)
    return key === '' && original !== undefined ? 'a whole value replaced by undefined' : undefined
  return jsonKeeps(made) ? undefined : kindOf(made)
}

function jsonKeeps(value: unknown): boolean {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return true
    case 'number':
      return Number.isFinite(value)
    case 'object': {
      if (value === null || Array.isArray(value)) return true
      const prototype: unknown = Object.getPrototypeOf(value)
      return prototype === Object.prototype || prototype === null
    }
    default:
      return false
  }
}

function kindOf(value: unknown): string {
  if (typeof value === 'number' || value === undefined) return String(value)
  return typeof value === 'object' && value !== null
    ? `an instance of ${nameOf(Object.getPrototypeOf(value))}`
    : `a ${typeof value}`
}

function pathOf(place: Place): string {
  let path = ''
  for (let at: Place | undefined = place; at !== undefined; at = at.above) path = at.segment + path
  return path
}
