import { isPromise } from './maybe-promise.js'

/** A kind of values that can be read once only, and the remedy, both in words. */
export type ReadOnceKind = readonly [kind: string, remedy: string]

/** The kind of a value that can be read once only; absent if every caller can read it. */
export function readOnceKind(value: unknown): ReadOnceKind | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  if (isPromise(value)) return ['a promise', 'Await it first.']
  const has = (name: string | symbol) => typeof (value as never)[name] === 'function'
  if (
    has('getReader') ||
    (has('read') && has('releaseLock')) ||
    hasReadableSide(value) ||
    (has('pipe') && has('on'))
  )
    return ['a stream', "Read it first, such as with text(stream) of 'node:stream/consumers'."]
  // A cursor of a database fetches its rows when somebody iterates over it.
  if (has(Symbol.asyncIterator) || (has('next') && has(Symbol.iterator)))
    return ['an iterator', 'Store its items: Array.from(iterator), or Array.fromAsync(iterator).']
  if ('bodyUsed' in value && has('arrayBuffer'))
    return ['a body that can be read once', 'Read it first, such as with await response.json().']
  return undefined
}

/** Whether a value is a pair of web streams, such as a `TransformStream`, one of which is read. */
function hasReadableSide(value: { readonly readable?: { readonly getReader?: unknown } | null }): boolean {
  return typeof value.readable?.getReader === 'function'
}
