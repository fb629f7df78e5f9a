import { expect, it } from 'vitest'
import { cascadesIn } from '../../../src/integrations/prisma/cascades.js'

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
