import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { Redis } from 'ioredis'
import { afterEach, expect, it } from 'vitest'
import { type RedisBackendOptions, redis } from '../../../backends/redis/index.js'
import { dependencies } from '../../../proxies/dependencies.js'
import { json } from '../../../proxies/json.js'
import { dep, dependsOn, type Messages, makeRegion, NO_VALUE, type Region, wrap } from '../../../src/index.js'
import { faultProxy } from '../../support/faultproxy.js'
import { freePort } from '../../support/servers.js'
import { until } from '../../support/waiting.js'
import { cluster, standalone } from './deployments.js'
import { freshKey, withRedis } from './suite.js'

/** Longer than any test may last: an operation that waits for it fails its test, and no test looks at a clock. */
const FOR_EVER = '1h'

const opened: { close(): unknown }[] = []
afterEach(async () => {
  for (const one of opened.splice(0).reverse()) await one.close()
})

function open(given: Partial<RedisBackendOptions>): Region<number> {
  const region = makeRegion<number>({
    name: freshKey('open'),
    expirationTime: '1m',
    // Without the breaker, which would hide every wait but the first ones.
    backend: wrap(
      redis({ failOpen: true, breaker: false, recovery: false, ...given }),
      json(),
      dependencies(),
    ),
  })
  opened.push(region)
  return region
}

/** Every read and creation of a region, with dependencies and without, in single and multi form. */
async function touchAll(region: Region<number>): Promise<void> {
  const create = () => {
    dependsOn(dep.tag('t'))
    return 1
  }
  expect(await region.get(freshKey())).toBe(NO_VALUE)
  expect(await region.getMulti([freshKey(), freshKey()])).toEqual([NO_VALUE, NO_VALUE])
  expect(await region.has(freshKey())).toBe(false)
  expect(await region.getOrCreate(freshKey(), () => 1)).toBe(1)
  expect(await region.getOrCreate(freshKey(), create)).toBe(1)
  expect(await region.getOrCreateMulti([freshKey(), freshKey()], (keys) => keys.map(create))).toEqual([1, 1])
}

async function heard<K extends 'failure' | 'notice'>(
  kind: K,
  work: () => Promise<unknown>,
): Promise<Messages[K][]> {
  const messages: Messages[K][] = []
  const listener = (message: unknown) => messages.push(message as Messages[K])
  subscribe(`corral:${kind}`, listener)
  try {
    await work()
  } finally {
    unsubscribe(`corral:${kind}`, listener)
  }
  return messages
}

