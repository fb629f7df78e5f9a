import { Redis } from 'ioredis'
import { Redis as Redis5 } from 'ioredis5'
import { afterEach, expect, it } from 'vitest'
import { type RedisBus, redisBus } from '../../backends/redis/index.js'
import type { BusListener } from '../../src/signals/index.js'
import { standalone, until } from '../redis/deployments.js'
import { withRedis } from '../redis/suite.js'

const unhandled: unknown[] = []
process.on('unhandledRejection', (error) => unhandled.push(error))

const opened: { close(): unknown }[] = []
afterEach(async () => {
  for (const one of opened.splice(0).reverse()) await one.close()
  expect(unhandled).toEqual([])
})
const closing = <T extends { close(): unknown }>(one: T): T => {
  opened.push(one)
  return one
}

interface Log extends BusListener {
  readonly events: string[]
}
function log(): Log {
  const events: string[] = []
  return {
    events,
    heard: (message) => void events.push(message),
    up: () => void events.push('up'),
    down: () => void events.push('down'),
  }
}
function ear(bus: RedisBus) {
  const listener = log()
  const subscription = bus.subscribe(listener)
  return { ...subscription, events: listener.events }
}

let serial = 0
const channel = () => `bus ${++serial}`

withRedis('a bus over Redis', standalone, (at) => {
  const port = () => at().servers[0]?.port ?? 0
  const url = () => `redis://127.0.0.1:${port()}`
  const onClient = (client: Redis, on: string) => {
    client.on('error', () => {})
    opened.push({ close: () => client.disconnect() })
    return closing(redisBus(client as never, { channel: on }))
  }

  it.each<[string, (on: string) => RedisBus]>([
    ['a URL', (on) => closing(redisBus(url(), { channel: on }))],
    ['a client of ioredis 6', (on) => onClient(new Redis({ port: port(), keyPrefix: 'app:' }), on)],
    ['a client of ioredis 5', (on) => onClient(new Redis5({ port: port(), db: 3 }) as never, on)],
  ])('carries messages to all who listen, with %s', async (_, make) => {
    const on = channel()
    const [one, other] = [make(on), closing(redisBus(url(), { channel: on }))]
    const ears = [ear(one), ear(other), ear(other)]
    await until(() => ears.every(({ live }) => live()))
    await one.publish('hello')
    await other.publish('Grüße 鍵')
    await until(() => ears.every(({ events }) => events.length === 3))
    for (const { events } of ears) expect(events).toEqual(['up', 'hello', 'Grüße 鍵'])
  })
})
