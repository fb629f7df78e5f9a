/** The caller uses its lists, options, values and arguments again as soon as a call has returned, on every store. */
import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { prefix } from '../../proxies/prefix.js'
import {
  type BackendProxy,
  type CachedValue,
  delegate,
  dep,
  type Ledger,
  type Metadata,
  type MultiCreator,
  makeRegion,
  mapKeys,
  mapValues,
  memoryLedger,
  NO_VALUE,
  type TransparentProxy,
  wrap,
} from '../../src/index.js'
import { type Broker, broker, localBus, relay } from '../../src/signals/index.js'
import { onStores } from '../dependencies/stores.js'
import { turn } from '../support/waiting.js'

const CHANGES: Readonly<Record<string, (list: string[]) => unknown>> = {
  emptied: (list) => list.splice(0),
  refilled: (list) => list.splice(0, 1, dep.id('book', 2)),
  'added to': (list) => list.push(dep.id('book', 2)),
}

onStores('all', 'a list of names or keys', (at) => {
  for (const mode of ['hard', 'soft'] as const)
    for (const [how, change] of Object.entries(CHANGES))
      it(`that is ${how} after the call is invalidated as it was (${mode})`, async () => {
        const [region] = at().regions<string>()
        const create = (text: string) =>
          region.getOrCreate('book', (creation) => {
            creation.dependsOn('book', dep.id('book', 1))
            return text
          })
        await create('old')
        const names = [dep.id('book', 1)]
        const done = region.invalidateDependencies(names, mode)
        change(names)
        await done
        expect(await region.get('book')).toBe(NO_VALUE)
      })

  it('that is emptied after the call is refreshed, deleted and read as it was', async () => {
    const [region] = at().regions<string>()
    let version = 1
    const book = region.cacheOnArguments({
      namespace: 'b',
      dependencies: (id: number) => dep.id('book', id),
    })(async (id: number) => `${id} v${version}`)
    await book(1)
    version = 2
    const names = [dep.id('book', 1)]
    const refreshed = region.refreshDependencies(names)
    names.length = 0
    await refreshed
    expect(await book.get(1)).toBe('1 v2')

    await region.setMulti([
      ['a', 'A'],
      ['b', 'B'],
    ])
    const wanted = ['a', 'b']
    const reading = region.getMulti(wanted)
    wanted.reverse()
    expect(await reading).toEqual(['A', 'B'])
    const doomed = ['a', 'b']
    const deleted = region.deleteMulti(doomed)
    doomed.length = 0
    await deleted
    expect(await region.getMulti(['a', 'b'])).toEqual([NO_VALUE, NO_VALUE])

    const missing = ['c', 'd']
    const created = region.getOrCreateMulti(missing, async (keys) => keys.map((key) => key.toUpperCase()))
    missing.length = 0
    expect(await created).toEqual(['C', 'D'])
  })

  it('is frozen where a creator, a listener or a runner receives it', async () => {
    const lists: unknown[] = []
    const [region] = at().regions<string>({
      asyncCreationRunner: ({ keys, run }) => {
        lists.push(keys)
        void run()
      },
    })
    region.on('invalidating', ({ names }) => void lists.push(names))
    const creator: MultiCreator<string> = (keys, creation) => {
      lists.push(keys, creation.keys)
      return keys.map((key) => key.toUpperCase())
    }
    await region.getOrCreateMulti(['b', 'a'], creator)
    await region.getOrCreate('one', (creation) => (lists.push(creation.keys), 'ONE'))
    await region.expire('a')
    await region.getOrCreateMulti(['a'], creator)
    await region.deleteMulti(['b'])
    await region.invalidateDependencies([dep.tag('t')])
    expect(lists.length).toBeGreaterThanOrEqual(7)
    expect(lists.filter((list) => !Object.isFrozen(list))).toEqual([])
  })
})

