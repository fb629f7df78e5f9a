/**
 * The cost of dependency tracking: invalidations, hits and bytes. A name that ever more entries depend on is measured
 * against a set of their keys, a tracked hit against an untracked one. `--small` leaves out the largest sizes, `--json file` saves the figures.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { Redis } from 'ioredis'
import { memory } from '../../backends/memory/index.js'
import { redis } from '../../backends/redis/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { json } from '../../proxies/json.js'
import { delegate, dep, makeRegion, type Region, wrap } from '../../src/index.js'
import { startRedis } from '../../test/support/servers.js'
import { budget, machine, ratio, rounds, type Samples, saveJson, shown, spread, table } from '../support.js'

const SMALL = process.argv.includes('--small')
const SIZES = SMALL ? [1_000, 10_000] : [1_000, 10_000, 100_000, 1_000_000]
const NAMES = [1, 5, 50]
const figures: Record<string, unknown> = {}

setFlagsFromString('--expose-gc')
const gc = runInNewContext('gc') as () => void
/** Twice, with a turn between: the second collection frees the values that promises still held. */
const collect = async (): Promise<void> => {
  for (let i = 0; i < 2; i++) {
    gc()
    await new Promise((resolve) => setImmediate(resolve))
  }
}
const micro = (samples: Samples) => shown(spread(samples.map((nanoseconds) => nanoseconds / 1_000)))
const times = (work: () => Promise<unknown>) => async (count: number) => {
  for (let i = 0; i < count; i++) await work()
}
const verdicts: string[] = []

/** Invalidating must be flat: the largest against the smallest. */
function report(where: string, samples: Readonly<Record<string, Samples>>): void {
  const [first, last] = [`${SIZES[0]}`, `${SIZES.at(-1)}`] as const
  const growth = ratio(samples[last] ?? [], samples[first] ?? [])
  figures[`invalidate ${where}`] = Object.fromEntries(
    Object.entries(samples).map(([name, one]) => [name, spread(one)]),
  )
  verdicts.push(
    budget(
      `invalidate one name on ${where}, ${last} entries against ${first}`,
      shown(growth),
      'flat: ≤ 1.5×',
      growth.median <= 1.5,
    ),
  )
}

async function invalidateInMemory(): Promise<void> {
  const works: Record<string, (count: number) => Promise<void>> = {}
  for (const size of SIZES) {
    const region = makeRegion<number>({ name: 'bench', backend: wrap(memory(), dependencies()) })
    const asOf = await region.asOf()
    const set = { dependencies: [dep.tag('all')], asOf }
    for (let i = 0; i < size; i += 10_000)
      await region.setMulti(
        Array.from({ length: Math.min(size, 10_000) }, (_, j) => [`k${i + j}`, j] as const),
        set,
      )
    works[`${size}`] = times(() => region.invalidateDependencies(dep.tag('all')))
  }
  const samples = await rounds(works, { perRound: 2_000 })
  report('memory', samples)
  console.log(
    `\nInvalidate one name, memory, µs\n${table(SIZES.map((size) => ({ entries: size, µs: micro(samples[`${size}`] ?? []) })))}`,
  )
}

async function invalidateOnRedis(admin: Redis, url: string): Promise<void> {
  const rows: Record<string, string | number>[] = []
  const works: Record<string, (count: number) => Promise<void>> = {}
  const sets: Record<string, number> = {}
  const region = makeRegion<number>({ name: 'bench', backend: wrap(redis(url), json(), dependencies()) })
  for (const size of SIZES) {
    const name = dep.tag(`of ${size}`)
    await region.set(`${size}:0`, 1, { dependencies: [name], asOf: await region.asOf() })
    const entry = (await admin.getBuffer(`${size}:0`)) ?? Buffer.alloc(0)
    for (let i = 1; i < size; i += 10_000) {
      const pipe = admin.pipeline()
      for (let j = i; j < Math.min(size, i + 10_000); j++) pipe.set(`${size}:${j}`, entry, 'PX', 3_600_000)
      await pipe.exec()
    }
    works[`${size}`] = times(() => region.invalidateDependencies(name))
  }
  const samples = await rounds(works, { perRound: 100 })
  report('Redis', samples)
  await region.close()
  // The same keys, listed in a set for each size; once, since it removes them.
  for (const size of SIZES) {
    for (let i = 0; i < size; i += 10_000)
      await admin.sadd(
        `set ${size}`,
        ...Array.from({ length: Math.min(size, 10_000) }, (_, j) => `${size}:${i + j}`),
      )
    const began = performance.now()
    const members = await admin.smembers(`set ${size}`)
    for (let i = 0; i < members.length; i += 10_000) await admin.unlink(...members.slice(i, i + 10_000))
    await admin.unlink(`set ${size}`)
    sets[size] = performance.now() - began
    rows.push({
      entries: size,
      'a name, µs': micro(samples[`${size}`] ?? []),
      'a set of keys, ms (once)': (sets[size] ?? 0).toFixed(1),
    })
  }
  figures['set of keys, ms'] = sets
  console.log(`\nInvalidate on Redis: SMEMBERS + UNLINK is the set\n${table(rows)}`)
}

