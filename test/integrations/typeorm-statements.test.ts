/** Statements of TypeORM that no event of a row follows, and those whose event does not come because something fails, over sql.js. */
import { type DataSource, type EntityManager, EntitySchema } from 'typeorm'
import { afterEach, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { diagnostics } from '../../src/base/diagnostics.js'
import { makeRegion, wrap } from '../../src/index.js'
import { typeOrm } from '../../src/integrations/typeorm/index.js'
import { replyLost } from './rows.js'
import { openSqlJs } from './typeorm-source.js'

class Shelf {
  declare id: number
  declare name: string
  declare labels?: Label[]
}
class Book {
  declare id: number
  declare title: string
  declare isbn?: string
  declare kind: string
  declare shelf?: Shelf | null
}
class Label {
  declare id: number
}

const id = { type: Number, primary: true, generated: true } as const
const ENTITIES = [
  new EntitySchema<Shelf>({
    name: 'Shelf',
    target: Shelf,
    columns: { id, name: { type: String, nullable: true } },
    relations: { labels: { type: 'many-to-many', target: 'Label', joinTable: true } },
  }),
  new EntitySchema<Book>({
    name: 'Book',
    target: Book,
    columns: {
      id,
      title: { type: String },
      isbn: { type: String, unique: true, nullable: true },
      kind: { type: String, default: 'novel' },
    },
    relations: {
      shelf: {
        type: 'many-to-one',
        target: 'Shelf',
        onDelete: 'CASCADE',
        onUpdate: 'CASCADE',
        nullable: true,
      },
    },
  }),
  new EntitySchema<Label>({ name: 'Label', target: Label, columns: { id } }),
]

interface SqlJs {
  prepare(sql: string): { step(): boolean }
}

let source: DataSource
afterEach(() => source.destroy())

/** A shelf with a book and a label, and the names that are invalidated from then on. */
async function library() {
  source = await openSqlJs(ENTITIES)
  const { manager } = source
  const labels = [await manager.save(new Label())]
  const shelf = await manager.save(Object.assign(new Shelf(), { name: 'a', labels }))
  const book = await manager.save(Object.assign(new Book(), { title: 'a', shelf }))
  const state = { away: false, lost: (_: string) => false }
  // The database executes a statement, and its reply is lost.
  const database = (source.driver as unknown as { databaseConnection: SqlJs }).databaseConnection
  const prepare = database.prepare.bind(database)
  database.prepare = (sql) => {
    const statement = prepare(sql)
    const step = statement.step.bind(statement)
    statement.step = () => {
      const row = step()
      if (state.lost(sql)) throw replyLost()
      return row
    }
    return statement
  }
  const region = makeRegion<unknown>({ name: 'shelves', backend: wrap(memory(), dependencies()) })
  const names: string[] = []
  const target = {
    name: 'shelves',
    async invalidateDependencies(some: readonly string[], mode?: 'hard' | 'soft') {
      if (state.away) throw new Error('away')
      names.push(...some)
      await region.invalidateDependencies(some, mode)
    },
  }
  typeOrm(source, { regions: target })
  /** The types of which all is invalidated, and the names of rows. */
  const told = () =>
    [...new Set(names.splice(0))]
      .filter((name) => !name.startsWith('tag:changes:'))
      .map((name) => name.replace('tag:entities:', ''))
      .sort()
  return { manager, shelf, book, told, state }
}

type Change = (manager: EntityManager, of: { readonly shelf: Shelf; readonly book: Book }) => Promise<unknown>

const silent = { listeners: false }
const UNHEARD: readonly (readonly [string, Change, readonly string[]])[] = [
  ['save()', (m, { book }) => m.save(Object.assign(book, { title: 'b' }), silent), ['Book']],
  ['save() of a new row', (m) => m.save(Object.assign(new Book(), { title: 'b' }), silent), ['Book']],
  ['remove()', (m) => m.remove(Object.assign(new Shelf(), { id: 1 }), silent), ['Book', 'Label', 'Shelf']],
  [
    'save() of a relation',
    (m, { shelf }) => m.save(Object.assign(shelf, { labels: [] }), silent),
    ['Label', 'Shelf'],
  ],
  [
    'a query builder',
    (m) => m.createQueryBuilder().update(Book).set({ title: 'b' }).callListeners(false).execute(),
    ['Book'],
  ],
  ['raw SQL', (m) => m.query('UPDATE "main"."book" SET title = ?', ['b']), ['Book']],
  ['raw SQL that changes a key', (m) => m.query('UPDATE shelf SET id = 7'), ['Book', 'Shelf']],
  ['raw SQL that replaces rows', (m) => m.query('REPLACE INTO shelf (id) VALUES (1)'), ['Book', 'Shelf']],
  ['clear()', (m) => m.clear(Book), ['Book']],
]

it.each(UNHEARD)('%s without listeners is of all rows of its types', async (_, change, types) => {
  const all = await library()
  await change(all.manager, all)
  expect(all.told()).toEqual(types)
})

it.each(UNHEARD)('%s without listeners waits for the commit', async (_, change, types) => {
  const all = await library()
  const within = (end: () => void) =>
    source.transaction(async (own) => {
      // Before and after it rows of the same table are told.
      await own.save(Object.assign(new Book(), { title: 'before' }))
      await change(own, all)
      await own.save(Object.assign(new Shelf(), { name: 'after' }))
      expect(all.told()).toEqual([])
      end()
    })
  const rollback = new Error('rollback')
  await expect(
    within(() => {
      throw rollback
    }),
  ).rejects.toBe(rollback)
  expect(all.told()).toEqual([])
  await within(() => {})
  expect(all.told().filter((name) => !name.startsWith('id:'))).toEqual(types)
})

const LOST: readonly (readonly [string, RegExp, Change, readonly string[]])[] = [
  ['update()', /^UPDATE/, (m) => m.update(Book, { id: 1 }, { title: 'b' }), ['Book']],
  ['delete()', /^DELETE/, (m) => m.delete(Shelf, { id: 1 }), ['Book', 'Shelf']],
  ['insert()', /^INSERT/, (m) => m.insert(Book, { title: 'b' }), ['Book']],
  // The row is inserted, and TypeORM fails to read it.
  ['the read of insert()', /^SELECT/, (m) => m.insert(Book, { title: 'b' }), ['Book']],
  ['raw SQL', /^UPDATE/, (m) => m.query("UPDATE book SET title = 'b'"), ['Book']],
]

it.each(LOST)('%s whose reply is lost may be done', async (_, sql, change, types) => {
  const all = await library()
  const { manager, told, state } = all
  state.lost = (text) => sql.test(text)
  await expect(source.transaction((own) => change(own, all))).rejects.toThrow('ECONNRESET')
  expect(told()).toEqual([])
  await source.transaction((own) => expect(change(own, all)).rejects.toThrow('ECONNRESET'))
  expect(told()).toEqual(types)
  await expect(change(manager, all)).rejects.toThrow('ECONNRESET')
  expect(told()).toEqual(types)
  // If the invalidation fails too, the caller gets the failure of the statement. That of `insert()` has succeeded by then.
  state.away = true
  const failures: unknown[] = []
  const listen = (message: unknown) => failures.push((message as { where: string }).where)
  diagnostics('failure').subscribe(listen)
  const isRead = sql.test('SELECT')
  await expect(change(manager, all)).rejects.toThrow(isRead ? 'The change is done' : 'ECONNRESET')
  diagnostics('failure').unsubscribe(listen)
  if (!isRead) expect(failures).toContain('commit')
})

it('a statement that the database refuses has written nothing', async () => {
  const { manager, told } = await library()
  await manager.insert(Book, { title: 'b', isbn: '1' })
  told()
  await expect(manager.update(Book, { id: 1 }, { isbn: '1' })).rejects.toThrow('UNIQUE')
  expect(told()).toEqual([])
})

it('rows that save() has written before it failed are told if the transaction is committed all the same', async () => {
  const { told } = await library()
  const failing = async (own: EntityManager) => {
    const books = ['a', 'b'].map((title) => Object.assign(new Book(), { title, isbn: '1' }))
    const shelf = Object.assign(new Shelf(), { name: 'b' })
    await expect(own.save([shelf, ...books] as object[])).rejects.toThrow('UNIQUE')
  }
  await source.transaction(async (own) => {
    await failing(own)
    expect(told()).toEqual([])
  })
  expect([await source.manager.count(Shelf), await source.manager.count(Book)]).toEqual([2, 2])
  expect(told()).toEqual(['Book', 'Shelf'])
  // A savepoint takes them back.
  await source.transaction(async (own) => {
    const savepoint = own.transaction(async (inner) => {
      await failing(inner)
      throw new Error('rollback')
    })
    await expect(savepoint).rejects.toThrow('rollback')
  })
  expect(told()).toEqual([])
})

it('raw SQL without a transaction is told of, also after an operation that ended before its statement', async () => {
  const { manager, told } = await library()
  await manager.update(Book, { id: 1 }, {}).catch(() => {})
  told()
  await manager.query("UPDATE book SET title = 'b'")
  expect(told()).toEqual(['Book'])
})