onStores('all', 'values and options', (at) => {
  it('that are changed after the call are stored as they were', async () => {
    const [region] = at().regions<{ n: number }>()
    // A store of values keeps the caller's own object, as `copy: 'share'` says.
    const encodes = at().spoil !== undefined
    const value = { n: 1 }
    const pair: [string, { n: number }] = ['b', { n: 1 }]
    const set = region.set('a', value)
    const setMulti = region.setMulti([pair])
    if (encodes) value.n = 2
    if (encodes) pair[1].n = 2
    pair[0] = 'other'
    pair[1] = { n: 3 }
    expect([await set, await setMulti]).toEqual(['stored', ['stored']])
    expect(await region.getMulti(['a', 'b', 'other'])).toEqual([{ n: 1 }, { n: 1 }, NO_VALUE])
    const asOf = await region.asOf()
    const later = { n: 4 }
    const dependent = region.set('c', later, { dependencies: dep.tag('t'), asOf })
    if (encodes) later.n = 5
    await dependent
    expect(await region.get('c')).toEqual({ n: 4 })
  })

  it('of a reservation that are changed after the call are stored as they were', async () => {
    const [region] = at().regions<{ n: number }>()
    if (at().spoil === undefined) return
    for (const options of [undefined, { dependencies: dep.tag('t') }]) {
      const key = `reserved ${options?.dependencies}`
      const found = await region.reserve(key)
      if (!('fill' in found)) throw new Error('Expected a reservation')
      const value = { n: 1 }
      const filled = found.fill(value, options)
      value.n = 2
      expect(await filled).toBe('stored')
      expect(await region.get(key)).toEqual({ n: 1 })
    }
  })

  it.each(['clone', 'freeze'] as const)('of a reservation over memory() that copies: %s', async (copy) => {
    for (const backend of [memory({ copy }), wrap(memory({ copy }), dependencies())]) {
      const region = makeRegion<{ n: number }>({ name: 'r', backend })
      const found = await region.reserve('k')
      if (!('fill' in found)) throw new Error('Expected a reservation')
      const value = { n: 1 }
      const filled = found.fill(value)
      if (copy === 'freeze') expect(Object.isFrozen(value)).toBe(true)
      else value.n = 2
      expect(await filled).toBe('stored')
      expect(await region.get('k')).toEqual({ n: 1 })
    }
  })

  it('that are changed after the call to a store in use are stored as they were', async () => {
    const [region] = at().regions<{ n: number }>()
    if (at().spoil === undefined) return
    await region.set('warm', { n: 0 })
    await region.get('warm')
    const value = { n: 1 }
    const set = region.set('a', value)
    value.n = 2
    const reused = { n: 0 }
    const sets = [1, 2, 3].map((n) => {
      reused.n = n
      return region.set(`b${n}`, reused)
    })
    reused.n = 4
    const many = region.setMulti([['c', reused]])
    reused.n = 5
    await Promise.all([set, ...sets, many])
    const read = await region.getMulti(['a', 'b1', 'b2', 'b3', 'c'])
    expect(read).toEqual([{ n: 1 }, { n: 1 }, { n: 2 }, { n: 3 }, { n: 4 }])
  })

  const codecs = {
    'that returns the entry itself': mapValues<CachedValue, CachedValue>({
      encode: (entry) => entry,
      decode: (entry) => entry,
    }),
    'that wraps the payload': mapValues<CachedValue, CachedValue>({
      encode: ({ payload, metadata }) => ({ payload: { inside: payload }, metadata }),
      decode: ({ payload, metadata }) => ({ payload: (payload as { inside: unknown }).inside, metadata }),
    }),
    'that puts the metadata into the payload': mapValues<CachedValue<{ n: number }>, CachedValue>({
      encode: ({ payload: { n }, metadata }) => ({
        payload: { n, ...metadata },
        metadata: { ...metadata, from: 'x' } as never,
      }),
      decode: ({ payload }) => {
        const { n, ...metadata } = payload as { n: number } & CachedValue['metadata']
        return { payload: { n }, metadata }
      },
    }) as BackendProxy<CachedValue>,
    'under a layer of keys': ((next) =>
      mapKeys((key) => `k:${key}`)(
        mapValues<CachedValue, CachedValue>({
          encode: ({ payload, metadata }, key) => ({ payload: { key, payload }, metadata }),
          decode({ payload, metadata }, key) {
            const found = payload as { key: string; payload: unknown }
            return found.key === key ? { payload: found.payload, metadata } : undefined
          },
        })(next),
      )) as BackendProxy<CachedValue>,
  }
  for (const [kind, codec] of Object.entries(codecs))
    it(`that are changed after the call are stored as they were, through a codec ${kind}`, async () => {
      if (at().spoil === undefined) return
      const region = at().through<{ n: number }>(codec)
      for (const round of ['first', 'later']) {
        const [one, other] = [{ n: 1 }, { n: 1 }]
        const set = region.set(round, one)
        const setMulti = region.setMulti([[`${round} too`, other]])
        one.n = other.n = 2
        const asOf = await region.asOf()
        const dependent = { n: 1 }
        const third = region.set(`${round} dependent`, dependent, { dependencies: dep.tag('t'), asOf })
        dependent.n = 2
        expect([await set, await setMulti, await third]).toEqual(['stored', ['stored'], 'stored'])
        const keys = [round, `${round} too`, `${round} dependent`]
        expect(await region.getMulti(keys)).toEqual(keys.map(() => ({ n: 1 })))
      }
      await region.invalidateDependencies(dep.tag('t'))
      expect(await region.getMulti(['first', 'first dependent'])).toEqual([{ n: 1 }, NO_VALUE])
      await region.close()
    })

  it('that cannot be encoded are refused as always', async () => {
    if (at().spoil === undefined) return
    const [region] = at().regions<unknown>()
    await expect(region.set('a', { n: 1n })).rejects.toMatchObject({ code: 'ERR_UNENCODABLE' })
    expect(await region.get('a')).toBe(NO_VALUE)
  })

  it('options that are changed after the call are read as they were', async () => {
    const [region] = at().regions<string>()
    const reading: { ignoreExpiration?: boolean } = { ignoreExpiration: true }
    await region.set('a', 'A')
    await region.expire('a')
    const found = region.get('a', reading)
    reading.ignoreExpiration = false
    expect(await found).toBe('A')
    const options: { shouldCache?: (value: string) => boolean } = { shouldCache: () => false }
    const created = region.getOrCreate('b', () => 'B', options)
    const many = region.getOrCreateMulti(['c'], () => ['C'], options)
    options.shouldCache = () => true
    await Promise.all([created, many])
    expect(await region.getMulti(['b', 'c'])).toEqual([NO_VALUE, NO_VALUE])
  })
})

