/**
 * The memcached backend against bare memjs, in the same interleaved rounds; memjs runs twice, so that the noise shows.
 * `--json file` saves the figures.
 */
import memjs from 'memjs'
import { memcached } from '../../backends/memcached/index.js'
import { json } from '../../proxies/json.js'
import { makeRegion, wrap } from '../../src/index.js'
import { startMemcached } from '../../test/support/servers.js'
import { machine, ratio, rounds, saveJson, shown, spread, table, type Work } from '../support.js'

const KEYS = Array.from({ length: 100 }, (_, i) => `user:${i}`)
const VALUE = JSON.stringify({ id: 1, name: 'A name', bio: 'x'.repeat(450) })
const figures: Record<string, unknown> = {}

/** The same for all keys at once, again and again. */
const together =
  (run: (key: string) => unknown): Work =>
  async (times) => {
    for (let done = 0; done < times; done += KEYS.length) await Promise.all(KEYS.map(run))
  }

const alone =
  (run: (key: string) => unknown): Work =>
  async (times) => {
    for (let done = 0; done < times; done++) await run(KEYS[done % KEYS.length] as string)
  }

/** The first work is the base line. */
async function compare(
  title: string,
  perRound: number,
  works: Readonly<Record<string, Work>>,
): Promise<void> {
  const samples = await rounds(works, { perRound, rounds: 21 })
  const [base] = Object.keys(works) as [string]
  const rows = Object.entries(samples).map(([name, mine]) => ({
    [title]: name,
    'µs each': (spread(mine).median / 1000).toFixed(2),
    'thousand/s': (1e6 / spread(mine).median).toFixed(1),
    'times as long': shown(ratio(mine, samples[base] ?? [])),
  }))
  figures[title] = samples
  console.log(`\n${table(rows)}`)
}

const server = await startMemcached()
const address = `127.0.0.1:${server.port}`
const client = memjs.Client.create(address)
const backend = memcached(address)
const region = makeRegion<unknown>({ name: 'bench', expirationTime: '1h', backend: wrap(backend, json()) })
const bytes = Buffer.from(VALUE)
for (const key of KEYS) {
  await client.set(key, VALUE, {})
  await backend.set(`own ${key}`, bytes, {})
  await region.set(`region ${key}`, JSON.parse(VALUE))
}

const get = (key: string) => client.get(key)
const parsed = async (key: string) => JSON.parse((await client.get(key)).value?.toString() ?? 'null')
const set = (key: string) => client.set(key, VALUE, {})
const remove = (key: string) => client.delete(key)
const own = (key: string) => backend.get(`own ${key}`)
const fill = async (key: string) => {
  const { token = '' } = await backend.acquire(`own ${key}`, 10_000, { steal: true })
  return backend.set(`own ${key}`, bytes, { token })
}

console.log(`${machine()}\nvalues of ${bytes.length} bytes`)
await compare('one get at a time', 500, {
  'memjs get': alone(get),
  'again (the noise)': alone(get),
  'backend.get': alone(own),
})
await compare('100 gets at once', 2_000, {
  'memjs get': together(get),
  'again (the noise)': together(get),
  'backend.get': together(own),
  'backend.getMulti': async (times) => {
    for (let done = 0; done < times; done += KEYS.length)
      await backend.getMulti(KEYS.map((key) => `own ${key}`))
  },
})
await compare('100 hits at once, decoded', 2_000, {
  'memjs get + JSON.parse': together(parsed),
  'again (the noise)': together(parsed),
  'region.get over json(), judged by the ledger': together((key) => region.get(`region ${key}`)),
})
await compare('100 writes at once', 2_000, {
  'memjs set': together(set),
  'again (the noise)': together(set),
  'backend.set (two steps: it voids leases)': together((key) => backend.set(`own ${key}`, bytes, {})),
  'lease of an old value, and fill': together(fill),
})
await compare('100 deletions at once', 2_000, {
  'memjs delete': together(remove),
  'again (the noise)': together(remove),
  'backend.delete': together((key) => backend.delete(`own ${key}`)),
})
saveJson(figures)
client.close()
await region.close()
await server.stop()
