import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { type Freshness, makeRegion, NO_VALUE, type RegionInvalidator } from '../../src/index.js'
import { counting, held, inEveryRegion, manualClock, open as openMemory } from '../support/stage.js'
import { idle, isPending } from '../support/waiting.js'

inEveryRegion('a hard invalidation of the region', (open) => {
  it('makes a miss of every value', async () => {
    const { region } = open({ expirationTime: '1h' })
    await region.setMulti([
      ['a', 1],
      ['b', 2],
    ])
    await region.invalidate()
    expect(await region.get('a')).toBe(NO_VALUE)
    expect(await region.getMulti(['a', 'b'], { ignoreExpiration: true })).toEqual([NO_VALUE, NO_VALUE])
    expect(await region.has('a')).toBe(false)
  })

  it('makes getOrCreate create again, also twice in the same moment', async () => {
    const { region } = open<number>({ expirationTime: '1h' })
    const counter = counting()
    expect(await region.getOrCreate('key', counter.next)).toBe(1)
    await region.invalidate()
    expect(await region.getOrCreate('key', counter.next)).toBe(2)
    await region.invalidate()
    expect(await region.getOrCreate('key', counter.next)).toBe(3)
    expect(await region.getOrCreate('key', counter.next)).toBe(3)
  })

  it('makes getOrCreateMulti create again, also twice in the same moment', async () => {
    const { region } = open<number>()
    const counter = counting()
    const create = () => region.getOrCreateMulti(['a', 'b'], (keys) => keys.map(() => counter.next()))
    expect(await create()).toEqual([1, 2])
    await region.invalidate()
    expect(await create()).toEqual([3, 4])
    await region.invalidate()
    expect(await create()).toEqual([5, 6])
    expect(await create()).toEqual([5, 6])
  })

  it('leaves values that are set afterwards', async () => {
    const { region } = open()
    await region.set('key', 1)
    await region.invalidate()
    await region.set('key', 2)
    expect(await region.get('key')).toBe(2)
  })

  it('lets all callers wait for the one new value', async () => {
    const { region } = open<string>()
    await region.set('key', 'old')
    await region.invalidate()
    const creator = held<string>()
    const callers = Array.from({ length: 4 }, () => region.getOrCreate('key', creator.create))
    await creator.started
    for (const caller of callers) expect(await isPending(caller)).toBe(true)
    creator.resolve('new')
    expect(await Promise.all(callers)).toEqual(['new', 'new', 'new', 'new'])
    expect(creator.runs).toBe(1)
  })
})

inEveryRegion('a soft invalidation of the region', (open) => {
  it('makes a miss of every value for get, unless expiration is ignored', async () => {
    const { region } = open()
    await region.set('key', 'old')
    await region.invalidate('soft')
    expect(await region.get('key')).toBe(NO_VALUE)
    expect(await region.getMulti(['key'])).toEqual([NO_VALUE])
    expect(await region.get('key', { ignoreExpiration: true })).toBe('old')
  })

  it('needs no expiration time: one caller renews while the others are served the old value', async () => {
    const { region } = open<string>()
    await region.set('key', 'old')
    await region.invalidate('soft')
    const creator = held<string>()
    const leader = region.getOrCreate('key', creator.create)
    await creator.started
    expect(await region.getOrCreate('key', () => expect.unreachable())).toBe('old')
    creator.resolve('new')
    expect(await leader).toBe('new')
    expect(await region.getOrCreate('key', () => expect.unreachable())).toBe('new')
    expect(await region.get('key')).toBe('new')
  })

  it('renews several keys in one creation', async () => {
    const { region } = open<number>({ expirationTime: 1_000 })
    const counter = counting()
    const create = () => region.getOrCreateMulti(['a', 'b'], (keys) => keys.map(() => counter.next()))
    expect(await create()).toEqual([1, 2])
    await region.invalidate('soft')
    expect(await create()).toEqual([3, 4])
    expect(await create()).toEqual([3, 4])
  })

  it('applies to a key that was missing like to any other', async () => {
    const { region } = open<number>()
    await region.invalidate('soft')
    expect(await region.getOrCreate('key', () => 1)).toBe(1)
    expect(await region.getOrCreateMulti(['key', 'other'], () => [2])).toEqual([1, 2])
    expect(await region.getMulti(['key', 'other'])).toEqual([1, 2])
  })

  it('never revives a hard-invalidated value', async () => {
    const { region } = open<string>({ expirationTime: '1h' })
    await region.set('key', 'old')
    await region.invalidate('hard')
    await region.invalidate('soft')
    expect(await region.get('key', { ignoreExpiration: true })).toBe(NO_VALUE)
    const creator = held<string>()
    const callers = [region.getOrCreate('key', creator.create), region.getOrCreate('key', creator.create)]
    await creator.started
    for (const caller of callers) expect(await isPending(caller)).toBe(true)
    creator.resolve('new')
    expect(await Promise.all(callers)).toEqual(['new', 'new'])
  })

  it('followed by a hard one ends the values that it had made stale', async () => {
    const { region } = open()
    await region.set('key', 'old')
    await region.invalidate('soft')
    await region.invalidate('hard')
    expect(await region.get('key', { ignoreExpiration: true })).toBe(NO_VALUE)
  })
})

