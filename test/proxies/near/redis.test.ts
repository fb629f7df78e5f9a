import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { Redis } from 'ioredis'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { memory } from '../../../backends/memory/index.js'
import { dependencies } from '../../../proxies/dependencies.js'
import { json } from '../../../proxies/json.js'
import { near } from '../../../proxies/near.js'
import { prefix } from '../../../proxies/prefix.js'
import {
  type Backend,
  type BackendProxy,
  type Bytes,
  type CachedValue,
  delegate,
  dep,
  dependsOn,
  intercept,
  type Messages,
  makeRegion,
  mapKeys,
  NO_VALUE,
  type Region,
  type TransparentProxy,
  wrap,
} from '../../../src/index.js'
import { cluster, type Deployment, standalone, withUser } from '../../backends/redis/deployments.js'
import { freshKey, withRedis } from '../../backends/redis/suite.js'
import { gate, turn, until } from '../../support/waiting.js'
import { copyOf, layeredRegion, nearRegion, noticesOf, warm } from './support.js'

const opened: Region<string>[] = []
afterEach(async () => {
  await Promise.all(opened.splice(0).map((region) => region.close()))
})
const keep = (region: Region<string>) => {
  opened.push(region)
  return region
}

/** The commands of all clients to all servers while some work runs. */
async function commandsOf(at: Deployment, work: () => Promise<unknown>): Promise<readonly string[]> {
  const clients = at.servers.map(({ port }) => new Redis({ port }))
  // A client that still connects would be seen by its own monitor.
  await Promise.all(clients.map((client) => client.ping()))
  const monitors = await Promise.all(clients.map((client) => client.monitor()))
  const seen = monitors.map((monitor) => {
    const names: string[] = []
    monitor.on('monitor', (_time: string, [name = '']: string[], source: string) => {
      if (source !== 'lua') names.push(name.toLowerCase())
    })
    return names
  })
  await work()
  await Promise.all(clients.map((client) => client.echo('end')))
  await until(() => seen.every((names) => names.includes('echo')))
  for (const client of [...monitors, ...clients]) client.disconnect()
  return seen.flat().filter((name) => ['get', 'mget', 'evalsha', 'eval'].includes(name))
}

const DEPLOYMENTS = [
  ['a standalone Redis', standalone, false],
  ['a Cluster', cluster, true],
] as const

