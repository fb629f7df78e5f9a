/** Values that can be read once only are refused wherever they would be shared. */
import { Readable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { nullBackend } from '../../backends/null.js'
import { json } from '../../proxies/json.js'
import { msgpack } from '../../proxies/msgpack.js'
import { v8 } from '../../proxies/v8.js'
import { type Backend, type CachedValue, makeRegion, NO_VALUE, type Region, wrap } from '../../src/index.js'
import { turn } from '../support/waiting.js'

const VALUES: Readonly<Record<string, readonly [make: () => unknown, remedy: string]>> = {
  'a promise': [() => Promise.resolve(1), 'Await it first.'],
  'a promise that rejects': [() => Promise.reject(new Error('later')), 'Await it first.'],
  // biome-ignore lint/suspicious/noThenProperty: the defect under test
  'a thenable': [() => ({ then: (resolve: (value: number) => void) => resolve(5) }), 'Await it first.'],
  'a promise inside a map': [() => new Map([['user', Promise.resolve(1)]]), 'Await it first.'],
  'a promise in the rows of a long list': [
    () => Array.from({ length: 500 }, (_, id) => ({ id, name: Promise.resolve('Ada') })),
    'Await it first.',
  ],
  'a promise inside an object': [() => ({ user: Promise.reject(new Error('later')) }), 'Await it first.'],
  'promises in a list': [() => [1, 2].map(async (n) => Promise.reject(new Error(`${n}`))), 'Await it first.'],
  'a promise deep inside': [
    () => ({ page: [{ rows: new Map([['first', { user: Promise.reject(new Error('later')) }]]) }] }),
    'Await it first.',
  ],
  'a promise beside a circle': [
    () => {
      const node: { self?: unknown; user?: unknown } = {}
      node.self = [node]
      return { node, user: { posts: Promise.resolve(1) } }
    },
    'Await it first.',
  ],
  'an iterator': [() => [1, 2][Symbol.iterator](), 'Store its items'],
  'a generator': [
    () =>
      (function* () {
        yield 1
      })(),
    'Store its items',
  ],
  'an async generator inside an object': [
    () => ({
      rows: (async function* () {
        yield 1
      })(),
    }),
    'Store its items',
  ],
  'the cursor of a query': [
    () => ({ [Symbol.asyncIterator]: () => ({ next: async () => ({ done: true, value: 1 }) }) }),
    'Store its items',
  ],
  'a stream': [() => Readable.from(['a']), 'Read it first'],
  'a web stream': [() => new Blob(['a']).stream(), 'Read it first'],
  'the reader of a web stream': [() => new Blob(['a']).stream().getReader(), 'Read it first'],
  'a pair of web streams': [() => new DecompressionStream('gzip'), 'Read it first'],
  'a Response': [() => new Response('body'), 'await response.json()'],
  'a Request': [
    () => new Request('http://localhost/', { method: 'POST', body: 'b' }),
    'await response.json()',
  ],
}

const CHAINS: Readonly<Record<string, () => Backend<CachedValue>>> = {
  'memory()': () => memory(),
  "memory({ copy: 'clone' })": () => memory({ copy: 'clone' }),
  'nullBackend()': () => nullBackend(),
  'json()': () => wrap(memory({ stores: 'bytes' }), json()),
  'json({ lossy: true })': () => wrap(memory({ stores: 'bytes' }), json({ lossy: true })),
  'msgpack()': () => wrap(memory({ stores: 'bytes' }), msgpack()),
  'v8()': () => wrap(memory({ stores: 'bytes' }), v8()),
}

const REFUSED = { code: 'ERR_UNENCODABLE', message: expect.stringContaining("for 'k") as string }

for (const [chain, make] of Object.entries(CHAINS))
  describe(`over ${chain}`, () => {
    for (const [kind, [value, remedy]] of Object.entries(VALUES))
      it(`${kind} is refused with the remedy`, async () => {
        const region: Region = makeRegion({ backend: make() })
        const refused = { ...REFUSED, message: expect.stringContaining(remedy) as string }
        await expect(region.set('k', value())).rejects.toMatchObject(refused)
        await expect(region.setMulti([['k', value()]])).rejects.toMatchObject(refused)
        await expect(region.getOrCreateMulti(['k1', 'k2'], () => [1, value()])).rejects.toMatchObject(refused)
        // A creator's own promise is awaited, as that of an async function is.
        if (!/^a (promise|thenable)/.test(kind) || kind.includes('inside')) {
          await expect(region.getOrCreate('k', () => value())).rejects.toMatchObject(refused)
          const cached = region.cacheOnArguments({ namespace: 'f' })(async () => value())
          await expect(cached()).rejects.toMatchObject(refused)
          await expect(cached.set(value())).rejects.toMatchObject(refused)
          const uncached = region.cacheOnArguments({ namespace: 'g', shouldCache: () => false })(async () =>
            value(),
          )
          await expect(uncached()).rejects.toMatchObject(refused)
        }
        expect(await region.getMulti(['k', 'k1', 'k2'])).toEqual([NO_VALUE, NO_VALUE, NO_VALUE])
        // Rejections of what was refused would end the process.
        await turn()
      })
  })

it('values with members of such names are values like any other', async () => {
  const region = makeRegion<unknown>({ backend: memory() })
  // biome-ignore lint/suspicious/noThenProperty: data may have such a member
  const list = { next: 'b', pipe: 'x', then: 'later', bodyUsed: false, getReader: 1, nodes: [{ next: null }] }
  expect(await region.set('k', list)).toBe('stored')
  expect(await region.get('k')).toBe(list)
  expect(await region.set('n', [{ readable: null }, { readable: true, read: 5 }])).toBe('stored')
  expect(await region.set('b', new Blob(['a']))).toBe('stored')
  expect(await region.set('bytes', Buffer.alloc(3))).toBe('stored')
})
