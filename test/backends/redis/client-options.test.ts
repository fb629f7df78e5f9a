/** Options of an ioredis client that change its replies, its queue or its keys: the backend works with them, or refuses them. */
import { Redis } from 'ioredis'
import { Redis as Redis5 } from 'ioredis5'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { type RedisBackendOptions, type RedisClient, redis } from '../../../backends/redis/index.js'
import { dependencies } from '../../../proxies/dependencies.js'
import { json } from '../../../proxies/json.js'
import { CorralError, dep, dependsOn, makeRegion, NO_VALUE, type Region, wrap } from '../../../src/index.js'
import { sleep } from '../../support/waiting.js'
import { cluster, type Deployment, standalone } from './deployments.js'
import { bytes, freshKey, granted, withRedis } from './suite.js'

/** A region over a client with such options, and one without them, as in another process. */
function regionsOf(
  at: Deployment,
  own: Partial<RedisBackendOptions>,
): readonly [own: Region<unknown>, other: Region<unknown>] {
  const name = freshKey('region')
  const open = (options: Partial<RedisBackendOptions>) =>
    makeRegion({ name, backend: wrap(at.open(options), json(), dependencies()) })
  return [open(own), open({})]
}

async function expectWorking([own, other]: readonly [Region<unknown>, Region<unknown>]): Promise<void> {
  expect(await own.set('a', 'A')).toBe('stored')
  expect(await own.setMulti(Array.from({ length: 20 }, (_, i) => [`m${i}`, i]))).toEqual(
    Array.from({ length: 20 }, () => 'stored'),
  )
  expect(await other.getMulti(['a', 'm0', 'm19'])).toEqual(['A', 0, 19])
  let runs = 0
  const created = await Promise.all(
    [own, other, own, other].map((region) =>
      region.getOrCreate('c', async () => {
        runs++
        dependsOn(dep.tag('t'))
        await sleep(30)
        return 'C'
      }),
    ),
  )
  expect([created, runs]).toEqual([['C', 'C', 'C', 'C'], 1])
  await other.invalidateDependencies(dep.tag('t'))
  expect(await own.get('c')).toBe(NO_VALUE)
  await own.invalidateDependencies(dep.tag('t'))
  expect(await own.refreshDependencies(dep.tag('t'))).toBeUndefined()
  await own.expire('m1')
  await own.deleteMulti(['m2', 'm3'])
  expect(await other.getMulti(['m1', 'm2', 'm3', 'm4'])).toEqual([NO_VALUE, NO_VALUE, NO_VALUE, 4])
  expect(await own.getOrCreate('m1', () => 'renewed')).toBe('renewed')
  await own.invalidate()
  expect(await other.get('m4')).toBe(NO_VALUE)
  await expect(own.getOrCreate('f', () => Promise.reject(new Error('no')))).rejects.toThrow('no')
  expect(await other.keyIsLocked('f')).toBe(false)
}

withRedis('a client with', standalone, (at) => {
  const port = () => at().servers[0]?.port ?? 0
  const made: Readonly<Record<string, (port: number) => RedisClient>> = {
    'stringNumbers of ioredis 6': (port) => new Redis({ port, stringNumbers: true }),
    'stringNumbers of ioredis 5': (port) => new Redis5({ port, stringNumbers: true }),
    'replyMapping of protocol 3': (port) => new Redis({ port, protocol: 3, replyMapping: 'resp3' }),
    'both of them': (port) => new Redis({ port, protocol: 3, replyMapping: 'resp3', stringNumbers: true }),
    'protocol 2': (port) => new Redis({ port, protocol: 2 }),
    autopipelining: (port) => new Redis({ port, enableAutoPipelining: true, stringNumbers: true }),
    'no queue and no connection yet': (port) =>
      new Redis({ port, enableOfflineQueue: false, lazyConnect: true }),
    'no queue, while it connects': (port) => new Redis5({ port, enableOfflineQueue: false }),
  }
  for (const [option, make] of Object.entries(made))
    it(`${option} does all that another does`, async () => {
      const client = make(port())
      const { url: _, ...nowhere } = at().where
      const name = freshKey('region')
      const own = makeRegion({
        name,
        backend: wrap(redis({ ...nowhere, client, timeout: '10s' }), json(), dependencies()),
      })
      const other = makeRegion({ name, backend: wrap(at().open(), json(), dependencies()) })
      await expectWorking([own, other])
      client.disconnect()
    })

  it('stringNumbers renews and releases leases, and returns each outcome of a write', async () => {
    const backend = at().open({ connection: { stringNumbers: true } })
    const key = freshKey()
    const token = await granted(backend, key)
    expect(await backend.renew(key, token, 5_000)).toBe(true)
    expect(await backend.renew(key, 'another', 5_000)).toBe(false)
    const denied = await backend.acquire(key, 5_000)
    expect(denied.token).toBeUndefined()
    expect(denied).toMatchObject({ remaining: expect.any(Number) })
    expect(await backend.set(key, bytes('b'), { token: 'another' })).toBe('lost')
    expect(await backend.release(key, token)).toBe(true)
    expect(await backend.release(key, token)).toBe(false)
    expect(await backend.set(key, bytes('c'), {})).toBe('stored')
  })

  it('monitor is refused', () => {
    const client = new Redis({ port: port(), monitor: true, lazyConnect: true })
    expect(() => redis(client)).toThrow(CorralError)
    expect(() => redis(client)).toThrow('monitor')
  })

  it('replicas or a monitor among the options of a connection is refused at construction', () => {
    for (const options of [
      { connection: { monitor: true } },
      { connection: { readOnly: true } },
      { cluster: ['a:1'], clusterOptions: { scaleReads: 'slave' as const } },
    ])
      expect(() => redis(options)).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }))
  })

  it('its options are those of the call, also if the first use comes later', async () => {
    const { url: _, ...nowhere } = at().where
    const connection = { host: '127.0.0.1', port: port() }
    const region = makeRegion({
      name: freshKey('region'),
      backend: wrap(redis({ ...nowhere, connection }), json(), dependencies()),
    })
    Object.assign(connection, { port: 1, db: 3 })
    expect(await region.set('a', 1)).toBe('stored')
    await region.close()
  })

  it('stringNumbers among the options of a connection works', () =>
    expectWorking(regionsOf(at(), { connection: { stringNumbers: true } })))
})

withRedis('a client of a cluster with', cluster, (at) => {
  it('stringNumbers does all that another does', () =>
    expectWorking(regionsOf(at(), { clusterOptions: { redisOptions: { stringNumbers: true } } as never })))
})

describe('an ioredis before version 5', () => {
  afterEach(() => void vi.doUnmock('ioredis'))

  it('is named as the reason, for one server and for a cluster', async () => {
    vi.doMock('ioredis', () => ({ default: class {}, Redis: undefined, Cluster: undefined }))
    for (const options of [{ url: 'redis://127.0.0.1:1' }, { cluster: ['127.0.0.1:1'] }]) {
      const region = makeRegion({ name: 'old', backend: wrap(redis(options), json()) })
      await expect(region.get('key')).rejects.toMatchObject({
        code: 'ERR_UNSUPPORTED',
        message: expect.stringContaining('Expected ioredis from version 5 on') as string,
      })
      await region.close()
    }
  })
})
