import { join } from 'node:path'
import { beforeAll, describe, expect, test, vi } from 'vitest'
import { fileWaiters } from '../../../backends/lmdb/client/waiters.js'
import { lmdb } from '../../../backends/lmdb/index.js'
import type { Backend } from '../../../src/backend/backend.js'
import type { Bytes } from '../../../src/backend/cached-value.js'
import type { Ledger } from '../../../src/ledger/ledger.js'
import type { LedgerTime } from '../../../src/ledger/snapshot.js'
import { judge } from '../../support/ledgers.js'
import { sleep } from '../../support/waiting.js'
import { temporaryFolder } from './support.js'

const time = vi.hoisted(() => ({ ahead: 0 }))
vi.mock(import('../../../src/base/timers.js'), async (original) => {
  const timers = await original()
  return { ...timers, epochNow: () => timers.epochNow() + time.ahead }
})

const folder = temporaryFolder()
const bytes = (text: string) => Buffer.from(text)
let store: Backend<Bytes>
/** Another process's view of the file, as far as one process can have it. */
let other: Backend<Bytes>
let ledger: Ledger
let keys = 0
const newKey = () => `key ${++keys}`

beforeAll(() => {
  const file = join(folder, 'cache.mdb')
  store = lmdb(file)
  other = lmdb(file)
  ledger = store.ledger as Ledger
  return async () => {
    await store.close()
    await other.close()
  }
})

async function granted(from: Backend<Bytes>, key: string, ms = 10_000, steal = false): Promise<string> {
  const { token } = await from.acquire(key, ms, { steal })
  if (token === undefined) throw new Error('expected the lease to be granted')
  return token
}

async function refused(from: Backend<Bytes>, key: string) {
  const busy = await from.acquire(key, 10_000)
  if (busy.token !== undefined) throw new Error('expected the lease to be taken')
  return busy
}

async function settlesWithin(ms: number, settled: Promise<unknown>): Promise<boolean> {
  return Promise.race([settled.then(() => true), sleep(ms).then(() => false)])
}

