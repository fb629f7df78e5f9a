import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { type Invalidation, makeRegion, methodOf, NO_VALUE, wrap } from '../../src/index.js'
import { counting, held, inEveryRegion, open as openMemory } from '../support/stage.js'

inEveryRegion('the options of one call', (open) => {
  it('end the waiting of this caller by a signal, and of no other', async () => {
    const { region } = open<string>()
    const slow = held<string>()
    const load = region.cacheOnArguments(slow.create, { namespace: 'load' })
    const stop = new AbortController()
    const impatient = load.with({ signal: stop.signal })()
    const patient = load()
    await slow.started
    stop.abort(new Error('enough'))
    await expect(impatient).rejects.toThrow('enough')
    slow.resolve('value')
    expect(await patient).toBe('value')
    expect(slow.runs).toBe(1)
    await expect(load.with({ signal: stop.signal })()).rejects.toThrow('enough')
    await expect(load.with({ signal: stop.signal }).get()).rejects.toThrow('enough')
    expect(await load.get()).toBe('value')
  })

  it('set how long it waits, how fresh a value it takes and whether its value is stored', async () => {
    const { region, clock } = open<number>({ expirationTime: 1_000 })
    const calls = counting()
    const load = region.cacheOnArguments(async (_: string) => calls.next(), { namespace: 'load' })
    expect(await load.with({ shouldCache: () => false })('a')).toBe(1)
    expect(await load.get('a')).toBe(NO_VALUE)
    expect(await load('a')).toBe(2)
    clock.tick(100)
    expect(await load.with({ expirationTime: 50 }).get('a')).toBe(NO_VALUE)
    expect(await load.get('a')).toBe(2)
    await load.with({ expirationTime: 50 }).set(5, 'a')
    clock.tick(51)
    expect(await load.get('a')).toBe(NO_VALUE)
    for (const [i, expirationTime] of [() => 500, { ofResult: () => 500 }].entries()) {
      const own = region.cacheOnArguments(async () => i, { namespace: `own ${i}`, expirationTime })
      for (const make of [
        () => own.with({ expirationTime: 50 })(),
        () => own.with({ expirationTime: 50 }).refresh(),
      ]) {
        await own.invalidate()
        await make()
        expect((await region.explain(own.key())).expiresIn).toBe(50)
      }
    }
    const slow = held<number>()
    const waiting = region.cacheOnArguments(slow.create, { namespace: 'slow', hardTimeout: '1h' })
    const leader = waiting()
    await slow.started
    await expect(waiting.with({ hardTimeout: 5, abandonAfter: '1h' })()).rejects.toMatchObject({
      code: 'ERR_CREATION_TIMEOUT',
    })
    slow.resolve(1)
    await leader
  })

  it('hold for every member, with those of an earlier with, and leave the function as it was', async () => {
    const { region } = open<number>()
    const calls = counting()
    const load = region.cacheOnArguments(async (_: string) => calls.next(), { namespace: 'load' })
    const never = load.with({ shouldCache: () => false }).with({ hardTimeout: '1m' })
    await load('a')
    expect(await never.refresh('a')).toBe(2)
    expect(await load.get('a')).toBe(NO_VALUE)
    expect(await never.set(5, 'a')).toBe('withheld')
    expect(await load('a')).toBe(3)
    expect(never.key('a')).toBe(load.key('a'))
    expect(never.original).toBe(load.original)
    expect([never.name, never.length]).toEqual([load.name, load.length])
  })

  it('may be given to a function of many ids', async () => {
    const { region } = open<number>()
    const rows = region.cacheMultiOnArguments(async (...ids: number[]) => ids, { namespace: 'rows' })
    expect(await rows.with({ shouldCache: (value) => value > 1 })(1, 2)).toEqual([1, 2])
    expect(await rows.get(1, 2)).toEqual([NO_VALUE, 2])
    const lists = region.cacheMultiOnArguments(async (ids: number[]) => new Map(ids.map((id) => [id, id])), {
      namespace: 'lists',
      ids: 'array',
      asMap: true,
    })
    expect(await lists.with({ shouldCache: () => false })([1])).toEqual(new Map([[1, 1]]))
    expect(await lists.get([1])).toEqual([NO_VALUE])
    const aborted = AbortSignal.abort(new Error('enough'))
    await expect(rows.with({ signal: aborted })(5)).rejects.toThrow('enough')
  })
})

describe('the options of one call', () => {
  it('give an invalidation its reason', async () => {
    const region = makeRegion<number>({ name: 'r', backend: wrap(memory(), dependencies()) })
    const events: Invalidation[] = []
    region.on('invalidate', (event) => void events.push(event))
    const load = region.cacheOnArguments(async (id: number) => id, { namespace: 'load' })
    const rows = region.cacheMultiOnArguments(async (...ids: number[]) => ids, { namespace: 'rows' })
    await load.with({ reason: 'renamed', meta: { by: 'Ada' } }).invalidate(1)
    await load.with({ reason: 'old' }).invalidate.soft(1)
    await rows.with({ reason: 'gone' }).invalidate(1, 2)
    await load.invalidate(1)
    expect(events.map(({ reason, meta }) => [reason, meta])).toEqual([
      ['renamed', { by: 'Ada' }],
      ['old', undefined],
      ['gone', undefined],
      [undefined, undefined],
    ])
  })

  it('end a call of a function that is switched off, whose signal is aborted', async () => {
    const { region } = openMemory<number>()
    const load = region.cacheOnArguments((): number => expect.unreachable(), {
      namespace: 'load',
      enabled: () => false,
    })
    const aborted = AbortSignal.abort(new Error('enough'))
    await expect(load.with({ signal: aborted })()).rejects.toThrow('enough')
    await expect(load.with({ signal: aborted }).refresh()).rejects.toThrow('enough')
  })

  it('are not kept for the renewal of the entry', async () => {
    const region = makeRegion<number>({ name: 'r', backend: wrap(memory(), dependencies()) })
    const calls = counting()
    const load = region.cacheOnArguments(async () => calls.next(), {
      namespace: 'load',
      dependencies: () => 'name',
    })
    const stop = new AbortController()
    await load.with({ signal: stop.signal })()
    stop.abort(new Error('enough'))
    await region.refreshDependencies('name')
    expect(await load.get()).toBe(2)
  })

  it('may be given to a method', async () => {
    const { region } = openMemory<number>()
    class Shop {
      readonly id = 1
      @region.cacheOnArguments({ namespace: 'price', self: (shop: Shop) => shop.id })
      async price(article: string): Promise<number> {
        return article.length + this.id
      }
    }
    const price = methodOf(new Shop(), 'price')
    expect(await price.with({ shouldCache: () => false })('tea')).toBe(4)
    expect(await price.get('tea')).toBe(NO_VALUE)
  })

  it('are checked before the call, also where it would hit', async () => {
    const { region } = openMemory<number>()
    const load = region.cacheOnArguments(async () => 1, { namespace: 'load' })
    const rows = region.cacheMultiOnArguments(async (...ids: number[]) => ids, { namespace: 'rows' })
    await load()
    for (const wrong of [
      { sginal: 1 },
      { hardTimeout: -1 },
      { signal: 5 },
      { expirationTime: 0 },
      null,
      5,
      [],
    ])
      for (const fn of [load, rows])
        expect(() => fn.with(wrong as never), JSON.stringify(wrong)).toThrow(
          expect.objectContaining({ code: 'ERR_OPTION' }) as Error,
        )
    await expect(load.with({ reason: 5 as never }).invalidate()).rejects.toMatchObject({ code: 'ERR_OPTION' })
  })
})
