import { afterEach, describe, expect, it, vi } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { broadcast } from '../../proxies/broadcast.js'
import { dependencies } from '../../proxies/dependencies.js'
import { msgpack } from '../../proxies/msgpack.js'
import { prefix } from '../../proxies/prefix.js'
import {
  type CachedValue,
  defineBackend,
  delegate,
  dep,
  dependsOn,
  diagnostics,
  makeRegion,
  memoryLedger,
  NO_VALUE,
  type Region,
  type TransparentProxy,
  wrap,
} from '../../src/index.js'
import { bindLedger } from '../../src/ledger/ledger.js'
import { type Bus, type BusListener, type LocalBus, localBus } from '../../src/signals/index.js'
import { proxyContract } from '../../src/testing/index.js'
import { entries } from '../contract/values.js'
import { judge } from '../support/ledgers.js'
import { held, later } from '../support/stage.js'
import { threeMethods } from '../support/three-methods.js'
import { undecodableTotal } from '../support/undecodable.js'
import { deferred, idle } from '../support/waiting.js'

vi.mock(import('../../src/base/timers.js'), async (original) => {
  const { globalTimers } = await import('../support/global-timers.js')
  return globalTimers(await original())
})

proxyContract('broadcast()', (next) => broadcast(localBus(), { name: 'contract' })(next), {
  over: () => memory({ copy: 'clone' }),
  values: entries(),
  runner: { describe, it },
  synchronous: true,
})

const endings: (() => void)[] = []
afterEach(() => {
  for (const end of endings.splice(0)) end()
})

function listenTo<T>(kind: 'failure' | 'notice'): T[] {
  const messages: T[] = []
  const listen = (message: unknown) => void messages.push(message as T)
  diagnostics(kind).subscribe(listen)
  endings.push(() => diagnostics(kind).unsubscribe(listen))
  return messages
}

/** A process, as far as a cache goes: a store of its own that hears of the others'. */
function processOn(
  bus: Bus,
  { name = 'store', below }: { name?: string; below?: TransparentProxy } = {},
): Region<string> {
  const store = below === undefined ? memory() : wrap(memory(), below)
  return makeRegion<string>({
    name: 'users',
    expirationTime: '1h',
    backend: wrap(store, broadcast(bus, { name, timeout: 200 }), dependencies(), prefix('users:')),
  })
}
const two = (bus: Bus) => [processOn(bus), processOn(bus)] as const

/** A bus that shows its messages. */
function tapped(): LocalBus & { readonly said: string[] } {
  const bus = localBus()
  const said: string[] = []
  return { ...bus, said, publish: (message) => (said.push(message), bus.publish(message)) }
}

async function fill(region: Region<string>, key: string, value: string): Promise<void> {
  await region.getOrCreate(key, async () => {
    await idle(1)
    dependsOn(dep.id('user', 5))
    return value
  })
}

describe('soft marks of one key at one moment', () => {
  it('each wait until the other processes were told', async () => {
    const bus = localBus()
    let isHeld = false
    const { promise, resolve } = deferred<void>()
    const slow: Bus = {
      ...bus,
      publish: async (message) => (isHeld && (await promise), bus.publish(message)),
    }
    const [one, other] = two(slow)
    await fill(one, 'key', 'old')
    await fill(other, 'key', 'old')
    isHeld = true
    const acknowledged: number[] = []
    const marks = [1, 2, 3, 4, 5].map(async (n) => {
      await one.expire('key')
      acknowledged.push(n)
    })
    await idle(20)
    expect([other.peek('key'), acknowledged]).toEqual(['old', []])
    resolve()
    await Promise.all(marks)
    expect(other.peek('key')).toBe(NO_VALUE)
    // None of them took the value away from its own process.
    expect(one.peek('key', { ignoreExpiration: true })).toBe('old')
  })

  it('each fail if the other processes could not be told', async () => {
    const bus = localBus()
    let fails = false
    const broken: Bus = {
      ...bus,
      publish: (message) => (fails ? Promise.reject(new Error('no bus')) : bus.publish(message)),
    }
    const [one, other] = two(broken)
    await fill(one, 'key', 'old')
    await fill(other, 'key', 'old')
    fails = true
    const outcomes = await Promise.allSettled([1, 2, 3, 4, 5].map(() => one.expire('key')))
    expect(outcomes.map(({ status }) => status)).toEqual([1, 2, 3, 4, 5].map(() => 'rejected'))
    expect(other.peek('key')).toBe('old')
  })
})

