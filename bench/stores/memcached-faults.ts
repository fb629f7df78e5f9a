/**
 * Outcomes of reads while the network or the server fails, with memjs alone and with the memcached backend. Each has its
 * server and its faulty proxy.
 */
import { setTimeout as delay } from 'node:timers/promises'
import memjs from 'memjs'
import { memcached } from '../../backends/memcached/index.js'
import { type Fault, type FaultProxy, faultProxy } from '../../test/support/faultproxy.js'
import { type Server, startMemcached } from '../../test/support/servers.js'
import { machine, table } from '../support.js'

const KEYS = Array.from({ length: 40 }, (_, i) => `key ${i}`.replace(' ', '-'))
/** A value names its key, and is of a length of its own. */
const contentOf = (key: string) => `${key}:${'x'.repeat((Number(key.slice(4)) * 211) % 3_000)}`
/** Longer than memjs needs for all of its tries, by its default timeout of half a second. */
const PATIENCE = 4_000
const TIMEOUT = 500

interface Client {
  readonly name: string
  readonly server: Server
  readonly proxy: FaultProxy
  get(key: string): Promise<string | undefined>
  set(key: string, value: string): Promise<unknown>
  close(): unknown
}

interface Tally {
  right: number
  missed: number
  failed: number
  hung: number
  wrong: number
}

const silent = { log() {} }

async function open(name: 'memjs' | 'memcached()', setUp?: (client: memjs.Client) => void): Promise<Client> {
  const server = await startMemcached()
  const proxy = await faultProxy({ port: server.port })
  const address = `127.0.0.1:${proxy.port}`
  const own = memcached({ servers: address, timeout: TIMEOUT, probe: 100 })
  const client = memjs.Client.create(address, { logger: silent } as memjs.ClientOptions)
  setUp?.(client)
  const access =
    name === 'memjs'
      ? {
          get: async (key: string) => (await client.get(key)).value?.toString(),
          set: (key: string, value: string) => client.set(key, value, {}),
        }
      : {
          get: async (key: string) => {
            const value = await own.get(key)
            return value && Buffer.from(value).toString()
          },
          set: async (key: string, value: string) => own.set(key, Buffer.from(value), {}),
        }
  for (const key of KEYS) await access.set(key, contentOf(key))
  return {
    name,
    server,
    proxy,
    ...access,
    async close() {
      client.close()
      await own.close()
      await proxy.close()
      await server.stop()
    },
  }
}

async function read(client: Client, key: string, tally: Tally): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const patience = new Promise<'hung'>((resolve) => {
    timer = setTimeout(resolve, PATIENCE, 'hung')
  })
  const answer = (async () => {
    try {
      const value = await client.get(key)
      return value === undefined ? 'missed' : value === contentOf(key) ? 'right' : 'wrong'
    } catch {
      return 'failed'
    }
  })()
  tally[await Promise.race([answer, patience])]++
  clearTimeout(timer)
}

const none = (): Tally => ({ right: 0, missed: 0, failed: 0, hung: 0, wrong: 0 })

/** Breaks the connection while everything is asked for, again and again, and asks once more when all is well. */
async function through(client: Client, fault: (round: number) => Fault, rounds: number): Promise<Tally> {
  const tally = none()
  for (let round = 0; round < rounds; round++) {
    client.proxy.set(fault(round))
    await Promise.all(KEYS.slice(0, 10).map((key) => read(client, key, tally)))
    client.proxy.set({ kind: 'none' })
    await delay(300)
    for (const key of KEYS.slice(10, 14)) await read(client, key, tally)
  }
  return tally
}

