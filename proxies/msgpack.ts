import type { Bytes, CachedValue } from '../src/backend/cached-value.js'
import { andThen } from '../src/base/maybe-promise.js'
import { expectOneOf, ownOptions } from '../src/base/options.js'
import type { BackendProxy } from '../src/chain/proxy.js'
import {
  CODEC_MSGPACK,
  CODEC_MSGPACK_SHARED,
  encoding,
  encodingOptions,
  type PayloadEncoding,
  type StructuredOptions,
} from '../src/wire/codec.js'
import { frame, readFrame } from '../src/wire/frame.js'
import { type Pack, packing } from './msgpack/packing.js'
import { type Read, reading } from './msgpack/reading.js'
import { type Settings, settingsOf } from './msgpack/settings.js'
import {
  ID_BYTES,
  MAX_SHAPES,
  type Shape,
  type ShapeStore,
  type ShapeTable,
  shapeStore,
} from './msgpack/shapes.js'

/**
 * Options of `msgpack()`.
 * @example
 * ```ts
 * import { msgpack, type MsgpackOptions } from 'corral/proxies/msgpack'
 *
 * // Small objects that are alike: their field names stand once.
 * const forRows: MsgpackOptions = { profile: 'records', maxBytes: 100_000 }
 * const proxy = msgpack(forRows)
 * ```
 */
export interface MsgpackOptions extends StructuredOptions {
  /**
   * `faithful`: every entry reads itself. `records`: field names stand once in the backend, under a key of their own,
   * which makes small objects much smaller and faster to read. `bundled`: strings stand together, which is faster
   * for much text. Each reads the entries of `faithful` and `bundled`. @default 'faithful'
   */
  readonly profile?: 'faithful' | 'records' | 'bundled' | undefined
}

/**
 * Encodes values as MessagePack with msgpackr: small, fast, and faithful to dates, maps, sets, bigints, bytes, shared
 * and cyclic references.
 * @example
 * ```ts
 * import { makeRegion, wrap } from 'corral'
 * import { lmdb } from 'corral/backends/lmdb'
 * import { msgpack } from 'corral/proxies/msgpack'
 *
 * const backend = wrap(lmdb('/var/cache/app/events.mdb'), msgpack())
 * const events = makeRegion<ReadonlyMap<string, Date>>({ name: 'events', backend })
 * ```
 * @throws CorralError `ERR_OPTION` for options that it does not take. The chain's `set` fails with `ERR_UNENCODABLE`,
 *   naming the path of the part that would be lost, and with `ERR_VALUE_TOO_LARGE`.
 */
export function msgpack(options: MsgpackOptions = {}): BackendProxy<CachedValue, Bytes> {
  options = ownOptions(options)
  const settings = settingsOf(encodingOptions(options, 'msgpack()', ['profile', 'regExp']))
  const { profile = 'faithful' } = options
  expectOneOf(profile, '`profile` of msgpack()', ['faithful', 'records', 'bundled'])
  return profile === 'records'
    ? (next) => encoding('msgpack', sharing(settings, shapeStore(next)))(next)
    : encoding('msgpack', selfContained(settings, profile === 'bundled'))
}

/** Entries that carry their own record definitions. */
function selfContained(settings: Settings, bundleStrings: boolean): PayloadEncoding {
  const pack = packing(settings, { bundleStrings })
  const read = reading(settings)
  return {
    encode: ({ payload, metadata }, key) => frame(CODEC_MSGPACK, metadata, pack(payload), key),
    decode(stored, key) {
      const entry = readFrame(stored, key)
      return entry?.codec === CODEC_MSGPACK ? read(entry, 0) : undefined
    },
  }
}

/** Entries whose record definitions stand in a table that the backend keeps beside them. */
function sharing(settings: Settings, store: ShapeStore): PayloadEncoding {
  const readOwn = reading(settings)
  const readers = new Map<string, Read>()
  const readerOf = (table: ShapeTable): Read => {
    let reader = readers.get(table.id)
    if (reader === undefined) {
      if (readers.size >= MAX_READERS) readers.clear()
      readers.set(table.id, (reader = reading(settings, table.shapes)))
    }
    return reader
  }
  let writer: { readonly table: ShapeTable; readonly pack: Pack } | undefined
  const writerOf = (table: ShapeTable): Pack => {
    if (writer?.table !== table) writer = { table, pack: packing(settings, sharedOptions(table, store)) }
    return writer.pack
  }
  // Nearly every entry of a region names the same table.
  let lastId: Uint8Array = new Uint8Array(ID_BYTES)
  let lastRead: Read | undefined
  return {
    encode({ payload, metadata }, key) {
      const table = store.current()
      const packed = writerOf(table)(payload)
      // A value without records needs no table.
      return table.shapes.length === 0 || typeof payload !== 'object'
        ? frame(CODEC_MSGPACK, metadata, packed, key)
        : frame(CODEC_MSGPACK_SHARED, metadata, packed, key, table.idBytes)
    },
    decode(stored, key) {
      const entry = readFrame(stored, key)
      if (entry?.codec === CODEC_MSGPACK) return readOwn(entry, 0)
      if (entry?.codec !== CODEC_MSGPACK_SHARED || entry.end - entry.start < ID_BYTES) return undefined
      if (lastRead !== undefined && standsAt(lastId, entry.bytes, entry.start))
        return lastRead(entry, ID_BYTES)
      const id = entry.bytes.toString('latin1', entry.start, entry.start + ID_BYTES)
      return andThen(store.find(id), (table) => {
        if (table === undefined) return undefined
        lastId = Buffer.from(id, 'latin1')
        lastRead = readerOf(table)
        return lastRead(entry, ID_BYTES)
      })
    },
  }
}

/** Tables are few: there is one for each step by which the first one grew. */
const MAX_READERS = 100

function standsAt(id: Uint8Array, bytes: Uint8Array, at: number): boolean {
  for (let i = 0; i < id.length; i++) if (id[i] !== bytes[at + i]) return false
  return true
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
