/** The options `copy` and `maxBytes` with values of every kind and size. */
import { describe, expect, it } from 'vitest'
import { type MemoryOptions, memory } from '../../../backends/memory/index.js'
import { dependencies } from '../../../proxies/dependencies.js'
import { prefix } from '../../../proxies/prefix.js'
import { makeRegion, type Region, wrap } from '../../../src/index.js'

const over = (copy: MemoryOptions['copy'] & string): Region => makeRegion({ backend: memory({ copy }) })

class Money {
  constructor(readonly amount: number) {}
}
class OddError extends Error {}

describe("copy: 'clone'", () => {
  it('gives each caller of one creation a separate copy, whatever layers are around', async () => {
    for (const backend of [
      memory({ copy: 'clone' }),
      wrap(memory({ copy: 'clone' }), prefix('p:'), dependencies()),
    ]) {
      const region = makeRegion<{ n: number[] }>({ backend })
      const made = { n: [1] }
      const create = async () => made
      const values = await Promise.all([
        region.getOrCreate('a', create),
        region.getOrCreate('a', create),
        region.getOrCreateMulti(['a', 'b'], async (keys) => keys.map(() => made)).then(([one]) => one),
        region.getOrCreate('c', create, { shouldCache: () => false }),
        region.getOrCreate('c', create, { shouldCache: () => false }),
        region.getOrCreate('a', create),
      ])
      for (const value of values as { n: number[] }[]) value.n.push(2)
      expect(values).toEqual(values.map(() => ({ n: [1, 2] })))
      expect(made).toEqual({ n: [1] })
      expect(await region.getMulti(['a', 'b'])).toEqual([{ n: [1] }, { n: [1] }])
    }
  })

  it('keeps data of every kind as it is, shared and cyclic parts too', async () => {
    const region = over('clone')
    const shared = { a: 1 }
    const value = {
      ...{ bytes: Buffer.from('ab'), view: new Uint8Array([1]), words: new Float64Array([1.5, -0]) },
      ...{ buffer: new Uint8Array([3]).buffer, data: new DataView(new Uint8Array([4, 5]).buffer, 1) },
      ...{ at: new Date(5), pattern: /a/gi, big: 5n, nothing: undefined, nan: Number.NaN, zero: -0 },
      map: new Map<unknown, unknown>([[shared, new Set([shared])]]),
      error: new TypeError('x', { cause: shared }),
      bare: Object.assign(Object.create(null) as object, { b: 2 }),
      // biome-ignore lint/suspicious/noSparseArray: data may have holes
      holes: [1, , 3],
      self: undefined as unknown,
    }
    value.self = value
    await region.set('k', value)
    const found = (await region.get('k')) as typeof value
    expect(found).toStrictEqual(value)
    expect(found).not.toBe(value)
    expect(Buffer.isBuffer(found.bytes)).toBe(true)
    expect([1 in found.holes, Object.is(found.zero, -0), found.self === found]).toEqual([false, true, true])
    const [[key, set]] = [...found.map] as [[object, Set<object>]]
    expect([set.has(key), key === shared, found.error.stack]).toEqual([true, false, value.error.stack])
    const proto = JSON.parse('{"__proto__": {"x": 1}}') as object
    await region.set('proto', proto)
    expect(Object.getOwnPropertyNames(await region.get('proto'))).toEqual(['__proto__'])
  })

  it('refuses a value that would become something else, and names the part', async () => {
    const region = over('clone')
    const cached = makeRegion<unknown>({ backend: memory() }).cacheOnArguments({
      namespace: 'f',
      copy: 'clone',
    })
    for (const odd of [new Money(1), new URL('http://localhost/'), new OddError('x'), () => 1, Symbol('s')]) {
      const refused = { code: 'ERR_UNENCODABLE', message: expect.stringContaining('.rows.0') as string }
      await expect(region.set('k', { rows: [odd] })).rejects.toMatchObject(refused)
      await expect(region.getOrCreate('k', () => ({ rows: [odd] }))).rejects.toMatchObject(refused)
      await expect(cached(async () => ({ rows: [odd] }))()).rejects.toMatchObject(refused)
    }
  })
})

