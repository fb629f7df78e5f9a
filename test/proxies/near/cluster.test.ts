import { Redis } from 'ioredis'
import { afterEach, describe, expect, it } from 'vitest'
import { clockKeys, slotOf, stampKey } from '../../../backends/redis/format.js'
import { markerOf } from '../../../backends/redis/near/cluster-journals.js'
import { dependencies } from '../../../proxies/dependencies.js'
import { json } from '../../../proxies/json.js'
import { prefix } from '../../../proxies/prefix.js'
import {
  type Backend,
  type Bytes,
  dep,
  dependsOn,
  makeRegion,
  NO_VALUE,
  type Region,
  wrap,
} from '../../../src/index.js'
import { cluster } from '../../backends/redis/deployments.js'
import { freshKey, withRedis } from '../../backends/redis/suite.js'
import { blockFor, sleep, until } from '../../support/waiting.js'
import { copyOf, layeredRegion, nearRegion, noticesOf, warm } from './support.js'

const cleanUps: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp()
})
const keep = (region: Region<string>) => {
  cleanUps.push(() => region.close())
  return region
}

withRedis('a near cache over a Cluster', cluster, (at) => {
  const open = (maxStaleness: '10m' | 0 = '10m') => keep(nearRegion(at().open(), maxStaleness))
  const plain = () =>
    keep(makeRegion<string>({ name: 'users', backend: wrap(at().open(), json(), dependencies()) }))

  let first: Backend<Bytes> | undefined
  /** A process that has had a near cache for a while: a new one makes its first copies a second later. */
  async function standing(maxStaleness: '10m' | number = '10m'): Promise<Region<string>> {
    if (first === undefined) {
      first = at().open()
      await warm(nearRegion(first, '10m', 'first'), freshKey())
    }
    return keep(nearRegion(first, maxStaleness))
  }

  async function onAll(...command: readonly [string, ...(string | number)[]]): Promise<void> {
    const [name, ...args] = command
    for (const { port } of at().servers) {
      const client = new Redis({ port })
      await client.call(name, ...args)
      client.disconnect()
    }
  }

  /** The places of all slots. */
  async function nodes() {
    const [first] = at().servers
    const client = new Redis({ port: first?.port ?? 0 })
    const lines = String(await client.call('CLUSTER', 'NODES'))
      .trim()
      .split('\n')
    client.disconnect()
    return lines.map((line) => {
      const [id = '', address = '', , , , , , , ...ranges] = line.split(' ')
      const has = (slot: number) =>
        ranges.some((range) => {
          const [from = 0, to = from] = range.split('-').map(Number)
          return slot >= from && slot <= to
        })
      return { id, port: Number(/:(\d+)/.exec(address)?.[1]), has }
    })
  }

  /** A client of the node that has a key. */
  async function nodeOf(key: string): Promise<Redis> {
    const found = (await nodes()).find(({ has }) => has(slotOf(key)))
    const client = new Redis({ port: found?.port ?? 0 })
    cleanUps.push(() => client.disconnect())
    return client
  }

  /** A text whose slot is on another node than that of a key. */
  async function elsewhere(than: string, keyOf: (text: string) => string): Promise<string> {
    const all = await nodes()
    const home = (key: string) => all.findIndex(({ has }) => has(slotOf(key)))
    for (;;) {
      const text = freshKey()
      if (home(keyOf(text)) !== home(than)) return text
    }
  }

  describe('an invalidation of another process', () => {
    it.each<[string, (region: Region<string>, key: string) => Promise<unknown>]>([
      ['delete', (region, key) => region.delete(key)],
      ['deleteMulti', (region, key) => region.deleteMulti([key, freshKey()])],
      ['set', (region, key) => region.set(key, 'new')],
      [
        'refresh',
        (region, key) =>
          region.cacheOnArguments(async () => 'new', { functionKeyGenerator: () => () => key }).refresh(),
      ],
      ['expire', (region, key) => region.expire(key)],
      ['invalidate', (region) => region.invalidate()],
      ['invalidateDependencies', (region, key) => region.invalidateDependencies(dep.id('user', key))],
    ])('by %s arrives from a process without a near cache', async (_, change) => {
      const [here, there] = [await standing(), plain()]
      const key = freshKey()
      await warm(here, key)
      await change(there, key)
      await until(() => copyOf(here, key) !== 'old')
      expect(await here.get(key)).not.toBe('old')
    })

    it('is not missed by a copy that was made between the tick of the clock and the stamp on another node', async () => {
      const [here, there] = [open(), plain()]
      const key = await elsewhere('~corral:clock={~clock}', (text) =>
        stampKey('~clock', dep.id('user', text)),
      )
      await warm(here, key)
      const node = await nodeOf(stampKey('~clock', dep.id('user', key)))
      const other = await nodeOf('~corral:clock={~clock}')
      const before = await other.get('~corral:clock={~clock}')
      await node.call('CLIENT', 'PAUSE', '60000', 'WRITE')
      const acknowledged = there.invalidateDependencies(dep.id('user', key))
      await until(async () => (await other.get('~corral:clock={~clock}')) !== before)
      // Read past the tick, and before the stamp.
      expect(await here.get(key, { maxStaleness: 0 })).toBe('old')
      expect(copyOf(here, key)).toBe('old')
      await node.call('CLIENT', 'UNPAUSE')
      await acknowledged
      await until(() => copyOf(here, key) === undefined)
      expect(await here.get(key)).toBe(NO_VALUE)
    })

    it('is not missed by a copy that was made before a key went from its node', async () => {
      const [here, there] = [open(), plain()]
      const key = await elsewhere('~corral:journal={keys}', (text) => `users:${text}`)
      await warm(here, key)
      const node = await nodeOf(`users:${key}`)
      await node.call('CLIENT', 'PAUSE', '60000', 'WRITE')
      const acknowledged = there.delete(key)
      // Were it recorded already, the next reads would make a copy that no record tells of.
      await sleep(200)
      await here.get(key, { maxStaleness: 0 })
      await here.get(key, { maxStaleness: 0 })
      await node.call('CLIENT', 'UNPAUSE')
      await acknowledged
      await until(() => copyOf(here, key) === undefined)
      expect(await here.get(key)).toBe(NO_VALUE)
    })

    it('is not undone by the reply to an older question, part of which came late', async () => {
      const clockOf = (text: string) => clockKeys(`${text}:~clock`).clock
      const shop = await elsewhere('~corral:journal={keys}', clockOf)
      const here = keep(layeredRegion(at().open(), '10m', { below: prefix(`${shop}:`) }))
      const key = await elsewhere(clockOf(shop), (text) => `${shop}:users:${text}`)
      await warm(here, key)
      const node = await nodeOf(clockOf(shop))
      cleanUps.push(() => node.call('CLIENT', 'UNPAUSE'))
      await node.call('CLIENT', 'PAUSE', '60000', 'WRITE')
      // The node that records keys answers before it knows of the change, and the node of the clock after the change.
      const older = here.get(key, { maxStaleness: 0 })
      await here.delete(key)
      await node.call('CLIENT', 'UNPAUSE')
      expect(await older).toBe(NO_VALUE)
      expect(copyOf(here, key)).toBeUndefined()
      expect(await here.get(key)).toBe(NO_VALUE)
    })

    it('that was not recorded, because there was no near cache a moment before, meets no copy', async () => {
      const there = plain()
      for (let i = 0; i < 4; i++) {
        await at().admin.del(markerOf(''))
        const key = freshKey()
        await there.set(key, 'old')
        // From now on this process need not ask for a while.
        await there.delete(freshKey())
        const here = nearRegion(at().open(), '10m')
        await here.get(key, { maxStaleness: 0 })
        await here.get(key, { maxStaleness: 0 })
        await here.get(key)
        await there.delete(key)
        expect(await here.get(key)).toBe(NO_VALUE)
        await here.close()
      }
    })
  })

  it('with maxStaleness 0 no read that starts after an acknowledgement returns the older value', async () => {
    const [here, there] = [open(0), plain()]
    const [key, other] = [freshKey(), freshKey()]
    const create = (value: string) => () => {
      dependsOn(dep.id('user', other))
      return value
    }
    for (let i = 1; i <= 40; i++) {
      await there.set(key, `${i}`)
      expect(await here.get(key)).toBe(`${i}`)
      await here.getOrCreate(other, create(`${i}`))
      expect(await here.get(other)).toBe(`${i}`)
      await there.invalidateDependencies(dep.id('user', other))
      expect(await here.get(other)).toBe(NO_VALUE)
    }
  })

  it('keeps its promises when the slots of its records move to another node', async () => {
    const [here, there] = [open(), plain()]
    const key = freshKey()
    await warm(here, key)
    const all = await nodes()
    const slot = slotOf('~corral:journal={keys}')
    const [source, target] = [all.find(({ has }) => has(slot)), all.find(({ has }) => !has(slot))]
    const clients = all.map(({ port }) => new Redis({ port }))
    cleanUps.push(() => clients.forEach((client) => void client.disconnect()))
    const of = (one: typeof source) => clients[all.indexOf(one as never)] as Redis
    await of(target).call('CLUSTER', 'SETSLOT', slot, 'IMPORTING', source?.id ?? '')
    await of(source).call('CLUSTER', 'SETSLOT', slot, 'MIGRATING', target?.id ?? '')
    await there.set(key, 'new')
    for (const name of (await of(source).call('CLUSTER', 'GETKEYSINSLOT', slot, '100')) as string[])
      await of(source).call('MIGRATE', '127.0.0.1', target?.port ?? 0, name, '0', '5000')
    for (const client of clients) await client.call('CLUSTER', 'SETSLOT', slot, 'NODE', target?.id ?? '')
    await there.set(key, 'newer')
    await until(async () => copyOf(here, key) !== 'old' && (await here.get(key)) === 'newer')
    await until(() => copyOf(here, key) === 'newer')
    await there.delete(key)
    await until(() => copyOf(here, key) === undefined)
    expect(await here.get(key)).toBe(NO_VALUE)
  })

  it('tells once that it keeps nothing for a user who may not ask the nodes for INFO', async () => {
    const admins = at().servers.map(({ port }) => new Redis({ port }))
    const allow = (right: string) =>
      Promise.all(admins.map((admin) => admin.call('ACL', 'SETUSER', 'default', right)))
    cleanUps.push(() => admins.forEach((admin) => void admin.disconnect()))
    cleanUps.push(() => allow('+info'))
    await allow('-info')
    const region = open(0)
    const told = await noticesOf(async () => {
      for (let i = 0; i < 3; i++) await region.getOrCreate(freshKey(), () => 'value')
    })
    expect(told).toEqual([expect.stringContaining('+info')])
  })

  it('drops what changed while its connections were cut, and listens again', async () => {
    const [here, there] = [open(), plain()]
    const [gone, kept] = [freshKey(), freshKey()]
    await warm(here, kept)
    await warm(here, gone)
    await onAll('CLIENT', 'KILL', 'TYPE', 'pubsub')
    await onAll('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    await until(async () => {
      await there.delete(gone)
      return true
    })
    await until(() => copyOf(here, gone) === undefined)
    expect(copyOf(here, kept)).toBe('old')
    await until(async () => (await here.get(gone)) === NO_VALUE)
    await there.delete(kept)
    await until(() => copyOf(here, kept) === undefined)
  })

  it('drops everything if more names changed than the nodes remember, and it heard of none', async () => {
    const allow = (right: string) => onAll('ACL', 'SETUSER', 'default', right)
    cleanUps.push(() => allow('+subscribe'))
    const [here, there] = [open(), plain()]
    const keys = [freshKey(), freshKey()] as const
    for (const key of keys) await warm(here, key)
    await allow('-subscribe')
    await onAll('CLIENT', 'KILL', 'TYPE', 'pubsub')
    const names = Array.from({ length: 1_025 }, (_, i) => dep.id('other', i))
    await there.invalidateDependencies(dep.id('user', keys[0]))
    await there.invalidateDependencies(names)
    expect(keys.map((key) => copyOf(here, key))).toEqual(['old', 'old'])
    await here.get(freshKey())
    await here.get(keys[0], { maxStaleness: 0 })
    expect(keys.map((key) => copyOf(here, key))).toEqual([undefined, undefined])
    expect(await here.get(keys[0])).toBe(NO_VALUE)
    expect(await here.get(keys[1])).toBe('old')
  })

  it('serves no copy without a proof: the nodes are silent, or the process was stopped', async () => {
    const [here, there] = [await standing(400), plain()]
    const [silent, stopped] = [freshKey(), freshKey()]
    await warm(here, silent)
    await onAll('CLIENT', 'PAUSE', 700, 'ALL')
    await sleep(401)
    expect(copyOf(here, silent)).toBeUndefined()
    await warm(here, stopped)
    await there.delete(stopped)
    // No message and no reply is read meanwhile.
    blockFor(401)
    expect(copyOf(here, stopped)).toBeUndefined()
    expect(await here.get(stopped)).toBe(NO_VALUE)
  })

  it('hides a key whose invalidation failed, and serves the others', async () => {
    const here = keep(nearRegion(at().open({ timeout: '300ms' }), '10m'))
    const failed = freshKey()
    const other = await elsewhere(`users:${failed}`, (text) => `users:${text}`)
    await warm(here, failed)
    await warm(here, other)
    const node = await nodeOf(`users:${failed}`)
    await node.call('CLIENT', 'PAUSE', 60_000, 'WRITE')
    await expect(here.delete(failed)).rejects.toThrow()
    expect(await here.get(failed)).toBe(NO_VALUE)
    expect(copyOf(here, other)).toBe('old')
    await node.call('CLIENT', 'UNPAUSE')
    await until(async () => (await here.getOrCreate(failed, () => 'new').catch(() => '')) === 'new')
  })

  it.each<[string, () => Promise<unknown>]>([
    ['everything', () => onAll('FLUSHALL')],
    ['the clock of names', () => at().admin.del('~corral:clock={~clock}')],
    ['the ring of names', () => at().admin.del('~corral:ring={~clock}')],
    ['the clock of keys', () => at().admin.del('~corral:journal={keys}')],
    ['the ring of keys', () => at().admin.del('~corral:journal-ring={keys}')],
  ])('serves nothing older if the nodes lost %s', async (_, lose) => {
    const [here, there] = [await standing(400), plain()]
    const [byKey, byName] = [freshKey(), freshKey()]
    await warm(here, byKey)
    await warm(here, byName)
    expect(await lose()).not.toBe(0)
    await there.delete(byKey)
    await there.invalidate()
    const acknowledged = performance.now()
    await until(() => performance.now() - acknowledged > 400)
    for (const key of [byKey, byName]) {
      expect([undefined, NO_VALUE]).toContain(copyOf(here, key))
      expect(await here.get(key)).toBe(NO_VALUE)
    }
  })
})