describe('stores of several processes, joined by broadcast()', () => {
  it.each<[string, (region: Region<string>) => Promise<unknown>, 'gone' | 'stale']>([
    ['delete', (r) => r.delete('key'), 'gone'],
    ['deleteMulti', (r) => r.deleteMulti(['else', 'key']), 'gone'],
    ['set', (r) => r.set('key', 'new'), 'gone'],
    ['setMulti', (r) => r.setMulti([['key', 'new']]), 'gone'],
    ['expire', (r) => r.expire('key'), 'gone'],
    ['a dependency', (r) => r.invalidateDependencies(dep.id('user', 5)), 'gone'],
    ['a dependency, soft', (r) => r.invalidateDependencies(dep.id('user', 5), 'soft'), 'stale'],
    ['the region', (r) => r.invalidate(), 'gone'],
    ['the region, soft', (r) => r.invalidate('soft'), 'stale'],
    [
      'a cached function, refreshed',
      (r) =>
        r
          .cacheOnArguments({ functionKeyGenerator: () => () => 'key' })(async () => 'new')
          .refresh(),
      'gone',
    ],
  ])('drop the entries that another one invalidates: %s', async (_, work, expected) => {
    const [one, other] = two(localBus())
    await fill(one, 'key', 'old')
    await fill(other, 'key', 'old')
    expect([one.peek('key'), other.peek('key')]).toEqual(['old', 'old'])
    await work(one)
    expect(other.peek('key')).toBe(NO_VALUE)
    expect(other.peek('key', { ignoreExpiration: true })).toBe(expected === 'stale' ? 'old' : NO_VALUE)
  })

  it('keep the values that they set themselves, and those of other keys', async () => {
    const [one, other] = two(localBus())
    await fill(other, 'else', 'withheld')
    await one.set('key', 'own')
    expect([one.peek('key'), other.peek('else')]).toEqual(['own', 'withheld'])
  })

  it('send no message of a creation, and never a value', async () => {
    const bus = tapped()
    const [one] = two(bus)
    await fill(one, 'key', 'secret')
    await one.getOrCreateMulti(['a', 'b'], () => ['secret', 'secret'])
    await one.get('key')
    expect(bus.said).toEqual([])
    await one.set('key', 'secret')
    await one.set('5', 'secret', { dependencies: [dep.id('user', 5)], asOf: await one.asOf() })
    expect(bus.said).toHaveLength(2)
    expect(bus.said.join()).not.toContain('secret')
  })

  it('void a creation that is under way where the message arrives', async () => {
    for (const invalidate of [
      (r: Region<string>) => r.delete('key'),
      (r: Region<string>) => r.invalidateDependencies(dep.id('user', 5)),
      (r: Region<string>) => r.invalidate(),
    ]) {
      const [one, other] = two(localBus())
      const { create, started, resolve } = held<string>()
      const old = other.getOrCreate('key', async () => {
        const value = await create()
        dependsOn(dep.id('user', 5))
        return value
      })
      await started
      await invalidate(one)
      const fresh = other.getOrCreate('key', () => 'new')
      resolve('old')
      expect(await old).toBe('old')
      expect(await fresh).toBe('new')
      expect(other.peek('key')).toBe('new')
    }
  })

  it('tell stores by their names', async () => {
    const bus = localBus()
    const [one, other] = [processOn(bus, { name: 'a' }), processOn(bus, { name: 'b' })]
    await fill(other, 'key', 'value')
    await one.delete('key')
    expect(other.peek('key')).toBe('value')
  })

  it('work through an encoding, and with several regions over one store', async () => {
    const bus = localBus()
    const chain = () => {
      const store = wrap(memory({ stores: 'bytes' }), msgpack(), broadcast(bus, { name: 's' }))
      const inner = makeRegion<string>({ name: 'inner', backend: wrap(store, dependencies(), prefix('i:')) })
      const outer = makeRegion<string>({ name: 'outer', backend: wrap(store, dependencies(), prefix('o:')) })
      const value = () => outer.getOrCreate('key', () => inner.getOrCreate('part', () => 'old'))
      return { inner, outer, value }
    }
    const [one, other] = [chain(), chain()]
    await one.value()
    await other.value()
    expect(await other.outer.get('key')).toBe('old')
    await one.inner.invalidate()
    // Made from the inner region, the outer value goes with it.
    expect([await other.inner.get('part'), await other.outer.get('key')]).toEqual([NO_VALUE, NO_VALUE])
    await other.value()
    await one.outer.invalidate()
    expect(await other.outer.get('key')).toBe(NO_VALUE)
  })

  it('split long lists of names over several messages', async () => {
    const bus = tapped()
    const [one, other] = two(bus)
    const keys = Array.from({ length: 6_000 }, (_, i) => `key ${i}`)
    await other.setMulti(keys.map((key) => [key, 'old']))
    bus.said.length = 0
    await one.deleteMulti(keys)
    expect(bus.said.length).toBeGreaterThan(1)
    for (const message of bus.said) expect(message.length).toBeLessThan(150_000)
    expect((await other.getMulti(keys)).every((value) => value === NO_VALUE)).toBe(true)
    await other.setMulti(keys.map((key) => [key, 'old']))
    await one.invalidateDependencies([...keys, 'x'.repeat(1_000_000)])
    expect((await other.getMulti(keys)).every((value) => value === 'old')).toBe(true)
  })

  it('do not fill, nor answer, while messages may be lost', async () => {
    const bus = localBus()
    const [one] = two(bus)
    await fill(one, 'key', 'old')
    bus.cut()
    expect(one.peek('key')).toBe(NO_VALUE)
    expect(await one.getMulti(['key'])).toEqual([NO_VALUE])
    let runs = 0
    for (let i = 1; i <= 3; i++) expect(await one.getOrCreate('key', () => `${++runs}`)).toBe(`${i}`)
    expect(await one.getOrCreateMulti(['a', 'b'], (keys) => keys)).toEqual(['a', 'b'])
    bus.mend()
    for (const key of ['key', 'a', 'b']) expect(one.peek(key)).toBe(NO_VALUE)
    await fill(one, 'key', 'new')
    expect(one.peek('key')).toBe('new')
  })

  it.each([Promise.resolve(true), undefined, 1, 'yes'])(
    'take an answer of live() that is none for no: %s',
    async (answer) => {
      const notices = listenTo<{ message: string }>('notice')
      const bus = localBus()
      const vague: Bus = {
        ...bus,
        subscribe: (listener) => ({ ...bus.subscribe(listener), live: () => answer as never }),
      }
      const region = processOn(vague, { name: `vague ${String(answer)}` })
      await fill(region, 'key', 'old')
      expect(await region.get('key')).toBe(NO_VALUE)
      const told = notices.filter(({ message }) => message.includes('live() of a subscription'))
      expect(told).toHaveLength(1)
    },
  )

  it('have dropped everything older when messages arrive again', async () => {
    const bus = localBus()
    const [one] = two(bus)
    await fill(one, 'tracked', 'old')
    await one.set('set', 'old')
    const asOf = await one.asOf()
    const late = held<string>()
    const creation = one.getOrCreate('late', late.create)
    await late.started
    bus.cut()
    const inGap = held<string>()
    const another = one.getOrCreate('in the gap', inGap.create)
    await inGap.started
    const asOfGap = await one.asOf()
    bus.mend()
    const joined = one.getOrCreate('late', () => 'new')
    late.resolve('old')
    inGap.resolve('old')
    expect([await creation, await another, await joined]).toEqual(['old', 'old', 'new'])
    expect(await one.set('as of', 'old', { dependencies: ['x'], asOf })).toBe('refused')
    expect(await one.set('as of', 'old', { dependencies: ['x'], asOf: asOfGap })).toBe('refused')
    for (const key of ['tracked', 'set', 'in the gap', 'as of'])
      expect([key, one.peek(key, { ignoreExpiration: true })]).toEqual([key, NO_VALUE])
    expect(one.peek('late')).toBe('new')
    expect(await one.set('as of', 'new', { dependencies: ['x'], asOf: await one.asOf() })).toBe('stored')
  })

  it('remove, here and elsewhere, the entry that a refused write was to replace', async () => {
    const bus = localBus()
    const [one, other] = two(bus)
    const asOf = await one.asOf()
    bus.cut()
    bus.mend()
    await fill(one, 'key', 'older')
    await fill(other, 'key', 'older')
    expect(await one.set('key', 'newer', { dependencies: ['x'], asOf })).toBe('refused')
    expect([one.peek('key'), other.peek('key')]).toEqual([NO_VALUE, NO_VALUE])
    bus.cut()
    await expect(one.set('key', 'newer')).rejects.toMatchObject({ code: 'ERR_BUS' })
    bus.mend()
  })

  it('share no earlier creation while messages may be lost', async () => {
    const bus = localBus()
    const [one] = two(bus)
    const { create, started, resolve } = held<string>()
    const loading = one.getOrCreate(
      'key',
      async () => {
        dependsOn(dep.id('user', 5))
        return create()
      },
      { shouldCache: () => false },
    )
    await started
    bus.cut()
    // Elsewhere user 5 is invalidated by now, which is not heard here.
    const joined = one.getOrCreate('key', () => 'new')
    resolve('old')
    expect([await loading, await joined]).toEqual(['old', 'new'])
  })

  it('vouch for nothing while messages may be lost', async () => {
    const bus = localBus()
    const { ledger } = wrap(memory(), broadcast(bus, { name: 'store' }))
    if (ledger === undefined) throw new Error('memory() has a ledger')
    const { epoch, at } = await ledger.open('clock').now(['name'])
    const snapshot = { epoch, groups: [{ asOf: at, names: ['name'] }] }
    expect(await judge(ledger, 'clock', snapshot)).toBe('fresh')
    bus.cut()
    expect(await judge(ledger, 'clock', snapshot)).toBe('invalid')
    expect(await ledger.open('clock').read(['name'])).toEqual({ now: undefined, stamps: [undefined] })
    bus.mend()
    expect(await judge(ledger, 'clock', snapshot)).toBe('invalid')
    expect((await ledger.open('clock').read(['name'])).now?.epoch).not.toBe(epoch)
  })

  it('restore no stamps after a cut between a reading and the second question', async () => {
    const bus = localBus()
    const store = memory()
    const { ledger: own } = store
    if (own === undefined) throw new Error('memory() has a ledger')
    const open = (clock: string) => ({ ...bindLedger(own.open(clock)), restore: () => 'fresh' as const })
    const { ledger } = broadcast(bus, { name: 'store' })({ ...store, ledger: { ...own, open } })
    if (ledger === undefined) throw new Error('broadcast() forwards a ledger')
    const opened = ledger.open('clock')
    const { epoch, at } = await opened.now(['name'])
    const snapshot = { epoch, groups: [{ asOf: at, names: ['name'] }] }
    expect(await opened.restore?.(snapshot)).toBe('fresh')
    bus.cut()
    expect(await opened.restore?.(snapshot)).toBe('invalid')
    bus.mend()
    // The missed invalidations are unknown, so an older snapshot stays invalid.
    expect(await opened.restore?.(snapshot)).toBe('invalid')
  })

  it('do the same over a store without a ledger', async () => {
    const bus = localBus()
    const store = () => {
      const map = new Map<string, CachedValue>()
      const plain = defineBackend<CachedValue>(threeMethods(map))
      return { map, region: makeRegion<string>({ backend: wrap(plain, broadcast(bus, { name: 'plain' })) }) }
    }
    const [{ map, region: one }, { region: other }] = [store(), store()]
    await one.set('key', 'old')
    const { create, started, resolve } = held<string>()
    const creation = one.getOrCreate('late', create)
    await started
    bus.cut()
    expect([one.peek('key'), ...(await one.getMulti(['key']))]).toEqual([NO_VALUE, NO_VALUE])
    expect(await one.getOrCreate('in the gap', () => 'made')).toBe('made')
    expect(map.has('in the gap')).toBe(false)
    bus.mend()
    const joined = one.getOrCreate('late', () => 'new')
    resolve('old')
    expect([await creation, await joined]).toEqual(['old', 'new'])
    expect([one.peek('key'), one.peek('late')]).toEqual([NO_VALUE, 'new'])
    // Entries from before the gap are there still, and of no use to any read.
    expect(map.has('key')).toBe(true)
    expect(await one.getMulti(['key', 'late'])).toEqual([NO_VALUE, 'new'])
    await other.delete('late')
    expect(one.peek('late')).toBe(NO_VALUE)
  })

  it('explain the effect of a gap', async () => {
    const bus = localBus()
    const [one] = two(bus)
    const notices = listenTo<{ message: string }>('notice')
    await fill(one, 'key', 'old')
    bus.cut()
    bus.mend()
    expect(await one.explain('key')).toMatchObject({ verdict: 'miss' })
    expect(notices.map(({ message }) => message).join()).toMatch(/is down.*Everything older is dropped/)
  })

  it('begin to store when a bus that was down at the start comes up', async () => {
    const bus = localBus()
    bus.cut()
    const [one, other] = two(bus)
    await fill(one, 'key', 'old')
    expect(one.peek('key')).toBe(NO_VALUE)
    await expect(one.delete('key')).rejects.toMatchObject({ code: 'ERR_BUS' })
    bus.mend()
    await fill(other, 'key', 'old')
    await one.delete('key')
    expect(other.peek('key')).toBe(NO_VALUE)
  })

  it.each<[string, (region: Region<string>) => Promise<unknown>]>([
    ['delete', (r) => r.delete('key')],
    ['deleteMulti', (r) => r.deleteMulti(['key'])],
    ['set', (r) => r.set('key', 'new')],
    ['setMulti', (r) => r.setMulti([['key', 'new']])],
    ['a dependency', (r) => r.invalidateDependencies(dep.id('user', 5))],
    ['the region', (r) => r.invalidate()],
  ])('reject an invalidation that could not be sent, after it was done here: %s', async (_, work) => {
    const cause = new Error('no bus')
    const bus = localBus()
    let broken = false
    const failing: Bus = {
      ...bus,
      publish: (message) => (broken ? Promise.reject(cause) : bus.publish(message)),
    }
    const [one, other] = two(failing)
    await fill(one, 'key', 'old')
    await fill(other, 'key', 'old')
    await fill(other, 'else', 'old')
    broken = true
    await expect(work(one)).rejects.toMatchObject({ code: 'ERR_BUS', cause })
    expect(one.peek('key')).not.toBe('old')
    // The others learn from the next message that one was lost.
    broken = false
    expect(other.peek('key')).toBe('old')
    await one.delete('unrelated')
    expect([other.peek('key'), other.peek('else')]).toEqual([NO_VALUE, NO_VALUE])
  })

  it('reject a message that the bus does not take in time', async () => {
    const bus: Bus = { ...localBus(), publish: () => new Promise(() => {}) }
    const one = processOn(bus)
    await expect(one.delete('key')).rejects.toMatchObject({
      code: 'ERR_BUS',
      message: expect.stringMatching(/within 200 ms/) as string,
    })
  })

  it('take an invalidation that fails here for one that was missed', async () => {
    const bus = localBus()
    const reported = listenTo<{ error: unknown }>('failure')
    const boom = new Error('boom')
    const fail = { delete: () => Promise.reject(boom) }
    const other = processOn(bus, { below: (next) => delegate(next, fail) })
    const one = processOn(bus)
    await fill(other, 'key', 'old')
    await one.delete('key')
    await idle()
    expect(other.peek('key')).toBe(NO_VALUE)
    expect(reported.map(({ error }) => error)).toEqual([boom])
  })

  it('obey over a store that answers later', async () => {
    const bus = localBus()
    const [one, other] = [processOn(bus, { below: later }), processOn(bus, { below: later })]
    await fill(one, 'key', 'old')
    await fill(other, 'key', 'old')
    await one.delete('key')
    await idle()
    expect([await one.get('key'), await other.get('key')]).toEqual([NO_VALUE, NO_VALUE])
    await fill(other, 'key', 'old')
    bus.cut()
    expect(await other.getMulti(['key'])).toEqual([NO_VALUE])
    bus.mend()
    expect(await other.getMulti(['key'])).toEqual([NO_VALUE])
    await fill(other, 'key', 'new')
    expect(await other.get('key')).toBe('new')
    await one.invalidateDependencies(dep.id('user', 5))
    await idle()
    expect(await other.get('key')).toBe(NO_VALUE)
  })

  it('answer at once, in one tick', async () => {
    const one = processOn(localBus())
    await one.set('key', 'value')
    let ticks = 0
    const done = one.get('key').then(() => ticks)
    await Promise.resolve().then(() => ticks++)
    await Promise.resolve().then(() => ticks++)
    expect(await done).toBeLessThanOrEqual(1)
  })

  it('keep values created since a gap, for any messages in it', async () => {
    let now = performance.now()
    const clock = vi.spyOn(performance, 'now').mockImplementation(() => now)
    endings.push(() => clock.mockRestore())
    const bus = localBus()
    let deaf = false
    let ear: BusListener | undefined
    const cutOff: Bus = {
      ...bus,
      subscribe(listener) {
        ear = { ...listener, heard: (message) => void (deaf || listener.heard(message)) }
        return bus.subscribe(ear)
      },
    }
    const [one, newcomer, other] = [processOn(bus), processOn(bus), processOn(cutOff)]
    await one.delete('before')
    now += 10_000
    deaf = true
    await one.delete('in the gap')
    await newcomer.delete('in the gap')
    now += 10_000
    deaf = false
    ear?.up()
    now += 10_000
    await fill(other, 'key', 'value')
    await one.delete('else')
    await newcomer.delete('else')
    expect(other.peek('key')).toBe('value')
  })

  it('renew and give back a lease that was stolen', async () => {
    const store = wrap(memory(), broadcast(localBus(), { name: 'store' }))
    await store.acquire('key', 60_000)
    const { token } = await store.acquire('key', 60_000, { steal: true })
    if (token === undefined) throw new Error('a lease that is stolen is granted')
    expect(await store.renew('key', token, 60_000)).toBe(true)
    expect(await store.release('key', token)).toBe(true)
    expect(await store.held('key')).toBe(false)
  })

  it('no longer listen when closed', async () => {
    const bus = localBus()
    const [one, other] = two(bus)
    let closings = 0
    const counting: Bus = {
      ...bus,
      subscribe(listener) {
        const subscription = bus.subscribe(listener)
        return { ...subscription, close: () => (closings++, subscription.close()) }
      },
    }
    const third = processOn(counting)
    await third.close()
    expect(closings).toBe(1)
    await one.delete('key')
    expect(other.peek('key')).toBe(NO_VALUE)
  })
})

