import { AsyncLocalStorage } from 'node:async_hooks'
import { expect, it } from 'vitest'

it('state that another release of the package shares in its own format is left to it', async () => {
  const all = globalThis as { [key: symbol]: unknown }
  const theirs = { scopes: new AsyncLocalStorage(), running: 0, leaveSession: <R>(run: () => R): R => run() }
  all[Symbol.for('corral.scopes.1')] = theirs
  all[Symbol.for('corral.sessions.1')] = { spans: new AsyncLocalStorage(), live: 0 }
  all[Symbol.for('corral.transactions.1')] = { works: new AsyncLocalStorage(), running: 0 }
  const { makeRegion } = await import('../../src/index.js')
  const { memory } = await import('../../backends/memory/index.js')
  const { session } = await import('../../src/session/index.js')
  const { afterCommit } = await import('../../src/signals/index.js')
  const region = makeRegion<string>({ backend: memory() })
  expect(await session.run(() => afterCommit(() => region.getOrCreate('key', () => 'made')))).toBe('made')
  expect(all[Symbol.for('corral.scopes.1')]).toBe(theirs)
})
