/** The promises of docs/dependencies.md, on every store: written in one process, invalidated and read in another. */
import { expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { dep, dependsOn, type LedgerTime, makeRegion, NO_VALUE, wrap } from '../../src/index.js'
import { onStores } from './stores.js'

interface Book {
  readonly category: string
  readonly published: boolean
}
const describeBooks = (mode: 'strict' | 'lenient' = 'strict') =>
  dep
    .scopes<Book>('book', { mode })
    .describes(['category'], ({ category }) => ({ category }))
    .describes(['published', 'category'], ({ category, published }) =>
      published ? { published, category } : undefined,
    )
    .describes([], () => ({}))

onStores('all', 'a group', (at) => {
  it('falls with one member, in functions that the other process never called', async () => {
    const [region, other] = at().regions<string>()
    const user = { group: { user: ([id]: [number]) => id } }
    const profile = region.cacheOnArguments({ namespace: 'profile', ...user })(async (id: number) => `p${id}`)
    const friends = region.cacheOnArguments({
      namespace: 'friends',
      group: { user: ([id, friend]: [number, number]) => [id, friend] },
    })(async (id: number, friend: number) => `${id} ${friend}`)
    const posts = region.cacheMultiOnArguments({ namespace: 'posts', group: { user: (id: number) => id } })(
      async (...ids: number[]) => ids.map((id) => `posts of ${id}`),
    )
    await Promise.all([profile(5), profile(7), friends(7, 5), friends(7, 8), posts(5, 7)])
    await other.invalidateDependencies(dep.group('user', '5'))
    expect([await profile.get(5), await friends.get(7, 5)]).toEqual([NO_VALUE, NO_VALUE])
    expect([await profile.get(7), await friends.get(7, 8)]).toEqual(['p7', '7 8'])
    expect(await posts.get(5, 7)).toEqual([NO_VALUE, 'posts of 7'])
  })

  it('that is invalidated softly is served while one renews, and is renewed by a refresh', async () => {
    const [region, other] = at().regions<string>()
    let version = 1
    const profile = region.cacheOnArguments({ namespace: 'p', group: { user: ([id]: [number]) => id } })(
      async (id: number) => `${id} v${version}`,
    )
    await Promise.all([profile(5), profile(7)])
    version = 2
    await other.invalidateDependencies(dep.group('user', 5), 'soft')
    expect(await profile.get(5)).toBe(NO_VALUE)
    expect(await region.get(profile.key(5), { ignoreExpiration: true })).toBe('5 v1')
    await profile(5)
    expect(await profile(5)).toBe('5 v2')
    version = 3
    await region.refreshDependencies(dep.group('user', 5))
    expect([await profile.get(5), await profile.get(7)]).toEqual(['5 v3', '7 v1'])
  })
})

onStores('all', 'names that are declared', (at) => {
  it('ahead, after, inside or with the data are equally safe from invalidations during the creation', async () => {
    const [region, other] = at().regions<number>()
    let during: (name: string) => Promise<void> | undefined = () => undefined
    const make = async (name: string) => {
      await during(name)
      return 1
    }
    const ahead = region.cacheOnArguments({ namespace: 'ahead', dependencies: () => dep.tag('ahead') })(() =>
      make(dep.tag('ahead')),
    )
    const after = region.cacheOnArguments({ namespace: 'after', resultDependencies: () => dep.tag('after') })(
      () => make(dep.tag('after')),
    )
    const inside = region.cacheOnArguments({ namespace: 'inside' })(async () => {
      const made = await make(dep.tag('inside'))
      dependsOn(dep.tag('inside'))
      return made
    })
    const put = async () => {
      const asOf = await region.asOf()
      const made = await make(dep.tag('put'))
      await region.set('put', made, { dependencies: [dep.tag('put')], asOf })
    }
    const all = [ahead, after, inside, put]
    const left = async () => [
      ...(await Promise.all([ahead.get(), after.get(), inside.get()])),
      await region.get('put'),
    ]
    during = (name) => other.invalidateDependencies(name)
    for (const one of all) await one()
    expect(await left()).toEqual(all.map(() => NO_VALUE))
    during = () => other.invalidateDependencies(dep.tag('unrelated'))
    for (const one of all) await one()
    expect(await left()).toEqual([1, 1, 1, 1])
  })
})

onStores('all', 'a moment', (at) => {
  it('of another ledger, or of a clock that was lost since, has everything refused', async () => {
    const { regions, loseClock } = at()
    const [region, other] = regions<number>()
    const elsewhere = makeRegion<number>({ name: 'elsewhere', backend: wrap(memory(), dependencies()) })
    const put = (asOf: LedgerTime) => region.set('k', 1, { dependencies: [dep.tag('t')], asOf })
    expect(await put(await elsewhere.asOf())).toBe('refused')
    expect(await region.get('k')).toBe(NO_VALUE)
    const asOf = await region.asOf()
    // Moments travel between processes as JSON.
    expect(await put(JSON.parse(JSON.stringify(asOf)) as LedgerTime)).toBe('stored')
    expect(await other.get('k')).toBe(1)
    await loseClock?.()
    if (loseClock !== undefined) expect(await put(asOf)).toBe('refused')
    await other.invalidateDependencies(dep.tag('t'))
    expect(await put(asOf)).toBe('refused')
    expect([await region.get('k'), await other.get('k')]).toEqual([NO_VALUE, NO_VALUE])
  })
})

onStores('all', 'russian dolls', (at) => {
  it('fall with any part, through regions and side by side, and leave the valid parts alone', async () => {
    const site = at()
    const [rows, elsewhere] = site.regions<string>()
    const pages = site.another<string>()
    const runs = { row: 0, page: 0, front: 0 }
    const row = rows.cacheOnArguments({ namespace: 'row', dependencies: (id: number) => dep.id('row', id) })(
      async (id: number) => `${id}.${runs.row++}`,
    )
    const page = pages.cacheOnArguments({ namespace: 'page' })(async (...ids: number[]) => {
      runs.page++
      return (await Promise.all(ids.map((id) => row(id)))).join()
    })
    const front = pages.cacheOnArguments({ namespace: 'front' })(async () => {
      runs.front++
      return (await Promise.all([page(1, 2), page(3)])).join('|')
    })
    await front()
    expect(runs).toEqual({ row: 3, page: 2, front: 1 })
    await elsewhere.invalidateDependencies(dep.id('row', 2))
    expect(await front.get()).toBe(NO_VALUE)
    await front()
    expect(runs).toEqual({ row: 4, page: 3, front: 2 })
    expect(await front.get()).not.toBe(NO_VALUE)
    await elsewhere.invalidate()
    expect([await front.get(), await page.get(3)]).toEqual([NO_VALUE, NO_VALUE])
  })

  it('of a part that falls while the whole is made are not stored', async () => {
    const site = at()
    const [rows, elsewhere] = site.regions<string>()
    const pages = site.another<string>()
    const part = () =>
      rows.getOrCreate('part', () => {
        dependsOn(dep.id('row', 1))
        return 'part'
      })
    // A hit, so that its names are as old as it is.
    await part()
    await pages.getOrCreate('whole', async () => {
      const made = await part()
      await elsewhere.invalidateDependencies(dep.id('row', 1))
      return made
    })
    expect(await pages.get('whole')).toBe(NO_VALUE)
  })

  it('live no longer than their parts', async () => {
    const site = at()
    let now = Date.now()
    const [region] = site.regions<string>({ clock: { now: () => now } })
    await region.set('part', 'part', { expirationTime: '10m' })
    now += 9 * 60_000
    await region.getOrCreate('whole', async () => `whole of ${await region.getOrCreate('part', () => 'new')}`)
    expect(await region.get('whole')).toBe('whole of part')
    now += 61_000
    expect(await region.get('whole')).toBe(NO_VALUE)
  })
})

onStores('all', 'scopes', (at) => {
  function shelf() {
    const [region, other] = at().regions<number>()
    const scopes = describeBooks()
    const options = (namespace: string) => ({
      namespace,
      dependencies: (category: string) => scopes.condition({ category }),
    })
    const inCategory = region.cacheOnArguments(options('in'))(async (_category: string) => 1)
    const published = region.cacheOnArguments({
      namespace: 'published',
      dependencies: (category: string) => scopes.condition({ category, published: true }),
    })(async (_category: string) => 1)
    const all = region.cacheOnArguments({ namespace: 'all', dependencies: () => scopes.condition({}) })(
      async () => 1,
    )
    const fill = () => Promise.all([inCategory('a'), inCategory('b'), published('a'), published('b'), all()])
    const left = async () =>
      (
        await Promise.all([
          inCategory.get('a'),
          inCategory.get('b'),
          published.get('a'),
          published.get('b'),
          all.get(),
        ])
      )
        .map((value) => (value === NO_VALUE ? '-' : '+'))
        .join('')
    return { other, scopes, fill, left }
  }
  const [a, b] = [
    { category: 'a', published: true },
    { category: 'b', published: true },
  ]

  it.each<[string, Book, object, string]>([
    ['that enters', a, { created: true }, '-+-+-'],
    ['that enters and is left out by an extractor', { ...a, published: false }, { created: true }, '-+++-'],
    ['that moves', b, { before: a, modified: ['category'] }, '----+'],
    [
      'that leaves by another field',
      { ...a, published: false },
      { before: a, modified: ['published'] },
      '++-++',
    ],
    ['that is deleted', a, { before: a }, '-+-+-'],
    ['that changes in what no list is about', a, { before: a, modified: ['title'] }, '+++++'],
    ['of which nobody says what it was', b, {}, '-----'],
    ['of which a field changed, nobody says from what', b, { modified: ['published'] }, '++--+'],
  ])('notice an item %s', async (_, item, change, expected) => {
    const { other, scopes, fill, left } = shelf()
    await fill()
    expect(await left()).toBe('+++++')
    await scopes.invalidateFor(item, other, change)
    expect(await left()).toBe(expected)
  })

  it('whose extractor fails take all lists of the kind: strict ones say so, lenient ones report it', async () => {
    const broken = () => {
      throw new Error('no such column')
    }
    for (const mode of ['strict', 'lenient'] as const) {
      const [region, other] = at().regions<number>()
      const scopes = dep.scopes<Book>('book', { mode }).describes(['category'], broken)
      const list = region.cacheOnArguments({
        namespace: 'list',
        dependencies: (category: string) => scopes.condition({ category }),
      })(async (_category: string) => 1)
      await Promise.all([list('a'), list('b')])
      const done = scopes.invalidateFor(a, other, { created: true })
      if (mode === 'strict') await expect(done).rejects.toThrow('no such column')
      else await done
      expect(await Promise.all([list.get('a'), list.get('b')])).toEqual([NO_VALUE, NO_VALUE])
    }
  })

  it('keep a list by a condition without a description from being stored, or refuse it', async () => {
    const [region] = at().regions<number>()
    const list = (mode: 'strict' | 'lenient') =>
      region.cacheOnArguments({
        namespace: mode,
        dependencies: (year: number) => describeBooks(mode).condition({ year } as never),
      })(async (_year: number) => 1)
    await expect(list('strict')(1)).rejects.toMatchObject({ code: 'ERR_OPTION' })
    expect(await list('lenient')(1)).toBe(1)
    expect(await list('lenient').get(1)).toBe(NO_VALUE)
  })
})

onStores('all', 'a clock that is not there yet', (at) => {
  it('is started by many at once, and none keeps another from storing', async () => {
    const { regions, loseClock } = at()
    const both = regions<number>()
    await loseClock?.()
    const keys = Array.from({ length: 20 }, (_, i) => `k${i}`)
    await Promise.all(
      keys.map((key, i) =>
        both[i % 2]?.getOrCreate(key, () => {
          dependsOn(dep.tag(key), dep.tag('all'))
          return i
        }),
      ),
    )
    expect((await both[0].getMulti(keys)).filter((value) => value !== NO_VALUE)).toHaveLength(20)
  })
})

onStores('all', 'ledgers side by side', (at) => {
  it('of which one’s names under its prefix look like the other’s never take each other’s stamps for their own', async () => {
    const { name, under, lose } = at()
    const [one, other] = [under<number>('app:'), under<number>('app:tag:')]
    await one.asOf()
    await other.invalidateDependencies('another')
    await other.set('k', 1, { dependencies: ['x'], asOf: await other.asOf() })
    expect(await other.get('k')).toBe(1)
    await lose?.('x', `${name}:app:tag:`)
    await other.invalidateDependencies('x')
    // Makes its stamps as of a clock that has not moved for longer.
    await one.set('of the same text', 1, { dependencies: [dep.tag('x')], asOf: await one.asOf() })
    expect(await other.get('k')).toBe(NO_VALUE)
  })
})
