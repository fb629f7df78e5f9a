import { randomBytes } from 'node:crypto'
import { Redis } from 'ioredis'
import { afterEach, expect, it } from 'vitest'
import { redis } from '../../../backends/redis/index.js'
import { parseWakeMessage } from '../../../backends/redis/wake/wake-message.js'
import { compress } from '../../../proxies/compress.js'
import { dependencies } from '../../../proxies/dependencies.js'
import { json } from '../../../proxies/json.js'
import { msgpack } from '../../../proxies/msgpack.js'
import { prefix } from '../../../proxies/prefix.js'
import { seal } from '../../../proxies/seal.js'
import {
  type Backend,
  type Bytes,
  type CachedValue,
  delegate,
  intercept,
  makeRegion,
  type Region,
  wrap,
} from '../../../src/index.js'
import { faultProxy } from '../../support/faultproxy.js'
import { withOperations } from '../../support/ledgers.js'
import { held } from '../../support/stage.js'
import { turn, until } from '../../support/waiting.js'
import { standalone } from './deployments.js'
import { bytes, freshKey, granted, withRedis } from './suite.js'

type Chain = (backend: Backend<Bytes>) => Backend<CachedValue>

const plain: Chain = (backend) => wrap(backend, json())
const full: Chain = (backend) =>
  wrap(
    backend,
    seal({ keys: [{ id: 'k', secret: Buffer.alloc(32, 1) }], context: 'told' }),
    compress({ algorithm: 'gzip', threshold: 100 }),
    msgpack(),
    prefix('told:'),
    dependencies(),
  )

it('a message names the lease that has ended, in any bytes; anything else is no message', () => {
  expect(parseWakeMessage(Buffer.from('3 8 !a!ключ'))).toEqual({
    held: '!a!',
    lease: 'ключ',
    value: undefined,
  })
  const value = Buffer.from([0, 255, 32, 13, 10])
  const told = parseWakeMessage(Buffer.concat([Buffer.from('3 5 !a!a b c'), value]))
  expect(told).toEqual({ held: '!a!', lease: 'a b c', value })
  for (const foreign of ['', 'lease', '3 5 !a!leas', '-1 5 lease', '3  lease', '1e3 2 lease'])
    expect(parseWakeMessage(Buffer.from(foreign))).toBeUndefined()
})

