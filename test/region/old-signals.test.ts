import { afterEach, beforeEach, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { makeRegion } from '../../src/index.js'
import { deferred, idle } from '../support/waiting.js'

// As in jsdom before 25, which Jest's environment has.
const method = Object.getOwnPropertyDescriptor(AbortSignal.prototype, 'throwIfAborted') as PropertyDescriptor
beforeEach(() => void Reflect.deleteProperty(AbortSignal.prototype, 'throwIfAborted'))
afterEach(() => void Object.defineProperty(AbortSignal.prototype, 'throwIfAborted', method))

it('signals without throwIfAborted limit calls of every form', async () => {
  const region = makeRegion<number>({ backend: memory() })
  const { signal } = new AbortController()
  expect(await region.getOrCreateMulti(['a', 'b'], () => [1, 2], { signal })).toEqual([1, 2])
  const fn = region.cacheOnArguments(async () => 3, { namespace: 'fn' }).with({ signal })
  expect(await fn.refresh()).toBe(3)
  const aborted = AbortSignal.abort(new Error('over'))
  await expect(region.getOrCreateMulti(['c'], () => [1], { signal: aborted })).rejects.toThrow('over')
})

it('signals without throwIfAborted let a reservation wait, and a caller whose creation was deleted', async () => {
  const region = makeRegion<number>({ backend: memory() })
  const held = await region.reserve('k')
  if (!('release' in held)) throw new Error('Expected a reservation')
  const waiting = region.reserve('k')
  await idle()
  await held.release()
  expect(await waiting).toHaveProperty('fill')
  const { promise, resolve } = deferred<number>()
  const first = region.getOrCreate('w', () => promise)
  const joined = region.getOrCreate('w', () => 2, { signal: new AbortController().signal })
  await region.delete('w')
  resolve(1)
  expect(await first).toBe(1)
  expect([1, 2]).toContain(await joined)
})
