/**
 * The cost of Corral's encodings beside the bare libraries. The bare side also does the work that any careful use needs:
 * it copies the result off the library's slab and computes the CRC over key and bytes.
 */
import { crc32 } from 'node:zlib'
import type { Backend, Bytes, CachedValue } from 'corral'
import { defineBackend } from 'corral'
import { json } from 'corral/proxies/json'
import { msgpack } from 'corral/proxies/msgpack'
import { Packr } from 'msgpackr'
import { budget, machine, ratio, rounds, saveJson, shown, spread, type Work } from '../support.js'
import { samples } from './samples.js'

const KEY = 'users:user|12345'

type Chain = Backend<CachedValue>
interface Side {
  encode(value: unknown): Uint8Array
  decode(stored: Uint8Array): unknown
}

let written: Uint8Array = new Uint8Array()
let toRead: Uint8Array | undefined

/** A backend that only hands over, so that the encoding is all there is to measure; it keeps the table of shapes. */
const hand = (): Backend<Bytes> => {
  const tables = new Map<string, Bytes>()
  const get = (key: string) => (key === KEY ? toRead : tables.get(key))
  const set = (key: string, value: Bytes) => {
    if (key === KEY) written = value
    else tables.set(key, value)
    return 'stored' as const
  }
  const complete = defineBackend<Bytes>({ name: 'hand', stores: 'bytes', get, set, delete() {} })
  // Without the leases and deadlines that every backend has.
  return { ...complete, get, set }
}

const metadata = { startedAt: 1_790_000_000_000.5, createdAt: 1_790_000_000_012.25 }

function corral(chain: Chain): Side {
  return {
    encode(payload) {
      void chain.set(KEY, { payload, metadata }, {})
      return written
    },
    decode(stored) {
      toRead = stored
      return (chain.get(KEY) as CachedValue | undefined)?.payload
    },
  }
}

function copied(bytes: Uint8Array): Uint8Array {
  const own = Buffer.allocUnsafeSlow(bytes.length + 4)
  own.set(bytes)
  own.writeUInt32LE(crc32(own.subarray(0, bytes.length), crc32(KEY)), bytes.length)
  return own
}

function checked(stored: Uint8Array): Buffer {
  if (crc32(stored, crc32(KEY)) !== 0x2144df1c) throw new Error('damaged')
  return Buffer.from(stored.buffer, stored.byteOffset, stored.length - 4)
}

function bareMsgpack(options: object): Side {
  const packr = new Packr({ moreTypes: true, structuredClone: true, copyBuffers: true, ...options })
  return { encode: (value) => copied(packr.pack(value)), decode: (stored) => packr.unpack(checked(stored)) }
}

const bareJson: Side = {
  encode(value) {
    const text = JSON.stringify(value)
    const size = Buffer.byteLength(text)
    const own = Buffer.allocUnsafeSlow(size + 4)
    own.write(text, 0, size)
    own.writeUInt32LE(crc32(own.subarray(0, size), crc32(KEY)), size)
    return own
  },
  decode: (stored) => JSON.parse(checked(stored).toString()),
}

interface Measured {
  readonly name: string
  readonly limit: number
  readonly bare: () => unknown
  readonly ours: () => unknown
}

/** A stored value arrives in a new buffer, as from a socket. */
const arriving = (bytes: Uint8Array) => () => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)

async function comparisons(value: unknown): Promise<Measured[]> {
  const list: Measured[] = []
  const compare = async (name: string, bare: Side, strict: Side, lossy: Side, same: number) => {
    // Often enough to learn shapes, where shapes are learnt; that happens behind the writer's back.
    for (const side of [bare, strict, lossy]) {
      for (let i = 0; i < 3; i++) {
        side.encode(value)
        for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
      }
    }
    const forBare = arriving(bare.encode(value))
    const forOurs = arriving(strict.encode(value))
    const [bareEncode, bareDecode] = [() => bare.encode(value), () => bare.decode(forBare())]
    list.push(
      { name: `${name} encode, checked`, limit: 1.6, bare: bareEncode, ours: () => strict.encode(value) },
      { name: `${name} encode, lossy`, limit: same, bare: bareEncode, ours: () => lossy.encode(value) },
      { name: `${name} decode`, limit: same, bare: bareDecode, ours: () => strict.decode(forOurs()) },
    )
  }
  const over = (proxy: (next: Backend<Bytes>) => Chain) => corral(proxy(hand()))
  const profiles = [
    ['faithful', {}],
    ['bundled', { bundleStrings: true }],
    ['records', { structures: [] }],
  ] as const
  for (const [profile, options] of profiles)
    await compare(
      profile === 'faithful' ? 'msgpack' : profile,
      bareMsgpack(options),
      over(msgpack({ profile })),
      over(msgpack({ profile, lossy: true })),
      1.1,
    )
  await compare('json', bareJson, over(json()), over(json({ lossy: true })), 1.05)
  return list
}

/** A round is short, so that most of them run undisturbed, and there are many. */
const ROUND_NS = 2e6
const ROUNDS = Number(process.env.ROUNDS ?? 41)

function timesIn(nanoseconds: number, run: () => unknown): number {
  for (let times = 1; ; times *= 2) {
    const start = process.hrtime.bigint()
    for (let i = 0; i < times; i++) run()
    if (Number(process.hrtime.bigint() - start) >= nanoseconds) return times
  }
}

const repeated =
  (run: () => unknown): Work =>
  (times) => {
    for (let i = 0; i < times; i++) run()
  }

console.log(`${machine()}, ${ROUNDS} rounds. Times of the bare library: median and quartiles.\n`)
const figures: Record<string, unknown>[] = []
for (const [sample, value] of Object.entries(samples())) {
  console.log(sample)
  for (const { name, limit, bare, ours } of await comparisons(value)) {
    const works = { bare: repeated(bare), again: repeated(bare), ours: repeated(ours) }
    timesIn(ROUND_NS, ours)
    const perRound = timesIn(ROUND_NS, bare)
    const taken = await rounds(works, { rounds: ROUNDS, warmUp: 3, perRound })
    const cost = ratio(taken.ours, taken.bare)
    const noise = ratio(taken.again, taken.bare)
    const microseconds = (spread(taken.bare).median / 1000).toFixed(2)
    const met = cost.median <= limit
    console.log(
      `  ${budget(name.padEnd(24), `${shown(cost)}`, limit.toFixed(2), met)}; bare ${microseconds} µs, against itself ${shown(noise)}`,
    )
    figures.push({ sample, name, limit, met, cost, noise, bareMicroseconds: Number(microseconds) })
  }
}
const missed = figures.filter(({ met }) => !met).length
console.log(
  missed === 0 ? '\nEvery budget was met.' : `\n${missed} of ${figures.length} budgets were missed.`,
)
saveJson(figures)