async function fill(region: Region<string>, names: number): Promise<string> {
  const key = `k${names}`
  const asOf = await region.asOf()
  await region.set(key, 'a value of some length', {
    dependencies: Array.from({ length: names }, (_, i) => dep.id('row', `${names}-${i}`)),
    asOf,
  })
  return key
}

async function hits(
  where: string,
  plain: Region<string>,
  tracked: Region<string>,
  perRound: number,
  limit: number,
): Promise<void> {
  await plain.set('k', 'a value of some length')
  const keys = await Promise.all(NAMES.map((names) => fill(tracked, names)))
  // Something was invalidated since: the way over the stamps is the normal one.
  await tracked.invalidateDependencies(dep.tag('none of them'))
  const works: Record<string, (count: number) => Promise<void>> = { untracked: times(() => plain.get('k')) }
  works['untracked again'] = times(() => plain.get('k'))
  NAMES.forEach((names, i) => {
    works[`${names}`] = times(() => tracked.get(keys[i] as string))
  })
  const samples = await rounds(works, { perRound })
  const base = samples.untracked ?? []
  figures[`hit ${where}`] = Object.fromEntries(
    Object.entries(samples).map(([name, one]) => [name, { time: spread(one), against: ratio(one, base) }]),
  )
  console.log(
    `\nA hit, one after another, ${where}\n${table(Object.entries(samples).map(([names, one]) => ({ names, µs: micro(one), 'against untracked': shown(ratio(one, base)) })))}`,
  )
  if (where !== 'Redis') return
  const five = ratio(samples['5'] ?? [], base)
  verdicts.push(
    budget(`a lone tracked hit with 5 names on ${where}`, shown(five), `≤ ${limit}×`, five.median <= limit),
  )
}

async function bytesInMemory(): Promise<void> {
  const COUNT = SMALL ? 5_000 : 50_000
  const weigh = async (names: number, distinct: boolean): Promise<number> => {
    await collect()
    const before = process.memoryUsage().heapUsed
    const region = makeRegion<number>({ name: 'bench', backend: wrap(memory(), dependencies()) })
    for (let i = 0; i < COUNT; i++)
      await region.set(`k${i}`, i, {
        ...(names > 0 && {
          dependencies: Array.from({ length: names }, (_, n) => dep.id('row', distinct ? `${i}-${n}` : n)),
        }),
        asOf: await region.asOf(),
      })
    await collect()
    const bytes = (process.memoryUsage().heapUsed - before) / COUNT
    await region.close()
    return bytes
  }
  const none = await weigh(0, false)
  const rows = [{ names: 'none', 'bytes an entry': none.toFixed(0), 'more for each name': '' }]
  for (const names of [1, 5, 50].slice(0, SMALL ? 2 : 3))
    for (const distinct of [false, true]) {
      const all = await weigh(names, distinct)
      rows.push({
        names: `${names} ${distinct ? 'of its own' : 'shared by all'}`,
        'bytes an entry': all.toFixed(0),
        'more for each name': ((all - none) / names).toFixed(0),
      })
    }
  figures['bytes in memory'] = rows
  console.log(`\nHeap in memory, with the records that a process keeps for each key\n${table(rows)}`)
}

async function bytesOnRedis(admin: Redis, tracked: Region<string>, plain: Region<string>): Promise<void> {
  await plain.set('weighed', 'a value of some length')
  const weigh = async (key: string) => (await admin.memory('USAGE', key)) ?? 0
  const none = await weigh('weighed')
  const rows = [{ what: 'an entry without dependencies', bytes: none, 'for each name': '' }]
  for (const names of NAMES) {
    const bytes = await weigh(await fill(tracked, names))
    rows.push({ what: `an entry of ${names}`, bytes, 'for each name': ((bytes - none) / names).toFixed(1) })
  }
  rows.push({
    what: 'a stamp',
    bytes: await weigh(`~corral:stamp:6:~clock${dep.id('row', '1-0')}`),
    'for each name': '',
  })
  figures['bytes on Redis'] = rows
  console.log(`\nMEMORY USAGE on Redis\n${table(rows)}`)
}

console.log(machine())
await invalidateInMemory()
await hits(
  'memory',
  makeRegion<string>({ name: 'plain', backend: delegate(memory(), { ledger: undefined }) }),
  makeRegion<string>({ name: 'tracked', backend: wrap(memory(), dependencies()) }),
  20_000,
  Number.POSITIVE_INFINITY,
)
await bytesInMemory()
const server = await startRedis()
try {
  const url = `redis://127.0.0.1:${server.port}`
  const admin = new Redis({ port: server.port })
  const plain = makeRegion<string>({
    name: 'plain',
    backend: delegate(wrap(redis(url), json()), { ledger: undefined }),
  })
  const tracked = makeRegion<string>({ name: 'tracked', backend: wrap(redis(url), json(), dependencies()) })
  await hits('Redis', plain, tracked, 500, 1.1)
  await bytesOnRedis(admin, tracked, plain)
  await plain.close()
  await tracked.close()
  await invalidateOnRedis(admin, url)
  admin.disconnect()
} finally {
  await server.stop()
}
console.log(`\n${verdicts.join('\n')}`)
saveJson(figures)
