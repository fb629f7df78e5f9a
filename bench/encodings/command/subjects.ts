import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { type Algorithm, algorithms, engineOf } from '../../../proxies/compress/algorithms.js'
import { type CompressionAlgorithm, compress } from '../../../proxies/compress.js'
import { json } from '../../../proxies/json.js'
import { v8 } from '../../../proxies/v8.js'
import type { Backend } from '../../../src/backend/backend.js'
import type { Bytes, CachedValue } from '../../../src/backend/cached-value.js'
import { defineBackend } from '../../../src/backend/define-backend.js'
import { delegate } from '../../../src/backend/delegate.js'
import type { BackendProxy } from '../../../src/chain/proxy.js'
import { defineCodec, type PayloadCodec } from '../../../src/wire/codec.js'
import { UsageError } from './usage.js'

/** One combination of an encoding and a compression, over a store of its own. */
export interface Subject {
  readonly name: string
  readonly encoding: string
  readonly compression: string
  readonly note: string | undefined
  readonly chain: Backend<CachedValue>
  readonly stored: ReadonlyMap<string, Bytes>
}

export interface Candidates {
  readonly subjects: readonly Subject[]
  /** Combinations that could not be measured here, each with the missing part. */
  readonly absent: readonly { readonly name: string; readonly needs: string }[]
}

interface Encoding {
  readonly name: string
  /** To know before choosing it. */
  readonly note?: string
  /** `undefined`: the package that it needs is not here. */
  readonly load: () => Promise<(() => BackendProxy<CachedValue, Bytes>) | undefined>
}

/** The encodings that Corral ships, from simple to demanding: in a tie the first wins. */
const encodings: readonly Encoding[] = [
  { name: 'json', load: async () => () => json() },
  { name: 'msgpack', load: () => madeBy((msgpack) => msgpack()) },
  { name: 'msgpack bundled', load: () => madeBy((msgpack) => msgpack({ profile: 'bundled' })) },
  {
    name: 'msgpack records',
    note: 'msgpack records keeps field names in the store, under a key of their own that every reader has to find there.',
    load: () => madeBy((msgpack) => msgpack({ profile: 'records' })),
  },
  {
    name: 'v8',
    note: 'v8 is read by the same major version of Node only: an upgrade empties the cache.',
    load: async () => () => v8(),
  },
]

type Msgpack = typeof import('../../../proxies/msgpack.js')['msgpack']

/** msgpackr is optional: imported when it is asked for, so that the command runs without it. */
async function madeBy(make: (msgpack: Msgpack) => BackendProxy<CachedValue, Bytes>) {
  try {
    const { msgpack } = await import('../../../proxies/msgpack.js')
    return () => make(msgpack)
  } catch {
    return undefined
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
  const absent: { name: string; needs: string }[] = []
  const made: { name: string; note: string | undefined; make: () => BackendProxy<CachedValue, Bytes> }[] = []
  const own = (await Promise.all(modules.map(fromModule))).flat()
  for (const { name, note, load } of [...encodings, ...own]) {
    const make = await load()
    if (make === undefined) absent.push({ name, needs: 'the package msgpackr' })
    else made.push({ name, note, make })
  }
  const available = compressions.filter((name) => {
    if (name === 'none') return true
    const algorithm: Algorithm = algorithms[name]
    if (engineOf(algorithm) !== undefined) return true
    absent.push({ name, needs: algorithm.needs ?? 'another Node' })
    return false
  })
  const subjects = made
    .flatMap(({ name: encoding, note, make }) =>
      available.map((compression) => ({
        encoding,
        compression,
        note,
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
      return { ...rest, stored, chain: chained(rest.encoding, make(), below) }
    })
  if (subjects.length < 2 && only.length > 0)
    throw new UsageError(
      `Expected --only to leave something to measure, got '${only.join("', '")}'. Try: ${made.map(({ name }) => name).join(', ')}.`,
    )
  return { subjects, absent }
}

function chained(name: string, proxy: unknown, below: Backend<Bytes>): Backend<CachedValue> {
  const put = (layer: unknown) => (typeof layer === 'function' ? (layer(below) as unknown) : undefined)
  // An export may also be a factory, such as `() => msgpack({ … })`.
  const once = put(proxy)
  const chain = (typeof once === 'function' ? put(once) : once) as Partial<Backend<CachedValue>> | undefined
  if (typeof chain?.get === 'function' && typeof chain.set === 'function')
    return chain as Backend<CachedValue>
  throw new UsageError(
    `Expected the export \`${name}\` to be an encoding, such as msgpack() returns, but over a backend it made none.`,
  )
}

/** A map and nothing else: the cost above it is encoding and compression. */
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
