import { expect, it } from 'vitest'
import { runOnNode24 } from '../../support/node24.js'

it('undici 8 takes a region as its cache store, in front of a real server', async () => {
  const { passed, failed } = await runOnNode24('test/integrations/undici/undici-peer.ts')
  expect(failed).toEqual([])
  expect(passed).toBe(4 * 7 + 5)
}, 300_000)
