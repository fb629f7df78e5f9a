/** Refuses values that can be read once only: all callers share a value, and the second would find it consumed. */
import { types } from 'node:util'
import { CorralError } from '../base/errors.js'
import { ignoreRejection } from '../base/maybe-promise.js'
import { type ReadOnceKind, readOnceKind } from '../base/read-once-kind.js'

/** So many parts of a list or an object are looked at: a forgotten `await` is in the first ones. */
const PARTS = 100

/**
 * Looks at the value and, in a list or plain object, at its parts.
 * @param key - names the value in the message
 * @throws CorralError `ERR_UNENCODABLE` with the remedy
 */
export function refuseReadOnce(value: unknown, key: string): void {
  if (typeof value !== 'object' || value === null) return
  const whole = readOnceKind(value)
  const found = whole === undefined ? partThat(value, (part) => readOnceKind(part) !== undefined) : undefined
  if (whole === undefined && found === undefined) return
  // All of the promises are refused, so no rejection of theirs has a handler.
  const handle = (one: unknown) => void (types.isPromise(one) && ignoreRejection(one))
  handle(value)
  partThat(value, handle, Number.POSITIVE_INFINITY)
  const [kind, remedy] = (whole ?? readOnceKind(found?.part)) as ReadOnceKind
  const part = found === undefined ? '' : ` in \`${found.name}\``
  throw new CorralError(
    'ERR_UNENCODABLE',
    `Expected a value for '${key}' that every caller can read, got ${kind}${part}. ${remedy}`,
  )
}

/**
 * The first part of a list, a map, a set or a plain object that fits. Of an instance of a class a look could start work, such
 * as a query. No generator: every stored value comes here.
 */
function partThat(
  value: object,
  fits: (part: unknown) => unknown,
  most = PARTS,
): { readonly name: unknown; readonly part: unknown } | undefined {
  let left = most
  if (Array.isArray(value) || types.isMap(value) || types.isSet(value)) {
    for (const [name, part] of value.entries()) {
      if (left-- <= 0) return undefined
      if (fits(part)) return { name, part }
    }
  } else if (isPlain(value)) {
    for (const name in value) {
      if (left-- <= 0) return undefined
      const part = (value as Record<string, unknown>)[name]
      if (fits(part)) return { name, part }
    }
  }
  return undefined
}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === null || Object.getPrototypeOf(prototype) === null
}
