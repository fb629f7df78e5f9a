import { expect, it } from 'vitest'
import { runOnNode24 } from '../../support/node24.js'

it('Keyv 6 takes a region as its store, and its stores are backends', async () => {
  const { passed, failed } = await runOnNode24('test/integrations/keyv/keyv6-peer.ts')
  expect(failed).toEqual([])
  expect(passed).toBeGreaterThan(4 * 8 + 60)
}, 300_000)
