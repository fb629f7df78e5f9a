/** The names of a transaction are marked before its commit, until it is over. */
import { setTimeout as sleepless } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { diagnostics } from '../../src/base/diagnostics.js'
import { dep, dependsOn, makeRegion, memoryLedger, NO_VALUE, wrap } from '../../src/index.js'
import type { LedgerReading } from '../../src/ledger/ledger.js'
import { afterCommit, beginTransaction, broker, invalidateAfterCommit } from '../../src/signals/index.js'
import { withOperations } from '../support/ledgers.js'

interface Book {
  readonly id: number
}

const ends: (() => void)[] = []
afterEach(() => ends.splice(0).forEach((end) => end()))

/** Messages of a channel. */
function heard(channel: 'notice' | 'failure'): unknown[] {
  const messages: unknown[] = []
  const listen = (message: unknown) => void messages.push(message)
  const source = diagnostics(channel)
  source.subscribe(listen)
  ends.push(() => source.unsubscribe(listen))
  return messages
}

/** A table of one row, its cache, and the calls of the ledger. `life`: that of a mark in ms. */
function library({ life, fails = false }: { readonly life?: number; readonly fails?: boolean } = {}) {
  const calls: string[] = []
  const ledger = withOperations(memoryLedger(), (opened) => ({
    pending: async (names, mode, transaction) => {
      calls.push(`mark ${names.join()}`)
      if (fails) throw new Error('away')
      return life ?? (await opened.pending?.(names, mode, transaction)) ?? 0
    },
    invalidate: (names, mode, transaction) => {
      calls.push(`${transaction === undefined ? 'invalidate' : 'end'} ${names.join()}`)
      return opened.invalidate(names, mode, transaction)
    },
  }))
  const region = makeRegion<number>({ name: 'books', backend: wrap(memory(), dependencies({ ledger })) })
  let row = 0
  let created = 0
  const read = () =>
    region.getOrCreate('book', () => {
      created++
      dependsOn(dep.id('book', 1))
      return row
    })
  const books = broker<Book>('book', { regions: [region], id: ({ id }) => id })
  const write = async () => void row++
  return { region, read, books, write, calls, created: () => created }
}

const NAME = dep.id('book', 1)

describe('a broker over a ledger that keeps marks', () => {
  it('marks its names before the change, and the invalidation ends the marks', async () => {
    const { books, calls, write } = library()
    await books.apply({ id: 1 }, async () => {
      expect(calls).toEqual([`mark ${NAME}`])
      await write()
    })
    expect(calls).toEqual([`mark ${NAME}`, `end ${NAME}`])
  })

  it('serves and stores nothing of the row while it changes, and caches it again afterwards', async () => {
    const { region, books, read, write, created } = library()
    expect([await read(), await region.get('book')]).toEqual([0, 0])
    await books.apply({ id: 1 }, async () => {
      expect(await region.get('book')).toBe(NO_VALUE)
      expect([await read(), await region.get('book')]).toEqual([0, NO_VALUE])
      await write()
      expect([await read(), await region.get('book')]).toEqual([1, NO_VALUE])
    })
    expect([await read(), await region.get('book'), created()]).toEqual([1, 1, 4])
  })

  it('shares a creation under a mark among the callers that were there before it began', async () => {
    const { books, read, created } = library()
    await books.apply({ id: 1 }, async () => {
      expect(await Promise.all([read(), read(), read()])).toEqual([0, 0, 0])
    })
    expect(created()).toBe(1)
  })

  it('ends the marks of a change that fails, which brings no older value back', async () => {
    const { region, books, read, calls } = library()
    await read()
    const undone = new Error('undone')
    await expect(books.apply({ id: 1 }, () => Promise.reject(undone))).rejects.toBe(undone)
    expect(calls).toEqual([`mark ${NAME}`, `end ${NAME}`])
    expect(await region.get('book')).toBe(NO_VALUE)
    expect([await read(), await region.get('book')]).toEqual([0, 0])
  })

  it('goes on without marks that cannot be set, and reports it', async () => {
    const failures = heard('failure')
    const { books, calls, write } = library({ fails: true })
    await books.apply({ id: 1 }, write)
    expect(calls).toEqual([`mark ${NAME}`, `end ${NAME}`])
    expect(failures).toMatchObject([
      { where: 'marks of a transaction', error: { cause: { message: 'away' } } },
    ])
  })

  it('does not wait for its marks to end after the store failed its invalidation, and reports an outage once', async () => {
    const failures = heard('failure')
    let waiting = 0
    const ledger = withOperations(memoryLedger(), () => ({
      pending: () => Promise.reject(new Error('away')),
      invalidate: () => (waiting++ === 0 ? Promise.reject(new Error('away')) : new Promise(() => {})),
    }))
    const region = makeRegion<number>({ name: 'away', backend: wrap(memory(), dependencies({ ledger })) })
    const books = broker<Book>('book', { regions: [region], id: ({ id }) => id })
    const change = books.apply({ id: 1 }, async () => 'done')
    await expect(change).rejects.toMatchObject({ code: 'ERR_NOT_INVALIDATED', result: 'done' })
    expect([waiting, failures.length]).toEqual([2, 1])
  })

  it('tells of a change that took longer than its marks live', async () => {
    const notices = heard('notice')
    await library({ life: 60_000 }).books.apply({ id: 1 }, () => {})
    expect(notices).toEqual([])
    await library({ life: -1 }).books.apply({ id: 1 }, () => {})
    expect(notices).toMatchObject([
      { where: 'transaction', message: expect.stringContaining('names were marked for -1 ms') },
    ])
  })
})

