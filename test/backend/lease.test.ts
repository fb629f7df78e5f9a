import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { makeRegion, NO_VALUE } from '../../src/index.js'
import { held } from '../support/stage.js'
import { idle } from '../support/waiting.js'

vi.mock(import('../../src/base/timers.js'), async (original) => {
  const { globalTimers } = await import('../support/global-timers.js')
  return globalTimers(await original())
})

beforeEach(async () => {
  vi.useFakeTimers({
    toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'Date', 'performance'],
  })
  // The time of day is read once per turn of the event loop.
  await idle(2)
})
afterEach(() => {
  vi.useRealTimers()
})

/** Lets virtual time pass, and the event loop turn with it. */
async function pass(ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 10) {
    await vi.advanceTimersByTimeAsync(Math.min(left, 10))
    await idle(1)
  }
}

/** Two regions over one backend stand for two processes: they share leases, not flights. */
const two = () => {
  const backend = memory()
  const lease = { ms: 1_000, wait: '1h' } as const
  return {
    backend,
    one: makeRegion<string>({ name: 'r', backend, lease }),
    other: makeRegion<string>({ name: 'r', backend, lease }),
  }
}

describe('the lease of a creation', () => {
  it('is renewed while the creator works, however slow it is', async () => {
    const { one, other } = two()
    const creator = held<string>()
    const leader = one.getOrCreate('key', creator.create)
    await creator.started
    const waiting = other.getOrCreate('key', () => expect.unreachable())
    for (let second = 0; second < 10; second++) {
      await pass(1_000)
      expect(await one.keyIsLocked('key')).toBe(true)
    }
    creator.resolve('slow')
    expect(await leader).toBe('slow')
    expect(await waiting).toBe('slow')
    expect(await one.get('key')).toBe('slow')
  })

  it('is not waited for endlessly by a creator that holds one: two processes ask for each other', async () => {
    const { one, other } = two()
    const ask = (region: typeof one, mine: string, theirs: string, rest: number): Promise<string> =>
      region.getOrCreate(mine, async () => {
        await pass(10)
        return rest === 0 ? mine : `${mine}(${await ask(region, theirs, mine, rest - 1)})`
      })
    const values = Promise.all([ask(one, 'a', 'b', 2), ask(other, 'b', 'a', 2)])
    let settled: readonly string[] | undefined
    values.then((both) => {
      settled = both
    }, expect.unreachable)
    await pass(14_000)
    expect(settled).toBeUndefined()
    await pass(2_000)
    expect(settled).toEqual(['a(b(a))', 'b(a(b))'])
    expect(await one.get('a')).toBe('a(b(a))')
    expect(await one.get('b')).toBe('b(a(b))')
  })

  it('of another process keeps callers waiting that hold none', async () => {
    const { one, other } = two()
    const creator = held<string>()
    const leader = one.getOrCreate('key', creator.create)
    await creator.started
    const waiting = other.getOrCreate('key', () => expect.unreachable())
    await pass(20_000)
    creator.resolve('slow')
    expect(await Promise.all([leader, waiting])).toEqual(['slow', 'slow'])
  })

  it('of a creator that died expires, and another caller creates', async () => {
    const { backend, one } = two()
    await backend.acquire('r:key', 1_000)
    let value: string | undefined
    const caller = one
      .getOrCreate('key', () => 'made after')
      .then((made) => {
        value = made
      })
    await idle()
    await pass(900)
    expect(value).toBeUndefined()
    await pass(200)
    await caller
    expect(value).toBe('made after')
  })

  it('that was lost is not filled: a value older than an invalidation stays away', async () => {
    const { backend, one, other } = two()
    const creator = held<string>()
    const leader = one.getOrCreate('key', creator.create)
    await creator.started
    await other.delete('key')
    creator.resolve('made before')
    expect(await leader).toBe('made before')
    expect(await other.get('key')).toBe(NO_VALUE)
    expect(await backend.held('key')).toBe(false)
  })

  it('is stolen by a refresh, whose value then counts', async () => {
    const { one, other } = two()
    const creator = held<string>()
    const leader = one.getOrCreate('f|', creator.create)
    await creator.started
    const f = other.cacheOnArguments({ namespace: 'f' })(() => 'refreshed')
    expect(await f.refresh()).toBe('refreshed')
    creator.resolve('made before')
    expect(await leader).toBe('made before')
    expect(await one.get('f|')).toBe('refreshed')
  })

  it('wakes waiters of another process when it is filled, released, revoked or stolen', async () => {
    for (const how of ['filled', 'failed', 'deleted', 'set', 'stolen'] as const) {
      const { one, other } = two()
      const creator = held<string>()
      const leader = one.getOrCreate('f|', creator.create)
      leader.catch(() => {})
      await creator.started
      const waiting = other.getOrCreate('f|', () => 'made by the other')
      await idle()
      if (how === 'filled') creator.resolve('made by one')
      if (how === 'failed') creator.reject(new Error('boom'))
      if (how === 'deleted') await one.delete('f|')
      if (how === 'set') await one.set('f|', 'set')
      if (how === 'stolen')
        await one
          .cacheOnArguments({ namespace: 'f' })(() => 'refreshed')
          .refresh()
      expect(await waiting, how).toBe(
        {
          filled: 'made by one',
          failed: 'made by the other',
          deleted: 'made by the other',
          set: 'set',
          stolen: 'refreshed',
        }[how],
      )
      creator.resolve('late')
      await leader.catch(() => {})
    }
  })
})

describe('waiting', () => {
  it('ends with an error at the region’s deadline', async () => {
    const region = makeRegion<string>({ backend: memory(), lease: { ms: '10s', wait: '2s' } })
    const creator = held<string>()
    const leader = region.getOrCreate('key', creator.create)
    await creator.started
    let error: unknown
    const waiting = region
      .getOrCreate('key', () => 'other')
      .catch((reason: unknown) => {
        error = reason
      })
    await pass(1_990)
    expect(error).toBeUndefined()
    await pass(20)
    await waiting
    expect(error).toMatchObject({ code: 'ERR_WAIT_TIMEOUT' })
    creator.resolve('value')
    expect(await leader).toBe('value')
  })
})
