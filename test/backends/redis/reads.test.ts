import { Cluster, Redis } from 'ioredis'
import { Cluster as Cluster5, Redis as Redis5 } from 'ioredis5'
import { expect, it } from 'vitest'
import { companion, slotOf, stampKey, valueKey } from '../../../backends/redis/format.js'
import { redis } from '../../../backends/redis/index.js'
import { type Fetched, ReadBatcher } from '../../../backends/redis/reads/read-batcher.js'
import { dependencies } from '../../../proxies/dependencies.js'
import { json } from '../../../proxies/json.js'
import { CorralError, dep, dependsOn, makeRegion, wrap } from '../../../src/index.js'
import { sleep, turn, until } from '../../support/waiting.js'
import { cluster, type Deployment, standalone } from './deployments.js'
import { bytes, freshKey, granted, text, withRedis } from './suite.js'

/** How often the servers were asked each command since the last time. */
async function commands({ servers }: Deployment): Promise<Readonly<Record<string, number>>> {
  const counts: Record<string, number> = {}
  for (const { port } of servers) {
    const node = new Redis({ port })
    for (const [, name, calls] of (await node.info('commandstats')).matchAll(
      /^cmdstat_([^:]+):calls=(\d+)/gm,
    ))
      counts[name as string] = (counts[name as string] ?? 0) + Number(calls)
    await node.config('RESETSTAT')
    node.disconnect()
  }
  return counts
}

