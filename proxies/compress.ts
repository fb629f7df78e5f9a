import type { Bytes } from '../src/backend/cached-value.js'
import { CorralError, formatValue } from '../src/base/errors.js'
import { andThen, type MaybePromise } from '../src/base/maybe-promise.js'
import {
  expectInteger,
  expectOneOf,
  expectThat,
  ownOptions,
  rejectUnknownOptions,
} from '../src/base/options.js'
import { mapValues } from '../src/chain/map-values.js'
import type { BackendProxy } from '../src/chain/proxy.js'
import { crc32 } from '../src/wire/crc.js'
import { putLayer, takeLayer } from '../src/wire/layer.js'
import { type Reader, readVarint, varintSize, writeVarint } from '../src/wire/varint.js'
import {
  type Algorithm,
  algorithmOf,
  algorithms,
  type CompressionAlgorithm,
  engineOf,
} from './compress/algorithms.js'
import { loadFailure } from './compress/peer-engines.js'

export type { CompressionAlgorithm }

/**
 * The algorithm of `compress()`, and the entries that it leaves alone.
 * @example
 * ```ts
 * import { compress, type CompressOptions } from 'corral/proxies/compress'
 *
 * // Pages are written once and read often.
 * const forPages: CompressOptions = { algorithm: 'brotli', level: 5, threshold: 4_096 }
 * const proxy = compress(forPages)
 * ```
 */
export interface CompressOptions {
  /**
   * The algorithm of new entries. `zstd` needs Node 22.15 or the package zstd-napi, `lz4` the package lz4-napi,
   * `snappy` the package snappy; the others are in every Node. @default 'deflate'
   */
  readonly algorithm?: CompressionAlgorithm | undefined
  /** Deflate and gzip 1–9, brotli 0–11, zstd 1–19; lz4 and snappy have none. @default 3, and 2 for brotli */
  readonly level?: number | undefined
  /** Entries of fewer bytes are stored as they are. @default 1024 */
  readonly threshold?: number | undefined
  /** The largest entry, in bytes before compression, that is written or unpacked. @default 33_554_432 (32 MiB) */
  readonly maxBytes?: number | undefined
}

const LAYER = 1
const STORED_RAW = 0
const CRC = 4
const MOST_BYTES = 2 ** 31 - 1
/** CRC-32 and the shortest size. */
const LEAST_BODY = CRC + 1
/** Up to here it takes the event loop longer to start a job in the thread pool than to do the job (30 µs, measured). */
const INLINE_BYTES = 64 * 1024
/** Likewise for writing at levels that trade time for size. */
const INLINE_BYTES_SLOW = 4 * 1024
/** Every read pays for unpacking, so an entry has to shrink at least to this part of itself. */
const WORTHWHILE = 0.9

/**
 * Makes stored bytes smaller; stands below an encoding: `wrap(redis(url), compress(), msgpack())`. A value that is small or
 * does not shrink is stored as it is. Each entry names its algorithm, so the algorithm can be changed on
 * a live cache; an entry that this process cannot unpack, or that is damaged, is a miss. Entries above 64 KiB are worked on in
 * the thread pool, smaller ones at once, so that `peek` can read them.
 * @example
 * ```ts
 * import { makeRegion, wrap } from 'corral'
 * import { redis } from 'corral/backends/redis'
 * import { compress } from 'corral/proxies/compress'
 * import { msgpack } from 'corral/proxies/msgpack'
 *
 * const backend = wrap(redis('redis://localhost:6379'), compress(), msgpack())
 * const pages = makeRegion<string>({ name: 'pages', backend })
 * ```
 * @throws CorralError `ERR_OPTION` for options out of range, `ERR_UNSUPPORTED` when this process lacks the algorithm;
 * on writing `ERR_VALUE_TOO_LARGE` above `maxBytes`.
 */
