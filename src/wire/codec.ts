import { types } from 'node:util'
import type { Bytes, CachedValue, Metadata } from '../backend/cached-value.js'
import { asLayer } from '../backend/delegate.js'
import { CorralError, formatValue } from '../base/errors.js'
import { andThen, attempt, ignoreRejection, type MaybePromise } from '../base/maybe-promise.js'
import { MAX_DEPTH } from '../base/nesting.js'
import {
  expectFunction,
  expectInteger,
  expectText,
  expectThat,
  rejectUnknownOptions,
} from '../base/options.js'
import { processGlobal } from '../base/process-global.js'
import { mapValues } from '../chain/map-values.js'
import type { BackendProxy, Codec } from '../chain/proxy.js'
import { frame, isOlderFrame, readFrame, readFrameOf } from './frame.js'

/** The ids of the encodings that Corral ships. They stand in stored entries: never renumber, never reuse. */
export const CODEC_JSON = 1
export const CODEC_MSGPACK = 2
/** MessagePack whose record definitions stand in a table of their own. */
export const CODEC_MSGPACK_SHARED = 3
export const CODEC_V8 = 4

/** The first id that belongs to users. */
const FIRST_USER_CODEC = 128
const LAST_USER_CODEC = 255

/** @default maxBytes of every encoding: 16 MiB */
const MAX_BYTES = 16 * 1024 * 1024

/**
 * A user's own encoding of payloads. Corral frames its output: metadata, the codec's id and a CRC.
 * @example
 * ```ts
 * import type { PayloadCodec } from 'corral'
 *
 * // Text is stored as its UTF-8 bytes.
 * export const utf8: PayloadCodec<string> = {
 *   id: 130,
 *   name: 'utf8',
 *   encode: (text) => new TextEncoder().encode(text),
 *   decode: (bytes) => new TextDecoder().decode(bytes),
 * }
 * ```
 */
export interface PayloadCodec<Payload = unknown> {
  /** 128 to 255; stands in every stored entry, so that it must never change its meaning. */
  readonly id: number
  /** For reports and messages. */
  readonly name: string
  /** If it throws, nothing is stored. */
  encode(payload: Payload): MaybePromise<Uint8Array>
  /** Gets bytes of its own, which it may keep. A throw is a miss. `undefined` is a payload like any other. */
  decode(bytes: Uint8Array): MaybePromise<Payload>
  /** Larger entries are refused at `set`, and a miss when read. In bytes. @default 16 MiB */
  readonly maxBytes?: number
}

const registered = processGlobal('codecs', () => new Map<number, string>())

/**
 * Makes a proxy of an encoding of your own: a schema codec such as Protocol Buffers or Avro, or one that encrypts
 * fields. Entries of other codecs are misses to it, and its entries are misses to them.
 * @example
 * ```ts
 * import { defineCodec, wrap } from 'corral'
 * import { redis } from 'corral/backends/redis'
 *
 * const float64 = defineCodec<number>({
 *   id: 131,
 *   name: 'float64',
 *   encode: (number) => new Uint8Array(Float64Array.of(number).buffer),
 *   decode: (bytes) => new DataView(bytes.buffer, bytes.byteOffset).getFloat64(0, true),
 * })
 * const backend = wrap(redis('redis://localhost:6379'), float64)
 * ```
 * @throws CorralError `ERR_OPTION` for an id out of range, or one that another name has in this process.
 */
export function defineCodec<Payload>(codec: PayloadCodec<Payload>): BackendProxy<CachedValue, Bytes> {
  rejectUnknownOptions(codec, ['id', 'name', 'encode', 'decode', 'maxBytes'], 'defineCodec()')
  register(codec.id, codec.name)
  expectFunction(codec.encode, '`encode` of defineCodec()')
  expectFunction(codec.decode, '`decode` of defineCodec()')
  const { id, name } = codec
  const { maxBytes } = sizeLimits(codec, name)
  return encoding(name, {
    encode: ({ payload, metadata }, key) =>
      andThen(codec.encode(payload as Payload), (bytes) => {
        if (!types.isUint8Array(bytes))
          throw new CorralError(
            'ERR_UNENCODABLE',
            `Expected encode() of the codec '${name}' to return a Uint8Array, got ${formatValue(bytes)}.`,
          )
        refuseLarge(bytes.length, maxBytes, name)
        return frame(id, metadata, bytes, key)
      }),
    decode(stored, key) {
      const entry = readFrameOf(id, maxBytes, stored, key)
      if (entry === undefined) return undefined
      const { bytes, start, end, metadata } = entry
      // A copy: the codec may return views on it, and the stored bytes belong to the backend.
      const own = new Uint8Array(bytes.subarray(start, end))
      return andThen(codec.decode(own), (payload) => ({ payload, metadata }))
    },
  })
}

