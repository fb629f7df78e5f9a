import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import {
  type CorralError,
  type CreationJob,
  intercept,
  makeRegion,
  NO_VALUE,
  optionsKeyGenerator,
  wrap,
} from '../../src/index.js'
import { counting, held, inEveryRegion, open as openMemory } from '../support/stage.js'
import { idle } from '../support/waiting.js'

inEveryRegion('a cached function', (open) => {
  it('is called on a miss, not on a hit, and again after expiration', async () => {
    const { region, clock } = open<number>({ expirationTime: 250 })
    const calls = counting()
    const go = region.cacheOnArguments({ namespace: 'go' })((a: number, b: number) => calls.next() + a + b)
    expect(await go(1, 2)).toBe(4)
    expect(await go(3, 4)).toBe(9)
    expect(await go(1, 2)).toBe(4)
    clock.tick(251)
    expect(await go(3, 4)).toBe(10)
    expect(await go(1, 2)).toBe(7)
    expect(calls.runs).toBe(4)
  })

  it('has an expiration time of its own', async () => {
    const { region, clock } = open<number>({ expirationTime: 250 })
    const calls = counting()
    const go = region.cacheOnArguments({ namespace: 'go', expirationTime: 500 })(calls.next)
    expect(await go()).toBe(1)
    clock.tick(300)
    expect(await go()).toBe(1)
    expect(await go.get()).toBe(1)
    clock.tick(201)
    expect(await go.get()).toBe(NO_VALUE)
    expect(await go()).toBe(2)
  })

  it('may compute its expiration time from its arguments, once for each entry', async () => {
    const { region, clock } = open<number>({ expirationTime: 250 })
    const calls = counting()
    const asked: boolean[] = []
    const go = region.cacheOnArguments((_: boolean) => calls.next(), {
      namespace: 'go',
      expirationTime: (slow) => {
        asked.push(slow)
        return slow ? 1_000 : undefined
      },
    })
    expect(await go(true)).toBe(1)
    expect(await go(false)).toBe(2)
    clock.tick(300)
    expect(await go(true)).toBe(1)
    expect(await go.get(true)).toBe(1)
    expect(await go(false)).toBe(3)
    expect(asked).toEqual([true, false, false])
    await go.set(10, true)
    clock.tick(300)
    expect(await go.get(true)).toBe(10)
    clock.tick(701)
    expect(await go.get(true)).toBe(NO_VALUE)
    expect(await go.refresh(true)).toBe(4)
    clock.tick(1_000)
    expect(await go(true)).toBe(4)
    expect(asked).toEqual([true, false, false, true, true])
  })

  it('may give an entry the lifetime that its result brings along', async () => {
    const { region, clock } = open<{ no: number; lasts: number }>({ expirationTime: 250 })
    const calls = counting()
    const asked: unknown[][] = []
    const go = region.cacheOnArguments(
      async (lasts: number, _twice = false) => ({ no: calls.next(), lasts }),
      {
        namespace: 'go',
        expirationTime: {
          ofResult: (result, ...args) => {
            asked.push([result.no, ...args])
            return result.lasts > 0 ? result.lasts : undefined
          },
        },
      },
    )
    expect((await go(1_000)).no).toBe(1)
    expect((await go(100, true)).no).toBe(2)
    expect((await go(0)).no).toBe(3)
    clock.tick(101)
    expect((await go(100, true)).no).toBe(4)
    expect((await go(0)).no).toBe(3)
    clock.tick(150)
    expect((await go(0)).no).toBe(5)
    clock.tick(749)
    expect((await go(1_000)).no).toBe(1)
    clock.tick(1)
    expect(await go.get(1_000)).toBe(NO_VALUE)
    expect(asked).toEqual([
      [1, 1_000],
      [2, 100, true],
      [3, 0],
      [4, 100, true],
      [5, 0],
    ])
    await go.set({ no: 6, lasts: 500 }, 1_000)
    clock.tick(500)
    expect((await go(1_000)).no).toBe(6)
    clock.tick(1)
    expect((await go.refresh(1_000)).no).toBe(6)
    clock.tick(1_000)
    expect((await go(1_000)).no).toBe(6)
  })

  it('asks for no lifetime of a result that `shouldCache` keeps out, which it then asks once', async () => {
    const { region } = open<{ lasts: number } | null>()
    const expirationTime = {
      ofResult: (found: { lasts: number } | null) => (found as { lasts: number }).lasts,
    }
    const load = async (id: number) => (id === 0 ? null : { lasts: id })
    const answers = [false, true]
    const go = region.cacheOnArguments(load, {
      namespace: 'go',
      expirationTime,
      shouldCache: () => answers.shift() ?? false,
    })
    expect([await go(0), answers]).toEqual([null, [true]])
    expect(await go.get(0)).toBe(NO_VALUE)
    const many = region.cacheMultiOnArguments(async (...ids: number[]) => Promise.all(ids.map(load)), {
      namespace: 'many',
      expirationTime,
      shouldCache: (found) => found !== null,
    })
    expect([await many(0, 5_000), await many.refresh(0)]).toEqual([[null, { lasts: 5_000 }], [null]])
    expect(await many.get(0, 5_000)).toEqual([NO_VALUE, { lasts: 5_000 }])
    expect((await region.explain(many.keys(5_000)[0] as string)).expiresIn).toBe(5_000)
    expect(await go.with({ shouldCache: () => true, expirationTime: 50 })(0)).toBe(null)
    expect(await go.get(0)).toBe(null)
  })

  it('with a lifetime of its own is renewed with the lifetime of its new result', async () => {
    const { region, clock } = open<number>({ expirationTime: 250 })
    const calls = counting()
    const go = region.cacheOnArguments(async () => calls.next() * 1_000, {
      namespace: 'go',
      expirationTime: { ofResult: (result) => result },
    })
    expect(await go()).toBe(1_000)
    await go.invalidate.soft()
    await go()
    await idle()
    expect(await go()).toBe(2_000)
    clock.tick(2_000)
    expect(await go()).toBe(2_000)
  })

  it('has the options of its declaration, also if the caller uses the object again', async () => {
    const { region, clock } = open<number>({ expirationTime: 250 })
    const calls = counting()
    const lasting = { ofResult: () => 1_000 }
    const options = { namespace: 'one', expirationTime: lasting, sharesNamespace: true }
    const one = region.cacheOnArguments(calls.next, options)
    const declare = region.cacheOnArguments({ ...options, namespace: 'two' })
    Object.assign(lasting, { ofResult: () => 1 })
    Object.assign(options, { namespace: 'three', expirationTime: undefined, shouldCache: () => false })
    const two = declare(async () => calls.next())
    expect([await one(), await two()]).toEqual([1, 2])
    clock.tick(999)
    expect([await one.with({})(), await two()]).toEqual([1, 2])
    clock.tick(2)
    expect(await one()).toBe(3)
  })

  it('refuses arguments and values that are nested too deep, with a short path in the message', async () => {
    const { region } = open<unknown>()
    let deep: unknown = 1
    for (let i = 0; i < 20_000; i++) deep = i % 2 === 0 ? [deep] : { part: deep }
    const go = region.cacheOnArguments((_: unknown): unknown => 1, { namespace: 'go' })
    const copies = region.cacheOnArguments(() => deep, { namespace: 'copies', copy: 'clone' })
    for (const [call, code] of [
      [go(deep), 'ERR_KEY_ARGUMENT'],
      [copies(), 'ERR_UNENCODABLE'],
    ] as const) {
      const error = await call.then(
        () => expect.unreachable(),
        (reason: unknown) => reason as CorralError,
      )
      expect(error).toMatchObject({ code, message: expect.stringContaining('deeper than 500') as string })
      expect(error.message.length).toBeLessThan(500)
    }
  })

  it('rejects when the computed expiration time cannot be', async () => {
    const { region } = open<number>()
    const go = region.cacheOnArguments({ namespace: 'go', expirationTime: () => 0 })((): number =>
      expect.unreachable(),
    )
    await expect(go()).rejects.toMatchObject({ code: 'ERR_OPTION' })
    expect(await go.get()).toBe(NO_VALUE)
    await expect(go.set(1)).rejects.toMatchObject({ code: 'ERR_OPTION' })
    await expect(go.refresh()).rejects.toMatchObject({ code: 'ERR_OPTION' })
    const calls = counting()
    for (const [i, wrong] of [() => -1, () => Number.NaN, async () => 5].entries()) {
      const late = region.cacheOnArguments(calls.next, {
        namespace: `late ${i}`,
        expirationTime: { ofResult: wrong as () => number },
      })
      await expect(late()).rejects.toThrow(/`expirationTime` of a cached function/)
      await expect(late()).rejects.toMatchObject({ code: 'ERR_OPTION' })
      await expect(late.set(1)).rejects.toMatchObject({ code: 'ERR_OPTION' })
      expect(await late.get()).toBe(NO_VALUE)
    }
  })

  it('forgets a value when it is invalidated', async () => {
    const { region } = open<number>()
    const calls = counting()
    const go = region.cacheOnArguments({ namespace: 'go' })((a: number) => calls.next() + a)
    expect(await go(1)).toBe(2)
    expect(await go(1)).toBe(2)
    expect(await go(10)).toBe(12)
    await go.invalidate(1)
    expect(await go.get(1)).toBe(NO_VALUE)
    expect(await go(1)).toBe(4)
    expect(await go(10)).toBe(12)
    await go.invalidate(99)
  })

  it('serves an old value while it is renewed when it is invalidated softly', async () => {
    const { region } = open<string>()
    const calls = counting()
    const gate = held<string>()
    const go = region.cacheOnArguments({ namespace: 'go' })(() =>
      calls.next() === 1 ? 'old' : gate.create(),
    )
    expect(await go()).toBe('old')
    await go.invalidate.soft()
    const leader = go()
    await gate.started
    expect(await go()).toBe('old')
    gate.resolve('new')
    expect(await leader).toBe('new')
  })

  it('can be given a value, also a falsy one', async () => {
    const { region } = open<number>()
    const go = region.cacheOnArguments({ namespace: 'go' })((_: number) => expect.unreachable() as number)
    await go.set(25, 1)
    expect(await go(1)).toBe(25)
    await go.set(0, 2)
    expect(await go(2)).toBe(0)
    expect(await go.get(2)).toBe(0)
  })

  it('can be asked for its value without being called', async () => {
    const { region } = open<number>()
    const go = region.cacheOnArguments({ namespace: 'go' })((a: number) => a * 2)
    expect(await go.get(1)).toBe(NO_VALUE)
    expect(await go(1)).toBe(2)
    expect(await go.get(1)).toBe(2)
    expect(await go.get(2)).toBe(NO_VALUE)
  })

  it('can be refreshed, which always calls it', async () => {
    const { region } = open<number>()
    const calls = counting()
    const go = region.cacheOnArguments({ namespace: 'go' })((a: number) => calls.next() + a)
    expect(await go.refresh(10)).toBe(11)
    expect(await go(10)).toBe(11)
    expect(await go.refresh(10)).toBe(12)
    expect(await go(10)).toBe(12)
    expect(await go.get(10)).toBe(12)
  })

  it('keeps shouldCache in every form', async () => {
    const { region } = open<number>()
    const calls = counting()
    const told: string[] = []
    const go = region.cacheOnArguments({
      namespace: 'go',
      shouldCache: (value: number, key: string) => {
        told.push(`${key} ${value}`)
        return value % 2 === 1
      },
    })((_: string) => calls.next())
    expect(await go('a')).toBe(1)
    expect(await go.get('a')).toBe(1)
    expect(await go.refresh('a')).toBe(2)
    // An older value must not outlive a refresh that was not kept.
    expect(await go.get('a')).toBe(NO_VALUE)
    await go.set(4, 'a')
    expect(await go.get('a')).toBe(NO_VALUE)
    await go.set(5, 'a')
    expect(await go.get('a')).toBe(5)
    expect(told).toContain('go|"a" 4')
  })

  it('keeps an older value when a refresh fails', async () => {
    const { region } = open<string>()
    let broken = false
    const go = region.cacheOnArguments({ namespace: 'go' })(() => {
      if (broken) throw new Error('boom')
      return 'old'
    })
    await go()
    broken = true
    await expect(go.refresh()).rejects.toThrow('boom')
    expect(await go.get()).toBe('old')
    expect(await region.keyIsLocked(go.key())).toBe(false)
  })

  it('passes the error of the function on', async () => {
    const { region } = open<number>()
    const boom = new Error('boom')
    const go = region.cacheOnArguments({ namespace: 'go' })(() => Promise.reject(boom))
    await expect(go()).rejects.toBe(boom)
    await expect(go.refresh()).rejects.toBe(boom)
  })

  it('voids a call under way when it is set, invalidated or refreshed', async () => {
    for (const how of ['set', 'invalidate', 'refresh'] as const) {
      const { region } = open<string>()
      const slow = held<string>()
      let first = true
      const go = region.cacheOnArguments({ namespace: 'go' })(() => {
        if (!first) return 'refreshed'
        first = false
        return slow.create()
      })
      const call = go()
      await slow.started
      if (how === 'set') await go.set('set')
      if (how === 'invalidate') await go.invalidate()
      if (how === 'refresh') await go.refresh()
      slow.resolve('made before')
      expect(await call).toBe('made before')
      expect(await go.get()).toBe({ set: 'set', invalidate: NO_VALUE, refresh: 'refreshed' }[how])
    }
  })

  it('hands a runner the work that it can renew later', async () => {
    const jobs: CreationJob[] = []
    const { region } = open<number>({ asyncCreationRunner: (job) => void jobs.push(job) })
    const calls = counting()
    const go = region.cacheOnArguments({ namespace: 'go' })((a: number, b: number) => calls.next() + a + b)
    expect(await go(1, 2)).toBe(4)
    await region.invalidate('soft')
    expect(await go(1, 2)).toBe(4)
    expect(jobs.map(({ key }) => key)).toEqual(['go|1,2'])
    expect(jobs[0]?.key).toBe(go.key(1, 2))
    await jobs[0]?.run()
    expect(await go(1, 2)).toBe(5)
  })

  it('may call another cached function', async () => {
    const { region } = open<string>()
    const inner = region.cacheOnArguments({ namespace: 'inner' })((a: string) => `inner ${a}`)
    const outer = region.cacheOnArguments({ namespace: 'outer' })(
      async (a: string) => `outer ${await inner(a)}`,
    )
    expect(await outer('x')).toBe('outer inner x')
    expect(await inner.get('x')).toBe('inner x')
  })
})

