import { expect, it } from 'vitest'
import { fetchPackage } from '../../proxies/compress/fetched-packages.js'
import { runOnNode24 } from '../../support/node24.js'
import { CASES as READS } from './reads-suite.js'
import { SHAPES, SHAPES_OF_7 } from './shapes-suite.js'
import { CASES, CASES_OF_7 } from './suite.js'

it('MikroORM 7, which needs a later Node: changes, transactions and reads as with MikroORM 6', async () => {
  const fetched = await fetchPackage('@mikro-orm/libsql@7.2.2')
  if ('problem' in fetched) throw new Error(`Expected MikroORM 7 to be installed: ${fetched.problem}`)
  process.env.MIKRO_ORM_7 = fetched.folder
  const outcome = await runOnNode24('test/integrations/mikro-orm/mikro-orm7-peer.ts')
  const all = [...READS, ...CASES, ...CASES_OF_7, ...SHAPES, ...SHAPES_OF_7]
  expect(outcome).toEqual({ passed: all.length, failed: [] })
}, 300_000)