for (const [where, start, isCluster] of DEPLOYMENTS)
  withRedis(
    `a near cache over ${where}`,
    () => start(),
    (at) => {
      /** Stores that keep a near cache, each as that of another process: on a Cluster a new one makes its first copies a second later. */
      const stores: Backend<Bytes>[] = []
      let latest = 0
      const store = () => stores[latest++ % stores.length] as Backend<Bytes>
      beforeAll(async () => {
        stores.push(at().open(), at().open(), at().open())
        await Promise.all(stores.map((one) => nearRegion(one, '10m', 'first').get(freshKey())))
      }, 30_000)
      const open = (maxStaleness: '10m' | 0 | '1s' = '10m', name = 'users') =>
        keep(nearRegion(store(), maxStaleness, name))

      describe('an invalidation of another process', () => {
        it.each<[string, (region: Region<string>, key: string) => Promise<unknown>]>([
          ['delete', (region, key) => region.delete(key)],
          ['set', (region, key) => region.set(key, 'new')],
          [
            'refresh',
            (region, key) =>
              region.cacheOnArguments(async () => 'new', { functionKeyGenerator: () => () => key }).refresh(),
          ],
          ['expire', (region, key) => region.expire(key)],
          ['invalidate', (region) => region.invalidate()],
          ['invalidateDependencies', (region, key) => region.invalidateDependencies(dep.id('user', key))],
          [
            'a soft invalidation',
            (region, key) => region.invalidateDependencies(dep.id('user', key), 'soft'),
          ],
        ])('by %s arrives by a message', async (_, change) => {
          const [here, there] = [open(), open()]
          const key = freshKey()
          await warm(here, key)
          await change(there, key)
          await until(() => copyOf(here, key) !== 'old')
          expect(await here.get(key)).not.toBe('old')
        })

        it('by a soft mark reaches a copy of an older value, though a name of the newer one is invalidated', async () => {
          const [here, there] = [open(), open()]
          const key = freshKey()
          await warm(here, key)
          // A fill is no invalidation: the copy stands for those who want nothing newer.
          const renew = () => {
            dependsOn(dep.id('other', key))
            return 'newer'
          }
          await until(async () => (await there.getOrCreate(key, renew, { expirationTime: 1 })) === 'newer')
          await there.invalidateDependencies(dep.id('other', key), 'soft')
          expect(copyOf(here, key)).toBe('old')
          await there.expire(key)
          await until(() => copyOf(here, key) !== 'old')
          expect(await here.get(key)).toBe(NO_VALUE)
        })

        it('by a process without a near cache arrives too', async () => {
          const here = open()
          const there = keep(
            makeRegion<string>({ name: 'users', backend: wrap(store(), json(), dependencies()) }),
          )
          const key = freshKey()
          await warm(here, key)
          await there.delete(key)
          await until(() => copyOf(here, key) === undefined)
          expect(await here.get(key)).toBe(NO_VALUE)
        })

        it('of more names than fit into a message is asked for', async () => {
          const [here, there] = [open(), open()]
          const keys = Array.from({ length: 200 }, () => freshKey())
          await Promise.all(keys.map((key) => warm(here, key)))
          await there.deleteMulti(keys)
          await until(() => keys.every((key) => copyOf(here, key) === undefined))
        })

        it('keeps the reply to a read that it overtook from becoming a copy', async () => {
          const held = gate()
          let isHeld = false
          const below = intercept(async (_, proceed) => {
            const found = await proceed()
            if (isHeld) await held.opened
            return found
          })
          const [here, there] = [keep(layeredRegion(store(), '10m', { below })), open()]
          const [key, witness] = [freshKey(), freshKey()]
          await there.set(key, 'old')
          await warm(here, witness)
          isHeld = true
          const read = here.get(key)
          await there.get(key)
          await there.set(key, 'new')
          // The messages of one node keep their order.
          await there.delete(witness)
          await until(() => copyOf(here, witness) === undefined)
          isHeld = false
          held.open()
          await read
          expect(copyOf(here, key)).toBeUndefined()
          expect(await here.get(key)).toBe('new')
        })

        it('leaves the other copies', async () => {
          const [here, there] = [open(), open()]
          const [gone, kept] = [freshKey(), freshKey()]
          await warm(here, gone)
          await warm(here, kept)
          await there.delete(gone)
          await until(() => copyOf(here, gone) === undefined)
          expect(copyOf(here, kept)).toBe('old')
        })

        it('that is soft leaves a stale value, which one process renews', async () => {
          const [here, there] = [open(), open()]
          const key = freshKey()
          await warm(here, key)
          await warm(there, key)
          await there.invalidateDependencies(dep.id('user', key), 'soft')
          let creations = 0
          const create = () => {
            dependsOn(dep.id('user', key))
            creations++
            return 'new'
          }
          await until(async () => (await here.getOrCreate(key, create)) === 'new')
          await until(async () => (await there.getOrCreate(key, create)) === 'new')
          expect(creations).toBe(1)
          await there.invalidateDependencies(dep.id('user', key), 'hard')
          await until(() => copyOf(here, key) === undefined)
          expect(await here.get(key, { ignoreExpiration: true })).toBe(NO_VALUE)
        })

        it.skipIf(isCluster)('of a region with many copies is one command', async () => {
          const [here, there] = [open(), open('10m', 'users')]
          const keys = Array.from({ length: 500 }, () => freshKey())
          await here.setMulti(keys.map((key) => [key, 'old'] as const))
          await here.getMulti(keys)
          const sent = await commandsOf(at(), () => there.invalidate())
          expect(sent.filter((name) => name.startsWith('eval')).length).toBeLessThanOrEqual(3)
          await until(() => keys.every((key) => copyOf(here, key) === undefined))
        })
      })

      describe('an invalidation of this process', () => {
        it.each<[string, (region: Region<string>, key: string) => Promise<unknown>]>([
          ['delete', (region, key) => region.delete(key)],
          ['deleteMulti', (region, key) => region.deleteMulti([key])],
          ['set', (region, key) => region.set(key, 'new')],
          ['setMulti', (region, key) => region.setMulti([[key, 'new']])],
          [
            'refresh',
            (region, key) =>
              region.cacheOnArguments(async () => 'new', { functionKeyGenerator: () => () => key }).refresh(),
          ],
          ['expire', (region, key) => region.expire(key)],
          ['invalidate', (region) => region.invalidate()],
          ['invalidateDependencies', (region, key) => region.invalidateDependencies(dep.id('user', key))],
        ])('by %s is seen at once in every region over the store', async (_, change) => {
          const backend = store()
          const regions = [
            keep(nearRegion(backend)),
            keep(nearRegion(backend)),
            keep(makeRegion<string>({ name: 'users', backend: wrap(backend, json(), dependencies()) })),
          ] as const
          for (const by of regions) {
            const key = freshKey()
            await warm(regions[0], key)
            await warm(regions[1], key)
            await change(by, key)
            for (const region of regions) expect(await region.get(key)).not.toBe('old')
          }
        })

        it('by the fill of a reservation is seen at once, though copies were made meanwhile', async () => {
          const backend = store()
          const regions = [keep(nearRegion(backend)), keep(nearRegion(backend))] as const
          const key = freshKey()
          await warm(regions[0], key)
          const created = Date.now()
          await until(() => Date.now() - created > 1)
          const right = await regions[0].reserve(key, { expirationTime: 1, hold: '1h' })
          if (!('fill' in right)) throw new Error('Expected a value that is too old')
          for (const region of regions) await warm(region, key)
          expect(await right.fill('new', { expirationTime: '1h' })).toBe('stored')
          for (const region of regions) expect(await region.get(key)).toBe('new')
        })

        it('keeps a read that was under way from making a copy', async () => {
          const here = open()
          const key = freshKey()
          await warm(here, key)
          const reads = Array.from({ length: 20 }, () => here.get(key, { expirationTime: 1 }))
          await here.delete(key)
          await Promise.all(reads)
          expect(await here.get(key)).toBe(NO_VALUE)
        })
      })

      describe('with maxStaleness 0', () => {
        it('no read that starts after an invalidation was acknowledged returns the older value', async () => {
          const [here, there] = [open(0), open(0)]
          const key = freshKey()
          await here.set(key, '0')
          for (let i = 1; i <= 100; i++) {
            expect(await here.get(key)).toBe(`${i - 1}`)
            await there.set(key, `${i}`)
          }
          expect(await here.get(key)).toBe('100')
        })

        it('a hundred hits in a tick are one command to each node that has a record', async () => {
          const here = open(0)
          const keys = Array.from({ length: 100 }, () => freshKey())
          await here.setMulti(keys.map((key) => [key, 'old'] as const))
          const read = () => Promise.all(keys.map((key) => here.get(key)))
          await read()
          await read()
          // A question in the background may fall into the time.
          await until(async () => {
            const sent = await commandsOf(at(), async () => {
              expect(await read()).toEqual(keys.map(() => 'old'))
            })
            return sent.join() === (isCluster ? 'evalsha,evalsha' : 'evalsha')
          })
        })

        it.skipIf(isCluster)('a read of a key without a copy is one command', async () => {
          const here = open(0)
          const key = freshKey()
          await here.get(freshKey())
          await until(async () => (await commandsOf(at(), () => here.get(key))).join() === 'mget')
        })
      })

      describe('with maxStaleness 0 for one call', () => {
        const layers = {
          'no further layers': {},
          'prefix() below': { below: prefix('shop:') },
          'prefix() above': { above: prefix('shop:') },
          'mapKeys() above': { above: mapKeys((key) => `${key.length}:${key}`) },
          'an intercept() above': { above: intercept((_, proceed) => proceed()) },
          'an intercept() above that waits': {
            above: intercept(async (_, proceed) => {
              await turn()
              return proceed()
            }),
          },
        }
        it.each(Object.entries(layers))('the call is strong, with %s', async (_, layer) => {
          const [here, there] = [store(), store()].map((backend) =>
            keep(layeredRegion(backend, '10m', layer)),
          ) as [Region<string>, Region<string>]
          const key = freshKey()
          await here.set(key, '0')
          for (let i = 1; i <= 30; i++) {
            await here.get(key)
            await there.set(key, `${i}`)
            expect(await here.get(key, { maxStaleness: 0 })).toBe(`${i}`)
          }
        })

        it('a layer above that waits is told of once: no copy serves a strong read through it', async () => {
          const { above } = layers['an intercept() above that waits']
          const region = keep(layeredRegion(store(), 0, { above }))
          const told = await noticesOf(async () => {
            for (let i = 0; i < 3; i++) await region.getOrCreate(freshKey(), () => 'value')
          })
          expect(told).toEqual([expect.stringContaining('below near()')])
          const others = await noticesOf(async () => {
            await keep(layeredRegion(store(), 0, { below: above })).getOrCreate(freshKey(), () => 'value')
          })
          expect(others).toEqual([])
        })

        it('nothing is told of strong reads of keys without a value, however short the bound of the chain', async () => {
          const region = keep(layeredRegion(store(), 40, {}))
          const told = await noticesOf(async () => {
            expect(await region.get(freshKey(), { maxStaleness: 0 })).toBe(NO_VALUE)
            await region.getMulti([freshKey(), freshKey()], { maxStaleness: 0 })
            await region.getOrCreate(freshKey(), () => 'value', { maxStaleness: 0 })
          })
          expect(told).toEqual([])
        })

        it('the call is strong for many keys, for functions and for getOrCreate', async () => {
          const [here, there] = [open(), open()]
          const key = freshKey()
          const load = here.cacheOnArguments(async () => 'created', { functionKeyGenerator: () => () => key })
          await here.set(key, '0')
          for (let i = 1; i <= 20; i++) {
            await here.get(key)
            await there.set(key, `${i}`)
            expect(await here.getMulti([key], { maxStaleness: 0 })).toEqual([`${i}`])
            await there.set(key, `${i}a`)
            expect(await load.with({ maxStaleness: 0 })()).toBe(`${i}a`)
            await there.set(key, `${i}b`)
            expect(await load.with({ maxStaleness: 0 }).get()).toBe(`${i}b`)
            await there.set(key, `${i}c`)
            expect(await here.getOrCreate(key, () => 'x', { maxStaleness: 0 })).toBe(`${i}c`)
            await there.set(key, `${i}d`)
            expect(await here.getOrCreateMulti([key], () => ['x'], { maxStaleness: 0 })).toEqual([`${i}d`])
            await there.set(key, `${i}e`)
            expect((await here.getValueMetadata(key, { maxStaleness: 0 }))?.payload).toBe(`${i}e`)
          }
        })

        it('reads inside a creator are strong without it', async () => {
          const [here, there] = [open(), open()]
          const [child, parent] = [freshKey(), freshKey()]
          await here.set(child, '0')
          for (let i = 1; i <= 30; i++) {
            await here.get(child)
            await there.set(child, `${i}`)
            const made = await here.getOrCreate(
              `${parent} ${i}`,
              async () => `of ${String(await here.get(child))}`,
            )
            expect(made).toBe(`of ${i}`)
          }
        })
      })

      it('does not serve a copy that expired: the store may have a newer value', async () => {
        const time = { now: Date.now() }
        const clock = { now: () => time.now }
        const regionWith = () => {
          const backend = wrap(store(), json(), near(memory(), { maxStaleness: '10m' }), dependencies())
          return keep(makeRegion<string>({ name: 'users', expirationTime: '1m', clock, backend }))
        }
        const [here, there] = [regionWith(), regionWith()]
        const key = freshKey()
        await warm(here, key)
        await warm(there, key)
        time.now += 61_000
        expect(await there.getOrCreate(key, () => 'new')).toBe('new')
        expect(await here.get(key)).toBe('new')
        time.now += 61_000
        await there.getOrCreate(key, () => 'newer')
        let creations = 0
        const create = () => {
          creations++
          return 'second'
        }
        expect(await here.getOrCreate(key, create)).toBe('newer')
        expect(await here.getMulti([key])).toEqual(['newer'])
        expect(creations).toBe(0)
        await warm(here, key, 'newer')
        time.now += 61_000
        expect(await here.explain(key)).toMatchObject({ verdict: 'stale', tier: 'far' })
        await warm(there, key, 'newest')
        expect(await here.explain(key)).toMatchObject({
          verdict: 'hit',
          tier: 'far',
          age: expect.closeTo(0, -2),
        })
      })

      it('creates once when two processes find their copies expired', async () => {
        const time = { now: Date.now() }
        const clock = { now: () => time.now }
        const regionWith = () => {
          const backend = wrap(store(), json(), near(memory(), { maxStaleness: '10m' }), dependencies())
          return keep(makeRegion<string>({ name: 'users', expirationTime: '1m', clock, backend }))
        }
        const regions = [regionWith(), regionWith()]
        const key = freshKey()
        for (const region of regions) await warm(region, key)
        time.now += 61_000
        let creations = 0
        const create = async () => {
          creations++
          await turn()
          return 'new'
        }
        await Promise.all(regions.map((region) => region.getOrCreate(key, create)))
        for (const region of regions) expect(await region.getOrCreate(key, create)).toBe('new')
        expect(creations).toBe(1)
      })

      it('looks past its copies when it looks again after a wait: the store has a newer value', async () => {
        const time = { now: Date.now() }
        const clock = { now: () => time.now }
        let requests = 0
        const counting: TransparentProxy = (next) => {
          const acquire: typeof next.acquire = (...request) => {
            requests++
            return next.acquire(...request)
          }
          return delegate(next, { acquire }, true)
        }
        const over = (...layers: [TransparentProxy, BackendProxy<CachedValue>] | []) => {
          const backend = wrap(wrap(store(), json()), ...(layers as []), dependencies())
          return keep(makeRegion<string>({ name: 'users', expirationTime: '1m', grace: 0, clock, backend }))
        }
        const here = over(counting, near(memory(), { maxStaleness: '10m' }))
        const other = over()
        const key = freshKey()
        await warm(here, key)
        time.now += 2_000
        const right = await other.reserve(key, { expirationTime: '1s', hold: '1h' })
        if (!('fill' in right)) throw new Error('Expected a value that is too old')
        requests = 0
        const waiting = here.getOrCreate(key, () => 'own', { expirationTime: '1s' })
        await until(() => requests === 1)
        // Too long to come with the message that ends the wait.
        const long = 'new'.repeat(2_000)
        expect(await right.fill(long)).toBe('stored')
        expect(await waiting).toBe(long)
        // It would ask for the lease again if it took its copy for the value that is there.
        expect(requests).toBe(1)
      })

      it('stores no parent that was made from a copy whose name was invalidated meanwhile', async () => {
        const [here, there] = [open(), open()]
        const [child, parent] = [freshKey(), freshKey()]
        await warm(here, child)
        const made = await here.getOrCreate(parent, async () => {
          expect((await here.explain(child)).tier).toBe('near')
          const value = await here.get(child)
          await there.invalidateDependencies(dep.id('user', child))
          return `of ${String(value)}`
        })
        expect(made).toBe('of old')
        for (const region of [there, here]) expect(await region.get(parent)).toBe(NO_VALUE)
      })

      it('serves a copy whose entry was evicted from the store, and reads again what was evicted here', async () => {
        const here = open()
        const key = freshKey()
        await warm(here, key)
        expect(await at().admin.del(`users:${key}`)).toBe(1)
        expect(await here.get(key)).toBe('old')

        const small = wrap(store(), json(), near(memory({ maxEntries: 2 }), { maxStaleness: '10m' }))
        const region = keep(makeRegion<string>({ name: 'small', backend: small }))
        const keys = Array.from({ length: 20 }, () => freshKey())
        await region.setMulti(keys.map((one) => [one, one] as const))
        for (let round = 0; round < 2; round++)
          for (const one of keys) expect(await region.get(one)).toBe(one)
      })

      it('freezes the values that it serves', async () => {
        const backend = wrap(store(), json(), near(memory(), { maxStaleness: '10m' }), dependencies())
        const region = makeRegion<{ tags: string[] }>({ name: 'objects', backend })
        const key = freshKey()
        await region.set(key, { tags: ['a'] })
        for (let i = 0; i < 3; i++) {
          const found = await region.get(key)
          if (found === NO_VALUE) throw new Error('Expected a value')
          expect(() => found.tags.push('b')).toThrow(TypeError)
        }
        await region.close()
      })

      it('gives copies of its own where the near store clones', async () => {
        const copies = memory({ copy: 'clone' })
        const backend = wrap(store(), json(), near(copies, { maxStaleness: '10m' }), dependencies())
        const region = makeRegion<{ tags: string[] }>({ name: 'objects', backend })
        const key = freshKey()
        await region.set(key, { tags: ['a'] })
        for (let i = 0; i < 3; i++) {
          const found = await region.get(key)
          if (found === NO_VALUE) throw new Error('Expected a value')
          expect(found).toEqual({ tags: ['a'] })
          found.tags.push('b')
        }
        await region.close()
      })

      it('takes a message of another version for a lost one', async () => {
        const [here, there] = [open(), open()]
        const key = freshKey()
        await warm(here, key)
        for (const message of ['', '{}', '[]', '["a"]', '[1,2,3,4,5]', '\u0000'])
          await at().admin.publish('~corral:near:0', message)
        await there.delete(key)
        await until(() => copyOf(here, key) === undefined)
      })

      it('tells which store a value came from, and how old the proof is', async () => {
        const region = open('10m')
        const key = freshKey()
        const seen: Messages['read'][] = []
        const listen = (message: unknown) => void seen.push(message as Messages['read'])
        subscribe('corral:read', listen)
        try {
          await region.set(key, 'old')
          await region.get(key)
          expect(seen.at(-1)).toMatchObject({ key, result: 'hit', tier: 'far' })
          expect(seen.at(-1)).not.toHaveProperty('proofAge')
          await until(() => copyOf(region, key) === 'old')
          expect(seen.at(-1)).toMatchObject({
            key,
            result: 'hit',
            tier: 'near',
            proofAge: expect.any(Number),
          })
          expect(await region.explain(key)).toMatchObject({
            verdict: 'hit',
            tier: 'near',
            proofAge: expect.any(Number),
          })
          await region.get(freshKey())
          expect(seen.at(-1)).toMatchObject({ result: 'miss' })
          expect(seen.at(-1)).not.toHaveProperty('tier')
          await region.getMulti([key])
          await region.getOrCreate(key, () => 'another')
          const nearHits = seen.filter(({ tier }) => tier === 'near').length
          expect(region.stats()).toMatchObject({ hits: seen.length - 1, nearHits, misses: 1 })
        } finally {
          unsubscribe('corral:read', listen)
        }
      })

      it('says what it cannot promise', () => {
        expect(open().guarantees.limits.join(' ')).toContain('600000 ms')
        expect(open(0).guarantees.limits.join(' ')).not.toContain(' ms')
        expect(open(0).guarantees.limits.join(' ')).toContain('another program')
      })

      it('keeps reads of lent ledgers right, which it does not follow', async () => {
        const lender = store()
        const chain = () =>
          keep(
            makeRegion<string>({
              name: 'lent',
              backend: wrap(
                store(),
                json(),
                near(memory(), { maxStaleness: '10m' }),
                dependencies({ ledger: lender.ledger as NonNullable<typeof lender.ledger> }),
              ),
            }),
          )
        const [here, there] = [chain(), chain()]
        const key = freshKey()
        await here.getOrCreate(key, () => {
          dependsOn(dep.id('user', 1))
          return 'old'
        })
        for (let i = 0; i < 3; i++) expect(await here.get(key)).toBe('old')
        await there.invalidateDependencies(dep.id('user', 1))
        expect(await here.get(key)).toBe(NO_VALUE)
      })
    },
  )

