/** Runs the suite of drivers that the package of BentoCache brings, by its test runner, over a region in Redis or in memory. */
import { assert } from '@japa/assert'
import { configure, run, test } from '@japa/runner'
import { registerCacheDriverTestSuite } from 'bentocache/test_suite'
import { bentoDriver } from '../../../src/integrations/bento.js'
import { places } from '../../support/regions.js'

const names = ['memory', 'Redis', 'LMDB'] as const
const opened = await Promise.all(names.map((name) => places[name]()))

configure({
  files: () => [new URL('file:///suite.spec.js')],
  plugins: [assert()],
  importer() {
    for (const [at, name] of names.entries())
      test.group(name, (group) => {
        const region = opened[at]?.region
        if (region === undefined) throw new Error(`Expected a place called ${name}`)
        registerCacheDriverTestSuite({
          test,
          group,
          createDriver: ({ prefix = 'japa' } = {}) => bentoDriver(region).factory({ prefix }) as never,
        })
      })
  },
  teardown: [async () => void (await Promise.all(opened.map((place) => place?.end())))],
})
await run()
