import { describe, expect, it } from 'vitest'
import { memory } from '../../../backends/memory/index.js'
import { SHAPES_KEY, type ShapeStore, shapeStore } from '../../../proxies/msgpack/shapes.js'
import { msgpack } from '../../../proxies/msgpack.js'
import { prefix } from '../../../proxies/prefix.js'
import type { Backend } from '../../../src/backend/backend.js'
import type { Bytes, CachedValue } from '../../../src/backend/cached-value.js'
import { diagnostics } from '../../../src/base/diagnostics.js'
import { intercept } from '../../../src/chain/intercept.js'
import { wrap } from '../../../src/chain/wrap.js'
import { CODEC_MSGPACK, CODEC_MSGPACK_SHARED } from '../../../src/wire/codec.js'
import { later } from '../../support/stage.js'
import { codecOf, METADATA, quiet, type Shelf, shelf } from '../encodings/chains.js'

const user = (id: number) => ({ id, name: `user ${id}`, address: { street: 'Main', zip: '123' } })
const records = () => msgpack({ profile: 'records' })

interface Process {
  readonly chain: Backend<CachedValue>
  write(key: string, payload: unknown): Promise<void>
  read(key: string): Promise<unknown>
}

/** A process of its own as far as the encoding can tell: it has learnt nothing yet. */
function process(backend: Backend<Bytes>): Process {
  const chain = wrap(backend, records())
  return {
    chain,
    async write(key, payload) {
      await chain.set(key, { payload, metadata: METADATA }, {})
      await quiet()
    },
    read: async (key) => (await chain.get(key))?.payload,
  }
}

async function learned(on: Shelf): Promise<Process> {
  const one = process(on.backend)
  for (let i = 0; i < 3; i++) await one.write('warm', user(i))
  return one
}

const codecIn = (on: Shelf, key: string) => codecOf(on.held.get(key), key)

describe("msgpack({ profile: 'records' })", () => {
  it('writes entries that read themselves until the table is stored, then short ones', async () => {
    const on = shelf()
    const one = process(on.backend)
    await one.write('a', user(1))
    expect(codecIn(on, 'a')).toBe(CODEC_MSGPACK)
    await one.write('b', user(2))
    await one.write('c', user(3))
    expect(codecIn(on, 'c')).toBe(CODEC_MSGPACK_SHARED)
    expect((on.held.get('c') as Bytes).length).toBeLessThan((on.held.get('a') as Bytes).length * 0.8)
    for (const [key, id] of [
      ['a', 1],
      ['b', 2],
      ['c', 3],
    ] as const)
      expect(await one.read(key)).toEqual(user(id))
  })
  it('is read by another process, which loads the table through the chain', async () => {
    const on = shelf()
    await (await learned(on)).write('a', user(7))
    expect(await process(on.backend).read('a')).toEqual(user(7))
  })
  it('is read through every layer below, asynchronous ones included', async () => {
    const on = shelf()
    const below = (backend: Backend<Bytes>) => wrap(backend, later, prefix('app:'))
    const one = process(below(on.backend))
    for (let i = 0; i < 3; i++) await one.write('a', user(i))
    expect([...on.held.keys()].sort()).toEqual(['app:a', `app:${SHAPES_KEY}`])
    expect(codecOf(on.held.get('app:a'), 'a')).toBe(CODEC_MSGPACK_SHARED)
    expect(await process(below(on.backend)).read('a')).toEqual(user(2))
  })
  it('loads the table once for many entries read at once', async () => {
    const on = shelf()
    const one = await learned(on)
    for (let i = 0; i < 20; i++) await one.write(`k${i}`, user(i))
    let loads = 0
    const counting = intercept((operation, proceed) => {
      if (operation.name === 'get' && operation.keys[0] === SHAPES_KEY) loads++
      return proceed()
    })
    const other = process(wrap(on.backend, later, counting))
    const keys = Array.from({ length: 20 }, (_, i) => `k${i}`)
    expect(await Promise.all(keys.map((key) => other.read(key)))).toEqual(keys.map((_, i) => user(i)))
    expect((await other.chain.getMulti(keys)).map((value) => value?.payload)).toEqual(
      keys.map((_, i) => user(i)),
    )
    expect(loads).toBe(1)
  })
  it('reads synchronously over a synchronous store, loading included', async () => {
    const on = shelf()
    await (await learned(on)).write('a', user(7))
    expect(wrap(on.backend, records()).get('a')).toMatchObject({ payload: user(7) })
  })
  it('keeps one table when processes learn at the same time', async () => {
    const on = shelf()
    const processes = Array.from({ length: 5 }, () => process(wrap(on.backend, later)))
    const shapes = processes.map((_, i) => ({ [`own${i}`]: 1, common: 2 }))
    for (let round = 0; round < 12; round++)
      await Promise.all(processes.map((one, i) => one.write(`k${i}`, [user(i), shapes[i]])))
    const fresh = process(on.backend)
    for (const [i] of processes.entries()) {
      expect(await fresh.read(`k${i}`)).toEqual([user(i), shapes[i]])
      for (const one of processes) expect(await one.read(`k${i}`)).toEqual([user(i), shapes[i]])
    }
  })
  it('keeps shapes that come once out of the table', async () => {
    const on = shelf()
    const one = await learned(on)
    const before = on.held.get(SHAPES_KEY)
    for (let i = 0; i < 50; i++) await one.write('d', { [`key ${i}`]: 1, [`other ${i}`]: 2 })
    expect(on.held.get(SHAPES_KEY)).toBe(before)
    expect(await one.read('d')).toEqual({ 'key 49': 1, 'other 49': 2 })
  })
  it('goes on when the table is full', async () => {
    const on = shelf()
    const one = process(on.backend)
    const value = (i: number) => ({ [`kind${i}`]: i, name: 'x' })
    for (let i = 0; i < 60; i++) for (let n = 0; n < 3; n++) await one.write(`k${i}`, value(i))
    const all = Array.from({ length: 60 }, (_, i) => value(i))
    await one.write('all', all)
    const fresh = process(on.backend)
    for (let i = 0; i < 60; i++) expect(await fresh.read(`k${i}`)).toEqual(value(i))
    expect(await fresh.read('all')).toEqual(all)
  })
})

