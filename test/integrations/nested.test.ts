/** Transactions of two connections in one async context: each invalidates at its own commit, whatever becomes of the other. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createClient } from '@libsql/client'
import { type EntityManager, MikroORM, EntitySchema as MikroSchema } from '@mikro-orm/libsql'
import { drizzle } from 'drizzle-orm/libsql'
import { integer, sqliteTable, text } from 'drizzle-orm/sqlite-core'
import { Kysely, SqliteDialect } from 'kysely'
import Libsql from 'libsql'
import initSqlJs from 'sql.js'
import { DataSource, EntitySchema } from 'typeorm'
import { afterEach, describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { dep, makeRegion, NO_VALUE, type Region, wrap } from '../../src/index.js'
import { drizzleCache } from '../../src/integrations/drizzle.js'
import { kyselyCache } from '../../src/integrations/kysely/index.js'
import { mikroOrm } from '../../src/integrations/mikro-orm/index.js'
import { sqlCache } from '../../src/integrations/sql.js'
import { typeOrm } from '../../src/integrations/typeorm/index.js'
import { afterCommit, isNotInvalidated } from '../../src/signals/index.js'
import { withoutMarks } from '../support/ledgers.js'

const ends: (() => unknown)[] = []
afterEach(async () => {
  for (const end of ends.splice(0)) await end()
})

type Change = () => Promise<unknown>

/** A database with one row, of a table of its own. */
interface Host {
  /** A unit of work, with a change of the row on its connection. */
  unit(work: (change: Change) => Promise<unknown>): Promise<unknown>
  /** A change of the row on another connection, without a transaction. */
  readonly alone?: Change
}
type Open = (table: string, region: Region<string>) => Host | Promise<Host>

const create = (table: string) => `CREATE TABLE ${table} (id INTEGER PRIMARY KEY, title TEXT)`
const insert = (table: string) => `INSERT INTO ${table} (id, title) VALUES (1, 'a')`

function folder(): string {
  const made = mkdtempSync(join(tmpdir(), 'corral-nested-'))
  ends.push(() => rmSync(made, { recursive: true, force: true }))
  return made
}

interface Row {
  id: number
  title: string
}

/** A class with the name of its table. */
function rowOf(table: string): new () => Row {
  return { [table]: class {} }[table] as new () => Row
}

const hosts: Readonly<Record<string, Open>> = {
  'sqlCache()': (table, region) => {
    const file = new Libsql(':memory:')
    file.exec(create(table))
    const run = (sql: string) => file.exec(sql)
    const cache = sqlCache({ regions: region, tables: { [table]: 'id' } })
    // The change is told in a savepoint: a bare driver does not say which connection a call belongs to.
    const change = () => cache.unitOfWork(run, () => cache.invalidate(table, 1))
    return { unit: (work) => cache.unitOfWork(run, () => work(change)) }
  },
  'kyselyCache()': async (table, region) => {
    const path = join(folder(), 'db')
    const cache = kyselyCache({ regions: region, tables: { [table]: 'id' } })
    const connect = () => {
      const dialect = new SqliteDialect({ database: new Libsql(path) as never })
      const db = new Kysely<Record<string, { id: number; title: string }>>({
        dialect: cache.dialect(dialect),
      })
      ends.push(() => db.destroy())
      return db
    }
    const [db, other] = [connect(), connect()]
    new Libsql(path).exec(`${create(table)}; ${insert(table)}`)
    const change = (on: typeof db) => () =>
      on.updateTable(table).set({ title: 'b' }).where('id', '=', 1).returning('id').execute()
    return {
      unit: (work) => cache.unitOfWork(db, (trx) => work(change(trx as typeof db))),
      alone: change(other),
    }
  },
  'drizzleCache()': async (table, region) => {
    const client = createClient({ url: `file:${join(folder(), 'db')}` })
    ends.push(() => client.close())
    await client.execute(create(table))
    await client.execute(insert(table))
    const rows = sqliteTable(table, { id: integer().primaryKey(), title: text() })
    const db = drizzle(client)
    const cache = drizzleCache(db, { regions: region, tables: { [table]: 'id' } })
    const change = (on: typeof db) => async () =>
      on.update(rows).set({ title: 'b' }).returning({ id: rows.id })
    return {
      unit: (work) => cache.unitOfWork((tx) => work(change(tx as unknown as typeof db))),
      alone: change(db),
    }
  },
  'typeOrm()': async (table, region) => {
    const Row = rowOf(table)
    const schema = new EntitySchema<Row>({
      name: table,
      target: Row,
      columns: { id: { type: Number, primary: true }, title: { type: String } },
    })
    const driver = await initSqlJs()
    const source = new DataSource({ type: 'sqljs', driver, entities: [schema], synchronize: true })
    await source.initialize()
    ends.push(() => source.destroy())
    const orm = typeOrm(source, { regions: region })
    let serial = 0
    const change = (manager: typeof source.manager) => () =>
      manager.save(Object.assign(new Row(), { id: 1, title: `${++serial}` }))
    await change(source.manager)()
    return {
      unit: (work) => orm.unitOfWork((manager) => work(change(manager))),
      alone: change(source.manager),
    }
  },
  'mikroOrm()': async (table, region) => {
    const Row = rowOf(table)
    const schema = new MikroSchema<Row>({
      class: Row,
      properties: { id: { type: 'number', primary: true }, title: { type: 'string' } },
    })
    const database = await MikroORM.init({
      entities: [schema],
      dbName: join(folder(), 'db'),
      contextName: table,
    })
    ends.push(() => database.close())
    await database.schema.createSchema()
    const orm = mikroOrm(database, { regions: region })
    let serial = 0
    const change = (em: EntityManager) => async () => {
      await em.upsert(Row, { id: 1, title: `${++serial}` })
    }
    const fork = () => database.em.fork() as EntityManager
    await change(fork())()
    return {
      unit: (work) => orm.unitOfWork(fork(), (em) => work(change(em as EntityManager))),
      alone: () => change(fork())(),
    }
  },
}

