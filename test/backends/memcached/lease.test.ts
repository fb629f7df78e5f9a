import { expect, it, vi } from 'vitest'
import type { Acquired, Backend, Bytes } from '../../../src/index.js'
import { sleep } from '../../support/waiting.js'
import { bytes, say, text, withMemcached } from './start.js'

const time = vi.hoisted(() => ({ ahead: 0 }))
vi.mock(import('../../../src/base/timers.js'), async (original) => {
  const timers = await original()
  return { ...timers, epochNow: () => timers.epochNow() + time.ahead }
})

let serial = 0

withMemcached('the lease of memcached', (bench) => {
  /** Two processes' worth of backends, and a key that no other test uses. */
  const two = () => ({ mine: bench().open(), theirs: bench().open(), key: `key ${++serial}` })
  const granted = async (backend: Backend<Bytes>, key: string, ms = 10_000, steal = false) => {
    const { token } = await backend.acquire(key, ms, { steal })
    if (token === undefined) throw new Error('expected to be granted the lease')
    return token
  }

  it('is granted to one, and tells the others how long to wait', async () => {
    const { mine, theirs, key } = two()
    await theirs.get(key)
    const began = Date.now()
    await granted(mine, key, 60_000)
    const busy = await theirs.acquire(key, 60_000)
    const passed = Date.now() - began
    expect(busy.token).toBeUndefined()
    if (busy.token !== undefined) return
    expect(busy.remaining).toBeGreaterThanOrEqual(60_000 - passed)
    expect(busy.remaining).toBeLessThanOrEqual(60_000)
    expect(await theirs.held(key)).toBe(true)
    expect(await mine.get(key)).toBeUndefined()
  })

  it('that is kept for a failure is denied no longer than that where the clock was ahead and is set back', async () => {
    const { mine, theirs, key } = two()
    const fail = async () => mine.release(key, await granted(mine, key), { failedFor: 5_000, failedAsOf: 7 })
    // Processes that are a moment apart still agree.
    for (const ahead of [500, 3_600_000]) {
      time.ahead = ahead
      expect(await fail()).toBe(true)
      expect(await theirs.acquire(key, 1_000)).toMatchObject({ failure: { failedAsOf: 7 } })
      time.ahead = 0
      const { token, failure } = (await theirs.acquire(key, 1_000)) as Acquired<Bytes> & { failure?: unknown }
      expect([token !== undefined, failure !== undefined]).toEqual([ahead > 500, ahead <= 500])
      await mine.delete(key)
    }
  })

  it('fences one fill', async () => {
    const { mine, theirs, key } = two()
    const token = await granted(mine, key)
    expect(await mine.set(key, bytes('one'), { token })).toBe('stored')
    expect(await mine.set(key, bytes('two'), { token })).toBe('lost')
    expect(text(await theirs.get(key))).toBe('one')
    expect(await theirs.held(key)).toBe(false)
  })

  it.each<[string, (other: Backend<Bytes>, key: string) => unknown, string | undefined]>([
    ['a deletion', (other, key) => other.delete(key), undefined],
    ['a deletion of many', (other, key) => other.deleteMulti([key]), undefined],
    ['an explicit value', (other, key) => other.set(key, bytes('newer'), {}), 'newer'],
    ['explicit values', (other, key) => other.setMulti([[key, bytes('newer'), {}]]), 'newer'],
    ['a thief', (other, key) => other.acquire(key, 1_000, { steal: true }), undefined],
    [
      'a deletion and another lease',
      async (other, key) => {
        await other.delete(key)
        await other.acquire(key, 1_000)
      },
      undefined,
    ],
    [
      'the loss of the item',
      (_, key) => say(bench().server.port, `delete ${key.replace(' ', '%20')}`),
      undefined,
    ],
    ['a flush', () => say(bench().server.port, 'flush_all'), undefined],
  ])('is voided by %s', async (_, act, left) => {
    const { mine, theirs, key } = two()
    const token = await granted(mine, key)
    await act(theirs, key)
    expect(await mine.renew(key, token, 1_000)).toBe(false)
    expect(await mine.release(key, token)).toBe(false)
    expect(await mine.set(key, bytes('stale'), { token })).toBe('lost')
    expect(text(await theirs.get(key))).toBe(left)
  })

  it('leaves the old value readable while it is renewed, and fences that too', async () => {
    const { mine, theirs, key } = two()
    await mine.set(key, bytes('old'), { ttl: 60_000 })
    const token = await granted(mine, key)
    expect(text(await theirs.get(key))).toBe('old')
    expect((await theirs.acquire(key, 1_000)).token).toBeUndefined()
    expect(await mine.renew(key, token, 20_000)).toBe(true)
    expect(text(await theirs.get(key))).toBe('old')
    expect(await mine.set(key, bytes('new'), { token })).toBe('stored')
    expect(text(await theirs.get(key))).toBe('new')
    const again = await granted(mine, key)
    await theirs.delete(key)
    expect(await mine.set(key, bytes('stale'), { token: again })).toBe('lost')
    expect(await theirs.get(key)).toBeUndefined()
  })

  it('brings the stored value, the time of the ledger and its stamps', async () => {
    const { mine, theirs, key } = two()
    const clock = `clock ${key}`
    const ledger = theirs.ledger?.open(clock)
    await mine.set(key, bytes('old'), {})
    await ledger?.now(['expected'])
    await ledger?.invalidate(['other'], 'hard')
    const cold = await mine.acquire(`${key} cold`, 1_000, {
      question: { clock, names: ['new'], expected: [] },
    })
    const question = { clock, names: ['new'], expected: ['expected', 'absent'] }
    const warm = await mine.acquire(key, 1_000, { question })
    if (cold.token === undefined || warm.token === undefined) throw new Error('expected to be granted both')
    expect(cold.found).toBeUndefined()
    expect(text(warm.found)).toBe('old')
    const { now, stamps } = (await ledger?.read(['expected', 'absent'])) ?? {}
    expect([cold.asOf, warm.asOf]).toEqual([now, now])
    expect(warm.stamps).toEqual(stamps)
  })

  it('can be given back, with the old value or without', async () => {
    const { mine, theirs, key } = two()
    const first = await granted(mine, key)
    expect(await mine.release(key, first)).toBe(true)
    expect(await theirs.held(key)).toBe(false)
    await mine.set(key, bytes('old'), {})
    const second = await granted(theirs, key)
    expect(await theirs.release(key, second)).toBe(true)
    expect(await theirs.release(key, second)).toBe(false)
    expect(text(await mine.get(key))).toBe('old')
    await granted(mine, key)
  })

  it('can be renewed, and is then still good for a fill', async () => {
    const { mine, theirs, key } = two()
    const token = await granted(mine, key, 150)
    expect(await mine.renew(key, token, 5_000)).toBe(true)
    await sleep(200)
    expect((await theirs.acquire(key, 1_000)).token).toBeUndefined()
    expect(await mine.set(key, bytes('value'), { token })).toBe('stored')
  })

  it('ends by itself', async () => {
    const { mine, theirs, key } = two()
    const token = await granted(mine, key, 80)
    const busy = await theirs.acquire(key, 1_000)
    if (busy.token === undefined) await busy.settled
    expect(await theirs.held(key)).toBe(false)
    expect(await mine.renew(key, token, 1_000)).toBe(false)
    expect(await mine.set(key, bytes('late'), { token })).toBe('lost')
    await granted(theirs, key)
  })

  it('stays good on another connection', async () => {
    const { mine, theirs, key } = two()
    const token = await granted(mine, key)
    expect(await theirs.renew(key, token, 10_000)).toBe(true)
    expect(await theirs.set(key, bytes('value'), { token })).toBe('stored')
  })

  it('takes no token that it did not give', async () => {
    const { mine, key } = two()
    const token = await granted(mine, key)
    for (const wrong of ['', 'x', '~~~', `${'0'.repeat(32)}${token.slice(32)}`, '\r\n'])
      expect([await mine.renew(key, wrong, 1_000), await mine.release(key, wrong)]).toEqual([false, false])
    expect(await mine.held(key)).toBe(true)
  })

  it.each<[string, (mine: Backend<Bytes>, key: string, token: string) => unknown]>([
    ['filled', (mine, key, token) => mine.set(key, bytes('value'), { token })],
    ['given back', (mine, key, token) => mine.release(key, token)],
    ['revoked', (mine, key) => mine.delete(key)],
    ['replaced', (mine, key) => mine.set(key, bytes('value'), {})],
  ])('wakes its waiters when it was %s: at once in its process, soon in others', async (_, act) => {
    const { mine, theirs, key } = two()
    const token = await granted(mine, key)
    const here = await mine.acquire(key, 1_000)
    const there = await theirs.acquire(key, 1_000)
    if (here.token !== undefined || there.token !== undefined)
      throw new Error('expected both to be told to wait')
    let woken = false
    void here.settled.then(() => {
      woken = true
    })
    await act(mine, key, token)
    await Promise.resolve()
    expect(woken).toBe(true)
    const began = performance.now()
    await there.settled
    expect(performance.now() - began).toBeLessThan(1_000)
  })

  it('goes on keeping others waiting while it is renewed', async () => {
    const { mine, theirs, key } = two()
    const token = await granted(mine, key, 200)
    const busy = await theirs.acquire(key, 1_000)
    if (busy.token !== undefined) throw new Error('expected to be told to wait')
    let woken = false
    void busy.settled.then(() => {
      woken = true
    })
    await mine.renew(key, token, 800)
    await sleep(350)
    expect(woken).toBe(false)
    await mine.release(key, token)
    await busy.settled
  })

  it('writes many, each under its own token', async () => {
    const { mine, theirs } = two()
    const keys = ['a', 'b', 'c'].map((name) => `multi ${name} ${++serial}`)
    const tokens = await Promise.all(keys.map((key) => granted(mine, key)))
    await theirs.delete(keys[1] as string)
    const outcomes = await mine.setMulti(
      keys.map((key, i) => [key, bytes(key), { token: tokens[i] as string }]),
    )
    expect(outcomes).toEqual(['stored', 'lost', 'stored'])
  })
})
