/** The integration of Prisma 7, whose client the test generates, over libsql in a file. */
import { AsyncLocalStorage } from 'node:async_hooks'
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { PrismaLibSql } from '@prisma/adapter-libsql'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { memory } from '../../../backends/memory/index.js'
import { dependencies } from '../../../proxies/dependencies.js'
import { makeRegion, NO_VALUE, wrap } from '../../../src/index.js'
import { type PrismaCache, type PrismaHost, prismaCache } from '../../../src/integrations/prisma.js'
import { sqlCache } from '../../../src/integrations/sql.js'
import { isNotInvalidated } from '../../../src/signals/index.js'
import { withoutMarks } from '../../support/ledgers.js'
import { documentedRun, expectOutbox } from '../outbox-runs.js'
import {
  ALL,
  cached,
  changedByHand,
  DDL,
  expectRefresh,
  markedStage,
  noticesOf,
  PARTS,
  replyLost,
  stage,
  trackedRead,
} from '../rows.js'
import { standing } from '../standing.js'

/** The parts of the generated client that the tests use: it exists only once they run. */
type Call = (args: object) => Promise<unknown> & { readonly [Symbol.toStringTag]: string }
type Model = Record<
  | 'create'
  | 'update'
  | 'upsert'
  | 'delete'
  | 'findFirst'
  | 'findMany'
  | 'findUnique'
  | 'count'
  | 'createMany'
  | 'updateMany'
  | 'deleteMany'
  | 'updateManyAndReturn',
  Call
>
interface Client extends PrismaHost {
  readonly article: Model
  readonly author: Model
  readonly order_line: Model
  readonly box: Model
  readonly part: Model
  readonly slot: Model
  readonly label: Model
  $transaction<R>(work: ((tx: Client) => Promise<R>) | readonly unknown[]): Promise<R>
  $executeRaw(sql: TemplateStringsArray, ...values: readonly unknown[]): Promise<number>
  $executeRawUnsafe(sql: string, ...values: readonly unknown[]): Promise<number>
  $queryRawUnsafe(sql: string): Promise<unknown>
  $disconnect(): Promise<void>
}

/** What is done before its reply is lost. */
let lost: 'statement' | 'commit' | undefined

class Losing extends PrismaLibSql {
  override async connect() {
    const adapter = await super.connect()
    const { queryRaw, executeRaw, startTransaction } = adapter
    const losing =
      <A extends unknown[], R>(what: typeof lost, call: (...given: A) => Promise<R>) =>
      async (...given: A): Promise<R> => {
        const result = await call.apply(adapter, given)
        if (lost === what) throw replyLost()
        return result
      }
    return Object.assign(adapter, {
      queryRaw: losing('statement', queryRaw),
      executeRaw: losing('statement', executeRaw),
      async startTransaction(...given: Parameters<typeof startTransaction>) {
        const transaction = await startTransaction.apply(adapter, given)
        const { commit, queryRaw: query, executeRaw: execute } = transaction
        return Object.assign(transaction, {
          commit: losing('commit', () => commit.call(transaction)),
          queryRaw: losing('statement', (sql: Parameters<typeof query>[0]) => query.call(transaction, sql)),
          executeRaw: losing('statement', (sql: Parameters<typeof query>[0]) =>
            execute.call(transaction, sql),
          ),
        })
      },
    })
  }
}

const here = dirname(fileURLToPath(import.meta.url))
const root = join(here, '../../..')

