/**
 * A region over Redis against ioredis and a codec by hand: bare payloads, without frame, checksum and metadata. Lone gets,
 * 100 at once, and cold keys, in processor time of the client. Beside them stand the floors of the same work without any
 * layer: gets that are joined by hand, and the commands of a cold key. `--json file` saves the figures.
 */
import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { pack, unpack } from 'msgpackr'
import { acquire, write } from '../../backends/redis/client/scripts.js'
import { redis } from '../../backends/redis/index.js'
import { json } from '../../proxies/json.js'
import { msgpack } from '../../proxies/msgpack.js'
import { makeRegion, type Region, wrap } from '../../src/index.js'
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
        fastest: fastest(one, samples[base] as Samples).toFixed(2),
      })),
    )}`,
  )
  figures[title] = samples
}

const limit = (what: string, one: Samples, other: Samples, most: number) =>
  console.log(budget(what, `${fastest(one, other).toFixed(2)}×`, `≤ ${most}×`, fastest(one, other) <= most))

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
    { rounds: 60, perRound: 100, processor: true },
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
  const one = joined(plain, byHand)
  const hand = each(async (some) =>
    (await plain.mgetBuffer(some.map((key) => `hand ${key}`))).map((found) => byHand.decode(found as Buffer)),
  )
  const samples = await rounds(
    {
      'MGET by hand': hand,
      again: hand,
      'joined by hand': each((some) => Promise.all(some.map((key) => one(`hand ${key}`)))),
      autopipelining: each((some) =>
        Promise.all(some.map(async (key) => byHand.decode((await auto.getBuffer(`hand ${key}`)) as Buffer))),
      ),
      region: each((some) => Promise.all(some.map((key) => region.get(key)))),
      getMulti: each((some) => region.getMulti(some)),
    },
    { rounds: 40, perRound: WIDTH * 10, processor: true },
  )
  print(title, samples, 'MGET by hand')
  if (most === undefined) return
  limit(`${title} ÷ MGET by hand`, samples.region, samples['MGET by hand'], most)
  const faster = fastest(samples.autopipelining, samples.region)
  console.log(budget(`${title}, the rate ÷ autopipelining`, faster.toFixed(2), '≥ 2.5', faster >= 2.5))
}

/** The floor of single gets that become one `MGET`: a promise for each, and nothing else. */
function joined(plain: Redis, { decode }: ByHand): (key: string) => Promise<unknown> {
  let waiting: { readonly key: string; readonly resolve: (value: unknown) => void }[] = []
  const send = async () => {
    const sent = waiting
    waiting = []
    const found = await plain.mgetBuffer(sent.map(({ key }) => key))
    for (const [i, { resolve }] of sent.entries()) resolve(decode(found[i] as Buffer))
  }
  return (key) =>
    new Promise((resolve) => {
      if (waiting.push({ key, resolve }) === 1) process.nextTick(() => void send())
    })
}

/**
 * The floor of a cold key under a lease that is fenced and a ledger that is asked: the three commands, without any layer.
 * The keys and arguments are as long as the backend's own.
 */
async function byScripts(plain: Redis, key: string, bytes: Buffer): Promise<void> {
  const [clock, pending] = ['{hand}:clock', '{hand}:pending']
  const [ring, stamp] = ['{hand}:ring', '{hand}:stamp:msgpack 50 B']
  const [lease, token, channel] = [`~corral:lease={${key}}`, randomUUID(), '~corral:wake:0']
  await plain.mgetBuffer([key, clock])
  const asking = [token, '10000', '0', '!0123456789ab', channel, 'epoch678', '86400000', '1']
  const reply = (await plain.evalsha(
    acquire.sha,
    5,
    lease,
    key,
    clock,
    pending,
    stamp,
    ...asking,
  )) as string[]
  const [epoch, at] = `${reply[2]}`.split(':') as [string, string]
  const filling = [token, channel, bytes, `${LIFETIME}`, '', '', epoch, '86400000', at]
  await plain.evalsha(write.sha, 5, key, lease, clock, ring, stamp, ...filling)
}

async function cold(title: string, value: object, { plain, region, byHand }: Subjects): Promise<void> {
  // Keys of this call alone: those of an earlier one are stored.
  const run = randomUUID()
  let next = 0
  const create = () => value
  const samples = await rounds(
    {
      'GET, create, SET by hand': async (times) => {
        for (let i = 0; i < times; i++) {
          const key = `cold hand ${run} ${next++}`
          if ((await plain.getBuffer(key)) === null)
            await plain.set(key, byHand.encode(create()), 'PX', LIFETIME)
        }
      },
      'its commands by hand': async (times) => {
        for (let i = 0; i < times; i++)
          await byScripts(plain, `cold script ${run} ${next++}`, byHand.encode(create()))
      },
      getOrCreate: async (times) => {
        for (let i = 0; i < times; i++) await region.getOrCreate(`cold ${run} ${next++}`, create)
      },
    },
    { rounds: 40, perRound: 40, processor: true },
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
