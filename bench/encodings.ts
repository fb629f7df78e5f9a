/**
 * What Corral's encodings cost beside the bare libraries. The bare side does what any honest use needs too: it copies
 * the result off the library's slab and computes the CRC over key and bytes. `node .ci/run-ts.mjs bench/encodings.ts`
 */
import { cpus } from 'node:os'
import { crc32 } from 'node:zlib'
import { Packr } from 'msgpackr'
import { defineBackend } from 'corral'
import { json } from 'corral/proxies/json'
import { msgpack } from 'corral/proxies/msgpack'
import type { Backend, Bytes, CachedValue } from 'corral'
import { samples } from './encodings-samples.js'

const ROUNDS = Number(process.env.ROUNDS ?? 61)
const SLICE_MS = Number(process.env.SLICE_MS ?? 2)
const KEY = 'users:user|12345'

type Chain = Backend<CachedValue>
interface Side {
  encode(value: unknown): Uint8Array
  decode(stored: Uint8Array): unknown
}

let written: Uint8Array = new Uint8Array()
let toRead: Uint8Array | undefined

/** A backend that only hands over, so that the encoding is all there is to measure. */
const hand = () =>
  defineBackend<Bytes>({
    name: 'hand',
    stores: 'bytes',
    timeout: Number.POSITIVE_INFINITY,
    get: () => toRead,
    set(_, value) {
      written = value
    },
    delete() {},
  })

const metadata = { startedAt: 1_790_000_000_000.5, createdAt: 1_790_000_000_012.25 }

function corral(chain: Chain): Side {
  return {
    encode(payload) {
      chain.set(KEY, { payload, metadata }, {})
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
  readonly budget: number
  readonly base: () => unknown
  readonly ours: () => unknown
}

/** A stored value arrives in a buffer that nobody has seen before, as from a socket. */
const arriving = (bytes: Uint8Array) => () => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)

function comparisons(value: unknown): Measured[] {
  const list: Measured[] = []
  const compare = (name: string, bare: Side, strict: Side, lossy: Side, same: number) => {
    const forBare = arriving(bare.encode(value))
    const forOurs = arriving(strict.encode(value))
    list.push(
      { name: `${name} encode, checked`, budget: 1.6, base: () => bare.encode(value), ours: () => strict.encode(value) },
      { name: `${name} encode, lossy`, budget: same, base: () => bare.encode(value), ours: () => lossy.encode(value) },
      { name: `${name} decode`, budget: same, base: () => bare.decode(forBare()), ours: () => strict.decode(forOurs()) },
    )
  }
  const over = (proxy: (next: Backend<Bytes>) => Chain) => corral(proxy(hand()))
  compare('msgpack', bareMsgpack({}), over(msgpack()), over(msgpack({ lossy: true })), 1.1)
  const bundled = { profile: 'bundled' } as const
  compare('bundled', bareMsgpack({ bundleStrings: true }), over(msgpack(bundled)), over(msgpack({ ...bundled, lossy: true })), 1.1)
  compare('json', bareJson, over(json()), over(json({ lossy: true })), 1.05)
  return list
}

function nanoseconds(run: () => unknown, times: number): number {
  const start = process.hrtime.bigint()
  for (let i = 0; i < times; i++) run()
  return Number(process.hrtime.bigint() - start) / times
}

const middle = (sorted: readonly number[], at: number) => sorted[Math.round((sorted.length - 1) * at)] as number
const ordered = (numbers: readonly number[]) => [...numbers].sort((a, b) => a - b)

function measure({ base, ours }: Measured) {
  let times = 1
  while (nanoseconds(base, times) * times < SLICE_MS * 1e6) times *= 2
  nanoseconds(ours, times)
  const ratios: number[] = []
  const noise: number[] = []
  const bases: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    // Interleaved, and turned round each time, so that a slow moment of the machine hits every side.
    const runs = round % 2 === 0 ? [base, ours, base] : [base, base, ours]
    const [first, second, third] = runs.map((run) => nanoseconds(run, times)) as [number, number, number]
    const [again, mine] = round % 2 === 0 ? [third, second] : [second, third]
    bases.push(first)
    ratios.push(mine / ((first + again) / 2))
    noise.push(again / first)
  }
  return { ratios: ordered(ratios), noise: ordered(noise), base: middle(ordered(bases), 0.5) }
}

console.log(`Node ${process.version}, ${cpus()[0]?.model}, ${ROUNDS} rounds. Ratios to the bare library: median (quartiles).\n`)
let missed = 0
for (const [sample, value] of Object.entries(samples())) {
  console.log(sample)
  for (const one of comparisons(value)) {
    const { ratios, noise, base } = measure(one)
    const ratio = middle(ratios, 0.5)
    const met = ratio <= one.budget
    if (!met) missed++
    console.log(
      `  ${one.name.padEnd(26)} ${ratio.toFixed(2)} (${middle(ratios, 0.25).toFixed(2)}–${middle(ratios, 0.75).toFixed(2)})  budget ${one.budget.toFixed(2)} ${met ? 'met   ' : 'MISSED'}  bare ${(base / 1000).toFixed(2)} µs, against itself ${middle(noise, 0.25).toFixed(2)}–${middle(noise, 0.75).toFixed(2)}`,
    )
  }
}
console.log(missed === 0 ? '\nEvery budget was met.' : `\n${missed} budgets were missed.`)
