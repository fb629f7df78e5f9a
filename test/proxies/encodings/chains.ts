import { json } from '../../../proxies/json.js'
import { SHAPES_KEY } from '../../../proxies/msgpack/shapes.js'
import { msgpack } from '../../../proxies/msgpack.js'
import { v8 } from '../../../proxies/v8.js'
import type { Backend } from '../../../src/backend/backend.js'
import type { Bytes, CachedValue, Metadata } from '../../../src/backend/cached-value.js'
import { defineBackend } from '../../../src/backend/define-backend.js'
import type { BackendProxy } from '../../../src/chain/proxy.js'
import { type Entry, frame, readFrame } from '../../../src/wire/frame.js'
import { undecodableTotal } from '../../support/undecodable.js'
import { turn } from '../../support/waiting.js'

export type Encoding = BackendProxy<CachedValue, Bytes>

/** Every encoding that Corral ships, by the names that the documentation uses. */
export const ENCODINGS: Record<string, () => Encoding> = {
  'json()': () => json(),
  'msgpack()': () => msgpack(),
  "msgpack({ profile: 'bundled' })": () => msgpack({ profile: 'bundled' }),
  "msgpack({ profile: 'records' })": () => msgpack({ profile: 'records' }),
  'v8()': () => v8(),
}

export const METADATA: Metadata = { startedAt: 1_790_000_000_000.5, createdAt: 1_790_000_000_012.25 }

/** A synchronous store whose bytes a test can look at and replace; it keeps the written bytes, uncopied. */
export interface Shelf {
  readonly backend: Backend<Bytes>
  readonly held: Map<string, Bytes>
}

export function shelf(): Shelf {
  const held = new Map<string, Bytes>()
  const backend = defineBackend<Bytes>({
    name: 'shelf',
    stores: 'bytes',
    timeout: Number.POSITIVE_INFINITY,
    get: (key) => held.get(key),
    set(key, value) {
      held.set(key, value)
    },
    delete(key) {
      held.delete(key)
    },
  })
  return { backend, held }
}

/** One encoding over one shelf. */
export interface Bench {
  readonly shelf: Shelf
  readonly chain: Backend<CachedValue>
  /** The bytes that are stored for a payload. Throws the error of `set`. */
  put(payload: unknown, key?: string, metadata?: Metadata): Bytes
  /** The result of a read where these bytes stand. */
  read(stored: Uint8Array, key?: string): CachedValue | undefined
  /** As `read`, and checks that a miss was counted, and nothing but a miss. */
  misses(stored: Uint8Array, key?: string): boolean
  /** Writes and reads back. */
  back(payload: unknown, metadata?: Metadata): CachedValue | undefined
}

export function benchOf(encoding: Encoding, on: Shelf = shelf()): Bench {
  const chain = encoding(on.backend)
  const bench: Bench = {
    shelf: on,
    chain,
    put(payload, key = 'key', metadata = METADATA) {
      void chain.set(key, { payload, metadata }, {})
      return on.held.get(key) as Bytes
    },
    read(stored, key = 'key') {
      on.held.set(key, stored)
      return chain.get(key) as CachedValue | undefined
    },
    misses(stored, key = 'key') {
      const before = undecodableTotal()
      return bench.read(stored, key) === undefined && undecodableTotal() === before + 1
    },
    back: (payload, metadata) => bench.read(bench.put(payload, 'key', metadata)),
  }
  return bench
}

/** A frame as a forger makes it: well-formed, with a true CRC. */
export function forged(codec: number, payload: Uint8Array, key = 'key'): Bytes {
  return frame(codec, METADATA, payload, key)
}

/** The payload inside a frame. */
export function payloadOf(stored: Uint8Array, key = 'key'): Buffer {
  const { bytes, start, end } = readFrame(stored, key) as Entry
  return bytes.subarray(start, end)
}

/** The id of the codec that wrote a frame. */
export function codecOf(stored: Uint8Array | undefined, key = 'key'): number | undefined {
  return stored && readFrame(stored, key)?.codec
}

/** Writes a payload until its shapes stand in the table, and lets the work in the background end. */
export async function learnShapes(bench: Bench, payload: unknown): Promise<void> {
  for (let i = 0; i < 3; i++) {
    bench.put(payload)
    await quiet()
  }
  if (!bench.shelf.held.has(SHAPES_KEY)) throw new Error('Expected a table of shapes to be stored.')
}

/** Lets everything happen that needs no timer. */
export async function quiet(): Promise<void> {
  for (let i = 0; i < 20; i++) await turn()
}
