import { join } from 'node:path'
import { open } from 'lmdb'
import { describe, expect, test } from 'vitest'
import { backendOver } from '../../../backends/lmdb/backend.js'
import { openPath } from '../../../backends/lmdb/client/open-file.js'
import { openStore, type Store } from '../../../backends/lmdb/client/store.js'
import { type LmdbOptions, lmdb } from '../../../backends/lmdb/index.js'
import { diagnostics, type Messages } from '../../../src/base/diagnostics.js'
import { judge } from '../../support/ledgers.js'
import { sleep, turn } from '../../support/waiting.js'
import { temporaryFolder } from './support.js'

const folder = temporaryFolder()
let files = 0
const newFile = () => join(folder, `${++files}.mdb`)
const openNew = (options?: LmdbOptions) => lmdb(newFile(), options)
const bytes = (text: string) => Buffer.from(text)
const text = (value: unknown) => (value === undefined ? undefined : String(value))

describe('thousands of operations at once', () => {
  const many = Array.from({ length: 4_000 }, (_, i) => `k${i}`)

  test('have their time from their turn on', async () => {
    const { entries, bookkeeping, dataFile, close } = openPath(newFile(), { timeout: 10_000 })
    const store = openStore(entries, bookkeeping, 10_000)
    let hangs = true
    let begun = 0
    const slow: Store = {
      ...store,
      transact(_subject, plan) {
        begun++
        // Without its commit, whose time depends on the machine.
        return hangs ? new Promise(() => {}) : Promise.resolve(store.snapshot(plan).result)
      },
    }
    const settings = { maxBytes: 2 ** 30, sweepEvery: 2 ** 30, timeout: 200, pendingFor: 0, release: close }
    const backend = backendOver(slow, { dataFile, ...settings })
    const first = Promise.allSettled(
      many.slice(0, 1_000).map(async (key) => backend.set(key, bytes('1'), {})),
    )
    const rest = [
      backend.setMulti(many.map((key) => [key, bytes('2'), {}])),
      backend.deleteMulti(['k1', 'k2']),
      backend.acquire('k3', 60_000),
      backend.ledger?.open('clock').invalidate(['name'], 'hard'),
    ]
    await turn()
    expect(begun).toBe(1_000)
    hangs = false
    const codes = (await first).map((one) => one.status === 'rejected' && one.reason.code)
    expect(new Set(codes)).toEqual(new Set(['ERR_TIMEOUT']))
    const [written, , lease] = await Promise.all(rest)
    expect(new Set(written as unknown[])).toEqual(new Set(['stored']))
    expect(lease).toMatchObject({ token: expect.any(String) })
    await backend.close()
  })

  test('run in the order of the calls', async () => {
    const store = openNew()
    const last = many.at(-1) as string
    const writes = store.setMulti(many.map((key) => [key, bytes('old'), {}]))
    const removed = store.delete(last)
    const rewritten = store.set('k0', bytes('new'), {})
    await Promise.all([writes, removed, rewritten])
    expect((await store.getMulti([last, 'k0', 'k1'])).map(text)).toEqual([undefined, 'new', 'old'])
    await store.close()
  })
})

