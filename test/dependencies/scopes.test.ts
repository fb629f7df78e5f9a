import { describe, expect, it, vi } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { CorralError, dep, dependsOn, diagnostics, makeRegion, NO_VALUE, wrap } from '../../src/index.js'
import { broker } from '../../src/signals/index.js'

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
    await scopes.invalidateFor(dune, region, { created: true })
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

  it.each<[string, object | undefined]>([
    ['nothing', undefined],
    ['only what was modified', { modified: ['category'] }],
    ['that a look found nothing', { before: null }],
    ['that it was not created', { created: false }],
  ])('take all lists of the kind when the former item is unknown, but %s', async (_, change) => {
    const { books, region, scopes, countIn } = shelf()
    books.set(1, dune)
    expect(await Promise.all([countIn('sci-fi'), countIn('novel')])).toEqual([1, 0])
    const moved = { ...dune, category: 'novel' }
    books.set(1, moved)
    await scopes.invalidateFor(moved, region, change)
    expect(await Promise.all([countIn('sci-fi'), countIn('novel')])).toEqual([0, 1])
  })

  it('spare lists by fields that were not modified, for any former item', async () => {
    const { books, region, scopes, countIn } = shelf()
    books.set(1, dune)
    await countIn('sci-fi')
    await scopes.invalidateFor({ ...dune, title: 'Dune!' }, region, { modified: ['title'] })
    expect(await countIn.get('sci-fi')).toBe(1)
  })

  it('invalidate the lists that another declaration of the type describes, and keep their own apart', async () => {
    const { region } = shelf()
    const declare = () => ({
      // Each expects items of a shape of its own.
      byShelf: dep.scopes<{ shelf: string }>('twice').describes(['shelf'], ({ shelf }) => ({ shelf })),
      byAuthor: dep
        .scopes<{ by: { name: string } }>('twice')
        .describes(['author'], ({ by }) => ({ author: by.name }), { watchModified: ['by'] }),
    })
    const { byShelf, byAuthor } = declare()
    const onShelf = region.cacheOnArguments(async (_: string) => 1, {
      namespace: 'on shelf',
      dependencies: (shelf: string) => byShelf.condition({ shelf }),
    })
    const ofAuthor = region.cacheOnArguments(async (_: string) => 1, {
      namespace: 'of author',
      dependencies: (author: string) => byAuthor.condition({ author }),
    })
    const other = dep.scopes<object>('twice or not').describes(['x'], () => undefined)
    const look = async () => [await onShelf.get('b'), await ofAuthor.get('Herbert')]
    const change = { before: { shelf: 'a' }, modified: ['shelf'] }
    // Declared again, as by a module that is loaded again.
    for (const again of [byShelf, declare().byShelf]) {
      await Promise.all([onShelf('b'), ofAuthor('Herbert')])
      await other.invalidateFor({}, region)
      await again.invalidateFor({ shelf: 'a' }, region, change)
      expect(await look()).toEqual([1, 1])
      await again.invalidateFor({ shelf: 'a' }, region, { ...change, modified: ['by'] })
      expect(await look()).toEqual([1, NO_VALUE])
      await ofAuthor('Herbert')
      await again.invalidateFor({ shelf: 'a' }, region, { created: true })
      expect(await look()).toEqual([1, NO_VALUE])
      expect(again.namesFor({ shelf: 'a' }, { created: true })).toEqual([
        byShelf.condition({ shelf: 'a' })[1],
      ])
    }
  })

  it('look at all kinds for an item that is created, for any list of modified fields', () => {
    const { scopes } = shelf()
    const names = scopes.namesFor(dune, { created: true, modified: ['title'] })
    expect(names).toEqual(scopes.namesFor(dune, { before: dune }))
    expect(names).toHaveLength(3)
  })

  it('refuse a misspelt field, and spare no list for it', async () => {
    const { books, region, scopes, countIn } = shelf()
    books.set(1, dune)
    await countIn('sci-fi')
    const change = { before: dune, modified: ['categroy'] }
    expect(() => scopes.namesFor(dune, change)).toThrow('Did you mean `category`?')
    // The change is done, so its lists are invalidated as well.
    await expect(scopes.invalidateFor(dune, region, change)).rejects.toThrow("'categroy'")
    expect(await countIn.get('sci-fi')).toBe(NO_VALUE)
    const lenient = dep.scopes<Book>('book', { mode: 'lenient' }).describes(['category'], (book) => book)
    expect(lenient.namesFor(dune, change)).toEqual(lenient.namesFor(dune, { before: dune }))
    // A field of the item, however it is called.
    const named = { ...dune, categorys: 1 }
    expect(scopes.namesFor(named, { before: dune, modified: ['categorys'] })).toHaveLength(0)
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
    await scopes.invalidateFor(emma, region, { before: emma })
    expect(await Promise.all([countIn('novel'), all()])).toEqual([0, 1])
  })

  it('leave an item out where the extractor answers undefined', () => {
    const { scopes } = shelf()
    const names = scopes.namesFor({ ...dune, published: false }, { created: true })
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

  it('reach a list by values from a URL through an item from a database', async () => {
    const { region } = shelf()
    const scopes = dep.scopes<{ author: number }>('book').describes(['author'], ({ author }) => ({ author }))
    let books = 1
    const byAuthor = region.cacheOnArguments({
      namespace: 'by',
      dependencies: (author: string) => scopes.condition({ author }),
    })(async (_author: string) => books)
    expect(await byAuthor('5')).toBe(1)
    books++
    await scopes.invalidateFor({ author: 5 }, region, { created: true })
    expect(await byAuthor('5')).toBe(2)
  })

  it('refuse an unknown condition, or keep its list from being stored', async () => {
    const strict = shelf()
    // @ts-expect-error lists by title were not described
    expect(() => strict.scopes.condition({ title: 'Dune' })).toThrow(
      /No extractor describes lists of 'book' by title/,
    )
    const lenient = shelf('lenient')
    const value = await lenient.region.getOrCreate('k', () => {
      // @ts-expect-error lists by title were not described
      dependsOn(lenient.scopes.condition({ title: 'Dune' }))
      return 1
    })
    expect(value).toBe(1)
    expect(await lenient.region.get('k')).toBe(NO_VALUE)
  })

  it('take no field for two, with any characters in its name', () => {
    const scopes = dep.scopes<Book>('b').describes(['a', 'b'], () => undefined)
    expect(() => scopes.condition({ 'a\0b': 1 } as never)).toThrow('No extractor describes')
  })

  it('warn of conditions without a description, and of extractors that fail, once for each kind of condition', () => {
    const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {})
    const about = () => warn.mock.calls.filter(([message]) => String(message).includes("'warned'")).length
    for (let i = 0; i < 3; i++) {
      const scopes = dep.scopes<Book>('warned', { mode: 'lenient' }).describes(['x'], () => {
        throw new Error('no such column')
      })
      scopes.condition({ title: i } as never)
      scopes.namesFor(dune, { created: true })
    }
    expect(about()).toBe(2)
    dep.scopes<Book>('warned', { mode: 'lenient' }).condition({ title: 1, year: 2 } as never)
    expect(about()).toBe(3)
    // Input from outside must fill neither memory nor a log.
    for (let i = 0; i < 2_000; i++)
      dep.scopes<Book>('warned', { mode: 'lenient' }).condition({ [`field ${i}`]: 1 } as never)
    expect(about()).toBeLessThan(1_001)
    warn.mockRestore()
  })

  it('pass an extractor’s failure on, or take all lists of the kind', () => {
    const reported: unknown[] = []
    const listen = (message: unknown) => void reported.push(message)
    diagnostics('failure').subscribe(listen)
    const error = new Error('no such column')
    const broken = () => {
      throw error
    }
    expect(() => dep.scopes<Book>('b').describes(['x'], broken).namesFor(dune, { created: true })).toThrow(
      'no such column',
    )
    const lenient = dep.scopes<Book>('b', { mode: 'lenient' }).describes(['category'], broken)
    for (let i = 0; i < 2; i++)
      expect(lenient.namesFor(dune, { created: true })).toEqual([lenient.condition({ category: 'x' })[0]])
    diagnostics('failure').unsubscribe(listen)
    expect(reported).toEqual(Array(2).fill({ where: 'extractor', key: 'scopes:b:category', error }))
  })

  it('are invalidated when an extractor throws, or returns no text', async () => {
    const mute = {
      toString() {
        throw new Error('no text')
      },
    }
    for (const [i, thrown] of [Object.create(null), Symbol('s'), mute].entries()) {
      const scopes = dep
        .scopes<Book>(`unspeakable ${i}`, { mode: 'lenient' })
        .describes(['title'], () => {
          throw thrown
        })
        .describes(['category'], ({ category }) => ({ category }))
      expect(scopes.namesFor(dune, { created: true })).toEqual([
        scopes.condition({ title: 'Dune' })[0],
        scopes.condition({ category: 'sci-fi' })[1],
      ])
    }
  })

  it('whose extractor fails are invalidated as a kind, the others by name, before the failure is thrown', async () => {
    const { region } = shelf()
    const scopes = dep
      .scopes<{ category: string; tags?: string[] }>('b')
      .describes(['tag'], ({ tags }) => ({ tag: (tags as string[])[0] as string }))
      .describes(['category'], ({ category }) => ({ category }))
    let books = 1
    const by = <C extends string>(namespace: string, condition: (value: string) => readonly string[]) =>
      region.cacheOnArguments(async (_value: C) => books, { namespace, dependencies: condition })
    const tagged = by('tagged', (tag) => scopes.condition({ tag }))
    const inCategory = by('category', (category) => scopes.condition({ category }))
    await Promise.all([tagged('x'), inCategory('novel'), inCategory('sci-fi')])
    books++
    await expect(scopes.invalidateFor({ category: 'novel' }, region, { created: true })).rejects.toThrow(
      TypeError,
    )
    expect(await tagged.get('x')).toBe(NO_VALUE)
    expect(await inCategory.get('novel')).toBe(NO_VALUE)
    expect(await inCategory.get('sci-fi')).toBe(1)
  })

  it('refuse to invalidate in an object that is no region', async () => {
    const scopes = dep.scopes<Book>('book')
    for (const region of [undefined, dune])
      await expect(scopes.invalidateFor(dune, region as never)).rejects.toThrow('to receive a region')
  })

  it('pass their extractors the context, with the former and the present item', async () => {
    const { region } = shelf()
    const told: unknown[] = []
    const scopes = dep.scopes<{ readonly price: number }>('b').describes(['cheap'], ({ price }, info) => {
      told.push([price, info])
      return { cheap: price < (info as { readonly limit: number }).limit }
    })
    const [info, change] = [{ limit: 10 }, { before: { price: 5 } }]
    expect(scopes.namesFor({ price: 15 }, { ...change, info })).toEqual([
      scopes.condition({ cheap: true })[1],
      scopes.condition({ cheap: false })[1],
    ])
    expect(told).toEqual([
      [5, info],
      [15, info],
    ])
    await scopes.invalidateFor({ price: 15 }, region, { ...change, info })
    expect(told).toHaveLength(4)
    const items = broker<{ readonly price: number }>('b', { regions: [region], scopes })
    await items.apply({ price: 15 }, () => {}, { ...change, info })
    await items.delete({ price: 15 }, () => {}, { info })
    expect(new Set(told.map((one) => (one as unknown[])[1]))).toEqual(new Set([info]))
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

  it('read lists of fields once, since they may come from a generator', () => {
    const one = (field: string) => [field].values() as unknown as 'long'[]
    const scopes = dep
      .scopes<Book>('b')
      .describes(one('long'), ({ title }) => ({ long: title.length > 9 }), { watchModified: one('title') })
      .describes(one('long'), ({ title }) => ({ long: title.length > 19 }))
    const names = [scopes.condition({ long: false })[1]]
    expect(scopes.namesFor(dune, { before: dune, modified: ['title'] })).toEqual(names)
    expect(scopes.namesFor(dune, { before: dune, modified: ['long'] })).toEqual(names)
  })

  it('refuse changes that would silently invalidate nothing', () => {
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
    refused(naming({ created: 'yes' }), '`created` to be true or false')
    refused(naming({ created: true, before: dune }), 'created: true says that there was none')
    for (const condition of [undefined, null, 'category'])
      refused(() => scopes.condition(condition as never), "a condition of 'b' to be an object")
  })

  it('refuse values that are no plain ones', () => {
    const scopes = dep.scopes<Book>('b').describes(['category'], ({ category }) => ({ category }))
    // @ts-expect-error an object is not a value
    expect(() => scopes.condition({ category: {} })).toThrow(CorralError)
  })
})
