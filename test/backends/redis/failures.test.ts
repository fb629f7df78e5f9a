import { Redis } from 'ioredis'
import { afterEach, expect, it } from 'vitest'
import { type RedisBackendOptions, redis } from '../../../backends/redis/index.js'
import { json } from '../../../proxies/json.js'
import { type Backend, type Bytes, type CorralError, makeRegion, NO_VALUE, wrap } from '../../../src/index.js'
import { faultProxy } from '../../support/faultproxy.js'
import { freePort, startRedis } from '../../support/servers.js'
import { sleep, until } from '../../support/waiting.js'
import { standalone } from './deployments.js'
import { canFetch, other } from './other-servers.js'
import { bytes, freshKey, granted, text, withRedis } from './suite.js'

const unhandled: unknown[] = []
process.on('unhandledRejection', (error) => unhandled.push(error))

/** The time until an operation fails, and its error. */
async function failure(work: () => unknown): Promise<{ readonly error: CorralError; readonly ms: number }> {
  const began = performance.now()
  try {
    await work()
  } catch (error) {
    return { error: error as CorralError, ms: performance.now() - began }
  }
  throw new Error('Expected it to fail')
}

withRedis('a Redis that cannot be used', standalone, (at) => {
  const opened: Backend<Bytes>[] = []
  const open = (options: Parameters<typeof redis>[0]) => {
    const backend = redis(options)
    opened.push(backend)
    return backend
  }
  afterEach(async () => {
    for (const backend of opened.splice(0)) await backend.close()
    expect(unhandled).toEqual([])
  })
  const port = () => at().servers[0]?.port ?? 0

  it.each<[string, unknown, RegExp]>([
    ['a URL of another kind', 'http://localhost', /protocol 'http:'/],
    ['no URL', 'localhost:6379', /protocol 'localhost:'/],
    ['text', 'what?', /text that is no URL/],
    ['a database that is no number', 'redis://localhost/users', /database 'users'/],
    ['no host', 'redis:///1', /without a host/],
    ['nothing', {}, /place of the server/],
    ['a number', 6379, /to receive a URL/],
    ['null', null, /to receive a URL/],
    ['an unknown option', { url: 'redis://localhost', hots: 'x' }, /Unknown option `hots`/],
    ['a place that belongs into the connection', { host: 'localhost' }, /`host` in `connection`/],
    ['what is no client', { client: { get() {} } }, /client of ioredis 5 or 6/],
    ['a list as a connection', { connection: [] }, /`connection`/],
    [
      'a list as options of a cluster',
      { cluster: ['localhost:7000'], clusterOptions: [] },
      /`clusterOptions`/,
    ],
    ['an empty cluster', { cluster: [] }, /list start-up nodes/],
    ['a wrong node', { cluster: [{ host: 'a' }] }, /'host:port' or/],
    ['a timeout of nothing', { url: 'redis://localhost', timeout: 0 }, /`timeout`/],
    ['a batch of nothing', { url: 'redis://localhost', maxBatch: 0 }, /`maxBatch`/],
    ['a client and a URL', () => ({ client: at().admin, url: 'redis://localhost' }), /either a `client`/],
    [
      'a cluster with a prefix',
      { cluster: ['localhost:7000'], connection: { keyPrefix: 'a:' } },
      /no `keyPrefix`/,
    ],
    ['a flag that is none', { url: 'redis://localhost', failOpen: 'yes' }, /`failOpen`/],
    ['a recovery without a bound', { url: 'redis://localhost', recovery: {} }, /`max` of `recovery`/],
    ['a recovery of null', { url: 'redis://localhost', recovery: null }, /`recovery`/],
    [
      'replicas without a count',
      { url: 'redis://localhost', replicas: { timeout: '1s' } },
      /`count` of `replicas`/,
    ],
    ['stamps that end before marks', { url: 'redis://localhost', stampLifetime: '29s' }, /`stampLifetime`/],
    [
      'marks that outlive stamps',
      { url: 'redis://localhost', stampLifetime: '1m', pendingFor: '2m' },
      /`stampLifetime`/,
    ],
    [
      'a misspelt member of replicas',
      { url: 'redis://localhost', replicas: { count: 1, time: 1 } },
      /`time`/,
    ],
    ['a breaker of true', { url: 'redis://localhost', breaker: true }, /`breaker`/],
    ['a breaker of null', { url: 'redis://localhost', breaker: null }, /`breaker`/],
    ['a misspelt member of the breaker', { url: 'redis://localhost', breaker: { fails: 1 } }, /`fails`/],
  ])('is refused before anything is opened: %s', (_, options, message) => {
    const given = typeof options === 'function' ? options() : options
    expect(() => redis(given as never)).toThrow(message)
    expect(() => redis(given as never)).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }))
  })

  it('does not show the password of a wrong URL', () => {
    expect(() => redis('http://user:s3cret@host')).toThrow(
      expect.objectContaining({ message: expect.not.stringContaining('s3cret') }),
    )
  })

  it('is the cause of the error of a caller whose deadline is over before the command has failed', async () => {
    const backend = open({ url: `redis://127.0.0.1:${await freePort()}`, timeout: '3s', breaker: false })
    const region = makeRegion<number>({
      name: freshKey('away'),
      backend: wrap(backend, json()),
      hardTimeout: 300,
    })
    const cached = region.cacheOnArguments(async (id: number) => id, { namespace: 'cached' })
    const create = () => 1
    for (const work of [
      () => region.getOrCreate('key', create),
      () => region.getOrCreateMulti(['key'], () => [1]),
      () => cached(5),
      () => cached.refresh(5),
    ]) {
      const { error } = await failure(work)
      expect(error.code).toBe('ERR_CREATION_TIMEOUT')
      expect(String(error.cause)).toContain('ECONNREFUSED')
    }
  })

  it('refuses a client that reads from replicas', () => {
    const client = new Redis({ port: port(), role: 'slave', lazyConnect: true })
    expect(() => redis(client)).toThrow(/reads from primaries/)
    client.disconnect()
  })

  it.each<[string, () => Promise<RedisBackendOptions>, string, RegExp]>([
    [
      'nobody listens',
      async () => ({ url: `redis://127.0.0.1:${await freePort()}` }),
      'ERR_TIMEOUT',
      /ECONNREFUSED/,
    ],
    [
      'there is no such host',
      async () => ({ url: 'redis://no-such-host.invalid' }),
      'ERR_TIMEOUT',
      /ENOTFOUND|EAI_AGAIN/,
    ],
    [
      'the password is wrong',
      async () => ({ url: `redis://app:wrong@127.0.0.1:${port()}` }),
      'ERR_UNAVAILABLE',
      /credentials/,
    ],
    [
      'TLS is spoken to a server without',
      async () => ({ url: `rediss://127.0.0.1:${port()}` }),
      'ERR_TIMEOUT',
      /./,
    ],
  ])('fails in bounded time when %s', async (_, where, code, message) => {
    const backend = open({ ...(await where()), timeout: '400ms' })
    for (const work of [
      () => backend.get('a'),
      () => backend.set('a', bytes('b'), {}),
      () => backend.acquire('a', 1_000),
      () => backend.ledger?.open('c').now([]),
    ]) {
      const { error, ms } = await failure(work)
      expect(error).toMatchObject({
        code: expect.stringMatching(`${code}|ERR_UNAVAILABLE`),
        message: expect.stringMatching(message),
      })
      expect(ms).toBeLessThan(1_500)
    }
  })

  it('says that a user needs more rights', async () => {
    await at().admin.call(
      'ACL',
      'SETUSER',
      'poor',
      'on',
      '>x',
      '~*',
      '-@all',
      '+get',
      '+info',
      '+hello',
      '+auth',
    )
    const backend = open({ url: `redis://poor:x@127.0.0.1:${port()}`, timeout: '1s' })
    expect(await backend.get(freshKey())).toBeUndefined()
    const { error } = await failure(() => backend.delete(freshKey()))
    expect(error).toMatchObject({ code: 'ERR_BACKEND', message: expect.stringMatching(/forbids/) })
  })

  it('says that it was led to a replica', async () => {
    const replica = await startRedis({ args: ['--replicaof', '127.0.0.1', `${port()}`] })
    try {
      const backend = open({ url: `redis://127.0.0.1:${replica.port}`, timeout: '500ms' })
      const { error, ms } = await failure(() => backend.set(freshKey(), bytes('x'), {}))
      expect(error).toMatchObject({ code: 'ERR_UNAVAILABLE', message: expect.stringMatching(/replica/) })
      expect(ms).toBeLessThan(2_000)
    } finally {
      await replica.stop()
    }
  })

  it.skipIf(!canFetch('Redis 6.0'))(
    'says that the server is too old',
    async () => {
      const old = await startRedis({ binary: await other('Redis 6.0') })
      try {
        const backend = open({ url: `redis://127.0.0.1:${old.port}` })
        for (const work of [() => backend.get('a'), () => backend.set('a', bytes('b'), {})]) {
          const { error } = await failure(work)
          expect(error).toMatchObject({
            code: 'ERR_UNSUPPORTED',
            message: expect.stringMatching(/'6\.0\.16'/),
          })
        }
      } finally {
        await old.stop()
      }
    },
    120_000,
  )

  it('takes a foreign type for a miss, and replaces it', async () => {
    const backend = open(at().where)
    const [list, other] = [freshKey(), freshKey()]
    await at().admin.lpush(list, 'x')
    expect(await backend.get(list)).toBeUndefined()
    expect(await backend.getMulti([list, other])).toEqual([undefined, undefined])
    const token = await granted(backend, list)
    expect(await backend.set(list, bytes('v'), { token })).toBe('stored')
    expect(text(await backend.get(list))).toBe('v')
  })

  it('refuses values over the limit before they are sent', async () => {
    const backend = open({ ...at().where, maxValueBytes: 10 })
    await expect(async () => backend.set(freshKey(), bytes('12345678901'), {})).rejects.toMatchObject({
      code: 'ERR_VALUE_TOO_LARGE',
    })
    await expect(async () =>
      backend.setMulti([[freshKey(), bytes('12345678901'), {}]]),
    ).rejects.toMatchObject({ code: 'ERR_VALUE_TOO_LARGE' })
    await expect(async () => backend.set(freshKey(), 'text' as never, {})).rejects.toMatchObject({
      code: 'ERR_CHAIN',
    })
  })

  it('says that the server is out of memory', async () => {
    const full = await standalone({ args: ['--maxmemory', '1mb', '--maxmemory-policy', 'noeviction'] })
    try {
      await full.admin.set('big', Buffer.alloc(300_000)).catch(() => {})
      const backend = full.open()
      const { error } = await failure(async () => {
        for (let i = 0; i < 50; i++) await backend.set(freshKey(), Buffer.alloc(100_000), {})
      })
      expect(error).toMatchObject({ code: 'ERR_BACKEND', message: expect.stringMatching(/out of memory/) })
    } finally {
      await full.stop()
    }
  })

  it('lets a caller wait that finds a lease taken while the server is out of memory', async () => {
    const full = await standalone()
    try {
      const [holder, waiter] = [full.open(), full.open()]
      const key = freshKey()
      const token = await granted(holder, key)
      await full.admin.config('SET', 'maxmemory', '1')
      const denied = await waiter.acquire(key, 10_000)
      expect(denied.token).toBeUndefined()
      await holder.release(key, token)
      if (denied.token === undefined) expect(await denied.settled).toBeUndefined()
    } finally {
      await full.stop()
    }
  })

  it('is done with when it is closed, and leaves a client that was passed in alone', async () => {
    const client = new Redis({ port: port() })
    const backend = redis(client)
    await backend.set('passed in', bytes('x'), {})
    await backend.acquire(freshKey(), 1_000)
    await backend.close()
    await backend.close()
    const { error } = await failure(() => backend.get('passed in'))
    expect(error.code).toBe('ERR_CLOSED')
    expect(await client.get('passed in')).toBe('x')
    client.disconnect()
    const never = redis({ url: `redis://127.0.0.1:${port()}` })
    await never.close()
  })
})

