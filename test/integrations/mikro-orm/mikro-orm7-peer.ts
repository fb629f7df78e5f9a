import { join } from 'node:path'
import { test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { type Case, CASES as READS } from './reads-suite.js'
import { SHAPES, SHAPES_OF_7 } from './shapes-suite.js'
import { openShop, type Packages } from './shop.js'
import { CASES, CASES_OF_7 } from './suite.js'

const folder = process.env.MIKRO_ORM_7 ?? ''
const load = (name: string): Promise<unknown> =>
  import(pathToFileURL(join(folder, `node_modules/@mikro-orm/${name}/index.js`)).href)
const { MikroORM, EntitySchema } = (await load('libsql')) as Packages
const { Collection } = (await load('core')) as Packages
const packages: Packages = {
  ...{ MikroORM, EntitySchema, Collection },
  createTables: (orm) => (orm.schema as unknown as { create(): Promise<unknown> }).create(),
}

for (const [title, run] of [...READS, ...CASES, ...CASES_OF_7] as readonly Case[])
  test(title, async () => {
    const shop = await openShop(packages, { trackReads: READS.some(([one]) => one === title) })
    try {
      await run(shop)
    } finally {
      await shop.close()
    }
  })
for (const [title, run] of [...SHAPES, ...SHAPES_OF_7]) test(title, () => run(packages))