describe('messages from other programs', () => {
  /** Something on the bus that speaks as it likes. */
  function stranger() {
    const bus = localBus()
    const said: string[] = []
    bus.subscribe({ heard: (message) => void said.push(message), up: () => {}, down: () => {} })
    return { bus, said }
  }

  it.each<[string, unknown]>([
    ['no text', 5],
    ['nothing', undefined],
    ['an empty text', ''],
    ['no JSON', '{"corral":1'],
    ['null', 'null'],
    ['a list', '[1,2]'],
    ['somebody else’s message', '{"type":"hello"}'],
    ['a version that is no number', '{"corral":"1","to":"broadcast:store"}'],
    ['a megabyte of noise', 'x'.repeat(1_000_000)],
    ['deeply nested JSON', `${'['.repeat(200_000)}`],
  ])('is ignored, counted and reported: %s', async (_, message) => {
    const { bus } = stranger()
    const one = processOn(bus)
    await one.set('key', 'value')
    const before = undecodableTotal()
    await bus.publish(message as string)
    expect(one.peek('key')).toBe('value')
    expect(undecodableTotal()).toBe(before + 1)
  })

  it.each<[string, object]>([
    ['a later version', { corral: 2, whatever: true }],
    ['no sender', { corral: 1, to: 'broadcast:store', n: 1, body: { do: 'drop', keys: ['a'] } }],
    ['no number', { corral: 1, to: 'broadcast:store', from: 'x', body: { do: 'drop', keys: ['a'] } }],
    ['no body', { corral: 1, to: 'broadcast:store', from: 'x', n: 1 }],
    ['an unknown order', { corral: 1, to: 'broadcast:store', from: 'x', n: 1, body: { do: 'dance' } }],
    [
      'keys that are none',
      { corral: 1, to: 'broadcast:store', from: 'x', n: 1, body: { do: 'drop', keys: [5] } },
    ],
    [
      'a mode that is none',
      {
        corral: 1,
        to: 'broadcast:store',
        from: 'x',
        n: 1,
        body: { do: 'stamp', clock: 'c', names: [], mode: 'x' },
      },
    ],
  ])(
    'but cannot be read may be an invalidation, so that everything older is dropped: %s',
    async (_, message) => {
      const { bus } = stranger()
      const one = processOn(bus)
      await one.set('key', 'value')
      const before = undecodableTotal()
      await bus.publish(JSON.stringify(message))
      expect(one.peek('key')).toBe(NO_VALUE)
      // A later version makes sense to others.
      expect(undecodableTotal() - before).toBe('whatever' in message ? 0 : 1)
      await one.set('key', 'new')
      expect(one.peek('key')).toBe('new')
    },
  )

  it('but says that something could not be said, has everything older dropped', async () => {
    const { bus } = stranger()
    const one = processOn(bus)
    await one.set('key', 'value')
    const message = { corral: 1, to: 'broadcast:store', from: 'x', n: 1, after: 1e9, body: { do: 'nothing' } }
    await bus.publish(JSON.stringify(message))
    expect(one.peek('key')).toBe('value')
    await bus.publish(JSON.stringify({ ...message, n: 2, lost: true }))
    expect(one.peek('key')).toBe(NO_VALUE)
  })

  it('but is for others, is theirs', async () => {
    const { bus } = stranger()
    const one = processOn(bus)
    await one.set('key', 'value')
    await bus.publish(JSON.stringify({ corral: 1, to: 'broadcast:other', from: 'x', n: 1, body: 'nonsense' }))
    expect(one.peek('key')).toBe('value')
  })

  it('cannot reach a prototype', async () => {
    const { bus } = stranger()
    const one = processOn(bus)
    await bus.publish(
      '{"corral":1,"to":"broadcast:store","from":"__proto__","n":1,"body":{"__proto__":{"do":"drop"},"do":"drop","keys":["__proto__"]}}',
    )
    expect(({} as { do?: unknown }).do).toBeUndefined()
    await one.set('__proto__', 'value')
    expect(one.peek('__proto__')).toBe('value')
  })

  it('is taken in any order, and twice', async () => {
    const { bus, said } = stranger()
    const [one, other] = two(bus)
    await one.delete('a')
    await one.delete('b')
    await fill(other, 'key', 'value')
    for (const message of [...said].reverse()) await bus.publish(message)
    expect(other.peek('key')).toBe('value')
    // The next delay is not counted from a message that was late.
    await one.delete('c')
    expect(other.peek('key')).toBe('value')
    // A message in between that never came.
    const last = JSON.parse(said.at(-1) as string) as { n: number }
    await bus.publish(JSON.stringify({ ...last, n: last.n + 2 }))
    expect(other.peek('key')).toBe(NO_VALUE)
  })

  it('makes no difference to its sender', async () => {
    const { bus, said } = stranger()
    const one = processOn(bus)
    await one.delete('key')
    await one.set('key', 'later')
    for (const message of [...said]) await bus.publish(message)
    expect(one.peek('key')).toBe('later')
  })
})

