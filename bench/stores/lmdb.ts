/**
 * LMDB beside bare lmdb and beside other caches in files. The caches in files come
 * from bench/peers (`npm ci --prefix bench/peers`), or from the folder that BENCH_PEERS names; without them that part
 * is left out.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { open } from 'lmdb'
import { root } from '../../.ci/entries.mjs'
import { lmdb } from '../../backends/lmdb/index.js'
import { msgpack } from '../../proxies/msgpack.js'
import { prefix } from '../../proxies/prefix.js'
import type { Bytes, CachedValue } from '../../src/backend/cached-value.js'
import { defineBackend } from '../../src/backend/define-backend.js'
import { mapKeys } from '../../src/chain/map-keys.js'
import { wrap } from '../../src/chain/wrap.js'
import { makeRegion } from '../../src/region/region.js'
import {
  budget,
  machine,
  ratio,
  rounds,
  type Samples,
  saveJson,
  shown,
  spread,
  table,
  type Work,
} from '../support.js'

const KEYS = 500
const BARE = 'bare lmdb get + the same decoder'
const PROXIES = 'lmdb() through three proxies'
const READS = 5_000
const WRITES = 100

const payload = {
  id: 5,
  name: 'Some Person',
  email: 'person@example.org',
  roles: ['admin', 'editor'],
  address: { street: 'Main Street 5', city: 'Springfield', zip: '12345' },
  tags: Array.from({ length: 20 }, (_, i) => `tag ${i}`),
  text: 'x'.repeat(400),
}

interface Contender {
  readonly name: string
  read(key: string): unknown
  write?(key: string, value: unknown): unknown
}

const folder = mkdtempSync(join(tmpdir(), 'corral-bench-'))
const turn = () => new Promise<void>((resolve) => setImmediate(resolve))
const key = (i: number) => `key ${i % KEYS}`

/** How many writes are under way at a time, where several are. */
const AT_ONCE = 50

/** Interleaved rounds of calls, one after another or `AT_ONCE` together, in turns of the event loop of fifty. */
async function compare(
  title: string,
  perRound: number,
  contenders: readonly Contender[],
  pick: 'read' | 'write' | 'writes',
): Promise<Readonly<Record<string, Samples>>> {
  const works = contenders.map(({ name, read, write }): [string, Work] => [
    name,
    async (times) => {
      if (pick === 'writes') {
        for (let i = 0; i < times; i += AT_ONCE)
          await Promise.all(Array.from({ length: AT_ONCE }, (_, j) => write?.(key(i + j), payload)))
        return
      }
      for (let i = 0; i < times; i++) {
        const answer = pick === 'read' ? read(key(i)) : write?.(key(i), payload)
        if (answer instanceof Promise) await answer
        if (i % 50 === 49) await turn()
      }
    },
  ])
  const samples = await rounds(Object.fromEntries(works), { perRound })
  const base = samples[contenders[0]?.name ?? ''] ?? []
  console.log(`\n${title}\n`)
  console.log(
    table(
      contenders.map(({ name }) => ({
        '': name,
        µs: shown(spread((samples[name] ?? []).map((ns) => ns / 1000))),
        'times the first': shown(ratio(samples[name] ?? [], base)),
      })),
    ),
  )
  return samples
}

console.log(machine())

const store = lmdb(join(folder, 'corral.mdb'))
const chain = wrap(
  store,
  msgpack(),
  prefix('users:'),
  mapKeys((text) => `${text}!`),
)
const region = makeRegion({ name: 'bench', backend: chain, expirationTime: '5m' })
for (let i = 0; i < KEYS; i++) await region.set(key(i), payload)

/** The same bytes under the same keys, in lmdb alone; read again by the same decoder. */
const bare = open<Buffer, string>(join(folder, 'bare.mdb'), { encoding: 'binary' })
for (let i = 0; i < KEYS; i++)
  await bare.put(`users:${key(i)}!`, Buffer.from((await store.get(`users:${key(i)}!`)) as Bytes))
const decoding = wrap(
  defineBackend<Bytes>({
    name: 'bare',
    stores: 'bytes',
    get: (text) => bare.getBinary(text),
    set() {},
    delete() {},
  }),
  msgpack(),
)
const baseLine: Contender = {
  name: BARE,
  read: (text) => decoding.get(`users:${text}!`),
  write: (text, value) => bare.put(`users:${text}!`, Buffer.from(JSON.stringify(value))),
}