describe('a transaction over a ledger that keeps marks', () => {
  it('marks the names of each change before it is made, until its end', async () => {
    const { region, books, calls, write, read } = library()
    await afterCommit(async () => {
      await invalidateAfterCommit(region, 'other')
      await books.apply({ id: 1 }, write)
      expect(calls).toEqual(['mark other', `mark ${NAME}`])
    })
    expect(calls).toEqual(['mark other', `mark ${NAME}`, `end other,${NAME}`])
    expect([await read(), await region.get('book')]).toEqual([1, 1])
  })

  it('marks names that only the result of a change tells, before the commit', async () => {
    const { books, calls } = library()
    await afterCommit(async () => {
      await books.apply(
        ({ id }: Book) => ({ id }),
        async () => ({ id: 1 }),
        { created: true },
      )
      expect(calls).toEqual([`mark ${NAME}`])
    })
    expect(calls).toEqual([`mark ${NAME}`, `end ${NAME}`])
  })

  it('takes its marks away after a rollback, those of a savepoint with the savepoint', async () => {
    const { region, calls } = library()
    const rollback = new Error('rollback')
    const whole = afterCommit(async () => {
      const savepoint = afterCommit(async () => {
        await invalidateAfterCommit(region, 'inner')
        throw rollback
      })
      await expect(savepoint).rejects.toBe(rollback)
      expect(calls.splice(0)).toEqual(['mark inner', 'end inner'])
      await afterCommit(() => invalidateAfterCommit(region, 'kept'))
      await invalidateAfterCommit(region, 'outer')
      expect(calls.splice(0)).toEqual(['mark kept', 'mark outer'])
      throw rollback
    })
    await expect(whole).rejects.toBe(rollback)
    expect(calls.sort()).toEqual(['end kept', 'end outer'])
  })

  it('marks the names of all changes at once if it is prepared', async () => {
    const { region, books, calls, write } = library()
    const transaction = beginTransaction({ prepared: true })
    await transaction.run(async () => {
      await books.apply({ id: 1 }, write)
      await invalidateAfterCommit(region, ['a', 'b'])
    })
    expect(calls).toEqual([])
    await transaction.prepare()
    expect(calls.splice(0)).toEqual([`mark ${NAME},a,b`])
    await transaction.prepare()
    await transaction.commit()
    expect(calls).toEqual([`end ${NAME},a,b`])
  })

  it('leaves its marks if the outcome of its commit is unknown', async () => {
    const { region, books, read, write, calls } = library()
    const transaction = beginTransaction()
    await transaction.run(() => books.apply({ id: 1 }, async () => {}))
    await transaction.unsure()
    expect(calls).toEqual([`mark ${NAME}`, `invalidate ${NAME}`])
    // The database commits after all.
    expect([await read(), await region.get('book')]).toEqual([0, NO_VALUE])
    await write()
    expect(await read()).toBe(1)
  })

  it('of afterCommit leaves its marks if it fails after its work: the outcome of the commit is unknown', async () => {
    const { region, calls } = library()
    const lost = new Error('the reply is lost')
    const failed = afterCommit(async (committing) => {
      await invalidateAfterCommit(region, 'a')
      committing()
      throw lost
    })
    await expect(failed).rejects.toBe(lost)
    expect(calls).toEqual(['mark a', 'invalidate a'])
  })

  it('can be of unknown outcome only until it is over', async () => {
    const { region, calls } = library()
    const transaction = beginTransaction()
    await transaction.run(() => invalidateAfterCommit(region, 'a'))
    await transaction.commit()
    await transaction.unsure()
    expect(calls).toEqual(['mark a', 'end a'])
  })

  it('is over for its marks too, once it was rolled back', async () => {
    const { region, calls } = library()
    const transaction = beginTransaction()
    await transaction.run(() => invalidateAfterCommit(region, 'a'))
    await transaction.rollback()
    await transaction.rollback()
    await expect(transaction.prepare()).rejects.toMatchObject({ code: 'ERR_CLOSED' })
    await sleepless(0)
    expect(calls).toEqual(['mark a', 'end a'])
  })

  it('refuses options that it does not know', () => {
    expect(() => beginTransaction({ prepare: true } as never)).toThrow(
      expect.objectContaining({ code: 'ERR_OPTION' }),
    )
    expect(() => beginTransaction({ prepared: 'yes' } as never)).toThrow(
      expect.objectContaining({ code: 'ERR_OPTION' }),
    )
  })
})

