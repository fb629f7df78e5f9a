import { describe, expect, it } from 'vitest'
import { leaseWaiters } from '../../src/backend/lease-waiters.js'
import { sleep } from '../support/waiting.js'

const poll = { from: 5, to: 50, growth: 3 }

describe('waiters of a store that sends messages', () => {
  const over = async () => 0
  const stands = async () => undefined
  const waitersOf = (isLive: () => boolean) =>
    leaseWaiters<string>({ store: 'test', poll, push: { isLive, checkEvery: 1_000 } })

  it('read again when messages come only after the wait began: an earlier one was missed', async () => {
    let live = false
    let read: () => Promise<number | undefined> = stands
    const waiters = waitersOf(() => live)
    const settled = waiters.join('lease').untilOver(10_000, () => read())
    // The wait has begun, with its real timer, before the listening does.
    await sleep(1)
    // The lease ended before we listened.
    read = over
    live = true
    waiters.recheck()
    const began = performance.now()
    await settled
    expect(performance.now() - began).toBeLessThan(500)
  })

  it('do not wait when the message has overtaken the reply', async () => {
    const waiters = waitersOf(() => true)
    const waiter = waiters.join('lease', 'mark')
    waiters.wake('lease', (mark) => `${mark} value`)
    const began = performance.now()
    expect(await waiter.untilOver(10_000, stands)).toBe('mark value')
    expect(performance.now() - began).toBeLessThan(500)
  })

  it('find the end of a lease although the message was lost, and never wait longer than the lease', async () => {
    const waiters = waitersOf(() => true)
    const began = performance.now()
    await waiters.join('lease').untilOver(10_000, over)
    expect(performance.now() - began).toBeLessThan(2_000)
    const again = performance.now()
    await waiters.join('lease').untilOver(80, stands)
    expect(performance.now() - again).toBeGreaterThan(70)
    expect(performance.now() - again).toBeLessThan(1_000)
  })

  it('ignore a message about another lease', async () => {
    const waiters = waitersOf(() => true)
    const began = performance.now()
    const settled = waiters.join('lease').untilOver(80, stands)
    waiters.wake('other')
    await settled
    expect(performance.now() - began).toBeGreaterThan(70)
  })
})

describe('waiters of a store without messages', () => {
  it('poll, notice a renewal, and end when the lease is over', async () => {
    const waiters = leaseWaiters({ store: 'test', poll })
    const began = performance.now()
    const until = began + 200
    await waiters.join('lease').untilOver(30, () => until - performance.now())
    expect(performance.now() - began).toBeGreaterThan(190)
    expect(performance.now() - began).toBeLessThan(1_000)
  })

  it('poll on after a failed read, and give up a slow one at the end of the lease', async () => {
    const waiters = leaseWaiters({ store: 'test', poll })
    let reads = 0
    await waiters.join('lease').untilOver(10_000, async () => {
      if (++reads < 3) throw new Error('away')
      return 0
    })
    expect(reads).toBe(3)
    const began = performance.now()
    await waiters.join('lease').untilOver(50, () => new Promise(() => {}))
    expect(performance.now() - began).toBeLessThan(1_000)
  })

  it('are let go when all is closed', async () => {
    const waiters = leaseWaiters({ store: 'test', poll })
    const settled = waiters.join('lease').untilOver(Number.POSITIVE_INFINITY, () => undefined)
    waiters.close()
    await settled
    await waiters.join('lease').untilOver(Number.POSITIVE_INFINITY, () => undefined)
  })
})
