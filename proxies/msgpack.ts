import type { Backend } from '../src/backend.js'
import type { Bytes, CachedValue, Metadata } from '../src/cached-value.js'
import { CorralError, refuseUnknown, shown } from '../src/errors.js'
import { andThen, type MaybePromise } from '../src/maybe-promise.js'
import { type BackendProxy, mapValues } from '../src/proxy.js'
import { CODEC_MSGPACK, CODEC_MSGPACK_SHARED, limit, MAX_BYTES, MAX_DEPTH } from '../src/wire/codec.js'
import { closeFrame, openFrame, readFrame } from '../src/wire/frame.js'
import {
  ID_BYTES,
  MAX_SHAPES,
  type Shape,
  type ShapeStore,
  type ShapeTable,
  shapeStore,
} from '../src/wire/shapes.js'
import { type Pack, packing } from './msgpack/packing.js'
import { type Read, reading } from './msgpack/reading.js'
import { keepsOf, type Settings } from './msgpack/settings.js'

export interface MsgpackOptions {
  /**
   * `faithful`: every entry reads itself. `records`: field names stand once in the backend, under a key of their own,
   * which makes small objects much smaller and faster to read. `bundled`: strings stand together, which is faster
   * for much text. Each reads what `faithful` and `bundled` wrote. @default 'faithful'
   */
  readonly profile?: 'faithful' | 'records' | 'bundled'
  /** Store what MessagePack makes of a value, without asking whether all of it is kept. @default false */
  readonly lossy?: boolean
  /** Keep RegExps. One that a hostile writer made can hang whoever matches with it. @default false: refused, and a miss */
  readonly regExp?: boolean
  /** Larger payloads are refused at `set` and misses when read. In bytes. @default 16 MiB */
  readonly maxBytes?: number
  /** Deeper nesting is refused at `set`. @default 500 */
  readonly maxDepth?: number
}

const OPTIONS = ['profile', 'lossy', 'regExp', 'maxBytes', 'maxDepth']
const PROFILES = ['faithful', 'records', 'bundled']

/**
 * Encodes values as MessagePack with msgpackr: small, fast, and faithful to dates, maps, sets, bigints, bytes, shared
 * and cyclic references.
 * @throws CorralError `ERR_OPTION` for options that it does not take. The chain's `set` fails with `ERR_UNENCODABLE`,
 *   naming the path of what would be lost, and with `ERR_VALUE_TOO_LARGE`.
 */
export function msgpack(options: MsgpackOptions = {}): BackendProxy<CachedValue, Bytes> {
  refuseUnknown(options, OPTIONS, 'msgpack()')
  const { profile = 'faithful', lossy = false, regExp = false } = options
  if (!PROFILES.includes(profile))
    throw new CorralError(
      'ERR_OPTION',
      `Expected \`profile\` of msgpack() to be one of ${PROFILES.join(', ')}, got ${shown(profile)}.`,
    )
  const maxBytes = limit(options.maxBytes ?? MAX_BYTES, 'maxBytes', 'msgpack()')
  const maxDepth = limit(options.maxDepth ?? MAX_DEPTH, 'maxDepth', 'msgpack()')
  const settings: Settings = { lossy, regExp, maxBytes, keeps: keepsOf(regExp, maxDepth) }
  return (next) => {
    const { encode, decode } =
      profile === 'records' ? sharing(settings, next) : selfContained(settings, profile === 'bundled')
    return mapValues<CachedValue, Bytes>({
      name: 'msgpack',
      inner: 'bytes',
      outer: 'values',
      encode,
      decode,
    })(next)
  }
}

interface Both {
  encode(value: CachedValue, key: string): Bytes
  decode(stored: Bytes, key: string): MaybePromise<CachedValue | undefined>
}

/** Entries that carry their own record definitions. */
function selfContained(settings: Settings, bundleStrings: boolean): Both {
  const pack = packing(settings, { bundleStrings })
  const read = reading(settings)
  return {
    encode: ({ payload, metadata }, key) => entryOf(CODEC_MSGPACK, '', metadata, pack(payload), key),
    decode(stored, key) {
      const entry = readFrame(stored, key)
      return entry?.codec === CODEC_MSGPACK ? read(entry, 0) : undefined
    },
  }
}

/** Entries whose record definitions stand in a table that the backend keeps beside them. */
function sharing(settings: Settings, next: Backend<Bytes>): Both {
  const store = shapeStore(next)
  const readOwn = reading(settings)
  const readers = new WeakMap<ShapeTable, Read>()
  const readerOf = (table: ShapeTable): Read => {
    let reader = readers.get(table)
    if (reader === undefined) readers.set(table, (reader = reading(settings, table.shapes)))
    return reader
  }
  let writer: { readonly id: string; readonly pack: Pack } | undefined
  const writerOf = (table: ShapeTable): Pack => {
    if (writer?.id !== table.id)
      writer = { id: table.id, pack: packing(settings, sharedOptions(table, store)) }
    return writer.pack
  }
  return {
    encode({ payload, metadata }, key) {
      const table = store.current()
      const packed = writerOf(table)(payload)
      // What has no record in it needs no table.
      return table.shapes.length === 0 || typeof payload !== 'object'
        ? entryOf(CODEC_MSGPACK, '', metadata, packed, key)
        : entryOf(CODEC_MSGPACK_SHARED, table.id, metadata, packed, key)
    },
    decode(stored, key) {
      const entry = readFrame(stored, key)
      if (entry?.codec === CODEC_MSGPACK) return readOwn(entry, 0)
      if (entry?.codec !== CODEC_MSGPACK_SHARED || entry.end - entry.start < ID_BYTES) return undefined
      const id = entry.bytes.toString('latin1', entry.start, entry.start + ID_BYTES)
      return andThen(store.find(id), (table) => table && readerOf(table)(entry, ID_BYTES))
    },
  }
}

function sharedOptions({ shapes }: ShapeTable, store: ShapeStore): object {
  return {
    structures: shapes.map((shape) => [...shape]),
    maxSharedStructures: MAX_SHAPES,
    // A record that the stored table lacks is written out: every entry can be read as soon as it is stored.
    shouldShareStructure(shape: Shape) {
      store.propose(shape)
      return false
    },
  }
}

function entryOf(codec: number, table: string, metadata: Metadata, packed: Buffer, key: string): Bytes {
  const { bytes, at } = openFrame(codec, metadata, table.length + packed.length)
  if (table !== '') bytes.write(table, at, 'latin1')
  // This is the copy that lets go of msgpackr's slab.
  bytes.set(packed, at + table.length)
  return closeFrame(bytes, key)
}