describe('a chain with broadcast()', () => {
  const bus = localBus()

  it('lists the promises that it cannot keep', () => {
    expect(processOn(bus).guarantees.limits.join()).toMatch(
      /one creator at a time in each.*until it has arrived/,
    )
  })

  it.each<[string, () => unknown, string, RegExp]>([
    [
      'bytes',
      () => wrap(memory({ stores: 'bytes' }), broadcast(bus, { name: 's' }) as never),
      'ERR_CHAIN',
      /encoding/,
    ],
    [
      'dependencies() below',
      () => wrap(memory(), dependencies(), broadcast(bus, { name: 's' })),
      'ERR_CHAIN',
      /below dependencies/,
    ],
    [
      'a ledger of this process alone above',
      () => wrap(memory(), broadcast(bus, { name: 's' }), dependencies({ ledger: memoryLedger() })),
      'ERR_CHAIN',
      /would not hear/,
    ],
    [
      'a store that is shared already',
      () =>
        wrap(
          memory(),
          (next) => delegate(next, { ledger: { ...memoryLedger(), shared: true } }),
          broadcast(bus, { name: 's' }),
        ),
      'ERR_CHAIN',
      /shared by processes already/,
    ],
    ['no bus', () => broadcast({} as never, { name: 's' }), 'ERR_OPTION', /redisBus/],
    ['no options', () => broadcast(bus, undefined as never), 'ERR_OPTION', /options/],
    ['no name', () => broadcast(bus, {} as never), 'ERR_OPTION', /`name`/],
    ['an unknown option', () => broadcast(bus, { name: 's', nmae: 1 } as never), 'ERR_OPTION', /`nmae`/],
    ['a timeout of nothing', () => broadcast(bus, { name: 's', timeout: 0 }), 'ERR_OPTION', /timeout/],
    [
      'a region without a name',
      () => makeRegion({ backend: wrap(memory(), broadcast(bus, { name: 's' }), dependencies()) }),
      'ERR_OPTION',
      /needs a name/,
    ],
  ])('is refused over, or with %s', (_, make, code, message) => {
    expect(make).toThrow(message)
    expect(make).toThrow(expect.objectContaining({ code }))
  })

  it('survives listeners of the bus that are called when they should not be', async () => {
    let ear: BusListener | undefined
    const hollow: Bus = {
      publish: () => {},
      subscribe(listener) {
        ear = listener
        return { live: () => true, close: () => {} }
      },
    }
    const one = processOn(hollow)
    const { create, started, resolve } = held<string>()
    const creation = one.getOrCreate('key', create)
    await started
    ear?.up()
    ear?.up()
    ear?.down()
    resolve('old')
    expect(await creation).toBe('old')
    expect(one.peek('key')).toBe(NO_VALUE)
  })
})

describe('a message that could not be sent', () => {
  it('is made up for as soon as the bus takes messages again, without a new invalidation', async () => {
    const bus = localBus()
    let broken = false
    const failing: Bus = {
      ...bus,
      publish: (message) => (broken ? Promise.reject(new Error('no bus')) : bus.publish(message)),
    }
    const [one, other] = two(failing)
    await fill(other, 'key', 'old')
    broken = true
    await expect(one.delete('key')).rejects.toMatchObject({ code: 'ERR_BUS' })
    broken = false
    await vi.waitFor(() => expect(other.peek('key')).toBe(NO_VALUE), 10_000)
    await fill(other, 'key', 'new')
    await one.delete('else')
    expect(other.peek('key')).toBe('new')
  })
})
