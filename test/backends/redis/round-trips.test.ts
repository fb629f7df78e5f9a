import { Redis } from 'ioredis'
import { expect, it } from 'vitest'
import { dependencies } from '../../../proxies/dependencies.js'
import { json } from '../../../proxies/json.js'
import { type Backend, type Bytes, dep, dependsOn, makeRegion, wrap } from '../../../src/index.js'
import { cluster, type Deployment, standalone } from './deployments.js'
import { freshKey, withRedis } from './suite.js'

const users = (backend: Backend<Bytes>) =>
  makeRegion<string>({ name: 'users', backend: wrap(backend, json(), dependencies()) })

/** The commands that clients send while some work runs, in the order of each server. */
async function commandsOf(at: Deployment, work: () => Promise<unknown>): Promise<readonly string[]> {
  const clients = at.servers.map(({ port }) => new Redis({ port }))
  // A client that still connects would be seen by its own monitor.
  await Promise.all(clients.map((client) => client.ping()))
  const monitors = await Promise.all(clients.map((client) => client.monitor()))
  const seen: string[] = []
  const markers = new Set<string>()
  for (const monitor of monitors)
    monitor.on('monitor', (_time: string, args: string[], source: string) => {
      const [name = ''] = args
      if (name === 'echo') markers.add(args[1] as string)
      else if (source !== 'lua') seen.push(name.toLowerCase())
    })
  await work()
  // A monitor has seen all commands before the echo.
  const ends = clients.map((client) => ({ client, marker: freshKey('end') }))
  for (const { client, marker } of ends) await client.echo(marker)
  await expect.poll(() => ends.every(({ marker }) => markers.has(marker))).toBe(true)
  for (const client of [...monitors, ...clients]) client.disconnect()
  return seen.filter((name) => TRIPS.has(name))
}

/** Commands that a caller waits for; the others set up a connection. */
const TRIPS: ReadonlySet<string> = new Set(['get', 'mget', 'evalsha', 'eval', 'wait'])

/** Loads all scripts, opens all connections and lets the process learn its key. */
async function warmUp(region: ReturnType<typeof users>, key: string): Promise<void> {
  await region.getOrCreate(key, () => {
    dependsOn(dep.id('user', key))
    return 'v'
  })
  await region.expire(key)
  await region.delete(key)
}

/** Lets the region learn that its keys are usually absent. */
async function missOften(region: ReturnType<typeof users>): Promise<void> {
  for (let i = 0; i < 12; i++) await region.getOrCreate(freshKey(), () => 'v')
}

withRedis('round trips on a standalone Redis', standalone, (at) => {
  it('are three for a tracked miss: read, acquire, fill', async () => {
    const region = users(at().open())
    await warmUp(region, freshKey())
    const key = freshKey()
    const sent = await commandsOf(at(), () =>
      region.getOrCreate(key, () => {
        dependsOn(dep.id('user', key))
        return 'v'
      }),
    )
    expect(sent).toEqual(['mget', 'evalsha', 'evalsha'])
  })

  it('are one for a hit', async () => {
    const region = users(at().open())
    const key = freshKey()
    await region.getOrCreate(key, () => 'v')
    expect(await commandsOf(at(), () => region.getOrCreate(key, () => 'other'))).toEqual(['mget'])
  })

  it('are two for a tracked miss where keys are usually absent: acquire, fill', async () => {
    const region = users(at().open())
    await warmUp(region, freshKey())
    await missOften(region)
    const key = freshKey()
    const create = () => {
      dependsOn(dep.id('user', key))
      return 'v'
    }
    const calls = () => Promise.all(Array.from({ length: 20 }, () => region.getOrCreate(key, create)))
    expect(await commandsOf(at(), calls)).toEqual(['evalsha', 'evalsha'])
  })

  it('are one for a hit where keys are usually absent', async () => {
    const region = users(at().open())
    const key = freshKey()
    await region.getOrCreate(key, () => 'v')
    await missOften(region)
    const hit = async () => expect(await region.getOrCreate(key, () => 'other')).toBe('v')
    expect(await commandsOf(at(), hit)).toEqual(['evalsha'])
    // One that was in vain costs more than a read, so the next lookup is a read.
    expect(await commandsOf(at(), hit)).toEqual(['mget'])
  })

  it('are two for a soft mark: acquire, write', async () => {
    const region = users(at().open())
    await warmUp(region, freshKey())
    const key = freshKey()
    await region.getOrCreate(key, () => 'v')
    await region.get(key)
    expect(await commandsOf(at(), () => region.expire(key))).toEqual(['evalsha', 'evalsha'])
  })

  it('are three for all callers of a process that join a creation', async () => {
    const region = users(at().open())
    await warmUp(region, freshKey())
    const key = freshKey()
    const sent = await commandsOf(at(), () =>
      Promise.all(Array.from({ length: 20 }, () => region.getOrCreate(key, () => 'v'))),
    )
    expect(sent).toEqual(['mget', 'evalsha', 'evalsha'])
  })
})

withRedis('round trips on a Cluster', cluster, (at) => {
  it('are one to each node for a hit, and a lease brings the entry', async () => {
    const region = users(at().open())
    const key = freshKey()
    await warmUp(region, freshKey())
    await region.getOrCreate(key, () => 'v')
    const sent = await commandsOf(at(), () => region.get(key))
    // The entry, the clock and the stamp of the region, each where its slot is, sent together.
    expect(sent.length).toBeLessThanOrEqual(3)
    expect(sent.every((name) => name === 'get' || name === 'mget')).toBe(true)
    const miss = await commandsOf(at(), () => region.getOrCreate(freshKey(), () => 'v'))
    expect(miss.filter((name) => name === 'evalsha').length).toBeLessThanOrEqual(5)
    // Nothing is read once more between the lease and the fill, except the clock.
    expect(miss.slice(miss.indexOf('evalsha')).filter((name) => name === 'mget')).toEqual([])
  })

  it('begin with the lease where keys are usually absent, and are two for a hit', async () => {
    const region = users(at().open())
    await warmUp(region, freshKey())
    const stored = freshKey()
    await region.getOrCreate(stored, () => 'v')
    await missOften(region)
    const sent = await commandsOf(at(), () => region.getOrCreate(freshKey(), () => 'v'))
    expect(sent[0]).toBe('evalsha')
    // The clock alone is read, after the lease.
    expect(sent.filter((name) => name !== 'evalsha').length).toBeLessThanOrEqual(1)
    const hit = await commandsOf(at(), async () =>
      expect(await region.getOrCreate(stored, () => 'other')).toBe('v'),
    )
    expect(hit.filter((name) => name === 'evalsha')).toHaveLength(1)
  })
})
