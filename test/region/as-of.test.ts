/** Moments of the ledger: when a value was loaded, and whether names were invalidated since. */
import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { json } from '../../proxies/json.js'
import { prefix } from '../../proxies/prefix.js'
import { dep, makeRegion, NO_VALUE, wrap } from '../../src/index.js'
import { onStores } from '../dependencies/stores.js'
import { manualClock } from '../support/stage.js'

onStores('all', 'a moment of the ledger', (at) => {
  const [rows, tags] = [dep.id('row', 1), dep.tag('t')]

  it('tells which names were invalidated since, hard or softly', async () => {
    const [one, two] = at().regions<string>()
    const since = await one.asOf([rows, tags])
    expect(await two.freshnessOf([rows, tags], since)).toBe('fresh')
    await two.invalidateDependencies(tags, 'soft')
    expect(await one.freshnessOf([rows, tags], since)).toBe('stale')
    expect(await one.freshnessOf(rows, since)).toBe('fresh')
    await one.invalidateDependencies(rows)
    expect(await two.freshnessOf([rows, tags], since)).toBe('invalid')
    expect(await two.freshnessOf(rows, await two.asOf(rows))).toBe('fresh')
  })

  it('tells of an invalidation of the region as a whole', async () => {
    const [one, two] = at().regions<string>()
    const since = await one.asOf(tags)
    await two.invalidate('soft')
    expect(await one.freshnessOf(tags, since)).toBe('stale')
    expect(await one.freshnessOf([], since)).toBe('stale')
    await two.invalidate()
    expect(await one.freshnessOf(tags, since)).toBe('invalid')
  })

  it("of a write that says 'now' is that of the call", async () => {
    const [one, two] = at().regions<string>()
    await two.invalidateDependencies(tags)
    expect(await one.set('key', 'v', { dependencies: tags, asOf: 'now' })).toBe('stored')
    expect(await two.get('key')).toBe('v')
    await two.invalidateDependencies(tags)
    expect(await one.get('key')).toBe(NO_VALUE)
  })

  it('may be another one for each value of a batch, as may lifetime and names', async () => {
    const [one, two] = at().regions<string>()
    const before = await one.asOf(tags)
    await two.invalidateDependencies(tags)
    const outcomes = await one.setMulti(
      [
        ['a', 'A', { dependencies: rows, expirationTime: '1m' }],
        ['b', 'B', { dependencies: tags, asOf: before }],
        ['c', 'C'],
        ['d', 'D', { dependencies: [] }],
      ],
      { asOf: 'now', dependencies: tags, expirationTime: '2m' },
    )
    expect(outcomes).toEqual(['stored', 'refused', 'stored', 'stored'])
    expect(await two.getMulti(['a', 'b', 'c', 'd'])).toEqual(['A', NO_VALUE, 'C', 'D'])
    const lifetimes = ['a', 'c', 'd'].map(
      async (key) => (await two.getValueMetadata(key))?.metadata.expiresIn,
    )
    expect(await Promise.all(lifetimes)).toEqual([60_000, 120_000, 120_000])
    await two.invalidateDependencies(tags)
    expect(await one.getMulti(['a', 'c', 'd'])).toEqual(['A', NO_VALUE, 'D'])
    await two.invalidateDependencies(rows)
    expect(await one.get('a')).toBe(NO_VALUE)
  })

  it('is refused where it is none, or where a version stands for a name', async () => {
    const [one] = at().regions<string>()
    const since = await one.asOf()
    const refused = [
      one.freshnessOf(tags, Date.now() as never),
      one.freshnessOf(tags, 'now' as never),
      one.freshnessOf([5] as never, since),
      one.asOf(5 as never),
      one.set('key', 'v', { dependencies: tags }),
      one.set('key', 'v', { dependencies: tags, asOf: 'soon' as never }),
      one.setMulti([['key', 'v', { ttl: 5 } as never]]),
      one.setMulti([['key', 'v', {}, {}] as never]),
    ]
    const codes = await Promise.all(refused.map((one) => one.catch((error: { code: string }) => error.code)))
    expect(codes).toEqual([
      ...['ERR_AS_OF_MISSING', 'ERR_AS_OF_MISSING', 'ERR_OPTION', 'ERR_OPTION'],
      ...['ERR_AS_OF_MISSING', 'ERR_AS_OF_MISSING', 'ERR_OPTION', 'ERR_OPTION'],
    ])
  })
})

describe('a chain without dependencies()', () => {
  it("takes 'now' for values without names, and has no moments to ask with", async () => {
    const region = makeRegion<number>({ backend: memory() })
    expect(await region.set('key', 1, { asOf: 'now' })).toBe('stored')
    await expect(region.set('key', 1, { asOf: 'now', dependencies: 't' })).rejects.toMatchObject({
      code: 'ERR_NO_LEDGER',
    })
    await expect(region.freshnessOf('t', { epoch: 'e', at: 1 })).rejects.toMatchObject({
      code: 'ERR_NO_LEDGER',
    })
  })
})

describe('a write over a chain that answers at once', () => {
  const chains = {
    values: () => memory(),
    bytes: () => wrap(memory({ stores: 'bytes' }), json()),
    tracked: () => wrap(memory({ stores: 'bytes' }), json(), prefix('p:'), dependencies()),
  }
  it.each(Object.entries(chains))('is done when the call returns (%s)', async (_, chain) => {
    const region = makeRegion<number>({ name: 'r', backend: chain() })
    const done: Promise<unknown>[] = [region.set('a', 1)]
    expect(region.peek('a')).toBe(1)
    done.push(region.set('a', 2, { expirationTime: '1m' }))
    expect(region.peek('a')).toBe(2)
    done.push(
      region.setMulti([
        ['a', 3],
        ['b', 4, { expirationTime: '1m' }],
      ]),
    )
    expect([region.peek('a'), region.peek('b')]).toEqual([3, 4])
    done.push(region.delete('a'))
    expect(region.peek('a')).toBe(NO_VALUE)
    done.push(region.deleteMulti(['b']))
    expect(region.peek('b', { ignoreExpiration: true })).toBe(NO_VALUE)
    done.push(region.set('c', 5), region.invalidate())
    expect(region.peek('c')).toBe(NO_VALUE)
    await Promise.all(done)
  })

  it('that names dependencies is done, and so is their invalidation', async () => {
    const region = makeRegion<number>({ name: 'r', backend: wrap(memory(), dependencies()) })
    const done: Promise<unknown>[] = [region.set('a', 1, { dependencies: 't', asOf: 'now' })]
    expect(region.peek('a')).toBe(1)
    done.push(region.invalidateDependencies('t'))
    expect(region.peek('a')).toBe(NO_VALUE)
    await Promise.all(done)
  })
})

describe('expiresAt', () => {
  it('is the end of freshness by the entry, the region or the call', async () => {
    const clock = manualClock(1_000)
    const region = makeRegion<number>({ backend: memory({ clock }), clock, expirationTime: 500 })
    await region.set('a', 1)
    await region.set('b', 1, { expirationTime: 200 })
    clock.tick(100)
    const at = async (key: string, expirationTime?: number) =>
      (await region.getValueMetadata(key, { expirationTime }))?.expiresAt
    expect(await Promise.all([at('a'), at('b'), at('a', 300)])).toEqual([1_500, 1_200, 1_300])
    const forever = makeRegion<number>({ backend: memory() })
    await forever.set('a', 1)
    expect((await forever.getValueMetadata('a'))?.expiresAt).toBe(Infinity)
  })
})
