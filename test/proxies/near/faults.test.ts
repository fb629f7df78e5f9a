import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { afterEach, describe, expect, inject, it } from 'vitest'
import { memory } from '../../../backends/memory/index.js'
import { redis } from '../../../backends/redis/index.js'
import { dependencies } from '../../../proxies/dependencies.js'
import { json } from '../../../proxies/json.js'
import { near } from '../../../proxies/near.js'
import {
  type Duration,
  dep,
  diagnostics,
  intercept,
  type Messages,
  makeRegion,
  NO_VALUE,
  type Region,
  type TransparentProxy,
  wrap,
} from '../../../src/index.js'
import { sentinel, standalone } from '../../backends/redis/deployments.js'
import { freshKey, withRedis } from '../../backends/redis/suite.js'
import { type FaultProxy, faultProxy } from '../../support/faultproxy.js'
import { startRedis } from '../../support/servers.js'
import { blockFor, sleep, turn, until } from '../../support/waiting.js'
import { copyOf, layeredRegion, nearRegion, warm } from './support.js'

const cleanUps: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp()
})

function regionAt(
  port: number,
  maxStaleness: number | `${number}m`,
  timeout: '10s' | '1s' = '10s',
): Region<string> {
  const region = nearRegion(redis({ url: `redis://127.0.0.1:${port}`, timeout }), maxStaleness)
  cleanUps.push(() => region.close())
  return region
}

async function proxyTo(port: number): Promise<FaultProxy> {
  const proxy = await faultProxy({ port })
  cleanUps.push(() => proxy.close())
  return proxy
}

