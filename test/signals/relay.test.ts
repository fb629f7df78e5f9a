import { afterEach, describe, expect, it, vi } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { broadcast } from '../../proxies/broadcast.js'
import { dependencies } from '../../proxies/dependencies.js'
import {
  delegate,
  dep,
  diagnostics,
  makeRegion,
  type Region,
  type RegionEvents,
  wrap,
} from '../../src/index.js'
import { link } from '../../src/signals/bus-link.js'
import { type Bus, type BusListener, broker, localBus, relay } from '../../src/signals/index.js'
import { deferred, idle, sleep } from '../support/waiting.js'

vi.mock(import('../../src/base/timers.js'), async (original) => {
  const { globalTimers } = await import('../support/global-timers.js')
  return globalTimers(await original())
})

const endings: (() => void)[] = []
afterEach(async () => {
  for (const end of endings.splice(0)) end()
})

function failures(): unknown[] {
  const messages: unknown[] = []
  const listen = (message: unknown) => void messages.push((message as { error: unknown }).error)
  diagnostics('failure').subscribe(listen)
  endings.push(() => diagnostics('failure').unsubscribe(listen))
  return messages
}

const users = () => makeRegion<string>({ name: 'users', backend: wrap(memory(), dependencies()) })

function told(region: Region<string>): [keyof RegionEvents, unknown][] {
  const events: [keyof RegionEvents, unknown][] = []
  for (const event of ['invalidating', 'invalidate', 'invalidate-failed', 'missed'] as const)
    region.on(event, (detail) => void events.push([event, detail]))
  return events
}

/** The same region in two processes, on one bus. */
function pair(bus: Bus = localBus()) {
  const [one, other] = [users(), users()]
  const relays = [relay(bus, [one]), relay(bus, [other])] as const
  return { one, other, relays, events: told(other) }
}

