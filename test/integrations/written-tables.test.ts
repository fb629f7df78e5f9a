import { expect, it } from 'vitest'
import { tablesWrittenBy } from '../../src/integrations/orm/written-tables.js'
import { cascadesIn } from '../../src/integrations/prisma/cascades.js'

it.each<[sql: string, tables: readonly string[]]>([
  ['SELECT * FROM book', []],
  ['UPDATE book SET title = 1', ['book']],
  ['UPDATE /* a hint */ book SET title = 1', ['book']],
  ['DELETE /*+ hint */ FROM book', ['book']],
  ['-- delete from shelf\nDELETE FROM "book"', ['book']],
  ['UPDATE "main" . "book" SET title = 1', ['book']],
  ['UPDATE [dbo].[Book] SET title = 1', ['book']],
  ['UPDATE bücher SET title = 1', ['bücher']],
  ['UPDATE LOW_PRIORITY IGNORE book SET title = 1', ['book']],
  ['UPDATE TOP (1) book SET title = 1', ['book']],
  ['UPDATE OR REPLACE book SET title = 1', ['book']],
  ['DELETE QUICK FROM ONLY book', ['book']],
  ['INSERT LOW_PRIORITY INTO book VALUES (1)', ['book']],
  ['insert or ignore into book values (1); truncate table shelf', ['book', 'shelf']],
  ['WITH x AS (SELECT 1) DELETE FROM book', ['book']],
])('%s changes %j', (sql, tables) => {
  expect(tablesWrittenBy(sql)).toEqual(expect.arrayContaining([...tables]))
  if (tables.length === 0) expect(tablesWrittenBy(sql)).toEqual([])
})

it('a statement of any text is read in time that grows with its length', () => {
  const hostile = 'insert into [x '.repeat(20_000)
  expect(tablesWrittenBy(hostile).length).toBeLessThanOrEqual(20_000)
})

it.each([
  ['a text with brackets', 'Book', 'Post', ', map: "fk_(a)"'],
  ['a name beyond ASCII', 'Bücher', 'Post', ''],
])('cascades are read from a schema with %s', (_, parent, child, more) => {
  const schema = `
model ${parent} {
  id    Int @id
  posts ${child}[]
}
model ${child} {
  id     Int @id
  owner  ${parent} @relation (fields: [ownerId], references: [id]${more}, onDelete : Cascade)
  ownerId Int
}`
  const cascades = cascadesIn(schema, () => undefined)
  expect([...cascades(parent, 'delete', {})]).toEqual([child])
})