async function two(open: Open) {
  const region = makeRegion<string>({ name: 'rows', backend: wrap(withoutMarks(memory()), dependencies()) })
  const one = await open('one', region)
  const other = await open('other', region)
  const standing = async () => {
    const found = await region.getMulti(['one', 'other'])
    return found.map((value) => value !== NO_VALUE)
  }
  for (const table of ['one', 'other'])
    await region.set(table, table, {
      dependencies: [dep.id(table, 1), dep.tag('entities', table)],
      asOf: 'now',
    })
  return { one, other, standing }
}

const rollback = new Error('rollback')

it('a unit of work says that it was rolled back, and not that it is done, if another inside was not invalidated', async () => {
  const away = { name: 'rows', invalidateDependencies: () => Promise.reject(new Error('away')) }
  const unit = () => {
    const file = new Libsql(':memory:')
    const cache = sqlCache({ regions: away, tables: { article: 'id' } })
    file.exec(create('article'))
    const insertOne = () => {
      file.exec(insert('article'))
      return cache.invalidate('article', 1)
    }
    return {
      run: (more: () => unknown) =>
        cache.unitOfWork(
          (sql) => file.exec(sql),
          async () => {
            await insertOne()
            await more()
          },
        ),
      rows: () => file.prepare('SELECT * FROM article').all().length,
    }
  }
  const [one, other] = [unit(), unit()]
  // Each has a function of its own for its statements, so the one inside is of another connection.
  const error: unknown = await one.run(() => other.run(() => {})).catch((reason: unknown) => reason)
  expect([one.rows(), other.rows(), isNotInvalidated(error)]).toEqual([0, 1, false])
  expect(error).toMatchObject({ code: 'ERR_BACKEND', message: expect.stringContaining('rolled back') })
  expect(isNotInvalidated((error as Error).cause)).toBe(true)
})

describe.each(Object.entries(hosts))('%s without marks', (_, open) => {
  it('invalidates at the commit inside, which the rollback around does not take back', async () => {
    const { one, other, standing } = await two(open)
    const whole = one.unit(async (change) => {
      await change()
      await other.unit((inner) => inner())
      expect(await standing()).toEqual([true, false])
      throw rollback
    })
    await expect(whole).rejects.toBe(rollback)
    expect(await standing()).toEqual([true, false])
  })

  it('lets a change wait for the commit of its own connection, not for that of the transaction that it is made in', async () => {
    const { one, other, standing } = await two(open)
    await one.unit(async (change) => {
      await other.unit(change)
      expect(await standing()).toEqual([true, true])
    })
    expect(await standing()).toEqual([false, true])
  })

  it('forgets what its own transaction rolled back, also inside another', async () => {
    const { one, other, standing } = await two(open)
    await one.unit(async (change) => {
      const undone = other.unit(async (inner) => {
        await inner()
        throw rollback
      })
      await expect(undone).rejects.toBe(rollback)
      await change()
    })
    expect(await standing()).toEqual([false, true])
  })

  it('invalidates at its commit inside of a transaction by hand that fails', async () => {
    const { one, standing } = await two(open)
    const whole = afterCommit(async () => {
      await one.unit((change) => change())
      throw rollback
    })
    await expect(whole).rejects.toBe(rollback)
    expect(await standing()).toEqual([false, true])
  })

  it('invalidates for a statement on another connection at once, and once more after the transaction around', async () => {
    const { one, other, standing } = await two(open)
    const { alone } = other
    if (alone === undefined) return
    const whole = one.unit(async () => {
      await alone()
      expect(await standing()).toEqual([true, false])
      throw rollback
    })
    await expect(whole).rejects.toBe(rollback)
    expect(await standing()).toEqual([true, false])
  })
})