describe('the wrapper of a function', () => {
  const { region } = openMemory()

  it('keeps its name and length', () => {
    function twoArguments(a: number, b: number) {
      return a + b
    }
    const cached = region.cacheOnArguments({ namespace: 'n' })(twoArguments)
    expect(cached.name).toBe('twoArguments')
    expect(cached.length).toBe(2)
    expect(twoArguments).not.toHaveProperty('get')
  })

  it('offers the function itself', async () => {
    const calls = counting()
    const fn = (a: number) => calls.next() + a
    const cached = region.cacheOnArguments({ namespace: 'original' })(fn)
    await cached(10)
    expect(cached.original(10)).toBe(12)
    expect(await cached(10)).toBe(11)
  })

  it('offers the very function that was passed', () => {
    const fn = Object.assign(async (id: number) => id, { version: 3 })
    const many = async (...ids: number[]) => ids
    expect(region.cacheOnArguments(fn, { namespace: 'same' }).original).toBe(fn)
    expect(region.cacheOnArguments({ namespace: 'same curried' })(fn).original).toBe(fn)
    expect(region.cacheMultiOnArguments(many, { namespace: 'same many' }).original).toBe(many)
  })

  it('may be made of the function and its options at once', async () => {
    const cached = region.cacheOnArguments(async (id: number) => id + 1, {
      namespace: 'at once',
      key: (id) => `${id % 2}`,
      shouldCache: (value) => value < 10,
    })
    expect(await cached(1)).toBe(2)
    expect(await cached(3)).toBe(2)
    expect(await cached(10)).toBe(11)
    expect(await cached.get(10)).toBe(NO_VALUE)
    expect(() => region.cacheOnArguments(async () => 1, undefined as never)).toThrow(
      /options after the function.*Call cacheOnArguments\(fn, \{ namespace \}\)/,
    )
    expect(() => region.cacheOnArguments(async () => 1, {})).toThrow(
      expect.objectContaining({ code: 'ERR_NAMESPACE' }) as Error,
    )
  })

  it('returns the outcome of set', async () => {
    const { region } = openMemory<number>()
    let on = true
    const one = region.cacheOnArguments(async (id: number) => id, {
      namespace: 'one',
      shouldCache: (value) => value > 0,
      enabled: () => on,
    })
    expect(await one.set(1, 1)).toBe('stored')
    expect(await one.set(0, 1)).toBe('withheld')
    expect(await one.get(1)).toBe(NO_VALUE)
    on = false
    expect(await one.set(1, 1)).toBe('withheld')
    const many = region.cacheMultiOnArguments(async (...ids: number[]) => ids, {
      namespace: 'many',
      shouldCache: (value) => value > 0,
    })
    const values = new Map([
      [1, 1],
      [2, 0],
      [3, 3],
    ])
    expect(await many.set(values)).toEqual(['stored', 'withheld', 'stored'])
    expect(await many.get(1, 2, 3)).toEqual([1, NO_VALUE, 3])
    expect(await many.set(new Map())).toEqual([])
    const refusing = makeRegion<number>({
      backend: wrap(
        memory(),
        intercept((operation, proceed) =>
          operation.name === 'set'
            ? ('refused' as never)
            : operation.name === 'setMulti'
              ? (operation.keys.map(() => 'refused') as never)
              : proceed(),
        ),
      ),
    })
    expect(await refusing.cacheOnArguments(async () => 1, { namespace: 'n' }).set(1)).toEqual(
      await refusing.set('key', 1),
    )
  })

  it('may be made before the region is configured', async () => {
    const late = makeRegion<number>()
    const cached = late.cacheOnArguments({ namespace: 'late' })((a: number) => a)
    expect(cached.key(1)).toBe('late|1')
    await expect(cached(1)).rejects.toMatchObject({ code: 'ERR_NOT_CONFIGURED' })
    late.configure({ backend: memory() })
    expect(await cached(1)).toBe(1)
  })

  it('tells keys apart by namespace, not by the name of the function', async () => {
    const one = region.cacheOnArguments({ namespace: 'one' })(function same() {
      return 1
    })
    const other = region.cacheOnArguments({ namespace: 'other' })(function same() {
      return 2
    })
    expect(await one()).toBe(1)
    expect(await other()).toBe(2)
  })

  it('ends the waiting for another call at its own deadline', async () => {
    const slow = held<number>()
    const cached = region.cacheOnArguments({ namespace: 'slow', hardTimeout: 5 })(slow.create)
    const leader = cached.with({ hardTimeout: '1h' })()
    await slow.started
    await expect(cached()).rejects.toMatchObject({ code: 'ERR_CREATION_TIMEOUT' })
    slow.resolve(1)
    expect(await leader).toBe(1)
  })

  it('refuses options that cannot be', () => {
    const wrong: readonly unknown[] = [
      undefined,
      null,
      {},
      { namespace: '' },
      { namespace: 5 },
      { namespace: 'n', expiration_time: 5 },
      { namespace: 'n', expirationTime: 0 },
      { namespace: 'n', shouldCache: true },
      { namespace: 'n', hardTimeout: -1 },
      { namespace: 'n', wait: 5 },
      'namespace',
    ]
    for (const options of wrong)
      expect(() => region.cacheOnArguments(options as never), JSON.stringify(options)).toThrow(
        expect.objectContaining({
          code: expect.stringMatching(/^ERR_(OPTION|NAMESPACE)$/) as string,
        }) as Error,
      )
    for (const fn of [undefined, null, 5, 'f', {}])
      expect(() => region.cacheOnArguments({ namespace: 'n' })(fn as never)).toThrow(
        expect.objectContaining({ code: 'ERR_OPTION' }) as Error,
      )
  })
})

