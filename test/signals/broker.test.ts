import { AsyncLocalStorage } from 'node:async_hooks'
import { describe, expect, it, vi } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { dogpile } from '../../src/dogpile/index.js'
import { delegate, dep, dependsOn, makeRegion, NO_VALUE, wrap } from '../../src/index.js'
import {
  afterCommit,
  type Broker,
  type BrokerChange,
  type BrokerOptions,
  broker,
  type ChangeOptions,
  isNotInvalidated,
  localBus,
  type NotInvalidated,
  relay,
} from '../../src/signals/index.js'
import { withoutMarks } from '../support/ledgers.js'
import { held } from '../support/stage.js'
import { idle, isPending } from '../support/waiting.js'

interface Book {
  id: number | undefined
  shelf: string
}

/** Two regions over one store each, whose invalidations can be made to fail. */
function library(more: Partial<BrokerOptions<Book>> = {}) {
  const order: string[] = []
  const broken = new Set<string>()
  const region = (name: string) => {
    const made = makeRegion<unknown>({
      name,
      backend: wrap(withoutMarks(memory()), dependencies(), (next) =>
        delegate(next, {
          tracker: next.tracker && {
            ...next.tracker,
            invalidate(names, mode) {
              order.push(`${name}: ${names.join(' ')}`)
              if (broken.has(name)) throw new Error(`${name} is broken`)
              return next.tracker?.invalidate(names, mode)
            },
          },
        }),
      ),
    })
    return made
  }
  const [inner, outer] = [region('inner'), region('outer')]
  const lists = dep.scopes<Book>('book').describes(['shelf'], ({ shelf }) => ({ shelf }))
  const books = broker<Book>('book', {
    regions: [inner, outer],
    id: ({ id }) => id as number,
    scopes: lists,
    ...more,
  })
  const changes: BrokerChange[] = []
  books.on('change', (change) => changes.push(change))
  books.on('change', () => order.push('told'))
  const list = (shelf: string) =>
    outer.getOrCreate(`list ${shelf}`, () => {
      dependsOn(lists.condition({ shelf }))
      return shelf
    })
  return { books, inner, outer, order, broken, changes, list }
}

const failure = async (work: Promise<unknown>): Promise<NotInvalidated> => {
  const error: unknown = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (isNotInvalidated(error)) return error
  throw new Error(`Expected ERR_NOT_INVALIDATED, got ${String(error)}`)
}

