import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { dep, dependsOn, makeRegion, NO_VALUE, wrap } from '../../src/index.js'

/** A region whose stale values are never renewed, so that they are served for as long as a test looks. */
function standing() {
  let now = 1_000
  const clock = { now: () => now }
  const region = makeRegion<string>({
    name: 'dolls',
    backend: wrap(memory({ clock }), dependencies()),
    clock,
    expirationTime: 100,
    asyncCreationRunner: () => {},
  })
  return { region, pass: (ms: number) => (now += ms) }
}

describe('what is made from something stale', () => {
  it('is never stored as fresh: a part that has expired', async () => {
    const { region, pass } = standing()
    const part = () => region.getOrCreate('part', () => 'part')
    await part()
    pass(101)
    expect(await region.getOrCreate('whole', async () => `whole of ${await part()}`)).toBe('whole of part')
    expect(await region.get('whole')).toBe(NO_VALUE)
    expect(await region.get('whole', { ignoreExpiration: true })).toBe('whole of part')
  })

  it('is not stored at all: a part that was invalidated softly', async () => {
    const { region } = standing()
    const part = () =>
      region.getOrCreate('part', () => {
        dependsOn(dep.id('row', 1))
        return 'part'
      })
    await part()
    await region.invalidateDependencies(dep.id('row', 1), 'soft')
    expect(await region.getOrCreate('whole', async () => `whole of ${await part()}`)).toBe('whole of part')
    expect(await region.get('whole', { ignoreExpiration: true })).toBe(NO_VALUE)
  })
})

describe('parts that are read side by side', () => {
  it('hand up what each was made from, at any depth', async () => {
    const { region } = standing()
    const leaf = (id: number) =>
      region.getOrCreate(`leaf ${id}`, async () => {
        await new Promise((resolve) => setImmediate(resolve))
        dependsOn(dep.id('leaf', id))
        return `${id}`
      })
    const branch = (...ids: number[]) =>
      region.getOrCreate(`branch ${ids}`, async () => (await Promise.all(ids.map(leaf))).join())
    const tree = () =>
      region.getOrCreate('tree', async () => (await Promise.all([branch(1, 2), branch(3, 4)])).join())
    for (const id of [1, 2, 3, 4]) {
      expect(await tree()).toBe('1,2,3,4')
      await region.invalidateDependencies(dep.id('leaf', id))
      expect(await region.get('tree')).toBe(NO_VALUE)
      expect(await region.get(id < 3 ? 'branch 3,4' : 'branch 1,2')).not.toBe(NO_VALUE)
    }
  })
})
