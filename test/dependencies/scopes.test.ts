import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { CorralError, dep, dependsOn, makeRegion, NO_VALUE, wrap } from '../../src/index.js'

interface Book {
  readonly id: number
  readonly title: string
  readonly category: string
  readonly published: boolean
}

function shelf(mode: 'strict' | 'lenient' = 'strict') {
  const books = new Map<number, Book>()
  const region = makeRegion<readonly string[] | number>({
    name: 'books',
    backend: wrap(memory(), dependencies()),
  })
  const scopes = dep
    .scopes<Book>('book', { mode })
    .describes(['category'], (book) => ({ category: book.category }))
    .describes(['published', 'category'], (book) =>
      book.published ? { published: true, category: book.category } : undefined,
    )
    .describes([], () => ({}))
  let runs = 0
  const inCategory = region.cacheOnArguments({ namespace: 'in' })(async (category: string) => {
    runs++
    const found = [...books.values()].filter((book) => book.category === category)
    dependsOn(
      scopes.condition({ category }),
      found.map(({ id }) => dep.id('book', id)),
    )
    return found.map(({ title }) => title)
  })
  const countIn = region.cacheOnArguments({ namespace: 'count' })(async (category: string) => {
    runs++
    dependsOn(scopes.condition({ category }))
    return [...books.values()].filter((book) => book.category === category).length
  })
  const all = region.cacheOnArguments({ namespace: 'all' })(async () => {
    runs++
    dependsOn(scopes.condition({}))
    return books.size
  })
  return { books, region, scopes, inCategory, countIn, all, ran: () => runs }
}

const dune: Book = { id: 1, title: 'Dune', category: 'sci-fi', published: true }
const emma: Book = { id: 2, title: 'Emma', category: 'novel', published: true }

