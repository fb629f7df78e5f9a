import { types } from 'node:util'
/**
 * Whether an own key `__proto__` is anywhere in decoded data. It would be harmless where it is, but `Object.assign` and
 * every hand-written merge turn it into a prototype.
 */
export function hasProtoKey(value: unknown, name = '__proto__'): boolean {
  return someObject(value, (part) => Object.hasOwn(part, name))
}

/** Whether a RegExp is anywhere in data. One from a hostile writer can hang the code that matches with it. */
export function hasRegExp(value: unknown): boolean {
  return someObject(value, (part) => types.isRegExp(part))
}

/** Looks at every object once, without recursion: the data may be deep, cyclic, or shared a thousand times. */
function someObject(value: unknown, test: (part: object) => boolean): boolean {
  const seen = new Set<object>()
  const waiting: unknown[] = [value]
  while (waiting.length > 0) {
    const part = waiting.pop()
    if (typeof part !== 'object' || part === null || seen.has(part)) continue
    if (test(part)) return true
    seen.add(part)
    if (types.isMap(part)) for (const [key, item] of part) waiting.push(key, item)
    else if (types.isSet(part)) for (const item of part) waiting.push(item)
    else if (types.isNativeError(part)) waiting.push(part.cause)
    // By its keys, also an array: a few bytes can make one whose length is 2^32, all of it holes.
    else if (!ArrayBuffer.isView(part))
      for (const key of Object.keys(part)) waiting.push((part as Record<string, unknown>)[key])
  }
  return false
}

/** Whether data without cycles, fresh from a parser, is nested deeper than `levels`. */
export function isDeeper(value: unknown, levels: number): boolean {
  return typeof value === 'object' && value !== null && objectIsDeeper(value, levels)
}

function objectIsDeeper(value: object, levels: number): boolean {
  if (levels === 0) return true
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) {
      const part: unknown = value[i]
      if (typeof part === 'object' && part !== null && objectIsDeeper(part, levels - 1)) return true
    }
    return false
  }
  for (const key in value) {
    const part = (value as Record<string, unknown>)[key]
    if (typeof part === 'object' && part !== null && objectIsDeeper(part, levels - 1)) return true
  }
  return false
}
