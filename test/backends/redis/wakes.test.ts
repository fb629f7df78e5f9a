import { expect, it } from 'vitest'
import { redis } from '../../../backends/redis/index.js'
import { faultProxy } from '../../support/faultproxy.js'
import { sleep } from '../../support/waiting.js'
import { standalone } from './deployments.js'
import { bytes, freshKey, granted, withRedis } from './suite.js'

withRedis('waiters', standalone, (at) => {
  it('poll where subscriptions are forbidden', async () => {
    const { admin, servers } = at()
    await admin.call('ACL', 'SETUSER', 'deaf', 'on', '>x', '~*', 'resetchannels', '+@all', '-subscribe')
    const deaf = at().open({ url: `redis://deaf:x@127.0.0.1:${servers[0]?.port}` })
    const holder = at().open()
    const key = freshKey()
    const token = await granted(holder, key)
    const { settled } = (await deaf.acquire(key, 10_000)) as { readonly settled: Promise<void> }
    await sleep(300)
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
      await sleep(100)
      proxy.set({ kind: 'refuse' })
      proxy.reset()
      await sleep(50)
      await holder.set(key, bytes('v'), { token })
      await sleep(50)
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
