/** Options and functions of the caller that would be misread in silence. */
import { getEventListeners } from 'node:events'
import { inspect } from 'node:util'
import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { json } from '../../proxies/json.js'
import { prefix } from '../../proxies/prefix.js'
import type { AnyFunction } from '../../src/base/any-function.js'
import {
  type Backend,
  type CachedValue,
  type Clock,
  delegate,
  dependsOn,
  intercept,
  type KeyPart,
  type Ledger,
  type LedgerReading,
  type LedgerTime,
  makeRegion,
  mapValues,
  memoryLedger,
  NO_VALUE,
  type Region,
  type TransparentProxy,
  wrap,
} from '../../src/index.js'
import { versioned } from '../../src/session/index.js'
import { onStores } from '../dependencies/stores.js'
import { turn } from '../support/waiting.js'

const ticking = (): Clock & { at: number } => {
  const clock = { at: 1_000_000_000_000, now: () => clock.at }
  return clock
}

onStores('all', 'a value that was created to last shorter than the region says', (at) => {
  it('is stale to every reader after its own time', async () => {
    const clock = ticking()
    const [region, other] = at().regions<string>({ clock })
    const short = { expirationTime: 50 }
    const fn = region.cacheOnArguments({ namespace: 'f', ...short })(async () => 'v')
    const many = region.cacheMultiOnArguments({ namespace: 'm', ...short })(async (...ids: number[]) =>
      ids.map(() => 'v'),
    )
    await region.getOrCreate('option', () => 'v', short)
    await region.getOrCreateMulti(['multi'], () => ['v'], short)
    await region.set('set', 'v', short)
    await region.getOrCreate('in', (creation) => (creation.expireIn(50), 'v'))
    await Promise.all([fn(), many(1)])
    const keys = ['option', 'multi', 'set', 'in', fn.key(), ...many.keys(1)]
    for (const each of [region, other])
      expect(await Promise.all(keys.map((key) => each.has(key)))).toEqual(keys.map(() => true))
    clock.at += 120
    for (const each of [region, other]) {
      expect(await Promise.all(keys.map((key) => each.has(key)))).toEqual(keys.map(() => false))
      expect(await each.getMulti(keys)).toEqual(keys.map(() => NO_VALUE))
      expect((await each.explain('option')).expiresIn).toBe(50)
    }
    expect(await region.get('option', { expirationTime: '1m' })).toBe('v')
  })

  it('and one that a caller wished to last longer is fresh to that caller alone', async () => {
    const clock = ticking()
    const [region] = at().regions<string>({ clock })
    await region.getOrCreate('k', () => 'v', { expirationTime: '2h' })
    clock.at += 5_400_000
    expect([await region.has('k'), await region.has('k', { expirationTime: '2h' })]).toEqual([false, true])
  })
})

describe('options of a read', () => {
  const region: Region = makeRegion({ backend: memory() })
  const OPTIONS: readonly unknown[] = [
    null,
    { ignoreExpiraton: true },
    { expiration: 5 },
    { ignoreExpiration: 1 },
    { expirationTime: -1 },
    'fast',
    [],
  ]
  const READS: Readonly<Record<string, (options: never) => unknown>> = {
    get: (options) => region.get('k', options),
    getMulti: (options) => region.getMulti(['k'], options),
    has: (options) => region.has('k', options),
    getValueMetadata: (options) => region.getValueMetadata('k', options),
    peek: (options) => region.peek('k', options),
  }
  for (const [name, read] of Object.entries(READS))
    it(`of ${name} that are unknown, misspelt or null are refused, for a hit and for a miss`, async () => {
      for (const stored of [false, true]) {
        if (stored) await region.set('k', 1)
        for (const options of OPTIONS)
          await expect((async () => read(options as never))(), JSON.stringify(options)).rejects.toMatchObject(
            { code: 'ERR_OPTION' },
          )
      }
    })

  it('a misspelt name is answered with the known one that is near', async () => {
    const near = 'Did you mean `ignoreExpiration`? It takes: expirationTime, ignoreExpiration, maxStaleness.'
    await expect(region.get('k', { ignoreExpiraton: true } as object)).rejects.toThrow(near)
    expect(() => memory({ maxEntires: 5 } as object)).toThrow('Did you mean `maxEntries`?')
    expect(() => memory({ maxentries: 5 } as object)).toThrow('Did you mean `maxEntries`?')
    expect(() => makeRegion({ expirationtime: 5 } as object)).toThrow('Did you mean `expirationTime`?')
    expect(() => makeRegion({ expiration: 5 } as object)).toThrow('Did you mean `expirationTime`?')
    expect(() => makeRegion({ colour: 5 } as object)).toThrow(/`colour` of makeRegion\(\)\. It takes/)
  })
})

