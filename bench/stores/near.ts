/**
 * A near cache: hits beside the same chain over memory alone, a hundred strong hits in a tick beside a hundred gets from Redis, the
 * delay of an invalidation between two processes' worth of connections, the resynchronisation after a cut, and a removal beside the
 * same script without the question whether a near cache is registered.
 * `--json file` saves the figures.
 */
import { Redis } from 'ioredis'
import { memory } from '../../backends/memory/index.js'
import { remove } from '../../backends/redis/client/scripts.js'
import { redis } from '../../backends/redis/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { msgpack } from '../../proxies/msgpack.js'
import { near } from '../../proxies/near.js'
import { type Duration, makeRegion, type Region, wrap } from '../../src/index.js'
import { faultProxy } from '../../test/support/faultproxy.js'
import { startRedis } from '../../test/support/servers.js'
import {
  budget,
  fastest,
  machine,
  ratio,
  rounds,
  type Samples,
  saveJson,
  shown,
  spread,
  table,
} from '../support.js'

const WIDTH = 100
const VALUE = { rows: Array.from({ length: 100 }, (_, i) => ({ id: i, name: `row ${i}`, price: i * 1.5 })) }

const server = await startRedis()
const url = `redis://127.0.0.1:${server.port}`
const figures: Record<string, unknown> = {}
const keys = Array.from({ length: WIDTH }, (_, i) => `key ${i}`)

const regionOver = (maxStaleness: Duration, name = 'bench'): Region<object> =>
  makeRegion<object>({
    name,
    expirationTime: '1h',
    backend: wrap(redis(url), msgpack(), near(memory(), { maxStaleness }), dependencies()),
  })

const local = makeRegion<object>({
  name: 'bench',
  expirationTime: '1h',
  backend: wrap(memory(), dependencies()),
})
const far = makeRegion<object>({
  name: 'bench',
  expirationTime: '1h',
  backend: wrap(redis(url), msgpack(), dependencies()),
})
const [bounded, strong] = [regionOver('1m'), regionOver(0)]
const isCopy = (region: Region<object>, key: string): boolean => {
  try {
    return region.peek(key) !== undefined
  } catch {
    return false
  }
}
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

await local.setMulti(keys.map((key) => [key, VALUE] as const))
await far.setMulti(keys.map((key) => [key, VALUE] as const))
while (!keys.every((key) => isCopy(bounded, key))) await pause(10)
for (let i = 0; i < 3; i++) await strong.getMulti(keys)

function print(title: string, samples: Readonly<Record<string, Samples>>, base: string): void {
  const rows = Object.entries(samples).map(([name, one]) => ({
    subject: name,
    'ns per key': spread(one).median.toFixed(0),
    [`÷ ${base}`]: shown(ratio(one, samples[base] as Samples)),
    fastest: fastest(one, samples[base] as Samples).toFixed(3),
  }))
  console.log(`\n${title}\n${table(rows)}`)
  figures[title] = samples
}

const limit = (what: string, figure: number, most: number, unit = '×') =>
  console.log(budget(what, `${figure.toFixed(2)}${unit}`, `≤ ${most}${unit}`, figure <= most))

async function hits(): Promise<void> {
  const getting = (region: Region<object>) => async (times: number) => {
    for (let i = 0; i < times; i++) await region.get(keys[i % WIDTH] as string)
  }
  const peeking = (region: Region<object>) => (times: number) => {
    for (let i = 0; i < times; i++) region.peek(keys[i % WIDTH] as string)
  }
  const got = await rounds(
    { 'memory alone': getting(local), 'near, 1m': getting(bounded) },
    { perRound: 20_000, processor: true },
  )
  print('get, a hit', got, 'memory alone')
  limit('near hit', fastest(got['near, 1m'], got['memory alone']), 1.3)
  const peeked = await rounds(
    { 'memory alone': peeking(local), 'near, 1m': peeking(bounded) },
    { perRound: 20_000, processor: true },
  )
  print('peek, a hit', peeked, 'memory alone')
  limit('near peek', fastest(peeked['near, 1m'], peeked['memory alone']), 1.3)
}

async function strongHits(): Promise<void> {
  const together = (region: Region<object>) => async (times: number) => {
    for (let i = 0; i < times; i += WIDTH) await Promise.all(keys.map((key) => region.get(key)))
  }
  for (const processor of [true, false]) {
    const samples = await rounds(
      { 'Redis alone': together(far), 'near, strong': together(strong) },
      { perRound: 2_000, processor },
    )
    print(`100 gets in a tick, 5 kB, ${processor ? 'processor time' : 'time'}`, samples, 'Redis alone')
    if (processor) limit('strong hit, processor time', Math.min(...samples['near, strong']) / 1e3, 2, ' µs')
    else
      limit('strong hits ÷ gets from Redis', fastest(samples['near, strong'], samples['Redis alone']), 1 / 30)
  }
}

