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

  it('never confuse values that look alike', () => {
    const scopes = dep
      .scopes<Record<string, string | number | boolean | null>>('t')
      .describes(['x'], ({ x }) => ({ x: x ?? null }))
    const values = [1, '1', true, 'true', null, 'null', 'a:b', 'a', 'b=1', 1n]
    const names = values.map((x) => scopes.condition({ x })[1])
    // A number and a bigint of the same size are the same row.
    expect(new Set(names).size).toBe(values.length - 1)
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

  it('refuse values that are no plain ones', () => {
    const scopes = dep.scopes<Book>('b').describes(['category'], ({ category }) => ({ category }))
    // @ts-expect-error an object is not a value
    expect(() => scopes.condition({ category: {} })).toThrow(CorralError)
  })
})
