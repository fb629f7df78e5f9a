import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Cluster, Redis } from 'ioredis'
import { Redis as Redis5 } from 'ioredis5'
import { afterEach, describe, expect, inject, it } from 'vitest'
import { type RedisBus, type RedisBusOptions, redisBus } from '../../backends/redis/index.js'
import type { BusResumption } from '../../src/signals/index.js'
import { cluster, sentinel, standalone, tls } from '../backends/redis/deployments.js'
import { withRedis } from '../backends/redis/suite.js'
import { faultProxy } from '../support/faultproxy.js'
import { freePort, startRedis } from '../support/servers.js'
import { sleep, until } from '../support/waiting.js'

const unhandled: unknown[] = []
process.on('unhandledRejection', (error) => unhandled.push(error))

const opened: (() => unknown)[] = []
afterEach(async () => {
  for (const close of opened.splice(0).reverse()) await close()
  expect(unhandled).toEqual([])
})

let serial = 0
const freshChannel = () => `bus ${++serial}`

function open(
  where: string | object,
  channel: string,
  options: Omit<RedisBusOptions, 'channel'> = {},
): RedisBus {
  const bus = redisBus(where as string, { channel, ...options })
  opened.push(() => bus.close())
  return bus
}

function using<C extends { disconnect(): void; on(event: 'error', listener: () => void): unknown }>(
  client: C,
): C {
  client.on('error', () => {})
  opened.push(() => client.disconnect())
  return client
}

function ear(bus: RedisBus) {
  const events: string[] = []
  const subscription = bus.subscribe({
    heard: (message) => void events.push(message),
    up: () => void events.push('up'),
    down: () => void events.push('down'),
  })
  return { live: subscription.live, close: subscription.close, events }
}

const quick = { timeout: 500, maxDelay: 200 }