async function delays(): Promise<void> {
  const [here, there] = [bounded, regionOver('1m')]
  const seen: number[] = []
  for (let i = 0; i < 300; i++) {
    const key = keys[i % WIDTH] as string
    while (!isCopy(here, key)) await here.get(key)
    await there.set(key, VALUE)
    const acknowledged = performance.now()
    while (isCopy(here, key)) await new Promise((resolve) => setImmediate(resolve))
    seen.push(performance.now() - acknowledged)
  }
  seen.sort((one, other) => one - other)
  const [p50, p99] = [seen[Math.floor(seen.length / 2)] ?? 0, seen[Math.floor(seen.length * 0.99)] ?? 0]
  console.log('\nan invalidation acknowledged in one process, gone in another')
  limit('p50', p50, 1, ' ms')
  limit('p99', p99, 10, ' ms')
  figures.delays = seen
  await there.close()
}

/** A cut during which ten of a thousand values change. */
async function resynchronisation(): Promise<void> {
  const proxy = await faultProxy({ port: server.port })
  const many = Array.from({ length: 1_000 }, (_, i) => `many ${i}`)
  const open = (port: number) =>
    makeRegion<object>({
      name: 'cut',
      expirationTime: '1h',
      backend: wrap(
        redis(`redis://127.0.0.1:${port}`),
        msgpack(),
        near(memory(), { maxStaleness: '10m' }),
        dependencies(),
      ),
    })
  const [here, there] = [open(proxy.port), open(server.port)]
  await there.setMulti(many.map((key) => [key, VALUE] as const))
  while (!many.every((key) => isCopy(here, key))) {
    await here.getMulti(many)
    await pause(20)
  }
  proxy.set({ kind: 'refuse' })
  proxy.reset()
  const changed = many.slice(0, 10)
  await there.deleteMulti(changed)
  const admin = new Redis({ port: server.port })
  const questions = async () => {
    const calls = /cmdstat_evalsha:calls=(\d+)/.exec(await admin.info('commandstats'))
    return Number(calls?.[1] ?? 0)
  }
  const before = await questions()
  proxy.set({ kind: 'none' })
  while (changed.some((key) => isCopy(here, key))) await pause(1)
  const asked = (await questions()) - before
  const kept = many.filter((key) => isCopy(here, key)).length
  console.log('\nresynchronisation after a cut with ten changes of 1,000 values')
  limit('questions of all processes', asked, 1, '')
  console.log(budget('copies kept', `${kept / 10} %`, '≥ 99 %', kept >= 990))
  figures.resynchronisation = { asked, kept }
  admin.disconnect()
  await Promise.all([here.close(), there.close()])
  await proxy.close()
}

/** Processor time of the server for a removal, where no near cache is registered. */
async function removals(): Promise<void> {
  const apart = await startRedis()
  const client = new Redis({ port: apart.port })
  const checked = remove.lua
  const plain = checked
    .replace("if ARGV[2] ~= '' then last = last - 2 end", '')
    .replace(/if ARGV\[2\] == '' or not.*$/s, 'return deleted')
  const run = async (lua: string, journal: readonly string[]): Promise<number> => {
    const sha = String(await client.script('LOAD', lua))
    const args = ['~corral:wake:0', ...(journal.length > 0 ? ['~corral:near:0'] : [])]
    const writes = client.pipeline()
    for (let i = 0; i < 2_000; i++) writes.set(`key ${i}`, 'value')
    await writes.exec()
    await client.config('RESETSTAT')
    const removing = client.pipeline()
    for (let i = 0; i < 2_000; i++) {
      const given = [`key ${i}`, `~corral:lease={key ${i}}`, ...journal]
      removing.evalsha(sha, given.length, ...given, ...args)
    }
    await removing.exec()
    const [, usec = '0'] =
      /cmdstat_evalsha:calls=\d+,usec=\d+,usec_per_call=([\d.]+)/.exec(await client.info('commandstats')) ??
      []
    return Number(usec) * 1e3
  }
  const samples: Record<'without the question' | 'removal', number[]> = {
    'without the question': [],
    removal: [],
  }
  for (let round = 0; round < 15; round++) {
    samples['without the question'].push(await run(plain, []))
    samples.removal.push(await run(checked, ['~corral:journal={keys}', '~corral:journal-ring={keys}']))
  }
  print('a removal without any near cache, the server alone', samples, 'without the question')
  limit('removal', fastest(samples.removal, samples['without the question']), 1.1)
  client.disconnect()
  await apart.stop()
}

console.log(machine())
await hits()
await strongHits()
await delays()
await resynchronisation()
await removals()
saveJson(figures)
await Promise.all([local, far, bounded, strong].map((region) => region.close()))
await server.stop()
