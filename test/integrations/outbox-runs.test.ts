/** An outbox on the connections of the ORMs, with the functions of its page. That of Prisma is with Prisma's tests. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createClient } from '@libsql/client'
import { type EntityManager, EntitySchema, MikroORM } from '@mikro-orm/libsql'
import { sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/libsql'
import { CompiledQuery, Kysely, SqliteDialect } from 'kysely'
import Libsql from 'libsql'
import initSqlJs from 'sql.js'
import { DataSource } from 'typeorm'
import { expect, it } from 'vitest'
import { documentedRun, expectOutbox } from './outbox-runs.js'

it('MikroORM', async () => {
  const schema = new EntitySchema({
    name: 'Article',
    properties: { id: { type: 'number', primary: true } },
  })
  const orm = await MikroORM.init({ entities: [schema], dbName: ':memory:' })
  const runOf = (em: unknown) => documentedRun('MikroORM', { em })
  await expectOutbox(runOf(orm.em.fork() as EntityManager), (work) =>
    orm.em.fork().transactional((em) => work(runOf(em))),
  )
  await orm.close(true)
})

it('TypeORM', async () => {
  const source = await new DataSource({ type: 'sqljs', driver: await initSqlJs(), entities: [] }).initialize()
  const runOf = (manager: unknown) => documentedRun('TypeORM', { manager })
  await expectOutbox(runOf(source.manager), (work) => source.transaction((manager) => work(runOf(manager))))
  await source.destroy()
})

it('Kysely', async () => {
  const db = new Kysely({ dialect: new SqliteDialect({ database: new Libsql(':memory:') as never }) })
  const runOf = (trx: unknown) => documentedRun('Kysely', { trx, CompiledQuery })
  await expectOutbox(runOf(db), (work) => db.transaction().execute((trx) => work(runOf(trx))))
  await db.destroy()
})

it('Drizzle', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'corral-outbox-'))
  const client = createClient({ url: `file:${join(folder, 'db')}` })
  const db = drizzle(client)
  const runOf = (tx: unknown) => documentedRun('Drizzle, SQLite', { tx, sql })
  await expectOutbox(runOf(db), (work) => db.transaction((tx) => work(runOf(tx))))
  client.close()
  rmSync(folder, { recursive: true, force: true })
})

it('a host without a row on the page is no test', () => {
  expect(() => documentedRun('Sequelize', {})).toThrow('the row of Sequelize')
})