describe('a list with a hole', () => {
  it('is refused as keys, pairs, names and results', async () => {
    const region = makeRegion<unknown>({ backend: wrap(memory(), dependencies()) })
    // biome-ignore lint/suspicious/noSparseArray: the defect under test
    const sparse = ['a', , 'b'] as string[]
    await expect(region.getMulti(sparse)).rejects.toMatchObject({ code: 'ERR_KEY' })
    await expect(region.deleteMulti(sparse)).rejects.toMatchObject({ code: 'ERR_KEY' })
    await expect(region.getOrCreateMulti(sparse, () => [])).rejects.toMatchObject({ code: 'ERR_KEY' })
    await expect(region.invalidateDependencies(sparse)).rejects.toMatchObject({ code: 'ERR_OPTION' })
    await expect(region.refreshDependencies(sparse)).rejects.toMatchObject({ code: 'ERR_OPTION' })
    await expect(region.getOrCreate('k', () => dependsOn(sparse))).rejects.toMatchObject({
      code: 'ERR_OPTION',
    })
    // biome-ignore lint/suspicious/noSparseArray: the defect under test
    const pairs = [['a', 1], , ['b', 2]] as [string, number][]
    await expect(region.setMulti(pairs)).rejects.toMatchObject({ code: 'ERR_OPTION' })
    const results = region.getOrCreateMulti(['a', 'b', 'c'], () => sparse)
    await expect(results).rejects.toMatchObject({ code: 'ERR_BATCH_LENGTH' })
    expect(await region.getMulti(['a', 'b', 'c'])).toEqual([NO_VALUE, NO_VALUE, NO_VALUE])
  })
})

describe('a function that has to return at once', () => {
  it('shouldCache is refused if it returns a promise, and a rejection of it ends nothing', async () => {
    const region = makeRegion<string>({ backend: memory() })
    for (const shouldCache of [async () => false, async () => Promise.reject(new Error('no'))]) {
      const options = { shouldCache: shouldCache as never }
      const refused = { code: 'ERR_OPTION', message: expect.stringContaining('shouldCache') as string }
      await expect(region.getOrCreate('a', () => 'v', options)).rejects.toMatchObject(refused)
      await expect(region.getOrCreateMulti(['a', 'b'], () => ['v', 'w'], options)).rejects.toMatchObject(
        refused,
      )
      const fn = region.cacheOnArguments({ namespace: 'f', ...options })(async () => 'v')
      await expect(fn()).rejects.toMatchObject(refused)
      await expect(fn.set('v')).rejects.toMatchObject(refused)
      await expect(fn.refresh()).rejects.toMatchObject(refused)
      const many = region.cacheMultiOnArguments({ namespace: 'm', ...options })(async (...ids: number[]) =>
        ids.map(String),
      )
      await expect(many(1)).rejects.toMatchObject(refused)
      const page = versioned({ namespace: 'p', version: () => 1, ...options })(async () => 'v')
      await expect(page()).rejects.toMatchObject(refused)
      expect(await region.getMulti(['a', 'b', fn.key(), ...many.keys(1)])).toEqual(Array(4).fill(NO_VALUE))
    }
    await turn()
  })

  it('expirationTime is refused if it returns a promise, and a rejection of it ends nothing', async () => {
    const region = makeRegion<string>({ backend: memory() })
    const expirationTime = (async () => Promise.reject(new Error('no'))) as never
    const fn = region.cacheOnArguments({ namespace: 'f', expirationTime })(async () => 'v')
    await expect(fn()).rejects.toMatchObject({ code: 'ERR_OPTION' })
    await turn()
  })
})