export function compress(options: CompressOptions = {}): BackendProxy<Bytes, Bytes> {
  options = ownOptions(options)
  rejectUnknownOptions(options, ['algorithm', 'level', 'threshold', 'maxBytes'], 'compress()')
  const name = options.algorithm ?? 'deflate'
  expectOneOf(name, '`algorithm` of compress()', Object.keys(algorithms))
  const algorithm: Algorithm = algorithms[name]
  const level = expectLevel(name, algorithm, options.level)
  const threshold = expectInteger(options.threshold ?? 1024, '`threshold` of compress()', 0, MOST_BYTES)
  const maxBytes = expectInteger(
    options.maxBytes ?? 32 * 1024 * 1024,
    '`maxBytes` of compress()',
    1,
    MOST_BYTES,
  )
  const engine = engineOf(algorithm)
  if (engine === undefined) throw lacking(name, `for compress({ algorithm: '${name}' })`)
  const inline = level < (algorithm.levels?.slow ?? 1) ? INLINE_BYTES : INLINE_BYTES_SLOW

  return mapValues<Bytes, Bytes>({
    name: 'compress',
    inner: 'bytes',
    outer: 'bytes',
    encode(bytes, key) {
      if (bytes.length > maxBytes)
        throw new CorralError(
          'ERR_VALUE_TOO_LARGE',
          `Expected the entry of ${formatValue(key)} to be at most ${maxBytes} bytes, got ${bytes.length}. ` +
            'Raise `maxBytes` of compress() in every process that reads it.',
        )
      if (bytes.length < threshold) return putLayer(LAYER, STORED_RAW, bytes)
      const packed =
        bytes.length > inline && engine.compressLater !== undefined
          ? engine.compressLater(bytes, level)
          : engine.compress(bytes, level)
      return andThen(packed, (smaller) =>
        smaller.length + LEAST_BODY > bytes.length * WORTHWHILE
          ? putLayer(LAYER, STORED_RAW, bytes)
          : putLayer(LAYER, algorithm.id, frame(smaller, bytes.length)),
      )
    },
    decode(stored) {
      const layer = takeLayer(LAYER, stored)
      if (layer === undefined) return undefined
      return layer.flags === STORED_RAW ? layer.body : unpack(layer.flags, layer.body, maxBytes)
    },
  })
}

/** `CRC-32 · size before compression (varint) · packed`: damage is found before a decompressor sees it. */
function frame(packed: Uint8Array, size: number): Uint8Array {
  const start = CRC + varintSize(size)
  const framed = new Uint8Array(start + packed.length)
  writeVarint(framed, CRC, size)
  framed.set(packed, start)
  view(framed).setUint32(0, crc32(framed.subarray(CRC)), true)
  return framed
}

/** Throws, or returns `undefined`, unless the bytes are exactly an output of `frame`. Both are misses. */
function unpack(id: number, body: Uint8Array, maxBytes: number): MaybePromise<Bytes | undefined> {
  const known = algorithmOf(id)
  if (known === undefined || body.length < LEAST_BODY) return undefined
  if (view(body).getUint32(0, true) !== crc32(body.subarray(CRC))) return undefined
  const [name, algorithm] = known
  const engine = engineOf(algorithm)
  if (engine === undefined) throw lacking(name, `to read an entry compressed with ${name}`)
  const from: Reader = { bytes: buffer(body), at: CRC, end: body.length, failed: false }
  const size = readVarint(from)
  if (from.failed || size === 0) return undefined
  if (size > maxBytes)
    throw new CorralError(
      'ERR_VALUE_TOO_LARGE',
      `Expected an entry of at most ${maxBytes} bytes, got one that says ${size}. Raise \`maxBytes\` of compress() if it is yours.`,
    )
  const packed = body.subarray(from.at)
  const bytes =
    size > INLINE_BYTES && engine.decompressLater !== undefined
      ? engine.decompressLater(packed, size)
      : engine.decompress(packed, size)
  return andThen(bytes, (whole) => (whole.length === size ? unshared(whole) : undefined))
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
}

function buffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
}

/** Node cuts small buffers from a slab of 8 KiB, which a kept view would hold on to. */
function unshared(bytes: Uint8Array): Uint8Array {
  return bytes.buffer.byteLength > bytes.length + 64 ? new Uint8Array(bytes) : bytes
}

function expectLevel(name: CompressionAlgorithm, { levels }: Algorithm, level: number | undefined): number {
  if (levels === undefined) {
    expectThat(level === undefined, level, `no \`level\` of compress() with ${name}, which has none`)
    return 0
  }
  const { least, most, usual } = levels
  return expectInteger(level ?? usual, `\`level\` of compress() with ${name}`, least, most)
}

function lacking(name: CompressionAlgorithm, purpose: string): CorralError {
  const { needs = '' }: Algorithm = algorithms[name]
  const failure = loadFailure(needs)
  if (failure !== undefined) return failure
  return new CorralError(
    'ERR_UNSUPPORTED',
    `Expected ${needs} ${purpose}, but it is not here. Install it, or compress with one of deflate, gzip and brotli, which every Node has.`,
  )
}
