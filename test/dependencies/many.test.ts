import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { CorralError, dep, dependsOn, makeRegion, NO_VALUE, wrap } from '../../src/index.js'
import { remembered } from '../../src/remembered.js'

function shop() {
  const region = makeRegion<string>({ name: 'shop', backend: wrap(memory(), dependencies()) })
  const runs: (readonly number[])[] = []
  const products = region.cacheMultiOnArguments({
    namespace: 'product',
    dependencies: (id: number) => dep.id('product', id),
    resultDependencies: (value: string) => dep.tag(value),
    group: { maker: (id: number) => id % 10 },
  })(async (...ids: number[]) => {
    runs.push(ids)
    return ids.map((id) => `colour ${id % 3}`)
  })
  return { region, products, runs }
}

describe('a function of many ids', () => {
  it('declares for each id what its value is made from', async () => {
    const { region, products, runs } = shop()
    await products(1, 2, 3)
    await region.invalidateDependencies(dep.id('product', 2))
    expect(await products(1, 2, 3)).toEqual(['colour 1', 'colour 2', 'colour 0'])
    expect(runs).toEqual([[1, 2, 3], [2]])
  })

  it('and for each value what it turned out to be made from', async () => {
    const { region, products } = shop()
    await products(1, 2, 4)
    await region.invalidateDependencies(dep.tag('colour 1'))
    expect(await products.get(1, 2, 4)).toEqual([NO_VALUE, 'colour 2', NO_VALUE])
  })

  it('joins groups by its ids', async () => {
    const { region, products } = shop()
    await products(5, 15, 6)
    await region.invalidateDependencies(dep.group('maker', 5))
    expect(await products.get(5, 15, 6)).toEqual([NO_VALUE, NO_VALUE, 'colour 0'])
  })

  it('keeps out what was invalidated while it ran, and only that', async () => {
    const region = makeRegion<number>({ name: 'r', backend: wrap(memory(), dependencies()) })
    const late = region.cacheMultiOnArguments({
      namespace: 'late',
      resultDependencies: (_: number, id: number) => dep.id('row', id),
    })(async (...ids: number[]) => {
      await region.invalidateDependencies(dep.id('row', 2))
      return ids
    })
    expect(await late(1, 2)).toEqual([1, 2])
    expect(await late.get(1, 2)).toEqual([1, NO_VALUE])
  })

  it('keeps out lists that nobody describes, and only those', async () => {
    const region = makeRegion<number>({ name: 'r', backend: wrap(memory(), dependencies()) })
    const lists = dep.scopes<{ shop: number }>('item', { mode: 'lenient' })
    const counted = region.cacheMultiOnArguments({
      namespace: 'counted',
      dependencies: (id: number) => (id === 2 ? lists.condition({ shop: id } as never) : dep.id('shop', id)),
    })(async (...ids: number[]) => ids)
    expect(await counted(1, 2)).toEqual([1, 2])
    expect(await counted.get(1, 2)).toEqual([1, NO_VALUE])
  })

  it('shares with its values what is declared for the whole creation', async () => {
    const region = makeRegion<number>({ name: 'r', backend: wrap(memory(), dependencies()) })
    const keys = ['a', 'b']
    await region.getOrCreateMulti(keys, async (missing, creation) => {
      dependsOn(dep.tag('both'))
      creation.dependsOn('a', dep.tag('a'))
      return missing.map((_, i) => i)
    })
    await region.invalidateDependencies(dep.tag('a'))
    expect(await region.getMulti(keys)).toEqual([NO_VALUE, 1])
    await region.invalidateDependencies(dep.tag('both'))
    expect(await region.get('b')).toBe(NO_VALUE)
  })

  it('refuses names of a key that is not made, or that nobody tracks', async () => {
    const tracking = makeRegion<number>({ name: 'r', backend: wrap(memory(), dependencies()) })
    await expect(
      tracking.getOrCreate('k', (creation) => {
        creation.dependsOn('other', dep.tag('t'))
        return 1
      }),
    ).rejects.toSatisfy((error) => CorralError.is(error, 'ERR_KEY'))
    const plain = makeRegion<number>({ backend: memory() })
    await expect(
      plain.getOrCreate('k', (creation) => {
        creation.dependsOn('k', dep.tag('t'))
        return 1
      }),
    ).rejects.toSatisfy((error) => CorralError.is(error, 'ERR_NO_LEDGER'))
  })

  it('needs to know as of when a value was loaded that is set by hand', async () => {
    const { products } = shop()
    await expect(products.set(new Map([[1, 'by hand']]))).rejects.toSatisfy((error) =>
      CorralError.is(error, 'ERR_AS_OF_MISSING'),
    )
  })
})

