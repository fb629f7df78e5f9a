import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { type CachedValue, defineBackend, makeRegion, NO_VALUE } from '../../src/index.js'
import { counting, inEveryRegion, open as openMemory } from '../support/stage.js'

inEveryRegion('expiration', (open) => {
  it('turns a value into a miss for get, and lets one caller make a new one', async () => {
    const { region, clock } = open<string>({ expirationTime: 1_000 })
    const counter = counting()
    const create = () => `creation ${counter.next()}`
    expect(await region.getOrCreate('key', create)).toBe('creation 1')
    clock.tick(1_001)
    expect(await region.get('key')).toBe(NO_VALUE)
    expect(await region.get('key', { ignoreExpiration: true })).toBe('creation 1')
    expect(await region.getOrCreate('key', create, { expirationTime: Number.POSITIVE_INFINITY })).toBe(
      'creation 1',
    )
    expect(await region.getOrCreate('key', create)).toBe('creation 2')
    expect(await region.get('key')).toBe('creation 2')
  })

  it('comes after the whole time, not at its end', async () => {
    const { region, clock } = open({ expirationTime: 1_000 })
    await region.set('key', 1)
    clock.tick(1_000)
    expect(await region.get('key')).toBe(1)
    clock.tick(1)
    expect(await region.get('key')).toBe(NO_VALUE)
  })

  it('renews several keys in one creation of sorted keys', async () => {
    const { region, clock } = open<number>({ expirationTime: 1_000 })
    const counter = counting()
    const create = (keys: readonly string[]) => keys.map(() => counter.next())
    const keys = ['k3', 'k2', 'k5']
    expect(await region.getOrCreateMulti(keys, create)).toEqual([2, 1, 3])
    clock.tick(1_001)
    expect(await region.getMulti(keys)).toEqual([NO_VALUE, NO_VALUE, NO_VALUE])
    expect(await region.getMulti(keys, { ignoreExpiration: true })).toEqual([2, 1, 3])
    expect(await region.getOrCreateMulti(keys, create, { expirationTime: Number.POSITIVE_INFINITY })).toEqual(
      [2, 1, 3],
    )
    expect(await region.getOrCreateMulti(keys, create)).toEqual([5, 4, 6])
    expect(await region.getMulti(keys)).toEqual([5, 4, 6])
  })

  it('means the same everywhere: Infinity is never', async () => {
    const { region, clock } = open({ expirationTime: Number.POSITIVE_INFINITY })
    await region.set('key', 1)
    clock.tick(1e12)
    expect(await region.get('key')).toBe(1)
    expect(await region.getOrCreate('key', () => 2)).toBe(1)
    expect(await region.getMulti(['key'], { expirationTime: Number.POSITIVE_INFINITY })).toEqual([1])
  })

  it('is given in milliseconds or as text with a unit, fractions of a second included', async () => {
    const { region, clock } = open({ expirationTime: '1.5s' })
    await region.set('key', 1)
    clock.tick(1_500)
    expect(await region.get('key')).toBe(1)
    clock.tick(1)
    expect(await region.get('key')).toBe(NO_VALUE)
  })

  it('can be set for one get', async () => {
    const { region, clock } = open({ expirationTime: 1_000 })
    await region.set('key', 1)
    clock.tick(1_500)
    expect(await region.get('key')).toBe(NO_VALUE)
    expect(await region.get('key', { expirationTime: 2_000 })).toBe(1)
    expect(await region.get('key')).toBe(NO_VALUE)
    expect(await region.get('key', { expirationTime: 100 })).toBe(NO_VALUE)
  })

  it('set for one getOrCreate is kept with the entry only if it is shorter than that of the region', async () => {
    const { region, clock } = open<number>({ expirationTime: 5_000 })
    const counter = counting()
    expect(await region.getOrCreate('key', counter.next, { expirationTime: 1_000 })).toBe(1)
    clock.tick(2_000)
    expect(await region.getOrCreate('key', counter.next, { expirationTime: 3_000 })).toBe(1)
    expect(await region.get('key')).toBe(NO_VALUE)
    expect(await region.getOrCreate('key', counter.next)).toBe(2)
    clock.tick(2_000)
    expect(await region.getOrCreate('key', counter.next, { expirationTime: 1_000 })).toBe(3)
    clock.tick(4_000)
    expect(await region.get('key')).toBe(NO_VALUE)
    expect(await region.getOrCreate('key', counter.next, { expirationTime: 9_000 })).toBe(3)
    expect(await region.getOrCreate('other', counter.next, { expirationTime: 9_000 })).toBe(4)
    clock.tick(5_001)
    expect(await region.get('other')).toBe(NO_VALUE)
  })

  it('counts from when the creator returned, so that a slow one does not make a stale value', async () => {
    const { region, clock } = open<number>({ expirationTime: 100 })
    await region.getOrCreate('key', () => {
      clock.tick(500)
      return 1
    })
    clock.tick(100)
    expect(await region.get('key')).toBe(1)
  })

  it('leaves a stale value to be served when only one entry is old', async () => {
    const { region, clock } = open<number>({ expirationTime: 100 })
    await region.set('a', 1)
    clock.tick(101)
    await region.set('b', 2)
    const asked: (readonly string[])[] = []
    expect(
      await region.getOrCreateMulti(['a', 'b'], (keys) => {
        asked.push(keys)
        return [10]
      }),
    ).toEqual([10, 2])
    expect(asked).toEqual([['a']])
  })
})