describe('a table that is lost', () => {
  it('is a miss for a reader without it, and no wrong value', async () => {
    const on = shelf()
    await (await learned(on)).write('a', user(7))
    on.held.delete(SHAPES_KEY)
    const other = process(on.backend)
    expect(await other.read('a')).toBeUndefined()
    await other.write('a', user(8))
    expect(await other.read('a')).toEqual(user(8))
  })
  it('is agreed on again, so that every process reads the other again', async () => {
    const on = shelf()
    const one = await learned(on)
    on.held.delete(SHAPES_KEY)
    const other = process(on.backend)
    for (let i = 0; i < 3; i++) await other.write('b', { ...user(i), more: 1 })
    expect(codecIn(on, 'b')).toBe(CODEC_MSGPACK_SHARED)
    // An unknown table makes the first one look, and take part.
    expect(await one.read('b')).toEqual({ ...user(2), more: 1 })
    for (let i = 0; i < 3; i++) {
      await one.write('a', user(i))
      await other.read('a')
      await quiet()
    }
    expect(await one.read('a')).toEqual(user(2))
    expect(await process(on.backend).read('b')).toEqual({ ...user(2), more: 1 })
  })
  it('is not asked for at every read', async () => {
    const on = shelf()
    await (await learned(on)).write('a', user(7))
    on.held.delete(SHAPES_KEY)
    let loads = 0
    const counting = intercept((operation, proceed) => {
      if (operation.name === 'get' && operation.keys[0] === SHAPES_KEY) loads++
      return proceed()
    })
    const other = process(wrap(on.backend, counting))
    for (let i = 0; i < 50; i++) expect(await other.read('a')).toBeUndefined()
    expect(loads).toBe(1)
  })
  it('is replaced where something else stands under its key', async () => {
    for (const junk of [
      Buffer.from('junk'),
      Buffer.alloc(0),
      (await tableOf('[["a"],5]')).bytes,
      (await tableOf('[["__proto__"]]')).bytes,
    ]) {
      const on = shelf()
      on.held.set(SHAPES_KEY, junk)
      const one = await learned(on)
      await one.write('a', user(1))
      expect(codecIn(on, 'a')).toBe(CODEC_MSGPACK_SHARED)
      expect(await process(on.backend).read('a')).toEqual(user(1))
    }
  })
})

