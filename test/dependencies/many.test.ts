import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { describe, expect, it, vi } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { prefix } from '../../proxies/prefix.js'
import { remembered } from '../../src/dependencies/call-registry.js'
import { CorralError, dep, dependsOn, makeRegion, methodOf, NO_VALUE, wrap } from '../../src/index.js'
import { held } from '../support/stage.js'
import { turn } from '../support/waiting.js'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

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
  it('declares for each id the dependencies of its value', async () => {
    const { region, products, runs } = shop()
    await products(1, 2, 3)
    await region.invalidateDependencies(dep.id('product', 2))
    expect(await products(1, 2, 3)).toEqual(['colour 1', 'colour 2', 'colour 0'])
    expect(runs).toEqual([[1, 2, 3], [2]])
  })

  it('and for each value the dependencies that it turned out to have', async () => {
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

  it('keeps out the values that were invalidated while it ran, and only those', async () => {
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

  it('keeps out lists without a description, and only those', async () => {
    const region = makeRegion<number>({ name: 'r', backend: wrap(memory(), dependencies()) })
    const lists = dep.scopes<{ shop: number }>('item', { mode: 'lenient' })
    const counted = region.cacheMultiOnArguments({
      namespace: 'counted',
      dependencies: (id: number) => (id === 2 ? lists.condition({ shop: id } as never) : dep.id('shop', id)),
    })(async (...ids: number[]) => ids)
    expect(await counted(1, 2)).toEqual([1, 2])
    expect(await counted.get(1, 2)).toEqual([1, NO_VALUE])
  })

  it('shares with its values the names that are declared for the whole creation', async () => {
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

  it('takes several names, and lists of them, like dependsOn()', async () => {
    const region = makeRegion<number>({ name: 'r', backend: wrap(memory(), dependencies()) })
    for (const name of ['a', 'b', 'c', 'd']) {
      await region.getOrCreate('k', (creation) => {
        creation.dependsOn('k', 'a', ['b', 'c'], 'd')
        return 1
      })
      await region.invalidateDependencies(name)
      expect(await region.get('k'), name).toBe(NO_VALUE)
    }
    for (const wrong of [[undefined], ['a', 5], [['a'], null]])
      await expect(
        region.getOrCreate('wrong', (creation) => {
          creation.dependsOn('wrong', ...(wrong as never[]))
          return 1
        }),
      ).rejects.toMatchObject({ code: 'ERR_OPTION' })
  })

  it('refuses names of a key that is not created, or not tracked', async () => {
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

  it('renews the entries that were made from a name, and nothing else', async () => {
    const { region, profile, posts, next } = site()
    await Promise.all([profile(5), profile(7), posts(5, 7)])
    next()
    await region.refreshDependencies(dep.group('user', 5))
    expect(await profile.get(5)).toBe('profile 5 v2')
    expect(await profile.get(7)).toBe('profile 7 v1')
    expect(await posts.get(5, 7)).toEqual(['posts of 5 v2', 'posts of 7 v1'])
  })

  it('leaves the entries of others served as stale while one caller renews them', async () => {
    const { open, profile, next } = site()
    await profile(5)
    next()
    await open().refreshDependencies(dep.group('user', 5))
    expect(await profile.get(5)).toBe(NO_VALUE)
    expect(await Promise.all([profile(5), profile(5)])).toContain('profile 5 v1')
    expect(await profile.get(5)).toBe('profile 5 v2')
  })

  it('does not bring back a removed entry', async () => {
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

  it('never stores a value that was invalidated meanwhile', async () => {
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

  it('renews functions that nest: the whole is made of the renewed parts, and none is lost', async () => {
    const { region, open } = site()
    const user = { group: { user: ([id]: [number]) => id } }
    const row = { value: 'old' }
    const inner = region.cacheOnArguments({ namespace: 'inner', ...user })(async (_id: number) => {
      const { value } = row
      await turn()
      return value
    })
    const middle = region.cacheOnArguments({ namespace: 'middle', ...user })(
      async (id: number) => `<${await inner(id)}>`,
    )
    const outer = region.cacheOnArguments({ namespace: 'outer', ...user })(
      async (id: number) => `<${await middle(id)}>`,
    )
    const far = open().cacheOnArguments({ namespace: 'far', ...user })(async (_id: number) => 'far')
    const mixed = region.cacheOnArguments({ namespace: 'mixed', ...user })(
      async (id: number) => `${await far(id)} ${await outer(id)}`,
    )
    await mixed(5)
    row.value = 'new'
    await region.refreshDependencies(dep.group('user', 5))
    expect(await Promise.all([inner, middle, outer, mixed].map((one) => one.get(5)))).toEqual([
      'new',
      '<new>',
      '<<new>>',
      'far <<new>>',
    ])
  })

  it('leaves the older value where the new one cannot be stored', async () => {
    const { region } = site()
    const tracked = makeRegion<string>({ name: 'other', backend: wrap(memory(), dependencies()) })
    let version = 1
    let foreign = false
    const page = region.cacheOnArguments({ namespace: 'page', dependencies: () => dep.tag('t') })(
      async () => {
        if (foreign) await tracked.getOrCreate('k', () => 'of another ledger')
        return `v${version}`
      },
    )
    await page()
    foreign = true
    version = 2
    await region.refreshDependencies(dep.tag('t'))
    expect(await region.get(page.key(), { ignoreExpiration: true })).toBe('v1')
  })

  it('removes the entries for which its function has no value any more', async () => {
    const { region } = site()
    let gone = false
    const page = region.cacheOnArguments({ namespace: 'page', dependencies: () => dep.tag('t') })(async () =>
      gone ? (NO_VALUE as unknown as string) : 'here',
    )
    await page()
    gone = true
    await region.refreshDependencies(dep.tag('t'))
    expect(await region.get(page.key(), { ignoreExpiration: true })).toBe(NO_VALUE)
  })

  it('of a creator by itself ends', async () => {
    const { region } = site()
    let runs = 0
    const page = region.cacheOnArguments({ namespace: 'page', dependencies: () => dep.tag('t') })(
      async () => {
        if (++runs > 20) throw new Error('endless')
        if (runs > 1) await region.refreshDependencies(dep.tag('t'))
        return `run ${runs}`
      },
    )
    await page()
    await region.invalidateDependencies(dep.tag('t'), 'soft')
    expect(await page()).toBe('run 2')
    expect(runs).toBe(2)
  })

  it('of creators by each other ends, with each made at most once more', async () => {
    const { region } = site()
    let runs = 0
    let renewing = false
    const of = (own: string, other: string) =>
      region.cacheOnArguments({ namespace: own, dependencies: () => dep.tag(own) })(async () => {
        if (++runs > 50) throw new Error('endless')
        if (renewing) await region.refreshDependencies(dep.tag(other))
        return `${own} of run ${runs}`
      })
    const [a, b] = [of('a', 'b'), of('b', 'a')]
    await Promise.all([a(), b()])
    for (const begin of [
      () => region.refreshDependencies(dep.tag('a')),
      () => a.refresh(),
      () => region.invalidateDependencies(dep.tag('a')).then(() => a()),
      () => Promise.all([a.refresh(), b.refresh()]),
    ]) {
      renewing = false
      await Promise.all([a(), b()])
      runs = 0
      renewing = true
      await begin()
      expect(runs).toBeLessThanOrEqual(4)
    }
  })

  it('of many creators by one name that each of them refreshes is done once, not once for each of them', async () => {
    const { region } = site()
    let runs = 0
    let renewing = false
    const pages = Array.from({ length: 6 }, (_, i) =>
      region.cacheOnArguments({ namespace: `page ${i}`, dependencies: () => dep.tag('t') })(async () => {
        if (++runs > 100) throw new Error('endless')
        if (renewing) await region.refreshDependencies(dep.tag('t'))
        return `${i}`
      }),
    )
    for (const page of pages) await page()
    runs = 0
    renewing = true
    await region.refreshDependencies(dep.tag('t'))
    expect(runs).toBeLessThanOrEqual(6)
    await pages[0]?.refresh()
    expect(runs).toBeLessThanOrEqual(12)
    renewing = false
    expect(await Promise.all(pages.map((page) => page()))).toEqual(['0', '1', '2', '3', '4', '5'])
  })

  it('of a creator may read a key that is being created, and waits for nothing that waits for it', async () => {
    const { region } = site()
    let runs = 0
    const b: { read?: () => Promise<string> } = {}
    const a = region.cacheOnArguments({ namespace: 'a', dependencies: () => dep.tag('a') })(async () => {
      if (++runs > 50) throw new Error('endless')
      await region.refreshDependencies(dep.tag('b'))
      return 'a'
    })
    b.read = region.cacheOnArguments({ namespace: 'b', dependencies: () => dep.tag('b') })(async () => {
      if (++runs > 50) throw new Error('endless')
      return runs === 1 ? 'b' : `b of ${await a()}`
    })
    await b.read()
    expect(await a()).toBe('a')
    await a.invalidate()
    expect(await Promise.all([a(), a(), b.read()])).toEqual(['a', 'a', 'b of a'])
  })

  it('of creators that refresh each other by themselves is an error, not endless', async () => {
    const { region } = site()
    let runs = 0
    const b: { refresh?: () => Promise<string> } = {}
    const a = region.cacheOnArguments({ namespace: 'a' })(async () => {
      if (++runs > 50) throw new Error('endless')
      await b.refresh?.()
      return 'a'
    })
    const second = region.cacheOnArguments({ namespace: 'b', dependencies: () => dep.tag('b') })(async () => {
      if (++runs > 50) throw new Error('endless')
      if (runs > 1) await a.refresh()
      return 'b'
    })
    await second()
    b.refresh = () => region.refreshDependencies(dep.tag('b')).then(() => 'done')
    await expect(a()).rejects.toMatchObject({ code: 'ERR_CREATION_CYCLE' })
    expect(runs).toBe(3)
  })

  it('that is over does not count as under way for the work that it left behind', async () => {
    const { region } = site()
    let version = 1
    const { create, resolve } = held<void>()
    const part = region.cacheOnArguments({ namespace: 'part', dependencies: () => dep.tag('p') })(
      async () => `part ${version}`,
    )
    const { create: createAgain, resolve: resolveAgain } = held<void>()
    const renew = () => region.refreshDependencies(dep.tag('p'))
    const between = region.cacheOnArguments({ namespace: 'b', dependencies: () => dep.tag('b') })(
      async () => {
        if (version === 2) await createAgain().then(renew)
        return 'between'
      },
    )
    let left: Promise<unknown> | undefined
    const page = region.cacheOnArguments({ namespace: 'page', dependencies: () => dep.tag('p') })(
      async () => {
        if (version === 2)
          left ??= Promise.all([create().then(renew), region.refreshDependencies(dep.tag('b'))])
        return `page ${version}`
      },
    )
    await Promise.all([part(), page(), between()])
    version = 2
    await region.refreshDependencies(dep.tag('p'))
    for (const [next, go] of [
      [3, resolve],
      [4, resolveAgain],
    ] as const) {
      version = next
      go()
      await vi.waitFor(async () =>
        expect(await Promise.all([part.get(), page.get()])).toEqual([`part ${next}`, `page ${next}`]),
      )
    }
    await left
  })

  it('keeps regions over one chain apart, whose keys are the same under prefixes', async () => {
    const shared = wrap(memory(), dependencies())
    const runs = { a: 0, b: 0 }
    const open = (name: 'a' | 'b') => {
      const region = makeRegion<number>({ name, backend: wrap(shared, prefix(`${name}:`)) })
      const user = region.cacheOnArguments({
        namespace: 'user',
        dependencies: (id: number) => dep.id('user', id),
      })(async (_id: number) => ++runs[name])
      return { region, user }
    }
    const [a, b] = [open('a'), open('b')]
    await Promise.all([a.user(5), b.user(5)])
    await a.region.refreshDependencies(dep.id('user', 5))
    expect(runs).toEqual({ a: 2, b: 1 })
    expect(await a.user.get(5)).toBe(2)
  })

  it('refuses a version, which no invalidation reaches', async () => {
    const { region } = site()
    const schema = dep.version('refresh-schema', () => 1)
    await expect(region.refreshDependencies(schema())).rejects.toSatisfy((error) =>
      CorralError.is(error, 'ERR_VERSION'),
    )
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

describe('the calls that a region remembers', () => {
  it('keeps no instance alive', async () => {
    const region = makeRegion<number>({ name: 'methods', backend: wrap(memory(), dependencies()) })
    class Shop {
      static made = 0
      constructor(readonly id: number) {}
      @region.cacheOnArguments({
        namespace: 'count',
        self: (shop: Shop) => shop.id,
        dependencies: () => dep.tag('shops'),
      })
      async count(): Promise<number> {
        return ++Shop.made
      }
    }
    const kept = new Shop(0)
    await kept.count()
    const gone: WeakRef<Shop>[] = []
    for (let id = 1; id <= 20; id++) {
      const shop = new Shop(id)
      await shop.count()
      gone.push(new WeakRef(shop))
    }
    for (let i = 0; i < 10 && gone.some((shop) => shop.deref() !== undefined); i++) {
      await turn()
      collect()
    }
    // The last one may still be on the stack.
    expect(gone.filter((shop) => shop.deref() !== undefined).length).toBeLessThan(3)
    await region.refreshDependencies(dep.tag('shops'))
    expect(Shop.made).toBeLessThan(25)
    expect(await methodOf(kept, 'count').get()).toBe(22)
  })

  it('is the latest call of each key, up to a limit', async () => {
    const calls = remembered(3)
    const renewed: string[] = []
    const note = (key: string, ...names: string[]) =>
      calls.record(key, names, async () => renewed.push(key) > 0)
    const renew = async (...names: string[]) => {
      renewed.length = 0
      await calls.repeat(calls.keys(names), { getMulti: async (keys) => keys.map(() => 'there') }, () => {})
      return renewed
    }
    for (const key of ['a', 'b', 'c', 'a', 'd']) note(key, 'n', key)
    expect(await renew('n')).toEqual(['c', 'a', 'd'])
    expect(await renew('b')).toEqual([])
    note('c', 'other')
    expect(await renew('n', 'other')).toEqual(['a', 'd', 'c'])
  })
})