describe('a broker', () => {
  it('runs the change, then invalidates from the inside out, then tells of it', async () => {
    const { books, order, changes } = library()
    const answer = await books.apply({ id: 5, shelf: 'a' }, () => (order.push('changed'), 'saved'), {
      reason: 'form',
      meta: { by: 7 },
    })
    expect(answer).toBe('saved')
    const names = ['id:book:5', 'scopes:book:shelf']
    expect(order).toEqual(['changed', `inner: ${names.join(' ')}`, `outer: ${names.join(' ')}`, 'told'])
    expect(changes).toEqual([
      { broker: 'book', action: 'apply', names, reason: 'form', meta: { by: 7 }, origin: 'local' },
    ])
  })

  it('invalidates nothing before the change is done', async () => {
    const { books, order } = library()
    const { create, resolve } = held<string>()
    const done = books.apply({ id: 5, shelf: 'a' }, create)
    expect(await isPending(done)).toBe(true)
    expect(order).toEqual([])
    resolve('saved')
    expect(await done).toBe('saved')
    expect(order).toHaveLength(3)
  })

  it('leaves everything as it is when the change fails', async () => {
    const { books, order, changes } = library()
    const boom = new Error('boom')
    for (const change of [
      () => Promise.reject(boom),
      () => {
        throw boom
      },
    ])
      await expect(books.apply({ id: 5, shelf: 'a' }, change)).rejects.toBe(boom)
    expect([order, changes]).toEqual([[], []])
  })

  it('reaches the lists that an item enters and leaves', async () => {
    const { books, outer, list } = library()
    const fill = async () => {
      for (const shelf of ['a', 'b', 'c']) await list(shelf)
    }
    const there = () => outer.getMulti(['list a', 'list b', 'list c'])
    await fill()
    await books.apply({ id: 1, shelf: 'b' }, () => {}, { before: { id: 1, shelf: 'a' }, modified: ['shelf'] })
    expect(await there()).toEqual([NO_VALUE, NO_VALUE, 'c'])
    await fill()
    // The change writes to the item itself, of which a copy was taken.
    const item: Book = { id: 1, shelf: 'b' }
    await books.apply(item, () => (item.shelf = 'c'), { before: { ...item } })
    expect(await there()).toEqual(['a', NO_VALUE, NO_VALUE])
    await fill()
    await books.delete(item, () => {})
    expect(await there()).toEqual(['a', 'b', NO_VALUE])
    await fill()
    await books.delete(item, () => {}, { before: { id: 1, shelf: 'a' } })
    expect(await there()).toEqual([NO_VALUE, 'b', NO_VALUE])
    await fill()
    await books.apply(item, () => {}, { created: true })
    expect(await there()).toEqual(['a', 'b', NO_VALUE])
    await fill()
    await books.apply(item, () => {}, { before: item, modified: new Set(['title']) })
    expect(await there()).toEqual(['a', 'b', 'c'])
  })

  it.each<[string, ChangeOptions<Book> | undefined]>([
    ['nothing', undefined],
    ['what was modified', { modified: ['shelf'] }],
    ['that a look found nothing', { before: null }],
  ])('keeps no list wrong of an update of which it is told %s', async (_, options) => {
    const { books, outer, list } = library()
    const there = () => outer.getMulti(['list a', 'list b'])
    for (const work of [
      () => books.apply({ id: 1, shelf: 'b' }, () => {}, options),
      () => books.invalidate({ id: 1, shelf: 'b' }, options),
      () =>
        books.apply(
          (row: Book) => row,
          () => ({ id: 1, shelf: 'b' }),
          options,
        ),
      () => afterCommit(() => books.apply({ id: 1, shelf: 'b' }, () => {}, options)),
    ]) {
      await list('a')
      await list('b')
      await work()
      expect(await there()).toEqual([NO_VALUE, NO_VALUE])
    }
    await list('a')
    await books.apply({ id: 1, shelf: 'b' }, () => {}, { modified: ['title'] })
    expect(await there()).toEqual(['a', NO_VALUE])
  })

  it.each<[string, Record<string, unknown>]>([
    ['`modified` that is one text', { modified: 'shelf' }],
    ['`modified` that is no list', { modified: 5 }],
    ['`modified` with what is no text', { modified: [5] }],
    ['`created` that is neither true nor false', { created: 1 }],
    ['a past of what was created', { created: true, before: { id: 1, shelf: 'a' } }],
  ])('refuses %s before anything is done', async (_, options) => {
    const { books, order } = library()
    const item: Book = { id: 1, shelf: 'a' }
    for (const work of [
      () => books.apply(item, () => order.push('ran'), options),
      () =>
        books.apply(
          (row: Book) => row,
          () => (order.push('ran'), item),
          options,
        ),
      () => books.delete(item, () => order.push('ran'), options),
      () => books.invalidate(item, options),
    ])
      await expect(work()).rejects.toMatchObject({ code: 'ERR_OPTION' })
    expect(order).toEqual([])
  })

  it('refuses a misspelt field before anything is done', async () => {
    const { books } = library()
    let ran = 0
    const options = { before: { id: 1, shelf: 'a' }, modified: ['shelv'] }
    await expect(books.apply({ id: 1, shelf: 'b' }, () => void ran++, options)).rejects.toThrow(
      'Did you mean `shelf`?',
    )
    expect(ran).toBe(0)
  })

  it.each([{ modified: ['title'] }, { created: true }])(
    'refuses %o of a deletion, which leaves all its lists',
    async (options) => {
      const { books } = library()
      await expect(books.delete({ id: 1, shelf: 'a' }, () => {}, options as object)).rejects.toMatchObject({
        code: 'ERR_OPTION',
      })
    },
  )

  it('takes the former item from before the change, which may write to it', async () => {
    const { books, outer, order, list } = library()
    for (const shelf of ['a', 'b', 'c']) await list(shelf)
    const before: Book = { id: 1, shelf: 'a' }
    await books.apply(
      (row: Book) => row,
      () => ((before.shelf = 'b'), before),
      { before },
    )
    expect(await outer.getMulti(['list a', 'list b', 'list c'])).toEqual([NO_VALUE, NO_VALUE, 'c'])
    order.length = 0
    const wrong: Book = { id: undefined, shelf: 'a' }
    await expect(
      books.apply(
        (row: Book) => row,
        () => (order.push('ran'), before),
        { before: wrong },
      ),
    ).rejects.toMatchObject({ code: 'ERR_OPTION' })
    expect(order).toEqual([])
  })

  it('refuses a promise as item and as its former state, before the change', async () => {
    const item: Book = { id: 1, shelf: 'a' }
    const scopes = dep.scopes<Book>('book').describes(['shelf'], (book) => ({ shelf: book?.shelf ?? null }))
    const promise = Promise.resolve(item) as never
    for (const { books, order } of [library(), library({ scopes }), library({ dependencies: () => 'all' })]) {
      for (const work of [
        () => books.apply(promise, () => order.push('ran'), { created: true }),
        () => books.apply(item, () => order.push('ran'), { before: promise }),
        () =>
          books.apply(
            () => item,
            () => order.push('ran'),
            { before: promise },
          ),
        () => books.delete(promise, () => order.push('ran')),
        () => books.delete(item, () => order.push('ran'), { before: promise }),
        () => books.invalidate(promise),
        () => books.invalidate(item, { before: promise }),
        async () => scopes.namesFor(promise, { created: true }),
        async () => scopes.namesFor(item, { before: promise }),
      ])
        await expect(work()).rejects.toMatchObject({ code: 'ERR_OPTION' })
      expect(order).toEqual([])
    }
  })

  it('refuses functions that answer later, and leaves nothing of theirs unhandled', async () => {
    const unhandled: unknown[] = []
    const listen = (error: unknown) => void unhandled.push(error)
    process.on('unhandledRejection', listen)
    const later = (() => Promise.reject(new Error('later'))) as never
    for (const options of [
      { id: later },
      { dependencies: later },
      { scopes: dep.scopes<Book>('book').describes(['shelf'], later) },
      { scopes: dep.scopes<Book>('book').describes([], later) },
    ]) {
      const { books, order } = library(options)
      await expect(
        books.apply({ id: 1, shelf: 'a' }, () => order.push('ran'), { created: true }),
      ).rejects.toMatchObject({ code: 'ERR_OPTION' })
      expect(order).toEqual([])
    }
    await idle()
    process.off('unhandledRejection', listen)
    expect(unhandled).toEqual([])
  })

  it('reads the modified fields once, since they may come from a generator', async () => {
    const { books, outer, list } = library()
    await list('a')
    function* modified() {
      yield 'shelf'
    }
    await books.apply({ id: 1, shelf: 'b' }, () => {}, { modified: modified() })
    expect(outer.peek('list a')).toBe(NO_VALUE)
    const by = (type: string) => dep.scopes<Book>(type).describes(['shelf'], ({ shelf }) => ({ shelf }))
    const twice = library({ scopes: [by('one'), by('other')] }).books
    expect(twice.namesFor({ id: 1, shelf: 'b' }, { modified: modified() })).toEqual(
      twice.namesFor({ id: 1, shelf: 'b' }, { modified: ['shelf'] }),
    )
  })

  describe.each<[string, Partial<BrokerOptions<Book>>, string[]]>([
    [
      'id',
      {
        id: () => {
          throw new Error('no such column')
        },
        dependencies: () => 'tag:front',
      },
      ['tag:front', "scope:book:shelf='a"],
    ],
    [
      'dependencies',
      {
        dependencies: () => {
          throw new Error('no such column')
        },
      },
      ['id:book:5', "scope:book:shelf='a"],
    ],
    [
      'extractor',
      {
        scopes: [
          dep
            .scopes<Book>('book')
            .describes(['year'], () => {
              throw new Error('no such column')
            })
            .describes(['shelf'], ({ shelf }) => ({ shelf })),
          dep.scopes<Book>('other').describes(['shelf'], ({ shelf }) => ({ shelf })),
        ],
      },
      ['id:book:5', 'scopes:book:year', "scope:book:shelf='a", "scope:other:shelf='a"],
    ],
    [
      'list of its own',
      {
        scopes: [
          {
            namesFor() {
              throw new Error('no such column')
            },
          },
          dep.scopes<Book>('other').describes(['shelf'], ({ shelf }) => ({ shelf })),
        ],
      },
      ['id:book:5', "scope:other:shelf='a"],
    ],
  ])('one %s of which fails', (_, options, expected) => {
    const item: Book = { id: 5, shelf: 'a' }
    const error = expect.objectContaining({ message: 'no such column' }) as Error

    it('refuses before the change is made', async () => {
      const { books, order } = library(options)
      for (const work of [
        () => books.apply(item, () => order.push('ran'), { created: true }),
        () => books.delete(item, () => order.push('ran')),
      ])
        await expect(work()).rejects.toThrow('no such column')
      expect(order).toEqual([])
      expect(() => books.namesFor(item, { created: true })).toThrow('no such column')
    })

    it('invalidates all other names when the change is made, and then says so', async () => {
      const { books, order } = library(options)
      const works: [() => Promise<unknown>, unknown][] = [
        [
          () =>
            books.apply(
              (row: Book) => row,
              () => item,
              { created: true },
            ),
          item,
        ],
        [() => books.invalidate(item, { created: true }), undefined],
        [
          () =>
            afterCommit(() =>
              books.apply(
                (row: Book) => row,
                () => item,
                { created: true },
              ),
            ),
          item,
        ],
      ]
      for (const [work, result] of works) {
        order.length = 0
        const rejected = await failure(work())
        expect(rejected).toMatchObject({ result, cause: error })
        for (const region of ['inner', 'outer'])
          expect(order.find((line) => line.startsWith(region))).toBe(`${region}: ${expected.join(' ')}`)
        expect(order).not.toContain('told')
        await expect(rejected.retry()).rejects.toMatchObject({ code: 'ERR_NOT_INVALIDATED' })
      }
    })
  })

  it('tells its listeners also of names that were found only at a second attempt', async () => {
    let broken = true
    const {
      books,
      order,
      changes,
      broken: down,
    } = library({
      dependencies: () => {
        if (broken) throw new Error('no such column')
        return 'tag:front'
      },
    })
    const error = await failure(
      books.apply(
        (row: Book) => row,
        () => ({ id: 5, shelf: 'a' }),
        { created: true },
      ),
    )
    broken = false
    down.add('inner')
    await expect(error.retry()).rejects.toMatchObject({ code: 'ERR_NOT_INVALIDATED' })
    // One region that fails keeps no other from being invalidated.
    expect(order.at(-1)).toMatch(/^outer: .*tag:front/)
    expect(changes).toEqual([])
    down.clear()
    await error.retry()
    expect(changes[0]?.names).toContain('tag:front')
  })

  it('knows a new item by the result of the change, and a deleted one by its former state', async () => {
    const { books, changes } = library()
    const draft: Book = { id: undefined, shelf: 'a' }
    const saved = await books.apply(
      (row: Book) => row,
      async () => ({ ...draft, id: 9 }),
    )
    expect(saved.id).toBe(9)
    expect(changes[0]?.names).toContain('id:book:9')
    const row: Book = saved
    await books.delete(row, () => (row.id = undefined))
    expect(changes[1]).toMatchObject({
      action: 'delete',
      names: expect.arrayContaining(['id:book:9']) as string[],
    })
  })

  it('refuses an item whose names cannot be told, before anything is done', async () => {
    const { books } = library()
    let ran = false
    const wrong: Book = { id: undefined, shelf: 'a' }
    for (const work of [
      () => books.apply(wrong, () => (ran = true)),
      () => books.delete(wrong, () => (ran = true)),
      () => books.apply({ id: 1, shelf: 'a' }, () => (ran = true), { resaon: 'x' } as never),
      () => books.apply({ id: 1, shelf: 'a' }, () => (ran = true), { reason: 5 } as never),
      () => books.apply({ id: 1, shelf: 'a' }, 'change' as never),
    ])
      await expect(work()).rejects.toMatchObject({ code: 'ERR_OPTION' })
    expect(ran).toBe(false)
  })

  it('reaches the lists of the former item, its key included', async () => {
    const { books, changes } = library({
      id: ({ id = 0, shelf }) => [shelf, id],
      dependencies: ({ shelf }) => dep.group('shelf', shelf),
    })
    const before: Book = { id: 1, shelf: 'a' }
    await books.apply({ id: 1, shelf: 'b' }, () => {}, { before })
    await books.delete({ id: 1, shelf: 'b' }, () => {}, { before })
    await books.invalidate({ id: 1, shelf: 'b' }, { before })
    for (const { names } of changes)
      expect([...names].sort()).toEqual(
        ['a', 'b']
          .flatMap((shelf) => [
            dep.id('book', shelf, 1),
            dep.group('shelf', shelf),
            `scope:book:shelf='${shelf}`,
          ])
          .sort(),
      )
    expect(changes).toHaveLength(3)
  })

  it('invalidates nothing for an item that has to do with nothing', async () => {
    const { books, order, changes } = library({
      id: undefined as never,
      scopes: undefined as never,
      dependencies: () => [],
    })
    await books.apply({ id: 1, shelf: 'a' }, () => {})
    expect(order).toEqual(['told'])
    expect(changes).toMatchObject([{ names: [] }])
  })

  it.each([[''], [['a', '']], [[5]], [{}]])(
    'refuses %j for dependencies before the change',
    async (names) => {
      const { books, order } = library({ dependencies: () => names as string })
      await expect(books.apply({ id: 1, shelf: 'a' }, () => order.push('ran'))).rejects.toMatchObject({
        code: 'ERR_OPTION',
      })
      expect(order).toEqual([])
    },
  )

  it('takes children, composite keys and a soft mode', async () => {
    const { books, changes, inner } = library({
      id: ({ id = 0, shelf }) => [shelf, id],
      dependencies: ({ id = 0 }) => [dep.group('reader', id), dep.tag('front')],
      mode: 'soft',
    })
    await inner.getOrCreate('key', () => {
      dependsOn(dep.tag('front'))
      return 'old'
    })
    await books.apply({ id: 1, shelf: 'a' }, () => {})
    expect(changes[0]?.names).toEqual(['id:book:a:1', 'group:reader:1', 'tag:front', 'scopes:book:shelf'])
    expect(inner.peek('key')).toBe(NO_VALUE)
    expect(inner.peek('key', { ignoreExpiration: true })).toBe('old')
  })

  it('invalidates on its own for a change made elsewhere', async () => {
    const { books, order, changes } = library()
    await books.invalidate({ id: 5, shelf: 'a' }, { reason: 'import' })
    expect(order).toHaveLength(3)
    expect(changes).toMatchObject([{ action: 'invalidate', reason: 'import' }])
  })

  it('says so when the change is done but not all could be invalidated, and tries again when told to', async () => {
    const { books, order, broken, changes } = library()
    broken.add('inner')
    const error = await failure(books.apply({ id: 5, shelf: 'a' }, () => 'saved'))
    expect(error).toMatchObject({
      code: 'ERR_NOT_INVALIDATED',
      result: 'saved',
      regions: ['inner'],
      names: ['id:book:5', 'scopes:book:shelf'],
      message: expect.stringMatching(/The change is done.*'inner'/) as string,
      cause: { code: 'ERR_BACKEND' },
    })
    // The outer one was invalidated too, and no caller got a success.
    expect(order.map((line) => line.split(':')[0])).toEqual(['inner', 'outer'])
    expect(changes).toEqual([])
    await expect(error.retry()).rejects.toMatchObject({ code: 'ERR_NOT_INVALIDATED', regions: ['inner'] })
    broken.clear()
    await error.retry()
    expect(order.map((line) => line.split(':')[0])).toEqual(['inner', 'outer', 'inner', 'inner', 'told'])
    expect(changes).toHaveLength(1)
    // Invalidating again is harmless, but it was one change.
    await Promise.all([error.retry(), error.retry()])
    expect(order).toHaveLength(7)
    expect(changes).toHaveLength(1)
  })

  it('invalidates the names that it has when others cannot be determined after the change', async () => {
    const { books, order } = library()
    const row: { value: Book | undefined } = { value: undefined }
    const error = await failure(
      books.apply(
        () => row.value as Book,
        () => 'saved',
      ),
    )
    expect(error).toMatchObject({ result: 'saved', regions: [undefined] })
    // Which lists it is in could not be told either.
    expect(order.slice(0, 2)).toEqual(['inner: scopes:book:shelf', 'outer: scopes:book:shelf'])
    order.length = 0
    row.value = { id: 3, shelf: 'z' }
    await error.retry()
    expect(order.slice(0, 2)).toEqual([
      'inner: id:book:3 scopes:book:shelf',
      'outer: id:book:3 scopes:book:shelf',
    ])
    order.length = 0
    const lost = await failure(
      books.apply(
        () => {
          throw new Error('no such row')
        },
        () => 'saved',
        { before: { id: 4, shelf: 'a' }, modified: ['shelf'] },
      ),
    )
    expect(lost.cause).toMatchObject({ message: 'no such row' })
    expect(order[0]).toBe("inner: id:book:4 scope:book:shelf='a scopes:book:shelf")
    order.length = 0
    const item: Book = { id: 5, shelf: 'a' }
    const other = await failure(books.apply(item, () => ((item.id = undefined), 'saved')))
    expect(other.result).toBe('saved')
    expect(order.slice(0, 2)).toEqual([
      'inner: id:book:5 scopes:book:shelf',
      'outer: id:book:5 scopes:book:shelf',
    ])
  })

  it.each<[string, (change: () => Promise<unknown>, inner: Pick<Broker<Book>, 'apply'>) => Promise<unknown>]>(
    [
      ['another broker', (change, inner) => inner.apply({ id: 9, shelf: 'x' }, change)],
      ['an afterCommit', (change, inner) => afterCommit(() => inner.apply({ id: 9, shelf: 'x' }, change))],
    ],
  )('keeps its own invalidation when %s inside its change could not be invalidated', async (_, inside) => {
    const { books, outer, order, broken, changes } = library()
    const others = library()
    others.broken.add('inner')
    broken.add('outer')
    const error = await failure(
      books.apply({ id: 5, shelf: 'a' }, () => inside(async () => 'saved', others.books)),
    )
    const own = books.namesFor({ id: 5, shelf: 'a' })
    expect(error).toMatchObject({ result: 'saved', regions: ['outer', 'inner'] })
    const theirs = others.books.namesFor({ id: 9, shelf: 'x' })
    expect(error.names).toEqual([...new Set([...own, ...theirs])])
    expect(order).toEqual([`inner: ${own.join(' ')}`, `outer: ${own.join(' ')}`])
    await outer.getOrCreate('made', () => {
      dependsOn(dep.id('book', 5))
      return 'old'
    })
    await expect(error.retry()).rejects.toMatchObject({ code: 'ERR_NOT_INVALIDATED' })
    broken.clear()
    await expect(error.retry()).rejects.toMatchObject({ regions: ['inner'] })
    expect(changes).toEqual([])
    others.broken.clear()
    await error.retry()
    expect(outer.peek('made')).toBe(NO_VALUE)
    expect(others.order.at(-2)).toBe(`inner: ${theirs.join(' ')}`)
    expect(changes).toHaveLength(1)
  })

  it('refuses a version among the names before the change', async () => {
    const schema = dep.version('schema', () => 'one')
    const version = await schema.current()
    const { books } = library({ dependencies: () => version })
    let ran = false
    await expect(books.apply({ id: 1, shelf: 'a' }, () => (ran = true))).rejects.toMatchObject({
      code: 'ERR_VERSION',
    })
    expect(ran).toBe(false)
  })

  it('refuses a cause that its regions cannot relay, before the change', async () => {
    const { books, outer } = library()
    const relayed = relay(localBus(), [outer])
    let ran = false
    await expect(
      books.apply({ id: 1, shelf: 'a' }, () => (ran = true), { meta: { user: 5n } }),
    ).rejects.toMatchObject({ code: 'ERR_UNENCODABLE' })
    expect(ran).toBe(false)
    await relayed.close()
  })

  it.each([
    ['is not configured yet', 'ERR_NOT_CONFIGURED', () => makeRegion({ name: 'late' })],
    ['tracks no dependencies', 'ERR_NO_LEDGER', () => makeRegion({ name: 'plain', backend: memory() })],
    [
      'was closed',
      'ERR_CLOSED',
      () => {
        const region = makeRegion({ name: 'closed', backend: wrap(memory(), dependencies()) })
        void region.close()
        return region
      },
    ],
  ])('refuses a change where a region %s, before it is done', async (_, code, make) => {
    const { inner, order } = library()
    const books = broker<Book>('book', { regions: [inner, make()], id: ({ id }) => id as number })
    const change = vi.fn()
    const book = { id: 1, shelf: 'a' }
    await expect(books.apply(book, change, { created: true })).rejects.toMatchObject({ code })
    await expect(books.delete(book, change)).rejects.toMatchObject({ code })
    expect(change).not.toHaveBeenCalled()
    expect(order).toEqual([])
    // That one is done already: the other region must hear of it.
    await expect(books.invalidate(book)).rejects.toMatchObject({
      code: 'ERR_NOT_INVALIDATED',
      cause: { code },
    })
    expect(order).toEqual(['inner: id:book:1'])
  })

  it('invalidates without the cause when that turns out to be too much after the change', async () => {
    const { books, outer, list, changes } = library()
    await list('a')
    const meta: { user: unknown } = { user: 5 }
    const relayed = relay(localBus(), [outer])
    await books.apply({ id: 1, shelf: 'a' }, () => (meta.user = 5n), { meta })
    expect(outer.peek('list a')).toBe(NO_VALUE)
    await list('a')
    // Names that are told only afterwards go the same way.
    meta.user = 5
    await failure(
      books.apply(
        () => undefined as never,
        () => (meta.user = 5n),
        { meta },
      ),
    )
    meta.user = 5
    const row: { value: Book | undefined } = { value: undefined }
    const error = await failure(
      books.apply(
        () => row.value as Book,
        () => (meta.user = 5n),
        { meta },
      ),
    )
    row.value = { id: 1, shelf: 'a' }
    await error.retry()
    expect(outer.peek('list a')).toBe(NO_VALUE)
    expect(changes).toHaveLength(2)
    await relayed.close()
  })

  it.each<[string, () => unknown, RegExp]>([
    ['no type', () => broker('', { regions: [makeRegion()], id: () => 1 }), /the type/],
    ['no regions', () => broker('b', { regions: [], id: () => 1 }), /`regions`/],
    ['what is no region', () => broker('b', { regions: [{} as never], id: () => 1 }), /`regions`/],
    ['null', () => broker('b', { regions: [null as never], id: () => 1 }), /`regions`/],
    ['nothing to go by', () => broker('b', { regions: [makeRegion()] }), /to name the dependencies/],
    ['an id that is none', () => broker('b', { regions: [makeRegion()], id: 'id' as never }), /`id`/],
    [
      'scopes that are none',
      () => broker('b', { regions: [makeRegion()], scopes: {} as never }),
      /dep\.scopes/,
    ],
    [
      'a mode that is none',
      () => broker('b', { regions: [makeRegion()], id: () => 1, mode: 'x' as never }),
      /'soft'/,
    ],
    ['an unknown option', () => broker('b', { regions: [makeRegion()], ids: 1 } as never), /`ids`/],
    ['no options', () => broker('b', undefined as never), /options/],
  ])('refuses %s', (_, make, message) => {
    expect(make).toThrow(message)
    expect(make).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }))
  })
})

