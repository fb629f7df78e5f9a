import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { jittered, markedLifetime, physicalLifetime } from '../../src/freshness/freshness.js'
import {
  type Creation,
  makeRegion,
  NO_VALUE,
  type RegionOptions,
  registerBackend,
  wrap,
} from '../../src/index.js'
import { counting, inEveryRegion, open as openMemory } from '../support/stage.js'

const ALSO_STALE = { ignoreExpiration: true }

inEveryRegion('grace', (open) => {
  it('is the time after the expiry for which a value is served stale', async () => {
    const { region, clock } = open<number>({ expirationTime: 1_000, grace: 500 })
    const fail = () => Promise.reject(new Error('the source is away'))
    await region.set('key', 1)
    clock.tick(1_499)
    expect(await region.get('key')).toBe(NO_VALUE)
    expect(await region.get('key', ALSO_STALE)).toBe(1)
    clock.tick(2)
    expect(await region.get('key', ALSO_STALE)).toBe(NO_VALUE)
    await expect(region.getOrCreate('key', fail)).rejects.toThrow('the source is away')
  })

  it('may be longer than the default', async () => {
    const { region, clock } = open<number>({ expirationTime: 1_000, grace: '1h' })
    await region.set('key', 1)
    clock.tick(3_600_000)
    expect(await region.get('key', ALSO_STALE)).toBe(1)
  })

  it('is as long again as the value is fresh by default, at least a minute', async () => {
    const long = open<number>({ expirationTime: 100_000 })
    await long.region.set('key', 1)
    long.clock.tick(199_999)
    expect(await long.region.get('key', ALSO_STALE)).toBe(1)
    long.clock.tick(2)
    expect(await long.region.get('key', ALSO_STALE)).toBe(NO_VALUE)
    const short = open<number>({ expirationTime: 1_000 })
    await short.region.set('key', 1)
    short.clock.tick(60_999)
    expect(await short.region.get('key', ALSO_STALE)).toBe(1)
    short.clock.tick(2)
    expect(await short.region.get('key', ALSO_STALE)).toBe(NO_VALUE)
  })

  it('0 serves nothing stale: others wait for the renewal, and a soft invalidation is a hard one', async () => {
    const { region, clock } = open<number>({ expirationTime: 1_000, grace: 0 })
    const counter = counting()
    const read = () => region.getOrCreate('key', async () => counter.next())
    expect(await read()).toBe(1)
    clock.tick(1_001)
    expect(await Promise.all([read(), read()])).toEqual([2, 2])
    await region.expire('key')
    expect(await region.get('key', ALSO_STALE)).toBe(NO_VALUE)
    expect(await Promise.all([read(), read()])).toEqual([3, 3])
    await region.invalidate('soft')
    expect(await region.get('key', ALSO_STALE)).toBe(NO_VALUE)
    expect(await Promise.all([read(), read()])).toEqual([4, 4])
  })

  it('of a call decides for that call', async () => {
    const { region, clock } = open<number>({ expirationTime: 1_000, grace: '1h' })
    const counter = counting()
    const read = (grace?: number) => region.getOrCreate('key', async () => counter.next(), { grace })
    expect(await read()).toBe(1)
    clock.tick(2_000)
    expect(await Promise.all([read(0), read(0)])).toEqual([2, 2])
    clock.tick(2_000)
    expect(await read()).toBe(3)
    clock.tick(2_000)
    expect(await Promise.all([read(), read()])).toEqual([4, 3])
    clock.tick(2_000)
    expect(await Promise.all([read(500), read(500)])).toEqual([5, 5])
  })

  it('of a call counts from the expiration time of that call', async () => {
    const { region, clock } = open<number>({ expirationTime: 10_000 })
    const counter = counting()
    const read = (options = {}) => region.getOrCreate('key', async () => counter.next(), options)
    await read()
    clock.tick(2_000)
    expect(await Promise.all([read({ expirationTime: 1_000 }), read({ expirationTime: 1_000 })])).toEqual([
      2, 1,
    ])
    clock.tick(2_000)
    const strict = { expirationTime: 1_000, grace: 0 }
    expect(await Promise.all([read(strict), read(strict)])).toEqual([3, 3])
  })

  it('of many keys holds for each', async () => {
    const { region, clock } = open<number>({ expirationTime: 1_000, grace: 500 })
    const read = () => region.getOrCreateMulti(['a', 'b'], (keys) => keys.map(() => clock.now()))
    const [first] = await read()
    clock.tick(1_200)
    expect((await Promise.all([read(), read()]))[1]).toEqual([first, first])
    clock.tick(1_600)
    expect(await region.getMulti(['a', 'b'], ALSO_STALE)).toEqual([NO_VALUE, NO_VALUE])
  })
})