withRedis('a Redis that comes and goes', standalone, (at) => {
  it('times out on a frozen server, fails at once while the circuit is open, and closes it by one probe', async () => {
    const backend = at().open({ timeout: '150ms', breaker: { failures: 3, cooldown: '400ms' } })
    const [server] = at().servers
    await until(async () => (await backend.get('x')) === undefined)
    await server?.kill('SIGSTOP')
    for (let i = 0; i < 3; i++) {
      const { error, ms } = await failure(() => backend.get('x'))
      expect(error.code).toBe('ERR_TIMEOUT')
      expect(ms).toBeLessThan(1_500)
    }
    const { error, ms } = await failure(() => backend.get('x'))
    expect(error).toMatchObject({ code: 'ERR_UNAVAILABLE', message: expect.stringMatching(/times in a row/) })
    expect(ms).toBeLessThan(150)
    await sleep(450)
    const [probe, other] = await Promise.all([
      failure(() => backend.delete('probe')),
      failure(() => backend.delete('other')),
    ])
    expect([probe.error.code, other.error.code]).toEqual(['ERR_TIMEOUT', 'ERR_UNAVAILABLE'])
    await server?.kill('SIGCONT')
    await until(async () => (await backend.get('x')) === undefined)
    expect(await backend.get('x')).toBeUndefined()
  })

  it('does not carry out a write whose caller has given up long ago', async () => {
    const backend = at().open({ timeout: '150ms', breaker: false, recovery: false })
    const [server] = at().servers
    const key = freshKey()
    await until(async () => (await backend.set(key, bytes('first'), {})) === 'stored')
    await server?.kill('SIGSTOP')
    expect((await failure(() => backend.set(key, bytes('late'), {}))).error.code).toBe('ERR_TIMEOUT')
    await sleep(1_200)
    await server?.kill('SIGCONT')
    await until(async () => (await backend.get(key)) !== undefined)
    expect(text(await backend.get(key))).toBe('first')
  })

  it('finds out when the clock of the server is not the expected one', async () => {
    const backend = at().open()
    const key = freshKey()
    await backend.get(key)
    const { performance: clock } = globalThis
    const now = clock.now.bind(clock)
    clock.now = () => now() - 3_600_000
    try {
      expect(await backend.set(key, bytes('a'), {})).toBe('stored')
      clock.now = now
      expect(await backend.setMulti([[key, bytes('b'), {}]])).toEqual(['stored'])
      expect(text(await backend.get(key))).toBe('b')
    } finally {
      clock.now = now
    }
  })

  it('bounds how much may wait', async () => {
    const backend = at().open({ timeout: '300ms', maxPending: 2, maxWaiting: 3, breaker: false })
    const [server] = at().servers
    await until(async () => (await backend.get('x')) === undefined)
    await server?.kill('SIGSTOP')
    const codes = (
      await Promise.all(Array.from({ length: 9 }, (_, i) => failure(() => backend.delete(`${i}`))))
    ).map(({ error }) => error.code)
    await server?.kill('SIGCONT')
    expect(codes.filter((code) => code === 'ERR_UNAVAILABLE').length).toBe(4)
    expect(codes.filter((code) => code === 'ERR_TIMEOUT').length).toBe(5)
  })

  it('remembers failed invalidations, hides their keys, and does them when it is back', async () => {
    const proxy = await faultProxy({ port: at().servers[0]?.port ?? 0 })
    const mine = redis({ url: `redis://127.0.0.1:${proxy.port}`, timeout: '200ms', breaker: false })
    const theirs = at().open()
    try {
      const [gone, stays] = [freshKey(), freshKey()]
      await theirs.set(gone, bytes('old'), {})
      await theirs.set(stays, bytes('withheld'), {})
      expect(text(await mine.get(gone))).toBe('old')
      proxy.set({ kind: 'blackhole' })
      expect((await failure(() => mine.delete(gone))).error.code).toBe('ERR_TIMEOUT')
      proxy.set({ kind: 'refuse' })
      proxy.reset()
      expect(await mine.get(gone)).toBeUndefined()
      proxy.set({ kind: 'none' })
      await until(async () => (await theirs.get(gone)) === undefined)
      await until(async () => text(await mine.get(stays)) === 'withheld')
      // On a busy machine the deletion may be sent a second time, its first answer being late.
      await until(async () => {
        await theirs.set(gone, bytes('new'), {})
        return text(await mine.get(gone)) === 'new'
      })
    } finally {
      await mine.close()
      await proxy.close()
    }
  })

  it('repeats failed invalidations before it marks a key stale', async () => {
    const [server] = at().servers
    const admin = new Redis({ port: server?.port ?? 0 })
    await admin.call('ACL', 'SETUSER', 'limited', 'on', '>secret', '~*', '&*', '+@all')
    const mine = redis(`redis://limited:secret@127.0.0.1:${server?.port}`)
    const theirs = at().open()
    const open = (on: Backend<Bytes>) => makeRegion<string>({ name: 'stolen', backend: wrap(on, json()) })
    const [here, there] = [open(mine), open(theirs)]
    try {
      const key = freshKey()
      expect(await there.getOrCreate(key, () => 'old')).toBe('old')
      expect(await here.get(key)).toBe('old')
      await admin.call('ACL', 'SETUSER', 'limited', '-unlink')
      expect((await failure(() => here.delete(key))).error.code).toBe('ERR_BACKEND')
      expect(await here.get(key)).toBe(NO_VALUE)
      expect(await there.get(key)).toBe('old')
      // It cannot be done yet, so it is not said to be done.
      expect((await failure(() => here.expire(key))).error.code).toBe('ERR_BACKEND')
      await admin.call('ACL', 'SETUSER', 'limited', '+unlink')
      await here.expire(key)
      expect(await there.get(key)).toBe(NO_VALUE)
    } finally {
      admin.disconnect()
      await here.close()
    }
  })

  it('takes every read for a miss while an invalidation of names, or too many of keys, wait to be done', async () => {
    const proxy = await faultProxy({ port: at().servers[0]?.port ?? 0 })
    const mine = redis({
      url: `redis://127.0.0.1:${proxy.port}`,
      timeout: '200ms',
      breaker: false,
      recovery: { max: 2 },
    })
    const theirs = at().open()
    const here = makeRegion<string>({ name: 'recovering', backend: wrap(mine, json()) })
    const there = makeRegion<string>({ name: 'recovering', backend: wrap(theirs, json()) })
    try {
      for (const lose of [() => here.invalidate(), () => here.deleteMulti(['a', 'b', 'c'])]) {
        const key = freshKey()
        await there.getOrCreate(key, () => 'old')
        expect(await here.get(key)).toBe('old')
        proxy.set({ kind: 'blackhole' })
        expect((await failure(lose)).error.code).toBe('ERR_TIMEOUT')
        proxy.set({ kind: 'latency', ms: 30 })
        expect(await here.get(key)).toBe(NO_VALUE)
        proxy.set({ kind: 'none' })
        // For keys that were not remembered the clock is deleted, so no caller is served anything older.
        await until(async () => (await there.get(key)) === NO_VALUE)
        await until(
          async () => (await here.getOrCreate(key, () => 'new')) === 'new' && (await here.get(key)) === 'new',
        )
      }
    } finally {
      await here.close()
      await proxy.close()
    }
  })

  it('returns misses with failOpen, creates without the store, and still rejects invalidations', async () => {
    const port = await freePort()
    const server = await startRedis({ port })
    const backend = redis({
      url: `redis://127.0.0.1:${port}`,
      timeout: '200ms',
      failOpen: true,
      breaker: { failures: 2, cooldown: '300ms' },
    })
    const region = makeRegion<string>({ name: 'open', backend: wrap(backend, json()) })
    try {
      expect(await region.getOrCreate('k', () => 'stored')).toBe('stored')
      await server.stop()
      expect(await region.get('k')).toBe(NO_VALUE)
      let runs = 0
      const slow = async () => {
        runs++
        await sleep(20)
        return 'made'
      }
      const made = await Promise.all(Array.from({ length: 100 }, () => region.getOrCreate('k', slow)))
      expect(new Set(made)).toEqual(new Set(['made']))
      expect(runs).toBe(1)
      expect(await region.getOrCreateMulti(['x', 'y'], (keys) => keys.map((key) => `made ${key}`))).toEqual([
        'made x',
        'made y',
      ])
      for (const invalidation of [
        () => region.delete('k'),
        () => region.set('k', 'other'),
        () => region.invalidate(),
        () => region.expire('k'),
      ])
        expect((await failure(invalidation)).error.code).toMatch(/ERR_TIMEOUT|ERR_UNAVAILABLE/)
      const back = await startRedis({ port })
      await until(async () => {
        await region.getOrCreate('again', () => 'stored again')
        return (await region.get('again')) === 'stored again'
      })
      await back.stop()
    } finally {
      await region.close()
    }
    expect(unhandled).toEqual([])
  })

  it('goes on after the server was killed and restarted', async () => {
    const port = await freePort()
    const server = await startRedis({ port })
    const backend = redis({ url: `redis://127.0.0.1:${port}`, timeout: '3s' })
    const region = makeRegion<string>({ name: 'restarted', backend: wrap(backend, json()) })
    try {
      expect(await region.getOrCreate('k', () => 'one')).toBe('one')
      await server.stop()
      const later = region.getOrCreate('k', () => 'two')
      await sleep(150)
      const back = await startRedis({ port })
      expect(await later).toBe('two')
      expect(await region.get('k')).toBe('two')
      await back.stop()
    } finally {
      await region.close()
    }
  })
})