withRedis('a bus over Redis', standalone, (at) => {
  const port = () => at().servers[0]?.port ?? 0
  const url = () => `redis://127.0.0.1:${port()}`
  const proxied = async () => {
    const proxy = await faultProxy({ port: port() })
    opened.push(() => proxy.close())
    return proxy
  }

  it.each<[string, () => string | object]>([
    ['a URL', url],
    ['a client of ioredis 6 with a prefix', () => using(new Redis({ port: port(), keyPrefix: 'app:' }))],
    ['a client of ioredis 5 in another database', () => using(new Redis5({ port: port(), db: 3 }))],
    ['a lazy client', () => using(new Redis({ port: port(), lazyConnect: true }))],
  ])('carries messages to all listeners, with %s', async (_, where) => {
    const channel = freshChannel()
    const [one, other] = [open(where(), channel), open(url(), channel)]
    const ears = [ear(one), ear(other), ear(other)]
    await until(() => ears.every(({ live }) => live()))
    await one.publish('hello')
    await other.publish('Grüße 鍵')
    await until(() => ears.every(({ events }) => events.length === 3))
    for (const { events } of ears) expect(events).toEqual(['up', 'hello', 'Grüße 鍵'])
  })

  it('waits for the messages under way when it is closed, also if it has no connection yet', async () => {
    const channel = freshChannel()
    const { live, events } = ear(open(url(), channel))
    await until(live)
    const bus = open(url(), channel)
    const sent = Promise.all(['a', 'b'].map((message) => bus.publish(message)))
    await bus.close()
    await sent
    await until(() => events.length === 3)
    await expect(bus.publish('c')).rejects.toMatchObject({ code: 'ERR_CLOSED' })
  })

  it('keeps channels apart, and the messages of one process in order', async () => {
    const channel = freshChannel()
    const [bus, stranger] = [open(url(), channel), open(url(), freshChannel())]
    const { live, events } = ear(bus)
    await until(live)
    await stranger.publish('no')
    const texts = Array.from({ length: 500 }, (_, i) => `${i}`)
    await Promise.all(texts.map((text) => bus.publish(text)))
    await until(() => events.length === 501)
    expect(events.slice(1)).toEqual(texts)
  })

  it('says when messages may have been lost, and takes up again', async () => {
    const proxy = await proxied()
    const bus = open(`redis://127.0.0.1:${proxy.port}`, freshChannel(), quick)
    const { live, events } = ear(bus)
    await until(live)
    proxy.reset()
    await until(() => events.length >= 3 && live())
    expect(events).toEqual(['up', 'down', 'up'])
    await bus.publish('again')
    await until(() => events.includes('again'))
  })

  it('tells the messages after a position, and whether some of them are gone', async () => {
    const channel = freshChannel()
    const [one, other] = [open(url(), channel), open(using(new Redis5({ port: port(), db: 3 })), channel)]
    const since = async (position?: string) => (await one.since?.(position)) as BusResumption
    const begin = (await since()).position
    expect(await since(begin)).toEqual({ position: begin, messages: [] })
    const heard: (readonly [string, string | undefined])[] = []
    const { live } = one.subscribe({
      heard: (message, position) => void heard.push([message, position]),
      up() {},
      down() {},
    })
    await until(live)
    await one.publish('a b')
    await other.publish('c')
    await until(() => heard.length === 2)
    const [[, first] = [], [, second] = []] = heard
    expect(await since(begin)).toEqual({ position: second, messages: ['a b', 'c'] })
    expect(await since(first)).toEqual({ position: second, messages: ['c'] })
    expect(await since(second)).toEqual({ position: second, messages: [] })
    for (const position of [undefined, 'sense:less', 'other:1', `${String(first).slice(0, -16)}1`])
      expect((await since(position)).messages).toBeUndefined()
    await Promise.all(Array.from({ length: 1_023 }, (_, i) => other.publish(`${i}`)))
    expect((await since(second)).messages).toHaveLength(1_023)
    for (const gone of [begin, first]) expect((await since(gone)).messages).toBeUndefined()
    await one.publish('x'.repeat(20_000))
    expect((await since(second)).messages).toBeUndefined()
    await until(() => heard.length === 1_026)
    expect(await since(heard.at(-1)?.[1])).toMatchObject({ messages: [] })
    await at().admin.flushall()
    expect((await since(heard.at(-1)?.[1])).messages).toBeUndefined()
  })

  it('does not trust a connection on which nothing comes any more', async () => {
    const proxy = await proxied()
    const bus = open(`redis://127.0.0.1:${proxy.port}`, freshChannel(), quick)
    const { live, events } = ear(bus)
    await until(live)
    proxy.set({ kind: 'blackhole' })
    const began = performance.now()
    await until(() => !live())
    expect(performance.now() - began).toBeLessThan(5_000)
    await expect(bus.publish('lost')).rejects.toMatchObject({ code: 'ERR_TIMEOUT' })
    await until(() => events.includes('down'))
    proxy.set({ kind: 'none' })
    await until(live)
    expect(events).toEqual(['up', 'down', 'up'])
  })

  it('lives through a frozen server without a gap, but not without a doubt', async () => {
    const server = await startRedis()
    opened.push(() => server.stop())
    const bus = open(`redis://127.0.0.1:${server.port}`, freshChannel(), { timeout: 20_000, maxDelay: 200 })
    const { live, events } = ear(bus)
    await until(live)
    await server.kill('SIGSTOP')
    await until(() => !live())
    const late = bus.publish('late')
    await server.kill('SIGCONT')
    await late
    await until(() => live() && events.includes('late'))
    expect(events).toEqual(['up', 'late'])
  })

  it('comes back with a server that was killed', async () => {
    const server = await startRedis()
    const bus = open(`redis://127.0.0.1:${server.port}`, freshChannel(), quick)
    const { live, events } = ear(bus)
    await until(live)
    await server.kill('SIGKILL')
    await until(() => !live())
    await expect(bus.publish('lost')).rejects.toMatchObject({
      code: expect.stringMatching(/ERR_TIMEOUT|ERR_UNAVAILABLE/) as string,
    })
    const again = await startRedis({ port: server.port })
    opened.push(() => again.stop())
    await until(live)
    await bus.publish('back')
    await until(() => events.includes('back'))
    expect(events).toEqual(['up', 'down', 'up', 'back'])
  })

  it('waits for a server that is not there yet', async () => {
    const later = await freePort()
    const bus = open(`redis://127.0.0.1:${later}`, freshChannel(), quick)
    const { live, events } = ear(bus)
    await expect(bus.publish('early')).rejects.toMatchObject({ code: 'ERR_TIMEOUT' })
    expect([live(), events]).toEqual([false, []])
    const server = await startRedis({ port: later })
    opened.push(() => server.stop())
    await until(live)
    expect(events).toEqual(['up'])
  })

  it('closes the connections that it opened, and leaves a client alone', async () => {
    const client = using(new Redis({ port: port() }))
    const connections = async () =>
      String(await at().admin.client('LIST'))
        .split('\n')
        .filter((line) => line.includes('sub=1')).length
    const before = await connections()
    const bus = redisBus(client as never, { channel: freshChannel() })
    const [one, other] = [ear(bus), ear(bus)]
    await until(() => one.live() && other.live())
    expect(await connections()).toBe(before + 2)
    await one.close()
    await until(async () => (await connections()) === before + 1)
    await bus.close()
    await until(async () => (await connections()) === before)
    expect([one.live(), other.live(), client.status]).toEqual([false, false, 'ready'])
    await expect(bus.publish('late')).rejects.toMatchObject({ code: 'ERR_CLOSED' })
  })

  it('is closed before it ever was connected', async () => {
    const bus = open(`redis://127.0.0.1:${await freePort()}`, freshChannel(), quick)
    ear(bus)
    await bus.close()
    await sleep(20)
  })
})

