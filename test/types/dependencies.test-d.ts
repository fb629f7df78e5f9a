import { describe, expectTypeOf, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import {
  dep,
  dependsOn,
  type Explanation,
  type Freshness,
  type LedgerTime,
  makeRegion,
  type Outcome,
  wrap,
} from '../../src/index.js'

interface Book {
  readonly id: number
  readonly shelf: string
  readonly published: boolean
}
const region = makeRegion<string>({ name: 'r', backend: wrap(memory(), dependencies()) })
const none = dep.scopes<Book>('book')
const shelves = none.describes(['shelf'], ({ shelf }) => ({ shelf }))
const both = shelves
  .describes(['published', 'shelf'], ({ published, shelf }) => (published ? { published, shelf } : undefined))
  .describes([], () => ({}))

describe('a condition', () => {
  it('of described fields compiles, in any order and with any plain value', () => {
    expectTypeOf(shelves.condition({ shelf: 'a' })).toEqualTypeOf<readonly string[]>()
    both.condition({ shelf: 5 })
    both.condition({ shelf: 5n, published: null })
    both.condition({ published: true, shelf: 'a' })
    both.condition({})
  })

  it('of fields that are not described together does not', () => {
    // @ts-expect-error nothing was described
    none.condition({ shelf: 'a' })
    // @ts-expect-error nor lists of everything
    none.condition({})
    // @ts-expect-error a field that is misspelt
    both.condition({ shelve: 'a' })
    // @ts-expect-error a field too many
    shelves.condition({ shelf: 'a', published: true })
    // @ts-expect-error a field that is described together with another one only
    both.condition({ published: true })
    // @ts-expect-error lists of everything are not described
    shelves.condition({})
    const open: Record<string, string> = { shelf: 'a' }
    // @ts-expect-error fields that the compiler does not know
    both.condition(open)
  })

  it('of any fields does, where fields that the compiler does not know were described', () => {
    const fields: string[] = JSON.parse('["shelf"]') as string[]
    const found = none.describes(fields, () => undefined)
    found.condition({ shelf: 'a' })
    found.condition({})
    const open: Record<string, string> = { shelf: 'a' }
    found.condition(open)
  })

  it('of a value that is not plain does not', () => {
    // @ts-expect-error an object
    shelves.condition({ shelf: { $ne: 1 } })
    // @ts-expect-error a list
    shelves.condition({ shelf: ['a'] })
    // @ts-expect-error a date
    shelves.condition({ shelf: new Date() })
    // @ts-expect-error nothing
    shelves.condition({ shelf: undefined })
    // @ts-expect-error a symbol
    shelves.condition({ shelf: Symbol('a') })
  })
})

describe('an extractor', () => {
  it('returns the described item, or undefined', () => {
    none.describes(['shelf'], (book, info) => {
      expectTypeOf(book).toEqualTypeOf<Book>()
      expectTypeOf(info).toEqualTypeOf<unknown>()
      return undefined
    })
    // @ts-expect-error another field
    none.describes(['shelf'], ({ id }) => ({ id }))
    // @ts-expect-error a field is missing
    none.describes(['shelf', 'published'], ({ shelf }) => ({ shelf }))
    // @ts-expect-error an object is no value
    none.describes(['shelf'], (book) => ({ shelf: book }))
    // @ts-expect-error it answers at once
    none.describes(['shelf'], async ({ shelf }) => ({ shelf }))
    // @ts-expect-error a field of its own is no field of a book
    none.describes(['shelf'], ({ title }) => ({ shelf: title }))
    // @ts-expect-error no list
    none.describes('shelf', ({ shelf }) => ({ shelf }))
  })
})

describe('a change', () => {
  it('is of the type of item', () => {
    const book: Book = { id: 1, shelf: 'a', published: true }
    expectTypeOf(shelves.namesFor(book, { before: book, modified: ['shelf'] })).toEqualTypeOf<
      readonly string[]
    >()
    expectTypeOf(shelves.invalidateFor(book, region, { created: true })).toEqualTypeOf<Promise<void>>()
    // @ts-expect-error another item
    void shelves.invalidateFor({ id: 1 }, region)
    // @ts-expect-error another item before
    void shelves.invalidateFor(book, region, { before: { id: 1 } })
    // @ts-expect-error a misspelt option
    void shelves.invalidateFor(book, region, { modifed: ['shelf'] })
    // @ts-expect-error nothing that can be invalidated
    void shelves.invalidateFor(book, memory())
  })
})

describe('names', () => {
  it('have parts of plain kinds', () => {
    expectTypeOf(dep.id('Order', 2026, 17n, 'a')).toEqualTypeOf<string>()
    // @ts-expect-error a key has at least one part
    dep.id('Order')
    // @ts-expect-error a boolean is no id
    dep.id('user', true)
    // @ts-expect-error an object is no id
    dep.id('user', { id: 1 })
    // @ts-expect-error nor is nothing
    dep.id('user', undefined)
    // @ts-expect-error a tag is a text
    dep.tag(5)
    dependsOn(dep.tag('a'), [dep.tag('b')], shelves.condition({ shelf: 'a' }))
    // @ts-expect-error a name is a text
    dependsOn(5)
  })

  it('that a function declares are told its arguments and its result', () => {
    void region.cacheOnArguments({
      namespace: 'n',
      dependencies: (id: number, page: string) => [dep.id('user', id), dep.tag(page)],
      resultDependencies: (found: string) => dep.tag(found),
      group: { user: ([id]: [number, string]) => id, friends: ([id, page]: [number, string]) => [id, page] },
    })((id: number, page: string) => `${id} ${page}`)
    // @ts-expect-error a name is a text
    region.cacheOnArguments({ namespace: 'n', dependencies: () => 5 })
    // @ts-expect-error a member of a group is an id
    region.cacheOnArguments({ namespace: 'n', group: { user: () => true } })
  })

  it('of data that is put go with the moment before it', async () => {
    const asOf = await region.asOf()
    expectTypeOf(asOf).toEqualTypeOf<LedgerTime>()
    expectTypeOf(await region.set('k', 'v', { dependencies: [dep.tag('t')], asOf })).toEqualTypeOf<Outcome>()
    await region.set('k', 'v', { dependencies: [dep.tag('t')], asOf: 'now' })
    await region.setMulti([['k', 'v', { dependencies: dep.tag('t'), asOf, expirationTime: '1m' }]])
    expectTypeOf(await region.freshnessOf(dep.tag('t'), asOf)).toEqualTypeOf<Freshness>()
    // @ts-expect-error a moment is needed
    await region.freshnessOf(dep.tag('t'))
    // @ts-expect-error an option of one value is one of all values
    await region.setMulti([['k', 'v', { ttl: 5 }]])
    // @ts-expect-error a moment is taken from the region
    await region.set('k', 'v', { dependencies: [dep.tag('t')], asOf: Date.now() })
    // @ts-expect-error a mode is hard or soft
    await region.invalidateDependencies(dep.tag('t'), 'medium')
    // @ts-expect-error names are to be given
    await region.invalidateDependencies()
  })

  it('go with the value of a reservation', async () => {
    const found = await region.reserve('k', { hold: '1m' })
    if ('value' in found) expectTypeOf(found.value).toEqualTypeOf<string>()
    else {
      expectTypeOf(await found.fill('v', { dependencies: dep.tag('t') })).toEqualTypeOf<Outcome>()
      // @ts-expect-error a value of the region's type
      await found.fill(5)
      // @ts-expect-error the moment is that of the reservation
      await found.fill('v', { asOf: 'now' })
    }
  })

  it('are explained', async () => {
    const told = await region.explain('k')
    expectTypeOf(told).toEqualTypeOf<Explanation>()
    expectTypeOf(told.verdict).toEqualTypeOf<'hit' | 'stale' | 'miss'>()
  })
})