describe('a lease', () => {
  test('goes to one of many concurrent callers, from any process', async () => {
    const key = newKey()
    const asked = await Promise.all(
      Array.from({ length: 40 }, (_, i) => (i % 2 === 0 ? store : other).acquire(key, 10_000)),
    )
    expect(asked.filter(({ token }) => token !== undefined)).toHaveLength(1)
    for (const one of asked) if (one.token === undefined) expect(one.remaining).toBeGreaterThan(9_000)
    expect(other.held(key)).toBe(true)
  })

  const endings: readonly (readonly [string, (key: string, token: string) => unknown])[] = [
    ['filled', (key, token) => store.set(key, bytes('v'), { token })],
    ['released', (key, token) => store.release(key, token)],
    ['revoked by a set', (key) => other.set(key, bytes('w'), {})],
    ['revoked by a delete', (key) => other.delete(key)],
    ['stolen', (key) => other.acquire(key, 10_000, { steal: true })],
  ]
  test.each(endings)('that is %s wakes its waiters, here and elsewhere, by a push', async (_, end) => {
    const delays: number[] = []
    // The quickest of a few: a busy machine delays some, while a poll alone would take 125 ms and more every time.
    while (delays.length < 8 && !delays.some((delay) => delay < 80)) {
      const key = newKey()
      const token = await granted(store, key)
      const waits = [await refused(store, key), await refused(other, key)]
      for (const { settled } of waits) expect(await settlesWithin(1, settled)).toBe(false)
      await end(key, token)
      const start = performance.now()
      await Promise.all(waits.map(({ settled }) => settled))
      delays.push(performance.now() - start)
    }
    expect(Math.min(...delays)).toBeLessThan(80)
  })

  test('that expires wakes its waiters, and not before', async () => {
    const key = newKey()
    await granted(store, key, 200)
    const start = performance.now()
    const busy = await refused(other, key)
    expect(busy.remaining).toBeLessThanOrEqual(200)
    await busy.settled
    // Two clocks of different steps.
    expect(performance.now() - start).toBeGreaterThan(busy.remaining - 5)
    expect(store.held(key)).toBe(false)
    await granted(other, key)
  })

  test('that is renewed keeps its waiters waiting', async () => {
    const key = newKey()
    const token = await granted(store, key, 150)
    const busy = await refused(other, key)
    expect(await store.renew(key, token, 400)).toBe(true)
    expect(await settlesWithin(250, busy.settled)).toBe(false)
    await busy.settled
    expect(await store.renew(key, token, 400)).toBe(false)
  })

  test('voids every fill but its own', async () => {
    const key = newKey()
    const first = await granted(store, key)
    expect(await other.set(key, bytes('old'), { token: 'invented' })).toBe('lost')
    const second = await granted(other, key, 10_000, true)
    expect(await store.set(key, bytes('old'), { token: first })).toBe('lost')
    expect(await store.release(key, first)).toBe(false)
    expect(await store.renew(key, first, 10_000)).toBe(false)
    expect(await other.set(key, bytes('new'), { token: second })).toBe('stored')
    expect(await other.set(key, bytes('again'), { token: second })).toBe('lost')
    expect(String(store.get(key))).toBe('new')
  })

  test.each([
    ['delete', (key: string) => other.delete(key)],
    ['deleteMulti', (key: string) => other.deleteMulti([key, 'x'])],
    ['set', (key: string) => other.set(key, bytes('set'), {})],
  ])('is revoked by a %s that overtakes its fill', async (_, invalidate) => {
    const key = newKey()
    const token = await granted(store, key)
    await invalidate(key)
    expect(store.held(key)).toBe(false)
    expect(await store.set(key, bytes('old'), { token })).toBe('lost')
    expect(String(store.get(key))).not.toBe('old')
  })

  test('that has expired cannot fill, though no other caller took it', async () => {
    const key = newKey()
    const token = await granted(store, key, 10)
    await sleep(30)
    expect(await store.set(key, bytes('late'), { token })).toBe('lost')
    expect(store.get(key)).toBeUndefined()
  })

  test('races a delete without ever leaving the deleted value', async () => {
    for (let i = 0; i < 100; i++) {
      const key = newKey()
      const token = await granted(store, key)
      const [outcome] = await Promise.all([store.set(key, bytes('old'), { token }), other.delete(key)])
      expect(['stored', 'lost']).toContain(outcome)
      expect(store.get(key)).toBeUndefined()
      expect(store.held(key)).toBe(false)
    }
  })
})

test('waiters poll where the file cannot be watched, and are let go when all is closed', async () => {
  const waiters = fileWaiters(join(folder, 'not there'))
  let ends = Number.POSITIVE_INFINITY
  const waits = [1, 2].map(() => waiters.wait('k', () => ends).settled)
  expect(await settlesWithin(60, waits[0] as Promise<void>)).toBe(false)
  ends = 0
  await Promise.all(waits)
  const last = waiters.wait('k', () => Number.POSITIVE_INFINITY)
  waiters.close()
  await last.settled
})

test('a waiter that leaves is let go', async () => {
  const waiters = fileWaiters(join(folder, 'not there either'))
  const { settled, leave } = waiters.wait('k', () => Number.POSITIVE_INFINITY)
  leave()
  await settled
  waiters.close()
})

