import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { prefix } from '../../proxies/prefix.js'
import { CorralError, dep, dependsOn, makeRegion, NO_VALUE, wrap } from '../../src/index.js'
import { held } from '../support/stage.js'
import { turn } from '../support/waiting.js'

function site() {
  const store = memory()
  const region = makeRegion<string>({ name: 'site', backend: wrap(store, dependencies(), prefix('site:')) })
  let count = 0
  const profile = region.cacheOnArguments({ namespace: 'profile', group: { user: ([id]: [number]) => id } })(
    async (id: number) => `profile ${id} ${count++}`,
  )
  const friends = region.cacheOnArguments({
    namespace: 'friends',
    dependencies: (id: number, page: number) => dep.tag(`friends-page-${page}-of-${id}`),
    group: { user: ([id, other]: [number, number]) => [id, other] },
  })(async (id: number, other: number) => `friends ${id} ${other} ${count++}`)
  const search = region.cacheOnArguments({
    namespace: 'search',
    resultDependencies: (found: string) => found.split(' ').map((id) => dep.id('user', id)),
  })(async (text: string) => text)
  return { store, region, profile, friends, search }
}

describe('groups', () => {
  it('invalidate all that has to do with one member, in every function', async () => {
    const { region, profile, friends } = site()
    await Promise.all([profile(5), profile(7), friends(7, 5), friends(7, 8)])
    await region.invalidateDependencies(dep.group('user', 5))
    expect(await profile.get(5)).toBe(NO_VALUE)
    expect(await friends.get(7, 5)).toBe(NO_VALUE)
    expect(await profile.get(7)).not.toBe(NO_VALUE)
    expect(await friends.get(7, 8)).not.toBe(NO_VALUE)
  })

  it('reach functions that this region object never called', async () => {
    const { store, profile } = site()
    await profile(5)
    const other = makeRegion<string>({ name: 'site', backend: wrap(store, dependencies(), prefix('site:')) })
    await other.invalidateDependencies(dep.group('user', 5))
    expect(await profile.get(5)).toBe(NO_VALUE)
  })

  it('softly: the old value is served while one renews', async () => {
    const { region, profile } = site()
    const before = await profile(5)
    await region.invalidateDependencies(dep.group('user', '5'), 'soft')
    expect(await profile.get(5)).toBe(NO_VALUE)
    const served = await Promise.all([profile(5), profile(5)])
    expect(served).toContain(before)
    expect(await profile.get(5)).not.toBe(before)
  })
})

describe('declared dependencies', () => {
  it('may come from the arguments or from the result', async () => {
    const { region, friends, search } = site()
    await Promise.all([friends(1, 2), search('3 4')])
    await region.invalidateDependencies([dep.tag('friends-page-2-of-1'), dep.id('user', 4)])
    expect(await friends.get(1, 2)).toBe(NO_VALUE)
    expect(await search.get('3 4')).toBe(NO_VALUE)
  })

  it('need to know as of when a value was loaded that is set by hand', async () => {
    const { region, profile } = site()
    await expect(profile.set('by hand', 9)).rejects.toSatisfy((error) =>
      CorralError.is(error, 'ERR_AS_OF_MISSING'),
    )
    const asOf = await region.asOf()
    await region.set(profile.key(9), 'by hand', { dependencies: [dep.group('user', 9)], asOf })
    expect(await profile.get(9)).toBe('by hand')
    await region.invalidateDependencies(dep.group('user', 9))
    expect(await profile.get(9)).toBe(NO_VALUE)
  })

  it('that were invalidated while the creator ran keep its value out, also when only the result told them', async () => {
    const region = makeRegion<string>({ name: 'late', backend: wrap(memory(), dependencies()) })
    const found = region.cacheOnArguments({
      namespace: 'found',
      resultDependencies: (id: string) => dep.id('row', id),
    })(async () => {
      await region.invalidateDependencies(dep.id('row', 'r'))
      return 'r'
    })
    expect(await found()).toBe('r')
    expect(await found.get()).toBe(NO_VALUE)
  })

  it('with data that was loaded before it is put', async () => {
    const region = makeRegion<string>({ name: 'put', backend: wrap(memory(), dependencies()) })
    const asOf = await region.asOf()
    expect(await region.set('early', 'v', { dependencies: dep.id('row', 1), asOf })).toBe('stored')
    await region.invalidateDependencies(dep.id('row', 1))
    expect(await region.get('early')).toBe(NO_VALUE)
    await region.set('late', 'older')
    expect(await region.set('late', 'v', { dependencies: [dep.id('row', 1)], asOf })).toBe('refused')
    expect(await region.get('late')).toBe(NO_VALUE)
    await expect(region.set('k', 'v', { dependencies: [dep.id('row', 1)] })).rejects.toSatisfy((error) =>
      CorralError.is(error, 'ERR_AS_OF_MISSING'),
    )
  })

  it('need a region that tracks them', async () => {
    const region = makeRegion<string>({ backend: memory() })
    const wrong = region.cacheOnArguments({ namespace: 'n', group: { user: ([id]: [number]) => id } })(
      async (id: number) => `${id}`,
    )
    await expect(wrong(1)).rejects.toSatisfy((error) => CorralError.is(error, 'ERR_NO_LEDGER'))
    await expect(region.invalidateDependencies(dep.tag('x'))).rejects.toSatisfy((error) =>
      CorralError.is(error, 'ERR_NO_LEDGER'),
    )
  })
})

