import suite, { keyvIteratorTests } from '@keyv/test-suite'
import Keyv from 'keyv'
import * as vitest from 'vitest'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { diagnostics } from '../../../src/index.js'
import { type Keyv5Store, keyv5Store } from '../../../src/integrations/keyv.js'
import { type Place, places } from '../../support/regions.js'

/** Tests that must fail: vitest reports one that passes, which is then a deviation that no longer exists. */
const failing = {
  ...vitest,
  it: (title: string, body: vitest.TestFunction) =>
    it.fails(`${title} (not met: a region lists no keys)`, body),
} as unknown as typeof vitest

for (const [name, open] of Object.entries(places))
  describe.skipIf(name === 'Redis' && inject('servers').redis === null)(
    `the suite of Keyv 5, over ${name}`,
    () => {
      let place: Place
      const failures: unknown[] = []
      const note = (message: unknown) => void failures.push(message)
      beforeAll(async () => {
        place = await open()
        diagnostics('failure').subscribe(note)
      })
      afterAll(async () => {
        diagnostics('failure').unsubscribe(note)
        await place.end()
        // A Keyv hides failures, and a miss after one would be a riddle.
        expect(failures).toEqual([])
      })
      const store = (): Keyv5Store => keyv5Store(place.region)

      suite(vitest, Keyv, store)
      describe('iteration', () => keyvIteratorTests(failing, Keyv, store))
    },
  )
