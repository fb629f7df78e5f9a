import { types } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { describe, expect, it } from 'vitest'
import { ID_BYTES } from '../../../proxies/msgpack/shapes.js'
import { readFrame } from '../../../src/wire/frame.js'
import { LONG } from '../../support/long.js'
import { seeded } from '../../support/seeded.js'
import { type Bench, benchOf, ENCODINGS, forged, learnShapes, payloadOf } from './chains.js'
import { difference } from './same.js'

/** Payloads for each encoding; the same ones in every run. `LONG=1` for the long form. */
const PAYLOADS = LONG ? 1_000_000 : 20_000
const SEED = 20_261_121
const SLOW_MS = 30
const KEPT_MB = 64

const row = (i: number) => ({
  id: i,
  name: `row ${i} ünïcödé`,
  price: i / 3,
  tags: ['a', 'b'],
  made: i % 2 === 0,
})
const PLAIN = [
  row(1),
  [row(2), row(3), row(4), row(5), row(6)],
  { text: 'A longer text, '.repeat(20), empty: {}, none: [], nothing: null },
  { numbers: Array.from({ length: 60 }, (_, i) => i * i * i - 1000), floats: [0.1, -1e300, 5e-324] },
]
const shared = { a: 1 }
const cyclic: Record<string, unknown> = { shared, again: shared }
cyclic.self = cyclic
const RICH = [
  ...PLAIN,
  cyclic,
  new Map<unknown, unknown>([
    ['k', new Set([1, 'x', shared])],
    [5, new Date(1e12)],
  ]),
  {
    bytes: Buffer.from('bytes'),
    floats: Float64Array.of(1, 2),
    big: 2n ** 80n,
    day: new Date(-1),
    u: undefined,
  },
]

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

type Random = () => number
const below = (random: Random, limit: number) => Math.floor(random() * limit)

/** Damage of the kinds that find bugs: bits, bytes with a meaning, cuts, repeats, and pieces of something else. */
function damaged(random: Random, from: Buffer, other: Buffer): Buffer {
  const bytes = Buffer.from(from)
  const at = below(random, bytes.length + 1)
  switch (below(random, 6)) {
    case 0: {
      for (let n = 1 + below(random, 4); n > 0 && bytes.length > 0; n--) {
        const place = below(random, bytes.length)
        bytes[place] = (bytes[place] as number) ^ (1 << below(random, 8))
      }
      return bytes
    }
    case 1: {
      for (let n = 1 + below(random, 4); n > 0 && bytes.length > 0; n--)
        bytes[below(random, bytes.length)] = [
          0,
          1,
          0x7f,
          0x80,
          0xff,
          0xc7,
          0xd4,
          0xdd,
          0x40,
          0x6f,
          0x41,
          below(random, 256),
        ][below(random, 12)] as number
      return bytes
    }
    case 2:
      return bytes.subarray(0, at)
    case 3:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(Math.max(0, at - below(random, 40)))])
    case 4:
      return Buffer.concat([bytes.subarray(0, at), other.subarray(below(random, other.length + 1))])
    default:
      return Buffer.from(Array.from({ length: below(random, 60) }, () => below(random, 256)))
  }
}

/** The least of three times, in ms: work that is slow each time is slow by itself, and not because the machine was busy. */
function fastestOf(run: () => unknown): number {
  let least = Number.POSITIVE_INFINITY
  for (let i = 0; i < 3; i++) {
    const start = performance.now()
    run()
    least = Math.min(least, performance.now() - start)
  }
  return least
}

/** Nothing that a read hands out may be of use to an attacker. */
function harmless(value: unknown): void {
  const seen = new Set<unknown>()
  const waiting = [value]
  while (waiting.length > 0) {
    const part = waiting.pop()
    if (typeof part !== 'object' || part === null || seen.has(part)) continue
    seen.add(part)
    if (types.isRegExp(part)) throw new Error('a RegExp came through')
    if (Object.hasOwn(part, '__proto__')) throw new Error('a __proto__ key came through')
    if (part instanceof Map) waiting.push(...part.keys(), ...part.values())
    else if (part instanceof Set) waiting.push(...part)
    else if (!ArrayBuffer.isView(part))
      for (const key of Object.keys(part)) waiting.push((part as Record<string, unknown>)[key])
  }
}

describe.each(Object.entries(ENCODINGS))('%s', (name, make) => {
  const prepared = async (): Promise<{ bench: Bench; entries: Buffer[] }> => {
    const bench = benchOf(make())
    const values = name === 'json()' ? PLAIN : RICH
    if (name.includes('records')) await learnShapes(bench, values[0])
    return { bench, entries: values.map((value) => Buffer.from(bench.put(value))) }
  }

  it(`${PAYLOADS} payloads damaged by accident are misses`, async () => {
    const { bench, entries } = await prepared()
    const random = seeded(SEED)
    let unharmed = 0
    for (let i = 0; i < PAYLOADS; i++) {
      const from = entries[i % entries.length] as Buffer
      const bytes = damaged(random, from, entries[below(random, entries.length)] as Buffer)
      if (entries.some((entry) => entry.equals(bytes))) unharmed++
      else if (bench.read(bytes) !== undefined)
        throw new Error(`payload ${i} was read: ${bytes.toString('hex')}`)
    }
    expect(unharmed).toBeLessThan(PAYLOADS / 50)
  }, 3_600_000)

  it(`${PAYLOADS} payloads damaged by a forger are values or misses, at once, and change nothing`, async () => {
    const { bench, entries } = await prepared()
    const random = seeded(SEED + 1)
    const codecs = entries.map((entry) => readFrame(entry, 'key')?.codec as number)
    // The name of its table leads a shared payload, and a forger would leave it alone.
    const heads = codecs.map((codec) => (codec === 3 ? ID_BYTES : name === 'v8()' ? 3 : 0))
    const payloads = entries.map((entry) => payloadOf(entry))
    collect()
    const before = process.memoryUsage()
    let read = 0
    let slowest = 0
    for (let i = 0; i < PAYLOADS; i++) {
      const at = i % entries.length
      const payload = payloads[at] as Buffer
      const head = heads[at] as number
      const bytes = damaged(
        random,
        payload.subarray(head),
        payloads[below(random, payloads.length)] as Buffer,
      )
      const whole = forged(codecs[at] as number, Buffer.concat([payload.subarray(0, head), bytes]))
      const start = performance.now()
      const found = bench.read(whole)
      if (performance.now() - start > slowest) {
        slowest = Math.max(
          slowest,
          fastestOf(() => bench.read(whole)),
        )
        expect(slowest, Buffer.from(whole).toString('hex')).toBeLessThan(SLOW_MS)
      }
      if (found !== undefined) {
        read++
        harmless(found.payload)
      }
      if (i % 500 === 0) {
        const control = below(random, entries.length)
        const well = bench.read(entries[control] as Buffer)
        expect(difference((name === 'json()' ? PLAIN : RICH)[control], well?.payload)).toBeUndefined()
      }
    }
    collect()
    const after = process.memoryUsage()
    expect(Object.keys(Object.prototype)).toEqual([])
    expect(
      (after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers) / 2 ** 20,
    ).toBeLessThan(KEPT_MB)
    console.log(
      `${name}: of ${PAYLOADS} forged payloads ${read} were read as some value, the slowest took ${slowest.toFixed(1)} ms`,
    )
  }, 3_600_000)
})
