/** Every integration marks the names of a transaction in one step before its commit, and its invalidation ends the marks. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createClient } from '@libsql/client'
import { type EntityManager as MikroManager, MikroORM, EntitySchema as MikroSchema } from '@mikro-orm/libsql'
import { drizzle } from 'drizzle-orm/libsql'
import { integer, sqliteTable, text } from 'drizzle-orm/sqlite-core'
import { Kysely, SqliteDialect } from 'kysely'
import Libsql from 'libsql'
import initSqlJs from 'sql.js'
import { DataSource, EntitySchema } from 'typeorm'
import { afterEach, expect, it } from 'vitest'
import { drizzleCache } from '../../src/integrations/drizzle.js'
import { kyselyCache } from '../../src/integrations/kysely/index.js'
import { mikroOrm } from '../../src/integrations/mikro-orm/index.js'
import { sqlCache } from '../../src/integrations/sql.js'
import { typeOrm } from '../../src/integrations/typeorm/index.js'
import { markedStage } from './rows.js'

const ends: (() => unknown)[] = []
afterEach(async () => {
  for (const end of ends.splice(0)) await end()
})

const TABLE = 'CREATE TABLE article (id INTEGER PRIMARY KEY, title TEXT)'
const tables = { article: 'id' } as const

it('sqlCache()', async () => {
  const { log, region } = markedStage()
  const file = new Libsql(':memory:')
  file.exec(TABLE)
  const run = async (sql: string) => {
    file.exec(sql)
    if (sql === 'COMMIT') log.push('commit')
  }
  const cache = sqlCache({ regions: region, tables })
  await cache.unitOfWork(run, async () => {
    await run("INSERT INTO article (id, title) VALUES (1, 'a')")
    await cache.changed('article', { id: 1 }, { created: true })
    await cache.unitOfWork(run, () => cache.invalidate('article', 2))
  })
  expect(log).toEqual(['mark id:article:1 id:article:2', 'commit', 'end id:article:1 id:article:2'])
})

it('kyselyCache()', async () => {
  const { log, region } = markedStage()
  const file = new Libsql(':memory:')
  file.exec(TABLE)
  const database = {
    close: () => file.close(),
    prepare(sql: string) {
      if (sql === 'commit') log.push('commit')
      return file.prepare(sql)
    },
  }
  const cache = kyselyCache({ regions: region, tables })
  const db = new Kysely<{ article: { id: number; title: string } }>({
    dialect: cache.dialect(new SqliteDialect({ database: database as never })),
  })
  ends.push(() => db.destroy())
  const insert = (on: Pick<typeof db, 'insertInto'>) =>
    on.insertInto('article').values({ id: 1, title: 'a' }).returning('id').execute()
  await db.transaction().execute(insert)
  expect(log).toEqual(['mark id:article:1', 'commit', 'end id:article:1'])
})

it('drizzleCache()', async () => {
  const { log, region } = markedStage()
  const folder = mkdtempSync(join(tmpdir(), 'corral-marks-'))
  const client = createClient({ url: `file:${join(folder, 'db')}` })
  ends.push(() => {
    client.close()
    rmSync(folder, { recursive: true, force: true })
  })
  await client.execute(TABLE)
  const { transaction } = client
  client.transaction = async (...given) => {
    const begun = await transaction.apply(client, given as never)
    const { commit } = begun
    begun.commit = async () => {
      await commit.call(begun)
      log.push('commit')
    }
    return begun
  }
  const articles = sqliteTable('article', { id: integer().primaryKey(), title: text() })
  const db = drizzle(client)
  const cache = drizzleCache(db, { regions: region, tables })
  await cache.unitOfWork(async (tx) => {
    const own = tx as unknown as typeof db
    await own.insert(articles).values({ id: 1, title: 'a' }).returning({ id: articles.id })
    await own.transaction((savepoint) =>
      savepoint.insert(articles).values({ id: 2, title: 'b' }).returning({ id: articles.id }),
    )
  })
  expect(log).toEqual(['mark id:article:1 id:article:2', 'commit', 'end id:article:1 id:article:2'])
})

class Article {
  declare id: number
  declare title: string
}

const NAMES = 'id:Article:1 id:Article:2'

it('typeOrm()', async () => {
  const { log, region } = markedStage()
  const source = new DataSource({
    type: 'sqljs',
    driver: await initSqlJs(),
    entities: [
      new EntitySchema<Article>({
        name: 'Article',
        target: Article,
        columns: { id: { type: Number, primary: true }, title: { type: String } },
      }),
    ],
    synchronize: true,
  })
  await source.initialize()
  ends.push(() => source.destroy())
  source.subscribers.push({ afterTransactionCommit: () => void log.push('commit') })
  const orm = typeOrm(source, { regions: region })
  const saved = (id: number) => Object.assign(new Article(), { id, title: 'a' })
  await orm.unitOfWork(async (manager) => {
    await manager.save(saved(1))
    await manager.save(saved(2))
  })
  // One `save` is a savepoint of the unit of work, so that the subscriber hears of more commits.
  expect(log.filter((line) => line !== 'commit')).toEqual([`mark ${NAMES}`, `end ${NAMES}`])
  expect(log.lastIndexOf('commit')).toBeGreaterThan(log.indexOf(`mark ${NAMES}`))
  log.splice(0)
  await source.manager.save(saved(3))
  expect(log.indexOf('mark id:Article:3')).toBe(0)
  expect(log).toContain('end id:Article:3')
})

it('mikroOrm()', async () => {
  const { log, region } = markedStage()
  const database = await MikroORM.init({
    entities: [
      new MikroSchema<Article>({
        class: Article,
        properties: {
          id: { type: 'number', primary: true, autoincrement: true },
          title: { type: 'string' },
        },
      }),
    ],
    dbName: ':memory:',
    debug: ['query'],
    logger: (line) => (line.includes('commit') ? log.push('commit') : 0),
  })
  ends.push(() => database.close(true))
  await database.schema.createSchema()
  log.splice(0)
  const orm = mikroOrm(database, { regions: region })
  const em = database.em.fork() as MikroManager
  await orm.unitOfWork(em, async (own) => {
    await own.persistAndFlush(own.create(Article, { title: 'a' } as never))
    await own.persistAndFlush(own.create(Article, { title: 'b' } as never))
  })
  expect(log).toEqual([`mark ${NAMES}`, 'commit', `end ${NAMES}`])
  log.splice(0)
  // A flush without a transaction around it has one of its own.
  const other = database.em.fork() as MikroManager
  await other.persistAndFlush(other.create(Article, { title: 'c' } as never))
  expect(log).toEqual(['mark id:Article:3', 'commit', 'end id:Article:3'])
})