withRedis('failOpen', standalone, (at) => {
  it('serves misses at once where the connection is refused', async () => {
    await touchAll(open({ url: `redis://127.0.0.1:${await freePort()}`, timeout: FOR_EVER }))
  })

  it('serves misses at once where the connection is refused, with a client of the caller', async () => {
    const client = new Redis({ port: await freePort() })
    client.on('error', () => {})
    const region = open({ client, timeout: FOR_EVER })
    await touchAll(region)
    client.disconnect()
  })

  it('serves misses at once where every Sentinel refuses the connection, with a client of the caller too', async () => {
    const sentinels = [{ port: await freePort() }, { port: await freePort() }]
    await touchAll(open({ connection: { sentinels, name: 'primary' }, timeout: FOR_EVER }))
    const client = new Redis({ sentinels, name: 'primary' })
    client.on('error', () => {})
    await touchAll(open({ client, timeout: FOR_EVER }))
    client.disconnect()
  })

  it('serves misses at once after the connection was closed, and finds the server again', async () => {
    const proxy = await faultProxy({ port: at().servers[0]?.port ?? 0 })
    const region = open({ url: `redis://127.0.0.1:${proxy.port}`, timeout: FOR_EVER })
    opened.unshift(proxy)
    await region.set('k', 5)
    proxy.set({ kind: 'refuse' })
    proxy.reset()
    await until(async () => (await region.get('k')) === NO_VALUE)
    await touchAll(region)
    proxy.set({ kind: 'none' })
    await until(async () => (await region.get('k')) === 5)
  })

  it('lets an invalidation wait for the connection to come back', async () => {
    const proxy = await faultProxy({ port: at().servers[0]?.port ?? 0 })
    const region = open({ url: `redis://127.0.0.1:${proxy.port}`, timeout: FOR_EVER })
    opened.unshift(proxy)
    const invalidations = [() => region.delete('k'), () => region.expire('k'), () => region.invalidate()]
    for (const invalidate of invalidations) {
      await region.set('k', 5)
      proxy.set({ kind: 'refuse' })
      proxy.reset()
      await until(async () => (await region.get('k')) === NO_VALUE)
      const work = invalidate()
      proxy.set({ kind: 'none' })
      await work
      expect(await region.get('k')).toBe(NO_VALUE)
    }
  })

  it('waits for one timeout when the server hangs, and not once more until a reply has come', async () => {
    const region = open({ ...at().where, timeout: '3s' })
    await region.set('k', 5)
    const [server] = at().servers
    await server?.kill('SIGSTOP')
    try {
      // Forty waits of three seconds, if each operation had its own.
      for (let i = 0; i < 5; i++) await touchAll(region)
    } finally {
      await server?.kill('SIGCONT')
    }
    await until(async () => (await region.get('k')) === 5)
  }, 60_000)

  it('reports an outage once and not each of its failures, and then that it is over', async () => {
    const proxy = await faultProxy({ port: at().servers[0]?.port ?? 0 })
    const region = open({ url: `redis://127.0.0.1:${proxy.port}`, timeout: FOR_EVER })
    opened.unshift(proxy)
    for (let round = 0; round < 2; round++) {
      await region.set('k', 5)
      const failures = await heard('failure', async () => {
        proxy.set({ kind: 'refuse' })
        proxy.reset()
        await until(async () => (await region.get('k')) === NO_VALUE)
        for (let i = 0; i < 20; i++) await touchAll(region)
        // Its subscription tries to connect again more often than that.
        const before = proxy.refused
        await until(() => proxy.refused > before + 20)
      })
      const kindOf = ({ where }: Messages['failure']) =>
        /recovery|subscription/.exec(where)?.[0] ?? 'operation'
      const counts = ['operation', 'recovery', 'subscription'].map(
        (kind) => failures.filter((message) => kindOf(message) === kind).length,
      )
      expect(counts[0]).toBeGreaterThan(0)
      // One of each kind, and on a machine that is very busy one more for each ten seconds.
      expect(Math.max(...counts)).toBeLessThan(6)
      const notices = await heard('notice', async () => {
        proxy.set({ kind: 'none' })
        await until(async () => (await region.get('k')) === 5)
      })
      expect(notices.map(({ message }) => message)).toContainEqual(
        expect.stringMatching(/^Redis is back, \d+ more failures/),
      )
    }
  })
})

withRedis('failOpen on a Cluster', cluster, (at) => {
  it('waits for one timeout for a node that hangs, while the others serve', async () => {
    const region = open({ ...at().where, timeout: '3s' })
    const keys = Array.from({ length: 40 }, (_, i) => `spread ${i}`)
    await region.setMulti(keys.map((key) => [key, 5]))
    const [, node] = at().servers
    await node?.kill('SIGSTOP')
    const served: (number | typeof NO_VALUE)[] = []
    try {
      for (const key of keys) served.push(await region.get(key))
      for (const key of keys) expect(await region.getOrCreate(`new ${key}`, () => 7)).toBe(7)
    } finally {
      await node?.kill('SIGCONT')
    }
    expect(served.filter((value) => value === 5).length).toBeGreaterThan(5)
    await until(async () => (await region.getMulti(keys)).every((value) => value === 5))
  }, 90_000)
})