const faults: Record<string, (client: Client) => Promise<Tally>> = {
  'cut in the middle of a reply, 6 times': (client) =>
    through(client, (round) => ({ kind: 'cut', afterBytes: 37 + round * 1_613 }), 6),
  'closed in good order with gets in flight, 3 times': (client) =>
    through(client, () => ({ kind: 'fin' }), 3),
  'reset with gets in flight, 3 times': (client) => through(client, () => ({ kind: 'rst' }), 3),
  'late replies (0.5 to 0.8 s), 3 times': (client) =>
    through(client, () => ({ kind: 'latency', ms: 500, jitter: 300 }), 3),
  'a key of 251 bytes beside good ones': async (client) => {
    const tally = none()
    const bad = client.get('x'.repeat(251)).catch(() => undefined)
    await Promise.all(KEYS.slice(0, 10).map((key) => read(client, key, tally)))
    void bad
    return tally
  },
  'a key with a line break beside good ones': async (client) => {
    const tally = none()
    const bad = client.get('x\r\nflush_all\r\n').catch(() => undefined)
    await Promise.all(KEYS.slice(0, 10).map((key) => read(client, key, tally)))
    void bad
    return tally
  },
  'an empty key beside good ones': async (client) => {
    const tally = none()
    const bad = client.get('').catch(() => undefined)
    await Promise.all(KEYS.slice(0, 10).map((key) => read(client, key, tally)))
    void bad
    return tally
  },
}

async function storm(client: Client, ms: number): Promise<Tally> {
  const tally = none()
  let over = false
  const work = async () => {
    while (!over) {
      await read(client, KEYS[Math.floor(Math.random() * KEYS.length)] as string, tally)
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
  const working = Array.from({ length: 20 }, work)
  const kinds: (() => Fault)[] = [
    () => ({ kind: 'cut', afterBytes: Math.floor(Math.random() * 20_000) }),
    () => ({ kind: 'fin' }),
    () => ({ kind: 'rst' }),
    () => ({ kind: 'latency', ms: 5, jitter: 30 }),
    () => ({ kind: 'blackhole' }),
    () => ({ kind: 'refuse' }),
  ]
  const end = performance.now() + ms
  for (let i = 0; performance.now() < end; i++) {
    await delay(200)
    client.proxy.set((kinds[i % kinds.length] as () => Fault)())
    await delay(60)
    client.proxy.set({ kind: 'none' })
  }
  over = true
  await Promise.all(working)
  return tally
}

console.log(machine())
process.on('uncaughtException', (error) => console.log(`uncaught: ${String(error)}`))
for (const [name, fault] of [
  ...Object.entries(faults),
  ['a storm of all of these for 15 s', (client: Client) => storm(client, 15_000)] as const,
]) {
  const rows: Record<string, string>[] = []
  for (const kind of ['memjs', 'memcached()'] as const) {
    const client = await open(kind)
    const began = performance.now()
    const tally = await fault(client)
    const seconds = ((performance.now() - began) / 1000).toFixed(1)
    rows.push({
      [name]: kind,
      ...Object.fromEntries(Object.entries(tally).map(([what, count]) => [what, String(count)])),
      seconds,
    })
    await client.close()
  }
  console.log(`\n${table(rows)}`)
}

console.log('\nBesides, with memjs:')
const client = await open('memjs', (one) => Object.assign(one, { seq: 2 ** 31 - 60 }))
const after = none()
for (let i = 0; i < 60; i++) await read(client, KEYS[i % KEYS.length] as string, after)
console.log(`- gets around its request number 2^31: ${JSON.stringify(after)}`)
await client.close()
const { server, close } = await open('memjs')
const plain = memjs.Client.create(`127.0.0.1:${server.port}`, { logger: silent } as memjs.ClientOptions)
await plain.set('short', 'lived', { expires: 0.5 })
await delay(2_500)
console.log(`- \`expires: 0.5\`, 2.5 s later: ${(await plain.get('short')).value?.toString() ?? 'gone'}`)
plain.close()
await close()
for (const kind of ['memjs', 'memcached()'] as const) {
  const frozen = await open(kind)
  await frozen.server.kill('SIGSTOP')
  // All of its threads have to notice.
  await delay(200)
  const began = performance.now()
  const tally = none()
  for (const key of ['key-1', 'key-2']) await read(frozen, key, tally)
  const seconds = ((performance.now() - began) / 1000).toFixed(1)
  console.log(
    `- two gets one after another from a frozen server, ${kind}: ${JSON.stringify(tally)} in ${seconds} s`,
  )
  await frozen.server.kill('SIGCONT')
  await frozen.close()
}
process.exit(0)