inEveryRegion('an entry that was created while the clock was ahead', (open) => {
  for (const [ahead, expirationTime, standing] of [
    [3_600_000, 60_000, NO_VALUE],
    [3_600_000, 7_200_000, 'old'],
    [101, 100, 'old'],
  ] as const)
    it(`by ${ahead} ms of ${expirationTime} ms is fresh to no read, and ${standing === 'old' ? 'stale' : 'past its grace'}`, async () => {
      const { region, clock } = open<string>({ expirationTime })
      const fn = region.cacheOnArguments({ namespace: 'f' })(async () => `called at ${clock.now()}`)
      const forMany = region.cacheMultiOnArguments({ namespace: 'many' })(async (...ids: string[]) =>
        ids.map((id) => `${id} at ${clock.now()}`),
      )
      const right = clock.now()
      clock.tick(ahead)
      await region.set('set', 'old')
      await region.setMulti([['one of many', 'old']])
      await region.getOrCreate('created', () => 'old')
      await region.getOrCreateMulti(['of many'], () => ['old'])
      await region.getOrCreate('by its creator', ({ expireIn }) => (expireIn(expirationTime), 'old'))
      await fn()
      await forMany('id')
      clock.tick(-ahead)
      const keys = ['set', 'one of many', 'created', 'of many', 'by its creator']
      for (const key of keys) {
        expect(await region.get(key)).toBe(NO_VALUE)
        expect(await region.has(key)).toBe(false)
        expect(await region.get(key, { ignoreExpiration: true })).toBe(standing)
        expect((await region.explain(key)).reason).toMatch(/in the future, by a clock that was ahead/)
      }
      expect(await region.getMulti(keys)).toEqual(keys.map(() => NO_VALUE))
      expect(await fn()).toBe(`called at ${right}`)
      expect(await forMany('id')).toEqual([`id at ${right}`])
      expect(await region.getOrCreateMulti(keys.slice(0, 2), (left) => left.map(() => 'new'))).toEqual([
        'new',
        'new',
      ])
      for (const key of keys.slice(2)) expect(await region.getOrCreate(key, () => 'new')).toBe('new')
      expect(await region.getMulti(keys)).toEqual(keys.map(() => 'new'))
    })

  it('is stale to a read with a lifetime of its own', async () => {
    const { region, clock } = open<string>()
    clock.tick(3_600_000)
    await region.set('key', 'old')
    clock.tick(-3_600_000)
    expect(await region.get('key')).toBe('old')
    expect(await region.get('key', { expirationTime: '1d' })).toBe(NO_VALUE)
    expect(await region.getOrCreate('key', () => 'new', { expirationTime: '1d' })).toBe('new')
  })

  it('by less than the clocks of two machines may differ is fresh', async () => {
    const { region, clock } = open<string>({ expirationTime: 10_000 })
    clock.tick(900)
    await region.getOrCreate('key', () => 'of another machine')
    clock.tick(-900)
    expect(await region.get('key')).toBe('of another machine')
    expect(await region.getOrCreate('key', () => 'again')).toBe('of another machine')
    clock.tick(10_901)
    expect(await region.get('key')).toBe(NO_VALUE)
  })
})