describe('refreshDependencies', () => {
  function site() {
    const store = memory()
    const open = () =>
      makeRegion<string>({ name: 'site', expirationTime: '1h', backend: wrap(store, dependencies()) })
    const region = open()
    let version = 1
    const profile = region.cacheOnArguments({
      namespace: 'profile',
      group: { user: ([id]: [number]) => id },
    })(async (id: number) => `profile ${id} v${version}`)
    const posts = region.cacheMultiOnArguments({ namespace: 'post', group: { user: (id: number) => id } })(
      async (...ids: number[]) => ids.map((id) => `posts of ${id} v${version}`),
    )
    return { region, open, profile, posts, next: () => ++version }
  }

  it('makes anew what was made of a name, and nothing else', async () => {
    const { region, profile, posts, next } = site()
    await Promise.all([profile(5), profile(7), posts(5, 7)])
    next()
    await region.refreshDependencies(dep.group('user', 5))
    expect(await profile.get(5)).toBe('profile 5 v2')
    expect(await profile.get(7)).toBe('profile 7 v1')
    expect(await posts.get(5, 7)).toEqual(['posts of 5 v2', 'posts of 7 v1'])
  })

  it('leaves what others made served as stale while one renews it', async () => {
    const { open, profile, next } = site()
    await profile(5)
    next()
    await open().refreshDependencies(dep.group('user', 5))
    expect(await profile.get(5)).toBe(NO_VALUE)
    expect(await Promise.all([profile(5), profile(5)])).toContain('profile 5 v1')
    expect(await profile.get(5)).toBe('profile 5 v2')
  })

  it('does not bring back what was removed', async () => {
    const { region, profile, next } = site()
    await profile(5)
    await profile.invalidate(5)
    next()
    await region.refreshDependencies(dep.group('user', 5))
    expect(await profile.get(5)).toBe(NO_VALUE)
  })

  it('renews all that it can, and then tells the failure of the rest', async () => {
    const region = makeRegion<string>({ name: 'r', backend: wrap(memory(), dependencies()) })
    let broken = false
    const page = region.cacheOnArguments({ namespace: 'page', dependencies: () => dep.tag('all') })(
      async (name: string) => {
        if (broken && name === 'a') throw new Error('no page')
        return `${name} ${broken}`
      },
    )
    await Promise.all([page('a'), page('b'), page('c')])
    broken = true
    await expect(region.refreshDependencies(dep.tag('all'))).rejects.toThrow('no page')
    expect(await Promise.all([page.get('b'), page.get('c')])).toEqual(['b true', 'c true'])
    expect(await region.get(page.key('a'), { ignoreExpiration: true })).toBe('a false')
  })

  it('never stores what an invalidation meanwhile has overtaken', async () => {
    const region = makeRegion<string>({ name: 'r', backend: wrap(memory(), dependencies()) })
    let during: (() => Promise<void>) | undefined
    const row = region.cacheOnArguments({ namespace: 'row', dependencies: () => dep.tag('t') })(async () => {
      await during?.()
      return 'old'
    })
    await row()
    during = () => region.invalidateDependencies(dep.tag('t'))
    await region.refreshDependencies(dep.tag('t'))
    expect(await row.get()).toBe(NO_VALUE)
  })

  it('is part of no creation that asks for it', async () => {
    const { region, profile } = site()
    await profile(5)
    const around = region.cacheOnArguments({ namespace: 'around' })(async () => {
      await region.refreshDependencies(dep.group('user', 5))
      return 'done'
    })
    await around()
    await region.invalidateDependencies(dep.group('user', 5))
    expect(await around.get()).toBe('done')
  })
})

describe('what a region remembers of its calls', () => {
  it('is the latest call of each key, up to a limit', async () => {
    const calls = remembered(3)
    const renewed: string[] = []
    const note = (key: string, ...names: string[]) =>
      calls.note(key, names, async () => void renewed.push(key))
    const renew = async (...names: string[]) => {
      renewed.length = 0
      await calls.renew(names, { getMulti: async (keys) => keys.map(() => 'there') })
      return renewed
    }
    for (const key of ['a', 'b', 'c', 'a', 'd']) note(key, 'n', key)
    expect(await renew('n')).toEqual(['c', 'a', 'd'])
    expect(await renew('b')).toEqual([])
    note('c', 'other')
    expect(await renew('n', 'other')).toEqual(['a', 'd', 'c'])
  })
})