describe('the ledger', () => {
  const snapshotOf = (now: LedgerTime, ...names: readonly string[]) => ({
    epoch: now.epoch,
    groups: [{ asOf: now.at, names }],
  })

  test('begins once for all, and is seen by all', async () => {
    const instants = await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        ((i % 2 === 0 ? store : other).ledger as Ledger).open('one').now([]),
      ),
    )
    expect(new Set(instants.map(({ epoch, at }) => `${epoch} ${at}`)).size).toBe(1)
    expect(ledger.open('never begun').read(['x'])).toEqual({ now: undefined, stamps: [undefined] })
    expect(ledger.shared).toBe(true)
  })

  test('never goes backwards, from whichever process an invalidation comes', async () => {
    let { at, epoch } = await ledger.open('steps').now([])
    for (let i = 0; i < 30; i++) {
      await ((i % 2 === 0 ? store : other).ledger as Ledger).open('steps').invalidate([`n${i}`], 'hard')
      const now = await ledger.open('steps').now([])
      expect(now.at).toBeGreaterThan(at)
      expect(now.epoch).toBe(epoch)
      ;({ at, epoch } = now)
    }
  })

  test('takes many invalidations at once without losing one', async () => {
    const before = await ledger.open('many').now([])
    await Promise.all(
      Array.from({ length: 300 }, (_, i) =>
        ((i % 2 === 0 ? store : other).ledger as Ledger)
          .open('many')
          .invalidate([`n${i}`], i % 3 === 0 ? 'soft' : 'hard'),
      ),
    )
    for (let i = 0; i < 300; i++)
      expect(await judge(ledger, 'many', snapshotOf(before, `n${i}`))).toBe(i % 3 === 0 ? 'stale' : 'invalid')
    expect(await judge(ledger, 'many', snapshotOf(before, 'other'))).toBe('fresh')
  })

  test('loses neither of two invalidations of one name at once', async () => {
    for (let i = 0; i < 60; i++) {
      const before = await ledger.open('both').now([])
      await Promise.all([
        ledger.open('both').invalidate(['n'], 'hard'),
        (other.ledger as Ledger).open('both').invalidate(['n'], 'soft'),
      ])
      expect(await judge(ledger, 'both', snapshotOf(before, 'n'))).toBe('invalid')
    }
  })

  test('keeps hard and soft apart', async () => {
    const one = await ledger.open('modes').now([])
    await ledger.open('modes').invalidate(['n'], 'hard')
    const two = await ledger.open('modes').now([])
    await ledger.open('modes').invalidate(['n'], 'soft')
    const three = await ledger.open('modes').now([])
    expect(await judge(ledger, 'modes', snapshotOf(one, 'n'))).toBe('invalid')
    expect(await judge(ledger, 'modes', snapshotOf(two, 'n'))).toBe('stale')
    expect(await judge(ledger, 'modes', snapshotOf(three, 'n'))).toBe('fresh')
    const { now, stamps } = await ledger.open('modes').read(['n', 'absent'])
    expect(now).toEqual(three)
    expect(stamps[0]?.soft).toBeGreaterThan(stamps[0]?.hard ?? 0)
    expect(stamps[1]).toEqual({ hard: 0, soft: 0 })
  })

  test('tells clocks apart, and names that look like one another', async () => {
    const at = await ledger.open('a').now([])
    const names = ['n', 'a\0n', '', '\0', '1:a', 'n'.repeat(5000), '\ud800', '\ud801']
    await ledger.open('ab').now([])
    await ledger.open('ab').invalidate(names, 'hard')
    await ledger.open('').invalidate(names, 'hard')
    for (const name of names) expect(await judge(ledger, 'a', snapshotOf(at, name))).toBe('fresh')
    await ledger.open('a').invalidate(['\ud800'], 'hard')
    expect(await judge(ledger, 'a', snapshotOf(at, '\ud801'))).toBe('fresh')
    expect(await judge(ledger, 'a', snapshotOf(at, '\ud800'))).toBe('invalid')
  })

  test('takes snapshots of another clock for invalid', async () => {
    const at = await ledger.open('mine').now([])
    expect(await judge(ledger, 'mine', { ...snapshotOf(at, 'n'), epoch: 'other' })).toBe('invalid')
    expect(await judge(ledger, 'not begun', snapshotOf(at, 'n'))).toBe('invalid')
  })

  test.each(['hard', 'soft'] as const)(
    'refuses a fill that a %s invalidation overtook, and gives its lease back',
    async (mode) => {
      const key = newKey()
      const snapshot = snapshotOf(await ledger.open('fills').now([]), 'a', 'b')
      const token = await granted(store, key)
      const { settled } = await refused(other, key)
      await (other.ledger as Ledger).open('fills').invalidate(['b'], mode)
      expect(await store.set(key, bytes('old'), { token, ifCurrent: { clock: 'fills', snapshot } })).toBe(
        'refused',
      )
      await settled
      expect(store.get(key)).toBeUndefined()
      expect(store.held(key)).toBe(false)
    },
  )

  test('refuses a set, which then leaves no older value and no lease behind', async () => {
    const key = newKey()
    const snapshot = snapshotOf(await ledger.open('sets').now([]), 'a')
    expect(await store.set(key, bytes('older'), { ifCurrent: { clock: 'sets', snapshot } })).toBe('stored')
    const token = await granted(other, key)
    await ledger.open('sets').invalidate(['a'], 'hard')
    expect(await store.set(key, bytes('old'), { ifCurrent: { clock: 'sets', snapshot } })).toBe('refused')
    expect(store.get(key)).toBeUndefined()
    expect(await other.set(key, bytes('late'), { token })).toBe('lost')
  })

  test('races a fill without ever leaving an old value that judges fresh', async () => {
    let stored = 0
    for (let i = 0; i < 100; i++) {
      const key = newKey()
      const snapshot = snapshotOf(await ledger.open('race').now([]), 'n')
      const token = await granted(store, key)
      const [outcome] = await Promise.all([
        store.set(key, bytes('old'), { token, ifCurrent: { clock: 'race', snapshot } }),
        (other.ledger as Ledger).open('race').invalidate(['n'], 'hard'),
      ])
      if (outcome === 'stored') stored++
      expect(await judge(ledger, 'race', snapshot)).toBe('invalid')
    }
    expect(stored).toBeLessThanOrEqual(100)
  })

  test('lets a fill through while everything else is being invalidated', async () => {
    const key = newKey()
    const snapshot = snapshotOf(await ledger.open('busy').now([]), 'quiet')
    let running = true
    const storm = (async () => {
      for (let i = 0; running; i++)
        await (other.ledger as Ledger).open('busy').invalidate([`noise ${i % 50}`], 'hard')
    })()
    for (let i = 0; i < 30; i++) {
      const token = await granted(store, key)
      expect(await store.set(key, bytes('v'), { token, ifCurrent: { clock: 'busy', snapshot } })).toBe(
        'stored',
      )
    }
    running = false
    await storm
  })
})