withRedis('a bus over TLS', tls, (at) => {
  it('listens as its client talks', async () => {
    const { connection } = at().where
    const client = using(
      new Redis(at().servers[0]?.port ?? 0, 'localhost', { tls: connection?.tls as object }),
    )
    const bus = open(client, freshChannel())
    const { live, events } = ear(bus)
    await until(live)
    await bus.publish('hidden')
    await until(() => events.includes('hidden'))
  })
})

withRedis('a bus behind Sentinel', sentinel, (at) => {
  it('finds its primary', async () => {
    const client = using(new Redis(at().where.connection as object))
    const bus = open(client, freshChannel())
    const { live, events } = ear(bus)
    await until(live)
    await bus.publish('found')
    await until(() => events.includes('found'))
  })
})

withRedis(
  'a bus over a Cluster',
  () => cluster({ masters: 3 }),
  (at) => {
    const connect = (lazyConnect = false) =>
      using(
        new Cluster(
          at().servers.map(({ port }) => ({ host: '127.0.0.1', port })),
          { lazyConnect },
        ),
      )

    it('carries messages from any node to any, and moves on when its node goes', async () => {
      const channel = freshChannel()
      const buses = [connect(), connect(true), connect()].map((client) => open(client, channel, quick))
      const ears = buses.map(ear)
      await until(() => ears.every(({ live }) => live()))
      const texts = buses.map((_, i) => `from ${i}`)
      // A busy machine may be late with a sign of life: then a subscription begins anew, and says so.
      await until(async () => {
        await Promise.all(buses.map((bus, i) => bus.publish(texts[i] as string)))
        return ears.every(({ events }) => texts.every((text) => events.includes(text)))
      })
      for (const { events } of ears) expect([...new Set(events)].sort()).toEqual([...texts, 'up'])
      await at().servers[0]?.kill('SIGKILL')
      await until(() => ears.every(({ live }) => live()))
      await until(async () => {
        await buses[0]?.publish('after')
        return ears.every(({ events }) => events.includes('after'))
      })
    })
  },
)

describe('redisBus()', () => {
  it.each<[string, unknown, unknown, RegExp]>([
    ['no address', undefined, { channel: 'c' }, /URL/],
    ['another kind of URL', 'http://localhost', { channel: 'c' }, /'http:'/],
    ['what is no client', { publish() {} }, { channel: 'c' }, /client of ioredis/],
    ['no options', 'redis://localhost', undefined, /`channel`/],
    ['no channel', 'redis://localhost', {}, /`channel`/],
    ['an unknown option', 'redis://localhost', { channel: 'c', chanel: 1 }, /`chanel`/],
    ['a timeout of nothing', 'redis://localhost', { channel: 'c', timeout: 0 }, /timeout/],
    [
      'a delay without end',
      'redis://localhost',
      { channel: 'c', maxDelay: Number.POSITIVE_INFINITY },
      /maxDelay/,
    ],
    ['a delay of an age', 'redis://localhost', { channel: 'c', maxDelay: 1e18 }, /maxDelay/],
  ])('refuses %s', (_, where, options, message) => {
    const make = () => redisBus(where as never, options as never)
    expect(make).toThrow(message)
    expect(make).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }))
  })
})

describe('a bus over a Redis that lost messages', () => {
  it.skipIf(inject('servers').redis === null)('does not call later ones complete', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'bus-'))
    opened.push(() => rmSync(dir, { recursive: true, force: true }))
    const port = await freePort()
    const first = await startRedis({ port, dir })
    opened.push(() => first.stop())
    const bus = open(`redis://127.0.0.1:${port}`, freshChannel())
    await bus.publish('kept')
    const before = await bus.since?.(undefined)
    expect(await bus.since?.(before?.position)).toMatchObject({ messages: [] })
    const client = using(new Redis(port))
    await client.save()
    // Acknowledged, and heard by every subscriber but the one that asks below. The server forgets it.
    await bus.publish('lost')
    await first.kill('SIGKILL')
    const again = await startRedis({ port, dir })
    opened.push(() => again.stop())
    await until(async () => (await client.ping().catch(() => '')) === 'PONG')
    expect(await client.keys('*')).not.toEqual([])
    let found: BusResumption | undefined
    await until(async () => {
      found = await Promise.resolve(bus.since?.(before?.position)).catch(() => undefined)
      return found !== undefined
    })
    expect(found?.messages).toBeUndefined()
    expect(await bus.since?.(found?.position)).toMatchObject({ messages: [] })
  })
})
