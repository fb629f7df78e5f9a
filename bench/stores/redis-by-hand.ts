/**
 * A region over Redis against ioredis and a codec by hand: bare payloads, without frame, checksum and metadata. Lone gets,
 * 100 at once, and cold keys, in processor time of the client. `--json file` saves the figures.
 */
import { Redis } from 'ioredis'
import { pack, unpack } from 'msgpackr'
import { redis } from '../../backends/redis/index.js'
import { json } from '../../proxies/json.js'
import { msgpack } from '../../proxies/msgpack.js'
import { makeRegion, type Region, wrap } from '../../src/index.js'
import { startRedis } from '../../test/support/servers.js'
import { budget, machine, ratio, rounds, type Samples, saveJson, shown, spread, table } from '../support.js'

const KEYS = 200
const WIDTH = 100
const LIFETIME = 3_600_000
const VALUES = {
  '50 B': { id: 1, name: 'Ada Lovelace', mail: 'ada@example.org' },
  '5 kB': {
    id: 1,
    rows: Array.from({ length: 100 }, (_, i) => ({ id: i, name: `row ${i}`, price: i * 1.5 })),
  },
}
const CODECS = {
  msgpack: { layer: () => msgpack(), encode: (value: unknown) => pack(value), decode: unpack },
  json: {
    layer: () => json(),
    encode: (value: unknown) => Buffer.from(JSON.stringify(value)),
    decode: (bytes: Buffer): unknown => JSON.parse(bytes.toString()),
  },
}
interface ByHand {
  encode(value: unknown): Buffer
  decode(bytes: Buffer): unknown
}
const figures: Record<string, unknown> = {}

function print(title: string, samples: Readonly<Record<string, Samples>>, base: string): void {
  console.log(
    `\n${title}\n${table(
      Object.entries(samples).map(([name, one]) => ({
        subject: name,
        'µs per key': (spread(one).median / 1e3).toFixed(2),
        [`÷ ${base}`]: shown(ratio(one, samples[base] as Samples)),
      })),
    )}`,
  )
  figures[title] = samples
}

const limit = (what: string, one: Samples, other: Samples, most: number) =>
  console.log(budget(what, `${shown(ratio(one, other))}×`, `≤ ${most}×`, ratio(one, other).median <= most))

interface Subjects {
  readonly plain: Redis
  readonly auto: Redis
  readonly region: Region<object>
  readonly byHand: ByHand
}

async function lone(
  title: string,
  keys: readonly string[],
  { plain, region, byHand }: Subjects,
  most?: number,
) {
  const each = (get: (key: string) => Promise<unknown>) => async (times: number) => {
    for (let i = 0; i < times; i++) await get(keys[i % KEYS] as string)
  }
  const hand = each(async (key) => byHand.decode((await plain.getBuffer(`hand ${key}`)) as Buffer))
  const samples = await rounds(
    { 'GET by hand': hand, again: hand, region: each((key) => region.get(key)) },
    { perRound: 400, processor: true },
  )
  print(title, samples, 'GET by hand')
  if (most !== undefined) limit(`${title} ÷ GET by hand`, samples.region, samples['GET by hand'], most)
}

async function together(title: string, keys: readonly string[], subjects: Subjects, most?: number) {
  const { plain, auto, region, byHand } = subjects
  const each = (get: (some: readonly string[]) => Promise<unknown>) => async (times: number) => {
    for (let done = 0; done < times; done += WIDTH)
      await get(keys.slice(done % (KEYS - WIDTH), (done % (KEYS - WIDTH)) + WIDTH))
  }
  const hand = each(async (some) =>
    (await plain.mgetBuffer(some.map((key) => `hand ${key}`))).map((found) => byHand.decode(found as Buffer)),
  )
  const samples = await rounds(
    {
      'MGET by hand': hand,
      again: hand,
      autopipelining: each((some) =>
        Promise.all(some.map(async (key) => byHand.decode((await auto.getBuffer(`hand ${key}`)) as Buffer))),
      ),
      region: each((some) => Promise.all(some.map((key) => region.get(key)))),
      getMulti: each((some) => region.getMulti(some)),
    },
    { perRound: WIDTH * 20, processor: true },
  )
  print(title, samples, 'MGET by hand')
  if (most === undefined) return
  limit(`${title} ÷ MGET by hand`, samples.region, samples['MGET by hand'], most)
  const faster = ratio(samples.autopipelining, samples.region)
  console.log(budget(`${title}, the rate ÷ autopipelining`, shown(faster), '≥ 2.5', faster.median >= 2.5))
}

async function cold(title: string, value: object, { plain, region, byHand }: Subjects): Promise<void> {
  let next = 0
  const create = () => value
  const samples = await rounds(
    {
      'GET, create, SET by hand': async (times) => {
        for (let i = 0; i < times; i++) {
          const key = `cold hand ${next++}`
          if ((await plain.getBuffer(key)) === null)
            await plain.set(key, byHand.encode(create()), 'PX', LIFETIME)
        }
      },
      getOrCreate: async (times) => {
        for (let i = 0; i < times; i++) await region.getOrCreate(`cold ${next++}`, create)
      },
    },
    { perRound: 200, processor: true },
  )
  print(title, samples, 'GET, create, SET by hand')
  limit(`${title} ÷ by hand`, samples.getOrCreate, samples['GET, create, SET by hand'], 1.7)
}

console.log(machine())
const server = await startRedis()
const plain = new Redis({ port: server.port })
const auto = new Redis({ port: server.port, enableAutoPipelining: true })
try {
  for (const [codec, { layer, ...byHand }] of Object.entries(CODECS))
    for (const [size, value] of Object.entries(VALUES)) {
      const region = makeRegion<object>({
        name: `${codec} ${size}`,
        backend: wrap(redis(`redis://127.0.0.1:${server.port}`), layer()),
        expirationTime: LIFETIME,
      })
      const keys = Array.from({ length: KEYS }, (_, i) => `${codec} ${size} ${i}`)
      const bytes = byHand.encode(value)
      for (const key of keys) {
        await plain.set(`hand ${key}`, bytes)
        await region.getOrCreate(key, () => value)
      }
      const stored = await plain.strlen(`${region.name}:${keys[0]}`)
      console.log(
        `\n${codec}, ${size}: ${bytes.length} bytes, stored in ${stored}: ${stored - bytes.length} more`,
      )
      const subjects = { plain, auto, region, byHand }
      const isBudgeted = codec === 'msgpack'
      await lone(`lone get, ${codec}, ${size}`, keys, subjects, isBudgeted ? 1.15 : undefined)
      const most = isBudgeted && size === '50 B' ? 1.4 : undefined
      await together(`100 gets at once, ${codec}, ${size}`, keys, subjects, most)
      if (codec === 'msgpack') await cold(`a cold getOrCreate, ${codec}, ${size}`, value, subjects)
      await region.close()
    }
} finally {
  plain.disconnect()
  auto.disconnect()
  await server.stop()
}
saveJson(figures)