test('a failure that was kept while the clock was ahead denies no lease once it is set back', async () => {
  const key = newKey()
  const fail = async () => store.release(key, await granted(store, key), { failedFor: 5_000, failedAsOf: 7 })
  time.ahead = 3_600_000
  try {
    expect(await fail()).toBe(true)
    expect((await refused(other, key)).failure).toEqual({ failedAsOf: 7 })
  } finally {
    time.ahead = 0
  }
  expect(await fail()).toBe(true)
  expect((await refused(other, key)).remaining).toBeLessThanOrEqual(5_000)
})

describe('a lease that was granted while the clock was ahead', () => {
  const aheadBy = async <R>(ms: number, work: () => Promise<R>): Promise<R> => {
    time.ahead = ms
    try {
      return await work()
    } finally {
      time.ahead = 0
    }
  }

  test('counts anew once the clock is set back: its holder may have died', async () => {
    const key = newKey()
    const token = await aheadBy(86_400_000, () => granted(store, key, 300))
    const { remaining, settled } = await refused(other, key)
    expect(remaining).toBeLessThanOrEqual(300)
    // A holder that lives still has it, and its renewals are of this time.
    expect(await store.renew(key, token, 200)).toBe(true)
    expect((await refused(other, key)).remaining).toBeLessThanOrEqual(200)
    await settled
    expect(await store.set(key, bytes('late'), { token })).toBe('lost')
    await granted(other, key)
  })

  test('lets waiters go that wait since then', async () => {
    const key = newKey()
    const { settled } = await aheadBy(86_400_000, async () => {
      await granted(store, key, 300)
      return refused(other, key)
    })
    expect(await settlesWithin(5_000, settled)).toBe(true)
    await granted(other, key)
  })

  test('may fill', async () => {
    const key = newKey()
    const token = await aheadBy(86_400_000, () => granted(store, key))
    await refused(other, key)
    expect(await store.set(key, bytes('new'), { token })).toBe('stored')
  })
})

test('an entry that was written while the clock was ahead by more than its life is none once it is set back', async () => {
  const key = newKey()
  const read = async (ahead: number, ttl: number | undefined) => {
    time.ahead = ahead
    await store.set(key, bytes('v'), ttl === undefined ? {} : { ttl })
    time.ahead = 0
    // The time of day is read once per turn.
    await sleep(2)
    return (await other.get(key)) && 'found'
  }
  expect(await read(86_400_000, 60_000)).toBeUndefined()
  expect(await read(2_000, 60_000)).toBe('found')
  expect(await read(86_400_000, undefined)).toBe('found')
})