describe('grace', () => {
  it('is the time for which the store keeps an expired value', async () => {
    const { backend, clock, region } = openMemory<number>({ expirationTime: 1_000, grace: 500 })
    await region.set('set', 1)
    await region.getOrCreate('created', () => 1)
    await region.getOrCreate('of a call', () => 1, { grace: 5_000 })
    clock.tick(1_499)
    expect(await backend.get('set')).toBeDefined()
    expect(await backend.get('created')).toBeDefined()
    clock.tick(2)
    expect(await backend.get('set')).toBeUndefined()
    expect(await backend.get('created')).toBeUndefined()
    expect(await backend.get('of a call')).toBeDefined()
  })

  it('of a softly invalidated key runs from its mark, and ends with the life that the entry had', async () => {
    const { region, clock, backend } = openMemory<number>({ expirationTime: 10_000, grace: 2_000 })
    await region.set('early', 1)
    clock.tick(1_000)
    await region.expire('early')
    clock.tick(1_999)
    expect(await region.get('early', ALSO_STALE)).toBe(1)
    clock.tick(2)
    expect(await region.get('early', ALSO_STALE)).toBe(NO_VALUE)
    await region.set('late', 1)
    clock.tick(11_000)
    await region.expire('late')
    clock.tick(999)
    expect(await region.get('late', ALSO_STALE)).toBe(1)
    clock.tick(2)
    expect(await region.get('late', ALSO_STALE)).toBe(NO_VALUE)
    expect(await backend.get('late')).toBeUndefined()
  })

  it('of a value that never expires has no end by default', () => {
    expect(physicalLifetime(Number.POSITIVE_INFINITY)).toEqual({})
    expect(markedLifetime(Number.POSITIVE_INFINITY, undefined, 1_000)).toEqual({})
    expect(markedLifetime(Number.POSITIVE_INFINITY, 500, 1_000)).toEqual({ ttl: 500 })
  })

  it('of a cached function stands before that of the region, and that of a call before both', async () => {
    const { region, clock } = openMemory<number>({ expirationTime: 1_000, grace: 0 })
    const counter = counting()
    const load = region.cacheOnArguments(async () => counter.next(), { namespace: 'load', grace: '1m' })
    expect(await load()).toBe(1)
    clock.tick(1_001)
    expect(await Promise.all([load(), load()])).toEqual([2, 1])
    clock.tick(1_001)
    const strict = load.with({ grace: 0 })
    expect(await Promise.all([strict(), strict()])).toEqual([3, 3])
  })

  it.each([-1, Number.NaN, '5', 'soon', true, {}] as never[])('%s is refused', (grace) => {
    expect(() => makeRegion({ grace })).toThrow(
      'Expected `grace` of makeRegion(), unless it is 0, to be a duration',
    )
    const { region } = openMemory()
    expect(() => region.cacheOnArguments(async () => 1, { namespace: 'n', grace })).toThrow('`grace`')
    return expect(region.getOrCreate('key', () => 1, { grace })).rejects.toThrow('`grace`')
  })
})