describe('scopes', () => {
  it('notice an item that enters a list, and leave other lists alone', async () => {
    const { books, region, scopes, inCategory } = shelf()
    expect(await inCategory('sci-fi')).toEqual([])
    expect(await inCategory('novel')).toEqual([])
    books.set(1, dune)
    await scopes.invalidateFor(dune, region)
    expect(await inCategory.get('novel')).toEqual([])
    expect(await inCategory('sci-fi')).toEqual(['Dune'])
  })

  it('notice an item that leaves a list that does not hold its id', async () => {
    const { books, region, scopes, countIn } = shelf()
    books.set(1, dune)
    expect(await countIn('sci-fi')).toBe(1)
    const moved = { ...dune, category: 'novel' }
    books.set(1, moved)
    await scopes.invalidateFor(moved, region, { before: dune, modified: ['category'] })
    expect(await countIn('sci-fi')).toBe(0)
  })

  it('take all lists of the kind when nobody says what the item was before', async () => {
    const { books, region, scopes, countIn } = shelf()
    books.set(1, dune)
    expect(await countIn('sci-fi')).toBe(1)
    const moved = { ...dune, category: 'novel' }
    books.set(1, moved)
    await scopes.invalidateFor(moved, region, { modified: ['category'] })
    expect(await countIn('sci-fi')).toBe(0)
  })

  it('do not care for fields that no condition is about', async () => {
    const { books, region, scopes, countIn } = shelf()
    books.set(1, dune)
    await countIn('sci-fi')
    await scopes.invalidateFor({ ...dune, title: 'Dune!' }, region, { before: dune, modified: ['title'] })
    expect(await countIn.get('sci-fi')).toBe(1)
  })

  it('notice a deletion, and lists of everything', async () => {
    const { books, region, scopes, countIn, all } = shelf()
    books.set(1, dune).set(2, emma)
    await Promise.all([countIn('novel'), all()])
    books.delete(2)
    await scopes.invalidateFor(emma, region)
    expect(await Promise.all([countIn('novel'), all()])).toEqual([0, 1])
  })

  it('leave an item out where the extractor answers undefined', () => {
    const { scopes } = shelf()
    const names = scopes.namesFor({ ...dune, published: false })
    expect(names).toContain(scopes.condition({ category: 'sci-fi' })[1])
    expect(names).not.toContain(scopes.condition({ category: 'sci-fi', published: true })[1])
  })

  it('take 5, the text and the bigint for one value, and keep booleans and null apart from texts', () => {
    const scopes = dep
      .scopes<Record<string, string | number | boolean | null>>('t')
      .describes(['x'], ({ x }) => ({ x: x ?? null }))
    const names = (values: (string | number | bigint | boolean | null)[]) =>
      new Set(values.map((x) => scopes.condition({ x })[1])).size
    expect(names([1, '1', 1n])).toBe(1)
    const apart = [1, true, 'true', false, 'false', null, 'null', "'null'", 'a:b', 'a', 'b=1', '']
    expect(names(apart)).toBe(apart.length)
  })

  it('reach a list by what came from a URL through an item that came from a database', async () => {
    const { region } = shelf()
    const scopes = dep.scopes<{ author: number }>('book').describes(['author'], ({ author }) => ({ author }))
    let books = 1
    const byAuthor = region.cacheOnArguments({
      namespace: 'by',
      dependencies: (author: string) => scopes.condition({ author }),
    })(async (_author: string) => books)
    expect(await byAuthor('5')).toBe(1)
    books++
    await scopes.invalidateFor({ author: 5 }, region)
    expect(await byAuthor('5')).toBe(2)
  })

  it('refuse an unknown condition, or keep its list from being stored', async () => {
    const strict = shelf()
    // @ts-expect-error nobody described lists by title
    expect(() => strict.scopes.condition({ title: 'Dune' })).toThrow(
      /No extractor describes lists of 'book' by title/,
    )
    const lenient = shelf('lenient')
    const value = await lenient.region.getOrCreate('k', () => {
      // @ts-expect-error nobody described lists by title
      dependsOn(lenient.scopes.condition({ title: 'Dune' }))
      return 1
    })
    expect(value).toBe(1)
    expect(await lenient.region.get('k')).toBe(NO_VALUE)
  })

  it('pass an extractor’s failure on, or take all lists of the kind', () => {
    const broken = () => {
      throw new Error('no such column')
    }
    expect(() => dep.scopes<Book>('b').describes(['x'], broken).namesFor(dune)).toThrow('no such column')
    const lenient = dep.scopes<Book>('b', { mode: 'lenient' }).describes(['category'], broken)
    expect(lenient.namesFor(dune)).toEqual([lenient.condition({ category: 'x' })[0]])
  })

  it('whose extractor fails are invalidated as a kind, the others by name, before the failure is thrown', async () => {
    const { region } = shelf()
    const scopes = dep
      .scopes<{ category: string; tags?: string[] }>('b')
      .describes(['tag'], ({ tags }) => ({ tag: (tags as string[])[0] as string }))
      .describes(['category'], ({ category }) => ({ category }))
    let books = 1
    const by = <C extends string>(namespace: string, condition: (value: string) => readonly string[]) =>
      region.cacheOnArguments({ namespace, dependencies: condition })(async (_value: C) => books)
    const tagged = by('tagged', (tag) => scopes.condition({ tag }))
    const inCategory = by('category', (category) => scopes.condition({ category }))
    await Promise.all([tagged('x'), inCategory('novel'), inCategory('sci-fi')])
    books++
    await expect(scopes.invalidateFor({ category: 'novel' }, region)).rejects.toThrow(TypeError)
    expect(await tagged.get('x')).toBe(NO_VALUE)
    expect(await inCategory.get('novel')).toBe(NO_VALUE)
    expect(await inCategory.get('sci-fi')).toBe(1)
  })

  it('look at an item whose watched fields changed', () => {
    const scopes = dep
      .scopes<Book>('b')
      .describes(['long'], ({ title }) => ({ long: title.length > 9 }), { watchModified: ['title'] })
    const before = { ...dune, title: 'Dune Messiah' }
    expect(scopes.namesFor(dune, { before, modified: ['title'] })).toEqual([
      scopes.condition({ long: true })[1],
      scopes.condition({ long: false })[1],
    ])
    expect(scopes.namesFor(dune, { before, modified: ['long'] })).toEqual([])
  })

  it('refuse what would silently invalidate nothing', () => {
    const scopes = dep.scopes<Book>('b').describes(['category'], ({ category }) => ({ category }))
    const describing = (fields: unknown, options?: unknown) => () =>
      scopes.describes(fields as ['title'], ({ title }) => ({ title }), options as object)
    const naming = (change: unknown) => () => scopes.namesFor(dune, change as object)
    const refused = (attempt: () => unknown, message: string) => {
      expect(attempt).toThrow(CorralError)
      expect(attempt).toThrow(message)
    }
    refused(describing('title'), '`fields` to be a list of field names')
    refused(describing(undefined), '`fields` to be a list of field names')
    refused(describing(['title'], { watchModified: 'title' }), '`watchModified` to be a list')
    refused(describing(['title'], { watchModified: [1] }), '`watchModified` to be a list')
    refused(describing(['title'], { watch: ['title'] }), 'Unknown option `watch`')
    refused(naming({ modified: 'category' }), '`modified` to be a list')
    refused(naming({ modifed: ['category'] }), 'Unknown option `modifed`')
    for (const condition of [undefined, null, 'category'])
      refused(() => scopes.condition(condition as never), "a condition of 'b' to be an object")
  })

  it('refuse values that are no plain ones', () => {
    const scopes = dep.scopes<Book>('b').describes(['category'], ({ category }) => ({ category }))
    // @ts-expect-error an object is not a value
    expect(() => scopes.condition({ category: {} })).toThrow(CorralError)
  })
})
