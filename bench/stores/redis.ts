/**
 * The Redis backend against ioredis: plain, with autopipelining, and `MGET` by hand, in the same interleaved rounds, the
 * same decoding in all of them. `--json file` saves the figures.
 */
import { Redis } from 'ioredis'
import { redis } from '../../backends/redis/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { json } from '../../proxies/json.js'
import { delegate, dep, dependsOn, makeRegion, type Region, wrap } from '../../src/index.js'
import { cluster } from '../../test/backends/redis/deployments.js'
import { startRedis } from '../../test/support/servers.js'
import { budget, machine, ratio, rounds, type Samples, saveJson, shown, spread, table } from '../support.js'

const SIZES = [200, 5_000]
const CONCURRENT = [1, 10, 100]
/** Readers at once, and the slots of their keys. */
const CLUSTERED = [
  [1, 1],
  [10, 10],
  [100, 1],
  [100, 10],
  [100, 100],
] as const
const figures: Record<string, unknown> = {}

type Fetch = (keys: readonly string[]) => Promise<unknown>

/** Reads so many keys at once, again and again. */
const reading = (fetch: Fetch, keys: readonly string[], width: number) => async (times: number) => {
  for (let done = 0; done < times; done += width) {
    const from = done % (keys.length - width + 1)
    await fetch(keys.slice(from, from + width))
  }
}

async function reads(port: number, bytes: number): Promise<void> {
  const plain = new Redis({ port })
  const auto = new Redis({ port, enableAutoPipelining: true })
  const url = `redis://127.0.0.1:${port}`
  const bare = redis(url)
  const untracked = wrap(redis(url), json())
  const shared = makeRegion<object>({
    name: `shared ${bytes}`,
    backend: wrap(redis(url), json(), dependencies()),
  })
  const distinct = makeRegion<object>({
    name: `distinct ${bytes}`,
    backend: wrap(redis(url), json(), dependencies()),
  })
  const region = makeRegion<object>({
    name: `plain ${bytes}`,
    backend: delegate(wrap(redis(url), json()), { ledger: undefined }),
  })
  const codec = json()({ ...bare, get: () => current })
  const value = { id: 1, name: 'A name', bio: 'x'.repeat(bytes - 40) }
  const keys = Array.from({ length: 200 }, (_, i) => `user:${bytes}:${i}`)
  const prefixed = (text: string) => keys.map((key) => `${text}:${key}`)
  await fill(region, prefixed('r'), value, () => [])
  await fill(shared, prefixed('s'), value, () => Array.from({ length: 4 }, (_, n) => dep.tag(`t${n}`)))
  await fill(distinct, prefixed('d'), value, (i) =>
    Array.from({ length: 4 }, (_, n) => dep.id('row', `${i}-${n}`)),
  )
  const metadata = { startedAt: 1, createdAt: Date.now() }
  for (const key of keys) await untracked.set(`u${key}`, { payload: value, metadata }, {})
  // Something was invalidated after everything was made: the way through the stamps is the normal one.
  await shared.invalidateDependencies(dep.tag('none of them'))
  const decode = decoder(codec)

  const works = (width: number) => {
    const raw = keys.map((key) => `u${key}`)
    const each = (get: (key: string) => Promise<unknown>) => (some: readonly string[]) =>
      Promise.all(some.map(get))
    return {
      'ioredis MGET by hand': reading(
        async (some) =>
          (await plain.mgetBuffer([...some])).map((found, i) => decode(found, some[i] as string)),
        raw,
        width,
      ),
      'again (the noise)': reading(
        async (some) =>
          (await plain.mgetBuffer([...some])).map((found, i) => decode(found, some[i] as string)),
        raw,
        width,
      ),
      'ioredis getBuffer': reading(
        each(async (key) => decode(await plain.getBuffer(key), key)),
        raw,
        width,
      ),
      'ioredis, autopipelining': reading(
        each(async (key) => decode(await auto.getBuffer(key), key)),
        raw,
        width,
      ),
      'a coalescer by hand': reading(each(byHand(plain, decode)), raw, width),
      'redis() + json()': reading(
        each((key) => untracked.get(key) as Promise<unknown>),
        raw,
        width,
      ),
      'a region without a ledger': reading(
        each((key) => region.get(key)),
        prefixed('r'),
        width,
      ),
      'tracked, 5 shared names': reading(
        each((key) => shared.get(key)),
        prefixed('s'),
        width,
      ),
      'tracked, 5 distinct names': reading(
        each((key) => distinct.get(key)),
        prefixed('d'),
        width,
      ),
    }
  }
  for (const width of CONCURRENT) {
    const samples = await rounds<string>(works(width), {
      rounds: 15,
      perRound: width === 1 ? 400 : width * 40,
    })
    const by = (name: string) => samples[name] as Samples
    const base = width === 1 ? by('ioredis getBuffer') : by('ioredis MGET by hand')
    console.log(`\n${width} concurrent, values of ${bytes} bytes`)
    console.log(
      table(
        Object.keys(samples).map((name) => ({
          what: name,
          'µs per read': (spread(by(name)).median / 1e3).toFixed(2),
          'reads/s': Math.round(1e9 / spread(by(name)).median),
          [`× ${width === 1 ? 'getBuffer' : 'MGET'}`]: shown(ratio(by(name), base)),
        })),
      ),
    )
    figures[`${bytes} bytes, ${width} concurrent`] = samples
    const limit = (what: string, one: Samples, other: Samples, most: number) =>
      console.log(
        budget(what, `${shown(ratio(one, other))}×`, `≤ ${most}×`, ratio(one, other).median <= most),
      )
    const own = by('a region without a ledger')
    if (width === 1) {
      limit('lone get of a region ÷ getBuffer', own, base, 1.1)
      limit(
        'lone tracked get ÷ untracked',
        by('tracked, 5 shared names'),
        by('a region without a ledger'),
        1.1,
      )
    }
    if (width === 100) {
      limit('100 concurrent gets of a region ÷ MGET by hand', own, base, 1.2)
      limit('the floor: a promise for each key, by hand ÷ MGET by hand', by('a coalescer by hand'), base, 1.2)
      limit(
        'tracked, shared names ÷ untracked',
        by('tracked, 5 shared names'),
        by('a region without a ledger'),
        1.5,
      )
      limit(
        'tracked, distinct names ÷ untracked',
        by('tracked, 5 distinct names'),
        by('a region without a ledger'),
        2.5,
      )
      console.log(`        ${shown(ratio(by('ioredis, autopipelining'), own))}× faster than autopipelining`)
    }
  }
  await Promise.all([bare.close(), region.close(), untracked.close(), shared.close(), distinct.close()])
  plain.disconnect()
  auto.disconnect()
}