describe('an entry that a creator blocked the process for', () => {
  it('is fresh, although the clock of hits still stands before the creation', async () => {
    const region = makeRegion<number>({ backend: memory(), expirationTime: '1m' })
    let runs = 0
    const create = () => {
      const until = performance.now() + 1_100
      while (performance.now() < until);
      return ++runs
    }
    // A hit reads the clock, which then stands until the next turn.
    await region.set('warm', 0)
    await region.get('warm')
    await region.getOrCreate('key', create)
    expect(await region.getOrCreate('key', create)).toBe(1)
    expect(await region.get('key')).toBe(1)
  })

  it('is fresh if another process created it meanwhile', async () => {
    const entries = new Map<string, CachedValue>()
    const backend = defineBackend<CachedValue>({
      name: 'map',
      get: (key) => entries.get(key),
      set: (key, entry) => void entries.set(key, entry),
      delete: (key) => void entries.delete(key),
    })
    const region = makeRegion<number>({ backend, expirationTime: '1m' })
    await region.set('warm', 0)
    await region.get('warm')
    const until = performance.now() + 1_100
    while (performance.now() < until);
    const now = Date.now()
    entries.set('key', { payload: 1, metadata: { startedAt: now, createdAt: now } })
    expect(await region.get('key')).toBe(1)
  })
})

describe('a clock that is behind that of another region in this process', () => {
  it('decides age and expiry alone', async () => {
    await makeRegion({ backend: memory() }).set('key', 'stamped with the time of day')
    const { region, clock } = openMemory<number>({ expirationTime: 100 })
    await region.set('a', 1)
    await region.getOrCreate('b', () => 2)
    clock.tick(101)
    expect(await region.getMulti(['a', 'b'])).toEqual([NO_VALUE, NO_VALUE])
  })
})

describe('an expiration time that cannot be', () => {
  const impossible = [
    -1,
    0,
    Number.NaN,
    Number.NEGATIVE_INFINITY,
    '300',
    '-5s',
    '5 s',
    'soon',
    '',
    null,
    {},
    true,
  ]

  it('is refused by the region, and by every operation that takes one', async () => {
    const { region } = openMemory<number>()
    await region.set('key', 1)
    for (const expirationTime of impossible as never[]) {
      const refusal = expect.objectContaining({ code: 'ERR_OPTION' })
      expect(() => makeRegion({ expirationTime })).toThrow(refusal)
      expect(() => makeRegion().configure({ backend: openMemory().backend, expirationTime })).toThrow(refusal)
      await expect(region.get('key', { expirationTime })).rejects.toEqual(refusal)
      await expect(region.getMulti(['key'], { expirationTime })).rejects.toEqual(refusal)
      await expect(region.has('key', { expirationTime })).rejects.toEqual(refusal)
      await expect(region.getValueMetadata('key', { expirationTime })).rejects.toEqual(refusal)
      expect(() => region.peek('key', { expirationTime })).toThrow(refusal)
      const never = () => expect.unreachable()
      await expect(region.getOrCreate('key', never, { expirationTime })).rejects.toEqual(refusal)
      await expect(region.getOrCreateMulti(['key'], never, { expirationTime })).rejects.toEqual(refusal)
      await expect(region.set('key', 2, { expirationTime })).rejects.toEqual(refusal)
      await expect(region.setMulti([['key', 2]], { expirationTime })).rejects.toEqual(refusal)
    }
    expect(await region.get('key')).toBe(1)
  })

  it('is refused from a creator, which then stores nothing', async () => {
    const { region } = openMemory<number>()
    await expect(
      region.getOrCreate('key', ({ expireIn }) => {
        expireIn(0)
        return 1
      }),
    ).rejects.toMatchObject({ code: 'ERR_OPTION' })
    expect(await region.get('key')).toBe(NO_VALUE)
    expect(await region.keyIsLocked('key')).toBe(false)
  })
})
