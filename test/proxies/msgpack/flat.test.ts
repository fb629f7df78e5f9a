import fc from 'fast-check'
import { Packr, Unpackr } from 'msgpackr'
import { describe, expect, it } from 'vitest'
import { FAITHFUL } from '../../../proxies/msgpack/faithful.js'
import { OTHER, readFlat } from '../../../proxies/msgpack/flat.js'

const packr = new Packr(FAITHFUL)
const unpackr = new Unpackr(FAITHFUL)

/** The bytes stand in the middle of others, as a payload stands in an entry. */
function read(packed: Uint8Array): unknown {
  const bytes = Buffer.concat([Buffer.from([1, 2, 3]), packed, Buffer.from([0x01, 0xff])])
  return readFlat(bytes, 3, 3 + packed.length)
}

const scalar = fc.oneof(
  fc.integer({ min: -(2 ** 31), max: 2 ** 32 - 1 }),
  fc.integer({ min: -300, max: 300 }),
  fc.double(),
  fc.boolean(),
  fc.constant(null),
  fc.string({ maxLength: 40 }),
  fc.string({ unit: 'binary', maxLength: 5 }),
)
const objects = fc.dictionary(fc.string({ maxLength: 12 }), scalar, { maxKeys: 18 })

describe('an object of plain values', () => {
  it('is read without msgpackr, as msgpackr reads it', () => {
    let count = 0
    fc.assert(
      fc.property(objects, (object) => {
        const packed = packr.pack(object)
        const found = read(packed)
        if (found === OTHER) return
        count++
        expect(found).toStrictEqual(unpackr.unpack(packed))
        expect(Object.keys(found as object)).toEqual(Object.keys(object))
      }),
      { numRuns: 500 },
    )
    expect(count).toBeGreaterThan(50)
  })
  it('is read with every kind of value', () => {
    const object = { a: 1, b: -1, c: 200, d: 40_000, e: 3e9, f: -100, g: -30_000, h: -2e9, i: 1.5 }
    const more = { k: null, l: true, m: false, n: '', o: 'text', p: 'x'.repeat(200) }
    // A record of 16 fields or more is defined in another form.
    for (const one of [object, more]) expect(read(packr.pack(one))).toStrictEqual(one)
  })
  it('whose bytes were changed is read as msgpackr reads it, or not at all', () => {
    const change = fc.tuple(objects, fc.nat(), fc.nat(255), fc.boolean())
    fc.assert(
      fc.property(change, ([object, position, byte, cut]) => {
        const packed = Buffer.from(packr.pack(object))
        packed[position % packed.length] = byte
        const damaged = cut ? packed.subarray(0, position % packed.length) : packed
        const found = read(damaged)
        if (found !== OTHER) expect(found).toStrictEqual(unpackr.unpack(Buffer.from(damaged)))
      }),
      { numRuns: 2_000 },
    )
  })
})

describe('left to msgpackr', () => {
  it.each([
    ['a text', 'text'],
    ['a list', [1, 2]],
    ['an object in an object', { a: { b: 1 } }],
    ['a list in an object', { a: [] }],
    ['a date', { at: new Date(0) }],
    ['a bigint', { a: 1n }],
    ['undefined', { a: undefined }],
    ['text that is not ASCII', { a: 'é' }],
    ['a name that is not ASCII', { é: 1 }],
    ['a name that msgpackr changes', JSON.parse('{"__proto__":1}')],
    ['a name that may be a changed one', { __proto_: 1 }],
    ['many fields', Object.fromEntries(Array.from({ length: 16 }, (_, i) => [`${i}`, i]))],
    ['a long one', { a: 'x'.repeat(600) }],
  ])('is %s', (_, value) => {
    expect(read(packr.pack(value))).toBe(OTHER)
  })
  it('is an object whose bytes end early, or before their end', () => {
    const packed = packr.pack({ a: 1, b: 'text' })
    for (let length = 0; length < packed.length; length++)
      expect(read(packed.subarray(0, length))).toBe(OTHER)
    expect(read(Buffer.concat([packed, Buffer.from([0])]))).toBe(OTHER)
    // From 0x40 on a byte is a record, where one is defined.
    expect(read(Buffer.from([0xd4, 0x72, 0x40, 0x91, 0xa1, 0x61, 0x40]))).toBe(OTHER)
  })
})
