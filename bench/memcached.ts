/**
 * The memcached backend against bare memjs, in the same rounds: `node .ci/run-ts.mjs bench/memcached.ts`. Every round
 * runs all candidates one after another; the base line runs twice, so that the noise shows.
 */
import memjs from 'memjs'
import { memcached } from '../backends/memcached/index.js'
import { json } from '../proxies/json.js'
import { makeRegion, wrap } from '../src/index.js'
import { startMemcached } from '../test/support/servers.js'

const ROUNDS = 21
const KEYS = Array.from({ length: 100 }, (_, i) => `user:${i}`)
const VALUE = JSON.stringify({ id: 1, name: 'A name', bio: 'x'.repeat(450) })

type Candidate = readonly [name: string, times: number, run: () => Promise<unknown>]

async function compare(title: string, unit: number, candidates: readonly Candidate[]): Promise<void> {
  const rates = candidates.map((): number[] => [])
  for (const [, , run] of candidates) await run()
  for (let round = 0; round < ROUNDS; round++)
    for (const [i, [, times, run]] of candidates.entries()) {
      const began = performance.now()
      for (let n = 0; n < times; n++) await run()
      rates[i]?.push((times * unit * 1000) / (performance.now() - began))
    }
  const ratio = (i: number) =>
    median((rates[i] ?? []).map((rate, round) => rate / (rates[0]?.[round] ?? Number.NaN)))
  console.log(`\n${title}`)
  candidates.forEach(([name], i) => {
    const sorted = [...(rates[i] ?? [])].sort((a, b) => a - b)
    const spread = [sorted[Math.floor(ROUNDS / 10)], sorted[Math.ceil(ROUNDS * 0.9) - 1]]
      .map(thousands)
      .join('–')
    console.log(
      `  ${name.padEnd(52)} ${thousands(median(sorted)).padStart(8)}/s  (${spread})  ${ratio(i).toFixed(2)}×`,
    )
  })
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN
}

function thousands(rate: number | undefined): string {
  return `${((rate ?? Number.NaN) / 1000).toFixed(1)}k`
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
const bare = (key: string) => client.get(key)
const parsed = async (key: string): Promise<unknown> =>
  JSON.parse((await client.get(key)).value?.toString() ?? 'null')

console.log(
  `memcached, values of ${bytes.length} bytes, ${ROUNDS} interleaved rounds, rates as median (10–90 %)`,
)
await compare('one get at a time', 1, [
  ['memjs get', 500, () => bare('user:1')],
  ['memjs get, again (the noise)', 500, () => bare('user:1')],
  ['backend.get', 500, async () => backend.get('own user:1')],
])
await compare('100 gets at once', 100, [
  ['memjs get', 20, () => Promise.all(KEYS.map(bare))],
  ['memjs get, again (the noise)', 20, () => Promise.all(KEYS.map(bare))],
  ['backend.get', 20, () => Promise.all(KEYS.map(async (key) => backend.get(`own ${key}`)))],
  ['backend.getMulti', 20, async () => backend.getMulti(KEYS.map((key) => `own ${key}`))],
])
await compare('100 hits at once, decoded', 100, [
  ['memjs get + JSON.parse', 20, () => Promise.all(KEYS.map(parsed))],
  ['memjs get + JSON.parse, again (the noise)', 20, () => Promise.all(KEYS.map(parsed))],
  [
    'region.get over json(), checked against the ledger',
    20,
    () => Promise.all(KEYS.map((key) => region.get(`region ${key}`))),
  ],
])
await compare('100 writes at once', 100, [
  ['memjs set', 20, () => Promise.all(KEYS.map((key) => client.set(key, VALUE, {})))],
  ['memjs set, again (the noise)', 20, () => Promise.all(KEYS.map((key) => client.set(key, VALUE, {})))],
  [
    'backend.set, which also voids leases (two steps)',
    20,
    () => Promise.all(KEYS.map(async (key) => backend.set(`own ${key}`, bytes, {}))),
  ],
  [
    'acquire and fill',
    20,
    () =>
      Promise.all(
        KEYS.map(async (key) => {
          const { token } = await backend.acquire(`own ${key}`, 10_000, { steal: true })
          return backend.set(`own ${key}`, bytes, { token: token ?? '' })
        }),
      ),
  ],
])
await compare('100 deletions at once', 100, [
  ['memjs delete', 20, () => Promise.all(KEYS.map((key) => client.delete(key)))],
  ['memjs delete, again (the noise)', 20, () => Promise.all(KEYS.map((key) => client.delete(key)))],
  ['backend.delete', 20, () => Promise.all(KEYS.map(async (key) => backend.delete(`own ${key}`)))],
])
client.close()
await region.close()
await server.stop()