/** The least that joins single reads: a promise for each, no deadline, no second asker of a key, no failures. */
function byHand(client: Redis, decode: (found: Buffer | null, key: string) => unknown) {
  let open: { readonly keys: string[]; readonly resolve: ((value: unknown) => void)[] } | undefined
  const flush = async () => {
    if (open === undefined) return
    const { keys, resolve } = open
    open = undefined
    const found = await client.mgetBuffer(keys)
    for (let i = 0; i < found.length; i++) resolve[i]?.(decode(found[i] ?? null, keys[i] as string))
  }
  return (key: string): Promise<unknown> => {
    if (open === undefined) {
      open = { keys: [], resolve: [] }
      process.nextTick(flush)
    }
    const { keys, resolve } = open
    keys.push(key)
    return new Promise((done) => resolve.push(done))
  }
}

async function fill(
  region: Region<object>,
  keys: readonly string[],
  value: object,
  names: (i: number) => string[],
): Promise<void> {
  await Promise.all(
    keys.map((key, i) =>
      region.getOrCreate(key, () => {
        if (names(i).length > 0) dependsOn(...names(i))
        return value
      }),
    ),
  )
}

/** The decoding of a chain, without its store. */
function decoder(chain: { get(key: string): unknown }): (found: Buffer | null, key: string) => unknown {
  return (found, key) => {
    current = found ?? undefined
    return chain.get(key)
  }
}
let current: Buffer | undefined

async function invalidation(port: number): Promise<void> {
  const region = makeRegion<number>({
    name: 'invalidation',
    backend: wrap(redis(`redis://127.0.0.1:${port}`), json(), dependencies()),
  })
  const rows = []
  let made = 0
  for (const entries of [1_000, 10_000, 100_000]) {
    for (; made < entries; made += 500)
      await Promise.all(
        Array.from({ length: 500 }, (_, i) =>
          region.getOrCreate(`e${made + i}`, () => {
            dependsOn(dep.tag('everything'))
            return i
          }),
        ),
      )
    const samples = (
      await rounds(
        { one: async (times) => repeat(times, () => region.invalidateDependencies(dep.tag('everything'))) },
        { perRound: 200 },
      )
    ).one
    rows.push({
      entries,
      'µs to invalidate the name of all': shown({ ...spread(samples.map((ns) => ns / 1e3)) }, 1),
    })
    await region.getOrCreate('e0', () => 0)
  }
  console.log(`\n${table(rows)}`)
  figures.invalidation = rows
  await region.close()
}

async function repeat(times: number, work: () => Promise<unknown>): Promise<void> {
  for (let i = 0; i < times; i++) await work()
}

/** The cost of concurrent reads to a cluster: commands, and how often a node had input from its connections. */
async function onCluster(masters: number): Promise<void> {
  const at = await cluster({ masters })
  const nodes = 'nodes' in at.admin ? at.admin.nodes('master') : []
  const backend = at.open()
  const count = async (work: () => Promise<unknown>) => {
    for (const node of nodes) await node.config('RESETSTAT')
    await work()
    let [commands, trips] = [0, 0]
    for (const node of nodes) {
      const stats = await node.info('all')
      for (const [, calls] of stats.matchAll(/^cmdstat_m?get:calls=(\d+)/gm)) commands += Number(calls)
      // One of them is the question itself.
      trips = Math.max(trips, Number(/^total_reads_processed:(\d+)/m.exec(stats)?.[1]) - 1)
    }
    return { commands, trips }
  }
  const rows = []
  for (const [readers, slots] of CLUSTERED) {
    const keys = Array.from({ length: readers }, (_, i) => `{tag ${i % slots}}${i}`)
    await backend.setMulti(keys.map((key) => [key, Buffer.alloc(200), {}]))
    const all = () => Promise.all(keys.map((key) => backend.get(key)))
    const { commands, trips } = await count(all)
    const { one } = await rounds(
      { one: async (times) => repeat(times / readers, all) },
      { perRound: readers * Math.ceil(400 / Math.sqrt(readers)) },
    )
    rows.push({
      readers,
      slots,
      commands,
      'round trips, most of a node': trips,
      'µs per read': (spread(one).median / 1e3).toFixed(2),
    })
  }
  console.log(`\nReads at once on a Cluster of ${masters}\n${table(rows)}`)
  figures[`a cluster of ${masters}`] = rows
  await backend.close()
  await at.stop()
}

console.log(machine())
const server = await startRedis()
try {
  for (const bytes of SIZES) await reads(server.port, bytes)
  await invalidation(server.port)
} finally {
  await server.stop()
}
for (const masters of [3, 6]) await onCluster(masters)
saveJson(figures)
