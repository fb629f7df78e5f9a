import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { type CompressionAlgorithm, compress } from '../../proxies/compress.js'
import { json } from '../../proxies/json.js'
import { v8 } from '../../proxies/v8.js'
import type { Backend } from '../../src/backend.js'
import type { Bytes, CachedValue } from '../../src/cached-value.js'
import { defineBackend } from '../../src/define-backend.js'
import { CorralError } from '../../src/errors.js'
import { type BackendProxy, delegate } from '../../src/proxy.js'
import { defineCodec, type PayloadCodec } from '../../src/wire/codec.js'
import { UsageError } from './usage.js'

/** One combination of an encoding and a compression, over a store of its own. */
export interface Subject {
  readonly name: string
  readonly encoding: string
  readonly compression: string
  readonly chain: Backend<CachedValue>
  readonly stored: ReadonlyMap<string, Bytes>
}

export interface Candidates {
  readonly subjects: readonly Subject[]
  /** What could not be measured here, and why. */
  readonly absent: readonly { readonly name: string; readonly reason: string }[]
}

interface Encoding {
  readonly name: string
  readonly load: () => Promise<() => BackendProxy<CachedValue, Bytes>>
}

/** The encodings that Corral ships. The first is what the others are compared with. */
const encodings: readonly Encoding[] = [
  { name: 'json', load: async () => () => json() },
  { name: 'v8', load: async () => () => v8() },
  { name: 'msgpack', load: () => madeBy((msgpack) => msgpack()) },
  { name: 'msgpack bundled', load: () => madeBy((msgpack) => msgpack({ profile: 'bundled' })) },
  { name: 'msgpack records', load: () => madeBy((msgpack) => msgpack({ profile: 'records' })) },
]

type Msgpack = typeof import('../../proxies/msgpack.js')['msgpack']

/** msgpackr is optional: imported when it is asked for, so that the command runs without it. */
async function madeBy(make: (msgpack: Msgpack) => BackendProxy<CachedValue, Bytes>) {
  try {
    const { msgpack } = await import('../../proxies/msgpack.js')
    return () => make(msgpack)
  } catch (error) {
    throw new Error('Expected the package msgpackr, but it is not here. Install it to measure this.', {
      cause: error,
    })
  }
}

const compressions: readonly ('none' | CompressionAlgorithm)[] = [
  'none',
  'deflate',
  'gzip',
  'brotli',
  'zstd',
  'lz4',
  'snappy',
]

/**
 * Every encoding with every compression that this process has.
 * @param modules - files with codecs of the user's own
 * @param only - texts one of which a combination's name has to contain; none: all
 */
export async function candidates(modules: readonly string[], only: readonly string[]): Promise<Candidates> {
  const absent: { name: string; reason: string }[] = []
  const made: { name: string; make: () => BackendProxy<CachedValue, Bytes> }[] = []
  const own = (await Promise.all(modules.map(fromModule))).flat()
  for (const { name, load } of [...encodings, ...own]) {
    try {
      made.push({ name, make: await load() })
    } catch (error) {
      absent.push({ name, reason: (error as Error).message.split('\n')[0] ?? '' })
    }
  }
  const available = compressions.filter((algorithm) => {
    try {
      if (algorithm !== 'none') compress({ algorithm })
      return true
    } catch (error) {
      if (!CorralError.is(error, 'ERR_UNSUPPORTED')) throw error
      absent.push({ name: algorithm, reason: error.message })
      return false
    }
  })
  const subjects = made
    .flatMap(({ name: encoding, make }) =>
      available.map((compression) => ({
        encoding,
        compression,
        make,
        name: compression === 'none' ? encoding : `${encoding} + ${compression}`,
      })),
    )
    .filter(({ name }, i) => i === 0 || only.length === 0 || only.some((text) => name.includes(text)))
    .map(({ make, ...rest }) => {
      const { backend, stored } = emptyStore()
      const below =
        rest.compression === 'none'
          ? backend
          : compress({ algorithm: rest.compression as CompressionAlgorithm })(backend)
      return { ...rest, stored, chain: make()(below) }
    })
  if (subjects.length < 2 && only.length > 0)
    throw new UsageError(
      `Expected --only to leave something to measure, got '${only.join("', '")}'. Try: ${made.map(({ name }) => name).join(', ')}.`,
    )
  return { subjects, absent }
}

/** A map and nothing else: what is measured above it is encoding and compression. */
function emptyStore(): { readonly backend: Backend<Bytes>; readonly stored: ReadonlyMap<string, Bytes> } {
  const stored = new Map<string, Bytes>()
  const get = (key: string) => stored.get(key)
  const set = (key: string, bytes: Bytes) => {
    stored.set(key, bytes)
    return 'stored' as const
  }
  const remove = (key: string) => {
    stored.delete(key)
  }
  const complete = defineBackend<Bytes>({ name: 'bench', stores: 'bytes', get, set, delete: remove })
  // Without the fence against late writes, which costs more than the map.
  return { backend: delegate(complete, { get, set }), stored }
}

async function fromModule(file: string): Promise<readonly Encoding[]> {
  let exported: Record<string, unknown>
  try {
    exported = (await import(pathToFileURL(resolve(file)).href)) as Record<string, unknown>
  } catch (error) {
    throw new UsageError(`Expected a module of codecs at ${file}, got: ${(error as Error).message}.`)
  }
  return Object.entries(exported).map(([name, value]) => {
    if (typeof value === 'function')
      return { name, load: async () => () => value as BackendProxy<CachedValue, Bytes> }
    const codec = value as Partial<PayloadCodec> | null
    if (
      typeof codec === 'object' &&
      codec !== null &&
      typeof codec.encode === 'function' &&
      typeof codec.decode === 'function'
    ) {
      const proxy = defineCodec({ ...codec, name: codec.name ?? name } as PayloadCodec)
      return { name: codec.name ?? name, load: async () => () => proxy }
    }
    throw new UsageError(
      `Expected the export \`${name}\` of ${file} to be a proxy, such as msgpack() returns, or { id, name, encode, decode }.`,
    )
  })
}
