import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { type CorralError, intercept, makeRegion, NO_VALUE, wrap } from '../../src/index.js'
import { inEveryRegion, later, open as openMemory } from '../support/stage.js'
import { turn } from '../support/waiting.js'

inEveryRegion('reading', (open) => {
  it('returns the value that was set', async () => {
    const { region } = open()
    await region.set('some key', 'some value')
    expect(await region.get('some key')).toBe('some value')
  })

  it('answers NO_VALUE for a key that was never stored', async () => {
    const { region } = open()
    expect(await region.get('some key')).toBe(NO_VALUE)
  })

  it('returns NO_VALUE for an absent key, for every expiration time', async () => {
    const { region } = open({ expirationTime: 10 })
    expect(await region.get('some key', { expirationTime: 10 })).toBe(NO_VALUE)
    expect(await region.get('some key', { ignoreExpiration: true })).toBe(NO_VALUE)
  })

  it('answers NO_VALUE for an absent key after an invalidation', async () => {
    const { region } = open()
    await region.invalidate()
    expect(await region.get('some key')).toBe(NO_VALUE)
  })

  it('answers several keys in their order, with NO_VALUE in the holes', async () => {
    const { region } = open()
    await region.setMulti(
      new Map([
        ['b', 2],
        ['d', 4],
        ['f', 6],
      ]),
    )
    expect(await region.getMulti(['a', 'b', 'c', 'd', 'e', 'f'])).toEqual([
      NO_VALUE,
      2,
      NO_VALUE,
      4,
      NO_VALUE,
      6,
    ])
    expect(await region.getMulti(['f', 'a', 'b'])).toEqual([6, NO_VALUE, 2])
  })

  it('answers a key as often as it is asked for', async () => {
    const { region } = open()
    await region.set('a', 1)
    expect(await region.getMulti(['a', 'b', 'a'])).toEqual([1, NO_VALUE, 1])
  })

  it('answers no keys with nothing', async () => {
    const { region } = open()
    expect(await region.getMulti([])).toEqual([])
    await region.set('a', 1)
    expect(await region.getMulti([])).toEqual([])
  })

  it('mixes expired values with fresh ones', async () => {
    const { region, clock } = open({ expirationTime: 1_000 })
    await region.set('old', 1)
    clock.tick(800)
    await region.set('new', 2)
    clock.tick(300)
    expect(await region.getMulti(['old', 'new', 'absent'])).toEqual([NO_VALUE, 2, NO_VALUE])
    expect(await region.getMulti(['old', 'new', 'absent'], { ignoreExpiration: true })).toEqual([
      1,
      2,
      NO_VALUE,
    ])
    expect(await region.getMulti(['old', 'new'], { expirationTime: 200 })).toEqual([NO_VALUE, NO_VALUE])
  })

  it('tells whether there is a fresh value', async () => {
    const { region, clock } = open({ expirationTime: 1_000 })
    expect(await region.has('a')).toBe(false)
    await region.set('a', undefined)
    expect(await region.has('a')).toBe(true)
    clock.tick(1_001)
    expect(await region.has('a')).toBe(false)
    expect(await region.has('a', { ignoreExpiration: true })).toBe(true)
  })
})

inEveryRegion('metadata', (open) => {
  it('tells payload, times and age of a value', async () => {
    const { region, clock } = open({ expirationTime: 10_000 })
    const before = clock.now()
    await region.set('key', 'value')
    clock.tick(5_000)
    const found = await region.getValueMetadata('key')
    expect(found?.payload).toBe('value')
    expect(found?.metadata.createdAt).toBe(before)
    expect(found?.age).toBe(5_000)
  })

  it('is undefined for an absent key', async () => {
    const { region } = open()
    expect(await region.getValueMetadata('key')).toBeUndefined()
  })

  it('is undefined for an expired value, unless expiration is ignored', async () => {
    const { region, clock } = open({ expirationTime: 100 })
    await region.set('key', 'value')
    clock.tick(101)
    expect(await region.getValueMetadata('key')).toBeUndefined()
    expect(await region.getValueMetadata('key', { expirationTime: 200 })).toMatchObject({ age: 101 })
    expect(await region.getValueMetadata('key', { ignoreExpiration: true })).toMatchObject({
      payload: 'value',
      age: 101,
    })
  })

  it('is undefined for a hard-invalidated value, also with `ignoreExpiration`', async () => {
    const { region } = open()
    await region.set('key', 'value')
    await region.invalidate()
    expect(await region.getValueMetadata('key', { ignoreExpiration: true })).toBeUndefined()
  })

  it('tells the age by the time at which the creator returned', async () => {
    const { region, clock } = open()
    await region.getOrCreate('key', () => {
      clock.tick(300)
      return 'slow'
    })
    clock.tick(50)
    expect(await region.getValueMetadata('key')).toMatchObject({ age: 50 })
  })
})

describe('peek', () => {
  it('answers at once over a chain that answers at once', async () => {
    const { region, clock } = openMemory<number>({ expirationTime: 100 })
    expect(region.peek('key')).toBe(NO_VALUE)
    await region.set('key', 1)
    expect(region.peek('key')).toBe(1)
    clock.tick(101)
    expect(region.peek('key')).toBe(NO_VALUE)
    expect(region.peek('key', { expirationTime: 200 })).toBe(1)
    expect(region.peek('key', { ignoreExpiration: true })).toBe(1)
    await region.invalidate()
    expect(region.peek('key', { ignoreExpiration: true })).toBe(NO_VALUE)
  })

  it('throws over an asynchronous layer, and handles the promise that it began', async () => {
    const failing = intercept((operation, proceed) =>
      operation.name === 'get' ? Promise.reject(new Error('late')) : proceed(),
    )
    for (const backend of [wrap(memory(), later), wrap(memory(), failing)])
      expect(() => makeRegion({ backend }).peek('key')).toThrow(
        expect.objectContaining({ code: 'ERR_ASYNC_BACKEND' }) as CorralError,
      )
    await turn()
  })
})

describe('a read of nothing', () => {
  it('does not reach the backend', async () => {
    const seen: string[] = []
    const region = makeRegion({
      backend: wrap(
        memory(),
        intercept((operation, proceed) => {
          seen.push(operation.name)
          return proceed()
        }),
      ),
    })
    expect(await region.getOrCreateMulti([], () => expect.unreachable())).toEqual([])
    await region.setMulti([])
    await region.deleteMulti([])
    expect(seen).toEqual([])
  })
})