describe('afterCommit()', () => {
  const one: Book = { id: 1, shelf: 'a' }
  const other: Book = { id: 2, shelf: 'a' }

  it('invalidates the names of brokers when the transaction is committed, in each region once', async () => {
    const { books, order, changes } = library()
    const answer = await afterCommit(async () => {
      await books.apply(one, () => order.push('one'), { reason: 'first', meta: 1 })
      await books.delete(other, () => order.push('other'), { reason: 'second' })
      await books.delete(other, () => {})
      order.push('commit')
      return 'done'
    })
    expect(answer).toBe('done')
    const names = "id:book:1 scopes:book:shelf id:book:2 scope:book:shelf='a"
    const told = ['told', 'told', 'told']
    expect(order).toEqual(['one', 'other', 'commit', `inner: ${names}`, `outer: ${names}`, ...told])
    expect(changes).toMatchObject([
      { action: 'apply', reason: 'first', meta: 1 },
      { action: 'delete', reason: 'second' },
      { action: 'delete' },
    ])
  })

  it('gives the regions all the reasons', async () => {
    const { books, inner } = library()
    const causes: unknown[] = []
    inner.on('invalidate', ({ reason, meta }) => causes.push([reason, meta]))
    await afterCommit(() => books.apply(one, () => {}, { reason: 'first', meta: 1 }))
    await afterCommit(async () => {
      await books.apply(one, () => {}, { reason: 'first', meta: 1 })
      await books.apply(other, () => {}, { reason: 'second', meta: 2 })
      await books.apply(other, () => {}, { reason: 'second' })
    })
    expect(causes).toEqual([
      ['first', 1],
      ['first; second', undefined],
    ])
  })

  it('invalidates nothing when the transaction is rolled back', async () => {
    const { books, order, changes } = library()
    const boom = new Error('rollback')
    await expect(
      afterCommit(async () => {
        await books.apply(one, () => {})
        throw boom
      }),
    ).rejects.toBe(boom)
    expect([order, changes]).toEqual([[], []])
  })

  it('treats a nested one as a savepoint, which may also be a transaction of its own', async () => {
    const { books, order, changes } = library()
    await afterCommit(async () => {
      await afterCommit(() => books.apply(one, () => {}))
      const own = order.splice(0)
      expect(own).toEqual(['inner: id:book:1 scopes:book:shelf', 'outer: id:book:1 scopes:book:shelf'])
      await afterCommit(async () => {
        await books.apply(other, () => {})
        throw new Error('back to the savepoint')
      }).catch(() => {})
    })
    expect(order[0]).toBe('inner: id:book:1 scopes:book:shelf')
    expect(changes).toHaveLength(1)
  })

  it('keeps transactions apart that run at the same time', async () => {
    const { books, order } = library()
    const { create, resolve, started } = held<void>()
    const slow = afterCommit(async () => {
      await books.apply(one, () => {})
      await create()
    })
    await started
    await afterCommit(() => books.apply(other, () => {}))
    expect(order.filter((line) => line.startsWith('inner'))).toEqual(['inner: id:book:2 scopes:book:shelf'])
    resolve()
    await slow
    expect(order.filter((line) => line.startsWith('inner'))).toHaveLength(2)
  })

  it('lets work that outlives it invalidate at once', async () => {
    const { books, order } = library()
    let late: Promise<unknown> | undefined
    const { create, resolve } = held<void>()
    await afterCommit(() => {
      late = create().then(() => books.apply(one, () => {}))
    })
    expect(order).toEqual([])
    // While another transaction is open, too.
    const another = held<void>()
    const open = afterCommit(() => another.create())
    resolve()
    await late
    expect(order).toHaveLength(3)
    another.resolve()
    await open
  })

  it('does not include a renewal in the background, which it may roll back', async () => {
    const { books, outer, list } = library()
    let renewed: Promise<void> | undefined
    const pile = dogpile<string>({
      runner: (job) => {
        renewed = job.run()
      },
    })
    const page = () =>
      pile.run('page', {
        read: () => [{ state: 'stale', value: 'old' }],
        create: async () => {
          await books.apply(other, () => {})
          return ['page']
        },
      })
    await list('a')
    await expect(
      afterCommit(async () => {
        expect(await page()).toBe('old')
        await renewed
        throw new Error('rollback')
      }),
    ).rejects.toThrow('rollback')
    expect(outer.peek('list a')).toBe(NO_VALUE)
  })

  it('keeps the invalidations of a savepoint until the outer one is committed', async () => {
    const { books, order } = library()
    const { create, resolve } = held<void>()
    await afterCommit(async () => {
      let late: Promise<unknown> | undefined
      await afterCommit(() => {
        late = books.apply(one, create)
      })
      resolve()
      await late
      expect(order).toEqual([])
    })
    expect(order).toHaveLength(3)
  })

  it('gives many changes a reason that can travel', async () => {
    const { books, inner, list, outer } = library()
    await list('a')
    const reasons: (string | undefined)[] = []
    inner.on('invalidate', ({ reason }) => reasons.push(reason))
    const relayed = relay(localBus(), [inner, outer])
    await afterCommit(async () => {
      for (let i = 0; i < 1_000; i++)
        await books.apply({ id: i, shelf: 'a' }, () => {}, { reason: `order ${i} \0 ${'x'.repeat(60)}` })
    })
    expect(outer.peek('list a')).toBe(NO_VALUE)
    expect(reasons).toEqual([expect.stringMatching(/^order 0 .*; order 1 .*…$/s)])
    await relayed.close()
  })

  it('names the invalidations of a change inside that failed, and invalidates its own', async () => {
    const { books, order, broken } = library()
    const others = library()
    broken.add('inner')
    const inside = await failure(books.apply(one, () => 'done'))
    const error = await failure(afterCommit(() => others.books.apply(other, () => Promise.reject(inside))))
    expect(error).toMatchObject({ result: 'done', regions: ['inner'] })
    expect(others.order).toHaveLength(2)
    broken.clear()
    await error.retry()
    expect(order.at(-2)).toMatch(/^inner/)
    expect(others.order.at(-1)).toBe('told')
  })

  it('invalidates when the error of the change marks it as done', async () => {
    const { books, order, broken } = library()
    const others = library()
    broken.add('inner')
    const committed = await failure(books.apply(one, () => 'done'))
    const error = await failure(
      afterCommit(async () => {
        await others.books.apply(other, () => {})
        throw committed
      }),
    )
    expect(others.order).toHaveLength(2)
    broken.clear()
    await error.retry()
    expect(others.order).toHaveLength(3)
    expect(order.at(-2)).toMatch(/^inner/)
  })

  it('turns its storage off with the last one, because it makes promises dear', async () => {
    const disable = vi.spyOn(AsyncLocalStorage.prototype, 'disable')
    const { create, resolve } = held<void>()
    const slow = afterCommit(create)
    await afterCommit(() => afterCommit(() => {}))
    await expect(afterCommit(() => Promise.reject(new Error('rollback')))).rejects.toThrow('rollback')
    expect(disable).toHaveBeenCalledTimes(0)
    resolve()
    await slow
    expect(disable).toHaveBeenCalledTimes(1)
    disable.mockRestore()
  })

  it('says when it is committed but not all is invalidated', async () => {
    const { books, broken } = library()
    broken.add('outer')
    const error = await failure(
      afterCommit(async () => {
        await books.apply(one, () => 'inside')
        return 'committed'
      }),
    )
    expect(error).toMatchObject({ result: 'committed', regions: ['outer'] })
  })

  it('refuses a value that is no function', async () => {
    await expect(afterCommit('x' as never)).rejects.toMatchObject({ code: 'ERR_OPTION' })
  })
})