describe('a store that fails', () => {
  it('costs short entries, and is told on the channel', async () => {
    const on = shelf()
    const broken = intercept((operation, proceed) => {
      if (operation.keys[0] === SHAPES_KEY) throw new Error('down')
      return proceed()
    })
    const failures: unknown[] = []
    const listen = (message: unknown) => failures.push(message)
    diagnostics('failure').subscribe(listen)
    const one = process(wrap(on.backend, broken))
    for (let i = 0; i < 5; i++) await one.write('a', user(i))
    diagnostics('failure').unsubscribe(listen)
    expect(await one.read('a')).toEqual(user(4))
    expect(codecIn(on, 'a')).toBe(CODEC_MSGPACK)
    expect(failures).toContainEqual(expect.objectContaining({ where: 'shapes', key: SHAPES_KEY }))
  })
  it('is a miss for values that need the table', async () => {
    const on = shelf()
    await (await learned(on)).write('a', user(7))
    const broken = intercept((operation, proceed) => {
      if (operation.keys[0] === SHAPES_KEY) return Promise.reject(new Error('down'))
      return proceed()
    })
    expect(await process(wrap(on.backend, broken)).read('a')).toBeUndefined()
  })
})

describe('the store of shapes', () => {
  const open = (backend: Backend<Bytes>, now: () => number): ShapeStore => shapeStore(backend, now)
  const twice = async (store: ShapeStore, shape: readonly string[]) => {
    store.propose(shape)
    store.propose(shape)
    await store.settled()
  }

  it('names a table by its content, whichever process wrote it', async () => {
    const [one, other] = [open(shelf().backend, () => 0), open(shelf().backend, () => 0)]
    for (const store of [one, other]) await twice(store, ['a', 'b'])
    expect(one.current().id).toBe(other.current().id)
    await twice(one, ['b'])
    await twice(other, ['c'])
    expect(one.current().id).not.toBe(other.current().id)
    expect(one.current().id).toHaveLength(8)
  })
  it('knows every table that its own grew from', async () => {
    const store = open(shelf().backend, () => 0)
    const ids: string[] = []
    for (const shape of [['a'], ['b'], ['c', 'd']]) {
      await twice(store, shape)
      ids.push(store.current().id)
    }
    for (const id of ids) expect(await store.find(id)).toBe(store.current())
  })
  it('restores a flushed table, and takes part in one that others agreed on meanwhile', async () => {
    let time = 1_000_000
    const on = shelf()
    const one = open(on.backend, () => time)
    await twice(one, ['a'])
    on.held.clear()
    const other = open(on.backend, () => time)
    await twice(other, ['b'])
    time += 31_000
    one.current()
    await quiet()
    expect(one.current().shapes).toEqual([['b'], ['a']])
    expect(await other.find(one.current().id)).toMatchObject({ shapes: [['b'], ['a']] })
  })
  it('asks again for an id that was unknown a second ago', async () => {
    let time = 1_000_000
    const on = shelf()
    const [one, other] = [open(on.backend, () => time), open(on.backend, () => time)]
    await twice(one, ['a'])
    const { id } = one.current()
    const table = on.held.get(SHAPES_KEY) as Bytes
    on.held.clear()
    expect(other.find(id)).toBeUndefined()
    on.held.set(SHAPES_KEY, table)
    expect(other.find(id)).toBeUndefined()
    time += 1001
    expect(other.find(id)).toMatchObject({ shapes: [['a']] })
  })
  it('takes no shape that could do harm', async () => {
    const on = shelf()
    const store = open(on.backend, () => 0)
    for (const shape of [[], ['__proto__'], ['a\ud800'], Array.from({ length: 300 }, (_, i) => `f${i}`)])
      await twice(store, shape)
    expect(on.held.size).toBe(0)
  })
  it('leaves a table to the process that is writing one', async () => {
    const on = shelf()
    const store = open(on.backend, () => 0)
    await on.backend.acquire(SHAPES_KEY, 1000)
    await twice(store, ['a'])
    expect(store.current().shapes).toEqual([])
    expect(on.held.size).toBe(0)
  })
  it('remembers no more than so many ids and shapes', async () => {
    const on = memory({ stores: 'bytes' })
    const store = open(on, () => 0)
    for (let i = 0; i < 5000; i++) store.propose([`f${i}`])
    for (let i = 0; i < 5000; i++) await store.find(String(i).padStart(8, '0'))
    await twice(store, ['a'])
    expect(store.current().shapes).toEqual([['a']])
  })
})

/** A table as a forger writes it. */
async function tableOf(json: string): Promise<{ bytes: Bytes }> {
  const { frame } = await import('../../../src/wire/frame.js')
  return { bytes: frame(5, METADATA, Buffer.from(json), SHAPES_KEY) }
}