describe('prismaCache()', () => {
  let folder: string
  let open: (url: string) => Client
  let client: Client
  let db: Client
  let at: ReturnType<typeof stage>
  let cache: PrismaCache
  let left: () => Promise<string[]>
  let serial = 0

  beforeAll(async () => {
    // Inside of the project, where the generated client finds its runtime.
    folder = mkdtempSync(join(root, 'node_modules/.prisma-test-'))
    const schema = join(folder, 'schema.prisma')
    const generator = 'generator client {\n  provider = "prisma-client"\n  output = "./out"\n}\n'
    writeFileSync(schema, generator + readFileSync(join(here, 'schema.prisma'), 'utf8'))
    // The engine of migrations would be downloaded; generating needs none.
    const env = { ...process.env, PRISMA_SCHEMA_ENGINE_BINARY: process.execPath, CHECKPOINT_DISABLE: '1' }
    await promisify(execFile)(
      process.execPath,
      [join(root, 'node_modules/prisma/build/index.js'), 'generate', '--schema', schema],
      { env, cwd: folder },
    )
    const { PrismaClient } = (await import(join(folder, 'out/client.ts'))) as {
      PrismaClient: new (options: object) => Client
    }
    open = (url) => new PrismaClient({ adapter: new Losing({ url }) })
  }, 120_000)
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  beforeEach(async () => {
    client = open(`file:${join(folder, `${++serial}.db`)}`)
    for (const statement of DDL) await client.$executeRawUnsafe(statement)
    await client.$executeRawUnsafe('ALTER TABLE article ADD COLUMN slug TEXT')
    await client.$executeRawUnsafe('CREATE UNIQUE INDEX slugs ON article (slug)')
    for (const one of [
      { id: 1, category: 'news', slug: 'a' },
      { id: 2, category: 'sport' },
    ])
      await client.article.create({ data: one })
    at = stage()
    cache = prismaCache({
      ...at.options,
      tables: { article: 'id', order_line: ['order', 'line'], author: 'id' },
    })
    db = cache.extend(client)
    left = await cached(at.region, cache)
  })
  afterEach(() => client.$disconnect())

  const rename = (on: Client, id = 1) => on.article.update({ where: { id }, data: { title: 'new' } })

  it('marks the names of a transaction before its commit, and its invalidation ends the marks', async () => {
    const { log, region } = markedStage()
    const watched = prismaCache({ regions: region, tables: { article: 'id' } }).extend(client) as Client
    await watched.$transaction(async (tx) => {
      await rename(tx)
      await rename(tx, 2)
      expect(log).toEqual([])
    })
    expect(log).toEqual(['mark id:article:1 id:article:2', 'end id:article:1 id:article:2'])
    // The operations of a list are told after the commit.
    log.splice(0)
    await watched.$transaction([rename(watched)])
    expect(log).toEqual(['invalidate id:article:1'])
  })

  it.each<readonly [string, (on: Client) => Promise<unknown>, string[]]>([
    ['an update', (on) => rename(on), ['two', 'line']],
    [
      'an update that returns no key',
      (on) => on.article.update({ where: { id: 1 }, data: { title: 'x' }, select: { title: true } }),
      ['two', 'line'],
    ],
    [
      'an update by another column',
      (on) => on.article.update({ where: { slug: 'a' }, data: { title: 'x' } }),
      ['two', 'line'],
    ],
    ['an update of the key', (on) => on.article.update({ where: { slug: 'a' }, data: { id: 9 } }), ['line']],
    [
      'an update by another column that returns no key',
      (on) => on.article.update({ where: { slug: 'a' }, data: { title: 'x' }, select: { title: true } }),
      ['line'],
    ],
    ['a creation', (on) => on.article.create({ data: { title: 'x' } }), ['one', 'two', 'line']],
    [
      'an upsert',
      (on) => on.article.upsert({ where: { id: 2 }, create: {}, update: { title: 'x' } }),
      ['one', 'line'],
    ],
    ['a deletion', (on) => on.article.delete({ where: { id: 2 } }), ['one', 'line']],
    [
      'a composite key',
      (on) => on.order_line.create({ data: { order: 1, line: 2 } }),
      ['one', 'two', 'news', 'sport'],
    ],
    ['many rows', (on) => on.article.updateMany({ data: { title: 'x' } }), ['line']],
    ['many new rows', (on) => on.article.createMany({ data: [{ title: 'x' }] }), ['line']],
    ['many deleted rows', (on) => on.article.deleteMany({ where: { title: 'x' } }), ['line']],
    [
      'many deleted rows of one key',
      (on) => on.article.deleteMany({ where: { id: 99 } }),
      ['one', 'two', 'line'],
    ],
    [
      'many rows that it returns',
      (on) => on.article.updateManyAndReturn({ where: { id: 1 }, data: { title: 'x' } }),
      ['two', 'line'],
    ],
    [
      'keys that it changes and returns',
      (on) => on.article.updateManyAndReturn({ where: { slug: 'a' }, data: { id: 9 } }),
      ['line'],
    ],
    [
      'a relation by another column, which may be a part of a key',
      (on) => on.article.update({ where: { slug: 'a' }, data: { author: { create: { name: 'Ada' } } } }),
      ['line'],
    ],
    [
      'a new row with a relation',
      (on) => on.article.create({ data: { author: { create: { name: 'Ada' } } } }),
      ['one', 'two', 'line'],
    ],
    [
      'a nested write',
      (on) => on.author.create({ data: { articles: { connect: [{ id: 1 }], create: { title: 'n' } } } }),
      ['line'],
    ],
    ['a read', (on) => on.article.findFirst({ where: { id: 1 } }), ALL],
    ['a failure', (on) => on.article.update({ where: { id: 99 }, data: {} }).catch(() => {}), ALL],
    [
      'raw SQL, of which nothing tells',
      (on) => on.$executeRawUnsafe("UPDATE article SET title = 'raw'"),
      ALL,
    ],
  ])('invalidates after %s', async (_, change, expected) => {
    await change(db)
    expect(await left()).toEqual(expected)
  })

  it('with trackReads, lets values depend on the models that they are read from', async () => {
    const own = prismaCache({ ...at.options, trackReads: true }).extend(client)
    const check = (read: () => Promise<unknown>, change: () => Promise<unknown>) =>
      trackedRead(at.region, read, change)
    const renamed = () => own.article.update({ where: { id: 1 }, data: { title: 'new' } })
    const other = () => own.article.update({ where: { id: 2 }, data: { title: 'new' } })
    const line = () =>
      own.order_line.create({ data: { order: (Math.random() * 1e6) | 0, line: 1, text: 'x' } })
    const one = () => own.article.findUnique({ where: { id: 1 } })
    expect(await check(one, renamed)).toEqual([true, false])
    expect(await check(one, other)).toEqual([true, true])
    for (const read of [() => own.article.findMany({}), () => own.article.count({})]) {
      expect(await check(read, other)).toEqual([true, false])
      expect(await check(read, line)).toEqual([true, true])
    }
    const author = () => own.author.create({ data: { name: 'Ada' } })
    const withAuthor = () => own.article.findUnique({ where: { id: 1 }, include: { author: true } })
    expect(await check(withAuthor, author)).toEqual([true, false])
    const raw = () => own.$queryRawUnsafe('SELECT title FROM article')
    expect(await check(raw, line)).toEqual([false, false])
  })

  it('waits for the commit of a transaction, and forgets what is rolled back', async () => {
    await db.$transaction(async (tx) => {
      await rename(tx)
      expect(await left()).toEqual(ALL)
    })
    expect(await left()).toEqual(['two', 'line'])
    left = await cached(at.region, cache)
    const failed = db.$transaction(async (tx) => {
      await tx.article.deleteMany({})
      throw new Error('undo')
    })
    await expect(failed).rejects.toThrow('undo')
    expect(await left()).toEqual(ALL)
  })

  it('waits for the end of a list of operations, and forgets one that fails', async () => {
    const done = await db.$transaction<readonly { id?: number }[]>([
      rename(db),
      db.order_line.create({ data: { order: 1, line: 2 } }),
    ])
    expect(done[0]?.id).toBe(1)
    expect(await left()).toEqual(['two'])
    left = await cached(at.region, cache)
    await expect(
      db.$transaction([rename(db), db.article.update({ where: { id: 99 }, data: {} })]),
    ).rejects.toThrow()
    expect(await left()).toEqual(ALL)
  })

  it.each<readonly [string, typeof lost, (on: Client) => Promise<unknown>, string[]]>([
    ['a statement', 'statement', (on) => rename(on), ['line']],
    [
      'a statement of many rows',
      'statement',
      (on) => on.article.updateMany({ data: { title: 'new' } }),
      ['line'],
    ],
    [
      'a statement of a transaction that goes on',
      'statement',
      async (on) => {
        const failed = on.$transaction((tx) => rename(tx).catch((error: unknown) => error))
        throw await failed
      },
      ['line'],
    ],
    ['a list', 'commit', (on) => on.$transaction([rename(on), rename(on, 2)]), ['line']],
  ])('invalidates all of the model when the reply to %s is lost', async (_, what, change, expected) => {
    lost = what
    try {
      await expect(change(db)).rejects.toThrow('ECONNRESET')
    } finally {
      lost = undefined
    }
    expect(await client.article.findUnique({ where: { id: 1 } })).toMatchObject({ title: 'new' })
    expect(await left()).toEqual(expected)
  })

  it('invalidates nothing for an operation that Prisma refuses, or the database', async () => {
    await expect(db.article.create({ data: { slug: 'a' } })).rejects.toMatchObject({ code: 'P2002' })
    await expect(rename(db, 99)).rejects.toMatchObject({ code: 'P2025' })
    await expect(db.article.create({ data: { none: 1 } })).rejects.toThrow('none')
    expect(await left()).toEqual(ALL)
  })

  it('invalidates at its commit what is changed on another connection inside a transaction, which a rollback does not take back', async () => {
    const region = makeRegion<string>({ name: 'own', backend: wrap(withoutMarks(memory()), dependencies()) })
    const own = prismaCache({ ...at.options, regions: region })
    const other = open(`file:${join(folder, `${++serial}.db`)}`)
    for (const statement of DDL) await other.$executeRawUnsafe(statement)
    await other.$executeRawUnsafe('ALTER TABLE article ADD COLUMN slug TEXT')
    for (const id of [1, 2]) await other.article.create({ data: { id } })
    const on = own.extend(other)
    const standing = await cached(region, own)
    const undone = own.extend(client).$transaction(async () => {
      await rename(on)
      expect(await standing()).toEqual(['two', 'line'])
      await on.$transaction((tx) => rename(tx, 2))
      expect(await standing()).toEqual(['line'])
      throw new Error('undo')
    })
    await expect(undone).rejects.toThrow('undo')
    expect(await standing()).toEqual(['line'])
    await other.$disconnect()
  })

  it('lets a change wait for the commit of its own transaction, in whatever context it is made', async () => {
    const region = makeRegion<string>({ name: 'own', backend: wrap(withoutMarks(memory()), dependencies()) })
    const own = prismaCache({ ...at.options, regions: region })
    const standing = await cached(region, own)
    const outside = AsyncLocalStorage.snapshot()
    await own.extend(client).$transaction(async (tx) => {
      await sqlCache({ regions: region, tables: { other: 'id' } }).unitOfWork(
        () => {},
        () => rename(tx),
      )
      await outside(() => rename(tx, 2))
      expect(await standing()).toEqual(ALL)
    })
    expect(await standing()).toEqual(['line'])
  })

  it('fills nothing in a transaction', async () => {
    const page = at.region.cacheOnArguments(
      async (on: object) =>
        ((await (on as Client).article.findFirst({ where: { id: 1 } })) as { title: string | null }).title ??
        '',
      { namespace: 'page', key: () => '1', dependencies: () => cache.dependenciesOf('article', { id: 1 }) },
    )
    const undone = db.$transaction(async (tx) => {
      await rename(tx)
      expect(await page(tx)).toBe('new')
      throw new Error('undo')
    })
    await expect(undone).rejects.toThrow('undo')
    expect(await page.get(db)).toBe(NO_VALUE)
  })

  it('says what is committed and not invalidated, with the result and a way to repeat', async () => {
    at.state.away = true
    const error = await db.$transaction((tx) => rename(tx)).catch((one: unknown) => one)
    if (!isNotInvalidated(error)) throw error
    expect(error.result).toMatchObject({ id: 1, title: 'new' })
    at.state.away = false
    await error.retry()
    expect(await left()).toEqual(['two', 'line'])
  })

  it('takes a nested write for one of all models where the client tells of none', async () => {
    const blind = new Proxy(client, {
      get: (target, name) => (name === '_runtimeDataModel' ? undefined : Reflect.get(target, name)),
    })
    await cache.extend(blind).author.create({ data: { articles: { connect: { id: 1 } } } })
    expect(await left()).toEqual([])
  })

  it.each<readonly [string, (on: Client) => Promise<unknown>, number, string[]]>([
    ['a deletion', (on) => on.box.delete({ where: { id: 1 } }), 0, ['article']],
    ['the deletion of many', (on) => on.box.deleteMany({ where: { id: 1 } }), 0, ['article']],
    [
      'a nested deletion',
      (on) => on.box.update({ where: { id: 1 }, data: { slots: { deleteMany: {} } } }),
      1,
      ['part', 'article'],
    ],
    ['a key', (on) => on.box.update({ where: { id: 1 }, data: { id: { set: 5 } } }), 1, ['article']],
    ['the keys of many', (on) => on.box.updateMany({ data: { id: 5 } }), 1, ['article']],
    [
      'an upsert of a key',
      (on) => on.box.upsert({ where: { id: 1 }, create: { id: 9 }, update: { id: 5 } }),
      1,
      ['article'],
    ],
    [
      'a nested key',
      (on) => on.part.update({ where: { id: 7 }, data: { owner: { update: { id: 5 } } } }),
      1,
      ['article'],
    ],
    [
      'a nested key of one among several',
      (on) =>
        on.box.update({
          where: { id: 1 },
          data: { slots: { update: { where: { box_no: { box: 1, no: 2 } }, data: { no: 3 } } } },
        }),
      1,
      ['part', 'article'],
    ],
    [
      'a relation that is a part of a key',
      (on) =>
        on.slot.update({
          where: { box_no: { box: 1, no: 2 } },
          data: { owner: { create: { id: 9 } } },
        }),
      1,
      ['part', 'article'],
    ],
    [
      'a relation of others, and no more',
      (on) => on.box.update({ where: { id: 1 }, data: { parts: { connect: { id: 7 } } } }),
      1,
      ['slot', 'label', 'article'],
    ],
    [
      'a new row, which has none',
      (on) => on.slot.create({ data: { box: 1, no: 9 } }),
      1,
      ['part', 'slot', 'label', 'article'],
    ],
  ])('invalidates the models whose rows the database changes with %s', async (_, change, parts, expected) => {
    for (const statement of [
      ...PARTS,
      `CREATE TABLE slot (box INTEGER REFERENCES box (id) ON DELETE CASCADE ON UPDATE CASCADE, no INTEGER,
         PRIMARY KEY (box, no))`,
      `CREATE TABLE label (id INTEGER PRIMARY KEY, box INTEGER, no INTEGER,
         FOREIGN KEY (box, no) REFERENCES slot (box, no) ON DELETE SET NULL ON UPDATE CASCADE)`,
      'INSERT INTO slot (box, no) VALUES (1, 2)',
      'INSERT INTO label (id, box, no) VALUES (3, 1, 2)',
    ])
      await client.$executeRawUnsafe(statement)
    const tables = { part: 'id', slot: ['box', 'no'], label: 'id', article: 'id' }
    const own = prismaCache({ regions: at.region, tables })
    const stands = await standing(at.region, {
      part: own.dependenciesOf('part', { id: 7 }),
      slot: own.dependenciesOf('slot', { box: 1, no: 2 }),
      label: own.dependenciesOf('label', { id: 3 }),
      article: own.dependenciesOf('article', { id: 1 }),
    })
    await change(own.extend(client))
    expect(await client.part.count({})).toBe(parts)
    expect(await stands()).toEqual(expected)
  })

  it('covers what Prisma does not tell by configuration, calls and notices', async () => {
    const { scopes: _, ...options } = at.options
    expect(() => prismaCache({ regions: at.region } as never)).toThrow(
      expect.objectContaining({ code: 'ERR_OPTION', message: expect.stringContaining('`tables`') }),
    )
    const own = prismaCache(options)
    const on = own.extend(client)
    // No former rows: the application has them, and tells the lists of a cache without `scopes` by hand.
    expect(await changedByHand(at, own, (work) => on.$transaction(work))).toEqual([ALL, ['two', 'line']])
    const raw = async () => {
      await on.$queryRawUnsafe('SELECT 1')
      await on.$executeRaw`UPDATE article SET title = ${'raw'}`
      await on.$executeRawUnsafe('UPDATE order_line SET text = ?', 'raw')
      await on.$executeRawUnsafe('DELETE FROM article')
      await on.$executeRawUnsafe('INSERT INTO author (id) VALUES (1)')
    }
    expect(await noticesOf(raw)).toEqual([
      expect.stringMatching(/changes 'article'.*invalidate\('article'\)/),
      expect.stringMatching(/changes 'order_line'/),
    ])
    await own.invalidate('article')
    expect(await left()).toEqual(['line'])
  })

  it('runs the statements of an outbox, as its page has it', async () => {
    const runOf = (tx: unknown) => documentedRun('Prisma', { tx })
    await expectOutbox(runOf(client), (work) => client.$transaction((tx) => work(runOf(tx))))
  })

  it('refreshes after the commit, outside of the transaction', async () => {
    await expectRefresh(at.region, {
      unit: (work) => db.$transaction((tx) => rename(tx).then(work)),
      read: async () => ((await client.article.findUnique({ where: { id: 1 } })) as { title: string }).title,
    })
  })

  it('refuses what is no client', () => {
    expect(() => cache.extend({} as never)).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }))
  })
})
