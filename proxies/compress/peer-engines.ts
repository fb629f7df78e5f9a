import { createRequire } from 'node:module'
import { CorralError } from '../../src/base/errors.js'
import { importError, isNotInstalled } from '../../src/base/peer-package.js'
import { type Engine, zstdEngine } from './zlib-engine.js'

/**
 * zlib's own for large entries, which it works on in the thread pool. For small ones the package, where it is
 * installed: it keeps its tables, which makes it two to four times as fast on a few kilobytes.
 */
export function zstdFromAnywhere(): Engine | undefined {
  const builtin = zstdEngine()
  const simple = peer<ZstdSimple>('zstd-napi')
  const binding = peer<ZstdBinding>('zstd-napi/binding')
  if (simple === undefined || binding === undefined) return builtin
  const context = new binding.DCtx()
  return {
    ...builtin,
    compress: (bytes, compressionLevel) => simple.compress(bytes, { compressionLevel }),
    decompress(packed, size) {
      const whole = new Uint8Array(size)
      return whole.subarray(0, context.decompress(whole, packed))
    },
  }
}

interface ZstdSimple {
  compress(bytes: Uint8Array, parameters: { readonly compressionLevel: number }): Uint8Array
}
interface ZstdBinding {
  readonly DCtx: new () => { decompress(into: Uint8Array, packed: Uint8Array): number }
}

/** The package lz4-napi: a block after its size in four bytes, which the package allocates unasked. */
export function lz4Engine(): Engine | undefined {
  return fromBlocks('lz4-napi', (packed) =>
    packed.length < 4 ? -1 : new DataView(packed.buffer, packed.byteOffset).getUint32(0, true),
  )
}

/** The package snappy: a block after its size in LEB128, which the package allocates unasked. */
export function snappyEngine(): Engine | undefined {
  return fromBlocks('snappy', (packed) => {
    let size = 0
    for (let i = 0; i < 5; i++) {
      const byte = packed[i] ?? 0
      size += (byte & 0x7f) * 128 ** i
      if (byte < 0x80) break
    }
    return size
  })
}

/** Both packages have the same four functions. */
interface BlockCompressor {
  compressSync(bytes: Uint8Array): Uint8Array
  compress(bytes: Uint8Array): Promise<Uint8Array>
  uncompressSync(packed: Uint8Array): Uint8Array
  uncompress(packed: Uint8Array): Promise<Uint8Array>
}

function fromBlocks(name: string, sizeIn: (packed: Uint8Array) => number): Engine | undefined {
  const blocks = peer<BlockCompressor>(name)
  if (blocks === undefined) return undefined
  const checked = (packed: Uint8Array, size: number): Uint8Array => {
    const told = sizeIn(packed)
    if (told === size) return packed
    throw new CorralError(
      'ERR_VALUE_TOO_LARGE',
      `Expected a block that unpacks to ${size} bytes, got one that says ${told}.`,
    )
  }
  return {
    compress: (bytes) => blocks.compressSync(bytes),
    compressLater: (bytes) => blocks.compress(bytes),
    decompress: (packed, size) => blocks.uncompressSync(checked(packed, size)),
    decompressLater: async (packed, size) => blocks.uncompress(checked(packed, size)),
  }
}

/** A package that need not be there. Loaded when first needed, in one step, so that reads stay synchronous. */
function peer<T>(name: string): T | undefined {
  try {
    // The CommonJS build has no `import.meta.url`.
    return createRequire(import.meta.url ?? __filename)(name) as T
  } catch (error) {
    if (!isNotInstalled(name, error)) broken.set(name, error)
    return undefined
  }
}

/** Packages that are there and could not be loaded. */
const broken = new Map<string, unknown>()

/** The failure of a package that a text names, if it is there and could not be loaded. */
export function loadFailure(text: string): CorralError | undefined {
  for (const [name, error] of broken)
    if (text.includes(name)) return importError(name, 'compress() works', error, 'ERR_UNSUPPORTED')
  return undefined
}
