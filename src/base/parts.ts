/** Looks through the parts of a caller's data. */
import { types } from 'node:util'
import { ignoreRejection } from './maybe-promise.js'
import { isPlainObject, prototypeHere } from './realms.js'

/** So deep the look goes: also around a circle. */
const DEPTH = 6
/** Parts whose rejections are handled where a value is refused. */
const MANY = 20_000

/** Checks a caller's data. If it is refused, no promise in it has another handler of its rejection. */
export function checkWhole<T>(data: unknown, check: () => T): T {
  try {
    return check()
  } catch (error) {
    ignoreRejections(data)
    throw error
  }
}

/** Ignores the rejections of all promises in data that is refused. */
export function ignoreRejections(data: unknown): void {
  const handle = (one: unknown) => void (types.isPromise(one) && ignoreRejection(one))
  handle(data)
  if (typeof data === 'object' && data !== null) partThat(data, handle, { parts: MANY })
}

interface NamedPart {
  readonly name: string
  readonly part: unknown
}

/**
 * The first part of a list, a map, a set or a plain object that fits, the nearest first. Of an instance of a class a look
 * could start work, such as a query. No generator: every stored value comes here.
 */
export function partThat(
  value: object,
  fits: (part: unknown) => unknown,
  left: { parts: number },
  depth = 1,
): NamedPart | undefined {
  let inner: [name: unknown, part: object][] | undefined
  // A long list must not hide the inside of its rows.
  const later = Math.floor(left.parts / 2)
  const visit = (name: unknown, part: unknown): NamedPart | undefined => {
    if (fits(part)) return { name: String(name), part }
    if (typeof part === 'object' && part !== null && depth < DEPTH) (inner ??= []).push([name, part])
    return undefined
  }
  if (Array.isArray(value) || types.isMap(value) || types.isSet(value)) {
    for (const [name, part] of value.entries()) {
      if (left.parts-- <= later) break
      const found = visit(name, part)
      if (found !== undefined) return found
    }
  } else if (isPlainObject(value)) {
    for (const name in value) {
      if (left.parts-- <= later) break
      const found = visit(name, (value as Record<string, unknown>)[name])
      if (found !== undefined) return found
    }
  }
  if (inner === undefined) return undefined
  for (const [name, part] of inner) {
    const found = partThat(part, fits, left, depth + 1)
    if (found !== undefined) return { name: `${String(name)}.${found.name}`, part: found.part }
  }
  return undefined
}

/**
 * A copy of lists, plain objects and dates at any depth. Anything else, such as an instance of a class, stays the object
 * that it is.
 * @param finish - receives each copied list and object
 */
export function copyPlain<T>(
  data: T,
  finish?: (copy: object) => void,
  copies = new Map<object, object>(),
): T {
  if (typeof data !== 'object' || data === null) return data
  const known = copies.get(data)
  if (known !== undefined) return known as T
  if (types.isDate(data)) return new Date(Number(data)) as T
  const isList = Array.isArray(data)
  if (!isList && !isPlainObject(data)) return data
  const copy = (isList ? new Array(data.length) : Object.create(prototypeHere(data))) as object
  copies.set(data, copy)
  for (const [name, part] of Object.entries(data))
    Object.defineProperty(copy, name, {
      value: copyPlain(part, finish, copies),
      ...{ writable: true, enumerable: true, configurable: true },
    })
  finish?.(copy)
  return copy as T
}
