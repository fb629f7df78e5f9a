/** The integration of Drizzle, over libsql in a file. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { type Client, createClient } from '@libsql/client'
import { eq, inArray, sql } from 'drizzle-orm'
import { drizzle, type LibSQLDatabase } from 'drizzle-orm/libsql'
import { int, mysqlTable, varchar } from 'drizzle-orm/mysql-core'
import { drizzle as drizzleMySql } from 'drizzle-orm/mysql2'
import { integer as pgInteger, pgTable } from 'drizzle-orm/pg-core'
import { drizzle as drizzlePg } from 'drizzle-orm/pg-proxy'
import { drizzle as drizzleSync } from 'drizzle-orm/sql-js'
import { integer, primaryKey, sqliteTable, text } from 'drizzle-orm/sqlite-core'
import { drizzle as drizzleProxy } from 'drizzle-orm/sqlite-proxy'
import Libsql from 'libsql'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { NO_VALUE } from '../../src/index.js'
import { type DrizzleCache, drizzleCache } from '../../src/integrations/drizzle.js'
import { isNotInvalidated } from '../../src/signals/index.js'
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

const articles = sqliteTable('article', {
  id: integer().primaryKey(),
  title: text(),
  category: text(),
  author: integer(),
})
const lines = sqliteTable('order_line', { order: integer(), line: integer(), text: text() }, (table) => [
  primaryKey({ columns: [table.order, table.line] }),
])

const boxes = sqliteTable('box', { id: integer().primaryKey() })

type Transaction = Parameters<Parameters<LibSQLDatabase['transaction']>[0]>[0]
type Writer = Pick<LibSQLDatabase, 'update' | 'insert' | 'delete'>

describe('drizzleCache()', () => {
  let folder: string
  let client: Client
  let db: LibSQLDatabase
  let at: ReturnType<typeof stage>
  let cache: DrizzleCache<Transaction>
  let left: () => Promise<string[]>

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'corral-drizzle-'))
    client = createClient({ url: `file:${join(folder, 'db')}` })
    for (const statement of [...DDL, 'PRAGMA foreign_keys = ON']) await client.execute(statement)
    db = drizzle(client)
    at = stage()
    await db.insert(articles).values([
      { id: 1, title: 'a', category: 'news' },
      { id: 2, title: 'b', category: 'sport' },
    ])
    cache = drizzleCache<Transaction>(db, at.options)
    left = await cached(at.region, cache)
  })
  afterEach(() => {
    client.close()
    rmSync(folder, { recursive: true, force: true })
  })

  const rename = (on: Writer, id = 1) => on.update(articles).set({ title: 'new' }).where(eq(articles.id, id))

  it('with trackReads, lets values depend on the tables that they are read from', async () => {
    const own = drizzle(client)
    drizzleCache(own, { ...at.options, trackReads: true })
    const joined = () => own.select().from(articles).leftJoin(lines, eq(lines.order, articles.id))
    const renamed = () => rename(own).returning({ id: articles.id })
    const line = () => own.insert(lines).values({ order: 1, line: 1, text: 'x' })
    expect(await trackedRead(at.region, joined, renamed)).toEqual([true, false])
    expect(await trackedRead(at.region, joined, line)).toEqual([true, false])
    const plain = () => own.select().from(articles)
    expect(await trackedRead(at.region, plain, () => own.delete(lines))).toEqual([true, true])
    const inner = () =>
      own
        .select()
        .from(articles)
        .where(inArray(articles.id, own.select({ id: lines.order }).from(lines)))
    const raw = () => own.run(sql`select * from article`)
    for (const read of [inner, raw]) expect(await trackedRead(at.region, read, plain)).toEqual([false, false])
  })

  it('invalidates the rows that a statement returns, and all lists', async () => {
    expect(await rename(db).returning({ id: articles.id })).toEqual([{ id: 1 }])
    expect(await left()).toEqual(['two', 'line'])
  })

  it.each<readonly [string, (on: Writer) => PromiseLike<unknown>, string[]]>([
    ['without returning()', (on) => rename(on), ['line']],
    ['that changes nothing', (on) => rename(on, 99).returning(), ALL],
    [
      'that is an upsert',
      (on) =>
        on
          .insert(articles)
          .values({ id: 1, title: 'c' })
          .onConflictDoUpdate({ target: articles.id, set: { title: 'c' } })
          .returning(),
      ['two', 'line'],
    ],
    ['that deletes', (on) => on.delete(articles).where(eq(articles.id, 2)).returning(), ['one', 'line']],
    [
      'of a composite key',
      (on) => on.insert(lines).values({ order: 1, line: 2 }).returning(),
      ['one', 'two', 'news', 'sport'],
    ],
    [
      'that returns a part of the key',
      (on) => on.insert(lines).values({ order: 5, line: 2 }).returning({ line: lines.line }),
      ['one', 'two', 'news', 'sport'],
    ],
    [
      'that changes a key',
      (on) => on.update(articles).set({ id: 9 }).where(eq(articles.id, 1)).returning(),
      ['line'],
    ],
    [
      'that is an upsert to another key',
      (on) =>
        on
          .insert(articles)
          .values({ id: 1, title: 'c' })
          .onConflictDoUpdate({ target: articles.id, set: { id: 9 } })
          .returning(),
      ['line'],
    ],
    ['that returns an expression as the key', (on) => rename(on).returning({ id: sql`id + 1` }), ['line']],
    [
      'that returns another column as the key',
      (on) => rename(on).returning({ id: articles.title }),
      ['line'],
    ],
  ])('invalidates after a statement %s', async (_, change, expected) => {
    await change(db)
    expect(await left()).toEqual(expected)
  })

  it('knows a changed key by the name that `casing` gives its column', async () => {
    await client.execute('CREATE TABLE part (part_no INTEGER PRIMARY KEY)')
    const parts = sqliteTable('part', { partNo: integer().primaryKey() })
    const own = drizzle(client, { casing: 'snake_case' })
    const { dependenciesOf } = drizzleCache(own, { regions: at.region, tables: { part: 'partNo' } })
    await own.insert(parts).values({ partNo: 1 })
    await at.region.set('part', 'x', { dependencies: dependenciesOf('part', { partNo: 1 }), asOf: 'now' })
    await own.update(parts).set({ partNo: 2 }).where(eq(parts.partNo, 1)).returning()
    expect(await at.region.get('part')).toBe(NO_VALUE)
  })

  it('invalidates after a prepared statement and its run(), and not for one that fails', async () => {
    await rename(db, 2).returning({ id: articles.id }).prepare().all()
    expect(await left()).toEqual(['one', 'line'])
    left = await cached(at.region, cache)
    await expect(db.insert(articles).values({ id: 1 })).rejects.toThrow()
    expect(await left()).toEqual(ALL)
    await rename(db).run()
    expect(await left()).toEqual(['line'])
  })

  it('waits for the commit, in a transaction of the database too, and forgets what is rolled back', async () => {
    await db.transaction(async (tx) => {
      await rename(tx).returning()
      expect(await left()).toEqual(ALL)
      const savepoint = tx.transaction(async (inner) => {
        await inner.insert(lines).values({ order: 1, line: 2 })
        throw new Error('undo')
      })
      await expect(savepoint).rejects.toThrow('undo')
      await tx.transaction(async (inner) => void (await rename(inner, 2).returning()))
      expect(await left()).toEqual(ALL)
    })
    expect(await left()).toEqual(['line'])
    left = await cached(at.region, cache)
    const failed = cache.unitOfWork(async (tx) => {
      await rename(tx)
      throw new Error('undo')
    })
    await expect(failed).rejects.toThrow('undo')
    expect(await left()).toEqual(ALL)
  })

  it('fills nothing in a unit of work', async () => {
    const page = at.region.cacheOnArguments(
      async (on: object) =>
        (await (on as LibSQLDatabase).select().from(articles).where(eq(articles.id, 1)))[0]?.title ?? '',
      { namespace: 'page', key: () => '1', dependencies: () => cache.dependenciesOf('article', { id: 1 }) },
    )
    const undone = cache.unitOfWork(async (tx) => {
      await rename(tx)
      expect(await page(tx)).toBe('new')
      throw new Error('undo')
    })
    await expect(undone).rejects.toThrow('undo')
    expect(await page.get(db)).toBe(NO_VALUE)
    expect(await page(db)).toBe('a')
  })

  it('refreshes after the commit, outside of the transaction', async () => {
    await expectRefresh(at.region, {
      unit: (work) => cache.unitOfWork(async (tx) => rename(tx).run().then(work)),
      read: async () => (await db.select().from(articles).where(eq(articles.id, 1)))[0]?.title ?? null,
    })
  })

  it('says what is committed and not invalidated, with the result and a way to repeat', async () => {
    at.state.away = true
    const error = await cache
      .unitOfWork((tx) => rename(tx).returning({ id: articles.id }))
      .catch((one: unknown) => one)
    if (!isNotInvalidated(error)) throw error
    expect(error.result).toEqual([{ id: 1 }])
    at.state.away = false
    await error.retry()
    expect(await left()).toEqual(['two', 'line'])
  })

  it('tells nothing of raw SQL and of a batch: the application says it', async () => {
    await db.run(sql`UPDATE article SET title = 'raw'`)
    await db.batch([rename(db)])
    expect(await left()).toEqual(ALL)
    await cache.changed('article', { id: 2 })
    expect(await left()).toEqual(['one', 'line'])
  })

  it('covers what Drizzle does not tell by configuration, calls and notices', async () => {
    cache.stop()
    const { scopes: _, ...options } = at.options
    expect(() => drizzleCache(db, { regions: at.region } as never)).toThrow(
      expect.objectContaining({ code: 'ERR_OPTION', message: expect.stringContaining('`tables`') }),
    )
    const tables = { ...options.tables, box: 'id', part: 'id' }
    const own = drizzleCache<Transaction>(db, { ...options, tables })
    // No former rows: the application has them, and tells the lists of a cache without `scopes` by hand.
    expect(await changedByHand(at, own, (work) => own.unitOfWork(work))).toEqual([ALL, ['two', 'line']])
    for (const statement of PARTS) await client.execute(statement)
    const deleteBox = () => db.delete(boxes).where(eq(boxes.id, 1)).returning()
    expect(await deletedPart(at.region, own, deleteBox)).toEqual([true, false])
    const raw = async () => {
      await db.all(sql`SELECT 1`)
      await db.run(sql`UPDATE ${articles} SET title = 'raw'`)
      await db.run(sql`DELETE FROM article`)
      await db.run(sql`INSERT INTO author (id) VALUES (1)`)
    }
    expect(await noticesOf(raw)).toEqual([
      expect.stringMatching(/changes 'article'.*invalidate\('article'\)/),
    ])
    await own.invalidate('article')
    expect(await left()).toEqual(['line'])
  })

  it('leaves the database as it was when it ends', async () => {
    cache.stop()
    await rename(db)
    await db.transaction(async (tx) => void (await rename(tx)))
    expect(await left()).toEqual(ALL)
  })

  it('refuses what is no database, and drivers that return values at once', () => {
    const refused = expect.objectContaining({ code: 'ERR_OPTION' })
    expect(() => drizzleCache({} as never, at.options)).toThrow(refused)
    expect(() => drizzleCache({ transaction() {} } as never, at.options)).toThrow(refused)
    expect(() => drizzleCache(drizzleSync({} as never) as never, at.options)).toThrow(/libsql instead/)
  })
})

it('drizzleCache() knows the tables that common table expressions of PostgreSQL change', async () => {
  const db = drizzlePg(async () => ({ rows: [] }))
  const [article, author] = ['article', 'author'].map((name) =>
    pgTable(name, { id: pgInteger().primaryKey() }),
  )
  const at = stage()
  const tables = { article: 'id', author: 'id', order_line: 'order' }
  const { dependenciesOf } = drizzleCache(db as never, { regions: at.region, tables })
  const gone = db.$with('gone').as(db.delete(article as never).returning())
  const statements = [
    () =>
      db
        .with(gone)
        .select()
        .from(author as never),
    () =>
      db
        .with(gone)
        .insert(author as never)
        .values({ id: 1 } as never),
  ]
  for (const statement of statements) {
    for (const table of ['article', 'order_line'])
      await at.region.set(table, 'x', {
        dependencies: dependenciesOf(table, { id: 1, order: 1 }),
        asOf: 'now',
      })
    await statement()
    expect(await at.region.getMulti(['article', 'order_line'])).toEqual([NO_VALUE, 'x'])
  }
})

it('drizzleCache() leaves its marks after a commit of unknown outcome, and takes them away where the database says that it rolled back', async () => {
  const { log, region } = markedStage()
  const file = new Libsql(':memory:')
  for (const statement of [...DDL, 'PRAGMA foreign_keys = ON', 'INSERT INTO article (id) VALUES (1)'])
    file.exec(statement)
  let isLost = false
  // As over PostgreSQL and MySQL, Drizzle sends COMMIT as a statement.
  const db = drizzleProxy(async (text, values, method) => {
    const statement = file.prepare(text)
    if (method !== 'run') return { rows: statement.raw().all(values) as unknown[][] }
    statement.run(values)
    if (text === 'commit' && isLost) throw new Error('the reply is lost')
    return { rows: [] }
  })
  const cache = drizzleCache(db, { regions: region, tables: { article: 'id' } })
  const change = (author: number | null) =>
    cache.unitOfWork(async (tx) => {
      const on = tx as unknown as LibSQLDatabase
      await on.update(articles).set({ author }).where(eq(articles.id, 1)).returning({ id: articles.id })
    })
  await expect(change(99)).rejects.toMatchObject({ query: 'commit' })
  expect(log.splice(0)).toEqual(['mark id:article:1', 'end id:article:1'])
  isLost = true
  // Drizzle passes on the failure of the rollback that it sends then.
  await expect(change(null)).rejects.toMatchObject({ query: 'rollback' })
  expect(log.splice(0)).toEqual(['mark id:article:1', 'invalidate id:article:1'])
  file.close()
})

it('drizzleCache() invalidates all of the table for a statement whose reply is lost, in a transaction after its commit', async () => {
  const file = new Libsql(':memory:')
  for (const statement of [...DDL, 'INSERT INTO article (id) VALUES (1)']) file.exec(statement)
  const db = drizzleProxy(async (text, values, method) => {
    const statement = file.prepare(text)
    const rows = method === 'run' ? void statement.run(values) : statement.raw().all(values)
    if (text.startsWith('update')) throw replyLost()
    return { rows: rows as unknown[][] }
  })
  const { region, options } = stage()
  const cache = drizzleCache(db, options)
  const left = await cached(region, cache)
  const rename = (on: Pick<typeof db, 'update'>) =>
    on.update(articles).set({ title: 'new' }).where(eq(articles.id, 1))
  const lost = { cause: { code: 'ECONNRESET' } }
  await expect(cache.unitOfWork(async (tx) => void (await rename(tx)))).rejects.toMatchObject(lost)
  expect(await left()).toEqual(ALL)
  const committed = await cached(region, cache)
  await cache.unitOfWork((tx) => expect(rename(tx)).rejects.toMatchObject(lost))
  expect(await committed()).toEqual(['line'])
  await cached(region, cache)
  await expect(rename(db).returning()).rejects.toMatchObject(lost)
  expect(file.prepare('SELECT title FROM article').get()).toMatchObject({ title: 'new' })
  expect(await left()).toEqual(['line'])
  file.close()
})

it('drizzleCache() with trackReads, lets values depend on the rows of an iterator of MySQL', async () => {
  const file = new Libsql(':memory:')
  for (const statement of [...DDL, 'INSERT INTO article (id) VALUES (1), (2)']) file.exec(statement)
  // The driver, as far as an iterator and a statement need it.
  const connection = {
    query: ({ sql: text }: { sql: string }, values: unknown[]) => {
      const statement = file.prepare(text)
      const rows = text.startsWith('select') ? statement.raw().all(values) : [statement.run(values)].slice(1)
      return { stream: () => Readable.from(rows as unknown[]) }
    },
  }
  const query = async ({ sql: text }: { sql: string }, values: unknown[]) => [file.prepare(text).run(values)]
  const db = drizzleMySql({ client: { connection, query } as never })
  const table = mysqlTable('article', { id: int().primaryKey(), title: varchar({ length: 9 }) })
  const { region, options } = stage()
  const cache = drizzleCache(db as never, { ...options, trackReads: true })
  const read = async () => {
    const ids: number[] = []
    for await (const { id } of db.select({ id: table.id }).from(table).iterator()) ids.push(id)
    return ids
  }
  const rename = () => db.update(table).set({ title: 'x' }).where(eq(table.id, 1))
  expect(await read()).toEqual([1, 2])
  expect(await trackedRead(region, read, rename)).toEqual([true, false])
  expect(await trackedRead(region, read, () => cache.invalidate('order_line'))).toEqual([true, true])
  const left = await cached(region, cache)
  for await (const _ of db.update(table).set({ title: 'y' }).iterator() as AsyncIterable<unknown>)
    expect.unreachable()
  expect(await left()).toEqual(['line'])
  file.close()
})

it.each<readonly [string, object, boolean]>([
  ['PostgreSQL: a key that is there', { code: '23505' }, true],
  ['PostgreSQL: a function raises an exception', { code: 'P0001' }, true],
  ['PostgreSQL: it does not know', { code: '40003' }, false],
  ['PostgreSQL: it shuts down', { code: '57P01' }, false],
  ['PostgreSQL: the connection is lost', { code: '08006' }, false],
  ['MySQL: a key that is there', { code: 'ER_DUP_ENTRY', sqlState: '23000' }, true],
  ['MySQL: a lock that it waited for', { code: 'ER_LOCK_WAIT_TIMEOUT', sqlState: 'HY000' }, true],
  ['MySQL: an error of the commit', { code: 'ER_ERROR_DURING_COMMIT', sqlState: 'HY000' }, false],
  ['MySQL: the connection is lost', { code: 'PROTOCOL_CONNECTION_LOST' }, false],
  ['SQLite: a syntax error', { code: 'SQLITE_ERROR' }, true],
  ['SQLite: the disk fails', { code: 'SQLITE_IOERR_FSYNC' }, false],
  ['node:sqlite: a key that is there', { code: 'ERR_SQLITE_ERROR', errcode: 1555 }, true],
  ['node:sqlite: the disk fails', { code: 'ERR_SQLITE_ERROR', errcode: 778 }, false],
  ['sql.js, D1: a key that is there', { message: 'D1_ERROR: UNIQUE constraint failed: article.id' }, true],
  ['SQL Server: a key that is there', { code: 'EREQUEST', number: 2627 }, true],
  ['SQL Server: a timeout', { code: 'ETIMEOUT' }, false],
  ['no connection', { code: 'ECONNREFUSED' }, true],
  ['a timeout', { code: 'ETIMEDOUT' }, false],
  ['an error without a code', {}, false],
])('knows what the failure of a statement says about its outcome. %s', async (_, failure, isClear) => {
  const db = drizzleProxy(async () => {
    throw Object.assign(new Error('failed'), failure)
  })
  const { region, options } = stage()
  const cache = drizzleCache(db, options)
  const left = await cached(region, cache)
  await expect(db.insert(lines).values({ order: 1, line: 1 })).rejects.toMatchObject({ cause: failure })
  expect((await left()).includes('line')).toBe(isClear)
})
