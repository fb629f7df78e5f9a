/** Values that come out of `vm` contexts, out of Electron, or inside Jest out of core modules and native drivers. */
import vm from 'node:vm'
import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { json } from '../../proxies/json.js'
import { msgpack } from '../../proxies/msgpack.js'
import { v8 } from '../../proxies/v8.js'
import {
  functionKeyGenerator,
  type InvalidationReason,
  type KeyPart,
  makeRegion,
  NO_VALUE,
  optionsKeyGenerator,
  wrap,
} from '../../src/index.js'

const there = (code: string): unknown => vm.runInNewContext(code)
const here = (code: string): unknown => vm.runInThisContext(code)

const PLAIN = {
  'a plain object': '({ a: 1, b: { c: [2, { d: -0 }] } })',
  'an array': '[1, [2, "x"]]',
  'an object without a prototype': 'Object.assign(Object.create(null), { a: 1 })',
  'many rows': 'Array.from({ length: 200 }, (_, id) => ({ id, name: "n" + id }))',
}
const STRUCTURED = {
  'a date': '({ at: new Date(5) })',
  'a map with parts': 'new Map([["a", { n: -0 }], ["b", new Set([1])]])',
  'a set': 'new Set([1, [2]])',
  bytes: 'new Uint8Array([1, 2])',
  'a buffer of bytes': 'new Uint8Array([1, 2]).buffer',
  'a view': 'new DataView(new Uint8Array([1, 2, 3]).buffer, 1)',
  numbers: 'new Float64Array([1.5, -0])',
}

const ENCODINGS = { json, msgpack, v8 }
for (const [name, encoding] of Object.entries(ENCODINGS))
  describe(`${name}() keeps of another realm`, () => {
    const sorts = name === 'json' ? PLAIN : { ...PLAIN, ...STRUCTURED }
    for (const [sort, code] of Object.entries(sorts))
      it(sort, async () => {
        const region = makeRegion({ backend: wrap(memory({ stores: 'bytes' }), encoding()) })
        await region.set('there', there(code))
        await region.set('here', here(code))
        const found = await region.get('there')
        expect(found).toStrictEqual(await region.get('here'))
        const mixed = { own: here(code), foreign: there(code), again: [there(code)] }
        expect(await region.getOrCreate('mixed', () => mixed)).toBeDefined()
        expect(await region.get('mixed')).toStrictEqual({ own: found, foreign: found, again: [found] })
      })
  })

describe('of another realm', () => {
  it('an error is kept by v8(), and a RegExp where it is allowed', async () => {
    const region = makeRegion({ backend: wrap(memory({ stores: 'bytes' }), v8({ regExp: true })) })
    await region.set('error', there('new TypeError("x", { cause: new Date(1) })'))
    expect(await region.get('error')).toMatchObject({ name: 'TypeError', message: 'x', cause: new Date(1) })
    await region.set('pattern', there('/a/gi'))
    expect(await region.get('pattern')).toEqual(/a/gi)
    const packed = makeRegion({ backend: wrap(memory({ stores: 'bytes' }), msgpack({ regExp: true })) })
    await packed.set('pattern', there('({ of: [/a/gi] })'))
    expect(await packed.get('pattern')).toEqual({ of: [/a/gi] })
  })

  it('a class instance is refused like one of this realm, and so is a class named like a built-in one', async () => {
    for (const encoding of Object.values(ENCODINGS)) {
      const region = makeRegion({ backend: wrap(memory({ stores: 'bytes' }), encoding()) })
      for (const code of [
        'new (class Money {})',
        'new (class Map {})',
        'new (class Date extends Object {})',
        '(class Mine extends Array {}).of(1)',
        'Object.create({})',
      ])
        await expect(region.set('k', there(code)), code).rejects.toMatchObject({ code: 'ERR_UNENCODABLE' })
    }
  })

  it('an object that inherits nothing is plain for keys and encodings alike, and one that inherits data is not', async () => {
    // Parsers of query strings make such objects.
    const Query = function Query() {} as unknown as { new (): object; prototype: unknown }
    Query.prototype = Object.create(null)
    const query = Object.assign(new Query(), { page: '1' })
    const inheriting = Object.assign(Object.create(Object.assign(Object.create(null), { role: 'admin' })), {
      page: '1',
    }) as KeyPart
    const keyOf = functionKeyGenerator('n', () => {})
    expect(keyOf(query)).toBe(keyOf({ page: '1' }))
    expect(() => keyOf(inheriting)).toThrow(expect.objectContaining({ code: 'ERR_KEY_ARGUMENT' }))
    for (const encoding of Object.values(ENCODINGS)) {
      const region = makeRegion({ backend: wrap(memory({ stores: 'bytes' }), encoding()) })
      await region.set('k', { query })
      expect(await region.get('k')).toEqual({ query: { page: '1' } })
      await expect(region.set('k', inheriting)).rejects.toMatchObject({ code: 'ERR_UNENCODABLE' })
    }
  })

  it('arguments give the keys that they give here', () => {
    const keyOf = functionKeyGenerator('n', () => {})
    for (const code of [...Object.values(PLAIN), 'new Date(5)', '[new Date(5)]'])
      expect(keyOf(there(code))).toBe(keyOf(here(code)))
    const ofOptions = optionsKeyGenerator({ defaults: { page: 1 } })('n', () => {})
    expect(ofOptions(there('({ id: 1, page: 1 })'))).toBe(ofOptions({ id: 1 }))
    expect(() => keyOf(there('new Map()'))).toThrow('is an instance of Map')
  })

  it('the meta of an invalidation is copied and frozen', async () => {
    const region = makeRegion<number>({ backend: memory() })
    const seen: InvalidationReason['meta'][] = []
    region.on('invalidate', ({ meta }) => seen.push(meta))
    const meta = there('({ rows: [{ id: 1 }] })') as { rows: { id: number }[] }
    await region.delete('k', { meta })
    for (const row of meta.rows) row.id = 2
    expect(seen).toEqual([{ rows: [{ id: 1 }] }])
    const [kept] = seen as [typeof meta]
    expect([kept, kept.rows, kept.rows[0]].every(Object.isFrozen)).toBe(true)
  })

  it('promises, lists, pairs, maps and options count like those of this realm', async () => {
    const region = makeRegion<unknown>({ backend: memory() })
    expect(await region.getOrCreate('p', () => there('Promise.resolve(5)'))).toBe(5)
    await expect(
      region.getOrCreate('q', () => there('Promise.reject(new Error("there"))')),
    ).rejects.toHaveProperty('message', 'there')
    expect(await region.getOrCreateMulti(['r', 's'], () => there('[1, 2]') as number[])).toEqual([1, 2])
    expect(await region.getMulti(there('["r", "s"]') as string[])).toEqual([1, 2])
    await region.setMulti(there('new Map([["m", 1]])') as Map<string, unknown>)
    expect(await region.get('m', there('({ ignoreExpiration: true })') as object)).toBe(1)
    const names = region.cacheMultiOnArguments({ namespace: 'x', asMap: true })(
      async (...ids: number[]) => new Map(ids.map((id) => [id, there(`new Map([[${id}, 1]])`)])),
    )
    expect((await names(1, 2)).size).toBe(2)
    const foreign = region.cacheMultiOnArguments({ namespace: 'y', asMap: true })(
      async (...ids: number[]) => there(`new Map([[${ids[0]}, "one"]])`) as Map<number, unknown>,
    )
    expect((await foreign(1)).get(1)).toBe('one')
    expect(await foreign.get(2)).toEqual([NO_VALUE])
  })
})