onStores('all', 'arguments of a cached function', (at) => {
  it('that are changed after the call count as they were', async () => {
    const [region] = at().regions<unknown>()
    const page = region.cacheOnArguments({ namespace: 'page' })(
      async (query: { page: number; from: { at: Date } }) => `${query.page} ${query.from.at.getTime()}`,
    )
    const query = { page: 0, from: { at: new Date(0) } }
    const calls = [1, 2, 3].map((n) => {
      query.page = n
      query.from.at.setTime(n)
      return page(query)
    })
    const values = ['1 1', '2 2', '3 3']
    expect(await Promise.all(calls)).toEqual(values)
    const stored = [1, 2, 3].map((n) => page.get({ page: n, from: { at: new Date(n) } }))
    expect(await Promise.all(stored)).toEqual(values)
    query.page = 4
    const refreshed = page.refresh(query)
    query.page = 5
    expect(await refreshed).toBe('4 3')

    const sum = region.cacheOnArguments({ namespace: 'sum' })(async (ids: number[]) =>
      ids.reduce((a, b) => a + b, 0),
    )
    const ids = [1, 2]
    const summed = sum(ids)
    ids.splice(0, 2, 100)
    expect([await summed, await sum.get([1, 2]), await sum.get([100])]).toEqual([3, 3, NO_VALUE])

    const squares = region.cacheMultiOnArguments({ namespace: 'sq' })(async (...all: { n: number }[]) =>
      all.map(({ n }) => n * n),
    )
    const one = { n: 3 }
    const squared = squares(one)
    one.n = 4
    expect([await squared, await squares.get({ n: 3 }, { n: 4 })]).toEqual([[9], [9, NO_VALUE]])
  })

  it('that are changed after the call are renewed as they were', async () => {
    const [region] = at().regions<string>()
    const ran: number[] = []
    const options = { namespace: 't', dependencies: (q: { id: number }) => dep.id('q', q.id) }
    const tracked = region.cacheOnArguments(options)(async (q: { id: number }) => {
      ran.push(q.id)
      return `of ${q.id}`
    })
    const q = { id: 1 }
    await tracked(q)
    q.id = 2
    await region.refreshDependencies(dep.id('q', 1))
    expect(ran).toEqual([1, 1])
    expect([await tracked.get({ id: 1 }), await tracked.get({ id: 2 })]).toEqual(['of 1', NO_VALUE])
  })

  it('that give another key when the function runs leave nothing behind, and other callers get their own', async () => {
    const [region] = at().regions<string>()
    class Query {
      constructor(public page: number) {}
    }
    const page = region.cacheOnArguments({
      namespace: 'p',
      key: (query: Query) => `${query.page}`,
      dependencies: (query: Query) => dep.id('page', query.page),
    })(async (query: Query) => `page ${query.page}`)
    const reused = new Query(1)
    const leading = page(reused)
    reused.page = 3
    const waiting = page(new Query(1))
    expect([await leading, await waiting]).toEqual(['page 3', 'page 1'])
    expect([await page.get(new Query(1)), await page.get(new Query(3))]).toEqual(['page 1', NO_VALUE])
    // A creation around would depend on the names of page 5, and has the content of page 6.
    await region.getOrCreate('outer', () => {
      reused.page = 5
      const inner = page(reused)
      reused.page = 6
      return inner
    })
    expect(await region.get('outer')).toBe(NO_VALUE)
    reused.page = 7
    await page(reused)
    reused.page = 8
    await region.refreshDependencies(dep.id('page', 7))
    expect([await page.get(new Query(7)), await page.get(new Query(8))]).toEqual([NO_VALUE, NO_VALUE])
  })

  it('whose instance changes before a method runs leave nothing behind', async () => {
    const [region] = at().regions<string>()
    class Shop {
      constructor(public id: number) {}
      @region.cacheOnArguments({ namespace: 'shop', self: (shop: Shop) => shop.id })
      async name(): Promise<string> {
        return `shop ${this.id}`
      }
    }
    const shop = new Shop(1)
    const named = shop.name()
    shop.id = 2
    await named
    expect(await new Shop(1).name()).toBe('shop 1')
    expect(await new Shop(2).name()).toBe('shop 2')
  })
})