describe('entries', () => {
  test('are read at once, as copies', async () => {
    const store = openNew()
    const given = bytes('value')
    const done = store.set('k', given, {})
    given.fill(0)
    expect(await done).toBe('stored')
    const one = store.get('k') as Buffer
    expect(text(one)).toBe('value')
    one.fill(0)
    await store.set('other', Buffer.alloc(500, 1), {})
    expect(text(store.get('k'))).toBe('value')
    expect(store.getMulti(['k', 'none', 'k'])).toEqual([bytes('value'), undefined, bytes('value')])
    await store.close()
  })

  test.each([0, 1, 4095, 4096, 100_000, 5_000_000])('of %i bytes come back as they were', async (size) => {
    const store = openNew()
    const value = Buffer.alloc(size, 'abc')
    await store.set('k', value, {})
    await store.set('neighbour', bytes('n'), {})
    expect(value.equals(store.get('k') as Buffer)).toBe(true)
    expect(text(store.get('neighbour'))).toBe('n')
    await store.close()
  })

  const hostile = [
    '',
    '__proto__',
    'constructor',
    '\0',
    'a\0b',
    'a\0',
    'a',
    'ü',
    'u\u0308',
    '💥',
    '\ud800',
    '\ud801',
    '\udc00x',
    '\ufffd',
    'a/b',
    '../../x',
    'k\r\nset x',
    'e',
    'l',
    '~clock',
    'x'.repeat(600),
    'x'.repeat(601),
    'x'.repeat(1977),
    'x'.repeat(1979),
    'ü'.repeat(600),
    '💥'.repeat(300),
    'y'.repeat(1_000_000),
    `${'y'.repeat(1_000_000)}z`,
    `${'y'.repeat(700)}\ud800`,
    `${'y'.repeat(700)}\ud801`,
  ]
  test('of keys of any content and length are kept apart', async () => {
    const store = openNew()
    await Promise.all(hostile.map((key, i) => store.set(key, bytes(`value ${i}`), {})))
    hostile.forEach((key, i) => expect(text(store.get(key))).toBe(`value ${i}`))
    const leases = await Promise.all(hostile.map((key) => store.acquire(key, 10_000)))
    expect(leases.filter(({ token }) => token !== undefined)).toHaveLength(hostile.length)
    for (const key of hostile) expect(store.held(key)).toBe(true)
    for (const [i, key] of hostile.entries()) {
      await store.delete(key)
      expect(store.get(key)).toBeUndefined()
      expect(store.held(key)).toBe(false)
      hostile.slice(i + 1).forEach((other, j) => expect(text(store.get(other))).toBe(`value ${i + 1 + j}`))
    }
    await store.close()
  })

  test('expire', async () => {
    const store = openNew()
    await store.set('long', bytes('l'), { ttl: 60_000 })
    await store.set('replaced', bytes('r'), { ttl: 300 })
    await store.set('replaced', bytes('r'), {})
    await store.set('short', bytes('s'), { ttl: 300 })
    expect(text(store.get('short'))).toBe('s')
    // Processes share the file, so it expires by the machine's clock, which no test can move.
    await sleep(350)
    expect(store.get('short')).toBeUndefined()
    expect(text(store.get('long'))).toBe('l')
    expect(text(store.get('replaced'))).toBe('r')
    await store.close()
  })

  test('survive closing and opening, invalidations too', async () => {
    const file = newFile()
    const first = lmdb(file)
    await first.set('k', bytes('v'), {})
    const begun = await first.ledger?.open('~clock').now(['r'])
    await first.ledger?.open('~clock').invalidate(['r'], 'hard')
    const now = await first.ledger?.open('~clock').now(['r'])
    await first.close()
    const second = lmdb(file)
    expect(text(second.get('k'))).toBe('v')
    expect(await second.ledger?.open('~clock').now(['r'])).toEqual(now)
    const snapshot = { epoch: begun?.epoch ?? '', groups: [{ asOf: begun?.at ?? 0, names: ['r'] }] }
    expect(await judge(second.ledger, '~clock', snapshot)).toBe('invalid')
    await second.close()
  })

  test('are the same through two backends of one file', async () => {
    const file = newFile()
    const [one, two] = [lmdb(file), lmdb(file)]
    for (let i = 0; i < 200; i++) {
      await one.set('k', bytes(`${i}`), {})
      expect(text(two.get('k'))).toBe(`${i}`)
      await two.delete('k')
      expect(one.get('k')).toBeUndefined()
    }
    const lease = await one.acquire('k', 10_000)
    const busy = await two.acquire('k', 10_000)
    expect(busy.token).toBeUndefined()
    expect(await two.set('k', bytes('by hand'), {})).toBe('stored')
    expect(await one.set('k', bytes('late'), { token: lease.token as string })).toBe('lost')
    await one.close()
    expect(text(two.get('k'))).toBe('by hand')
    await two.set('k', bytes('still open'), {})
    await two.close()
  })

  test('of one key are written in the order of the calls', async () => {
    const store = openNew()
    const work = Array.from({ length: 50 }, (_, i) =>
      i % 5 === 4 ? store.delete('k') : store.set('k', bytes(`${i}`), {}),
    )
    await Promise.all(work)
    expect(store.get('k')).toBeUndefined()
    await store.set('k', bytes('last'), {})
    expect(text(store.get('k'))).toBe('last')
    await store.close()
  })

  test('are refused when they are no bytes, or too many', async () => {
    const store = openNew({ maxBytes: 100_000 })
    await expect(store.set('k', 'text' as never, {})).rejects.toMatchObject({ code: 'ERR_OPTION' })
    await expect(store.set('k', Buffer.alloc(30_000), {})).rejects.toMatchObject({
      code: 'ERR_VALUE_TOO_LARGE',
    })
    await store.close()
  })

  test('cannot be reached after closing', async () => {
    const store = openNew()
    const busy = (await store.acquire('k', 60_000), await store.acquire('k', 60_000))
    await store.close()
    await store.close()
    expect(() => store.get('k')).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }))
    await expect(store.set('k', bytes('v'), {})).rejects.toMatchObject({ code: 'ERR_CLOSED' })
    await expect(store.ledger?.open('~clock').invalidate(['r'], 'hard')).rejects.toMatchObject({
      code: 'ERR_CLOSED',
    })
    // Closing ends the wait.
    if (busy.token === undefined) await busy.settled
  })
})