describe('jitter', () => {
  const lifetimes = async (options: RegionOptions, count = 200): Promise<number[]> => {
    const { region } = openMemory<number>(options)
    const keys = Array.from({ length: count }, (_, i) => `key ${i}`)
    await region.getOrCreateMulti(keys, () => keys.map(() => 1))
    const found = await Promise.all(keys.map((key) => region.explain(key)))
    return found.map(({ expiresIn }) => expiresIn as number)
  }

  it('shortens each lifetime by a part of its own, and never lengthens one', async () => {
    const lives = await lifetimes({ expirationTime: 100_000, jitter: 0.1 })
    expect(Math.max(...lives)).toBeLessThanOrEqual(100_000)
    expect(Math.min(...lives)).toBeGreaterThanOrEqual(90_000)
    expect(new Set(lives).size).toBeGreaterThan(100)
    expect(lives.every(Number.isInteger)).toBe(true)
  })

  it('is drawn once and kept with the entry', async () => {
    const { region, clock } = openMemory<number>({ expirationTime: 100_000, jitter: 0.5 })
    await region.set('key', 1)
    const { expiresIn } = await region.explain('key')
    clock.tick(expiresIn as number)
    expect((await region.explain('key')).expiresIn).toBe(expiresIn)
    expect(await region.get('key')).toBe(1)
    clock.tick(1)
    expect(await region.get('key')).toBe(NO_VALUE)
  })

  it('also shortens the lifetime that a creator, a call or set() gives', async () => {
    const { region } = openMemory<number>({ jitter: 1 })
    const of = async (key: string) => (await region.explain(key)).expiresIn as number
    await region.getOrCreate('creator', ({ expireIn }) => (expireIn(1e12), 1))
    await region.getOrCreate('call', () => 1, { expirationTime: 1e12 })
    await region.set('set', 1, { expirationTime: 1e12 })
    await region.getOrCreate('none', () => 1, { expirationTime: 1e12, jitter: 0 })
    for (const key of ['creator', 'call', 'set']) expect(await of(key)).toBeLessThan(1e12)
    expect(await of('none')).toBe(1e12)
  })

  it.each([
    ['a call', undefined, 50_000],
    ['a call that is shorter than the region', 200_000, 100_000],
    ['a call that is longer than the region', 100_000, 300_000],
  ])('shortens the lifetime of %s for the call itself', async (_, expirationTime, wish) => {
    const { region, clock } = openMemory<number>({ jitter: 0.5, ...(expirationTime && { expirationTime }) })
    const draw = Math.random
    Math.random = () => 0.5
    try {
      const load = region.cacheOnArguments(async () => clock.now(), {
        namespace: 'load',
        expirationTime: wish,
      })
      const first = await load()
      clock.tick(wish * 0.75)
      expect(await load()).toBe(first)
      expect(await region.get(load.key(), { expirationTime: wish })).toBe(first)
      clock.tick(1)
      expect(await region.get(load.key(), { expirationTime: wish })).toBe(NO_VALUE)
      expect(await region.getMulti([load.key()], { expirationTime: wish })).toEqual([NO_VALUE])
      expect(await load()).toBe(first + wish * 0.75 + 1)
      const again = await region.getOrCreateMulti(['many'], () => [clock.now()], { expirationTime: wish })
      clock.tick(wish * 0.75 + 1)
      expect(
        await region.getOrCreateMulti(['many'], () => [clock.now()], { expirationTime: wish }),
      ).not.toEqual(again)
    } finally {
      Math.random = draw
    }
  })

  it('of a call counts where its region has none, and a lifetime of another origin does not', async () => {
    const { region, clock } = openMemory<number>()
    const options = { expirationTime: 1_000, jitter: 0.5 }
    await region.set('key', 1, { expirationTime: 700 })
    clock.tick(701)
    expect(await region.getOrCreate('key', () => 2, options)).toBe(2)
    await region.set('short', 1, { expirationTime: 100 })
    clock.tick(101)
    expect(await region.getOrCreate('short', () => 2, options)).toBe(1)
  })

  it('of a function counts for all that reads its values', async () => {
    const backend = wrap(memory(), dependencies())
    const { region, clock } = openMemory<number>({ name: 'jitter', backend })
    const options = { expirationTime: 1e9, jitter: 1 }
    const load = region.cacheOnArguments(() => clock.now(), { namespace: 'load', ...options })
    const rows = region.cacheMultiOnArguments((...ids: number[]) => ids, { namespace: 'rows', ...options })
    const whole = region.cacheOnArguments(async () => (await load()) + (await rows(5)).length, {
      ...{ namespace: 'whole', expirationTime: 1e9 },
    })
    const lifeOf = async (key = '') => (await region.explain(key)).expiresIn as number
    await load()
    await rows(5)
    const life = await lifeOf(load.key())
    await whole()
    const part = Math.min(life, await lifeOf(rows.keys(5)[0]))
    expect(await lifeOf(whole.key())).toBeLessThanOrEqual(part)
    clock.tick(part + 1)
    const [one, many] = [await load.get(), await rows.get(5)]
    expect([one, ...many]).toContain(NO_VALUE)
    clock.tick(1e9 - part - 10)
    expect([await load.get(), ...(await rows.get(5))]).toEqual([NO_VALUE, NO_VALUE])
  })

  it('leaves a value that never expires alone', async () => {
    expect(await lifetimes({ jitter: 0.5 }, 3)).toEqual(Array(3).fill(Number.POSITIVE_INFINITY))
    expect(jittered(undefined, 100, 0)).toBeUndefined()
    expect(jittered(undefined, 100, 1, () => 1)).toBe(1)
  })

  it.each([-0.1, 1.1, Number.NaN, '0.1', true] as never[])('%s is refused', (jitter) => {
    expect(() => makeRegion({ jitter })).toThrow(
      'Expected `jitter` of makeRegion() to be a part of the lifetime, from 0 to 1',
    )
  })
})

