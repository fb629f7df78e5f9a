import { setTimeout as delay } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { redis } from '../../../backends/redis/index.js'
import { wakes } from '../../../backends/redis/wake/wakes.js'
import { faultProxy } from '../../support/faultproxy.js'
import { standalone } from './deployments.js'
import { bytes, freshKey, granted, withRedis } from './suite.js'

const HOLDER = 'h'.repeat(36)

it('looks again when messages come only after it began to wait: what came before was missed', async () => {
  let live = false
  let holder: string | undefined = HOLDER
  const waiting = wakes(
    () => live,
    async () => holder,
  )
  const settled = waiting.watch('lease').settled(10_000, HOLDER)
  await delay(1)
  // Settled and told before we listen; then we listen.
  holder = undefined
  live = true
  waiting.recheck()
  const began = performance.now()
  await settled
  expect(performance.now() - began).toBeLessThan(500)
})

it('does not wait when the message has overtaken the answer', async () => {
  const waiting = wakes(
    () => true,
    async () => HOLDER,
  )
  const watch = waiting.watch('lease')
  waiting.woken('lease')
  const began = performance.now()
  await watch.settled(10_000, HOLDER)
  expect(performance.now() - began).toBeLessThan(100)
})

it('finds out by itself when a message was lost, and never waits longer than the lease', async () => {
  let holder = HOLDER
  const waiting = wakes(
    () => true,
    async () => holder,
  )
  const began = performance.now()
  const settled = waiting.watch('lease').settled(10_000, HOLDER)
  holder = 'x'.repeat(36)
  await settled
  expect(performance.now() - began).toBeLessThan(2_000)
  holder = HOLDER
  const again = performance.now()
  await waiting.watch('lease').settled(80, HOLDER)
  expect(performance.now() - again).toBeGreaterThan(70)
  expect(performance.now() - again).toBeLessThan(1_000)
})

withRedis('waiters', standalone, (at) => {
  it('poll where subscriptions are forbidden', async () => {
    const { admin, servers } = at()
    await admin.call('ACL', 'SETUSER', 'deaf', 'on', '>x', '~*', 'resetchannels', '+@all', '-subscribe')
    const deaf = at().open({ url: `redis://deaf:x@127.0.0.1:${servers[0]?.port}` })
    const holder = at().open()
    const key = freshKey()
    const token = await granted(holder, key)
    const { settled } = (await deaf.acquire(key, 10_000)) as { readonly settled: Promise<void> }
    await delay(300)
    const began = performance.now()
    await holder.set(key, bytes('v'), { token })
    await settled
    expect(performance.now() - began).toBeLessThan(1_000)
  })

  it('are woken although the holder may not publish', async () => {
    const { admin, servers } = at()
    await admin.call('ACL', 'SETUSER', 'mute', 'on', '>x', '~*', 'resetchannels', '+@all')
    const mute = at().open({ url: `redis://mute:x@127.0.0.1:${servers[0]?.port}` })
    const waiter = at().open()
    const key = freshKey()
    const token = await granted(mute, key)
    const { settled } = (await waiter.acquire(key, 10_000)) as { readonly settled: Promise<void> }
    const began = performance.now()
    expect(await mute.set(key, bytes('v'), { token })).toBe('stored')
    await settled
    expect(performance.now() - began).toBeLessThan(2_000)
  })

  it('are woken although their connections were lost meanwhile', async () => {
    const proxy = await faultProxy({ port: at().servers[0]?.port ?? 0 })
    const waiter = redis(`redis://127.0.0.1:${proxy.port}`)
    try {
      const holder = at().open()
      const key = freshKey()
      await waiter.acquire(freshKey(), 1_000)
      const token = await granted(holder, key)
      const { settled } = (await waiter.acquire(key, 10_000)) as { readonly settled: Promise<void> }
      await delay(100)
      proxy.set({ kind: 'refuse' })
      proxy.reset()
      await delay(50)
      await holder.set(key, bytes('v'), { token })
      await delay(50)
      proxy.set({ kind: 'none' })
      const began = performance.now()
      await settled
      expect(performance.now() - began).toBeLessThan(2_000)
    } finally {
      await waiter.close()
      await proxy.close()
    }
  })
})