describe('a database that is open already', () => {
  test('is shared and not closed', async () => {
    const root = open(newFile(), {})
    await root.put('mine', { a: 1 })
    const store = lmdb(root)
    await store.set('k', bytes('v'), {})
    const other = lmdb(root)
    const lease = await store.acquire('k', 10_000)
    const busy = await other.acquire('k', 10_000)
    await store.release('k', lease.token as string)
    if (busy.token === undefined) await busy.settled
    await store.close()
    await other.close()
    expect(root.get('mine')).toEqual({ a: 1 })
    await root.close()
  })

  test('may be read by its owner in the same turn: commits in between are seen', async () => {
    const file = newFile()
    const root = open(file, {})
    await root.put('mine', 'old')
    const [store, writer, observer] = [lmdb(root), lmdb(file), lmdb(file)]
    for (let i = 0; i < 20; i++) {
      const written = writer.set('k', bytes(`${i}`), {})
      // lmdb hands the write to its thread at the end of this turn; from there on it needs nothing from us.
      await turn()
      root.get('mine')
      const patience = Date.now() + 5000
      while (text(observer.get('k')) !== `${i}` && Date.now() < patience);
      expect(text(store.get('k'))).toBe(`${i}`)
      await written
    }
    await Promise.all([store, writer, observer].map((one) => one.close()))
    await root.close()
  })

  test('does not take options of a path', async () => {
    const root = open(newFile(), {})
    expect(() => lmdb(root, { mapSize: 2 ** 20 })).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }))
    await root.close()
  })
})