describe('russian dolls', () => {
  function dolls() {
    const store = memory()
    const chain = () => wrap(store, dependencies(), prefix('d:'))
    const users = makeRegion<string>({ name: 'users', backend: chain() })
    const pages = makeRegion<string>({
      name: 'pages',
      backend: wrap(store, dependencies(), prefix('p:')),
      expirationTime: '1h',
    })
    const runs = { user: 0, page: 0, front: 0 }
    const user = users.cacheOnArguments({ namespace: 'user', group: { user: ([id]: [number]) => id } })(
      async (id: number) => {
        runs.user++
        return `user ${id}`
      },
    )
    const page = pages.cacheOnArguments({ namespace: 'page' })(async (...ids: number[]) => {
      runs.page++
      return (await Promise.all(ids.map((id) => user(id)))).join(' and ')
    })
    const front = pages.cacheOnArguments({ namespace: 'front' })(async () => {
      runs.front++
      return `front: ${await page(1, 2)}`
    })
    return { users, pages, user, page, front, runs }
  }

  it('fall together, and are rebuilt without making the valid ones again', async () => {
    const { users, front, runs } = dolls()
    await front()
    expect(runs).toEqual({ user: 2, page: 1, front: 1 })
    await users.invalidateDependencies(dep.group('user', 2))
    await front()
    expect(runs).toEqual({ user: 3, page: 2, front: 2 })
  })

  it('fall with the region of a part', async () => {
    const { users, front, runs } = dolls()
    await front()
    await users.invalidate()
    await front()
    expect(runs).toEqual({ user: 4, page: 2, front: 2 })
  })

  it('live no longer than their parts', async () => {
    let now = 1_000
    const clock = { now: () => now }
    const region = makeRegion<string>({
      name: 'r',
      backend: wrap(memory({ clock }), dependencies()),
      clock,
      expirationTime: 1_000,
    })
    const part = () => region.getOrCreate('part', () => 'part', { expirationTime: 1_000 })
    await part()
    now += 900
    await region.getOrCreate('whole', async () => `whole of ${await part()}`)
    now += 101
    expect(await region.get('whole')).toBe(NO_VALUE)
  })

  it.each([-86_400_000, 86_400_000])(
    'live as long as their parts, by whatever clock: %i ms off',
    async (off) => {
      const backend = wrap(memory(), dependencies())
      let now = Date.now()
      const options = { backend, expirationTime: 1_000 }
      const parts = makeRegion<string>({ name: 'parts', ...options, clock: { now: () => now + off } })
      const wholes = makeRegion<string>({ name: 'wholes', ...options, clock: { now: () => now } })
      const whole = () =>
        wholes.getOrCreate('whole', async () => `whole of ${await parts.getOrCreate('part', () => 'part')}`)
      await parts.getOrCreate('part', () => 'part')
      now += 900
      await whole()
      now += 50
      expect(await wholes.get('whole')).toBe('whole of part')
      now += 51
      expect(await wholes.get('whole')).toBe(NO_VALUE)
    },
  )

  it('of another ledger are not stored, and the channel says why', async () => {
    const one = makeRegion<string>({ name: 'one', backend: wrap(memory(), dependencies()) })
    const other = makeRegion<string>({ name: 'other', backend: wrap(memory(), dependencies()) })
    const value = await one.getOrCreate(
      'k',
      async () => `made from ${await other.getOrCreate('k', () => 'part')}`,
    )
    expect(value).toBe('made from part')
    expect(await one.get('k')).toBe(NO_VALUE)
  })

  it('count the names that a creator only declares', async () => {
    const region = makeRegion<number>({ name: 'r', backend: wrap(memory(), dependencies()) })
    await region.getOrCreate('k', () => {
      dependsOn(dep.tag('a'), [dep.tag('n', 'b')], dep.id('Order', 1, 2))
      return 1
    })
    await region.invalidateDependencies(dep.id('Order', 1, 2))
    expect(await region.get('k')).toBe(NO_VALUE)
  })
})

describe('a batch of which some keys are made later', () => {
  it('declares the dependencies of every one of them', async () => {
    const store = memory()
    const [one, other] = ['a', 'b'].map(() =>
      makeRegion<string>({ name: 'batch', backend: wrap(store, dependencies()) }),
    )
    const creator = held<string>()
    const create = (key: string) => {
      dependsOn(dep.id('row', key))
      return `made ${key}`
    }
    const blocking = one?.getOrCreate('x', creator.create)
    await turn()
    const batch = other?.getOrCreateMulti(['w', 'x'], (keys) => keys.map(create))
    await turn()
    creator.reject(new Error('boom'))
    await expect(blocking).rejects.toThrow('boom')
    expect(await batch).toEqual(['made w', 'made x'])
    await one?.invalidateDependencies(dep.id('row', 'x'))
    expect(await other?.get('x')).toBe(NO_VALUE)
    expect(await other?.get('w')).toBe('made w')
  })
})
