/** The integration of a bare driver, over libsql in memory. */
import Libsql from 'libsql'
import { describe, expect, it } from 'vitest'
import { NO_VALUE } from '../../src/index.js'
import { type RowOptions, sqlCache } from '../../src/integrations/sql.js'
import { drainRefreshes, refreshAfterCommit } from '../../src/signals/index.js'
import { ALL, cached, DDL, markedStage, stage } from './rows.js'

async function open() {
  const at = stage()
  const file = new Libsql(':memory:')
  for (const statement of [...DDL, 'PRAGMA foreign_keys = ON']) file.exec(statement)
  file.exec("INSERT INTO article (id, title, category) VALUES (1, 'a', 'news'), (2, 'b', 'sport')")
  const cache = sqlCache(at.options)
  const run = async (sql: string) => void file.exec(sql)
  const title = () =>
    (file.prepare('SELECT title FROM article WHERE id = 1').get() as { title: string }).title
  return { ...at, cache, run, title, left: await cached(at.region, cache) }
}

describe('sqlCache()', () => {
  it('invalidates rows after the commit of a unit of work, with the lists that they left and entered', async () => {
    const { cache, run, left } = await open()
    const before = { id: 1, title: 'a', category: 'news' }
    const result = await cache.unitOfWork(run, async () => {
      await run("UPDATE article SET title = 'c' WHERE id = 1")
      await cache.changed('article', { ...before, title: 'c' }, { before, modified: ['title'] })
      expect(await left()).toEqual(ALL)
      return 5
    })
    expect([result, await left()]).toEqual([5, ['two', 'news', 'sport', 'line']])
    await cache.changed('article', { ...before, category: 'sport' }, { before })
    expect(await left()).toEqual(['two', 'line'])
  })

  it('invalidates all lists of a row without a former state, and those that a new row enters', async () => {
    const { cache, region, left } = await open()
    await cache.changed('article', [{ id: 3, title: 'n', category: 'news' }], { created: true })
    expect(await left()).toEqual(['one', 'two', 'sport', 'line'])
    const again = await cached(region, cache)
    await cache.changed('article', { id: 1, title: 'n', category: 'news' })
    expect(await again()).toEqual(['two', 'line'])
  })

  it('invalidates a row under its former key, too', async () => {
    const { cache, left } = await open()
    const before = { id: 1, title: 'a', category: 'news' }
    await cache.changed('article', { ...before, id: 9 }, { before, modified: ['id'] })
    expect(await left()).toEqual(['two', 'news', 'sport', 'line'])
  })

  it('forgets what is rolled back, a savepoint without the rest', async () => {
    const { cache, run, left, title } = await open()
    await cache.unitOfWork(run, async () => {
      await run("UPDATE article SET title = 'kept' WHERE id = 1")
      await cache.invalidate('article', 1)
      const inner = cache.unitOfWork(run, async () => {
        await run("UPDATE article SET title = 'undone' WHERE id = 1")
        await cache.invalidate('order_line', 1, 2)
        throw new Error('undo')
      })
      await expect(inner).rejects.toThrow('undo')
      await cache.unitOfWork(run, () => cache.invalidate('article', 2))
      expect(await left()).toEqual(ALL)
    })
    expect([title(), await left()]).toEqual(['kept', ['line']])
    await expect(
      cache.unitOfWork(run, async () => {
        await run("UPDATE article SET title = 'undone' WHERE id = 1")
        await cache.invalidate('order_line')
        throw new Error('undo')
      }),
    ).rejects.toThrow('undo')
    expect([title(), await left()]).toEqual(['kept', ['line']])
  })

  it('invalidates also when the commit fails, whose outcome nobody can know', async () => {
    const { cache, run, left } = await open()
    const { log, region } = markedStage()
    const marked = sqlCache({ regions: region, tables: { article: 'id' } })
    const lossy = async (sql: string) => {
      await run(sql)
      if (sql === 'COMMIT') throw new Error('the reply is lost')
    }
    const failed = cache.unitOfWork(lossy, () => cache.invalidate('article', 1))
    await expect(failed).rejects.toThrow('the reply is lost')
    expect(await left()).toEqual(['two', 'line'])
    const once = marked.unitOfWork(lossy, () => marked.invalidate('article', 1))
    await expect(once).rejects.toThrow('the reply is lost')
    expect(log).toEqual(['mark id:article:1', 'invalidate id:article:1'])
  })

  it('takes a commit for rolled back where the database says so, and gives its connection back without a transaction', async () => {
    const { run, title } = await open()
    const { log, region } = markedStage()
    const cache = sqlCache({ regions: region, tables: { article: 'id' } })
    const failed = cache.unitOfWork(run, async () => {
      await run("UPDATE article SET author = 99, title = 'undone' WHERE id = 1")
      await cache.invalidate('article', 1)
    })
    await expect(failed).rejects.toThrow(/FOREIGN KEY/)
    expect(log.splice(0)).toEqual(['mark id:article:1', 'end id:article:1'])
    expect(title()).toBe('a')
    await cache.unitOfWork(run, async () => {
      await run("UPDATE article SET title = 'next' WHERE id = 1")
      await cache.invalidate('article', 1)
    })
    expect(title()).toBe('next')
  })

  it.each<readonly [string, object, 'end' | 'invalidate']>([
    ['PostgreSQL: a serialization failure', { code: '40001' }, 'end'],
    ['PostgreSQL: a deferred constraint', { code: '23503' }, 'end'],
    ['PostgreSQL: it does not know', { code: '40003' }, 'invalidate'],
    ['PostgreSQL: the connection is lost', { code: '08006' }, 'invalidate'],
    ['MySQL: a deadlock', { code: 'ER_LOCK_DEADLOCK', sqlState: '40001' }, 'end'],
    ['SQLite: it is busy', { code: 'SQLITE_BUSY_SNAPSHOT' }, 'end'],
    ['SQLite: the disk fails', { code: 'SQLITE_IOERR_FSYNC' }, 'invalidate'],
    ['node:sqlite: a deferred constraint', { code: 'ERR_SQLITE_ERROR', errcode: 787 }, 'end'],
    ['node:sqlite: the disk fails', { code: 'ERR_SQLITE_ERROR', errcode: 10 }, 'invalidate'],
    ['a driver that wraps it', { cause: { code: '40P01' } }, 'end'],
    ['the network', { code: 'ECONNRESET' }, 'invalidate'],
  ])('knows what the failure of a COMMIT says about its outcome. %s', async (_, failure, expected) => {
    const { log, region } = markedStage()
    const cache = sqlCache({ regions: region, tables: { article: 'id' } })
    const sent: string[] = []
    const run = async (sql: string) => {
      sent.push(sql)
      if (sql === 'COMMIT') throw Object.assign(new Error('failed'), failure)
      if (sql === 'ROLLBACK') throw new Error('there is none')
    }
    await expect(cache.unitOfWork(run, () => cache.invalidate('article', 1))).rejects.toThrow('failed')
    expect(log.at(-1)).toBe(`${expected} id:article:1`)
    expect(sent).toEqual(['BEGIN', 'COMMIT', 'ROLLBACK'])
  })

  it('runs no work where the transaction cannot begin, and the next one begins anew', async () => {
    const { cache, run, left } = await open()
    let away = true
    const flaky = async (sql: string) => {
      if (away) throw new Error('away')
      await run(sql)
    }
    await expect(cache.unitOfWork(flaky, () => cache.invalidate('article'))).rejects.toThrow('away')
    expect(await left()).toEqual(ALL)
    away = false
    await cache.unitOfWork(flaky, () => cache.invalidate('article'))
    expect(await left()).toEqual(['line'])
  })

  it('begins a transaction after a savepoint that nothing awaited', async () => {
    const { cache, run } = await open()
    const sent: string[] = []
    const statements = (sql: string) => {
      sent.push(sql)
      return run(sql)
    }
    let end = () => {}
    let left: Promise<unknown> = Promise.resolve()
    await cache.unitOfWork(statements, async () => {
      await new Promise<void>((begun) => {
        left = cache.unitOfWork(statements, () => {
          begun()
          return new Promise<void>((resolve) => (end = resolve))
        })
      })
    })
    end()
    await expect(left).rejects.toThrow('no such savepoint')
    sent.length = 0
    await cache.unitOfWork(statements, () => {})
    expect(sent).toEqual(['BEGIN', 'COMMIT'])
  })

  it('fills nothing inside, and refreshes after the commit outside of it', async () => {
    const { cache, run, region, title } = await open()
    const page = region.cacheOnArguments(title, {
      namespace: 'page',
      dependencies: () => cache.dependenciesOf('article', { id: 1 }),
    })
    await cache.unitOfWork(run, async () => {
      await run("UPDATE article SET title = 'new' WHERE id = 1")
      expect(await page()).toBe('new')
      await cache.invalidate('article', 1)
      await refreshAfterCommit(() => page.refresh())
      expect(await page.get()).toBe(NO_VALUE)
    })
    await drainRefreshes()
    expect(await page.get()).toBe('new')
  })

  it('names the rows that a value was made from, also those under its properties', async () => {
    const { options } = await open()
    const cache = sqlCache({ ...options, tables: { article: 'id', author: 'id', tag: 'label' }, scopes: {} })
    const row = {
      id: 1,
      author: { id: 7 },
      tags: [
        { label: 'x', owner: null },
        { label: 'y', owner: { id: 8 } },
      ],
    }
    const names = cache.dependenciesOf('article', [row, null, undefined], {
      author: 'author',
      tags: { table: 'tag', relations: { owner: 'author' } },
    })
    expect(names.filter((name) => name.startsWith('id:'))).toEqual([
      'id:article:1',
      'id:author:7',
      'id:tag:x',
      'id:tag:y',
      'id:author:8',
    ])
  })

  it('refuses rows without their key, properties that were not read, and options that cannot be right', async () => {
    const { cache, options } = await open()
    const refused: readonly (() => unknown)[] = [
      () => cache.dependenciesOf('article', { title: 'a' }),
      () => cache.dependenciesOf('article', 'row'),
      () => cache.dependenciesOf('order_line', { order: 1 }),
      () => cache.dependenciesOf('articles', { id: 1 }),
      () => cache.dependenciesOf('article', { id: 1 }, { author: 'author' }),
      () => cache.dependenciesOf('article', { id: 1, author: { id: 1 } }, { author: 'author' }),
      () => sqlCache({ ...options, tables: {} }),
      () => sqlCache({ ...options, tables: { article: [] } }),
      () => sqlCache({ ...options, tables: { article: '' }, scopes: {} }),
      () => sqlCache({ regions: options.regions } as RowOptions),
      () => sqlCache({ ...options, tables: { other: 'id' } }),
      () => sqlCache({ ...options, patch: true } as RowOptions),
    ]
    for (const call of refused)
      expect(call, String(call)).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }))
    const rejected: readonly Promise<unknown>[] = [
      cache.changed('article', { title: 'a' }),
      cache.changed('article', { id: 1 }, { deleted: true } as never),
      cache.invalidate('order_line', 1),
      cache.invalidate('article', 1, 2),
      cache.invalidate('articles'),
      cache.unitOfWork('BEGIN' as never, () => {}),
      cache.unitOfWork(() => {}, 5 as never),
    ]
    for (const one of rejected) await expect(one).rejects.toMatchObject({ code: 'ERR_OPTION' })
  })
})