describe('the file', () => {
  const leaving = async (work: () => Promise<unknown>): Promise<readonly Messages['evict'][]> => {
    const left: Messages['evict'][] = []
    const listener = (message: unknown) => void left.push(message as Messages['evict'])
    diagnostics('evict').subscribe(listener)
    try {
      await work()
    } finally {
      diagnostics('evict').unsubscribe(listener)
    }
    return left
  }

  test('is swept of expired entries', async () => {
    const store = openNew({ sweepEvery: 50 })
    const left = await leaving(async () => {
      for (let i = 0; i < 200; i++) await store.set(`k${i}`, bytes('v'), i % 2 === 0 ? { ttl: 20 } : {})
      await store.set('x'.repeat(700), bytes('v'), { ttl: 20 })
      // Sweeps come by the machine's clock.
      await sleep(400)
    })
    expect(left.length).toBe(101)
    expect(left.every(({ reason }) => reason === 'expired')).toBe(true)
    expect(left.some(({ key }) => key === 'x'.repeat(700))).toBe(true)
    for (let i = 1; i < 200; i += 2) expect(text(store.get(`k${i}`))).toBe('v')
    await store.close()
  })

  test('is swept in small steps, with turns of the event loop in between', async () => {
    const file = newFile()
    const count = 4_000
    const writer = lmdb(file)
    await Promise.all(
      Array.from({ length: count }, (_, i) => writer.set(`k${i}`, Buffer.alloc(200, i), { ttl: 1 })),
    )
    await writer.close()
    let thisTurn = 0
    let most = 0
    let gone = 0
    let over = false
    const turn = (): void => {
      thisTurn = 0
      if (!over) setImmediate(turn)
    }
    turn()
    const onEvict = () => {
      gone++
      most = Math.max(most, ++thisTurn)
    }
    diagnostics('evict').subscribe(onEvict)
    const left = await leaving(async () => {
      const sweeper = lmdb(file, { sweepEvery: 10 })
      for (let patience = 0; patience < 1000 && gone < count; patience++) await sleep(20)
      await sweeper.close()
    })
    over = true
    diagnostics('evict').unsubscribe(onEvict)
    expect(left.length).toBe(count)
    expect(most).toBeLessThanOrEqual(64)
    console.log(`swept ${count} entries, at most ${most} in a turn`)
  })

  test('keeps to its budget, and entries that are read stay', async () => {
    const root = open(newFile(), { encoding: 'binary' })
    const maxBytes = 2 ** 20
    const store = lmdb(root, { maxBytes, sweepEvery: 50 })
    const value = Buffer.alloc(1000, 1)
    await store.set('hot', value, {})
    let hits = 0
    let longest = 0
    let last = performance.now()
    const beat = setInterval(() => {
      longest = Math.max(longest, performance.now() - last)
      last = performance.now()
    }, 1)
    for (let i = 0; i < 300; i++) {
      await Promise.all(
        Array.from({ length: 32 }, (_, j) =>
          store.set(`k${i} ${j}`, value, j % 2 === 0 ? { ttl: 60_000 } : {}),
        ),
      )
      if (store.get('hot') !== undefined) hits++
    }
    clearInterval(beat)
    // Sweeps come by the machine's clock.
    await sleep(300)
    const stats = root
      .openDB({ name: 'corral', encoding: 'binary', keyEncoding: 'binary', useVersions: true })
      .getStats() as Record<string, number>
    const used =
      ((stats.treeBranchPageCount ?? 0) + (stats.treeLeafPageCount ?? 0) + (stats.overflowPages ?? 0)) *
      (stats.pageSize ?? 0)
    expect(used).toBeLessThanOrEqual(maxBytes)
    expect(used).toBeGreaterThan(maxBytes / 2)
    const info = stats as { lastPageNumber?: number; pageSize?: number }
    expect((info.lastPageNumber ?? 0) * (info.pageSize ?? 0)).toBeLessThan(maxBytes * 4)
    expect(hits).toBe(300)
    expect(text(store.get('k0 0'))).toBeUndefined()
    expect(store.get('k299 31')).toBeDefined()
    console.log(
      `9,600 writes of 1 kB into 1 MiB: ${used} bytes used, file of ${(info.lastPageNumber ?? 0) * (info.pageSize ?? 0)}, longest pause ${longest.toFixed(1)} ms`,
    )
    await store.close()
    await root.close()
  })

  test('keeps its bookkeeping to a part of the budget, at the cost of creations only', async () => {
    const store = openNew({ maxBytes: 400_000, sweepEvery: 20 })
    const { ledger } = store
    if (ledger === undefined) throw new Error('expected a ledger')
    const before = await ledger.open('~clock').now([])
    for (let i = 0; i < 60; i++) {
      await ledger.open('~clock').invalidate(
        Array.from({ length: 50 }, (_, j) => `name ${i} ${j}`),
        'hard',
      )
      await store.set(`k${i}`, Buffer.alloc(1500), {})
    }
    // Sweeps come by the machine's clock.
    await sleep(500)
    const old = { epoch: before.epoch, groups: [{ asOf: before.at, names: ['never invalidated'] }] }
    expect(await judge(ledger, '~clock', old)).toBe('invalid')
    for (const i of [0, 30, 59]) {
      const snapshot = { epoch: before.epoch, groups: [{ asOf: before.at, names: [`name ${i} 7`] }] }
      expect(await judge(ledger, '~clock', snapshot)).toBe('invalid')
    }
    const now = await ledger.open('~clock').now([])
    expect(
      await judge(ledger, '~clock', {
        epoch: now.epoch,
        groups: [{ asOf: now.at, names: ['name 0 0', 'new'] }],
      }),
    ).toBe('fresh')
    await store.close()
  })

  test('is swept of leases whose creators died', async () => {
    const file = newFile()
    const root = open(file, { encoding: 'binary' })
    const store = lmdb(root, { sweepEvery: 30 })
    for (let i = 0; i < 100; i++) await store.acquire(`dead ${i}`, 1)
    await store.acquire('alive', 60_000)
    // Sweeps come by the machine's clock.
    await sleep(600)
    const tree = root.openDB({ name: 'corral', encoding: 'binary', keyEncoding: 'binary', useVersions: true })
    expect(tree.getKeysCount({ start: Buffer.from('l'), end: Buffer.from('m') })).toBe(1)
    expect(store.held('alive')).toBe(true)
    await store.close()
    await root.close()
  })
})