describe('an option of a cached function', () => {
  const open = () => openMemory<string>().region

  it('may be one key for all arguments, or a function of them, which every member uses', async () => {
    const region = open()
    const all = region.cacheOnArguments({ namespace: 'all', key: 'all' })((name: string) => name)
    const byId = region.cacheOnArguments({ namespace: 'id', key: ({ id }: { id: number }) => `${id}` })(
      (user: { id: number; name: string }) => user.name,
    )
    expect([await all('a'), await all('b')]).toEqual(['a', 'a'])
    expect([await byId({ id: 1, name: 'a' }), await byId({ id: 1, name: 'b' })]).toEqual(['a', 'a'])
    await byId.invalidate({ id: 1, name: 'c' })
    expect(await byId.get({ id: 1, name: 'd' })).toBe(NO_VALUE)
    expect(byId.key({ id: 1, name: 'a' })).toBe('id|"1"')
  })

  it('may be a key beside a generator of the region that takes other arguments', async () => {
    const region = makeRegion<string>({ backend: memory(), functionKeyGenerator: optionsKeyGenerator() })
    const all = region.cacheOnArguments({ namespace: 'all', key: 'all' })((name: string) => name)
    expect([await all('a'), await all('b')]).toEqual(['a', 'a'])
  })

  it('may switch it off, run it uncached without a key, and give every caller a copy', async () => {
    const region = makeRegion<object>({ backend: memory() })
    let enabled = true
    const load = region.cacheOnArguments({
      namespace: 'load',
      enabled: () => enabled,
      onKeyError: 'bypass',
      copy: 'clone',
    })((id: unknown) => ({ id }))
    const [one, other] = [await load(1), await load(1)]
    expect(one).toEqual(other)
    expect(one).not.toBe(other)
    expect(await load(load)).toEqual({ id: load })
    enabled = false
    expect(await load.get(1)).toBe(NO_VALUE)
  })

  it.each([undefined, null, Number.NaN])(
    'is needed where `key` answers %s, which all such calls would share',
    async (id) => {
      const region = open()
      const options = { namespace: 'load', key: (order: { id: unknown }) => order.id as string }
      const order = { id, of: 'Ann' }
      const strict = region.cacheOnArguments(async (one: typeof order) => one.of, options)
      await expect(strict(order)).rejects.toMatchObject({ code: 'ERR_KEY_ARGUMENT' })
      const lenient = region.cacheOnArguments(async (one: typeof order) => one.of, {
        ...options,
        namespace: 'lenient',
        onKeyError: 'bypass',
      })
      expect([await lenient(order), await lenient({ id, of: 'Bob' })]).toEqual(['Ann', 'Bob'])
    },
  )

  it('is needed to run it uncached: without onKeyError it rejects arguments without a key', async () => {
    const load = open().cacheOnArguments({ namespace: 'load' })((_: unknown) => 'value')
    await expect(load(() => 1)).rejects.toMatchObject({ code: 'ERR_KEY_ARGUMENT' })
  })
})

describe('a cached function over several stores', () => {
  it('counts, forgets and counts on', async () => {
    const { region } = openMemory<number>()
    let counter = 0
    const go = region.cacheOnArguments({ namespace: 'go' })((a: number, b: number) => {
      counter++
      return counter + a + b
    })
    expect(await go(3, 4)).toBe(8)
    expect(await go(5, 6)).toBe(13)
    expect(await go(3, 4)).toBe(8)
    await go.invalidate(3, 4)
    expect(await go(3, 4)).toBe(10)
    await go.invalidate(3, 4)
    expect(await go(3, 4)).toBe(11)
    await idle()
  })
})
