import { types } from 'node:util'
import { CorralError } from './errors.js'
import { ignoreRejection } from './maybe-promise.js'
import { type ReadOnceKind, readOnceKind } from './read-once-kind.js'

/**
 * Freezes objects and all of their parts, those of frozen objects included. Maps, sets and dates keep their content
 * elsewhere, so their methods that change it throw. Bytes cannot be frozen, and are left as they are.
 * @param onBytes - called if there are any
 * @throws CorralError `ERR_UNENCODABLE` for a promise, a stream or an iterator at any depth: frozen inside it would fail later
 */
export function frozen<T>(root: T, onBytes?: () => void): T {
  for (const part of freezableParts(root, onBytes)) {
    if (types.isMap(part) || types.isSet(part) || types.isDate(part)) forbidChanges(part)
    Object.freeze(part)
  }
  return root
}

/** All parts, before any of them is frozen: a refused value stays as it was. */
function freezableParts(root: unknown, onBytes?: () => void): Iterable<object> {
  const seen = new Set<object>()
  const open = [root]
  let refused: ReadOnceKind | undefined
  while (open.length > 0) {
    const value = open.pop()
    if (typeof value !== 'object' || value === null || seen.has(value)) continue
    if (ArrayBuffer.isView(value) || types.isAnyArrayBuffer(value)) {
      onBytes?.()
      continue
    }
    const kind = readOnceKind(value)
    if (kind !== undefined) {
      refused ??= kind
      // All promises of a refused value: no other code handles their rejections.
      if (types.isPromise(value)) void ignoreRejection(value)
      continue
    }
    seen.add(value)
    if (types.isMap(value)) for (const pair of value) open.push(...pair)
    else if (types.isSet(value)) for (const part of value) open.push(part)
    for (const name of Reflect.ownKeys(value)) {
      const part = Object.getOwnPropertyDescriptor(value, name)
      if (part !== undefined && 'value' in part) open.push(part.value)
    }
  }
  if (refused === undefined) return seen
  const [kind, remedy] = refused
  throw new CorralError(
    'ERR_UNENCODABLE',
    `Expected a value that can be frozen, as copy: 'freeze' says, got one that holds ${kind}. ${remedy}`,
  )
}

const CHANGING = /^(?:set|add|delete|clear)/

/** Does nothing for an object that is frozen already: its methods cannot be replaced. */
function forbidChanges(value: object): void {
  if (!Object.isExtensible(value)) return
  for (
    let from: object | null = value;
    from !== null && from !== Object.prototype;
    from = Object.getPrototypeOf(from)
  )
    for (const name of Object.getOwnPropertyNames(from))
      if (CHANGING.test(name) && !Object.hasOwn(value, name))
        Object.defineProperty(value, name, { value: refuse })
}

function refuse(): never {
  throw new TypeError(
    "Expected the value to stay as it is: the store holds it frozen, as copy: 'freeze' says.",
  )
}