/** One node has all slots, and a replica of it takes over. */
withRedis(
  'a near cache over a Cluster that fails over',
  () => cluster({ masters: 1, replicas: 1 }),
  (at) => {
    it('forgets its copies if writes were lost, and later invalidations hold', async () => {
      const [here, there] = [keep(nearRegion(at().open(), '10m')), keep(nearRegion(at().open(), '10m'))]
      const [lost, later] = [freshKey(), freshKey()]
      await warm(here, lost)
      await warm(here, later)
      const [node, replica] = at().servers.map(({ port }) => new Redis({ port, retryStrategy: null })) as [
        Redis,
        Redis,
      ]
      cleanUps.push(() => [node, replica].forEach((client) => void client.disconnect()))
      expect(await node.wait(1, 5_000)).toBe(1)
      // The replica can no longer follow.
      await replica.config('SET', 'masterauth', 'wrong')
      await node.call('CLIENT', 'KILL', 'TYPE', 'replica')
      await there.delete(lost)
      await there.deleteMulti(Array.from({ length: 20 }, (_, i) => `other ${i}`))
      await at().servers[0]?.kill('SIGKILL')
      await replica.call('CLUSTER', 'FAILOVER', 'TAKEOVER')
      await until(() => copyOf(here, later) === undefined)
      await until(async () => (await there.get(later).catch(() => '')) === 'old')
      await until(
        async () => (await here.get(later).catch(() => '')) === 'old' && copyOf(here, later) === 'old',
      )
      await there.delete(later)
      await until(() => copyOf(here, later) === undefined)
      expect(await here.get(later)).toBe(NO_VALUE)
    })
  },
)
