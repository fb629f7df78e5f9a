import { expect, it } from 'vitest'
import { tablesWrittenBy } from '../../src/integrations/orm/written-tables.js'

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
  // If each name that does not end were looked for to the end of the text, this would take longer than a test may.
  expect(tablesWrittenBy('insert into [x '.repeat(150_000))).not.toContain('x')
})