describe("copy: 'freeze'", () => {
  it('leaves nothing open, in maps, sets, dates or what is frozen already', async () => {
    const region = over('freeze')
    const value = Object.freeze({
      ...{ map: new Map([['a', { n: [1] }]]), set: new Set([{ n: 1 }]), at: new Date(5) },
      deep: Object.freeze([Object.freeze({ list: [1] })]),
    })
    await region.set('k', value)
    const found = (await region.get('k')) as typeof value
    const changes: (() => unknown)[] = [
      () => found.map.set('b', { n: [] }),
      () => found.map.delete('a'),
      () => found.map.clear(),
      () => found.map.get('a')?.n.push(2),
      () => found.set.add({ n: 2 }),
      () => found.set.clear(),
      () => Object.assign([...found.set][0] as object, { n: 5 }),
      () => found.at.setTime(7),
      () => found.at.setFullYear(1999),
      () => found.deep[0]?.list.push(2),
    ]
    for (const change of changes) expect(change, String(change)).toThrow(TypeError)
    expect([found.map.get('a'), found.at.getTime(), found.deep[0]?.list]).toEqual([{ n: [1] }, 5, [1]])
    expect([found.map.size, found.set.size]).toEqual([1, 1])
  })

  it('leaves nothing open that keeps its content elsewhere, and reads it as before', async () => {
    const region = over('freeze')
    const form = new FormData()
    form.set('file', new Blob(['text']), 'a.txt')
    const value = {
      ...{ url: new URL('http://user@a:81/b?c=1#d'), params: new URLSearchParams('b=1&a=2') },
      ...{ headers: new Headers({ a: 'b' }), form, weak: new WeakMap([[form, 1]]) },
    }
    for (let i = 0; i < 2; i++) await region.set('k', value)
    const { url, params, headers, weak, ...found } = (await region.get('k')) as typeof value
    const changes: (() => unknown)[] = [
      ...[
        'href',
        'protocol',
        'username',
        'password',
        'host',
        'hostname',
        'port',
        'pathname',
        'search',
        'hash',
      ].map((part) => () => Object.assign(url, { [part]: 'x' })),
      () => url.searchParams.set('c', '2'),
      () => url.searchParams.append('c', '2'),
      () => params.sort(),
      () => params.delete('a'),
      () => headers.append('a', 'c'),
      () => headers.set('a', 'c'),
      () => found.form.append('a', 'c'),
      () => found.form.delete('file'),
      () => weak.set(form, 2),
    ]
    for (const change of changes) expect(change, String(change)).toThrow(TypeError)
    expect([url.href, url.pathname, url.searchParams.get('c')]).toEqual([
      'http://user@a:81/b?c=1#d',
      '/b',
      '1',
    ])
    expect([[...params], [...headers], weak.get(form)]).toEqual([
      [
        ['b', '1'],
        ['a', '2'],
      ],
      [['a', 'b']],
      1,
    ])
    expect(await (found.form.get('file') as Blob).text()).toBe('text')
    expect([new URL(url).href, new Headers(headers).get('a'), new URLSearchParams(params).get('a')]).toEqual([
      url.href,
      'b',
      '2',
    ])
  })

  const OPEN = [new Map(), new Set(), new Date(5), new URL('http://a/'), new URLSearchParams(), new Headers()]
  it.each(OPEN.map((part) => [part.constructor.name, part]))(
    'refuses a %s that the caller froze, because its content stays open',
    async (_, part) => {
      const region = over('freeze')
      const refused = { code: 'ERR_UNENCODABLE', message: expect.stringContaining('can still be changed') }
      await expect(region.set('k', { rows: [Object.freeze(part)] })).rejects.toMatchObject(refused)
    },
  )

  it('takes a frozen map whose methods were replaced, as by a library that freezes', async () => {
    const closed = Object.freeze(Object.assign(new Map([['a', 1]]), { set: undefined, clear: undefined }))
    expect(await over('freeze').set('k', closed)).toBe('stored')
  })

  it('refuses a promise, a stream or an iterator at any depth, and freezes nothing of that value', async () => {
    const region = over('freeze')
    const deep = [
      Promise.reject(new Error('handled')),
      new ReadableStream(),
      [1].values(),
      // biome-ignore lint/suspicious/noThenProperty: a query builder has one
      { then: () => {} },
    ]
    for (const part of deep) {
      const value = { rows: [[[[[[[{ part }]]]]]]] }
      const refused = { code: 'ERR_UNENCODABLE', message: expect.stringContaining("copy: 'freeze'") }
      await expect(region.set('k', value)).rejects.toMatchObject(refused)
      await expect(region.getOrCreate('k', async () => value)).rejects.toMatchObject(refused)
      expect(Object.isFrozen(value)).toBe(false)
    }
  })

  it('freezes also what is not stored, because callers share it', async () => {
    const region = over('freeze')
    const options = { shouldCache: () => false }
    const found = await region.getOrCreate('k', async () => ({ n: [1] }), options)
    expect(Object.isFrozen((found as { n: number[] }).n)).toBe(true)
  })
})

describe('a value with 150,000 parts', () => {
  const N = 150_000
  const numbers = () => Array.from({ length: N }, (_, i) => i)
  const BIG: Readonly<Record<string, () => object>> = {
    'an array': numbers,
    'a set': () => new Set(numbers()),
    'a map': () => new Map(numbers().map((i) => [i, i])),
    'an object': () => Object.fromEntries(numbers().map((i) => [`k${i}`, i])),
  }
  const sizeOf = (value: unknown) =>
    value instanceof Set || value instanceof Map ? value.size : Object.keys(value as object).length
  for (const [kind, make] of Object.entries(BIG))
    it(`fits into a store with a budget of bytes, as ${kind}`, async () => {
      for (const copy of ['share', 'clone', 'freeze'] as const) {
        const region = makeRegion({ backend: memory({ maxBytes: 2 ** 30, copy }) })
        expect(await region.set('k', [make()])).toBe('stored')
        const [found] = (await region.get('k')) as [unknown]
        expect(sizeOf(found)).toBe(N)
      }
    })
})
