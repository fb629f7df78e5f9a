/** The integration of Kysely, against the major that most have and the latest, over libsql in memory. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Generated, Kysely, SqliteDialect, sql } from 'kysely'
import { Kysely as Kysely29, SqliteDialect as SqliteDialect29 } from 'kysely29'
import Libsql from 'libsql'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { diagnostics } from '../../src/base/diagnostics.js'
import { makeRegion, NO_VALUE, wrap } from '../../src/index.js'
import type { QueryNode } from '../../src/integrations/kysely/host.js'
import { type KyselyCache, kyselyCache } from '../../src/integrations/kysely/index.js'
import { returnsKeys } from '../../src/integrations/kysely/returned.js'
import { mutationOf } from '../../src/integrations/kysely/statements.js'
import { isNotInvalidated } from '../../src/signals/index.js'
import { withoutMarks } from '../support/ledgers.js'
import {
  ALL,
  cached,
  changedByHand,
  DDL,
  deletedPart,
  expectRefresh,
  markedStage,
  noticesOf,
  PARTS,
  replyLost,
  stage,
  trackedRead,
} from './rows.js'

interface Database {
  article: { id: Generated<number>; title: string | null; category: string | null; author: number | null }
  author: { id: Generated<number>; name: string }
  order_line: { order: number; line: number; text: string }
}

const VERSIONS = {
  '0.27': (cache: KyselyCache, database: never, log: () => void) =>
    new Kysely<Database>({ log, dialect: cache.dialect(new SqliteDialect({ database })) }),
  '0.29': (cache: KyselyCache, database: never, log: () => void) =>
    new Kysely29<Database>({
      log,
      dialect: cache.dialect(new SqliteDialect29({ database })),
    }) as unknown as Kysely<Database>,
}

describe.each(Object.entries(VERSIONS))('kyselyCache() with Kysely %s', (_, open) => {
  let at: ReturnType<typeof stage>
  let cache: KyselyCache
  let db: Kysely<Database>
  let left: () => Promise<string[]>
  let logged = 0

  beforeEach(async () => {
    at = stage()
    cache = kyselyCache(at.options)
    const file = new Libsql(':memory:')
    for (const statement of DDL) file.exec(statement)
    file.exec('PRAGMA foreign_keys = ON')
    logged = 0
    db = open(cache, file as never, () => void logged++)
    await db
      .insertInto('article')
      .values([
        { id: 1, title: 'a', category: 'news' },
        { id: 2, title: 'b', category: 'sport' },
      ])
      .execute()
    left = await cached(at.region, cache)
  })
  afterEach(() => db.destroy())

  const rename = (on: Pick<Kysely<Database>, 'updateTable'>, id = 1) =>
    on.updateTable('article').set({ title: 'new' }).where('id', '=', id)

  it('with trackReads, lets values depend on the tables that they are read from', async () => {
    const file = new Libsql(':memory:')
    for (const statement of DDL) file.exec(statement)
    const tracking = kyselyCache({ ...at.options, trackReads: true })
    const own = open(tracking, file as never, () => {})
    await own.insertInto('article').values({ id: 1, title: 'a', category: 'news' }).execute()
    const joined = () =>
      own.selectFrom('article').leftJoin('author', 'author.id', 'article.author').selectAll().execute()
    const renamed = () => rename(own).returning('id').execute()
    const addAuthor = () => own.insertInto('author').values({ name: 'Ada' }).returning('id').execute()
    let lines = 0
    const line = () => own.insertInto('order_line').values({ order: 1, line: lines++, text: 'x' }).execute()
    expect(await trackedRead(at.region, joined, renamed)).toEqual([true, false])
    expect(await trackedRead(at.region, joined, addAuthor)).toEqual([true, false])
    expect(await trackedRead(at.region, joined, line)).toEqual([true, true])
    const inner = () =>
      own.selectFrom('article').where('id', 'in', own.selectFrom('author').select('id')).selectAll().execute()
    expect(await trackedRead(at.region, inner, addAuthor)).toEqual([true, false])
    const raw = () => sql`select * from article`.execute(own)
    expect(await trackedRead(at.region, raw, line)).toEqual([false, false])
    await own.destroy()
  })

  it('invalidates the rows that a statement returns, and all lists', async () => {
    await rename(db).returning('id').execute()
    expect(await left()).toEqual(['two', 'line'])
    expect(logged).toBeGreaterThan(0)
  })

  it('invalidates everything of the table for a statement that returns no rows, and leaves the others', async () => {
    await rename(db).execute()
    expect(await left()).toEqual(['line'])
  })

  it('invalidates nothing when a statement returns that it changed none, or fails', async () => {
    await rename(db, 99).returningAll().execute()
    await expect(
      db.insertInto('article').values({ id: 1, title: 'twice', category: 'news' }).execute(),
    ).rejects.toThrow()
    await db.selectFrom('article').selectAll().execute()
    expect(await left()).toEqual(ALL)
  })

  it.each<readonly [string, (on: Kysely<Database>) => Promise<unknown>, string[]]>([
    [
      'an upsert',
      (on) =>
        on
          .insertInto('article')
          .values({ id: 1, title: 'c', category: 'x' })
          .onConflict((at) => at.column('id').doUpdateSet({ title: 'c' }))
          .execute(),
      ['line'],
    ],
    [
      'a deletion',
      (on) => on.deleteFrom('article').where('id', '=', 2).returning(['id', 'title']).execute(),
      ['one', 'line'],
    ],
    [
      'a composite key',
      (on) =>
        on
          .insertInto('order_line')
          .values({ order: 1, line: 2, text: 't' })
          .returning(['order', 'line'])
          .execute(),
      ['one', 'two', 'news', 'sport'],
    ],
    [
      'a key that is returned in part',
      (on) =>
        on.insertInto('order_line').values({ order: 5, line: 2, text: 't' }).returning(['line']).execute(),
      ['one', 'two', 'news', 'sport'],
    ],
    [
      'an alias',
      (on) => on.updateTable('article as a').set({ title: 'x' }).where('a.id', '=', 1).execute(),
      ['line'],
    ],
    [
      'a key that changes',
      (on) => on.updateTable('article').set({ id: 9 }).where('id', '=', 1).returning('id').execute(),
      ['line'],
    ],
    [
      'an upsert that changes the key',
      (on) =>
        on
          .insertInto('article')
          .values({ id: 1, title: 'c' })
          .onConflict((at) => at.column('id').doUpdateSet({ id: 9 }))
          .returningAll()
          .execute(),
      ['line'],
    ],
    [
      'a replacement',
      (on) => on.replaceInto('article').values({ id: 9 }).returning('id').execute(),
      ['line'],
    ],
    [
      'another column under the name of the key',
      (on) =>
        rename(on)
          .returning([sql<number>`id + 1`.as('id'), 'title'])
          .execute(),
      ['line'],
    ],
    [
      'its own key, by an alias and beside others',
      (on) =>
        rename(on)
          .returning(['article.id as id', sql<number>`1`.as('one')])
          .execute(),
      ['two', 'line'],
    ],
  ])('knows the table of %s', async (_, change, expected) => {
    await change(db)
    expect(await left()).toEqual(expected)
  })

  it('takes rows for all that changed if their keys are those of the table', () => {
    const joined = db.updateTable('article').from('author').set({ title: 'x' })
    const renamed = db.updateTable('article as a').set({ title: 'x' })
    const told = [
      joined.returning('article.id'),
      joined.returning(['id', 'author.name']),
      joined.returningAll('article'),
      renamed.returning(['a.id as id', 'title']),
      db.deleteFrom('article').returningAll(),
    ]
    const untold = [
      joined.returning('author.id'),
      joined.returning('author.id as id'),
      joined.returningAll('author'),
      joined.returningAll(),
      db.deleteFrom('article').using('author').returningAll(),
      renamed.returning('title as id'),
    ]
    const known = (queries: readonly { toOperationNode(): QueryNode }[]) =>
      queries.map((query) => returnsKeys(query.toOperationNode(), ['id']))
    expect(known(told)).toEqual(told.map(() => true))
    expect(known(untold)).toEqual(untold.map(() => false))
    expect(
      returnsKeys(
        db
          .updateTable('article')
          .set({ ID: 9 } as never)
          .toOperationNode(),
        ['id'],
      ),
    ).toBe(false)
  })

  it('takes a table in raw SQL for any', async () => {
    await db
      .updateTable(sql`article`.as('article') as never)
      .set({ title: 'new' } as never)
      .execute()
    expect(await left()).toEqual([])
  })

  it('waits for the commit, in a bare transaction too, and forgets what is rolled back', async () => {
    await db.transaction().execute(async (trx) => {
      await rename(trx).returning('id').execute()
      expect(await left()).toEqual(ALL)
    })
    expect(await left()).toEqual(['two', 'line'])
    left = await cached(at.region, cache)
    const failed = db.transaction().execute(async (trx) => {
      await rename(trx).execute()
      throw new Error('undo')
    })
    await expect(failed).rejects.toThrow('undo')
    expect(await left()).toEqual(ALL)
  })

  it('fills nothing in a unit of work, which a bare transaction does', async () => {
    const page = at.region.cacheOnArguments(
      async (on: object, id: number) => {
        const row = await (on as Kysely<Database>)
          .selectFrom('article')
          .selectAll()
          .where('id', '=', id)
          .executeTakeFirstOrThrow()
        return row.title as string
      },
      {
        namespace: 'page',
        key: (_: object, id: number) => String(id),
        dependencies: (_: object, id: number) => cache.dependenciesOf('article', { id }),
      },
    )
    const undone = (transact: typeof cache.unitOfWork) =>
      transact(db, async (trx) => {
        await rename(trx).execute()
        expect(await page(trx, 1)).toBe('new')
        throw new Error('undo')
      }).catch(() => page.get(db, 1))
    expect(await undone(cache.unitOfWork)).toBe(NO_VALUE)
    expect(await undone((on, work) => on.transaction().execute(work as never))).toBe('new')
  })

  it('leaves its marks after a commit of unknown outcome, and takes them away where the database says that it rolled back', async () => {
    const { log, region } = markedStage()
    const own = kyselyCache({ regions: region, tables: { article: 'id' } })
    const file = new Libsql(':memory:')
    for (const statement of DDL) file.exec(statement)
    file.exec('PRAGMA foreign_keys = ON; INSERT INTO article (id) VALUES (1)')
    let isLost = false
    const prepare = (text: string) => {
      const statement = file.prepare(text)
      if (text !== 'commit' || !isLost) return statement
      const run = () => {
        statement.run()
        throw new Error('the reply is lost')
      }
      return { reader: false, run, all: run }
    }
    const on = open(own, { prepare, close: () => file.close() } as never, () => {})
    const change = (author: number | null) => (trx: Kysely<Database>) =>
      trx.updateTable('article').set({ author }).where('id', '=', 1).returning('id').execute()
    for (const unit of [
      (author: number | null) => own.unitOfWork(on, change(author)),
      (author: number | null) => on.transaction().execute(change(author)),
    ]) {
      isLost = false
      await expect(unit(99)).rejects.toThrow(/FOREIGN KEY/)
      expect(log.splice(0)).toEqual(['mark id:article:1', 'end id:article:1'])
      isLost = true
      // Kysely passes on the failure of the rollback that it sends then.
      await expect(unit(null)).rejects.toThrow('no transaction is active')
      // At the failure, as nothing may follow, and once its end is known.
      const twice = ['invalidate id:article:1', 'invalidate id:article:1']
      expect(log.splice(0)).toEqual(['mark id:article:1', ...twice])
    }
    await on.destroy()
  })

  it('refreshes after the commit, with the one connection of the pool', async () => {
    await expectRefresh(at.region, {
      unit: (work) => cache.unitOfWork(db, (trx) => rename(trx).execute().then(work)),
      read: async () =>
        (await db.selectFrom('article').select('title').where('id', '=', 1).executeTakeFirstOrThrow()).title,
    })
  })

  it('says what is committed and not invalidated, with the result and a way to repeat', async () => {
    at.state.away = true
    const error = await cache
      .unitOfWork(db, (trx) => rename(trx).returning('id').executeTakeFirst())
      .catch((one: unknown) => one)
    if (!isNotInvalidated(error)) throw error
    expect(error.result).toEqual({ id: 1 })
    at.state.away = false
    await error.retry()
    expect(await left()).toEqual(['two', 'line'])
    at.state.away = true
    await expect(db.transaction().execute((trx) => rename(trx, 2).execute())).rejects.toMatchObject({
      code: 'ERR_NOT_INVALIDATED',
    })
    expect(await db.selectFrom('article').select('title').where('id', '=', 2).executeTakeFirst()).toEqual({
      title: 'new',
    })
  })

  it('tells nothing of raw SQL: the application says it', async () => {
    await sql`UPDATE article SET title = 'raw'`.execute(db)
    expect(await left()).toEqual(ALL)
    await cache.invalidate('article', 2)
    expect(await left()).toEqual(['one', 'line'])
    await cache.invalidate('article')
    expect(await left()).toEqual(['line'])
  })
})

it('kyselyCache() knows all tables that a statement of MySQL changes', async () => {
  const db = VERSIONS['0.29'](kyselyCache(stage().options), new Libsql(':memory:') as never, () => {})
  const both = ['article', 'author']
  const joined = db.updateTable('article').innerJoin('author', 'author.id', 'article.author')
  const changed = [
    db.updateTable(both as never).set({ title: 'x' } as never),
    joined.set('author.name' as never, 'x' as never),
    db.deleteFrom(both as never).using('article'),
  ]
  for (const query of changed) expect(mutationOf(query.toOperationNode())?.tables).toEqual(both)
  expect(mutationOf(joined.set('title', 'x').toOperationNode())?.tables).toEqual(['article'])
  await db.destroy()
})

it('kyselyCache() covers what Kysely does not tell by configuration, calls and notices', async () => {
  const at = stage()
  const { scopes: _, ...options } = at.options
  expect(() => kyselyCache({ regions: at.region } as never)).toThrow(
    expect.objectContaining({ code: 'ERR_OPTION', message: expect.stringContaining('`tables`') }),
  )
  const cache = kyselyCache({ ...options, tables: { ...options.tables, box: 'id', part: 'id' } })
  const file = new Libsql(':memory:')
  for (const statement of [...DDL, ...PARTS, 'PRAGMA foreign_keys = ON']) file.exec(statement)
  const db = new Kysely<Database & { box: { id: number }; part: { id: number } }>({
    dialect: cache.dialect(new SqliteDialect({ database: file as never })),
  })
  // No former rows: the application has them, and tells the lists of a cache without `scopes` by hand.
  const byHand = await changedByHand(at, cache, (work) => cache.unitOfWork(db, work))
  expect(byHand).toEqual([ALL, ['two', 'line']])
  const deleteBox = () => db.deleteFrom('box').where('id', '=', 1).returning('id').execute()
  expect(await deletedPart(at.region, cache, deleteBox)).toEqual([true, false])
  expect(await db.selectFrom('part').selectAll().execute()).toEqual([])
  const raw = async () => {
    await sql`SELECT 1`.execute(db)
    await sql`WITH a AS (SELECT 1) UPDATE ${sql.table('article')} SET title = 'raw'`.execute(db)
    await sql`UPDATE "main".article SET title = ${'again'}`.execute(db)
    await sql`INSERT INTO author (id) VALUES (1)`.execute(db)
    await sql`INSERT OR REPLACE INTO BOX (id) VALUES (1)`.execute(db)
    await sql`UPDATE OR IGNORE [main].[order_line] SET line = 1`.execute(db)
  }
  expect(await noticesOf(raw)).toEqual([
    expect.stringMatching(/changes 'article'.*invalidate\('article'\)/),
    expect.stringMatching(/changes 'box'/),
    expect.stringMatching(/changes 'order_line'/),
  ])
  await db.destroy()
})

it('kyselyCache() passes on the rollback of a transaction that fails to begin, after another on its connection', async () => {
  const file = new Libsql(':memory:')
  let isLost = false
  const database = {
    prepare(text: string) {
      const statement = file.prepare(text)
      if (!isLost || text !== 'begin') return statement
      isLost = false
      statement.run()
      throw new Error('reply lost')
    },
    close: () => file.close(),
  }
  const cache = kyselyCache(stage().options)
  const db = VERSIONS['0.27'](cache, database as never, () => {})
  const transact = () => db.transaction().execute(async () => 'done')
  await transact()
  isLost = true
  await expect(transact()).rejects.toThrow('reply lost')
  expect(await transact()).toBe('done')
  await db.destroy()
})

it('kyselyCache() refuses what is no dialect', () => {
  expect(() => kyselyCache(stage().options).dialect({} as never)).toThrow(
    expect.objectContaining({ code: 'ERR_OPTION' }),
  )
  expect(diagnostics('failure').hasSubscribers).toBe(false)
})

it('kyselyCache() waits for the commit of a transaction whose first one found the database busy', async () => {
  const region = makeRegion<string>({ name: 'pages', backend: wrap(withoutMarks(memory()), dependencies()) })
  const cache = kyselyCache({ ...stage().options, regions: region })
  const folder = mkdtempSync(join(tmpdir(), 'corral-kysely-'))
  const [file, reader] = [new Libsql(join(folder, 'db')), new Libsql(join(folder, 'db'))]
  for (const statement of DDL) file.exec(statement)
  file.exec('PRAGMA busy_timeout = 0; INSERT INTO article (id) VALUES (1)')
  const dialect = cache.dialect(new SqliteDialect29({ database: file as never }))
  const db = new Kysely29<Database>({ dialect })
  const left = await cached(region, cache)
  const trx = await db.startTransaction().execute()
  await trx.updateTable('article').set({ title: 'x' }).where('id', '=', 1).returning('id').execute()
  reader.exec('BEGIN; SELECT * FROM article')
  await expect(trx.commit().execute()).rejects.toMatchObject({ code: 'SQLITE_BUSY' })
  reader.exec('COMMIT')
  await cached(region, cache)
  await trx.commit().execute()
  expect(await left()).toEqual(['two', 'line'])
  await db.destroy()
  reader.close()
  rmSync(folder, { recursive: true, force: true })
})

it('kyselyCache() invalidates for a commit of unknown outcome that nothing follows, and again if it is repeated', async () => {
  const region = makeRegion<string>({ name: 'pages', backend: wrap(withoutMarks(memory()), dependencies()) })
  const cache = kyselyCache({ ...stage().options, regions: region })
  const file = new Libsql(':memory:')
  for (const statement of [...DDL, 'INSERT INTO article (id) VALUES (1)']) file.exec(statement)
  let isLost = true
  const database = {
    prepare(text: string) {
      if (text === 'commit' && isLost) throw new Error('the connection is lost')
      return file.prepare(text)
    },
    close: () => file.close(),
  }
  const dialect = cache.dialect(new SqliteDialect29({ database: database as never }))
  const db = new Kysely29<Database>({ dialect })
  const left = await cached(region, cache)
  const trx = await db.startTransaction().execute()
  await trx.updateTable('article').set({ title: 'x' }).where('id', '=', 1).returning('id').execute()
  await expect(trx.commit().execute()).rejects.toThrow('lost')
  expect(await left()).toEqual(['two', 'line'])
  await cached(region, cache)
  isLost = false
  await trx.commit().execute()
  expect(await left()).toEqual(['two', 'line'])
  await db.destroy()
})

it('kyselyCache() invalidates all of the table for a statement whose reply is lost, and leaves marks, or after the commit that follows', async () => {
  const { region, state, options } = stage()
  const cache = kyselyCache(options)
  const file = new Libsql(':memory:')
  for (const statement of [...DDL, 'INSERT INTO article (id) VALUES (1)']) file.exec(statement)
  const database = {
    prepare(text: string) {
      const statement = file.prepare(text)
      if (!text.startsWith('update')) return statement
      const all = (values: unknown[]) => {
        statement.all(values)
        throw replyLost()
      }
      return { reader: true, all }
    },
    close: () => file.close(),
  }
  const over = (one: KyselyCache) =>
    new Kysely29<Database>({ dialect: one.dialect(new SqliteDialect29({ database: database as never })) })
  const db = over(cache)
  const rename = (on: Pick<typeof db, 'updateTable'>) =>
    on.updateTable('article').set({ title: 'new' }).where('id', '=', 1).returning('id').execute()
  const left = await cached(region, cache)
  await expect(db.transaction().execute(rename)).rejects.toMatchObject({ code: 'ECONNRESET' })
  expect(await left()).toEqual(ALL)
  const committed = await cached(region, cache)
  await db.transaction().execute(async (trx) => {
    await expect(rename(trx)).rejects.toMatchObject({ code: 'ECONNRESET' })
    expect(await committed()).toEqual(ALL)
  })
  expect(await committed()).toEqual(['line'])
  await cached(region, cache)
  // If the invalidation fails too, the caller gets the failure of the statement.
  state.away = true
  const failures: unknown[] = []
  const failed = (message: unknown) => failures.push((message as { where: string }).where)
  diagnostics('failure').subscribe(failed)
  await expect(rename(db)).rejects.toMatchObject({ code: 'ECONNRESET' })
  diagnostics('failure').unsubscribe(failed)
  expect(failures).toContain('commit')
  state.away = false
  await expect(rename(db)).rejects.toMatchObject({ code: 'ECONNRESET' })
  expect(file.prepare('SELECT title FROM article').get()).toMatchObject({ title: 'new' })
  expect(await left()).toEqual(['line'])
  // The database may still be at it.
  const again = await cached(region, cache)
  await expect(rename(over(kyselyCache({ ...options, regions: region })))).rejects.toThrow('ECONNRESET')
  expect(await again()).toEqual(['line'])
  expect(await (await cached(region, cache))()).toEqual(['line'])
  await db.destroy()
})

it('kyselyCache() invalidates all of the table after a stream, however it ends, and hides no failure', async () => {
  const { region, state, options } = stage()
  const cache = kyselyCache(options)
  const file = new Libsql(':memory:')
  for (const statement of [...DDL, 'INSERT INTO article (id) VALUES (1), (2)']) file.exec(statement)
  let isLost = false
  /** As over PostgreSQL: the changes are made before the first row is there. */
  class Streaming extends SqliteDialect29 {
    override createDriver() {
      const driver = super.createDriver()
      const acquire = driver.acquireConnection.bind(driver)
      driver.acquireConnection = async () => {
        const connection = await acquire()
        connection.streamQuery = async function* ({ sql: text, parameters }) {
          const rows = file.prepare(text).all(parameters) as never[]
          for (const row of rows) yield { rows: [row] }
          if (isLost) throw replyLost()
        }
        return connection
      }
      return driver
    }
  }
  const db = new Kysely29<Database>({ dialect: cache.dialect(new Streaming({ database: file as never })) })
  const renamed = () => db.updateTable('article').set({ title: 'new' }).returning('id').stream()
  const count = async () => {
    let rows = 0
    for await (const _ of renamed()) rows++
    return rows
  }
  const leave = async () => {
    for await (const _ of renamed()) return
  }
  const fail = async () => {
    for await (const _ of renamed()) throw new Error('of the reader')
  }
  const lose = async () => {
    isLost = true
    await count().finally(() => {
      isLost = false
    })
  }
  const failures: unknown[] = []
  const listen = (message: unknown) => failures.push(message)
  diagnostics('failure').subscribe(listen)
  for (const [read, outcome, away, reports] of [
    [count, 2, { code: 'ERR_NOT_INVALIDATED' }, 0],
    [leave, undefined, { code: 'ERR_NOT_INVALIDATED' }, 1],
    [fail, { message: 'of the reader' }, { message: 'of the reader' }, 1],
    [lose, { code: 'ECONNRESET' }, { code: 'ECONNRESET' }, 1],
  ] as const) {
    const left = await cached(region, cache)
    const result = (): Promise<unknown> => read().catch((error: unknown) => error)
    const expected: unknown = typeof outcome === 'object' ? expect.objectContaining(outcome) : outcome
    expect(await result()).toEqual(expected)
    expect(await left()).toEqual(['line'])
    expect(failures).toEqual([])
    state.away = true
    expect(await result()).toMatchObject(away)
    state.away = false
    expect(failures.splice(0)).toHaveLength(reports)
  }
  diagnostics('failure').unsubscribe(listen)
  await db.destroy()
})

it('kyselyCache() keeps what a released savepoint changed, and forgets what was rolled back to one', async () => {
  const { region, options } = stage()
  const cache = kyselyCache(options)
  const file = new Libsql(':memory:')
  for (const statement of DDL) file.exec(statement)
  const db = new Kysely29<Database>({
    dialect: cache.dialect(new SqliteDialect29({ database: file as never })),
  })
  await db.insertInto('article').values({ id: 1 }).execute()
  const left = await cached(region, cache)
  const trx = await db.startTransaction().execute()
  const outer = await trx.savepoint('outer').execute()
  await outer.updateTable('article').set({ title: 'x' }).where('id', '=', 1).returning('id').execute()
  const inner = await outer.savepoint('inner').execute()
  await inner.updateTable('order_line').set({ text: 'x' }).execute()
  await (await inner.rollbackToSavepoint('inner').execute()).releaseSavepoint('outer').execute()
  expect(await left()).toEqual(ALL)
  await trx.commit().execute()
  expect(await left()).toEqual(['two', 'line'])
  await db.destroy()
})
