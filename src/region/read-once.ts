/** Refuses values that can be read once only: all callers share a value, and the second would find it consumed. */
import { types } from 'node:util'
import { CorralError } from '../base/errors.js'
import { ignoreRejection, isPromise } from '../base/maybe-promise.js'

/** So many parts of a list or an object are looked at: a forgotten `await` is in the first ones. */
const PARTS = 100

/**
 * Looks at the value and, in a list or plain object, at its parts.
 * @param key - names the value in the message
 * @throws CorralError `ERR_UNENCODABLE` with the remedy
 */
export function refuseReadOnce(value: unknown, key: string): void {
  if (typeof value !== 'object' || value === null) return
  let found = readOnceKind(value)
  let part = ''
  for (const [name, one] of found === undefined ? someParts(value) : []) {
    found = readOnceKind(one)
    part = ` in \`${name}\``
    if (found !== undefined) break
  }
  if (found === undefined) return
  // All of the promises are refused, so no rejection of theirs has a handler.
  for (const [, one] of [['', value], ...partsOf(value)]) if (types.isPromise(one)) void ignoreRejection(one)
  const [kind, remedy] = found
  throw new CorralError(
    'ERR_UNENCODABLE',
    `Expected a value for '${key}' that every caller can read, got ${kind}${part}. ${remedy}`,
  )
}

function* someParts(value: object): Iterable<readonly [name: unknown, part: unknown]> {
  let left = PARTS
  for (const part of partsOf(value))
    if (left-- > 0) yield part
    else return
}

/** The parts of a list, a map, a set or a plain object. Of an instance of a class a look could start work, such as a query. */
function* partsOf(value: object): Iterable<readonly [name: unknown, part: unknown]> {
  if (types.isMap(value) || types.isSet(value)) yield* value.entries()
  else if (Array.isArray(value)) yield* value.entries()
  else if (isPlain(value)) for (const name in value) yield [name, (value as Record<string, unknown>)[name]]
}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === null || Object.getPrototypeOf(prototype) === null
}

type Kind = readonly [kind: string, remedy: string]

function readOnceKind(value: unknown): Kind | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  if (isPromise(value)) return ['a promise', 'Await it first.']
  const has = (name: string | symbol) => typeof (value as never)[name] === 'function'
  if (has('next') && (has(Symbol.iterator) || has(Symbol.asyncIterator)))
    return ['an iterator', 'Store its items: Array.from(iterator), or Array.fromAsync(iterator).']
  if (has('getReader') || (has('pipe') && has('on')))
    return ['a stream', "Read it first, such as with text(stream) of 'node:stream/consumers'."]
  if ('bodyUsed' in value && has('arrayBuffer'))
    return ['a body that can be read once', 'Read it first, such as with await response.json().']
  return undefined
}
