/** A bus that keeps its messages: a cut costs what changed, and nothing else. */
import { Redis } from 'ioredis'
import { afterEach, expect, inject, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { redisBus } from '../../backends/redis/index.js'
import { broadcast } from '../../proxies/broadcast.js'
import { dependencies } from '../../proxies/dependencies.js'
import { makeRegion, NO_VALUE, type Region, wrap } from '../../src/index.js'
import { type Bus, type BusListener, type BusResumption, localBus, relay } from '../../src/signals/index.js'
import { standalone } from '../backends/redis/deployments.js'
import { withRedis } from '../backends/redis/suite.js'
import { faultProxy } from '../support/faultproxy.js'
import { startRedis } from '../support/servers.js'
import { type Deferred, deferred, idle, until } from '../support/waiting.js'

const opened: (() => unknown)[] = []
afterEach(async () => {
  for (const close of opened.splice(0).reverse()) await close()
})

function regionOn(bus: Bus): Region<string> {
  const backend = wrap(memory(), broadcast(bus, { name: 'texts' }), dependencies())
  const region = makeRegion<string>({ name: 'texts', expirationTime: '1h', backend })
  opened.push(() => region.close())
  return region
}

/** A bus whose questions are answered by hand. */
function byHand() {
  const kept: string[] = []
  const listeners = new Set<BusListener>()
  const questions: (Deferred<BusResumption> & { readonly from: string | undefined })[] = []
  let isUp = true
  const resumption = (from: string | undefined): BusResumption => ({
    position: `${kept.length}`,
    messages: from === undefined ? undefined : kept.slice(Number(from)),
  })
  const bus: Bus = {
    publish(message) {
      kept.push(message)
      if (isUp) for (const one of listeners) one.heard(message, `${kept.length}`)
    },
    subscribe(listener) {
      listeners.add(listener)
      listener.up()
      return { live: () => isUp, close: () => void listeners.delete(listener) }
    },
    since(from) {
      const question = Object.assign(deferred<BusResumption>(), { from })
      questions.push(question)
      return question.promise
    },
  }
  const turnTo = (up: boolean) => {
    isUp = up
    for (const one of listeners) up ? one.up() : one.down()
  }
  /** Messages are heard again, before the subscription is up. */
  const overhear = () => {
    isUp = true
  }
  const reply = async () => {
    for (const { from, resolve } of questions.splice(0)) resolve(resumption(from))
    await idle()
  }
  return { bus, questions, turnTo, overhear, reply, resumption }
}

async function pair() {
  const hand = byHand()
  const [here, there] = [regionOn(hand.bus), regionOn(hand.bus)]
  await hand.reply()
  for (const key of ['changed', 'kept']) {
    await here.set(key, 'old')
    await there.set(key, 'old')
    await here.set(key, 'old')
  }
  await there.getOrCreate('kept', () => 'old')
  return Object.assign(hand, { here, there })
}

it('a store makes up for the messages that it missed, and keeps the rest', async () => {
  const { here, there, turnTo, reply } = await pair()
  expect(here.peek('kept')).toBe('old')
  turnTo(false)
  expect(here.peek('kept')).toBe(NO_VALUE)
  await there.delete('changed')
  turnTo(true)
  // Nothing is served before the messages are here.
  expect(here.peek('kept')).toBe(NO_VALUE)
  expect(here.peek('changed')).toBe(NO_VALUE)
  await reply()
  expect(here.peek('kept')).toBe('old')
  expect(here.peek('changed')).toBe(NO_VALUE)
})

it('messages that come while a store makes up for others wait, and count for no gap', async () => {
  const { here, there, turnTo, reply } = await pair()
  turnTo(false)
  await there.delete('one').catch(() => {})
  turnTo(true)
  await there.delete('changed')
  await reply()
  expect(here.peek('kept')).toBe('old')
  expect(here.peek('changed')).toBe(NO_VALUE)
})

it('a relay brings each event once, though it was heard while the relay made up for others', async () => {
  const { bus, questions, turnTo, reply } = byHand()
  const [here, there] = [regionOn(localBus()), regionOn(localBus())]
  for (const region of [here, there]) {
    const { close } = relay(bus, [region])
    opened.push(close)
  }
  await reply()
  const names: (readonly string[])[] = []
  here.on('invalidate', (event) => void names.push(event.names))
  await there.delete('before')
  turnTo(false)
  await there.delete('meanwhile')
  turnTo(true)
  await there.delete('heard at once')
  expect(questions).not.toHaveLength(0)
  await reply()
  await there.delete('after')
  expect(names).toEqual([['before'], ['meanwhile'], ['heard at once'], ['after']])
})

it.each<[string, (hand: ReturnType<typeof byHand>) => void]>([
  [
    'messages are gone',
    ({ questions }) => {
      for (const { resolve } of questions.splice(0)) resolve({ position: '9', messages: undefined })
    },
  ],
  [
    'the bus cannot be asked',
    ({ questions }) => {
      for (const { reject } of questions.splice(0)) reject(new Error('away'))
    },
  ],
])('a store drops everything if %s', async (_, fail) => {
  const all = await pair()
  all.turnTo(false)
  await all.there.delete('changed')
  all.turnTo(true)
  fail(all)
  await idle()
  for (const key of ['kept', 'changed']) expect(all.here.peek(key)).toBe(NO_VALUE)
  expect(await all.here.getOrCreate('kept', () => 'new')).toBe('new')
  expect(all.here.peek('kept')).toBe('new')
})

it('what arrives before the subscription is up moves nothing past what was lost', async () => {
  const { bus, turnTo, reply, here, there, overhear } = await pair()
  turnTo(false)
  await there.delete('changed')
  const busy = regionOn(bus)
  overhear()
  await busy.delete('other').catch(() => {})
  turnTo(true)
  await reply()
  expect(here.peek('kept')).toBe('old')
  expect(here.peek('changed')).toBe(NO_VALUE)
})

it('the reply to an earlier cut is not believed after a later one', async () => {
  const { here, there, turnTo, questions, reply, resumption } = await pair()
  turnTo(false)
  turnTo(true)
  const early = questions.splice(0).map(
    ({ from, resolve }) =>
      () =>
        resolve(resumption(from)),
  )
  turnTo(false)
  await there.delete('changed')
  turnTo(true)
  for (const one of early) one()
  await idle()
  expect(here.peek('kept')).toBe(NO_VALUE)
  await reply()
  expect(here.peek('kept')).toBe('old')
  expect(here.peek('changed')).toBe(NO_VALUE)
})

withRedis('stores joined by a bus over Redis', standalone, (at) => {
  it('keep 990 of 1,000 entries over a cut with ten changes', async () => {
    const { port = 0 } = at().servers[0] ?? {}
    const proxy = await faultProxy({ port })
    opened.push(() => proxy.close())
    const busTo = (to: number) => {
      const bus = redisBus(`redis://127.0.0.1:${to}`, { channel: 'cut', maxDelay: '10s' })
      opened.push(() => bus.close())
      return bus
    }
    const [here, there] = [regionOn(busTo(proxy.port)), regionOn(busTo(port))]
    const keys = Array.from({ length: 1_000 }, (_, i) => `key ${i}`)
    const kept = () => keys.filter((key) => here.peek(key) === 'old')
    await until(async () => {
      await there.set('probe', 'old')
      await here.getOrCreateMulti(keys, (wanted) => wanted.map(() => 'old'))
      return kept().length === 1_000
    })
    proxy.set({ kind: 'refuse' })
    proxy.reset()
    await until(() => kept().length === 0)
    const changed = keys.slice(0, 10)
    await there.deleteMulti(changed.slice(0, 5))
    for (const key of changed.slice(5)) await there.delete(key)
    proxy.set({ kind: 'none' })
    await until(() => kept().length > 0)
    expect(kept()).toEqual(keys.slice(10))
  })
})

it.skipIf(inject('servers').redis === null)(
  'stores joined by a bus drop everything if a replica took over that lacks messages',
  async () => {
    const [primary, replica] = [await startRedis(), await startRedis()]
    const [first, second] = [primary, replica].map(({ port }) => new Redis({ port })) as [Redis, Redis]
    for (const client of [first, second]) client.on('error', () => {})
    opened.push(
      () => Promise.all([primary.stop(), replica.stop()]),
      () => [first, second].forEach((client) => void client.disconnect()),
    )
    const master = { port: primary.port }
    const storeOn = async () => {
      const proxy = await faultProxy(master)
      const bus = redisBus(`redis://127.0.0.1:${proxy.port}`, { channel: 'taken over' })
      opened.push(
        () => proxy.close(),
        () => bus.close(),
      )
      return { proxy, region: regionOn(bus) }
    }
    const [{ proxy, region: here }, { region: there }] = [await storeOn(), await storeOn()]
    await second.replicaof('127.0.0.1', primary.port)
    await until(async () => (await second.info('replication')).includes('master_link_status:up'))
    await until(async () => {
      await there.set('probe', 'old')
      await here.getOrCreateMulti(['changed', 'kept'], (keys) => keys.map(() => 'old'))
      return here.peek('kept') === 'old'
    })
    expect(await first.wait(1, 5_000)).toBe(1)
    // From here on the replica misses what the primary acknowledges.
    await second.replicaof('127.0.0.1', 1)
    proxy.set({ kind: 'refuse' })
    proxy.reset()
    await until(() => here.peek('kept') === NO_VALUE)
    await there.delete('changed')
    await primary.kill('SIGKILL')
    await second.replicaof('NO', 'ONE')
    master.port = replica.port
    await until(() =>
      there.delete('another').then(
        () => true,
        () => false,
      ),
    )
    proxy.set({ kind: 'none' })
    await until(async () => {
      await here.getOrCreate('probe', () => 'new')
      return here.peek('probe') === 'new'
    })
    for (const key of ['changed', 'kept']) expect(here.peek(key)).toBe(NO_VALUE)
  },
)
