import { promisify } from 'node:util'
import * as zlib from 'node:zlib'
import type { AnyFunction } from '../../src/base/any-function.js'

/** One algorithm as this process has it. `decompress` never makes more than `size` bytes: it throws instead. */
export interface Engine {
  compress(bytes: Uint8Array, level: number): Uint8Array
  decompress(packed: Uint8Array, size: number): Uint8Array
  /** Off the event loop, for large entries. */
  compressLater?(bytes: Uint8Array, level: number): Promise<Uint8Array>
  decompressLater?(packed: Uint8Array, size: number): Promise<Uint8Array>
}

type Options = zlib.ZlibOptions & zlib.BrotliOptions & { readonly pledgedSrcSize?: number }
type Now = (bytes: Uint8Array, options: Options) => Uint8Array
type Later = (bytes: Uint8Array, options: Options) => Promise<Uint8Array>
type OptionsFor = (level: number, size: number) => Options

/** Output grows by chunks of at most this, so that an entry that lies about its size takes little for its lie. */
const CHUNK_BYTES = 1024 * 1024
/** 16 MiB: more than level 19 uses. Without a limit, a frame of a few bytes may ask for a window of 128 MiB. */
const ZSTD_WINDOW_LOG_MAX = 24

const { constants } = zlib
/** Newer than the oldest Node that is supported, and than its types. */
const zstd = constants as unknown as Partial<
  Record<'ZSTD_c_compressionLevel' | 'ZSTD_d_windowLogMax', number>
>

export const deflateEngine = () => fromZlib('deflate', 'inflate', (level) => ({ level }))
export const gzipEngine = () => fromZlib('gzip', 'gunzip', (level) => ({ level }))
export const brotliEngine = () =>
  fromZlib('brotliCompress', 'brotliDecompress', (level, size) => ({
    params: { [constants.BROTLI_PARAM_QUALITY]: level, [constants.BROTLI_PARAM_SIZE_HINT]: size },
  }))
/** `undefined` below Node 22.15. */
export const zstdEngine = () =>
  fromZlib(
    'zstdCompress',
    'zstdDecompress',
    (level, size) => ({
      params: { [zstd.ZSTD_c_compressionLevel ?? 0]: level },
      // Without it a short entry gets the tables of a long one, which costs up to twice the time.
      pledgedSrcSize: size,
    }),
    { params: { [zstd.ZSTD_d_windowLogMax ?? 0]: ZSTD_WINDOW_LOG_MAX } },
  )

/** The functions of zlib with these names, or `undefined` if this Node is too old for them. */
function fromZlib(
  pack: string,
  unpack: string,
  optionsFor: OptionsFor,
  limits?: Options,
): Engine | undefined {
  const found = zlib as unknown as Record<string, AnyFunction | undefined>
  if (found[pack] === undefined || found[unpack] === undefined) return undefined
  const packNow = found[`${pack}Sync`] as Now
  const unpackNow = found[`${unpack}Sync`] as Now
  const packLater = promisify(found[pack]) as Later
  const unpackLater = promisify(found[unpack]) as Later
  const packing = (bytes: Uint8Array, level: number): Options => ({
    ...optionsFor(level, bytes.length),
    chunkSize: chunk(bytes.length / 2),
  })
  // One byte more than is needed, else zlib makes a second chunk to see that nothing follows.
  const unpacking = (size: number): Options => ({
    ...limits,
    chunkSize: chunk(size + 1),
    maxOutputLength: size,
  })
  return {
    compress: (bytes, level) => packNow(bytes, packing(bytes, level)),
    decompress: (packed, size) => unpackNow(packed, unpacking(size)),
    compressLater: (bytes, level) => packLater(bytes, packing(bytes, level)),
    decompressLater: (packed, size) => unpackLater(packed, unpacking(size)),
  }
}

function chunk(bytes: number): number {
  return Math.max(64, Math.min(Math.ceil(bytes), CHUNK_BYTES))
}