withRedis('concurrent reads', standalone, (at) => {
  it('are one MGET, and a lone one is a GET', async () => {
    const backend = at().open()
    const keys = Array.from({ length: 100 }, () => freshKey())
    await backend.setMulti(keys.filter((_, i) => i % 2 === 0).map((key) => [key, bytes(key), {}]))
    await commands(at())
    const found = await Promise.all([...keys, ...keys].map((key) => backend.get(key)))
    expect(found.map(text)).toEqual([...keys, ...keys].map((key, i) => (i % 2 === 0 ? key : undefined)))
    expect(await commands(at())).toMatchObject({ mget: 1 })
    await backend.get(keys[0] as string)
    const lone = await commands(at())
    expect(lone).toMatchObject({ get: 1 })
    expect(lone.mget).toBeUndefined()
  })

  it('of a tracked region ask for entries, clock and stamps at once', async () => {
    const region = makeRegion<number>({
      name: freshKey('region'),
      backend: wrap(at().open(), json(), dependencies()),
    })
    const create = (id: number) => () => {
      dependsOn(dep.id('user', id), dep.tag('all'))
      return id
    }
    const ids = Array.from({ length: 50 }, (_, i) => i)
    for (const id of ids) await region.getOrCreate(`u${id}`, create(id))
    await region.invalidateDependencies(dep.id('user', 999))
    await commands(at())
    expect(await Promise.all(ids.map((id) => region.get(`u${id}`)))).toEqual(ids)
    const asked = await commands(at())
    expect(asked.mget).toBe(1)
    expect(asked.get).toBeUndefined()
  })

  it('leave out stamps while the clock stands still, and never miss that it moved', async () => {
    const [backend, elsewhere] = [at().open(), at().open()]
    const name = freshKey('region')
    const open = (on: typeof backend) =>
      makeRegion<number>({ name, backend: wrap(on, json(), dependencies()) })
    const [region, other] = [open(backend), open(elsewhere)]
    const ids = Array.from({ length: 10 }, (_, i) => i)
    const create = (id: number) => () => {
      dependsOn(dep.id('row', id), dep.tag('all'))
      return id
    }
    for (const id of ids) await region.getOrCreate(`still ${id}`, create(id))
    await other.invalidateDependencies(dep.id('row', 99))
    const all = () => Promise.all(ids.map((id) => region.get(`still ${id}`)))
    const node = at().servers[0]
    /** How many commands read how many keys. */
    const cost = async (work: () => Promise<unknown>) => {
      const watcher = new Redis({ port: node?.port ?? 0 })
      await watcher.config('RESETSTAT')
      await work()
      const stats = await watcher.info('all')
      watcher.disconnect()
      const of = (field: RegExp) => Number(field.exec(stats)?.[1] ?? 0)
      return {
        trips: of(/^cmdstat_mget:calls=(\d+)/m) + of(/^cmdstat_get:calls=(\d+)/m),
        keys: of(/^keyspace_hits:(\d+)/m) + of(/^keyspace_misses:(\d+)/m),
      }
    }
    // Every row has a stamp of its own, and all share those of the tag, of the region, and the clock.
    const whole = 10 + 10 + 3
    expect(await cost(all)).toEqual({ trips: 1, keys: whole })
    for (let i = 0; i < 40; i++) await all()
    expect(await cost(all)).toEqual({ trips: 1, keys: 10 + 1 })
    // An invalidation of another name: one look more, once, and nothing is lost.
    await other.invalidateDependencies(dep.id('row', 98))
    const after = await cost(async () => expect(await all()).toEqual(ids))
    expect(after).toEqual({ trips: 2, keys: 10 + 1 + (whole - 10) })
    expect(await cost(all)).toEqual({ trips: 1, keys: whole })
    for (let i = 0; i < 40; i++) await all()
    await other.invalidateDependencies(dep.id('row', 3))
    expect((await all()).map((found, i) => found === i)).toEqual(ids.map((id) => id !== 3))
    for (let i = 0; i < 40; i++) await all()
    await other.invalidateDependencies(dep.tag('all'), 'soft')
    expect((await all()).map((found) => typeof found)).toEqual(ids.map(() => 'symbol'))
    // A stamp that was evicted is put back by a write whose snapshot still stands, without moving the clock.
    const asOf = await region.asOf()
    await other.invalidateDependencies(dep.id('row', 96))
    const raw = new Redis({ port: node?.port ?? 0 })
    expect(await raw.del(stampKey('~clock', dep.id('row', 5)))).toBe(1)
    raw.disconnect()
    expect(await region.get('still 5')).toBeTypeOf('symbol')
    for (let i = 0; i < 40; i++) await all()
    const dependencies5 = [dep.id('row', 5), dep.tag('all')]
    expect(await region.set('still 5', 5, { dependencies: dependencies5, asOf })).toBe('stored')
    expect(await region.get('still 5')).toBe(5)
    // Where the clock moves all the time, stamps are asked for at once.
    await other.invalidateDependencies(dep.id('row', 97))
    await all()
    for (let i = 0; i < 3; i++) {
      await other.invalidateDependencies(dep.id('row', 97))
      expect(await cost(all)).toEqual({ trips: 1, keys: whole })
    }
  })

  it('send a batch of writes in one pipeline, and delete many by one script', async () => {
    const backend = at().open()
    const keys = Array.from({ length: 100 }, () => freshKey())
    await backend.get('warm')
    await backend.setMulti(keys.map((key) => [key, bytes(key), { ttl: 60_000 }]))
    await commands(at())
    await backend.deleteMulti(keys)
    expect((await commands(at())).evalsha).toBe(1)
  })

  it('poll nothing while they wait for a creation', async () => {
    const [mine, theirs] = [at().open(), at().open()]
    const key = freshKey()
    await theirs.acquire(freshKey(), 1_000)
    await sleep(100)
    const token = await granted(mine, key)
    const { settled } = (await theirs.acquire(key, 10_000)) as { readonly settled: Promise<void> }
    await commands(at())
    await sleep(500)
    expect((await commands(at())).get ?? 0).toBe(0)
    await mine.set(key, bytes('v'), { token })
    await settled
    // Without waiters no message is sent.
    const again = await granted(mine, key)
    await commands(at())
    await mine.set(key, bytes('v'), { token: again })
    expect((await commands(at())).publish).toBeUndefined()
  })
})

