import { types } from 'node:util'
import { CorralError } from './errors.js'
import { ignoreRejection } from './maybe-promise.js'
import { processGlobal } from './process-global.js'
import { type ReadOnceKind, readOnceKind } from './read-once-kind.js'

/**
 * Freezes objects and all of their parts, those of frozen objects included. Maps, dates, URLs and the like keep their content
 * elsewhere, so their methods and setters that change it throw. Bytes cannot be frozen, and are left as they are.
 * @param onBytes - called if there are any
 * @throws CorralError `ERR_UNENCODABLE` at any depth for a promise, a stream or an iterator, which frozen inside would fail later,
 *   and for a map, a URL and the like that the caller froze: their content stays open
 */
export function frozen<T>(root: T, onBytes?: () => void): T {
  for (const part of freezableParts(root, onBytes)) {
    if (keepsElsewhere(part)) forbidChanges(part)
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
    const kind = readOnceKind(value) ?? openKind(value)
    if (kind !== undefined) {
      refused ??= kind
      // All promises of a refused value: no other code handles their rejections.
      if (types.isPromise(value)) void ignoreRejection(value)
      continue
    }
    seen.add(value)
    // Nothing changes their content, and a part of theirs looks like a stream.
    if (/^(?:Blob|File)$/.test(tagOf(value))) continue
    if (types.isMap(value)) for (const pair of value) open.push(...pair)
    else if (types.isSet(value)) for (const part of value) open.push(part)
    // They are kept elsewhere, too, and change the URL.
    else if (tagOf(value) === 'URL') open.push((value as URL).searchParams)
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

/** Objects that keep their content where freezing does not reach, by their tags: other packages have such classes, too. */
const ELSEWHERE: ReadonlySet<string> = new Set([
  ...['Map', 'Set', 'WeakMap', 'WeakSet', 'Date'],
  ...['URL', 'URLSearchParams', 'Headers', 'FormData'],
])

function tagOf(value: object): string {
  try {
    return Object.prototype.toString.call(value).slice(8, -1)
  } catch {
    // A tag may be the result of an application's getter.
    return ''
  }
}

/** A subclass of a map, a set or a date may have a tag of its own. */
function keepsElsewhere(value: object): boolean {
  return types.isMap(value) || types.isSet(value) || types.isDate(value) || ELSEWHERE.has(tagOf(value))
}

/** What the caller froze: its methods cannot be replaced any more. Libraries that freeze maps and sets have replaced them. */
function openKind(value: object): ReadOnceKind | undefined {
  if (Object.isExtensible(value) || !keepsElsewhere(value) || closed.has(value)) return undefined
  if (Object.getOwnPropertyNames(value).some((name) => CHANGING.test(name))) return undefined
  return [`a frozen ${tagOf(value)}, whose content can still be changed`, 'Leave the freezing to the store.']
}

/** The objects that were closed here, or by another copy of the package. */
const closed = processGlobal('closed values', () => new WeakSet<object>())

const CHANGING = /^(?:set|add|delete|clear|append|sort|getOrInsert)/

function forbidChanges(value: object): void {
  if (!Object.isExtensible(value)) return
  closed.add(value)
  for (
    let from: object | null = value;
    from !== null && from !== Object.prototype;
    from = Object.getPrototypeOf(from)
  )
    for (const [name, own] of Object.entries(Object.getOwnPropertyDescriptors(from)))
      if (Object.hasOwn(value, name)) continue
      else if (own.set !== undefined)
        Object.defineProperty(value, name, { ...own, enumerable: false, set: refuse })
      else if (CHANGING.test(name)) Object.defineProperty(value, name, { value: refuse })
}

function refuse(): never {
  throw new TypeError(
    "Expected the value to stay as it is: the store holds it frozen, as copy: 'freeze' says.",
  )
}
