import { describe, expect, it } from 'vitest'
import { dep, NO_VALUE, type Region } from '../../src/index.js'
import { onStores } from './stores.js'

interface User {
  readonly id: number
  readonly login: string
}
interface Article {
  readonly id: number
  readonly title: string
  readonly author: User
}

/** The dependencies of a list of articles: each of them, and each author once. */
function articleNames(articles: readonly Article[]): readonly string[] {
  return [
    ...new Set(articles.flatMap(({ id, author }) => [dep.id('Article', id), dep.id('User', author.id)])),
  ]
}

interface Book {
  readonly id: number
  title: string
  category: string
}

/** A bookshop: the database, its scopes, and the one list that is cached. */
function bookshop(region: Region<readonly Book[]>) {
  const books: Book[] = [
    { id: 1, title: 'Dune', category: 'sci-fi' },
    { id: 2, title: 'Solaris', category: 'sci-fi' },
    { id: 3, title: 'Emma', category: 'novel' },
  ]
  let queries = 0
  const scopes = dep.scopes<Book>('book').describes(['category'], ({ category }) => ({ category }))
  const byCategory = region.cacheOnArguments({
    namespace: 'books',
    dependencies: (category: string) => scopes.condition({ category }),
    resultDependencies: (found: readonly Book[]) => found.map(({ id }) => dep.id('book', id)),
  })(async (category: string) => {
    queries++
    return books.filter((book) => book.category === category).map((book) => ({ ...book }))
  })
  return {
    byCategory,
    queries: () => queries,
    async add(book: Book) {
      books.push(book)
      await scopes.invalidateFor(book, region, { created: true })
    },
    async modify(id: number, change: Partial<Book>) {
      const book = books.find((one) => one.id === id) as Book
      const before = { ...book }
      Object.assign(book, change)
      await region.invalidateDependencies(dep.id('book', id))
      await scopes.invalidateFor(book, region, { before, modified: Object.keys(change) })
    },
  }
}

onStores('all', 'the tests of Matroska', (at) => {
  it('plain dependencies: a list dies with any of its items, and with nothing else', async () => {
    const [region] = at().regions<readonly User[] | string>()
    const users: readonly User[] = [
      { id: 1, login: 'kolypto' },
      { id: 2, login: 'vdmit11' },
    ]
    const put = async () =>
      region.set('users', users, {
        dependencies: users.map(({ id }) => dep.id('user', id)),
        asOf: await region.asOf(),
        expirationTime: '10m',
      })
    await put()
    expect(await region.get('users')).toEqual(users)
    await region.invalidateDependencies(dep.tag('something else'))
    expect(await region.has('users')).toBe(true)
    await region.invalidateDependencies(dep.id('user', 1))
    expect(await region.has('users')).toBe(false)
    expect(await region.get('users')).toBe(NO_VALUE)
    await region.set('alone', 'without any')
    expect(await region.get('alone')).toBe('without any')
    await region.delete('alone')
    expect(await region.get('alone')).toBe(NO_VALUE)
  })

  it('loaded records: a value depends on the records that its query returned, on each once', async () => {
    const [region] = at().regions<readonly Article[]>()
    const author = { id: 1, login: 'kolypto' }
    const articles = [
      { id: 10, title: 'one', author },
      { id: 11, title: 'two', author },
    ]
    expect(articleNames(articles)).toEqual([dep.id('Article', 10), dep.id('User', 1), dep.id('Article', 11)])
    const latest = region.cacheOnArguments({ namespace: 'latest', resultDependencies: articleNames })(
      async () => articles,
    )
    await latest()
    expect(await latest.get()).toEqual(articles)
    await region.invalidateDependencies(dep.id('User', '1'))
    expect(await latest.get()).toBe(NO_VALUE)
  })

  it('collections: a list dies when an item enters or leaves it, or changes', async () => {
    const [region] = at().regions<readonly Book[]>()
    const { byCategory, queries, add, modify } = bookshop(region)
    await byCategory('sci-fi')
    await byCategory('sci-fi')
    expect(queries()).toBe(1)
    await add({ id: 4, title: 'Ulysses', category: 'novel' })
    await byCategory('sci-fi')
    expect(queries()).toBe(1)
    await add({ id: 5, title: 'Ubik', category: 'sci-fi' })
    expect(await byCategory('sci-fi')).toHaveLength(3)
    expect(queries()).toBe(2)
    await modify(1, { title: 'Dune Messiah' })
    expect((await byCategory('sci-fi'))[0]?.title).toBe('Dune Messiah')
    await modify(3, { title: 'Persuasion' })
    await byCategory('sci-fi')
    expect(queries()).toBe(3)
    await modify(3, { category: 'sci-fi' })
    expect(await byCategory('sci-fi')).toHaveLength(4)
    await modify(2, { category: 'classic' })
    expect(await byCategory('sci-fi')).toHaveLength(3)
  })
})

onStores(['Redis'], 'the tests of Matroska', (at) => {
  it('leave one key for each value and each name, one clock and its ring, and nothing without an end but those', async () => {
    const { regions, admin } = at()
    const [region] = regions<readonly Book[]>()
    await (admin as { flushall(): Promise<unknown> }).flushall()
    const { byCategory, add } = bookshop(region)
    await byCategory('sci-fi')
    await add({ id: 5, title: 'Ubik', category: 'sci-fi' })
    await byCategory('sci-fi')
    const keys = (await admin?.keys('*')) ?? []
    const scopes = dep.scopes<Book>('book').describes(['category'], ({ category }) => ({ category }))
    const names = [
      `region:${region.name}`,
      ...scopes.condition({ category: 'sci-fi' }),
      ...[1, 2, 5].map((id) => dep.id('book', id)),
    ]
    const bookkeeping = ['~corral:clock={~clock}', '~corral:ring={~clock}']
    expect(keys.filter((key) => key.startsWith('~corral:')).sort()).toEqual(
      [...names.map((name) => `~corral:stamp:6:~clock${name}`), ...bookkeeping].sort(),
    )
    expect(keys.filter((key) => !key.startsWith('~corral:'))).toHaveLength(1)
    for (const key of keys)
      if (bookkeeping.includes(key)) expect(await admin?.pttl(key), key).toBe(-1)
      else expect(await admin?.pttl(key), key).toBeGreaterThan(0)
  })
})

describe('names', () => {
  it('of Matroska have counterparts that cannot be mistaken for each other', () => {
    const names = [dep.id('a', 1), dep.tag('a'), dep.tag('a', 1), dep.id('a', 1, 1), dep.group('a', 1)]
    expect(new Set(names).size).toBe(names.length)
    expect(dep.id('user', 5)).toBe(dep.id('user', '5'))
  })
})
