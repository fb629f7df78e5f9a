/** Bytes of heap per entry of a memory region, plain and with proxies, beside lru-cache with the same keys and value. */
import { spawnSync } from 'node:child_process'
import { LRUCache } from 'lru-cache'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { prefix } from '../../proxies/prefix.js'
import { dep, dependsOn, makeRegion, type Region, wrap } from '../../src/index.js'
import { budget, machine, saveJson, table } from '../support.js'

const COUNT = 100_000
/** Every entry has the same small payload, so that only the bytes of the cache itself count. */
const PAYLOAD = { id: 1, name: 'Ada' }
const LIFETIME = 3_600_000

type Fill = (keys: readonly string[]) => Promise<unknown>

/** Fills a region by creators, as an application does. */
const created =
  (region: Region<object>, names?: (i: number) => string): Fill =>
  async (keys) => {
    for (let i = 0; i < COUNT; i++)
      await region.getOrCreate(keys[i] as string, () => {
        if (names !== undefined) dependsOn(names(i))
        return PAYLOAD
      })
    return region
  }

const regionOver = (backend: Parameters<typeof makeRegion<object>>[0] & object) =>
  makeRegion<object>({ name: 'users', ...backend })

/** `[subject, budget, work]`: the budget in bytes, 0 for none. */
const subjects: readonly (readonly [name: string, budget: number, fill: Fill])[] = [
  [
    'lru-cache',
    0,
    async (keys) => {
      const cache = new LRUCache<string, object>({ max: COUNT })
      for (const key of keys) cache.set(key, PAYLOAD)
      return cache
    },
  ],
  [
    'lru-cache, with a ttl',
    0,
    async (keys) => {
      const cache = new LRUCache<string, object>({ max: COUNT, ttl: LIFETIME })
      for (const key of keys) cache.set(key, PAYLOAD)
      return cache
    },
  ],
  ['memory', 180, (keys) => created(regionOver({ backend: memory() }))(keys)],
  [
    'memory, an expiration time',
    0,
    (keys) => created(regionOver({ backend: memory(), expirationTime: LIFETIME }))(keys),
  ],
  ['memory, bounded', 0, (keys) => created(regionOver({ backend: memory({ maxEntries: COUNT }) }))(keys)],
  [
    'memory, three prefixes',
    260,
    (keys) =>
      created(regionOver({ backend: wrap(memory(), prefix('a:'), prefix('b:'), prefix('c:')) }))(keys),
  ],
  [
    'memory, dependencies, a name of its own',
    220,
    (keys) =>
      created(regionOver({ backend: wrap(memory(), dependencies()) }), (i) => dep.id('user', i))(keys),
  ],
  [
    'memory, dependencies, three prefixes, a name of its own',
    0,
    (keys) =>
      created(
        regionOver({ backend: wrap(memory(), prefix('a:'), prefix('b:'), prefix('c:'), dependencies()) }),
        (i) => dep.id('user', i),
      )(keys),
  ],
]

function used(): number {
  for (let i = 0; i < 4; i++) globalThis.gc?.()
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

async function measure(fill: Fill): Promise<number> {
  const keys = Array.from({ length: COUNT }, (_, i) => `${100_000 + i}`)
  for (const key of keys) Number(key)
  // Code, timers and caches that a first use makes are none of the entries'.
  await fill(keys.map(() => 'one'))
  const before = used()
  const kept = await fill(keys)
  // What follows a creation leaves with a later turn of the event loop.
  await new Promise((resolve) => setTimeout(resolve, 100))
  const bytes = (used() - before) / COUNT
  if (kept === undefined || keys.length !== COUNT) throw new Error('Nothing was filled.')
  return bytes
}

const [, script, option, which] = process.argv
if (option === '--subject') console.log(JSON.stringify(await measure(subjects[Number(which)]?.[2] as Fill)))
else {
  console.log(
    `${machine()}\n${COUNT} entries with one payload. Keys of the caller do not count; mapped keys and names do.\n`,
  )
  const figures = subjects.map(([name, limit], index) => {
    const { stdout, status } = spawnSync(
      process.execPath,
      ['--expose-gc', script as string, '--subject', String(index)],
      { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] },
    )
    if (status !== 0) throw new Error(`The subject '${name}' failed.`)
    return { name, limit, bytes: JSON.parse(stdout) as number }
  })
  const base = figures[0]?.bytes as number
  console.log(
    table(
      figures.map(({ name, bytes }) => ({
        subject: name,
        'bytes per entry': bytes.toFixed(0),
        '÷ lru-cache': (bytes / base).toFixed(2),
      })),
    ),
  )
  console.log()
  for (const { name, limit, bytes } of figures)
    if (limit > 0) console.log(budget(name, `${bytes.toFixed(0)} B`, `≤ ${limit} B`, bytes <= limit))
  saveJson(figures)
}