withRedis('concurrent reads on a Cluster', cluster, (at) => {
  it('are one command for each slot, and sharded messages wake', async () => {
    const [mine, theirs] = [at().open(), at().open()]
    const keys = Array.from({ length: 40 }, (_, i) => `{tag ${i % 4}} ${freshKey()}`)
    await mine.setMulti(keys.map((key) => [key, bytes(key), {}]))
    await commands(at())
    expect((await Promise.all(keys.map((key) => mine.get(key)))).map(text)).toEqual(keys)
    expect((await commands(at())).mget).toBe(4)
    const key = freshKey()
    const token = await granted(mine, key)
    const { settled } = (await theirs.acquire(key, 10_000)) as { readonly settled: Promise<void> }
    await sleep(200)
    await mine.set(key, bytes('v'), { token })
    await settled
    const { spublish, publish } = await commands(at())
    expect({ spublish, publish }).toEqual({ spublish: 1, publish: undefined })
  })

  it('are one round trip for each node, however many slots', async () => {
    const backend = at().open()
    const keys = Array.from({ length: 90 }, (_, i) => `{slot ${i}} ${freshKey()}`)
    await backend.setMulti(keys.map((key) => [key, bytes(key), {}]))
    const nodes = at().servers.map(({ port }) => new Redis({ port }))
    for (const node of nodes) await node.config('RESETSTAT')
    expect((await Promise.all(keys.map((key) => backend.get(key)))).map(text)).toEqual(keys)
    for (const node of nodes) {
      // The reading of this question is one of them; others of the deployment may ask their own meanwhile.
      const [, reads] = /^total_reads_processed:(\d+)/m.exec(await node.info('stats')) ?? []
      expect(Number(reads)).toBeLessThan(10)
      node.disconnect()
    }
    // A key of a foreign type among them is a miss, and the others are not.
    const foreign = `{slot 3} ${freshKey()}`
    await at().admin.lpush(foreign, 'x')
    const found = await Promise.all([...keys.slice(0, 9), foreign].map((key) => backend.get(key)))
    expect(found.map(text)).toEqual([...keys.slice(0, 9), undefined])
  })

  const nodes = () => [{ host: '127.0.0.1', port: at().servers[1]?.port ?? 0 }]

  it.each<[string, () => Cluster | Cluster5]>([
    ['ioredis 6', () => new Cluster(nodes())],
    ['ioredis 5', () => new Cluster5(nodes())],
    ['ioredis 5 with sharded subscribers', () => new Cluster5(nodes(), { shardedSubscribers: true })],
  ])('work with a client that was passed in: %s', async (_, make) => {
    const client = make()
    const backend = redis(client)
    const other = at().open()
    const keys = Array.from({ length: 20 }, () => freshKey('}odd'))
    await backend.setMulti(keys.map((key) => [key, bytes(key), {}]))
    expect((await other.getMulti(keys)).map(text)).toEqual(keys)
    const token = await granted(backend, keys[0] as string)
    const { settled } = (await other.acquire(keys[0] as string, 10_000)) as {
      readonly settled: Promise<void>
    }
    await backend.release(keys[0] as string, token)
    await settled
    const again = await granted(other, keys[1] as string)
    const waited = (await backend.acquire(keys[1] as string, 10_000)) as { readonly settled: Promise<void> }
    await sleep(200)
    const began = performance.now()
    await other.release(keys[1] as string, again)
    await waited.settled
    expect(performance.now() - began).toBeLessThan(700)
    await backend.close()
    expect(await client.ping()).toBe('PONG')
    client.disconnect()
  })
})

withRedis('a client that was passed in', standalone, (at) => {
  const options = () => ({ port: at().servers[0]?.port ?? 0, db: 3, keyPrefix: 'app:' })

  it.each<[string, () => Redis | Redis5]>([
    ['ioredis 6', () => new Redis(options())],
    ['ioredis 5', () => new Redis5(options())],
  ])('keeps its database and its prefix: %s', async (_, make) => {
    const client = make()
    const backend = redis(client)
    const other = at().open({ connection: { db: 3, keyPrefix: 'app:' } })
    const key = freshKey()
    const region = makeRegion<string>({ name: 'passed', backend: wrap(backend, json(), dependencies()) })
    expect(await region.getOrCreate(key, () => 'v')).toBe('v')
    expect(await client.exists(`passed:${key}`)).toBe(1)
    const token = await granted(other, `${key}'`)
    const { settled } = (await backend.acquire(`${key}'`, 10_000)) as { readonly settled: Promise<void> }
    await sleep(150)
    const began = performance.now()
    await other.set(`${key}'`, bytes('x'), { token })
    await settled
    expect(performance.now() - began).toBeLessThan(700)
    await region.invalidate()
    expect(await region.getOrCreate(key, () => 'w')).toBe('w')
    await region.close()
    expect(await client.ping()).toBe('PONG')
    client.disconnect()
  })
})

