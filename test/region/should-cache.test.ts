import { expect, it } from 'vitest'
import { NO_VALUE } from '../../src/index.js'
import { counting, held, inEveryRegion } from '../support/stage.js'
import { idle } from '../support/waiting.js'

inEveryRegion('shouldCache', (open) => {
  it('decides whether a value is stored; it is returned either way', async () => {
    const { region, clock } = open<number>({ expirationTime: 100 })
    const counter = counting()
    const create = () => region.getOrCreate('key', counter.next, { shouldCache: (value) => value % 2 === 1 })
    expect(await create()).toBe(1)
    expect(await region.get('key')).toBe(1)
    clock.tick(101)
    expect(await create()).toBe(2)
    expect(await region.get('key', { ignoreExpiration: true })).toBe(1)
    expect(await create()).toBe(3)
    expect(await region.get('key')).toBe(3)
  })

  it('decides for each of several keys', async () => {
    const { region } = open<number>()
    const values = await region.getOrCreateMulti(['a', 'b', 'c'], () => [1, 2, 3], {
      shouldCache: (value) => value !== 2,
    })
    expect(values).toEqual([1, 2, 3])
    expect(await region.getMulti(['a', 'b', 'c'])).toEqual([1, NO_VALUE, 3])
    expect(await region.keyIsLocked('b')).toBe(false)
  })

  it('may keep all of several keys back', async () => {
    const { region } = open<null>()
    expect(
      await region.getOrCreateMulti(['a', 'b', 'c'], (keys) => keys.map(() => null), {
        shouldCache: (value) => value !== null,
      }),
    ).toEqual([null, null, null])
    expect(await region.getMulti(['a', 'b', 'c'])).toEqual([NO_VALUE, NO_VALUE, NO_VALUE])
  })

  it('is told value and key', async () => {
    const { region } = open<number>()
    const told: unknown[] = []
    const shouldCache = (value: number, key: string) => {
      told.push([key, value])
      return true
    }
    await region.getOrCreate('a', () => 1, { shouldCache })
    await region.getOrCreateMulti(['b', 'c'], () => [2, 3], { shouldCache })
    expect(told).toEqual([
      ['a', 1],
      ['b', 2],
      ['c', 3],
    ])
  })

  it('is not asked about a key without a value', async () => {
    const { region } = open<number>()
    await region.getOrCreateMulti(['a'], () => [NO_VALUE], { shouldCache: () => expect.unreachable() })
    expect(await region.get('a')).toBe(NO_VALUE)
  })

  it('that returns false shares the value with the waiters, and leaves no lease', async () => {
    const { region } = open<string>()
    const creator = held<string>()
    const shouldCache = () => false
    const callers = Array.from({ length: 5 }, () =>
      region.getOrCreate('key', creator.create, { shouldCache }),
    )
    await creator.started
    await idle()
    creator.resolve('value')
    expect(await Promise.all(callers)).toEqual(Array(5).fill('value'))
    expect(creator.runs).toBe(1)
    expect(await region.get('key')).toBe(NO_VALUE)
    expect(await region.keyIsLocked('key')).toBe(false)
  })

  it('that fails rejects like a creator that fails, and leaves no lease', async () => {
    const { region } = open<string>()
    const shouldCache = (): boolean => {
      throw new Error('boom')
    }
    await expect(region.getOrCreate('key', () => 'value', { shouldCache })).rejects.toThrow('boom')
    expect(await region.keyIsLocked('key')).toBe(false)
    await expect(region.getOrCreateMulti(['a', 'b'], (keys) => keys, { shouldCache })).rejects.toThrow('boom')
    expect(await region.keyIsLocked('a')).toBe(false)
    expect(await region.getMulti(['key', 'a', 'b'])).toEqual([NO_VALUE, NO_VALUE, NO_VALUE])
  })
})
