/** A copy of data in which a stand-in takes the place of every −0, and how many there were. */
export interface Replaced {
  readonly copy: unknown
  readonly count: number
}

/**
 * Copies data, with a stand-in for each −0. Encoders that write −0 as 0 get the copy, and their output is mended.
 * References stay as they are shared. Objects that hold no numbers as such (dates, bytes) are not copied.
 */
export function replaceNegativeZeros(value: unknown, standIn: number | string): Replaced {
  const copies = new Map<object, object>()
  let count = 0

  const replace = (part: unknown): unknown => {
    if (typeof part === 'number') {
      if (!Object.is(part, -0)) return part
      count++
      return standIn
    }
    return typeof part === 'object' && part !== null ? (copies.get(part) ?? copy(part)) : part
  }
  const copy = (part: object): object => {
    const into = emptyLike(part)
    copies.set(part, into)
    if (into === part) return part
    if (Array.isArray(part)) for (const item of part) (into as unknown[]).push(replace(item))
    else if (part instanceof Map)
      for (const [key, item] of part) (into as Map<unknown, unknown>).set(replace(key), replace(item))
    else if (part instanceof Set) for (const item of part) (into as Set<unknown>).add(replace(item))
    else
      for (const key in part)
        (into as Record<string, unknown>)[key] = replace((part as Record<string, unknown>)[key])
    return into
  }
  return { copy: replace(value), count }
}

function emptyLike(part: object): object {
  if (Array.isArray(part)) return []
  if (part instanceof Map) return new Map()
  if (part instanceof Set) return new Set()
  const prototype: object | null = Object.getPrototypeOf(part)
  return prototype === Object.prototype || prototype === null ? {} : part
}
