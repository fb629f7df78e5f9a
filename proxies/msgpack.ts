import { Packr, Unpackr } from 'msgpackr'
// @ts-expect-error: this entry of msgpackr has no types; it is the same class.
import { Unpackr as UncompiledUnpackr } from 'msgpackr/unpack-no-eval'
import type { Backend } from '../src/backend.js'
import type { Bytes, CachedValue, Metadata } from '../src/cached-value.js'
import { CorralError, refuseUnknown, shown } from '../src/errors.js'
import { andThen, type MaybePromise } from '../src/maybe-promise.js'
import { type BackendProxy, mapValues } from '../src/proxy.js'
import {
  CODEC_MSGPACK,
  CODEC_MSGPACK_SHARED,
  limit,
  MAX_BYTES,
  MAX_DEPTH,
  refuseLarge,
} from '../src/wire/codec.js'
import {
  carefulCheck,
  encoderFailed,
  type Keeps,
  NEGATIVE_ZERO,
  quickCheck,
  type Shape as Visit,
  UNSURE,
} from '../src/wire/fidelity.js'
import { closeFrame, type Entry, openFrame, readFrame } from '../src/wire/frame.js'
import { hasProtoKey, hasRegExp } from '../src/wire/guards.js'
import { replaceNegativeZeros } from '../src/wire/negative-zero.js'
import {
  definesMany,
  mayHoldLoneSurrogate,
  mayHoldRegExp,
  mendNegativeZeros,
  mentionsProto,
  STAND_IN,
} from '../src/wire/packed.js'
import { ID_BYTES, MAX_SHAPES, type Shape, type ShapeStore, type ShapeTable, shapeStore } from '../src/wire/shapes.js'

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
  const settings: Settings = { profile, lossy, regExp, maxBytes, keeps: keepsOf(regExp, maxDepth) }
  return (next) => {
    const { encode, decode } = profile === 'records' ? sharing(settings, next) : selfContained(settings)
    return mapValues<CachedValue, Bytes>({ name: 'msgpack', inner: 'bytes', outer: 'values', encode, decode })(next)
  }
}

interface Settings {
  readonly profile: string
  readonly lossy: boolean
  readonly regExp: boolean
  readonly maxBytes: number
  readonly keeps: Keeps
}

interface Both {
  encode(value: CachedValue, key: string): Bytes
  decode(stored: Bytes, key: string): MaybePromise<CachedValue | undefined>
}