withRedis('a near cache over a Redis that fails', standalone, (at) => {
  const server = () => at().servers[0] as { readonly port: number }

  /** One process behind a proxy that fails, and one beside it. */
  async function pair(maxStaleness: number | '10m') {
    const proxy = await proxyTo(server().port)
    return { proxy, here: regionAt(proxy.port, maxStaleness), there: regionAt(server().port, '10m') }
  }

  async function fill(here: Region<string>, count: number): Promise<readonly string[]> {
    const keys = Array.from({ length: count }, () => freshKey())
    await here.setMulti(keys.map((key) => [key, 'old'] as const))
    await warm(here, keys[0] as string)
    await until(async () => {
      await here.getMulti(keys)
      return keys.every((key) => copyOf(here, key) === 'old')
    })
    return keys
  }

  it.each([false, true])(
    'that hides the outage serves no copy to a strong read, under a layer that waits: %s',
    async (waits) => {
      const proxy = await proxyTo(server().port)
      const above: TransparentProxy = waits
        ? intercept(async (_, proceed) => {
            await turn()
            return proceed()
          })
        : (next) => next
      const store = redis({ url: `redis://127.0.0.1:${proxy.port}`, failOpen: true, timeout: '1s' })
      const here = layeredRegion(store, '10m', { above })
      cleanUps.push(() => here.close())
      const there = regionAt(server().port, '10m')
      const key = freshKey()
      await until(async () => {
        await here.getOrCreate(key, () => 'old')
        return (await here.explain(key)).tier === 'near'
      })
      proxy.set({ kind: 'refuse' })
      proxy.reset()
      await there.delete(key)
      expect(await here.get(key, { maxStaleness: 0 })).toBe(NO_VALUE)
      const parent = await here.getOrCreate(freshKey(), async () => String(await here.get(key)))
      expect(parent).not.toBe('old')
    },
  )

  /** A region whose copies are still served for a while when its store is away. */
  async function blind(staleWhileAway: Duration) {
    const proxy = await proxyTo(server().port)
    const store = redis({ url: `redis://127.0.0.1:${proxy.port}`, timeout: '1s' })
    let ahead = 0
    const clock = { now: () => Date.now() + ahead }
    const copies = near(memory({ clock }), { maxStaleness: 200, staleWhileAway })
    const backend = wrap(store, json(), copies, dependencies())
    const here = makeRegion<string>({ name: 'users', expirationTime: '1h', clock, backend })
    cleanUps.push(() => here.close())
    const reasons = new Map<string, string | undefined>()
    const listen = ({ key, reason }: Messages['read']) => void reasons.set(key, reason)
    diagnostics('read').subscribe(listen as never)
    cleanUps.push(() => diagnostics('read').unsubscribe(listen as never))
    const keys = [freshKey(), freshKey(), freshKey()] as const
    for (const key of keys) await warm(here, key)
    const read = (key: string) => here.getOrCreate(key, () => 'new').catch(({ code }) => String(code))
    const leave = () => {
      proxy.set({ kind: 'refuse' })
      proxy.reset()
    }
    const goOn = (ms: number) => void (ahead += ms)
    return { proxy, here, keys, reasons, read, leave, goOn }
  }

  it('serves them as stale where it is told to, and fresh values once the store is back', async () => {
    const { proxy, here, keys, reasons, read, leave } = await blind('10m')
    const [key, own, strong] = keys
    const there = regionAt(server().port, '10m')
    leave()
    await until(async () => (await read(key)) === 'old' && reasons.get(key) === 'blind')
    expect(await here.getOrCreateMulti([key, strong], () => [])).toEqual(['old', 'old'])
    expect(await here.get(key)).toBe(NO_VALUE)
    expect(await here.get(key, { ignoreExpiration: true })).toBe('old')
    expect([reasons.get(key), reasons.get(strong)]).toEqual(['blind', 'blind'])
    // What this process invalidated, or wants to be proved, is no answer.
    await expect(here.delete(own)).rejects.toThrow()
    expect(await read(own)).not.toBe('old')
    await expect(here.get(strong, { maxStaleness: 0 })).rejects.toThrow()
    await there.delete(key)
    proxy.set({ kind: 'none' })
    await until(async () => (await read(key)) === 'new')
    expect(await here.get(key)).toBe('new')
  })

  it('serves those too that expired before the last proof was too old', async () => {
    const { here, keys, reasons, read, leave, goOn } = await blind('10m')
    const [key, second, third] = keys
    leave()
    // Longer than values are fresh, and than a copy is kept while the store can be read.
    goOn(65 * 60_000)
    const list = here.getOrCreateMulti([second, third], () => []).catch(() => {})
    await Promise.all([read(key), list])
    await until(async () => (await read(key)) === 'old')
    expect(await here.getOrCreateMulti([second, third], () => [])).toEqual(['old', 'old'])
    expect(keys.map((one) => reasons.get(one))).toEqual(['blind', 'blind', 'blind'])
  })

  it('serves them no longer than it is told to', async () => {
    const { keys, reasons, read, leave } = await blind('3s')
    leave()
    await until(async () => (await read(keys[0])) === 'old' && reasons.get(keys[0]) === 'blind')
    await until(async () => !['old', 'new'].includes(await read(keys[0])))
  })

  it('drops exactly the ten copies that changed while the connection was lost', async () => {
    const { proxy, here, there } = await pair('10m')
    const keys = await fill(here, 1_000)
    proxy.set({ kind: 'refuse' })
    proxy.reset()
    const changed = keys.slice(0, 10)
    await there.deleteMulti(changed.slice(0, 5))
    await there.invalidateDependencies(changed.slice(5).map((key) => dep.id('none', key)))
    for (const key of changed.slice(5)) await there.delete(key)
    await until(() => proxy.refused > 3)
    proxy.set({ kind: 'none' })
    await until(() => changed.every((key) => copyOf(here, key) === undefined))
    expect(keys.filter((key) => copyOf(here, key) === 'old')).toHaveLength(990)
  })

  it('drops everything if more names changed than the store remembers', async () => {
    const { proxy, here, there } = await pair('10m')
    const keys = await fill(here, 50)
    proxy.set({ kind: 'refuse' })
    proxy.reset()
    const others = Array.from({ length: 1_025 }, (_, i) => `other ${i}`)
    await there.delete(keys[0] as string)
    await there.deleteMulti(others)
    proxy.set({ kind: 'none' })
    await until(() => keys.every((key) => copyOf(here, key) === undefined))
    expect(await here.get(keys[0] as string)).toBe(NO_VALUE)
    expect(await here.get(keys[1] as string)).toBe('old')
  })

  it('serves no copy once the last proof is older than the bound, on a link that went silent', async () => {
    const { proxy, here } = await pair(500)
    const [key] = (await fill(here, 1)) as [string]
    proxy.set({ kind: 'blackhole' })
    await sleep(501)
    expect(copyOf(here, key)).toBeUndefined()
    proxy.set({ kind: 'none' })
    proxy.reset()
    await until(async () => (await here.get(key)) === 'old')
  })

  it.each([1, -1])('keeps its bound when the clock of the day steps by %i hours', async (hours) => {
    const proxy = await proxyTo(server().port)
    let ahead = 0
    const clock = { now: () => Date.now() + ahead }
    const region = makeRegion<string>({
      name: 'users',
      expirationTime: '10h',
      clock,
      backend: wrap(
        redis({ url: `redis://127.0.0.1:${proxy.port}`, timeout: '10s' }),
        json(),
        near(memory({ clock }), { maxStaleness: 500 }),
        dependencies(),
      ),
    })
    cleanUps.push(() => region.close())
    const key = freshKey()
    await warm(region, key)
    ahead = hours * 3_600_000
    proxy.set({ kind: 'blackhole' })
    await sleep(501)
    expect(copyOf(region, key)).toBeUndefined()
    ahead = 0
    expect(copyOf(region, key)).toBeUndefined()
    proxy.set({ kind: 'none' })
    proxy.reset()
    await until(async () => (await region.get(key)) === 'old')
  })

  it('serves no copy after the process was stopped for longer than the bound', async () => {
    const { here, there } = await pair(500)
    const [key] = (await fill(here, 1)) as [string]
    await there.delete(key)
    // No message and no reply is read meanwhile.
    blockFor(501)
    expect(copyOf(here, key)).toBeUndefined()
    expect(await here.get(key)).toBe(NO_VALUE)
  })

  it('takes a reply that comes after the bound for no proof', async () => {
    const { proxy, here } = await pair(300)
    const [key] = (await fill(here, 1)) as [string]
    proxy.set({ kind: 'latency', ms: 200 })
    await sleep(700)
    for (let i = 0; i < 10; i++) {
      expect(copyOf(here, key)).toBeUndefined()
      await sleep(50)
    }
    expect(await here.get(key)).toBe('old')
  })

  it('loses no invalidation while connections are cut all the time', async () => {
    const { proxy, here, there } = await pair(400)
    const key = freshKey()
    await here.set(key, '0')
    const acknowledged: { value: number; at: number }[] = []
    let ended = false
    let copies = 0
    const cutting = (async () => {
      while (!ended) {
        await sleep(150)
        proxy.reset()
      }
    })()
    const writing = (async () => {
      // A busy machine connects again so slowly that few reads find a proof.
      for (let value = 1; value <= 60 || (copies <= 10 && value <= 600); value++) {
        await there.set(key, `${value}`)
        acknowledged.push({ value, at: performance.now() })
        await sleep(25)
      }
      ended = true
    })()
    while (!ended) {
      const start = performance.now()
      const copy = copyOf(here, key)
      if (copy !== undefined && copy !== NO_VALUE) {
        copies++
        const due = acknowledged.filter((one) => one.at < start - 400).at(-1)?.value ?? 0
        expect(Number(copy)).toBeGreaterThanOrEqual(due)
      }
      await here.get(key).catch(() => {})
      await sleep(1)
    }
    await Promise.all([cutting, writing])
    expect(copies).toBeGreaterThan(10)
  })

  it('hides a key whose invalidation failed, and serves the others', async () => {
    const proxy = await proxyTo(server().port)
    const here = regionAt(proxy.port, '10m', '1s')
    const [failed, other] = (await fill(here, 2)) as [string, string]
    proxy.set({ kind: 'blackhole' })
    await expect(here.delete(failed)).rejects.toThrow()
    expect(await here.get(failed)).toBe(NO_VALUE)
    expect(copyOf(here, other)).toBe('old')
    proxy.set({ kind: 'none' })
    proxy.reset()
    await until(async () => (await here.getOrCreate(failed, () => 'new')) === 'new')
    expect(await here.get(failed)).toBe('new')
  })

  it.each<[string, (client: Redis) => Promise<unknown>]>([
    ['everything', (client) => client.flushall()],
    ['the clock of names', (client) => client.del('~corral:clock={~clock}')],
    ['the ring of names', (client) => client.del('~corral:ring={~clock}')],
    ['the clock of keys', (client) => client.del('~corral:journal={keys}')],
    ['the ring of keys', (client) => client.del('~corral:journal-ring={keys}')],
  ])('serves nothing older if the store lost %s', async (_, lose) => {
    const [here, there] = [regionAt(server().port, 400), regionAt(server().port, 400)]
    const [byKey, byName] = (await fill(here, 2)) as [string, string]
    const client = new Redis({ port: server().port })
    cleanUps.push(() => client.disconnect())
    expect(await lose(client)).not.toBe(0)
    // The first change after the loss is recorded nowhere, or in a new record.
    await there.delete(byKey)
    await there.invalidate()
    const acknowledged = performance.now()
    await until(() => performance.now() - acknowledged > 400)
    for (const key of [byKey, byName]) expect([undefined, NO_VALUE]).toContain(copyOf(here, key))
    expect(await here.get(byKey)).toBe(NO_VALUE)
    expect(await here.get(byName)).toBe(NO_VALUE)
  })
})

