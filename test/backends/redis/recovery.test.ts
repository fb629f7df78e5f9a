import { Redis } from 'ioredis'
import { afterEach, expect, it } from 'vitest'
import { memory } from '../../../backends/memory/index.js'
import { type RedisBackendOptions, redis } from '../../../backends/redis/index.js'
import { dependencies } from '../../../proxies/dependencies.js'
import { json } from '../../../proxies/json.js'
import { prefix } from '../../../proxies/prefix.js'
import { type Backend, type Bytes, intercept, makeRegion, NO_VALUE, wrap } from '../../../src/index.js'
import { type FaultProxy, faultProxy } from '../../support/faultproxy.js'
import { judge } from '../../support/ledgers.js'
import { until } from '../../support/waiting.js'
import { cluster, type Deployment, standalone } from './deployments.js'
import { bytes, freshKey, granted, text, withRedis } from './suite.js'

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

/** A backend whose connection can be broken. */
async function breakable(at: Deployment, options: Partial<RedisBackendOptions> = {}) {
  const proxy = await faultProxy({ port: at.servers[0]?.port ?? 0 })
  const backend = redis({
    url: `redis://127.0.0.1:${proxy.port}`,
    timeout: '300ms',
    breaker: false,
    ...options,
  })
  closing.push(
    () => proxy.close(),
    () => backend.close(),
  )
  return { proxy, backend }
}

function mend(proxy: FaultProxy): void {
  // A request sent into the hole must not arrive later.
  proxy.set({ kind: 'refuse' })
  proxy.reset()
  proxy.set({ kind: 'none' })
}

const users = (backend: Backend<Bytes>) =>
  makeRegion<string>({ name: 'users', backend: wrap(backend, json()) })

