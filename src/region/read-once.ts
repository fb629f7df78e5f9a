/** Refuses values that can be read once only: all callers share a value, and the second would find it consumed. */
import { types } from 'node:util'
import { CorralError } from '../base/errors.js'
import { ignoreRejection } from '../base/maybe-promise.js'
import { type ReadOnceKind, readOnceKind } from '../base/read-once-kind.js'

/** So many parts are looked at, at all depths together: a forgotten `await` is in the first ones. */
const PARTS = 100
/** So deep the look goes: also around a circle. */
const DEPTH = 6

/**
 * Looks at the value and at the parts of its lists, maps, sets and plain objects.
 * @param key - names the value in the message
 * @throws CorralError `ERR_UNENCODABLE` with the remedy
 */
export function refuseReadOnce(value: unknown, key: string): void {
  if (typeof value !== 'object' || value === null) return
  const whole = readOnceKind(value)
  const found =
    whole === undefined
      ? partThat(value, (part) => readOnceKind(part) !== undefined, { parts: PARTS })
      : undefined
  if (whole === undefined && found === undefined) return
  // All of the promises are refused, so no rejection of theirs has a handler.
  const handle = (one: unknown) => void (types.isPromise(one) && ignoreRejection(one))
  handle(value)
  partThat(value, handle, { parts: MANY })
  const [kind, remedy] = (whole ?? readOnceKind(found?.part)) as ReadOnceKind
  const part = found === undefined ? '' : ` in \`${found.name}\``
  throw new CorralError(
    'ERR_UNENCODABLE',
    `Expected a value for '${key}' that every caller can read, got ${kind}${part}. ${remedy}`,
  )
}

/** Parts whose rejections are handled where a value is refused. */
const MANY = 10_000

interface OneTimePart {
  readonly name: string
  readonly part: unknown
}

/**
 * The first part of a list, a map, a set or a plain object that fits, the nearest first. Of an instance of a class a look
 * could start work, such as a query. No generator: every stored value comes here.
 */
function partThat(
  value: object,
  fits: (part: unknown) => unknown,
  left: { parts: number },
  depth = 1,
): OneTimePart | undefined {
  let inner: [name: unknown, part: object][] | undefined
  const look = (name: unknown, part: unknown): OneTimePart | undefined => {
    if (fits(part)) return { name: String(name), part }
    if (typeof part === 'object' && part !== null && depth < DEPTH) (inner ??= []).push([name, part])
    return undefined
  }
  if (Array.isArray(value) || types.isMap(value) || types.isSet(value)) {
    for (const [name, part] of value.entries()) {
      if (left.parts-- <= 0) return undefined
      const found = look(name, part)
      if (found !== undefined) return found
    }
  } else if (isPlain(value)) {
    for (const name in value) {
      if (left.parts-- <= 0) return undefined
      const found = look(name, (value as Record<string, unknown>)[name])
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

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === null || Object.getPrototypeOf(prototype) === null
}
