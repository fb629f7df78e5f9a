import { describe, expect, it } from 'vitest'
import { NO_VALUE } from '../../src/index.js'
import { held, inEveryRegion, open as openMemory } from '../support/stage.js'

inEveryRegion('writing', (open) => {
  it('replaces a value', async () => {
    const { region } = open()
    expect(await region.set('key', 1)).toBe('stored')
    expect(await region.set('key', 2)).toBe('stored')
    expect(await region.get('key')).toBe(2)
  })

  it('stores several values, read one by one or together', async () => {
    const { region } = open()
    expect(
      await region.setMulti([
        ['a', 1],
        ['b', 2],
        ['c', 3],
      ]),
    ).toEqual(['stored', 'stored', 'stored'])
    expect(await region.get('a')).toBe(1)
    expect(await region.get('b')).toBe(2)
    expect(await region.getMulti(['c', 'b', 'a', 'd'])).toEqual([3, 2, 1, NO_VALUE])
  })

  it('takes any iterable of pairs, and leaves it as it was', async () => {
    const { region } = open()
    const values = new Map([
      ['a', { n: 1 }],
      ['b', { n: 2 }],
    ])
    await region.setMulti(values)
    expect([...values]).toEqual([
      ['a', { n: 1 }],
      ['b', { n: 2 }],
    ])
    const pairs = Object.freeze([Object.freeze(['c', 3] as const)])
    await region.setMulti(pairs)
    expect(await region.get('c')).toBe(3)
  })

  it('stores nothing when given nothing', async () => {
    const { region } = open()
    expect(await region.setMulti(new Map())).toEqual([])
  })

  it('removes a key, twice if asked', async () => {
    const { region } = open()
    await region.set('key', 1)
    await region.delete('key')
    expect(await region.get('key')).toBe(NO_VALUE)
    await region.delete('key')
    expect(await region.get('key')).toBe(NO_VALUE)
  })

  it('removes several keys, of which some are absent', async () => {
    const { region } = open()
    await region.setMulti([
      ['a', 1],
      ['b', 2],
      ['c', 3],
    ])
    await region.deleteMulti(['a', 'x', 'c', 'y'])
    expect(await region.getMulti(['a', 'b', 'c', 'x'])).toEqual([NO_VALUE, 2, NO_VALUE, NO_VALUE])
  })

  it('removes nothing when given nothing', async () => {
    const { region } = open()
    await region.set('key', 1)
    await region.deleteMulti([])
    expect(await region.get('key')).toBe(1)
  })

  it('gives an entry its own expiration time', async () => {
    const { region, clock } = open({ expirationTime: 1_000 })
    await region.set('short', 1, { expirationTime: 100 })
    await region.setMulti([['long', 2]], { expirationTime: 5_000 })
    await region.set('regional', 3)
    clock.tick(101)
    expect(await region.getMulti(['short', 'long', 'regional'])).toEqual([NO_VALUE, 2, 3])
    clock.tick(1_000)
    expect(await region.getMulti(['short', 'long', 'regional'])).toEqual([NO_VALUE, 2, NO_VALUE])
    expect(await region.get('long', { expirationTime: 1_000 })).toBe(NO_VALUE)
  })
})

describe('a value that is set during a creation', () => {
  it('stays, and the creation does not overwrite it', async () => {
    const { region } = openMemory<string>()
    const creator = held<string>()
    const created = region.getOrCreate('key', creator.create)
    await creator.started
    await region.set('key', 'set')
    creator.resolve('created')
    expect(await created).toBe('created')
    expect(await region.get('key')).toBe('set')
  })
})