/** Both directions of an encoding of whole values. */
export type PayloadEncoding = Pick<Codec<CachedValue, Bytes>, 'encode' | 'decode'>

/** A proxy that turns values into bytes. */
export function encoding(name: string, codec: PayloadEncoding): BackendProxy<CachedValue, Bytes> {
  const captured = new WeakMap<CachedValue, MaybePromise<Bytes>>()
  const layer = mapValues<CachedValue, Bytes>({
    ...{ name, inner: 'bytes', outer: 'values', decode: codec.decode, isOlder: isOlderFrame },
    encode(entry, key) {
      const early = captured.get(entry)
      return early === undefined
        ? codec.encode(entry, key)
        : andThen(early, (bytes) => framedAgain(bytes, entry.metadata, key))
    },
  })
  const capture = (entry: CachedValue): void => {
    // The write of a value that cannot be encoded is refused there, in the order of its keys.
    const encode = () => codec.encode({ payload: entry.payload, metadata: NO_METADATA }, '')
    captured.set(entry, ignoreRejection(attempt(encode)))
  }
  return (next) => asLayer({ ...layer(next), capture })
}

/** Of an entry that is framed again before it is stored. */
const NO_METADATA: Metadata = { startedAt: 1, createdAt: 1 }

/** The frame of an entry that was encoded before its metadata and its key were known. */
function framedAgain(bytes: Bytes, metadata: Metadata, key: string): Bytes {
  const early = readFrame(bytes, '')
  if (early === undefined)
    throw new CorralError('ERR_UNENCODABLE', `Expected a frame for '${key}', got none.`)
  return frame(early.codec, metadata, early.bytes.subarray(early.start, early.end), key)
}

function register(id: number, name: string): void {
  expectThat(
    Number.isInteger(id) && id >= FIRST_USER_CODEC && id <= LAST_USER_CODEC,
    id,
    `the \`id\` of a codec to be a whole number from ${FIRST_USER_CODEC} to ${LAST_USER_CODEC}`,
    'Lower ids belong to Corral.',
  )
  expectText(name, 'the `name` of a codec')
  const holder = registered.get(id) ?? name
  if (holder !== name)
    throw new CorralError(
      'ERR_OPTION',
      `Expected an id that is free, got ${id} for '${name}', which '${holder}' has. Entries of one would be taken for the other's: choose another id.`,
    )
  registered.set(id, name)
}

/** The options that the encodings of Corral share. */
export interface EncodingOptions {
  /** Store the encoder's output without checking that it keeps the whole value. @default false */
  readonly lossy?: boolean
  /** Larger payloads are refused at `set` and misses when read. In bytes. @default 16 MiB */
  readonly maxBytes?: number
  /** Deeper nesting is refused at `set`, and by `json()` and `v8()` also when read. In levels. @default 500 */
  readonly maxDepth?: number
}

/** The options of an encoding of structured data. */
export interface StructuredOptions extends EncodingOptions {
  /** Keep RegExps. One from a hostile writer can hang the code that matches with it. @default false: refused, and a miss */
  readonly regExp?: boolean
}

/**
 * The shared options of an encoding, with their defaults.
 * @param own - the names of the other options that it takes
 * @throws CorralError `ERR_OPTION`
 */
export function encodingOptions(options: StructuredOptions, where: string, own: readonly string[]) {
  rejectUnknownOptions(options, [...own, 'lossy', 'maxBytes', 'maxDepth'], where)
  const { lossy = false, regExp = false } = options
  return { lossy, regExp, ...sizeLimits(options, where) }
}

function sizeLimits(options: Pick<EncodingOptions, 'maxBytes' | 'maxDepth'>, where: string) {
  return {
    maxBytes: expectInteger(options.maxBytes ?? MAX_BYTES, `\`maxBytes\` of ${where}`),
    maxDepth: expectInteger(options.maxDepth ?? MAX_DEPTH, `\`maxDepth\` of ${where}`),
  }
}

/** @throws CorralError `ERR_VALUE_TOO_LARGE` for an encoded payload beyond `maxBytes`. */
export function refuseLarge(size: number, maxBytes: number, encoding: string): void {
  if (size > maxBytes)
    throw new CorralError(
      'ERR_VALUE_TOO_LARGE',
      `Expected at most ${maxBytes} bytes from ${encoding}, got ${size}. Store less, or raise maxBytes.`,
    )
}
