import { Collection, EntitySchema, MikroORM } from '@mikro-orm/libsql'
import { expect, it } from 'vitest'
import { CASES } from './reads-suite.js'
import { SHAPES } from './shapes-suite.js'
import { openShop, type Packages } from './shop.js'
import { CASES as CHANGES } from './suite.js'

const packages: Packages = {
  MikroORM: MikroORM as never,
  EntitySchema: EntitySchema as never,
  Collection: Collection as never,
  createTables: (orm) => orm.schema.createSchema(),
}

it.each([...CASES, ...CHANGES])('with MikroORM 6, %s', async (title, run) => {
  expect.hasAssertions()
  const shop = await openShop(packages, { trackReads: CASES.some(([one]) => one === title) })
  try {
    await run(shop)
    expect(shop.database.config.get('dbName')).toBe(':memory:')
  } finally {
    await shop.close()
  }
})

it.each(SHAPES)('with MikroORM 6, %s', async (_, run) => {
  await expect(run(packages)).resolves.toBeUndefined()
})
