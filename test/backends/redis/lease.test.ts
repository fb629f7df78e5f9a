import { expect, it } from 'vitest'
import type { Backend, Bytes } from '../../../src/index.js'
import { sleep } from '../../support/waiting.js'
import type { Deployment } from './deployments.js'
import { bytes, everywhere, freshKey, granted, text } from './suite.js'

/** Two processes' worth of backends, and a key that no other test uses. */
function two(at: Deployment) {
  return { mine: at.open(), theirs: at.open(), key: freshKey() }
}

async function busy(backend: Backend<Bytes>, key: string, ms = 10_000) {
  const acquired = await backend.acquire(key, ms)
  if (acquired.token !== undefined) throw new Error('Expected the lease to be held')
  const began = performance.now()
  return { remaining: acquired.remaining, waited: acquired.settled.then(() => performance.now() - began) }
}

everywhere('the lease of Redis', (at) => {
  it('is granted to one, and tells the others how long to wait', async () => {
    const { mine, theirs, key } = two(at())
    expect(await theirs.held(key)).toBe(false)
    await granted(mine, key, 5_000)
    const { remaining } = await busy(theirs, key)
    expect(remaining).toBeGreaterThan(4_000)
    expect(remaining).toBeLessThanOrEqual(5_000)
    expect(await theirs.held(key)).toBe(true)
    expect(await mine.get(key)).toBeUndefined()
  })

  it('fences one fill', async () => {
    const { mine, theirs, key } = two(at())
    const token = await granted(mine, key)
    expect(await mine.set(key, bytes('one'), { token })).toBe('stored')
    expect(await mine.set(key, bytes('two'), { token })).toBe('lost')
    expect(text(await theirs.get(key))).toBe('one')
    expect(await theirs.held(key)).toBe(false)
  })

  it.each<[string, (other: Backend<Bytes>, key: string) => unknown, string | undefined]>([
    ['a deletion', (other, key) => other.delete(key), undefined],
    ['a deletion of many', (other, key) => other.deleteMulti([key, `${key}'`]), undefined],
    ['an explicit value', (other, key) => other.set(key, bytes('newer'), {}), 'newer'],
    ['explicit values', (other, key) => other.setMulti([[key, bytes('newer'), {}]]), 'newer'],
    ['a thief', (other, key) => other.acquire(key, 1_000, { steal: true }), undefined],
    [
      'a deletion and another lease',
      async (other, key) => (await other.delete(key), other.acquire(key, 1_000)),
      undefined,
    ],
  ])('is voided by %s', async (_, act, left) => {
    const { mine, theirs, key } = two(at())
    const token = await granted(mine, key)
    await act(theirs, key)
    expect(await mine.renew(key, token, 1_000)).toBe(false)
    expect(await mine.release(key, token)).toBe(false)
    expect(await mine.set(key, bytes('late'), { token })).toBe('lost')
    expect(text(await mine.get(key))).toBe(left)
  })

  it('expires, and is lost with it', async () => {
    const { mine, theirs, key } = two(at())
    await theirs.held(key)
    const token = await granted(mine, key, 400)
    const { waited } = await busy(theirs, key)
    expect(await waited).toBeGreaterThan(100)
    expect(await theirs.held(key)).toBe(false)
    expect(await mine.set(key, bytes('late'), { token })).toBe('lost')
    const other = await granted(theirs, key)
    expect(await mine.set(key, bytes('late'), { token })).toBe('lost')
    expect(await theirs.set(key, bytes('in time'), { token: other })).toBe('stored')
  })

  it('lives on while it is renewed', async () => {
    const { mine, theirs, key } = two(at())
    const token = await granted(mine, key, 1_500)
    for (let i = 0; i < 4; i++) {
      await sleep(450)
      expect(await mine.renew(key, token, 1_500)).toBe(true)
    }
    expect(await theirs.held(key)).toBe(true)
    expect(await mine.release(key, token)).toBe(true)
    expect(await mine.release(key, token)).toBe(false)
  })

  it.each<[string, (holder: Backend<Bytes>, key: string, token: string) => unknown]>([
    ['a fill', (holder, key, token) => holder.set(key, bytes('v'), { token })],
    ['fills', (holder, key, token) => holder.setMulti([[key, bytes('v'), { token }]])],
    ['a release', (holder, key, token) => holder.release(key, token)],
    ['a deletion', (holder, key) => holder.delete(key)],
    ['an explicit value', (holder, key) => holder.set(key, bytes('v'), {})],
    ['a thief', (holder, key) => holder.acquire(key, 1_000, { steal: true })],
  ])('wakes waiters: %s', async (_, settle) => {
    const { mine, theirs, key } = two(at())
    const token = await granted(mine, key)
    const first = await busy(theirs, key)
    const second = await busy(at().open(), key)
    await sleep(120)
    const began = performance.now()
    await settle(mine, key, token)
    await Promise.all([first.waited, second.waited])
    // A poll would come after up to a second.
    expect(performance.now() - began).toBeLessThan(600)
  })
})