describe("a method's `self`", () => {
  for (const id of [undefined, null, Number.NaN, [], {}])
    it(`that returns ${inspect(id)} is refused: instances would share entries`, async () => {
      const region = makeRegion<string>({ backend: memory() })
      class Shop {
        constructor(readonly id: KeyPart) {}
        @region.cacheOnArguments({ namespace: 'shop', self: (shop: Shop) => shop.id })
        async name(): Promise<string> {
          return 'name'
        }
      }
      await expect(new Shop(id).name()).rejects.toMatchObject({ code: 'ERR_KEY_ARGUMENT' })
      expect(await new Shop(0).name()).toBe('name')
    })
})

describe('a signal', () => {
  it('has no listener of a call that has ended', async () => {
    const region = makeRegion<string>({ backend: memory() })
    const { signal } = new AbortController()
    const failing = region.getOrCreate('b', () => Promise.reject(new Error('no')), { signal })
    const calls = [
      region.getOrCreate('a', async () => 'v', { signal }),
      region.getOrCreate('a', async () => 'v', { signal }),
      failing.catch(() => 'failed'),
    ]
    await turn()
    await Promise.all(calls)
    expect(getEventListeners(signal, 'abort')).toEqual([])
    // And the next call is called off all the same.
    const control = new AbortController()
    await region.getOrCreate('c', async () => 'v', { signal: control.signal })
    const hanging = region.getOrCreate('d', () => new Promise<string>(() => {}), { signal: control.signal })
    await turn()
    expect(getEventListeners(control.signal, 'abort').length).toBe(1)
    control.abort(new Error('enough'))
    await expect(hanging).rejects.toThrow('enough')
  })
})

