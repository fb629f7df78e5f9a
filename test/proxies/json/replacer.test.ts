import { describe, expect, it } from 'vitest'
import type { JsonTransform } from '../../../proxies/json/replacer.js'
import { json } from '../../../proxies/json.js'
import { benchOf } from '../encodings/chains.js'
import { difference } from '../encodings/same.js'

/** Dates and bigints under a tag, as the documentation shows it. */
const replacer: JsonTransform = function (this: unknown, key, value) {
  const original = (this as Record<string, unknown>)[key]
  if (original instanceof Date) return { $date: original.getTime() }
  return typeof value === 'bigint' ? { $bigint: String(value) } : value
}
const reviver: JsonTransform = (_, value) => {
  if (typeof value !== 'object' || value === null) return value
  if ('$date' in value) return new Date(value.$date as number)
  return '$bigint' in value ? BigInt(value.$bigint as string) : value
}

describe('json({ replacer, reviver })', () => {
  const bench = benchOf(json({ replacer, reviver }))
  const refusal = (payload: unknown, by = bench) => {
    try {
      by.put(payload)
      return 'stored'
    } catch (error) {
      return `${(error as { code?: string }).code} ${(error as Error).message}`
    }
  }

  it('keeps the values that the pair keeps, and −0', () => {
    const payload = { at: new Date(5), big: [2n ** 70n], zero: [-0, { z: -0 }], text: '-0', plain: null }
    expect(difference(payload, bench.back(payload)?.payload)).toBeUndefined()
    expect(difference(new Date(7), bench.back(new Date(7))?.payload)).toBeUndefined()
    expect(bench.back(undefined)).toMatchObject({ payload: undefined })
  })
  it('refuses values that the replacer leaves to be lost', () => {
    expect(refusal({ a: [1, new Map()] })).toMatch(/ERR_UNENCODABLE .*an instance of Map at `value\.a\[1\]`/)
    expect(refusal({ a: new URL('http://example.com') })).toMatch(/an instance of URL at `value\.a`/)
    expect(refusal({ a: { 'b c': Number.NaN } })).toMatch(/NaN at `value\.a\["b c"\]`/)
    expect(refusal({ a: undefined })).toMatch(/undefined at `value\.a`/)
    expect(refusal({ a: Array(2) })).toMatch(/a hole in an array at `value\.a\[0\]`/)
    expect(refusal({ f() {} })).toMatch(/a function at `value\.f`/)
    expect(refusal(JSON.parse('{"a":{"__proto__":1}}'))).toMatch(/a key named __proto__ at `value\.a/)
    expect(refusal(Symbol('s'))).toMatch(/a symbol at `value`/)
  })
  it('refuses values that nest too deep, and cycles', () => {
    let deep: unknown = 1
    for (let i = 0; i < 501; i++) deep = [deep]
    expect(refusal(deep)).toMatch(/nested deeper than 500/)
    const cycle: { self?: unknown } = {}
    cycle.self = cycle
    expect(refusal(cycle)).toMatch(/ERR_UNENCODABLE .*(circular|nested deeper)/)
  })
  it('lets a replacer drop a property, but not the whole value', () => {
    const secretive = benchOf(json({ replacer: (key, value) => (key === 'password' ? undefined : value) }))
    expect(secretive.back({ name: 'x', password: 'y' })).toMatchObject({ payload: { name: 'x' } })
    expect(refusal({ name: 'x' }, benchOf(json({ replacer: () => undefined })))).toMatch(
      /a whole value replaced by undefined/,
    )
  })
  it('refuses a replacer that makes something JSON has not', () => {
    expect(
      refusal({ a: 1 }, benchOf(json({ replacer: (key, value) => (key === 'a' ? Number.NaN : value) }))),
    ).toMatch(/NaN at `value\.a`/)
    expect(
      refusal({ a: 1 }, benchOf(json({ replacer: (key, value) => (key === 'a' ? new Map() : value) }))),
    ).toMatch(/an instance of Map at/)
  })
  it('passes on the error of a replacer', () => {
    const failing = json({
      replacer() {
        throw new Error('mine')
      },
    })
    expect(refusal({ a: 1 }, benchOf(failing))).toMatch(/ERR_UNENCODABLE .*mine/)
  })
  it('takes functions only', () => {
    expect(() => json({ replacer: ['a'] as never })).toThrow(
      /`replacer` of json\(\) to be a function, got an array/,
    )
    expect(() => json({ reviver: 5 as never })).toThrow(/`reviver`/)
  })
  it('with lossy: true does not check', () => {
    const lossy = benchOf(json({ replacer, reviver, lossy: true }))
    expect(lossy.back({ at: new Date(5), lost: new Map([[1, 2]]) })).toMatchObject({
      payload: { at: new Date(5), lost: {} },
    })
  })
})
