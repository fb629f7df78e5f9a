import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { memory } from '../../../backends/memory/index.js'
import type { CachedValue } from '../../../src/backend/cached-value.js'
import { wrap } from '../../../src/chain/wrap.js'
import { defineCodec } from '../../../src/wire/codec.js'
import { benchOf, codecOf, ENCODINGS, forged, METADATA, payloadOf } from './chains.js'
import { decodePhoto, encodePhoto, type Photo } from './schema-codec.js'

const ID = 130
const photos = () => defineCodec<Photo>({ id: ID, name: 'photo', encode: encodePhoto, decode: decodePhoto })
const photo: Photo = { id: 7, title: 'Über', tags: ['a', 'b'], pixels: Uint8Array.of(1, 2, 3) }

describe('a codec of your own', () => {
  it('stores and reads the fields of its schema', () => {
    const bench = benchOf(photos())
    fc.assert(
      fc.property(
        fc.record(
          {
            id: fc.nat(),
            title: fc.string({ unit: 'grapheme' }),
            tags: fc.array(fc.string()),
            pixels: fc.uint8Array({ maxLength: 300 }),
          },
          { noNullPrototype: true },
        ),
        (payload) => {
          expect(bench.back(payload)).toEqual({ payload, metadata: METADATA })
        },
      ),
    )
    expect(codecOf(bench.put(photo))).toBe(ID)
  })
  it('is read by a separate registration of the same name', () => {
    expect(benchOf(photos()).read(benchOf(photos()).put(photo))).toMatchObject({ payload: photo })
  })
  it('refuses a value on which it throws, with its own error', () => {
    const bench = benchOf(photos())
    expect(() => bench.put({ ...photo, extra: 1 })).toThrow("Photo has no field 'extra'")
    expect(bench.shelf.held.size).toBe(0)
  })
  it('misses undecodable, damaged and foreign values', () => {
    const bench = benchOf(photos())
    const stored = Buffer.from(bench.put(photo))
    for (let bit = 0; bit < stored.length * 8; bit++) {
      const damaged = Buffer.from(stored)
      damaged[bit >> 3] = (damaged[bit >> 3] as number) ^ (1 << (bit & 7))
      expect(bench.misses(damaged)).toBe(true)
    }
    expect(bench.misses(stored, 'other')).toBe(true)
    expect(bench.misses(forged(ID, Buffer.of(9)))).toBe(true)
    expect(bench.misses(forged(ID, Buffer.of(2, 200)))).toBe(true)
    expect(bench.misses(forged(ID + 1, payloadOf(stored)))).toBe(true)
    for (const make of Object.values(ENCODINGS)) {
      expect(bench.misses(benchOf(make()).put({ id: 1 }))).toBe(true)
      expect(benchOf(make()).misses(stored)).toBe(true)
    }
  })
  it('may hand out views: they are on a copy that is its own', () => {
    const bench = benchOf(photos())
    const stored = Buffer.from(bench.put(photo))
    const { pixels } = (bench.read(stored) as CachedValue<Photo>).payload
    expect(pixels.buffer).not.toBe(stored.buffer)
    expect(pixels.buffer.byteLength).toBeLessThan(stored.length)
    stored.fill(0)
    expect(pixels).toEqual(photo.pixels)
  })
  it('may take its time', async () => {
    const later = defineCodec<Photo>({
      id: 131,
      name: 'photo, later',
      encode: async (payload) => encodePhoto(payload),
      decode: async (bytes) => decodePhoto(bytes),
    })
    const chain = wrap(memory({ stores: 'bytes' }), later)
    await chain.set('key', { payload: photo, metadata: METADATA }, {})
    await expect(chain.get('key')).resolves.toMatchObject({ payload: photo })
    await expect(
      chain.set('key', { payload: { extra: 1 }, metadata: METADATA } as CachedValue, {}),
    ).rejects.toThrow('extra')
  })
  it('may have undefined for a payload', () => {
    const bench = benchOf(
      defineCodec({ id: 132, name: 'nothing', encode: () => new Uint8Array(), decode: () => undefined }),
    )
    expect(bench.back('anything')).toEqual({ payload: undefined, metadata: METADATA })
  })
  it('is held to its size, both ways', () => {
    const small = benchOf(
      defineCodec<Photo>({ id: ID, name: 'photo', encode: encodePhoto, decode: decodePhoto, maxBytes: 50 }),
    )
    const large = { ...photo, pixels: new Uint8Array(60) }
    expect(() => small.put(large)).toThrow(expect.objectContaining({ code: 'ERR_VALUE_TOO_LARGE' }))
    expect(small.misses(benchOf(photos()).put(large))).toBe(true)
  })
})

describe('defineCodec() refuses', () => {
  const code = (make: () => unknown) => {
    try {
      make()
      return 'accepted'
    } catch (error) {
      return `${(error as { code?: string }).code}: ${(error as Error).message}`
    }
  }
  const codec = { name: 'x', encode: () => new Uint8Array(), decode: () => 1 }

  it.each([0, 4, 127, 256, 1.5, -1, '130', undefined, Number.NaN])('the id %s', (id) => {
    expect(code(() => defineCodec({ ...codec, id: id as never }))).toMatch(/^ERR_OPTION: .*128 to 255/)
  })
  it('an id that another name has', () => {
    defineCodec({ ...codec, id: 200, name: 'first' })
    expect(code(() => defineCodec({ ...codec, id: 200, name: 'second' }))).toMatch(
      /^ERR_OPTION: .*200 for 'second', which 'first' has/,
    )
    expect(code(() => defineCodec({ ...codec, id: 200, name: 'first' }))).toBe('accepted')
  })
  it('a codec without a name, without functions, with unknown options', () => {
    expect(code(() => defineCodec({ ...codec, id: 201, name: '' }))).toMatch(/^ERR_OPTION: .*`name`/)
    expect(code(() => defineCodec({ ...codec, id: 201, encode: 5 as never }))).toMatch(
      /^ERR_OPTION: .*`encode` .* a function/,
    )
    expect(code(() => defineCodec({ ...codec, id: 201, decode: undefined as never }))).toMatch(
      /^ERR_OPTION: .*`decode` .* a function/,
    )
    expect(code(() => defineCodec({ ...codec, id: 201, lossy: true } as never))).toMatch(
      /^ERR_OPTION: Unknown option `lossy`/,
    )
  })
  it('bytes that are none', () => {
    const bench = benchOf(defineCodec({ ...codec, id: 202, name: 'text', encode: () => 'text' as never }))
    expect(code(() => bench.put(1))).toMatch(/^ERR_UNENCODABLE: .*'text' to return a Uint8Array, got 'text'/)
  })
})
