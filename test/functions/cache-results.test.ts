import { afterEach, describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import {
  type CachedFunction,
  dep,
  diagnostics,
  makeRegion,
  methodOf,
  NO_VALUE,
  wrap,
} from '../../src/index.js'
import { type CacheResultsOptions, cacheResults } from '../../src/signals/index.js'
import { held, manualClock } from '../support/stage.js'

const endings: (() => void)[] = []
afterEach(() => {
  for (const end of endings.splice(0)) end()
})

function notices(): string[] {
  const messages: string[] = []
  const listen = (message: unknown) => void messages.push((message as { message: string }).message)
  diagnostics('notice').subscribe(listen)
  endings.push(() => diagnostics('notice').unsubscribe(listen))
  return messages
}

/** A cached function in a region of its own, and the calls that reached it. */
function counted<A extends readonly unknown[], T>(
  work: (...args: A) => T,
  options: Partial<CacheResultsOptions<unknown>> = {},
) {
  const region = makeRegion({ backend: memory() })
  const calls: A[] = []
  const decorated = cacheResults({ region, namespace: 'fn', exactArity: false, ...options })(
    (...args: never[]) => {
      calls.push(args as unknown as A)
      return work(...(args as unknown as A))
    },
  )
  return { fn: decorated as unknown as CachedFunction<A, Awaited<T>>, calls, region }
}

describe('cacheResults()', () => {
  it('runs the function at the first call only', async () => {
    const { fn, calls } = counted((x: number, y: number) => x + y)
    expect([await fn(1, 2), await fn(1, 2)]).toEqual([3, 3])
    expect(calls).toHaveLength(1)
  })

  it('runs it again when its expiration time is over', async () => {
    const clock = manualClock()
    const region = makeRegion<number>({ backend: memory({ clock }), clock })
    let runs = 0
    const fn = cacheResults({ region, namespace: 'fn', expirationTime: '10s' })(() => ++runs)
    await fn()
    clock.tick(10_000)
    expect(await fn()).toBe(1)
    clock.tick(1)
    expect(await fn()).toBe(2)
  })

  it('tells arguments apart by order, number and kind', async () => {
    const { fn, calls } = counted((...args: unknown[]) => args.length)
    const sets: unknown[][] = [
      [1, 2],
      [2, 1],
      [1],
      [1, 2, 3],
      [1n],
      ['1'],
      [true],
      [null],
      [[1]],
      [{ 0: 1 }],
      [new Date(1)],
      [],
    ]
    for (const args of sets) await fn(...args)
    for (const args of sets) await fn(...args)
    expect(calls).toHaveLength(sets.length)
  })

  it('takes named arguments in any order, and trailing undefined for absent', async () => {
    const { fn, calls } = counted((_: object, __?: number) => 1)
    await fn({ a: 1, b: [2] })
    await fn({ b: [2], a: 1 }, undefined)
    expect(calls).toHaveLength(1)
  })

  it.each([
    undefined,
    null,
    0,
    '',
    false,
    Number.NaN,
    'NO_VALUE',
    'corral.NO_VALUE',
    'Symbol(corral.NO_VALUE)',
  ])('caches %s like any other value', async (value) => {
    const { fn, calls } = counted(() => value)
    expect([await fn(), await fn(), await fn.get()]).toEqual([value, value, value])
    expect(calls).toHaveLength(1)
  })

  it('does not cache errors, thrown or rejected', async () => {
    let fail = true
    const boom = new Error('boom')
    for (const work of [
      () => {
        if (fail) throw boom
        return Promise.resolve('ok')
      },
      async () => {
        if (fail) throw boom
        return 'ok'
      },
    ]) {
      fail = true
      const { fn } = counted(work as () => Promise<string>)
      await expect(fn()).rejects.toBe(boom)
      fail = false
      expect(await fn()).toBe('ok')
    }
  })

  it('runs once for all concurrent callers', async () => {
    const { create, resolve } = held<string>()
    const { fn, calls } = counted(create)
    const all = Array.from({ length: 50 }, () => fn())
    resolve('value')
    expect(new Set(await Promise.all(all))).toEqual(new Set(['value']))
    expect(calls).toHaveLength(1)
  })

  it('forgets a call that is invalidated with the same arguments, however they are spelled', async () => {
    const { fn, calls } = counted((_id: number, _options?: { deep?: boolean; lang?: string }) => 1)
    await fn(1, { deep: true, lang: 'de' })
    await fn(2)
    await fn.invalidate(1, { lang: 'de', deep: true })
    await fn.invalidate(3)
    await fn(1, { deep: true, lang: 'de' })
    await fn(2, undefined)
    expect(calls.map(([id]) => id)).toEqual([1, 2, 1])
  })

  it('has one key for all arguments when told so, and invalidate knows it', async () => {
    const { fn, calls, region } = counted((...args: number[]) => args.length, { key: 'all' })
    await fn(1, 2)
    expect(await fn(3)).toBe(2)
    await fn.invalidate(9)
    await fn(4)
    expect(calls).toHaveLength(2)
    const other = cacheResults({ region, namespace: 'other', key: 'all' })(() => 7)
    expect(await other()).toBe(7)
  })

  it('makes keys by a function of the arguments', async () => {
    const { fn, calls } = counted((user: { id: number; name: string }) => user.name, {
      key: (user: { id: number }) => `${user.id}`,
    })
    await fn({ id: 1, name: 'a' })
    expect(await fn({ id: 1, name: 'b' })).toBe('a')
    expect(calls).toHaveLength(1)
  })

  it('runs uncached with arguments that no key can be made of, and says so', async () => {
    const said = notices()
    const { fn, calls } = counted((what: unknown) => typeof what)
    const circle: { self?: unknown } = {}
    circle.self = circle
    for (const argument of [new Map(), () => 1, Symbol('x'), circle]) {
      await fn(argument)
      await fn(argument)
      await fn.invalidate(argument)
      await fn.invalidate.soft(argument)
      await fn.set('object', argument)
      expect(await fn.get(argument)).toBe(NO_VALUE)
      expect(await fn.refresh(argument)).toBe(typeof argument)
    }
    expect(calls).toHaveLength(12)
    expect(said[0]).toMatch(/Not cached\. Expected argument 0 to be .*instance of Map/)
  })

  it('rejects them when told to', async () => {
    const { fn, calls } = counted((what: unknown) => typeof what, { onKeyError: 'throw' })
    for (const work of [() => fn(new Map()), () => fn.invalidate(new Map()), () => fn.get(new Map())])
      await expect(work()).rejects.toMatchObject({ code: 'ERR_KEY_ARGUMENT' })
    expect(calls).toHaveLength(0)
  })

  it('lets an error of a key function of yours through', async () => {
    const boom = new Error('boom')
    const { fn } = counted(() => 1, {
      key: () => {
        throw boom
      },
    })
    await expect(fn()).rejects.toBe(boom)
  })

  it('can be switched off and on, without forgetting or bringing back', async () => {
    let on = true
    const { fn, calls } = counted((id: number) => id, { enabled: () => on })
    await fn(1)
    await fn(2)
    on = false
    await fn(1)
    expect(await fn.get(1)).toBe(NO_VALUE)
    await fn.invalidate(2)
    expect(calls).toHaveLength(3)
    on = true
    await fn(1)
    await fn(2)
    expect(calls.map(([id]) => id)).toEqual([1, 2, 1, 2])
  })

  it('may be stale after a soft invalidation, also of a time when it was switched off', async () => {
    let on = true
    let version = 1
    const region = makeRegion<string>({
      backend: memory(),
      asyncCreationRunner: () => {},
    })
    const fn = cacheResults({ region, namespace: 'fn', enabled: () => on })(async () => `v${version}`)
    await fn()
    version = 2
    on = false
    await fn.invalidate.soft()
    on = true
    expect(await fn.get()).toBe(NO_VALUE)
    expect(await region.get(fn.key(), { ignoreExpiration: true })).toBe('v1')
    expect(await fn()).toBe('v1')
  })

  it('stores only the values that `shouldCache` accepts', async () => {
    const { fn, calls } = counted((id: number) => id, { shouldCache: (value: unknown) => value !== 0 })
    for (const id of [0, 1, 0, 1]) await fn(id)
    expect(calls.map(([id]) => id)).toEqual([0, 1, 0])
  })

  it('shares objects, or gives every caller a copy', async () => {
    const shared = counted(() => ({ list: [1] }))
    const first = await shared.fn()
    first.list.push(2)
    expect(await shared.fn()).toEqual({ list: [1, 2] })

    const own = counted(async () => ({ list: [1] }), { copy: 'clone' })
    const [one, other] = await Promise.all([own.fn(), own.fn()])
    one.list.push(2)
    other.list.push(3)
    ;(await own.fn()).list.push(4)
    ;((await own.fn.get()) as { list: number[] }).list.push(5)
    ;(await own.fn.refresh()).list.push(5)
    const given = { list: [6] }
    expect(await own.fn()).toEqual({ list: [1] })
    await own.fn.set(given)
    given.list.push(7)
    expect(await own.fn()).toEqual({ list: [6] })
    expect(own.calls).toHaveLength(2)
  })

  it('stores a copy of its own: the function may keep what it returned, and change it', async () => {
    const kept: { list: number[] }[] = []
    const { fn } = counted(
      () => {
        const made = { list: [1] }
        kept.push(made)
        return made
      },
      { copy: 'clone' },
    )
    await fn()
    kept[0]?.list.push(2)
    expect(await fn()).toEqual({ list: [1] })
  })

  it('refuses to clone a value that cannot be cloned', async () => {
    const { fn } = counted(() => () => 1, { copy: 'clone' })
    await expect(fn()).rejects.toMatchObject({ code: 'ERR_UNENCODABLE' })
  })

  it('keeps functions of the same name apart by their namespaces, and methods by class and instance', async () => {
    const region = makeRegion<string>({ backend: memory() })
    class Shop {
      constructor(readonly id: number) {}
      runs = 0
      @cacheResults({ region, namespace: 'Shop.price', self: (shop: Shop) => shop.id })
      async price(article: string): Promise<string> {
        this.runs++
        return `${article} in shop ${this.id}`
      }
    }
    class Market {
      constructor(readonly id: number) {}
      @cacheResults({ region, namespace: 'Market.price', self: (market: Market) => market.id })
      async price(article: string): Promise<string> {
        return `${article} in market ${this.id}`
      }
      @cacheResults({ region, namespace: 'Market.all', self: 'shared' })
      async all(): Promise<string> {
        return `all of ${this.id}`
      }
    }
    const [one, two, market] = [new Shop(1), new Shop(2), new Market(1)]
    for (let i = 0; i < 2; i++) {
      expect(await one.price('tea')).toBe('tea in shop 1')
      expect(await two.price('tea')).toBe('tea in shop 2')
      expect(await market.price('tea')).toBe('tea in market 1')
      expect(await market.all()).toBe('all of 1')
      expect(await new Market(2).all()).toBe('all of 1')
    }
    expect([one.runs, two.runs]).toEqual([1, 1])
    await methodOf(one, 'price').invalidate('tea')
    await Promise.all([one.price('tea'), two.price('tea')])
    expect([one.runs, two.runs]).toEqual([2, 1])
    expect(one.price.name).toBe('price')
  })

  it('takes dependencies and groups', async () => {
    const region = makeRegion<number>({ name: 'r', backend: wrap(memory(), dependencies()) })
    let runs = 0
    const fn = cacheResults({
      region,
      namespace: 'fn',
      dependencies: (id: number) => dep.id('user', id),
      resultDependencies: () => dep.tag('made'),
      group: { user: ([id]: [number]) => id },
    })((_id: number) => ++runs)
    for (const [i, name] of [dep.group('user', 5), dep.id('user', 5), dep.tag('made')].entries()) {
      expect(await fn(5)).toBe(i + 1)
      await region.invalidateDependencies(name)
    }
    expect(await fn(5)).toBe(4)
  })

  it.each<[string, unknown, boolean]>([
    ['while it is switched off', 5, false],
    ['with arguments that make no key', { id: 5, more: () => 1 }, true],
  ])('declares its dependencies to a creation around it, also %s', async (_, argument, on) => {
    const region = makeRegion<string>({ name: 'r', backend: wrap(memory(), dependencies()) })
    const idOf = (of: unknown) => (typeof of === 'object' ? (of as { id: number }).id : (of as number))
    let name = 'old'
    const user = cacheResults(async (_of: unknown) => name, {
      region,
      namespace: 'user',
      enabled: () => on,
      dependencies: (of) => dep.id('user', idOf(of)),
      resultDependencies: (made) => dep.tag(made),
      group: { team: ([of]) => idOf(of) },
    })
    const page = region.cacheOnArguments({ namespace: 'page' })(async () => `<${await user(argument)}>`)
    for (const [i, gone] of [dep.id('user', 5), dep.group('team', 5), dep.tag('new 1')].entries()) {
      await page()
      name = `new ${i}`
      await region.invalidateDependencies(gone)
      expect(await page()).toBe(`<${name}>`)
    }
    await page()
    name = 'unheard'
    await region.invalidateDependencies(dep.id('user', 6))
    expect(await page()).toBe('<new 2>')
    expect(await user(argument)).toBe('unheard')
  })

  it('keeps values made from its uncached result from being stored where its names mean nothing', async () => {
    const tracking = (name: string) => makeRegion<string>({ name, backend: wrap(memory(), dependencies()) })
    const [one, other] = [tracking('one'), tracking('other')]
    const plain = makeRegion<string>({ name: 'plain', backend: memory() })
    const user = cacheResults({
      region: one,
      namespace: 'user',
      enabled: () => false,
      dependencies: () => dep.id('user', 5),
    })(async () => 'user')
    await other.getOrCreate('page', () => user())
    expect(other.peek('page')).toBe(NO_VALUE)
    await plain.getOrCreate('page', () => user())
    expect(plain.peek('page')).toBe('user')
    await one.getOrCreate('book', () => plain.getOrCreate('other page', () => user()))
    expect(one.peek('book')).toBe(NO_VALUE)
    // The same holds if the plain value is stored already.
    await one.getOrCreate('later book', () => plain.getOrCreate('page', () => 'there already'))
    expect(one.peek('later book')).toBe(NO_VALUE)
  })

  it('asks for `self` at every call, and says so when there is no instance', async () => {
    class Shop {
      constructor(public id: number) {}
      @cacheResults({
        region: makeRegion<string>({ backend: memory() }),
        namespace: 'stock',
        self: (shop: Shop) => shop.id,
      })
      async stock(): Promise<string> {
        return `of ${this.id}`
      }
    }
    const shop = new Shop(1)
    await shop.stock()
    shop.id = 2
    expect(await shop.stock()).toBe('of 2')
    expect(await methodOf(shop, 'stock').get()).toBe('of 2')
    const { stock } = shop
    await expect(Reflect.apply(stock, undefined, [])).rejects.toMatchObject({ code: 'ERR_OPTION' })
  })

  it('refuses a switch that answers later, which would always be on', async () => {
    const { fn, calls } = counted(() => 1, { enabled: (async () => false) as never })
    await expect(fn()).rejects.toMatchObject({ code: 'ERR_OPTION' })
    expect(calls).toHaveLength(0)
  })

  it('has the members of a cached function', async () => {
    const { fn } = counted((id: number, _more?: string) => `made ${id}`)
    expect(await fn.get(1)).toBe(NO_VALUE)
    await fn.set('set', 1)
    expect(await fn(1)).toBe('set')
    expect(await fn.refresh(1)).toBe('made 1')
    await fn.invalidate.soft(1)
    expect(await fn.get(1)).toBe(NO_VALUE)
    expect(fn.original(1)).toBe('made 1')
    expect(fn.key(1)).toBe('fn|1')
  })

  it('may be used before the region is configured', async () => {
    const region = makeRegion<number>()
    const fn = cacheResults({ region, namespace: 'fn' })(() => 1)
    await expect(fn()).rejects.toMatchObject({ code: 'ERR_NOT_CONFIGURED' })
    region.configure({ backend: memory() })
    expect(await fn()).toBe(1)
  })

  it('takes the function first', async () => {
    const { region } = { region: makeRegion<string>({ backend: memory() }) }
    const load = async (id: unknown) => `${typeof id}`
    const cached = cacheResults(load, {
      region,
      namespace: 'first',
      shouldCache: (value) => value.length > 1,
    })
    expect([await cached(1), await cached.get(1)]).toEqual(['number', 'number'])
    expect(await cached(() => 1)).toBe('function')
    expect(cached.original).toBe(load)
    expect(() => cacheResults(load, undefined as never)).toThrow(/`namespace`/)
  })

  const region = makeRegion<number>({ backend: memory() })
  it.each<[string, unknown, RegExp]>([
    ['no region', { namespace: 'a' }, /`region`/],
    ['no namespace', { region }, /`namespace`/],
    ['an unknown option', { region, namespace: 'a', ttl: 1 }, /`ttl`/],
    ['an expiration time of nothing', { region, namespace: 'a', expirationTime: 0 }, /expirationTime/],
    ['a key that is none', { region, namespace: 'a', key: 5 }, /`key`/],
    ['a switch that is none', { region, namespace: 'a', enabled: true }, /`enabled`/],
    ['another way with keys', { region, namespace: 'a', onKeyError: 'ignore' }, /`onKeyError`/],
    ['another way to copy', { region, namespace: 'a', copy: 'freeze' }, /`copy`/],
    ['a self that is none', { region, namespace: 'a', self: 1 }, /`self`/],
  ])('refuses %s', (_, options, message) => {
    expect(() => cacheResults(options as never)(() => 1 as never)).toThrow(message)
  })

  it('refuses a value that is no function, and a method without `self`', () => {
    expect(() => cacheResults({ region, namespace: 'a' })('x' as never)).toThrow(/to wrap a function/)
    expect(() => {
      class Wrong {
        @cacheResults({ region, namespace: 'a' })
        async method(): Promise<number> {
          return 1
        }
      }
      return Wrong
    }).toThrow(/`self`/)
  })
})
