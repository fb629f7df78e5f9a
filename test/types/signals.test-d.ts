import { describe, expectTypeOf, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { type RedisBus, redisBus } from '../../backends/redis/index.js'
import { broadcast } from '../../proxies/broadcast.js'
import { msgpack } from '../../proxies/msgpack.js'
import {
  type CachedFunction,
  dep,
  type Invalidation,
  type MissedEvents,
  makeRegion,
  methodOf,
  wrap,
} from '../../src/index.js'
import {
  afterCommit,
  type BrokerChange,
  type Bus,
  broker,
  cacheResults,
  isNotInvalidated,
  localBus,
  type NotInvalidated,
  relay,
} from '../../src/signals/index.js'

interface Book {
  readonly id: number
  readonly shelf: string
}
const region = makeRegion<unknown>({ name: 'r', backend: memory() })
const users = makeRegion<string>({ name: 'u', backend: memory() })
const bus = localBus()

describe('events', () => {
  it('have their own details', () => {
    users.on('invalidate', (event) => expectTypeOf(event).toEqualTypeOf<Invalidation>())
    users.on('invalidate-failed', (event) => expectTypeOf(event.error).toEqualTypeOf<unknown>())
    users.on('missed', (event) => expectTypeOf(event).toEqualTypeOf<MissedEvents>())
    expectTypeOf(users.on('invalidating', async () => {})).toEqualTypeOf<() => void>()
    // @ts-expect-error no such event
    users.on('invalidated', () => {})
  })

  it('take a reason and any metadata', async () => {
    await users.delete('a', { reason: 'x', meta: new Date() })
    await users.invalidateDependencies(['a'], 'soft', { meta: 5 })
    // @ts-expect-error a reason is a text
    await users.delete('a', { reason: 5 })
    // @ts-expect-error no such member
    await users.invalidate('hard', { resaon: 'x' })
    // @ts-expect-error an index is no cause
    await Promise.all(['a', 'b'].map(users.delete))
  })
})

describe('buses', () => {
  it('are a port', () => {
    expectTypeOf(redisBus('redis://localhost', { channel: 'c' })).toEqualTypeOf<RedisBus>()
    expectTypeOf<RedisBus>().toExtend<Bus>()
    // @ts-expect-error a bus has to say whether it is live
    relay({ publish() {}, subscribe: () => ({ close() {} }) }, [users])
  })

  it('broadcast below dependencies, above an encoding', () => {
    wrap(memory(), broadcast(bus, { name: 's' }))
    wrap(memory({ stores: 'bytes' }), msgpack(), broadcast(bus, { name: 's' }))
    // @ts-expect-error works on values, but below it are bytes
    wrap(memory({ stores: 'bytes' }), broadcast(bus, { name: 's' }))
    // @ts-expect-error a name is needed
    broadcast(bus, {})
  })
})

describe('brokers', () => {
  const shelves = dep.scopes<Book>('book').describes(['shelf'], ({ shelf }) => ({ shelf }))
  const books = broker<Book>('book', { regions: [region, users], id: ({ id }) => id, scopes: [shelves] })

  it('return the result of the change', async () => {
    const book: Book = { id: 1, shelf: 'a' }
    expectTypeOf(await books.apply(book, async () => 5)).toEqualTypeOf<number>()
    const row = await books.apply(
      (saved: Book) => saved,
      async () => book,
    )
    expectTypeOf(row).toEqualTypeOf<Book>()
    expectTypeOf(await books.delete(book, () => 'gone')).toEqualTypeOf<string>()
    expectTypeOf(await afterCommit(async () => 5)).toEqualTypeOf<number>()
    books.on('change', (change) => expectTypeOf(change).toEqualTypeOf<BrokerChange>())
    // @ts-expect-error no book
    await books.apply({ id: 1 }, () => {})
    const find = (saved: Book) => saved
    // @ts-expect-error no item can be found in that
    await books.apply(find, () => 5)
  })

  it('have errors that say whether the change is done', () => {
    const error: unknown = undefined
    if (isNotInvalidated(error)) {
      expectTypeOf(error).toEqualTypeOf<NotInvalidated>()
      expectTypeOf(error.retry()).toEqualTypeOf<Promise<void>>()
    }
  })
})

describe('cacheResults', () => {
  it('keeps the types of functions and methods', async () => {
    const fn = cacheResults({ region: users, namespace: 'fn' })(
      async (id: number, loud?: boolean) => `${id}${loud}`,
    )
    expectTypeOf(fn).toEqualTypeOf<CachedFunction<[id: number, loud?: boolean], string>>()
    class Shop {
      @cacheResults({ region: users, namespace: 'shop', self: 'shared' })
      async price(article: string): Promise<string> {
        return article
      }
    }
    expectTypeOf(new Shop().price).toEqualTypeOf<(article: string) => Promise<string>>()
    expectTypeOf(methodOf(new Shop(), 'price')).toEqualTypeOf<CachedFunction<[article: string], string>>()
    // @ts-expect-error a number is no value of the region
    cacheResults({ region: users, namespace: 'fn' })(async () => 5)
    // @ts-expect-error a namespace is needed
    cacheResults({ region: users })
  })
})