describe('relay()', () => {
  it('does not tell a local event once more as remote, where two relays of an object stand on one bus', async () => {
    const bus = localBus()
    const { one, events } = pair(bus)
    const own = told(one)
    const pages = broker<{ id: number }>('page', { regions: [one], id: ({ id }) => id })
    const changes: string[] = []
    pages.on('change', ({ origin }) => void changes.push(origin))
    relay(bus, [one])
    relay(bus, [pages])
    relay(bus, [pages])
    await one.delete('key')
    await pages.invalidate({ id: 5 })
    const origins = (heard: typeof own) => heard.map(([, event]) => (event as { origin?: string }).origin)
    expect(origins(own.filter(([event]) => event === 'invalidate'))).toEqual(['local', 'local'])
    expect(changes).toEqual(['local'])
    expect(new Set(origins(events))).toEqual(new Set(['remote']))
  })

  it('brings invalidations of one process to the listeners in another, with reason and metadata', async () => {
    const { one, events } = pair()
    const own = told(one)
    await one.invalidateDependencies(dep.id('user', 5), 'soft', { reason: 'saved', meta: { by: [7, null] } })
    await one.delete('key')
    await one.invalidate()
    expect(events).toEqual([
      [
        'invalidate',
        {
          ...{ region: 'users', what: 'dependencies', names: ['id:user:5'], mode: 'soft' },
          ...{ reason: 'saved', meta: { by: [7, null] }, origin: 'remote' },
        },
      ],
      ['invalidate', { region: 'users', what: 'key', names: ['key'], mode: 'hard', origin: 'remote' }],
      [
        'invalidate',
        { region: 'users', what: 'region', names: ['region:users'], mode: 'hard', origin: 'remote' },
      ],
    ])
    // Each once: nothing comes back.
    expect(own.filter(([event]) => event === 'invalidate')).toHaveLength(3)
  })

  it('sends after the invalidation is acknowledged, and nothing of one that failed', async () => {
    const bus = localBus()
    const gate = deferred()
    let fail = false
    const slow = makeRegion<string>({
      name: 'users',
      backend: wrap(memory(), (next) =>
        delegate(next, {
          delete: async (key) => {
            await gate.promise
            if (fail) throw new Error('boom')
            return next.delete(key)
          },
        }),
      ),
    })
    relay(bus, [slow])
    const other = users()
    relay(bus, [other])
    const events = told(other)
    const done = slow.delete('key')
    await idle()
    expect(events).toEqual([])
    gate.resolve()
    await done
    expect(events).toHaveLength(1)
    fail = true
    await expect(slow.delete('key')).rejects.toMatchObject({ code: 'ERR_BACKEND' })
    expect(events).toHaveLength(1)
  })

  it('sends no values, and invalidates nothing by itself', async () => {
    const bus = localBus()
    const said: string[] = []
    bus.subscribe({ heard: (message) => void said.push(message), up() {}, down() {} })
    const { one, other } = pair(bus)
    await one.set('key', 'secret')
    await other.set('key', 'secret')
    await one.delete('key')
    expect(said).toHaveLength(1)
    expect(said[0]).not.toContain('secret')
    expect(other.peek('key')).toBe('secret')
  })

  it('goes together with broadcast(), on one bus', async () => {
    const bus = localBus()
    const make = () => {
      const region = makeRegion<string>({
        name: 'users',
        backend: wrap(memory(), broadcast(bus, { name: 's' }), dependencies()),
      })
      relay(bus, [region])
      return region
    }
    const [one, other] = [make(), make()]
    await other.set('key', 'old')
    let seen: unknown
    other.on('invalidate', () => (seen = other.peek('key')))
    await one.delete('key')
    expect(typeof seen).toBe('symbol')
  })

  it('sends long lists of names in several messages', async () => {
    const { one, events } = pair()
    const keys = Array.from({ length: 30_000 }, (_, i) => `key ${i}`)
    await one.deleteMulti(keys)
    expect(events.length).toBeGreaterThan(1)
    expect(events.flatMap(([, detail]) => (detail as { names: string[] }).names)).toEqual(keys)
  })

  it.each<[string, unknown, string]>([
    [
      'a circle',
      (() => {
        const o: { o?: unknown } = {}
        o.o = o
        return o
      })(),
      'ERR_UNENCODABLE',
    ],
    ['a bigint', { id: 5n }, 'ERR_UNENCODABLE'],
    [
      'something that throws',
      {
        toJSON() {
          throw new Error('no')
        },
      },
      'ERR_UNENCODABLE',
    ],
    ['a megabyte', 'x'.repeat(1_000_000), 'ERR_VALUE_TOO_LARGE'],
  ])('refuses metadata that cannot travel before anything is done: %s', async (_, meta, code) => {
    const { one, events } = pair()
    await one.set('key', 'value')
    const own = told(one)
    for (const work of [
      () => one.delete('key', { meta }),
      () => one.invalidate('hard', { meta }),
      () => one.expire('key', { meta }),
    ])
      await expect(work()).rejects.toMatchObject({ code })
    expect(one.peek('key')).toBe('value')
    expect([events, own]).toEqual([[], []])
  })

  it('brings a megabyte of metadata when told to', async () => {
    const bus = localBus()
    const [one, other] = [users(), users()]
    relay(bus, [one], { maxMeta: 2_000_000 })
    relay(bus, [other])
    const events = told(other)
    await one.delete('key', { meta: 'x'.repeat(1_000_000) })
    expect(events).toMatchObject([['invalidate', { meta: 'x'.repeat(1_000_000) }]])
  })

  it('lets any metadata pass where nothing is relayed', async () => {
    const region = users()
    const { one, relays } = pair()
    const meta = { circle: {} as unknown, big: 5n }
    meta.circle = meta
    const events = told(region)
    await region.delete('key', { meta })
    expect(events[1]).toMatchObject(['invalidate', { meta: { big: 5n } }])
    await relays[0].close()
    await one.delete('key', { meta })
  })

  it('sends the names also when the metadata was spoilt on the way', async () => {
    const { one, events } = pair()
    const reported = failures()
    // An instance of a class is not copied at the call.
    const meta = new (class {
      id: unknown = 1
    })()
    one.on('invalidating', () => (meta.id = 5n))
    await one.delete('key', { meta })
    expect(events).toEqual([
      ['invalidate', { region: 'users', what: 'key', names: ['key'], mode: 'hard', origin: 'remote' }],
    ])
    expect(reported).toMatchObject([{ code: 'ERR_UNENCODABLE' }])
  })

  it('reports a message that it could not send, without failing the invalidation', async () => {
    const bus = localBus()
    const { one, other, events } = pair(bus)
    const reported = failures()
    bus.cut()
    await one.delete('key')
    expect(reported).toMatchObject([{ code: 'ERR_BUS' }])
    expect(events).toEqual([])
    bus.mend()
    expect(events).toEqual([['missed', { of: 'users', why: 'the subscription was restored' }]])
    await other.delete('key')
  })

  it('tells that messages were lost in silence', async () => {
    const bus = localBus()
    let lose = false
    const lossy: Bus = { ...bus, publish: (message) => (lose ? undefined : bus.publish(message)) }
    const { one, events } = pair(lossy)
    await one.delete('a')
    lose = true
    await one.delete('b')
    await one.delete('c')
    lose = false
    await one.delete('d')
    expect(events).toMatchObject([
      ['invalidate', { names: ['a'] }],
      ['missed', { why: '2 messages of another process were lost' }],
      ['invalidate', { names: ['d'] }],
    ])
  })

  it('tells that the very first messages were lost, but not of those before its time', async () => {
    const bus = localBus()
    let lose = true
    const lossy: Bus = { ...bus, publish: (message) => (lose ? undefined : bus.publish(message)) }
    const { one, events } = pair(lossy)
    await one.delete('a')
    lose = false
    await one.delete('b')
    expect(events).toMatchObject([
      ['missed', { why: '1 messages of another process were lost' }],
      ['invalidate', { names: ['b'] }],
    ])
    let now = performance.now() + 10_000
    const clock = vi.spyOn(performance, 'now').mockImplementation(() => now)
    endings.push(() => clock.mockRestore())
    const newcomer = users()
    relay(lossy, [newcomer])
    const heard = told(newcomer)
    now += 5_000
    await one.delete('c')
    expect(heard).toMatchObject([['invalidate', { names: ['c'] }]])
  })

  it('waits for a bus as long as it is told, also for longer than timers can', async () => {
    const bus = localBus()
    const region = makeRegion<string>({
      name: 'users',
      backend: wrap(
        memory(),
        broadcast(
          {
            ...bus,
            publish: async (message) => (await sleep(50), bus.publish(message)),
          },
          { name: 'users', timeout: '30d' },
        ),
      ),
    })
    await region.delete('key')
  })

  it('is not stopped by a listener that fails, in this process or another', async () => {
    const { one, other, events } = pair()
    const reported = failures()
    const boom = new Error('boom')
    for (const region of [one, other])
      region.on('invalidate', () => {
        throw boom
      })
    await one.delete('a')
    await one.delete('b')
    expect(events).toHaveLength(2)
    expect(reported).toEqual([boom, boom, boom, boom])
  })

  it('ignores regions that are not here, and events that are none', async () => {
    const bus = localBus()
    const { events } = pair(bus)
    const say = (of: unknown, event: unknown, n: number) =>
      bus.publish(JSON.stringify({ corral: 1, to: 'signals', from: 'x', n, body: { of, event } }))
    const good = { region: 'users', what: 'key', mode: 'hard', names: ['k'] }
    await say('region:others', { ...good, region: 'others' }, 1)
    expect(events).toEqual([])
    await say('region:users', good, 2)
    for (const [i, bad] of [
      { ...good, names: 'k' },
      { ...good, names: [1] },
      { ...good, what: 'all' },
      { ...good, mode: 'wet' },
      { ...good, region: 'others' },
      { ...good, reason: {} },
      [],
      null,
    ].entries())
      await say('region:users', bad, 3 + i)
    expect(events.map(([event]) => event)).toEqual(['invalidate', ...Array<string>(8).fill('missed')])
  })

  it('marks an invalidation from elsewhere as remote, for every `origin`, and does not pass it on', async () => {
    const bus = localBus()
    const said: string[] = []
    const { events } = pair({ ...bus, publish: (message) => (said.push(message), bus.publish(message)) })
    const event = { region: 'users', what: 'key', mode: 'hard', names: ['k'], origin: 'local' }
    await bus.publish(
      JSON.stringify({ corral: 1, to: 'signals', from: 'x', n: 1, body: { of: 'region:users', event } }),
    )
    expect(events).toMatchObject([['invalidate', { names: ['k'], origin: 'remote' }]])
    expect(said).toEqual([])
  })

  it('keeps failures of a listener from the bus, and from the sender', async () => {
    const bus = localBus()
    const reported = failures()
    const boom = new Error('boom')
    const fails = () => {
      throw boom
    }
    link({ bus, address: 'signals', timeout: 1_000, onMessage: fails, onGap: fails })
    const { one, events } = pair(bus)
    await one.delete('key')
    expect(events).toHaveLength(1)
    expect(reported).toEqual([boom])
    bus.cut()
    bus.mend()
    expect(reported).toEqual([boom, boom])
  })

  it('ends when closed, also over a bus that goes on, and owes nothing any more', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    endings.push(() => vi.useRealTimers())
    let sent = 0
    let ear: BusListener | undefined
    const bus: Bus = {
      publish() {
        sent++
        throw new Error('no bus')
      },
      subscribe(listener) {
        ear = listener
        listener.up()
        return { live: () => true, close: () => {} }
      },
    }
    const region = users()
    const relayed = relay(bus, [region])
    expect(relayed.live).toBe(true)
    failures()
    await region.delete('key')
    expect(sent).toBe(1)
    await vi.advanceTimersByTimeAsync(1_000)
    // It tries to say at least that something was lost.
    expect(sent).toBe(2)
    await relayed.close()
    await vi.advanceTimersByTimeAsync(60_000)
    expect(sent).toBe(2)
    expect(relayed.live).toBe(false)
    ear?.down()
  })

  it.each<[string, (bus: Bus) => { region: Region<string>; close: () => Promise<void> }]>([
    [
      'a relay',
      (bus) => {
        const region = users()
        return { region, close: relay(bus, [region]).close }
      },
    ],
    [
      'a region behind broadcast()',
      (bus) => {
        const region = makeRegion<string>({
          name: 'users',
          backend: wrap(memory(), broadcast(bus, { name: 'users' })),
        })
        return { region, close: () => region.close() }
      },
    ],
  ])('waits for its messages under way when it is closed: %s', async (_, open) => {
    const bus = localBus()
    const taken = deferred<void>()
    const slow: Bus = { ...bus, publish: (message) => taken.promise.then(() => bus.publish(message)) }
    const reported = failures()
    const { region, close } = open(slow)
    let closed = false
    const deleted = region.delete('key')
    await idle()
    const closing = close().then(() => void (closed = true))
    await idle()
    expect(closed).toBe(false)
    taken.resolve()
    await Promise.all([deleted, closing])
    expect(reported).toEqual([])
  })

  it('reports an outage of the bus once, and the next one again', async () => {
    const bus = localBus()
    const { one } = pair(bus)
    const reported = failures()
    for (const _ of [1, 2]) {
      bus.cut()
      for (const key of ['a', 'b', 'c']) await one.delete(key)
      bus.mend()
      await one.delete('d')
    }
    expect(reported).toMatchObject([{ code: 'ERR_BUS' }, { code: 'ERR_BUS' }])
  })

  it('ends when closed', async () => {
    const { one, relays, events } = pair()
    expect(relays[0].live).toBe(true)
    await relays[0].close()
    expect(relays[0].live).toBe(false)
    await one.delete('key')
    expect(events).toEqual([])
  })

  it.each<[string, () => unknown, RegExp]>([
    ['no bus', () => relay({} as never, [users()]), /to receive a bus/],
    ['no sources', () => relay(localBus(), []), /list of regions and brokers/],
    [
      'a region that is not in a list',
      () => relay(localBus(), users() as never),
      /list of regions and brokers/,
    ],
    // biome-ignore lint/suspicious/noSparseArray: the test needs a hole
    ['a list with a hole', () => relay(localBus(), [, users()] as never), /to list regions and brokers/],
    ['two of one name', () => relay(localBus(), [users(), users()]), /different names/],
    ['what is no source', () => relay(localBus(), [{}]), /list regions and brokers/],
    ['null', () => relay(localBus(), [null as never]), /list regions and brokers/],
    ['a region without a name', () => relay(localBus(), [makeRegion()]), /to have names/],
    ['an unknown option', () => relay(localBus(), [users()], { max: 1 } as never), /`max`/],
    ['a limit of nothing', () => relay(localBus(), [users()], { maxMeta: 0 }), /`maxMeta`/],
  ])('refuses %s', (_, make, message) => {
    expect(make).toThrow(message)
    expect(make).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }))
  })

  it('brings the changes of brokers too', async () => {
    const bus = localBus()
    const make = () => {
      const region = users()
      const people = broker<{ id: number }>('user', { regions: [region], id: ({ id }) => id })
      relay(bus, [people])
      return people
    }
    const [one, other] = [make(), make()]
    const heard: unknown[] = []
    other.on('change', (change) => heard.push(change))
    await one.apply({ id: 5 }, () => 'saved', { reason: 'form', meta: { by: 1 } })
    expect(heard).toEqual([
      {
        broker: 'user',
        action: 'apply',
        names: ['id:user:5'],
        reason: 'form',
        meta: { by: 1 },
        origin: 'remote',
      },
    ])
    let ran = false
    await expect(one.apply({ id: 5 }, () => (ran = true), { meta: 5n })).rejects.toMatchObject({
      code: 'ERR_UNENCODABLE',
    })
    expect(ran).toBe(false)
  })

  it('brings reason and metadata as they were at the call', async () => {
    const bus = localBus()
    const [here, there] = [users(), users()]
    for (const region of [here, there]) relay(bus, [region])
    const heard: unknown[] = []
    there.on('invalidate', ({ reason, meta }) => heard.push([reason, meta]))
    here.on('invalidating', ({ meta }) => {
      expect(() => Object.assign((meta as { by: object }).by, { admin: 9 })).toThrow(TypeError)
    })
    const at = new Date(5)
    const cause = { reason: 'moved', meta: { by: { admin: 7 }, list: [1], at } }
    const done = here.delete('k', cause)
    cause.reason = 'changed'
    cause.meta.by.admin = 8
    cause.meta.list.push(2)
    at.setTime(9)
    await done
    await idle(3)
    expect(heard).toEqual([['moved', { by: { admin: 7 }, list: [1], at: new Date(5).toISOString() }]])
  })
})