const hits = await compare(
  'A hit',
  READS,
  [
    baseLine,
    { ...baseLine, name: 'the base line against itself' },
    { name: 'bare lmdb get, not decoded', read: (text) => bare.getBinary(`users:${text}!`) },
    { name: 'lmdb(), not decoded', read: (text) => store.get(`users:${text}!`) },
    { name: PROXIES, read: (text) => chain.get(text) as CachedValue },
    { name: 'region.peek over it, invalidation judged', read: (text) => region.peek(text) },
    { name: 'region.get over it', read: (text) => region.get(text) },
  ],
  'read',
)
/** lmdb that never waits for the disk: the difference is the cost of waiting. */
const hasty = open(join(folder, 'hasty.mdb'), { noSync: true })
const hastyStore = lmdb(hasty)
const bytes = Buffer.alloc(700)
const writers: readonly Contender[] = [
  { ...baseLine, name: 'bare lmdb put' },
  { name: 'lmdb() set', read: () => undefined, write: (text) => store.set(text, bytes, {}) },
  {
    name: 'lmdb() set, over a database with `noSync`',
    read: () => undefined,
    write: (text) => hastyStore.set(text, bytes, {}),
  },
  { name: 'region.set over lmdb()', read: () => undefined, write: (text, value) => region.set(text, value) },
]
const writes = await compare('A write, one after another', WRITES, writers, 'write')
const manyWrites = await compare(`A write, ${AT_ONCE} at once`, WRITES * 5, writers, 'writes')

const proxies = ratio(hits[PROXIES] ?? [], hits[BARE] ?? [])
console.log(
  `\n${budget('a hit through three proxies ÷ bare lmdb get and decode', shown(proxies), '≤ 1.5', proxies.median <= 1.5)}`,
)
saveJson({ hits, writes, manyWrites })

const others = await caches()
if (others.length === 0) console.log('\nNo other caches in files: npm ci --prefix bench/peers')
else {
  const own: Contender = {
    name: 'corral over lmdb()',
    read: (text) => region.get(text),
    write: (text, value) => region.set(text, value),
  }
  for (const { write } of others) for (let i = 0; i < KEYS; i++) await write?.(key(i), payload)
  await compare(
    'A hit beside other caches in files (flat-cache and keyv-file hold all of it in the memory of one process)',
    300,
    [own, ...others],
    'read',
  )
  await compare('A write beside them, one after another', 20, [own, ...others], 'write')
  await compare(
    `A write beside them, ${AT_ONCE} at once`,
    AT_ONCE * 2,
    // flat-cache writes all of its file each time.
    [own, ...others.filter(({ name }) => !name.startsWith('flat-cache'))],
    'writes',
  )
}
await region.close()
await bare.close()
await hastyStore.close()
await hasty.close()
rmSync(folder, { recursive: true, force: true })

/** The call of each peer that keeps an object under a key in files. */
async function caches(): Promise<readonly Contender[]> {
  const require = createRequire(join(process.env.BENCH_PEERS ?? join(root, 'bench/peers'), 'package.json'))
  const load = async (name: string) =>
    (await import(pathToFileURL(require.resolve(name)).href)) as Record<string, unknown>
  try {
    const [flat, keyvFile, keyv, system, content, hashed] = await Promise.all(
      ['flat-cache', 'keyv-file', 'keyv', 'file-system-cache', 'cacache', 'cache-manager-fs-hash'].map(load),
    )
    const member = <T>(module: Record<string, unknown> | undefined, name: string): T =>
      (module?.[name] ??
        (module?.default as Record<string, unknown> | undefined)?.[name] ??
        module?.default) as T
    type Made<T> = new (options: object) => T
    interface Plain {
      getKey(key: string): unknown
      setKey(key: string, value: unknown): void
      save(): void
    }
    interface Async {
      get(key: string): Promise<unknown>
      set(key: string, value: unknown): Promise<unknown>
    }
    interface Content {
      get(path: string, key: string): Promise<{ readonly data: Buffer }>
      put(path: string, key: string, data: string): Promise<unknown>
    }
    const Flat = member<Made<Plain>>(flat, 'FlatCache')
    const plain = new Flat({ cacheDir: join(folder, 'flat'), cacheId: 'bench' })
    const File = member<Made<object>>(keyvFile, 'KeyvFile')
    const Keyv = member<Made<Async>>(keyv, 'Keyv')
    const inFile = new Keyv({ store: new File({ filename: join(folder, 'keyv.json'), writeDelay: 0 }) })
    const files = new (member<Made<Async>>(system, 'FileSystemCache'))({ basePath: join(folder, 'files') })
    const contents = ((content?.default as object | undefined) ?? content) as unknown as Content
    const place = join(folder, 'cacache')
    const disk = new (member<Made<Async>>(hashed, 'DiskStore'))({ path: join(folder, 'hashed') })
    return [
      {
        name: 'flat-cache, saved with every write',
        read: (text) => plain.getKey(text),
        write: (text, value) => (plain.setKey(text, value), plain.save()),
      },
      {
        name: 'keyv-file',
        read: (text) => inFile.get(text),
        write: (text, value) => inFile.set(text, value),
      },
      {
        name: 'file-system-cache',
        read: (text) => files.get(text),
        write: (text, value) => files.set(text, value),
      },
      {
        name: 'cache-manager-fs-hash',
        read: (text) => disk.get(text),
        write: (text, value) => disk.set(text, value),
      },
      {
        name: 'cacache',
        read: async (text) => JSON.parse((await contents.get(place, text)).data.toString()) as unknown,
        write: (text, value) => contents.put(place, text, JSON.stringify(value)),
      },
    ]
  } catch (error) {
    if ((error as { readonly code?: unknown }).code === 'MODULE_NOT_FOUND') return []
    throw error
  }
}