describe('marks end', () => {
  it('also behind a Proxy of the region that passes on no more than three arguments', async () => {
    const { region, calls } = library()
    const wrapped = new Proxy(region, {
      get: (target, name) =>
        name === 'invalidateDependencies'
          ? (...[names, mode, cause]: Parameters<typeof region.invalidateDependencies>) =>
              target.invalidateDependencies(names, mode, cause)
          : Reflect.get(target, name),
    })
    await afterCommit(() => invalidateAfterCommit(wrapped, 'a'))
    expect(calls).toEqual(['mark a', 'invalidate a', 'end a'])
  })

  it('by themselves in the order in which they were set last', () => {
    let now = 0
    const { pending, now: begin, read } = memoryLedger({ clock: { now: () => now } }).open('c')
    const isMarked = (name: string) =>
      (read([name]) as LedgerReading).stamps[0]?.hard === Number.POSITIVE_INFINITY
    void pending?.(['a'], 'hard', 'first')
    now = 10_000
    void pending?.(['a', 'b'], 'hard', 'second')
    now = 20_000
    void pending?.(['c'], 'hard', 'first')
    now = 40_000
    void begin([])
    expect(['a', 'b', 'c'].map(isMarked)).toEqual([true, false, true])
    now = 50_000
    void begin([])
    expect(['a', 'b', 'c'].map(isMarked)).toEqual([false, false, false])
  })
})

describe('marks never undo a transaction', () => {
  const region = () => makeRegion<string>({ name: 'r', backend: wrap(memory(), dependencies()) })

  it('of very many names', async () => {
    const pages = region()
    const open = beginTransaction({ prepared: true })
    const names = Array.from({ length: 200_000 }, (_, i) => dep.id('row', i))
    await open.run(() => invalidateAfterCommit(pages, names))
    await open.prepare()
    await open.commit()
  })

  it('of a region that is closed before the commit, whose invalidation fails and tells', async () => {
    const pages = region()
    const open = beginTransaction({ prepared: true })
    await open.run(() => invalidateAfterCommit(pages, dep.id('row', 1)))
    await pages.close()
    await open.prepare()
    await expect(open.commit()).rejects.toMatchObject({ code: 'ERR_NOT_INVALIDATED' })
  })
})