describe('user code cannot change', () => {
  const open = (...layers: TransparentProxy[]) =>
    makeRegion<string>({ name: 'lists', backend: wrap(memory(), ...layers, dependencies()) })

  it('the arguments of a cached function, from `group`', async () => {
    const region = open()
    const sum = region.cacheOnArguments(async (a: number, b: number) => `${a + b}`, {
      namespace: 'sum',
      group: { first: (args) => (args as unknown as number[]).shift() as number },
    })
    await expect(sum(1, 2)).rejects.toThrow(TypeError)
    expect(await sum.get(1, 2)).toBe(NO_VALUE)
  })

  it('the keys of a batch, from a proxy', async () => {
    const reversing: TransparentProxy = (next) =>
      delegate(next, {
        getMulti: (keys) => next.getMulti((keys as string[]).reverse()),
        setMulti: (writes) => next.setMulti((writes as never[]).reverse()),
        deleteMulti: (keys) => next.deleteMulti((keys as string[]).reverse()),
      })
    const region = open(reversing)
    await expect(region.getMulti(['a', 'b'])).rejects.toMatchObject({ code: 'ERR_BACKEND' })
    const created = region.getOrCreateMulti(['a', 'b'], (keys) => [...keys])
    await expect(created).rejects.toMatchObject({ code: 'ERR_BACKEND' })
    await expect(region.deleteMulti(['a', 'b'])).rejects.toMatchObject({ code: 'ERR_BACKEND' })
    const pairs = [['a', '1'] as const, ['b', '2'] as const]
    await expect(region.setMulti(pairs)).rejects.toMatchObject({ code: 'ERR_BACKEND' })
  })

  it('the names of an entry, from a ledger of its own', async () => {
    const lists: unknown[] = []
    const ledger: Ledger = {
      shared: true,
      open(clock) {
        const opened = memoryLedger().open(clock)
        const seen = <T>(names: T) => (lists.push(names), names)
        return {
          storeClock: clock,
          read: (names) => opened.read(seen(names)),
          now: (names) => opened.now(seen(names)),
          invalidate: (names, mode) => opened.invalidate(seen(names), mode),
        }
      },
    }
    for (const layers of [[], [prefix('app:')]]) {
      const backend = wrap(memory(), ...(layers as []), dependencies({ ledger }))
      const region = makeRegion<string>({ name: 'names', backend })
      const part = region.cacheOnArguments(async () => 'part', {
        namespace: 'p',
        dependencies: () => ['x', 'y'],
      })
      const whole = region.cacheOnArguments(part, { namespace: 'w', dependencies: () => 'z' })
      await whole()
      await region.invalidateDependencies('other')
      expect(await whole.get()).toBe('part')
      await region.invalidateDependencies(['x', 'z'])
    }
    expect(lists.length).toBeGreaterThan(8)
    expect(lists.filter((list) => !Object.isFrozen(list))).toEqual([])
  })

  it('the metadata of an entry', async () => {
    const region = open()
    await region.set('a', 'A', { dependencies: ['x', 'y'], asOf: await region.asOf(), grace: '1h' })
    const change = (metadata: Metadata | undefined) => {
      const groups = metadata?.snapshot?.groups as unknown as { names: string[] }[]
      expect(() => groups.splice(0)).toThrow(TypeError)
      expect(() => groups[0]?.names.splice(0)).toThrow(TypeError)
      expect(() => Object.assign(metadata as object, { createdAt: 0 })).toThrow(TypeError)
    }
    change((await region.getValueMetadata('a'))?.metadata)
    await region.expire('a')
    await region.getOrCreate('a', (creation) => {
      change(creation.previous?.metadata)
      return 'B'
    })
  })

  it('the promises that a region lists', () => {
    const { limits } = open().guarantees
    expect(Object.isFrozen(limits)).toBe(true)
  })

  it('an event, for other listeners and for other processes', async () => {
    const bus = localBus()
    const spoil = (event: object) => Object.assign(event, { names: [], mode: 'soft' })
    const heard: unknown[] = []
    const [here, there] = [open(), open()]
    const [mine, theirs] = [here, there].map((region) =>
      broker<{ id: number }>('book', { regions: [region], id: ({ id }) => id }),
    ) as [Broker<{ id: number }>, Broker<{ id: number }>]
    const spoilers = [here.on('invalidating', spoil), here.on('invalidate', spoil), mine.on('change', spoil)]
    mine.on('change', ({ names }) => void (names as string[]).splice(0))
    const relays = [relay(bus, [here, mine]), relay(bus, [there, theirs])]
    there.on('invalidate', ({ names, mode }) => void heard.push(names, mode))
    theirs.on('change', ({ names }) => void heard.push(names))
    await here.delete('a')
    await mine.invalidate({ id: 1 }, { created: true })
    await turn()
    for (const one of relays) await one.close()
    for (const stop of spoilers) stop()
    expect(heard).toEqual([['a'], 'hard', [dep.id('book', 1)], 'hard', [dep.id('book', 1)]])
  })
})
