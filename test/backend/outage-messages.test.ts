/** An outage is a message for each change of state, however often the library tries again meanwhile. */
import { expect, it } from 'vitest'
import { leaseWaiters } from '../../src/backend/lease-waiters.js'
import { Recovery } from '../../src/backend/recovery.js'
import { type CachedValue, defineBackend, diagnostics, type Messages, makeRegion } from '../../src/index.js'
import { gate, until } from '../support/waiting.js'

async function heard(work: () => Promise<unknown>): Promise<readonly Messages['failure'][]> {
  const messages: Messages['failure'][] = []
  const listener = (message: unknown) => void messages.push(message as Messages['failure'])
  diagnostics('failure').subscribe(listener)
  try {
    await work()
  } finally {
    diagnostics('failure').unsubscribe(listener)
  }
  return messages
}

it('recovery reports once that the store is away, once that it refuses, and again after it was back', async () => {
  const [away, refusing] = [new Error('away'), new Error('refused')]
  let failure: Error | undefined = away
  const fail = async () => {
    if (failure !== undefined) throw failure
  }
  const recovery = new Recovery({
    name: 'test',
    max: 10,
    store: {
      deleteMulti: async (keys) => keys.map(() => failure),
      invalidate: fail,
      dropClock: fail,
      isUnreachable: (error) => error === away,
    },
  })
  const times = async (count: number) => {
    for (let i = 0; i < count; i++) await recovery.replay()
  }
  const messages = await heard(async () => {
    recovery.failedKey('a')
    await times(20)
    failure = refusing
    await times(20)
    failure = undefined
    await times(1)
    expect(recovery.size).toBe(0)
    failure = away
    recovery.failedKey('a')
    await times(20)
  })
  recovery.close()
  expect(messages.map(({ where, error }) => [where, error])).toEqual([
    ['test recovery', away],
    ['test recovery', refusing],
    ['test recovery', away],
  ])
})

it('waiters whose reads fail report once, and again after a reply', async () => {
  const waiters = leaseWaiters({ store: 'test', poll: { from: 1, to: 1, growth: 1 } })
  const waitThrough = async (failures: number) => {
    let reads = 0
    await waiters.join('lease').untilOver(60_000, async () => {
      if (++reads <= failures) throw new Error('away')
      return 0
    })
  }
  const messages = await heard(async () => {
    await Promise.all([waitThrough(20), waitThrough(20)])
    await waitThrough(20)
  })
  expect(messages.map(({ where }) => where)).toEqual(['test waiter', 'test waiter'])
})

it('leases that cannot be renewed or given back are reported once, however many creations run', async () => {
  let away = false
  let renewals = 0
  const stored = new Map<string, CachedValue>()
  const work = async () => {
    if (away) throw new Error('away')
    return true
  }
  const region = makeRegion<number>({
    backend: defineBackend<CachedValue>({
      name: 'test',
      get: (key) => stored.get(key),
      set: (key, value) => void stored.set(key, value),
      delete: (key) => void stored.delete(key),
      acquire: () => ({ token: 'held' }),
      renew: () => {
        renewals++
        return work()
      },
      release: work,
      held: () => true,
    }),
    lease: { ms: 30 },
  })
  const failing = (key: string) =>
    region
      .getOrCreate(key, async () => {
        throw new Error('no')
      })
      .catch(() => {})
  const withheld = (key: string) => region.getOrCreate(key, () => 1, { shouldCache: () => false })
  const renewed = gate()
  const messages = await heard(async () => {
    await failing('warm')
    away = true
    const running = Array.from({ length: 20 }, (_, i) =>
      region.getOrCreate(`long ${i}`, async () => {
        await renewed.opened
        return 1
      }),
    )
    await Promise.all(Array.from({ length: 20 }, (_, i) => failing(`f${i}`)))
    await Promise.all(Array.from({ length: 20 }, (_, i) => withheld(`w${i}`)))
    await until(() => renewals >= 60)
    away = false
    renewed.open()
    await Promise.all(running)
  })
  await region.close()
  expect(messages.map(({ where }) => where).sort()).toEqual(['release', 'release', 'renew'])
})