describe('a grace of its own', () => {
  it('of a function is that of its softly invalidated values', async () => {
    const { region, clock } = openMemory<number>({ expirationTime: 1_000, grace: 60_000 })
    const load = region.cacheOnArguments(async () => 1, { namespace: 'load', grace: '1h' })
    await load()
    await load.invalidate.soft()
    clock.tick(3_000_000)
    expect(await region.get(load.key(), ALSO_STALE)).toBe(NO_VALUE) // to the region it is gone
    expect(await load.with({ retryAfter: 1_000 })()).toBe(1)
    await load.invalidate.soft()
    clock.tick(3_000_000)
    const failing = region.cacheOnArguments(() => Promise.reject<number>(new Error('away')), {
      ...{ namespace: 'load', sharesNamespace: true, grace: '1h' },
    })
    expect(await failing()).toBe(1)
  })

  it('is an option of expire()', async () => {
    const { region, clock } = openMemory<number>({ expirationTime: 1_000, grace: 60_000 })
    const options = { grace: '1h' } as const
    await region.getOrCreate('key', () => 1, options)
    await region.expire('key', undefined, options)
    clock.tick(3_000_000)
    const read = () => region.getOrCreate('key', () => Promise.reject(new Error('away')), options)
    expect(await read()).toBe(1)
    await expect(region.expire('key', undefined, { grace: -1 })).rejects.toThrow('grace')
    await expect(region.expire('key', undefined, { retryAfter: 1 } as never)).rejects.toThrow('retryAfter')
  })

  it('that a creator gives counts for all readers, also where it is longer than theirs', async () => {
    const { region, clock } = openMemory<number>({ expirationTime: 1_000, grace: 10_000 })
    await region.getOrCreate('long', ({ grace }) => (grace('1h'), 1))
    await region.getOrCreate('short', ({ grace }) => (grace(500), 1))
    await region.getOrCreate('none', ({ grace }) => (grace(0), 1))
    await region.getOrCreateMulti(['a', 'b'], (keys, { grace }) => (grace('1h', 'b'), keys.map(() => 1)))
    const standing = async () => {
      const keys = ['long', 'short', 'none', 'a', 'b']
      const values = await region.getMulti(keys, ALSO_STALE)
      return keys.filter((_, i) => values[i] === 1).join()
    }
    expect(await standing()).toBe('long,short,none,a,b')
    clock.tick(1_001)
    expect(await standing()).toBe('long,short,a,b')
    clock.tick(500)
    expect(await standing()).toBe('long,a,b')
    clock.tick(10_000)
    expect(await standing()).toBe('long,b')
    expect(await region.getOrCreate('long', () => Promise.reject(new Error('away')), { retryAfter: 1 })).toBe(
      1,
    )
    await expect(
      region.getOrCreate('long', () => Promise.reject(new Error('away')), { grace: 0 }),
    ).rejects.toThrow()
    clock.tick(3_600_000)
    expect(await standing()).toBe('')
  })

  it('is not prolonged by a mark', async () => {
    const { region, clock } = openMemory<number>({ expirationTime: 1_000 })
    await region.getOrCreate('key', ({ grace }) => (grace(500), 1))
    clock.tick(1_400)
    await region.expire('key')
    expect(await region.get('key', ALSO_STALE)).toBe(1)
    clock.tick(101)
    expect(await region.get('key', ALSO_STALE)).toBe(NO_VALUE)
  })

  it('is refused after the end of the creation, and of another kind', async () => {
    const { region } = openMemory<number>()
    let late: Creation | undefined
    await region.getOrCreate('key', (creation) => {
      late = creation
      expect(() => creation.grace(-1)).toThrow('grace')
      expect(() => creation.grace(1, 'other')).toThrow('creation.keys')
      return 1
    })
    expect(() => late?.grace(1)).toThrow('before the end of its creation')
  })
})

describe('flat settings', () => {
  registerBackend('memory', (options) => memory(options), {})
  const configured = (settings: Record<string, string | number>) =>
    makeRegion<number>().configureFromConfig({ backend: 'memory', ...settings }, '')

  it('have grace and jitter', async () => {
    const region = configured({ grace: '0', jitter: '0.5', expiration_time: '100s' })
    await region.set('key', 1)
    expect((await region.explain('key')).expiresIn).toBeLessThan(100_000)
    await region.expire('key')
    expect(await region.get('key', ALSO_STALE)).toBe(NO_VALUE)
  })

  it('take 0 as a number of JSON, and as a text with or without a unit', async () => {
    for (const off of [0, '0', '0s'] as never[]) {
      const options = { grace: off, error_expiration_time: off, expiration_time: '1s' }
      const region = configured(options)
      await region.set('key', 1)
      await region.expire('key')
      expect(await region.get('key', ALSO_STALE)).toBe(NO_VALUE)
      expect(() => configured({ retry_after: off })).not.toThrow()
    }
    expect(() => configured({ retry_after: 5 as never })).toThrow('unit')
    expect(() => makeRegion({ errorExpirationTime: 0 })).not.toThrow()
  })

  it('refuse other values', () => {
    expect(() => configured({ grace: '5' })).toThrow('unit')
    expect(() => configured({ grace: 'long' })).toThrow('grace')
    expect(() => configured({ jitter: '2' })).toThrow('jitter')
    expect(() => configured({ jitter: 'much' })).toThrow('jitter')
  })
})
