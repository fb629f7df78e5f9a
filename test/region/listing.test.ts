/** `region.keys` and what `delete` resolves to, through the layers of a chain. */
import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { nullBackend } from '../../backends/null.js'
import { dependencies } from '../../proxies/dependencies.js'
import { json } from '../../proxies/json.js'
import { prefix } from '../../proxies/prefix.js'
import {
  type CachedValue,
  defineBackend,
  intercept,
  type KeyInverse,
  makeRegion,
  mapKeys,
  type Region,
  sha256,
  wrap,
} from '../../src/index.js'
import { onStores } from '../dependencies/stores.js'
import { threeMethods } from '../support/three-methods.js'

async function listed(region: Region, beginning?: string): Promise<string[]> {
  const keys: string[] = []
  for await (const key of region.keys(beginning)) keys.push(key)
  return keys.sort()
}

const reversed = (key: string) => [...key].reverse().join('')

describe('the keys of a region', () => {
  it.each<readonly [string, () => Region<number>]>([
    ['over memory', () => makeRegion({ name: 'r', backend: memory() })],
    ['without a name', () => makeRegion({ backend: memory() })],
    [
      'through every kind of layer',
      () =>
        makeRegion({
          name: 'a:b',
          backend: wrap(
            memory({ stores: 'bytes' }),
            json(),
            intercept((_, proceed) => proceed()),
            prefix('p:'),
            dependencies(),
          ),
        }),
    ],
    [
      'through a mangler with a way back',
      () => makeRegion({ name: 'r', backend: wrap(memory(), mapKeys(reversed, reversed)) }),
    ],
    [
      'through two',
      () =>
        makeRegion({
          name: 'r',
          backend: wrap(memory(), prefix('x'), mapKeys(reversed, reversed), prefix('y')),
        }),
    ],
  ])('are those of its entries (%s)', async (_, open) => {
    const region = open()
    await region.setMulti(['a', 'ab', 'b', 'r:a'].map((key) => [key, 1]))
    expect(await listed(region)).toEqual(['a', 'ab', 'b', 'r:a'])
    expect(await listed(region, 'a')).toEqual(['a', 'ab'])
    await region.delete('a')
    expect(await listed(region, 'a')).toEqual(['ab'])
  })

  it('are not those of another region over the store', async () => {
    const backend = memory()
    const [one, two] = ['one', 'two'].map((name) => makeRegion<number>({ name, backend }))
    await one?.set('a', 1)
    await two?.set('b', 1)
    expect(await listed(one as Region)).toEqual(['a'])
  })

  it('leave out a key of which the way back knows nothing', async () => {
    const own: KeyInverse = (key) => (key.startsWith('p') ? key.slice(1) : undefined)
    const store = memory()
    const mapped = makeRegion<number>({
      name: 'r',
      backend: wrap(
        store,
        mapKeys((key) => `p${key}`, own),
      ),
    })
    await mapped.set('a', 1)
    await store.set('foreign', { payload: 1, metadata: { startedAt: 1, createdAt: 1 } }, {})
    expect(await listed(mapped)).toEqual(['a'])
  })

  it('are refused where the chain cannot list them, and for what is no text', async () => {
    const code = (error: { code?: string }) => error.code
    for (const backend of [
      nullBackend(),
      wrap(memory(), mapKeys(sha256)),
      defineBackend<CachedValue>(threeMethods()),
    ])
      expect(await listed(makeRegion({ name: 'r', backend })).catch(code)).toBe('ERR_UNSUPPORTED')
    expect(() => mapKeys(reversed, 'back' as never)).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }))
    expect(() => makeRegion({ backend: memory() }).keys(5 as never)).toThrow(
      expect.objectContaining({ code: 'ERR_OPTION' }),
    )
    const failing = defineBackend<CachedValue>({
      ...threeMethods(),
      async *keys() {
        yield 'a'
        throw new Error('away')
      },
    })
    expect(await listed(makeRegion({ backend: failing })).catch(code)).toBe('ERR_BACKEND')
  })
})

it('a deletion says nothing where the driver returns another thing than true or false', async () => {
  const store = { ...threeMethods(), delete: async () => 1 as never }
  expect(await makeRegion({ backend: defineBackend<CachedValue>(store) }).delete('a')).toBeUndefined()
})

onStores(['memory', 'Redis', 'Redis Cluster', 'LMDB'], 'keys and deletions', (at) => {
  it('are told through the chain', async () => {
    const [one, two] = at().regions<number>()
    await one.setMulti([
      ['a', 1],
      ['ab', 1],
      ['b', 1],
    ])
    expect(await listed(two, 'a')).toEqual(['a', 'ab'])
    expect(await Promise.all([one.delete('a'), two.delete('a')])).toEqual(
      expect.arrayContaining([true, false]),
    )
    expect(await listed(two)).toEqual(['ab', 'b'])
  })
})
