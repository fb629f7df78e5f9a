import { Redis } from 'ioredis'
import { afterEach, describe, expect, it } from 'vitest'
import { slotOf, stampKey } from '../../../backends/redis/format.js'
import { markerOf } from '../../../backends/redis/near/cluster-journals.js'
import { dependencies } from '../../../proxies/dependencies.js'
import { json } from '../../../proxies/json.js'
import { dep, dependsOn, makeRegion, NO_VALUE, type Region, wrap } from '../../../src/index.js'
import { cluster } from '../../backends/redis/deployments.js'
import { freshKey, withRedis } from '../../backends/redis/suite.js'
import { sleep, until } from '../../support/waiting.js'
import { copyOf, nearRegion, noticesOf, warm } from './support.js'

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

  /** The places of all slots. */
  async function nodes() {
    const [first] = at().servers
    const client = new Redis({ port: first?.port ?? 0 })
    const lines = String(await client.call('CLUSTER', 'NODES'))
      .trim()
      .split('\n')
    client.disconnect()
    return lines.map((line) => {
      const [id = '', address = '', , , , , , , range = ''] = line.split(' ')
      const [from = 0, to = from] = range.split('-').map(Number)
      const port = Number(/:(\d+)/.exec(address)?.[1])
      return { id, port, has: (slot: number) => slot >= from && slot <= to }
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
    ])('by %s arrives, from a process with a near cache and from one without', async (_, change) => {
      const here = open()
      for (const there of [open(), plain()]) {
        const key = freshKey()
        await warm(here, key)
        await change(there, key)
        await until(() => copyOf(here, key) !== 'old')
        expect(await here.get(key)).not.toBe('old')
      }
    })

    it('leaves the other copies', async () => {
      const [here, there] = [open(), plain()]
      const [gone, kept] = [freshKey(), freshKey()]
      await warm(here, kept)
      await warm(here, gone)
      await there.delete(gone)
      await until(() => copyOf(here, gone) === undefined)
      expect(copyOf(here, kept)).toBe('old')
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

  it.each<[string, (region: Region<string>, key: string) => Promise<unknown>]>([
    ['delete', (region, key) => region.delete(key)],
    ['set', (region, key) => region.set(key, 'new')],
    ['setMulti', (region, key) => region.setMulti([[key, 'new']])],
    ['expire', (region, key) => region.expire(key)],
    ['invalidate', (region) => region.invalidate()],
    ['invalidateDependencies', (region, key) => region.invalidateDependencies(dep.id('user', key))],
  ])(
    'an invalidation of this process by %s is seen at once in every region over the store',
    async (_, change) => {
      const backend = at().open()
      const regions = [keep(nearRegion(backend)), keep(nearRegion(backend))] as const
      for (const by of regions) {
        const key = freshKey()
        await warm(regions[0], key)
        await warm(regions[1], key)
        await change(by, key)
        for (const region of regions) expect(await region.get(key)).not.toBe('old')
      }
    },
  )

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
    for (const { port } of at().servers) {
      const client = new Redis({ port })
      await client.call('CLIENT', 'KILL', 'TYPE', 'pubsub')
      await client.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
      client.disconnect()
    }
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
})
