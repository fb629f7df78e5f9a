/** Rows that go or change with a deleted one: those that TypeORM removes, and those that the database does, over sql.js. */
import { type DataSource, type EntityManager, EntitySchema } from 'typeorm'
import { afterEach, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { dep, makeRegion, wrap } from '../../src/index.js'
import { typeOrm } from '../../src/integrations/typeorm/index.js'
import { type Named, standing } from './standing.js'
import { openSqlJs } from './typeorm-source.js'

class Shelf {
  declare id: number
  declare deletedAt?: Date | null
}
class Book {
  declare id: number
  declare title: string
  declare shelf: Shelf
}
class Loan {
  declare id: number
  declare book: Book | null
}
class Box {
  declare id: number
  declare parts: Part[]
}
class Part {
  declare id: number
  declare box: Box
}

const id = { type: Number, primary: true, generated: true } as const
const ENTITIES = [
  new EntitySchema<Shelf>({
    name: 'Shelf',
    target: Shelf,
    columns: { id, deletedAt: { type: 'datetime', deleteDate: true, nullable: true } },
  }),
  new EntitySchema<Book>({
    name: 'Book',
    target: Book,
    columns: { id, title: { type: String } },
    relations: {
      shelf: { type: 'many-to-one', target: 'Shelf', onDelete: 'CASCADE', onUpdate: 'CASCADE' },
    },
  }),
  new EntitySchema<Loan>({
    name: 'Loan',
    target: Loan,
    columns: { id },
    relations: { book: { type: 'many-to-one', target: 'Book', onDelete: 'SET NULL', nullable: true } },
  }),
  new EntitySchema<Box>({
    name: 'Box',
    target: Box,
    columns: { id },
    relations: { parts: { type: 'one-to-many', target: 'Part', inverseSide: 'box', cascade: true } },
  }),
  new EntitySchema<Part>({
    name: 'Part',
    target: Part,
    columns: { id },
    relations: {
      box: { type: 'many-to-one', target: 'Box', inverseSide: 'parts', orphanedRowAction: 'delete' },
    },
  }),
]

let source: DataSource
afterEach(() => source.destroy())

async function library() {
  source = await openSqlJs(ENTITIES)
  const { manager } = source
  const shelf = await manager.save(new Shelf())
  const book = await manager.save(Object.assign(new Book(), { title: 'a', shelf }))
  const loan = await manager.save(Object.assign(new Loan(), { book }))
  const region = makeRegion<string>({ name: 'shelves', backend: wrap(memory(), dependencies()) })
  const titles = dep.scopes<Book>('Book').describes(['title'], ({ title }) => ({ title }))
  const orm = typeOrm(source, { regions: region, scopes: { Book: titles } })
  const here = (names: Named) => standing(region, names)
  const left = await here({
    ...{ book: orm.dependenciesOf(book), list: titles.condition({ title: 'z' }) },
    ...{ loan: orm.dependenciesOf(loan), box: dep.tag('entities', 'Box') },
  })
  return { manager, shelf, standing: here, left }
}

it.each<readonly [string, (manager: EntityManager, shelf: Shelf) => Promise<unknown>]>([
  ['remove()', (manager, shelf) => manager.remove(shelf)],
  ['delete()', (manager, { id }) => manager.delete(Shelf, { id })],
])('rows that the database deletes or changes after %s are all of their types', async (_, change) => {
  const { manager, shelf, left } = await library()
  await change(manager, shelf)
  expect([await manager.count(Book), await manager.countBy(Loan, { book: { id: 1 } })]).toEqual([0, 0])
  expect(await left()).toEqual(['box'])
})

it('rows in which the database changes a key with that of another are all of their types', async () => {
  const { manager, shelf, left } = await library()
  await manager.update(Shelf, { id: shelf.id }, { id: 77 })
  expect(await manager.countBy(Book, { shelf: { id: 77 } })).toBe(1)
  expect(await left()).toEqual(['loan', 'box'])
})

it('a soft removal takes no rows along', async () => {
  const { manager, shelf, left } = await library()
  await manager.softRemove(shelf)
  expect(await left()).toEqual(['book', 'list', 'loan', 'box'])
})

it('entities that TypeORM removes with another are told by their keys', async () => {
  const { manager, standing } = await library()
  const parts = [1, 2, 3].map(() => new Part())
  const box = await manager.save(Object.assign(new Box(), { parts }))
  const [one, two, three] = parts.map((part) => part.id) as [number, number, number]
  const part = (of: number) => dep.id('Part', of)
  const left = await standing({ one: part(one), two: part(two), three: part(three) })
  box.parts = parts.slice(1)
  await manager.save(box)
  expect(await left()).toEqual(['two', 'three'])
  await manager.remove(
    await manager.findOneOrFail(Box, { where: { id: box.id }, relations: { parts: true } }),
  )
  expect([await left(), await manager.count(Part)]).toEqual([[], 0])
})