describe.skipIf(inject('servers').redis === null)(
  'a near cache over a Redis that comes back with older data',
  () => {
    it('forgets its copies, and later invalidations hold', async () => {
      const dir = mkdtempSync(join(tmpdir(), 'corral-near-'))
      cleanUps.push(() => rmSync(dir, { recursive: true, force: true }))
      const first = await startRedis({ dir })
      const [here, there] = [regionAt(first.port, '10m'), regionAt(first.port, '10m')]
      const [lost, later] = [freshKey(), freshKey()]
      await warm(here, lost)
      await warm(here, later)
      const admin = new Redis({ port: first.port, retryStrategy: () => 50 })
      admin.on('error', () => {})
      cleanUps.push(() => admin.disconnect())
      await admin.save()
      // Acknowledged, and gone with the server.
      await there.delete(lost)
      await there.deleteMulti(Array.from({ length: 20 }, (_, i) => `other ${i}`))
      await first.kill('SIGKILL')
      const second = await startRedis({ dir, port: first.port })
      cleanUps.push(() => second.stop())
      await until(async () => (await there.get(later)) === 'old')
      await there.delete(later)
      await until(() => copyOf(here, later) === undefined)
      expect(await here.get(later)).toBe(NO_VALUE)
    })
  },
)

describe.skipIf(inject('servers').redis === null)('a near cache behind Sentinel', () => {
  it('forgets its copies at a failover, and later invalidations hold', async () => {
    const made = await sentinel()
    cleanUps.push(() => made.stop())
    const [here, there] = [nearRegion(made.open(), '10m'), nearRegion(made.open(), '10m')]
    cleanUps.push(
      () => here.close(),
      () => there.close(),
    )
    const key = freshKey()
    await warm(here, key)
    const primary = await made.primary()
    await primary.kill('SIGKILL')
    await until(async () => {
      await there.set(key, 'new')
      return true
    }, 60_000)
    await until(async () => (await here.get(key)) === 'new', 60_000)
    await until(() => copyOf(here, key) === 'new')
    await there.delete(key)
    await until(() => copyOf(here, key) !== 'new')
    expect(await here.get(key)).toBe(NO_VALUE)
  }, 180_000)
})