/** Entries that carry their own record definitions. */
function selfContained(settings: Settings): Both {
  const pack = packing(settings, { bundleStrings: settings.profile === 'bundled' })
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
    if (writer?.id !== table.id) writer = { id: table.id, pack: packing(settings, sharedOptions(table, store)) }
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

const FAITHFUL = { moreTypes: true, structuredClone: true, copyBuffers: true }

type Pack = (payload: unknown) => Buffer

/** A function that packs, and refuses what would be lost. Its result lies on msgpackr's slab. */
function packing({ lossy, regExp, maxBytes, keeps }: Settings, more: object): Pack {
  // Strictly taken, a value with a toJSON of its own is refused; a field of that name is data.
  const packr = new Packr({ ...FAITHFUL, ...more, ...(lossy ? {} : { useToJSON: false }) })
  const pack = (payload: unknown): Buffer => {
    const packed = packr.pack(payload)
    refuseLarge(packed.length, maxBytes, 'msgpack()')
    if (mentionsProto(packed) && hasProtoKey(payload)) refuse('a key named __proto__', 'Rename the key.')
    if (!regExp && mayHoldRegExp(packed) && hasRegExp(payload))
      refuse('a RegExp', 'Store its source, or allow it: regExp: true.')
    return packed
  }
  if (lossy) return (payload) => orRefuse(() => pack(payload), keeps)

  const check = quickCheck(keeps)
  const checkWithText = quickCheck(keeps, { text: true })
  return (payload) => {
    const packed = orRefuse(() => packr.pack(payload), keeps, payload)
    refuseLarge(packed.length, maxBytes, 'msgpack()')
    let fit = (mayHoldLoneSurrogate(packed) ? checkWithText : check)(payload, packed.length)
    if (fit === UNSURE || mentionsProto(packed)) fit = carefulCheck(keeps, payload)
    return fit === NEGATIVE_ZERO ? packNegativeZeros(packr, payload, keeps) : packed
  }
}

function orRefuse(pack: () => Buffer, keeps: Keeps, ...strictly: readonly unknown[]): Buffer {
  try {
    return pack()
  } catch (error) {
    if (strictly.length > 0) carefulCheck(keeps, strictly[0])
    throw encoderFailed(keeps, error)
  }
}

function packNegativeZeros(packr: Packr, payload: unknown, keeps: Keeps): Buffer {
  const { copy, count } = replaceNegativeZeros(payload, STAND_IN)
  const packed = packr.pack(copy)
  if (mendNegativeZeros(packed, count)) return packed
  throw encoderFailed(keeps, new Error('a −0 could not be told from other data'))
}

function refuse(what: string, advice: string): never {
  throw new CorralError(
    'ERR_UNENCODABLE',
    `Expected a value that msgpack() can read back, got one with ${what} in it. ${advice}`,
  )
}

type Read = (entry: Entry, skip: number) => CachedValue | undefined
type Reader = InstanceType<typeof Unpackr> & { structures?: Structures }
type Structures = string[][] & { sharedLength?: number }

function reading({ regExp, maxBytes }: Settings, shapes?: readonly Shape[]): Read {
  const compiling = new Unpackr(FAITHFUL) as Reader
  const plain = new UncompiledUnpackr(FAITHFUL) as Reader
  const compiled = shapes?.map((shape) => [...shape])
  const uncompiled = shapes?.map((shape) => [...shape])
  return ({ bytes, start, end, metadata }, skip) => {
    if (end - start > maxBytes) return undefined
    // A view of its own: msgpackr leaves a DataView on it, and the stored bytes belong to the backend.
    const packed = bytes.subarray(start + skip, end)
    const many = definesMany(packed)
    const reader = many ? plain : compiling
    const structures = many ? uncompiled : compiled
    if (structures !== undefined) reader.structures = fresh(structures)
    const payload: unknown = reader.unpack(packed)
    // msgpackr has renamed the key, which no entry of ours can have had.
    if (mentionsProto(packed) && hasProtoKey(payload, '__proto_')) return undefined
    if (!regExp && mayHoldRegExp(packed) && hasRegExp(payload)) return undefined
    return { payload, metadata }
  }
}

/** A list for one reading: an entry may redefine what it likes, and nothing of it is there for the next one. */
function fresh(structures: string[][]): Structures {
  const list: Structures = structures.slice()
  list.sharedLength = list.length
  return list
}

function keepsOf(regExp: boolean, maxDepth: number): Keeps {
  return {
    encoding: 'msgpack()',
    undefined: true,
    nonFinite: true,
    bigint: true,
    holes: false,
    loneSurrogates: false,
    cycles: true,
    classes: regExp ? new Map([...CLASSES, [RegExp.prototype, 'whole']]) : CLASSES,
    maxDepth,
  }
}

const CLASSES: ReadonlyMap<object, Visit> = new Map<object, Visit>([
  [Map.prototype, 'map'],
  [Set.prototype, 'set'],
  ...[
    Date,
    Buffer,
    ArrayBuffer,
    DataView,
    Int8Array,
    Uint8Array,
    Uint8ClampedArray,
    Int16Array,
    Uint16Array,
    Int32Array,
    Uint32Array,
    Float32Array,
    Float64Array,
    BigInt64Array,
    BigUint64Array,
  ].map(({ prototype }): [object, Visit] => [prototype, 'whole']),
])