/** A fill wakes the waiters of other processes. A region with its own backend stands for a process. */
withRedis('a fill sends the stored value to its waiters', standalone, (at) => {
  const open: { close(): unknown }[] = []
  afterEach(async () => {
    for (const one of open.splice(0).reverse()) await one.close()
  })
  const process = (backend: Backend<Bytes> = redis(at().where), chain = plain): Region<string> => {
    const region = makeRegion<string>({
      name: 'told',
      backend: chain(backend),
      lease: { ms: 20_000, wait: '20s' },
    })
    open.push(region)
    return region
  }
  /** A process to which messages can be late while nothing else is. */
  const hardOfHearing = async () => {
    const port = at().servers[0]?.port ?? 0
    const ears = await faultProxy({ port })
    const client = new Redis({ port })
    const duplicate = client.duplicate.bind(client)
    client.duplicate = (options) => duplicate({ ...options, port: ears.port })
    open.push(ears, { close: () => client.disconnect() })
    const waiter = process(redis({ client }))
    await listens(waiter)
    return { waiter, ears }
  }
  const listens = async (waiter: Region<string>) => {
    const before = await subscribers()
    await waiter.getOrCreate(freshKey('warm'), () => 'warm')
    await until(async () => (await subscribers()) > before)
  }
  const subscribers = async () => {
    const [, count] = (await at().admin.call('PUBSUB', 'NUMSUB', '~corral:wake:0')) as [string, number]
    return count
  }
  /** A creation under way, that ends when it is told to. */
  const creation = async (maker: Region<string>, key: string, value: string) => {
    const creator = held<string>()
    const done = maker.getOrCreate(key, creator.create)
    await creator.started
    return async () => {
      creator.resolve(value)
      await done
    }
  }
  /** Waits until so many were refused the lease, and have left their marks. */
  const refused = (key: string, count = 1) =>
    until(async () => {
      const held = await at().admin.get(`~corral:lease={told:${key}}`)
      return (held?.split('!').length ?? 0) > count
    })
  const reads = async () =>
    Number(/cmdstat_mget:calls=(\d+)/.exec(await at().admin.info('commandstats'))?.[1] ?? 0)
  /** On a busy machine a waiter may have looked for himself before the message: such a round shows nothing. */
  const once = async <T>(round: () => Promise<T>, shows: (result: T) => boolean): Promise<T> => {
    for (let left = 5; ; left--) {
      const result = await round()
      if (shows(result) || left === 1) return result
    }
  }

  /** How often a waiter reads after the fill, and the value that it gets. */
  const awaited = async (maker: Region<string>, waiter: Region<string>, value: string, path = '') => {
    const key = freshKey('told')
    const finish = await creation(maker, key, value)
    const got = Promise.all([1, 2, 3].map(() => waiter.getOrCreate(key, () => 'its own')))
    await refused(`${path}${key}`)
    const before = await reads()
    await finish()
    const values = new Set(await got)
    return { values: [...values], reads: (await reads()) - before }
  }

  it.each<[string, Chain, string]>([
    ['a plain chain', plain, ''],
    ['sealed, compressed, tracked', full, 'told:'],
  ])('which costs them no read: %s', async (_, chain, path) => {
    const [maker, waiter] = [process(undefined, chain), process(undefined, chain)]
    await listens(waiter)
    const value = 'v'.repeat(3_000)
    const round = () => awaited(maker, waiter, value, path)
    expect(await once(round, (result) => result.reads === 0)).toEqual({ values: [value], reads: 0 })
  })

  it('unless it is large, or a layer is to see every read', async () => {
    const maker = process()
    const waiter = process()
    await listens(waiter)
    const large = randomBytes(5_000).toString('latin1')
    expect(await awaited(maker, waiter, large)).toEqual({ values: [large], reads: 1 })
    const seen: string[] = []
    const watching = process(undefined, (backend) =>
      wrap(
        plain(backend),
        intercept(({ name }, proceed) => {
          seen.push(name)
          return proceed()
        }),
      ),
    )
    await listens(watching)
    seen.length = 0
    expect(await awaited(maker, watching, 'small')).toEqual({ values: ['small'], reads: 1 })
    expect(seen).toEqual(['get', 'get', 'get', 'acquire', 'get'])
    const doubting = process(undefined, (backend) => {
      const next = plain(backend)
      return delegate(next, {
        get: (key) => next.get(key),
        acquire: (key, ms, how) => next.acquire(key, ms, how),
      })
    })
    await listens(doubting)
    expect(await awaited(maker, doubting, 'small')).toEqual({ values: ['small'], reads: 1 })
    const spread = process(undefined, (backend) =>
      wrap(plain(backend), <T>(next: Backend<T>) => ({ ...next, get: (key: string) => next.get(key) })),
    )
    await listens(spread)
    expect(await awaited(maker, spread, 'small')).toEqual({ values: ['small'], reads: 1 })
  })

  it('but no value that a layer judges by more than the store knows', async () => {
    const maker = process()
    let doubt = false
    const waiter = process(undefined, (backend) => {
      const next = plain(backend)
      const { ledger } = next
      if (ledger === undefined) throw new Error('Expected redis() to keep a ledger')
      return delegate(next, {
        ledger: withOperations(ledger, (opened) => ({
          read: (names) => (doubt ? { now: undefined, stamps: [] } : opened.read(names)),
        })),
      })
    })
    await listens(waiter)
    const key = freshKey('doubt')
    const finish = await creation(maker, key, 'old')
    const got = waiter.getOrCreate(key, () => 'its own')
    await refused(key)
    doubt = true
    await finish()
    expect(await got).toBe('its own')
  })

  it('but no value that was stored without a check in the same step', async () => {
    const holder = redis(at().where)
    const waiter = redis(at().where)
    open.push(holder, waiter)
    const before = await subscribers()
    await waiter.acquire(freshKey('warm'), 1_000)
    await until(async () => (await subscribers()) > before)
    const { epoch, at: a } = (await holder.ledger?.open('clock').now(['name'])) ?? { epoch: '', at: 0 }
    const ifCurrent = { clock: 'clock', snapshot: { epoch, groups: [{ asOf: a, names: ['name'] }] } }
    const brought = async (checked: boolean) => {
      const key = freshKey('checked')
      const token = await granted(holder, key)
      const denied = await waiter.acquire(key, 10_000)
      if (denied.token !== undefined) throw new Error('Expected the lease to be held')
      await holder.set(key, bytes('v'), { token, ...(checked && { ifCurrent }) })
      const value = await denied.settled
      return value === undefined ? 'nothing' : Buffer.from(value).toString()
    }
    expect(
      await once(
        () => brought(true),
        (value) => value === 'v',
      ),
    ).toBe('v')
    for (let round = 0; round < 3; round++) expect(await brought(false)).toBe('nothing')
  })

  it('unless it was refused: a value created before an invalidation is not for callers after it', async () => {
    const [maker, waiter] = [process(), process()]
    await listens(waiter)
    const key = freshKey('refused')
    const finish = await creation(maker, key, 'old')
    await maker.invalidate()
    const got = waiter.getOrCreate(key, () => 'its own')
    await refused(key)
    await finish()
    expect(await got).toBe('its own')
  })

  it('but no caller that came after the lease was asked for: it may be invalidated by then', async () => {
    const maker = process()
    const { waiter, ears } = await hardOfHearing()
    const round = async () => {
      const key = freshKey('late')
      const finish = await creation(maker, key, 'old')
      const early = waiter.getOrCreate(key, (): string => 'early made')
      await refused(key)
      ears.set({ kind: 'hold' })
      await finish()
      await maker.delete(key)
      const late = waiter.getOrCreate(key, () => 'late made')
      // The same reply: by now the call has joined the waiters.
      await waiter.get(key)
      await turn()
      ears.set({ kind: 'none' })
      return { early: await early, late: await late }
    }
    expect(await once(round, ({ early }) => early === 'old')).toEqual({ early: 'old', late: 'late made' })
  })

  it('but not by the message of a former lease, however late it comes', async () => {
    const [maker, other] = [process(), process()]
    const { waiter, ears } = await hardOfHearing()
    const round = async () => {
      const key = freshKey('former')
      const finish = await creation(maker, key, 'old')
      const gone = new AbortController()
      const early = waiter.getOrCreate(key, () => 'early made', { signal: gone.signal })
      early.catch(() => {})
      await refused(key)
      ears.set({ kind: 'hold' })
      await finish()
      gone.abort()
      await maker.delete(key)
      const finishOther = await creation(other, key, 'new')
      const late = waiter.getOrCreate(key, () => 'late made')
      await refused(key)
      ears.set({ kind: 'none' })
      // The message wakes it, so that it looks, and is refused the lease once more.
      await refused(key, 2)
      await finishOther()
      return late
    }
    expect(await round()).toBe('new')
  })

  it('but not a process that has an invalidation to make up for', async () => {
    const port = at().servers[0]?.port ?? 0
    const hands = await faultProxy({ port })
    open.push(hands)
    const maker = process()
    const client = new Redis({ port: hands.port, maxRetriesPerRequest: 0, enableOfflineQueue: false })
    client.on('error', () => {})
    const duplicate = client.duplicate.bind(client)
    client.duplicate = (options) => duplicate({ ...options, port })
    open.push({ close: () => client.disconnect() })
    await until(() => client.status === 'ready')
    const waiter = process(redis({ client, timeout: '1s' }))
    await listens(waiter)
    const key = freshKey('undone')
    const finish = await creation(maker, key, 'old')
    const early = waiter.getOrCreate(key, (): string => 'early made')
    await refused(key)
    hands.set({ kind: 'refuse' })
    hands.reset()
    await expect(waiter.delete(key)).rejects.toThrow()
    await finish()
    // The waiter may fail, but it never gets the invalidated value.
    expect(await early.catch(() => 'no Redis')).not.toBe('old')
  })
})