describe('a thenable of another library', () => {
  const thenable = <T>(value: T): Promise<T> =>
    // biome-ignore lint/suspicious/noThenProperty: the test needs a thenable
    ({ then: (resolve: (value: T) => void) => void resolve(value) }) as unknown as Promise<T>

  it('counts as a promise where intercept() or a codec returns it', async () => {
    const slow = intercept((_, proceed) => thenable(proceed()) as never)
    const odd = mapValues({ encode: (value) => thenable(value), decode: (stored) => thenable(stored) })
    for (const layers of [[slow], [odd]] as const)
      for (const backend of [
        wrap(memory({ stores: 'bytes' }), json(), layers[0], dependencies()),
        wrap(memory(), layers[0]),
      ]) {
        const region = makeRegion<number>({ backend })
        expect(await region.getOrCreate('a', () => 1)).toBe(1)
        expect(await region.set('b', 2)).toBe('stored')
        expect(await region.getMulti(['a', 'b'])).toEqual([1, 2])
        expect(await region.get('a')).toBe(1)
        await region.expire('a')
        await region.invalidate()
        await region.delete('b')
        expect(await region.get('b')).toBe(NO_VALUE)
      }
  })

  const OPERATIONS = [
    ...(['get', 'set', 'delete', 'getMulti', 'setMulti', 'deleteMulti'] as const),
    ...(['acquire', 'renew', 'release', 'held', 'ping', 'close'] as const),
  ]
  /** A waiter of a lease gets a thenable, too. */
  const waiting = (found: unknown) =>
    typeof found === 'object' && found !== null && 'settled' in found
      ? { ...found, settled: thenable(undefined) }
      : found
  const slowly = (next: Backend<CachedValue>, names: readonly (keyof Backend)[] = OPERATIONS) =>
    Object.fromEntries(
      names.map((name) => [
        name,
        (...given: unknown[]) => thenable(waiting((next[name] as AnyFunction)(...(given as never[])))),
      ]),
    )
  const written: Readonly<Record<string, TransparentProxy>> = {
    delegate: (next) => delegate(next, slowly(next as never)),
    'delegate of single forms': (next) => delegate(next, slowly(next as never, ['get', 'set', 'delete'])),
    'a layer by hand': (next) => ({ ...next, ...slowly(next as never) }),
    'a read by hand': (next) => ({ ...next, ...slowly(next as never, ['get']) }),
  }

  it.each(Object.entries(written))('counts as a promise where %s returns it', async (_, layer) => {
    for (const layers of [[layer], [layer, prefix('p:'), dependencies()]]) {
      const backend = wrap(memory(), ...(layers as [TransparentProxy]))
      const region = makeRegion<number>({ name: 'one', backend })
      const other = makeRegion<number>({ name: 'one', backend })
      expect(await region.ready()).toBe(true)
      const both = [region.getOrCreate('a', async () => 1), other.getOrCreate('a', async () => 2)]
      expect(await Promise.all(both)).toEqual([1, 1])
      expect(await region.set('b', 2)).toBe('stored')
      expect(await region.setMulti([['c', 3]])).toEqual(['stored'])
      expect(await region.getMulti(['a', 'b', 'c'])).toEqual([1, 2, 3])
      await region.deleteMulti(['b'])
      await region.delete('c')
      expect([await region.get('a'), await region.get('b'), await region.get('c')]).toEqual([
        1,
        NO_VALUE,
        NO_VALUE,
      ])
      await other.close()
      await region.close()
    }
  })

  it('counts as a promise where a ledger of the application returns it', async () => {
    const inner = memoryLedger()
    const ledger: Ledger = {
      shared: false,
      open(clock) {
        const opened = inner.open(clock)
        return {
          storeClock: opened.storeClock,
          read: (names) => thenable(opened.read(names) as LedgerReading),
          now: (names) => thenable(opened.now(names) as LedgerTime),
          invalidate: (names, mode) => thenable(opened.invalidate(names, mode) as undefined),
        }
      },
    }
    const region = makeRegion<number>({ backend: wrap(memory(), dependencies({ ledger })) })
    expect(await region.set('a', 1)).toBe('stored')
    expect(await region.getOrCreate('b', () => 2)).toBe(2)
    expect(await region.getMulti(['a', 'b'])).toEqual([1, 2])
    await region.invalidate()
    expect(await region.getMulti(['a', 'b'])).toEqual([NO_VALUE, NO_VALUE])
  })

  it('counts as a promise where a region invalidator returns it', async () => {
    let isDone = false
    const invalidated = {
      // biome-ignore lint/suspicious/noThenProperty: the test needs a thenable
      then(resolve: () => void) {
        setImmediate(() => {
          isDone = true
          resolve()
        })
      },
    } as never
    const region = makeRegion<number>({
      backend: memory(),
      regionInvalidator: { judge: () => thenable('fresh'), invalidate: () => invalidated },
    })
    await region.set('a', 1)
    expect([await region.get('a'), await region.has('a'), await region.getMulti(['a'])]).toEqual([
      1,
      true,
      [1],
    ])
    expect(await region.getOrCreate('a', () => 2)).toBe(1)
    await region.invalidate()
    expect(isDone).toBe(true)
  })
})

it('a call that asks for less staleness is answered by a chain without a near cache, which has none', async () => {
  const region = makeRegion<number>({ name: 'bare', backend: wrap(memory(), dependencies()) })
  const strong = { maxStaleness: 0 }
  const load = region.cacheOnArguments(async (id: number) => id, { namespace: 'load' })
  expect(await region.getOrCreate('key', () => 1, strong)).toBe(1)
  await region.set('key', 2)
  expect(await Promise.all([region.get('key', strong), region.getMulti(['key'], strong)])).toEqual([2, [2]])
  expect([region.peek('key', strong), await region.has('key', strong)]).toEqual([2, true])
  expect(await load.with(strong)(5)).toBe(5)
  // It is checked all the same: code that runs over both kinds of chains fails on both.
  await expect(region.get('key', { maxStaleness: -1 })).rejects.toMatchObject({ code: 'ERR_OPTION' })
})