withRedis('a Cluster whose slots move', cluster, (at) => {
  it('reads keys of one slot that lie on two nodes', async () => {
    const backend = at().open({ timeout: '3s' })
    const keys = ['{parted}1', '{parted}2']
    await backend.setMulti(keys.map((key) => [key, bytes(key), {}]))
    const slot = slotOf('parted')
    const nodes = (at().admin as Cluster).nodes('master')
    const ids = await Promise.all(nodes.map(async (node) => String(await node.call('CLUSTER', 'MYID'))))
    const owns = await Promise.all(
      nodes.map(async (node) => Number(await node.call('CLUSTER', 'COUNTKEYSINSLOT', slot)) > 0),
    )
    const from = owns.indexOf(true)
    const to = (from + 1) % nodes.length
    const [source, target] = [nodes[from] as Redis, nodes[to] as Redis]
    await target.call('CLUSTER', 'SETSLOT', slot, 'IMPORTING', ids[from] as string)
    await source.call('CLUSTER', 'SETSLOT', slot, 'MIGRATING', ids[to] as string)
    const port = target.options.port ?? 0
    await source.call('MIGRATE', '127.0.0.1', port, '', 0, 5_000, 'KEYS', keys[0] as string)
    for (const beside of [[], Array.from({ length: 20 }, (_, i) => `nothing ${i}`), []]) {
      const found = await Promise.all([...keys, ...beside].map((key) => backend.get(key)))
      expect(found.slice(0, 2).map(text)).toEqual(keys)
    }
    for (const node of [target, source]) await node.call('CLUSTER', 'SETSLOT', slot, 'STABLE')
  })

  it('keeps every promise meanwhile', async () => {
    const [mine, theirs] = [at().open(), at().open()]
    const admin = at().admin as Cluster
    const key = freshKey()
    const slot = slotOf(key)
    const nodes = admin.nodes('master')
    const ids = await Promise.all(nodes.map(async (node) => String(await node.call('CLUSTER', 'MYID'))))
    const owns = await Promise.all(
      nodes.map((node) =>
        node.get(key).then(
          () => true,
          () => false,
        ),
      ),
    )
    const from = owns.indexOf(true)
    const to = (from + 1) % nodes.length
    const [source, target] = [nodes[from] as Redis, nodes[to] as Redis]
    await mine.set(key, bytes('0'), {})
    // Knows where the slots were, and is not told that one of them moves.
    const unaware = at().open()
    const beside: string[] = []
    for (let i = 0; beside.length < 10; i++)
      await source.get(`beside ${i}`).then(
        () => beside.push(`beside ${i}`),
        () => {},
      )
    await unaware.setMulti(beside.map((one) => [one, bytes(one), {}]))
    let going = true
    let rounds = 0
    const round = async () => {
      const token = await granted(mine, key, 5_000, true)
      expect(await mine.set(key, bytes(`${rounds}`), { token })).toBe('stored')
      expect(text(await theirs.get(key))).toBe(`${rounds}`)
      await theirs.delete(key)
      expect(await mine.get(key)).toBeUndefined()
    }
    const work = (async () => {
      while (going)
        try {
          await round()
          rounds++
        } catch (error) {
          // Redis runs no script on keys that lie on two nodes: it says to try again, for as long as that is so.
          if (!CorralError.is(error, 'ERR_TIMEOUT') && !CorralError.is(error, 'ERR_UNAVAILABLE')) throw error
        }
    })()
    work.catch(() => {})
    await target.call('CLUSTER', 'SETSLOT', slot, 'IMPORTING', ids[from] as string)
    await source.call('CLUSTER', 'SETSLOT', slot, 'MIGRATING', ids[to] as string)
    for (let i = 0; i < 20; i++) {
      const found = (await source.call('CLUSTER', 'GETKEYSINSLOT', slot, 100)) as string[]
      if (found.length > 0)
        await source.call(
          'MIGRATE',
          '127.0.0.1',
          target.options.port ?? 0,
          '',
          0,
          5_000,
          'REPLACE',
          'KEYS',
          ...found,
        )
      await sleep(10)
    }
    for (const node of [target, source, ...nodes])
      await node.call('CLUSTER', 'SETSLOT', slot, 'NODE', ids[to] as string)
    const before = rounds
    await Promise.race([until(() => rounds > before + 5), work])
    going = false
    await work
    await mine.set(key, bytes('moved'), {})
    const found = await Promise.all([key, ...beside].map((one) => unaware.get(one)))
    expect(found.map(text)).toEqual(['moved', ...beside])
  })
})

