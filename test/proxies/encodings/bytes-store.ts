import { memory } from '../../../backends/memory/index.js'
import type { Backend } from '../../../src/backend/backend.js'
import type { Bytes } from '../../../src/backend/cached-value.js'
import { isPromise, type MaybePromise } from '../../../src/base/maybe-promise.js'
import type { BackendProxy } from '../../../src/chain/proxy.js'
import { seeded } from '../../support/seeded.js'

export interface BytesStore {
  readonly backend: Backend<Bytes>
  /** The bytes that a chain stores. */
  put(proxy: BackendProxy<Bytes, Bytes>, bytes: Uint8Array, key?: string): Promise<Uint8Array>
  /** The result of a chain's read where these bytes are stored; `undefined` is a miss. */
  read(proxy: BackendProxy<Bytes, Bytes>, stored: Uint8Array, key?: string): Promise<Uint8Array | undefined>
}

/** A store whose bytes a test can look at and replace. */
export function bytesStore(): BytesStore {
  const backend = memory({ stores: 'bytes' })
  return {
    backend,
    async put(proxy, bytes, key = 'key') {
      await proxy(backend).set(key, bytes, {})
      const stored = await backend.get(key)
      if (stored === undefined) throw new Error('Expected something to be stored, found nothing.')
      return stored
    },
    async read(proxy, stored, key = 'key') {
      await backend.set(key, stored, {})
      return proxy(backend).get(key)
    },
  }
}

/** The value of something that is expected to be there at once. */
export function now<T>(value: MaybePromise<T>): T {
  if (isPromise(value)) throw new Error('Expected a value at once, got a promise.')
  return value
}

/** Whether these are the bytes, in any kind of view. */
export function same(found: Uint8Array | undefined, expected: Uint8Array): boolean {
  return found !== undefined && Buffer.compare(found, expected) === 0
}

/** Rows as an application might cache them: repetitive enough to compress, different enough to be no trick. */
export function rows(count: number, seed = 1): Uint8Array {
  const random = seeded(seed)
  const list = Array.from({ length: count }, (_, i) => ({
    id: i + Math.floor(random() * 1e6),
    name: ['Ada', 'Grace', 'Alan', 'Barbara'][i % 4],
    city: ['Lisbon', 'Oslo', 'Kyoto'][i % 3],
    score: random(),
    active: random() > 0.5,
  }))
  return new TextEncoder().encode(JSON.stringify(list))
}
