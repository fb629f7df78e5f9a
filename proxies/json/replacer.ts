import type { FidelityRules } from '../../src/wire/keeps.js'
import { instanceName, lossOf, refuseLoss, segmentOf } from '../../src/wire/loss.js'

/**
 * A function as `JSON.stringify` and `JSON.parse` take it.
 * @example
 * ```ts
 * import type { JsonTransform } from 'corral/proxies/json'
 *
 * // Passwords are left out of the store.
 * export const withoutPasswords: JsonTransform = (key, value) => (key === 'password' ? undefined : value)
 * ```
 */
export type JsonTransform = (this: unknown, key: string, value: unknown) => unknown

interface Place {
  readonly path: string
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
    const path = above === undefined ? 'value' : above.path + segmentOf(holder, key)
    const depth = above === undefined ? 0 : above.depth + 1
    const original = holder[key]
    const made = replacer.call(holder, key, value)
    const what =
      key === '__proto__' ? 'a key named __proto__' : lossAfter(keeps, holder, key, original, value, made)
    if (what !== undefined) refuseLoss(keeps, { path, what })
    if (typeof made === 'object' && made !== null) {
      if (depth >= keeps.maxDepth)
        refuseLoss(keeps, { path, what: `objects nested deeper than ${keeps.maxDepth}` })
      places.set(made, { path, depth })
    }
    return Object.is(made, -0) ? standIn : made
  }
}

function lossAfter(
  keeps: FidelityRules,
  holder: object,
  key: string,
  original: unknown,
  value: unknown,
  made: unknown,
): string | undefined {
  if (made === value) {
    // JSON.stringify has asked toJSON before it asks the replacer.
    if (value !== original && !Number.isNaN(value))
      return lossOf(keeps, original) ?? instanceName(Object(original))
    if (made === undefined) return key in holder ? 'undefined' : 'a hole in an array'
  } else if (made === undefined)
    return key === '' && original !== undefined ? 'a whole value replaced by undefined' : undefined
  return Array.isArray(made) ? undefined : lossOf(keeps, made)
}
