import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, inject, it } from 'vitest'
import { lmdb } from '../../backends/lmdb/index.js'
import { memcached } from '../../backends/memcached/index.js'
import { memory } from '../../backends/memory/index.js'
import { nullBackend } from '../../backends/null.js'
import { redis } from '../../backends/redis/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { msgpack } from '../../proxies/msgpack.js'
import { prefix } from '../../proxies/prefix.js'
import {
  type Backend,
  type Bytes,
  type CachedValue,
  defineBackend,
  diagnostics,
  epochLedger,
  intercept,
  type Ledger,
  type Messages,
  makeRegion,
  wrap,
} from '../../src/index.js'
import { freePort, startMemcached, startRedis } from '../support/servers.js'
import { threeMethods } from '../support/three-methods.js'

const folder = mkdtempSync(join(tmpdir(), 'corral-ready-'))
afterAll(() => rmSync(folder, { recursive: true }))

const { redis: redisServer, memcached: memcachedServer } = inject('servers')

/** The failures that `ready()` reports while `run` runs. */
async function failuresOf(run: () => Promise<unknown>) {
  const found: unknown[] = []
  const listen = ({ where, error }: Messages['failure']) => void (where === 'ready' && found.push(error))
  diagnostics('failure').subscribe(listen as never)
  try {
    await run()
  } finally {
    diagnostics('failure').unsubscribe(listen as never)
  }
  return found
}

const open = (backend: Backend<CachedValue>) => makeRegion({ name: 'r', backend })
const overBytes = (backend: Backend<Bytes>) => open(wrap(backend, msgpack(), prefix('p:'), dependencies()))

describe('ready()', () => {
  it.each<[string, () => Backend<CachedValue>]>([
    ['memory', () => memory()],
    ['memory of bytes under proxies', () => wrap(memory({ stores: 'bytes' }), msgpack(), prefix('p:'))],
    ['no store', () => nullBackend()],
    ['LMDB', () => wrap(lmdb(join(folder, 'store')), msgpack(), dependencies())],
    ['three methods', () => defineBackend<CachedValue>(threeMethods())],
  ])('is true over %s, also twice', async (_, make) => {
    const region = open(make())
    expect(await region.ready()).toBe(true)
    expect(await region.ready()).toBe(true)
    await region.close()
  })

  it('is false before the region is configured and after it was closed, and reports it', async () => {
    const region = makeRegion({ name: 'r' })
    const failures = await failuresOf(async () => {
      expect(await region.ready()).toBe(false)
      region.configure({ backend: memory() })
      expect(await region.ready()).toBe(true)
      await region.close()
      expect(await region.ready()).toBe(false)
    })
    expect(failures).toMatchObject([{ code: 'ERR_NOT_CONFIGURED' }, { code: 'ERR_CLOSED' }])
  })

  it('asks a store without ping() for a key, and one with ping() nothing else', async () => {
    const broken = () => {
      throw new Error('away')
    }
    const reads = open(defineBackend<CachedValue>({ ...threeMethods(), get: broken }))
    const pings = open(defineBackend<CachedValue>({ ...threeMethods(), get: broken, ping: () => {} }))
    const away = open(defineBackend<CachedValue>({ ...threeMethods(), ping: async () => broken() }))
    expect(await Promise.all([reads, pings, away].map((region) => region.ready()))).toEqual([
      false,
      true,
      false,
    ])
    expect(await failuresOf(() => away.ready())).toMatchObject([
      { code: 'ERR_BACKEND', cause: { message: 'away' } },
    ])
  })

  it('ends with the deadline of the store', async () => {
    const hanging = { ...threeMethods(), timeout: 20, ping: () => new Promise<void>(() => {}) }
    expect(await failuresOf(() => open(defineBackend<CachedValue>(hanging)).ready())).toMatchObject([
      { code: 'ERR_TIMEOUT' },
    ])
  })

  it('asks a lent ledger as well, of which every value needs an answer', async () => {
    let away: Error | undefined
    const answering = <T>(value: T) => {
      if (away !== undefined) throw away
      return value
    }
    const ledger = epochLedger({ get: () => answering(undefined), set: answering, add: answering })
    const region = open(wrap(memory(), dependencies({ ledger })))
    expect(await region.ready()).toBe(true)
    away = new Error('away')
    expect(await failuresOf(async () => expect(await region.ready()).toBe(false))).toMatchObject([
      { code: 'ERR_BACKEND', cause: away },
    ])
    away = undefined
    expect(await region.ready()).toBe(true)
  })

  it('passes no layer as a read, and counts as none', async () => {
    const seen: string[] = []
    const watching = intercept(({ name }, proceed) => {
      seen.push(name)
      return proceed()
    })
    const region = open(wrap(memory(), watching))
    expect(await region.ready()).toBe(true)
    expect(seen).toEqual([])
    expect(region.stats()).toMatchObject({ hits: 0, misses: 0 })
  })
})

describe.skipIf(redisServer === null)('ready() over Redis', () => {
  it.each([false, true])(
    'is true while the server runs, and false without it; failOpen: %s',
    async (failOpen) => {
      const server = await startRedis({})
      const region = overBytes(redis({ url: `redis://127.0.0.1:${server.port}`, timeout: '10s', failOpen }))
      expect(await region.ready()).toBe(true)
      await server.stop()
      const away = overBytes(redis({ url: `redis://127.0.0.1:${server.port}`, timeout: '1s', failOpen }))
      expect(await away.ready()).toBe(false)
      expect(await region.ready()).toBe(false)
      await Promise.all([region.close(), away.close()])
    },
  )
})

describe.skipIf(redisServer === null)('ready() over a ledger that Redis lends', () => {
  it.each([false, true])('is false once Redis is away; failOpen: %s', async (failOpen) => {
    const server = await startRedis({})
    const lender = redis({ url: `redis://127.0.0.1:${server.port}`, timeout: '1s', failOpen })
    const region = open(wrap(memory(), dependencies({ ledger: lender.ledger as Ledger })))
    expect(await region.ready()).toBe(true)
    await server.stop()
    expect(await region.ready()).toBe(failOpen)
    await Promise.all([region.close(), lender.close()])
  })
})

describe.skipIf(memcachedServer === null)('ready() over memcached', () => {
  it('is true while all servers run, and false without one of them', async () => {
    const server = await startMemcached()
    const here = `127.0.0.1:${server.port}`
    const region = overBytes(memcached({ servers: here, timeout: '10s' }))
    const half = overBytes(memcached({ servers: [here, `127.0.0.1:${await freePort()}`], timeout: '1s' }))
    expect(await region.ready()).toBe(true)
    expect(await half.ready()).toBe(false)
    await server.stop()
    expect(await region.ready()).toBe(false)
    await Promise.all([region.close(), half.close()])
  })
})
