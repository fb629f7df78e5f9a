import { describe, expect, it } from 'vitest'
import { benchOf, ENCODINGS, learnShapes } from './chains.js'

const views = () => ({
  buffer: Buffer.from('some bytes'),
  bytes: Uint8Array.of(1, 2, 3),
  floats: Float64Array.of(0.5),
  raw: Uint8Array.of(4, 5).buffer,
  view: new DataView(Uint8Array.of(6).buffer),
})
type Views = ReturnType<typeof views>

const memoryOf = (part: Views[keyof Views]) => (part instanceof ArrayBuffer ? part : part.buffer)

describe.each(Object.entries(ENCODINGS).filter(([name]) => name !== 'json()'))('%s', (_, make) => {
  it('hands out bytes that share no memory with the store or with each other', () => {
    const bench = benchOf(make())
    const stored = Buffer.from(bench.put(views()))
    const found = bench.read(stored)?.payload as Views
    const again = bench.read(stored)?.payload as Views
    const parts = [...Object.values(found), ...Object.values(again)].map(memoryOf)
    expect(new Set([stored.buffer, ...parts]).size).toBe(1 + parts.length)
    stored.fill(0xff)
    expect(found).toEqual(views())
    found.buffer.fill(0)
    expect(again).toEqual(views())
  })
  it('hands out bytes that pin no more than themselves', () => {
    const bench = benchOf(make())
    const found = bench.read(bench.put({ ...views(), large: 'x'.repeat(100_000) }))?.payload as Views
    for (const name of Object.keys(views()) as (keyof Views)[])
      expect(memoryOf(found[name]).byteLength, name).toBe(views()[name].byteLength)
  })
  it('takes bytes on a part of a larger slab, and a plain Uint8Array of a backend, as they are', () => {
    const bench = benchOf(make())
    const stored = bench.put(views())
    const slab = new Uint8Array(stored.length + 100)
    slab.set(stored, 50)
    expect(bench.read(slab.subarray(50, 50 + stored.length))?.payload).toEqual(views())
    expect(bench.read(Buffer.from(slab.buffer, 50, stored.length))?.payload).toEqual(views())
  })
  it('does not follow a value that changes after it was stored', () => {
    const bench = benchOf(make())
    const value = views()
    const stored = bench.put(value)
    value.buffer.fill(0)
    value.floats[0] = 9
    expect(bench.read(stored)?.payload).toEqual(views())
  })
})

describe.each(Object.entries(ENCODINGS))('%s', (_, make) => {
  it('stores bytes of their own: no slab of a library, none of Node', async () => {
    const bench = benchOf(make())
    for (const payload of [1, { a: 1 }, 'x'.repeat(5000), [-0]]) {
      const stored = bench.put(payload)
      expect(stored.buffer.byteLength).toBe(stored.length)
    }
    await learnShapesIfAny(bench)
    const stored = bench.put({ a: 1, b: 2 })
    expect(stored.buffer.byteLength).toBe(stored.length)
  })
  it('leaves nothing on the bytes that the backend keeps', () => {
    const bench = benchOf(make())
    const stored = bench.put({ a: [1, 'text', 2.5] })
    const before = Object.getOwnPropertyNames(stored)
    for (let i = 0; i < 5; i++) bench.read(stored)
    expect(Object.getOwnPropertyNames(stored)).toEqual(before)
  })
  it('hands out a new value for every read', () => {
    const bench = benchOf(make())
    const stored = bench.put({ list: [1] })
    const [one, other] = [bench.read(stored)?.payload, bench.read(stored)?.payload] as [
      { list: number[] },
      { list: number[] },
    ]
    one.list.push(2)
    expect(other.list).toEqual([1])
  })
})

async function learnShapesIfAny(bench: ReturnType<typeof benchOf>): Promise<void> {
  await learnShapes(bench, { a: 1, b: 2 }).catch(() => {})
}