withRedis(
  'a near cache of a user without the right to subscribe or to ask for the server',
  withUser,
  (at) => {
    const restricted = () =>
      at().admin.call('ACL', 'SETUSER', 'app', '+zrangebyscore', '-subscribe', '-publish', '-info')

    it('sees in strong reads, and in reads inside a creator, what no message told', async () => {
      await restricted()
      const [here, there] = [keep(nearRegion(at().open(), '10m')), keep(nearRegion(at().open(), '10m'))]
      const [key, parent] = [freshKey(), freshKey()]
      await warm(here, key)
      await there.set(key, 'new')
      expect(await here.getOrCreate(parent, async () => `of ${String(await here.get(key))}`)).toBe('of new')
      await warm(here, key, 'new')
      await there.set(key, 'newer')
      expect(await here.get(key, { maxStaleness: 0 })).toBe('newer')
    })

    it('serves no copy from before a time that a caller took: what it makes from its reads is stored as of that time', async () => {
      await restricted()
      const [here, there] = [keep(nearRegion(at().open(), '10m')), keep(nearRegion(at().open(), '10m'))]
      const key = freshKey()
      await warm(here, key)
      await there.invalidateDependencies(dep.id('user', key))
      await here.asOf()
      expect(await here.get(key)).toBe(NO_VALUE)
    })

    it('that hears of a later change, and not of those before, drops only the copies that changed', async () => {
      const publishing = (right: string) =>
        at().admin.call('ACL', 'SETUSER', 'app', '+zrangebyscore', '+subscribe', '+info', right)
      await publishing('+publish')
      const [here, there] = [keep(nearRegion(at().open(), '10m')), keep(nearRegion(at().open(), '10m'))]
      const [unheard, heard, kept] = [freshKey(), freshKey(), freshKey()]
      for (const key of [unheard, heard, kept]) await warm(here, key)
      await publishing('-publish')
      await there.delete(unheard)
      expect(copyOf(here, unheard)).toBe('old')
      await publishing('+publish')
      await there.delete(heard)
      // Long before the next question in the background.
      await until(() => copyOf(here, heard) === undefined && copyOf(here, unheard) === undefined, 4_000)
      expect(copyOf(here, kept)).toBe('old')
    })

    it('is proved by questions', async () => {
      await at().admin.call('ACL', 'SETUSER', 'app', '+zrangebyscore', '-subscribe', '-publish', '-info')
      const [here, there] = [keep(nearRegion(at().open(), '1s')), keep(nearRegion(at().open(), '1s'))]
      const key = freshKey()
      await warm(here, key)
      await there.delete(key)
      await until(async () => (await here.get(key)) === NO_VALUE)
    })
  },
)
