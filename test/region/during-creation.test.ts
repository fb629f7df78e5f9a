import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { makeRegion, NO_VALUE, type Region } from '../../src/index.js'
import { held, inEveryRegion, open as openMemory } from '../support/stage.js'
import { isPending } from '../support/waiting.js'

type Invalidation = readonly [name: string, invalidate: (region: Region<string>) => Promise<unknown>]

const HARD: readonly Invalidation[] = [
  ['delete', (region) => region.delete('key')],
  ['deleteMulti', (region) => region.deleteMulti(['other', 'key'])],
  ['invalidate', (region) => region.invalidate()],
]
const SOFT: readonly Invalidation[] = [
  ['expire', (region) => region.expire('key')],
  ['invalidate soft', (region) => region.invalidate('soft')],
]

inEveryRegion('an invalidation during a creation', (open) => {
  it('is not undone by the creation of a missing key', async () => {
    for (const [name, invalidate] of [...HARD, ...SOFT]) {
      const { region } = open<string>()
      const creator = held<string>()
      const leader = region.getOrCreate('key', creator.create)
      await creator.started
      await invalidate(region)
      creator.resolve('made before')
      expect(await leader, name).toBe('made before')
      expect(await region.get('key'), name).toBe(NO_VALUE)
      expect(await region.getOrCreate('key', () => 'made after'), name).toBe('made after')
      expect(await region.keyIsLocked('key'), name).toBe(false)
    }
  })

  it('is not undone by the renewal of a stale key', async () => {
    for (const [name, invalidate] of HARD) {
      const { region, clock } = open<string>({ expirationTime: 100 })
      await region.set('key', 'stale')
      clock.tick(101)
      const creator = held<string>()
      const leader = region.getOrCreate('key', creator.create)
      await creator.started
      await invalidate(region)
      creator.resolve('made before')
      await leader
      expect(await region.get('key', { ignoreExpiration: true }), name).toBe(NO_VALUE)
    }
  })

  it('is not undone by the creation of several keys, of which the others are stored', async () => {
    for (const [name, invalidate] of HARD.filter(([name]) => name !== 'invalidate')) {
      const { region } = open<string>()
      const creator = held<readonly string[]>()
      const leader = region.getOrCreateMulti(['key', 'neighbour'], creator.create)
      await creator.started
      await invalidate(region)
      creator.resolve(['made before', 'withheld'])
      expect(await leader, name).toEqual(['made before', 'withheld'])
      expect(await region.getMulti(['key', 'neighbour']), name).toEqual([NO_VALUE, 'withheld'])
    }
  })

  it('of the whole region is not undone by the creation of several keys', async () => {
    const { region } = open<string>()
    const creator = held<readonly string[]>()
    const leader = region.getOrCreateMulti(['a', 'b'], creator.create)
    await creator.started
    await region.invalidate()
    creator.resolve(['1', '2'])
    await leader
    expect(await region.getMulti(['a', 'b'])).toEqual([NO_VALUE, NO_VALUE])
  })

  it('lets a caller after it have only a newer value', async () => {
    for (const [name, invalidate] of HARD) {
      const { region } = open<string>()
      const first = held<string>()
      const leader = region.getOrCreate('key', first.create)
      await first.started
      await invalidate(region)
      const second = held<string>()
      const after = region.getOrCreate('key', second.create)
      expect(await isPending(after), name).toBe(true)
      first.resolve('made before')
      expect(await leader, name).toBe('made before')
      second.resolve('made after')
      expect(await after, name).toBe('made after')
      expect(await region.get('key'), name).toBe('made after')
    }
  })

  it('of a soft kind never stores the older value as fresh', async () => {
    for (const [name, invalidate] of SOFT) {
      const { region, clock } = open<string>({ expirationTime: 100 })
      await region.set('key', 'stale')
      clock.tick(101)
      const creator = held<string>()
      const leader = region.getOrCreate('key', creator.create)
      await creator.started
      await invalidate(region)
      creator.resolve('made before')
      await leader
      expect(await region.get('key'), name).toBe(NO_VALUE)
    }
  })

  it('leaves no lease behind, for every outcome of the creator', async () => {
    for (const [name, invalidate] of [...HARD, ...SOFT]) {
      const { region } = open<string>()
      const creator = held<string>()
      const leader = region.getOrCreate('key', creator.create)
      leader.catch(() => {})
      await creator.started
      await invalidate(region)
      creator.reject(new Error('boom'))
      await expect(leader, name).rejects.toThrow('boom')
      expect(await region.keyIsLocked('key'), name).toBe(false)
    }
  })
})

describe('replacing the backend while a creator runs', () => {
  it('lets it finish against the former backend', async () => {
    const former = memory()
    const region = makeRegion<string>({ backend: former })
    const creator = held<string>()
    const created = region.getOrCreate('key', creator.create)
    await creator.started
    region.configure({ backend: memory(), replaceExistingBackend: true })
    expect(await region.keyIsLocked('key')).toBe(false)
    expect(await region.getOrCreate('key', () => 'in the new one')).toBe('in the new one')
    creator.resolve('in the former one')
    expect(await created).toBe('in the former one')
    expect(await region.get('key')).toBe('in the new one')
    expect(former.get('key')).toMatchObject({ payload: 'in the former one' })
  })
})

describe('joiners of a creation that was invalidated', () => {
  it('start over, and share the one creation that follows', async () => {
    const { region } = openMemory<string>()
    const first = held<string>()
    const leader = region.getOrCreate('key', first.create)
    await first.started
    const second = held<string>()
    await region.delete('key')
    const joiners = [1, 2, 3].map(() => region.getOrCreate('key', second.create))
    first.resolve('made before')
    expect(await leader).toBe('made before')
    await second.started
    second.resolve('made after')
    expect(await Promise.all(joiners)).toEqual(['made after', 'made after', 'made after'])
    expect(second.runs).toBe(1)
  })
})