withRedis('invalidations that could not be sent to Redis', standalone, (at) => {
  it('is made good for where it does not fit, by a process that only ever deletes', async () => {
    const { proxy, backend } = await breakable(at(), { recovery: { max: 2 } })
    const [here, there] = [users(backend), users(at().open())]
    const keys = Array.from({ length: 5 }, () => freshKey())
    for (const key of keys) await there.getOrCreate(key, () => 'old')
    await here.delete(freshKey())
    proxy.set({ kind: 'blackhole' })
    const lost = await Promise.allSettled(keys.map((key) => here.delete(key)))
    expect(lost.map(({ status }) => status)).toEqual(keys.map(() => 'rejected'))
    mend(proxy)
    await until(async () => (await here.getOrCreate('new', () => 'new')) === (await here.get('new')))
    expect(await there.getMulti(keys)).toEqual(keys.map(() => NO_VALUE))
  })

  it('are remembered as they were asked for, whatever becomes of the lists of the caller', async () => {
    const { proxy, backend } = await breakable(at())
    const open = (on: Backend<Bytes>) =>
      makeRegion<string>({ name: 'lists', backend: wrap(on, json(), dependencies()) })
    const [here, there] = [open(backend), open(at().open())]
    const keys = Array.from({ length: 3 }, () => freshKey())
    const [dependent] = keys.slice(2)
    const name = `tag:${freshKey()}`
    for (const key of keys)
      await there.getOrCreate(key, (creation) => {
        if (key === dependent) creation.dependsOn(key, name)
        return 'old'
      })
    expect(await here.getMulti(keys)).toEqual(['old', 'old', 'old'])
    const [raw, theirs] = [freshKey(), at().open()]
    await theirs.set(raw, bytes('old'), {})
    proxy.set({ kind: 'blackhole' })
    const [doomed, names, bare] = [keys.slice(0, 2), [name], [raw]]
    const lost = [here.deleteMulti(doomed), here.invalidateDependencies(names), backend.deleteMulti(bare)]
    for (const list of [doomed, names, bare]) list.length = 0
    const statuses = await Promise.allSettled(lost)
    expect(statuses.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected'])
    mend(proxy)
    await until(async () => (await there.getMulti(keys)).every((value) => value === NO_VALUE))
    expect(await here.getMulti(keys)).toEqual([NO_VALUE, NO_VALUE, NO_VALUE])
    await until(async () => (await theirs.get(raw)) === undefined)
  })

  it('are remembered for a set, too, whichever of its commands failed', async () => {
    for (const failOpen of [false, true]) {
      const { proxy, backend } = await breakable(at(), { failOpen })
      const open = (on: Backend<Bytes>) =>
        makeRegion<string>({ name: `sets ${failOpen}`, backend: wrap(on, json(), dependencies()) })
      const [here, there] = [open(backend), open(at().open())]
      await there.setMulti(['a', 'b', 'c'].map((key) => [key, 'old']))
      await here.getMulti(['a', 'b', 'c'])
      proxy.set({ kind: 'blackhole' })
      const sets = [here.set('a', 'new'), here.setMulti(['b', 'c'].map((key) => [key, 'new']))]
      const statuses = await Promise.allSettled(sets)
      expect(statuses.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
      mend(proxy)
      await until(async () => (await there.getMulti(['a', 'b', 'c'])).every((value) => value === NO_VALUE))
      expect(await here.getMulti(['a', 'b', 'c'])).toEqual([NO_VALUE, NO_VALUE, NO_VALUE])
    }
  })

  it('leave no older value where a set resolves because the connection came back for its last command', async () => {
    const { proxy, backend } = await breakable(at(), { failOpen: true, timeout: '20s' })
    const back = intercept(async ({ name }, proceed) => {
      if (name === 'set') proxy.set({ kind: 'none' })
      return proceed()
    })
    const here = makeRegion<string>({ name: 'back', backend: wrap(backend, json(), dependencies(), back) })
    const there = makeRegion<string>({ name: 'back', backend: wrap(at().open(), json(), dependencies()) })
    await there.set('a', 'old')
    await here.get('a')
    proxy.set({ kind: 'refuse' })
    proxy.reset()
    await until(async () => (await here.get('a')) === NO_VALUE)
    expect(await here.set('a', 'new')).toBe('refused')
    expect(await there.get('a')).toBe(NO_VALUE)
    expect(await here.set('a', 'new')).toBe('stored')
  })

  it('is made good for where it does not fit, under the clock of every chain over the backend', async () => {
    const { proxy, backend } = await breakable(at(), { recovery: { max: 2 } })
    const open = (on: Backend<Bytes>, name: string) =>
      makeRegion<string>({ name, backend: wrap(on, json(), prefix(`${name}:`)) })
    const there = open(at().open(), 'one')
    const [one, two] = [open(backend, 'one'), open(backend, 'two')]
    const keys = Array.from({ length: 4 }, () => freshKey())
    for (const key of keys) await there.getOrCreate(key, () => 'old')
    await two.getOrCreate('two', () => 'two')
    proxy.set({ kind: 'blackhole' })
    const lost = await Promise.allSettled(keys.map((key) => one.delete(key)))
    expect(lost.map(({ status }) => status)).toEqual(keys.map(() => 'rejected'))
    mend(proxy)
    await until(async () => (await two.getOrCreate('new', () => 'new')) === (await two.get('new')))
    expect(await there.getMulti(keys)).toEqual(keys.map(() => NO_VALUE))
  })

  it('is kept key by key where no chain has a clock to lose', async () => {
    const { proxy, backend } = await breakable(at(), { recovery: { max: 2 } })
    const theirs = at().open()
    const [stays, ...keys] = Array.from({ length: 6 }, () => freshKey()) as [string, ...string[]]
    for (const key of [stays, ...keys]) await theirs.set(key, bytes('old'), {})
    await backend.get(stays)
    proxy.set({ kind: 'blackhole' })
    await expect(backend.deleteMulti(keys)).rejects.toMatchObject({ code: 'ERR_TIMEOUT' })
    mend(proxy)
    await until(async () => (await theirs.getMulti(keys)).every((value) => value === undefined))
    expect(text(await backend.get(stays))).toBe('old')
  })

  it('is no hit in another store to which the ledger was lent', async () => {
    const backend = at().open()
    const near = makeRegion<string>({
      name: 'near',
      backend: wrap(memory(), dependencies({ ledger: backend.ledger as NonNullable<typeof backend.ledger> })),
    })
    await near.getOrCreate('k', () => 'old')
    expect(await near.get('k')).toBe('old')
    const { admin } = at() as { admin: Redis }
    // Reads are answered, and nothing can be stamped.
    await admin.config('SET', 'maxmemory', '1')
    try {
      await expect(near.invalidate()).rejects.toMatchObject({ code: 'ERR_BACKEND' })
      expect(await near.get('k')).toBe(NO_VALUE)
      expect(await near.getMulti(['k'])).toEqual([NO_VALUE])
    } finally {
      await admin.config('SET', 'maxmemory', '0')
    }
    await until(async () => (await near.getOrCreate('k', () => 'new')) === (await near.get('k')))
    expect(await near.get('k')).toBe('new')
  })

  it('is remembered when a key was to be marked stale', async () => {
    const { proxy, backend } = await breakable(at())
    const [here, there] = [users(backend), users(at().open())]
    const key = freshKey()
    await there.getOrCreate(key, () => 'old')
    expect(await here.get(key)).toBe('old')
    proxy.set({ kind: 'blackhole' })
    await expect(here.expire(key)).rejects.toMatchObject({ code: 'ERR_TIMEOUT' })
    mend(proxy)
    expect(await here.get(key)).toBe(NO_VALUE)
    await until(async () => (await there.get(key)) === NO_VALUE)
  })

  it.each<[string, (backend: Backend<Bytes>, key: string, token: string) => unknown]>([
    ['the look at the value', (backend, key) => backend.get(key)],
    ['the fill', (backend, key, token) => backend.set(key, bytes('marked'), { token })],
    ['the fill among others', (backend, key, token) => backend.setMulti([[key, bytes('marked'), { token }]])],
    ['giving back the lease', (backend, key, token) => backend.release(key, token)],
  ])('is remembered of a key whose lease was stolen: %s', async (_, work) => {
    const { proxy, backend } = await breakable(at())
    const theirs = at().open()
    const key = freshKey()
    await theirs.set(key, bytes('old'), {})
    const token = await granted(backend, key, 10_000, true)
    proxy.set({ kind: 'blackhole' })
    await expect(Promise.resolve(work(backend, key, token))).rejects.toMatchObject({ code: 'ERR_TIMEOUT' })
    mend(proxy)
    expect(await backend.get(key)).toBeUndefined()
    await until(async () => (await theirs.get(key)) === undefined)
  })

  it('is done before a stolen key is said to be missing', async () => {
    const { admin } = at() as { admin: Redis }
    await admin.call('ACL', 'SETUSER', 'limited', 'on', '>x', '~*', '&*', '+@all')
    const mine = redis(`redis://limited:x@127.0.0.1:${at().servers[0]?.port}`)
    const theirs = at().open()
    closing.push(() => mine.close())
    const key = freshKey()
    await theirs.set(key, bytes('old'), {})
    const token = await granted(mine, key, 10_000, true)
    await admin.call('ACL', 'SETUSER', 'limited', '-unlink')
    await expect(mine.delete(key)).rejects.toMatchObject({ code: 'ERR_BACKEND' })
    await expect(mine.get(key)).rejects.toMatchObject({ code: 'ERR_BACKEND' })
    expect(text(await theirs.get(key))).toBe('old')
    await admin.call('ACL', 'SETUSER', 'limited', '+unlink')
    expect(await mine.get(key)).toBeUndefined()
    expect(await theirs.get(key)).toBeUndefined()
    expect(await mine.set(key, bytes('late'), { token })).toBe('lost')
  })

  it('is done though Redis refuses something else for good, which stays hidden', async () => {
    const { admin } = at() as { admin: Redis }
    await admin.call('ACL', 'SETUSER', 'app', 'on', '>x', '~app:*', '%R~*', '~~corral:*', '&*', '+@all')
    const { proxy, backend } = await breakable(at())
    await backend.close()
    const mine = redis({ url: `redis://app:x@127.0.0.1:${proxy.port}`, timeout: '300ms', breaker: false })
    const theirs = at().open()
    closing.push(() => mine.close())
    const [refused, gone, clock] = [freshKey('other:'), freshKey('app:'), freshKey('clock')]
    for (const key of [refused, gone, 'app:stays']) await theirs.set(key, bytes('old'), {})
    const moment = await theirs.ledger?.open(clock).now(['n'])
    const snapshot = { epoch: moment?.epoch ?? '', groups: [{ asOf: moment?.at ?? 0, names: ['n'] }] }
    expect(await judge(theirs.ledger, clock, snapshot)).toBe('fresh')

    await expect(mine.delete(refused)).rejects.toMatchObject({ code: 'ERR_BACKEND' })
    proxy.set({ kind: 'blackhole' })
    await expect(mine.delete(gone)).rejects.toMatchObject({ code: 'ERR_TIMEOUT' })
    await expect(mine.ledger?.open(clock).invalidate(['n'], 'hard')).rejects.toMatchObject({
      code: 'ERR_TIMEOUT',
    })
    mend(proxy)
    await until(async () => (await theirs.get(gone)) === undefined)
    await until(async () => (await judge(theirs.ledger, clock, snapshot)) === 'invalid')
    await until(async () => text(await mine.get('app:stays')) === 'old')
    expect(await mine.get(refused)).toBeUndefined()
    expect(text(await theirs.get(refused))).toBe('old')

    await admin.call('ACL', 'SETUSER', 'app', '~*')
    // A connection that is there again is tried at once.
    proxy.reset()
    await until(async () => (await theirs.get(refused)) === undefined)
  })
})

withRedis('many keys of a Cluster', cluster, (at) => {
  it('are written and removed though they are more than may be under way', async () => {
    const backend = at().open({ maxPending: 1_500 })
    const region = users(backend)
    await region.getOrCreate('unrelated', () => 'here')
    const keys = Array.from({ length: 4_000 }, (_, i) => `many ${i}`)
    await region.setMulti(keys.map((key) => [key, 'v'] as const))
    expect(await region.get(keys.at(-1) ?? '')).toBe('v')
    await region.deleteMulti(keys)
    expect((await region.getMulti(keys)).filter((value) => value !== NO_VALUE)).toEqual([])
    expect(await region.get('unrelated')).toBe('here')
  })

  it('are told apart: only those that failed are hidden', async () => {
    for (const { port } of at().servers) {
      const node = new Redis({ port })
      await node.call('ACL', 'SETUSER', 'app', 'on', '>x', '~app:*', '%R~*', '~~corral:*', '&*', '+@all')
      node.disconnect()
    }
    const mine = at().open({ connection: { username: 'app', password: 'x' } })
    const theirs = at().open()
    const [refused, removed] = [freshKey('other:'), freshKey('app:')]
    for (const key of [refused, removed]) await theirs.set(key, bytes('old'), {})
    await expect(mine.deleteMulti([removed, refused])).rejects.toMatchObject({ code: 'ERR_BACKEND' })
    expect(await theirs.get(removed)).toBeUndefined()
    await theirs.set(removed, bytes('new'), {})
    expect(text(await mine.get(removed))).toBe('new')
    expect(await mine.get(refused)).toBeUndefined()
  })
})
