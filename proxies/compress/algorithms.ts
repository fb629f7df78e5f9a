import { lz4Engine, snappyEngine, zstdFromAnywhere } from './peer-engines.js'
import { brotliEngine, deflateEngine, type Engine, gzipEngine } from './zlib-engine.js'

export interface Algorithm {
  /** Stands in the flags of an entry, 0 for stored as it was: never change or reuse one. */
  readonly id: number
  /** The `usual` level is the default; from `slow` on an algorithm trades time for size. */
  readonly levels?: {
    readonly least: number
    readonly most: number
    readonly usual: number
    readonly slow: number
  }
  /** The package or version that a process needs, if not every Node has the algorithm. */
  readonly needs?: string
  load(): Engine | undefined
}

export const algorithms = {
  deflate: { id: 1, levels: { least: 1, most: 9, usual: 3, slow: 8 }, load: deflateEngine },
  gzip: { id: 2, levels: { least: 1, most: 9, usual: 3, slow: 8 }, load: gzipEngine },
  brotli: { id: 3, levels: { least: 0, most: 11, usual: 2, slow: 5 }, load: brotliEngine },
  zstd: {
    id: 4,
    levels: { least: 1, most: 19, usual: 3, slow: 6 },
    needs: 'Node 22.15 or newer, or the package zstd-napi',
    load: zstdFromAnywhere,
  },
  lz4: { id: 5, needs: 'the package lz4-napi', load: lz4Engine },
  snappy: { id: 6, needs: 'the package snappy', load: snappyEngine },
} as const satisfies Readonly<Record<string, Algorithm>>

/**
 * The algorithms that `compress` can write. It reads all that this process has.
 * @example
 * ```ts
 * import { type CompressionAlgorithm, compress } from 'corral/proxies/compress'
 *
 * const algorithm: CompressionAlgorithm = process.platform === 'linux' ? 'gzip' : 'deflate'
 * const proxy = compress({ algorithm })
 * ```
 */
export type CompressionAlgorithm = keyof typeof algorithms

const byId = new Map<number, readonly [CompressionAlgorithm, Algorithm]>(
  (Object.keys(algorithms) as CompressionAlgorithm[]).map((name) => [
    algorithms[name].id,
    [name, algorithms[name]],
  ]),
)
const engines = new Map<number, Engine | undefined>()

export function algorithmOf(id: number): readonly [CompressionAlgorithm, Algorithm] | undefined {
  return byId.get(id)
}

/** Loads an algorithm when it is first asked for. `undefined`: this process does not have it. */
export function engineOf(algorithm: Algorithm): Engine | undefined {
  if (!engines.has(algorithm.id)) engines.set(algorithm.id, algorithm.load())
  return engines.get(algorithm.id)
}