inEveryRegion('an invalidation of one key', (open) => {
  it('is a deletion when hard', async () => {
    const { region } = open()
    await region.setMulti([
      ['a', 1],
      ['b', 2],
    ])
    await region.delete('a')
    expect(await region.getMulti(['a', 'b'], { ignoreExpiration: true })).toEqual([NO_VALUE, 2])
  })

  it('lets the old value be served while one caller renews it when soft', async () => {
    const { region } = open<string>()
    await region.setMulti([
      ['a', 'old a'],
      ['b', 'old b'],
    ])
    await region.expire('a')
    expect(await region.getMulti(['a', 'b'])).toEqual([NO_VALUE, 'old b'])
    const creator = held<string>()
    const leader = region.getOrCreate('a', creator.create)
    await creator.started
    expect(await region.getOrCreate('a', () => expect.unreachable())).toBe('old a')
    creator.resolve('new a')
    expect(await leader).toBe('new a')
    expect(await region.get('a')).toBe('new a')
  })

  it('does nothing to an absent key, hard or soft', async () => {
    const { region } = open()
    await region.expire('key')
    await region.delete('key')
    expect(await region.get('key')).toBe(NO_VALUE)
    expect(await region.keyIsLocked('key')).toBe(false)
  })

  it('never revives a removed value when soft', async () => {
    const { region } = open()
    await region.set('key', 1)
    await region.delete('key')
    await region.expire('key')
    expect(await region.get('key', { ignoreExpiration: true })).toBe(NO_VALUE)
  })
})

describe('regions over one backend', () => {
  it('are invalidated one by one', async () => {
    const backend = memory()
    const users = makeRegion({ name: 'users', backend })
    const pages = makeRegion({ name: 'pages', backend })
    await users.set('user', 1)
    await pages.set('page', 2)
    await users.invalidate()
    expect(await users.get('user')).toBe(NO_VALUE)
    expect(await pages.get('page')).toBe(2)
  })

  it('share their invalidations when they share a name', async () => {
    const backend = memory()
    const one = makeRegion({ name: 'users', backend })
    const other = makeRegion({ name: 'users', backend })
    await one.set('user', 1)
    await other.invalidate()
    expect(await one.get('user')).toBe(NO_VALUE)
  })
})

describe('an invalidation strategy of one’s own', () => {
  function byKey(
    verdicts: Record<string, Freshness>,
    answer: <T>(value: T) => T | Promise<T>,
  ): RegionInvalidator {
    return { invalidate: () => {}, judge: (_, key) => answer(verdicts[key] ?? 'fresh') }
  }

  for (const [how, answer] of [
    ['at once', <T>(value: T) => value],
    ['later', <T>(value: T) => Promise.resolve(value)],
  ] as const)
    it(`is told the key and decides it ${how}`, async () => {
      const { region } = openMemory<string>({
        regionInvalidator: byKey({ invalid: 'invalid', stale: 'stale' }, answer),
      })
      await region.setMulti([
        ['invalid', '1'],
        ['stale', '2'],
        ['fresh', '3'],
      ])
      const keys = ['invalid', 'stale', 'fresh']
      expect(await region.getMulti(keys)).toEqual([NO_VALUE, NO_VALUE, '3'])
      expect(await region.getMulti(keys, { ignoreExpiration: true })).toEqual([NO_VALUE, '2', '3'])
      const creator = held<string>()
      const leader = region.getOrCreate('stale', creator.create)
      await creator.started
      expect(await region.getOrCreate('stale', () => expect.unreachable())).toBe('2')
      creator.resolve('new')
      expect(await leader).toBe('new')
    })

  for (const [how, answer] of [
    ['at once', <T>(value: T) => value],
    ['later', <T>(value: T) => Promise.resolve(value)],
  ] as const)
    it.each([undefined, true, 'hard', null])(`is refused for the answer %s, given ${how}`, async (wrong) => {
      let verdict: unknown = 'fresh'
      const { region } = openMemory<string>({
        regionInvalidator: { invalidate: () => {}, judge: () => answer(verdict as Freshness) },
      })
      await region.set('key', 'value')
      verdict = wrong
      const refused = { code: 'ERR_OPTION', message: expect.stringMatching(/`judge`.*'invalid'/) }
      await expect(region.get('key')).rejects.toMatchObject(refused)
      await expect(region.getMulti(['key'])).rejects.toMatchObject(refused)
      await expect(region.getOrCreate('key', () => expect.unreachable())).rejects.toMatchObject(refused)
    })

  it('is told the mode, and awaited', async () => {
    const modes: string[] = []
    const { region } = openMemory({
      regionInvalidator: {
        async invalidate(mode) {
          await idle(2)
          modes.push(mode)
        },
        judge: () => 'fresh',
      },
    })
    await region.invalidate()
    await region.invalidate('soft')
    expect(modes).toEqual(['hard', 'soft'])
  })

  it('is told moments that strictly increase, however still the clock stands', async () => {
    const moments: number[] = []
    const { region } = openMemory({
      clock: manualClock(),
      regionInvalidator: {
        invalidate: () => {},
        judge(startedAt) {
          moments.push(startedAt)
          return 'fresh'
        },
      },
    })
    for (let i = 0; i < 5; i++) {
      await region.set('key', i)
      await region.get('key')
    }
    expect(moments).toEqual([...new Set(moments)].sort((one, other) => one - other))
  })
})