it('names of bookkeeping share the slot of their key, and are never those of another', () => {
  const keys = [
    'a',
    '{a}',
    'x{a}',
    '{a',
    'a}',
    '{}',
    '{}a',
    'a{b}c',
    '{{a}}',
    '}{',
    'a{}b{c}',
    '',
    'é',
    '%7D',
    'a%7Db',
    'a}b',
  ]
  const leases = keys.map((key) => companion('lease', valueKey(key)))
  expect(new Set(leases).size).toBe(keys.length)
  expect(new Set(keys.map(valueKey)).size).toBe(keys.length)
  for (const [i, key] of keys.entries())
    if (key !== '') expect(slotOf(leases[i] as string)).toBe(slotOf(valueKey(key)))
  expect(slotOf('123456789')).toBe(12_739)
  expect(slotOf('{user1000}.following')).toBe(slotOf('user1000'))
})

it('a batch never gives a reply to another key when a part of it fails', async () => {
  const sent: string[][] = []
  const answers: ((replies: readonly Fetched[]) => void)[] = []
  const reads = new ReadBatcher({
    timeout: 1_000,
    maxWaiting: 10,
    maxKeys: 3,
    maxBytes: 1_024 * 1_024,
    fetch: (keys) => {
      sent.push(keys)
      return new Promise((resolve) => answers.push(resolve))
    },
  })
  const asked = ['a', 'b', 'a', 'c', 'd'].map((key) => reads.get(key).then(text, String))
  await turn()
  expect(sent).toEqual([['a', 'b', 'c'], ['d']])
  answers[1]?.([Buffer.from('D')])
  answers[0]?.([Buffer.from('A'), new Error('no B'), null])
  expect(await Promise.all(asked)).toEqual(['A', 'Error: no B', 'A', undefined, 'D'])
  const short = [reads.get('x'), reads.get('y')].map((one) => one.then(text, String))
  await turn()
  answers[2]?.([Buffer.from('X')])
  expect(await Promise.all(short)).toEqual([
    'TypeError: Redis returned 1 values for 2 keys',
    'TypeError: Redis returned 1 values for 2 keys',
  ])
})

const KINDS = [
  ['standalone', standalone, (port: number) => new Redis({ port })],
  ['of a cluster', cluster, (port: number) => new Cluster([{ host: '127.0.0.1', port }])],
  [
    'of a cluster, with sharded subscribers',
    cluster,
    (port: number) => new Cluster5([{ host: '127.0.0.1', port }], { shardedSubscribers: true }),
  ],
] as const

for (const [kind, deployment, connect] of KINDS)
  withRedis(`fifteen backends over one client, ${kind}`, deployment, (at) => {
    it('leave its listeners below the number that Node takes for a leak, and none once they are closed', async () => {
      const client = connect(at().servers[1]?.port ?? at().servers[0]?.port ?? 0)
      const counts = () => client.eventNames().map((event) => client.listenerCount(event))
      await client.ping()
      const before = counts()
      const warnings: Error[] = []
      const onWarning = (warning: Error) => warnings.push(warning)
      process.on('warning', onWarning)
      const backends = Array.from({ length: 15 }, () => redis(client))
      const key = freshKey()
      for (const backend of backends) await backend.release(key, await granted(backend, key))
      const token = await granted(backends[0] as (typeof backends)[number], key)
      const waits = await Promise.all(backends.slice(1).map((backend) => backend.acquire(key, 10_000)))
      await backends[0]?.release(key, token)
      for (const acquired of waits) await (acquired as { readonly settled: Promise<void> }).settled
      await turn()
      process.off('warning', onWarning)
      expect(warnings.filter(({ name }) => name === 'MaxListenersExceededWarning')).toEqual([])
      expect(Math.max(...counts())).toBeLessThan(10)
      for (const backend of backends) await backend.close()
      expect(counts()).toEqual(before)
      client.disconnect()
    })
  })
