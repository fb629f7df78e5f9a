import { describe, expect, it, vi } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { nullBackend } from '../../backends/null.js'
import { dependencies } from '../../proxies/dependencies.js'
import { dep, intercept, makeRegion, NO_VALUE, wrap } from '../../src/index.js'
import { counting, held, inEveryRegion, manualClock, open as openMemory } from '../support/stage.js'
import { deferred, idle } from '../support/waiting.js'

inEveryRegion('a cached function of many ids', (open) => {
  /** Answers `<count> <id>`, and counts calls by id. */
  const numbered = () => {
    const calls = counting()
    const asked: number[][] = []
    return {
      asked,
      fn: (...ids: number[]) => {
        asked.push(ids)
        return ids.map((id) => `${calls.next()} ${id}`)
      },
    }
  }

  it('is called only with the ids that are missing, and answers in the order of the call', async () => {
    const { region } = open<string>()
    const { asked, fn } = numbered()
    const go = region.cacheMultiOnArguments({ namespace: 'go' })(fn)
    expect(await go(1, 2)).toEqual(['1 1', '2 2'])
    expect(await go(3, 4)).toEqual(['3 3', '4 4'])
    expect(await go(4, 1, 5)).toEqual(['4 4', '1 1', '5 5'])
    expect(asked).toEqual([[1, 2], [3, 4], [5]])
    await go.invalidate(2, 4)
    expect(await go(2, 8, 4)).toEqual(['6 2', '8 8', '7 4'])
    expect(asked.at(-1)).toEqual([2, 4, 8])
  })

  it('may take its ids as one array, in every member', async () => {
    const { region } = open<string>()
    const { asked, fn } = numbered()
    const go = region.cacheMultiOnArguments((ids: readonly number[]) => fn(...ids), {
      namespace: 'go',
      ids: 'array',
    })
    const given = [3, 1, 3]
    expect(await go(given)).toEqual(['2 3', '1 1', '2 3'])
    expect(given).toEqual([3, 1, 3])
    expect(go.keys([1, 2])).toEqual(['go|1', 'go|2'])
    expect(await go([2, 1])).toEqual(['3 2', '1 1'])
    expect(await go.get([1, 9])).toEqual(['1 1', NO_VALUE])
    expect(await go.refresh([1])).toEqual(['4 1'])
    await go.invalidate([1, 2])
    expect(await go.get([1, 2, 3])).toEqual([NO_VALUE, NO_VALUE, '2 3'])
    await go.invalidate.soft([3])
    expect(await go.get([3])).toEqual([NO_VALUE])
    expect(await go.set(new Map([[5, 'set']]))).toEqual(['stored'])
    expect(await go([5])).toEqual(['set'])
    expect(await go([])).toEqual([])
    expect(asked).toEqual([[1, 3], [2], [1]])
    const maps = region.cacheMultiOnArguments(
      async (ids: number[]) => new Map(ids.filter((id) => id > 1).map((id) => [id, `${id}`])),
      { namespace: 'maps', ids: 'array', asMap: true },
    )
    expect(await maps([1, 2])).toEqual(new Map([[2, '2']]))
    expect(await maps.refresh([1, 2])).toEqual(new Map([[2, '2']]))
    expect(await maps.get([1, 2])).toEqual([NO_VALUE, '2'])
  })

  it('hands the function a frozen list: sorted, its values would be those of other ids', async () => {
    const { region } = open<number>()
    const go = region.cacheMultiOnArguments(
      async (ids: number[]) => ids.sort((a, b) => a - b).map((id) => id * 2),
      { namespace: 'go', ids: 'array' },
    )
    const ids = [10, 9, 1]
    await expect(go(ids)).rejects.toThrow(TypeError)
    await expect(go.refresh(ids)).rejects.toThrow(TypeError)
    expect(await go.get(ids)).toEqual([NO_VALUE, NO_VALUE, NO_VALUE])
    expect(ids).toEqual([10, 9, 1])
    expect(Object.isFrozen(ids)).toBe(false)
    const maps = region.cacheMultiOnArguments(
      async (ids: number[]) => new Map(ids.map((id) => [id, ids.splice(0).length])),
      { namespace: 'maps', ids: 'array', asMap: true },
    )
    await expect(maps(ids)).rejects.toThrow(TypeError)
  })

  it('answers no ids with nothing, without being called', async () => {
    const { region } = open<string>()
    const go = region.cacheMultiOnArguments({ namespace: 'go' })((..._: number[]): string[] =>
      expect.unreachable(),
    )
    expect(await go()).toEqual([])
    expect(await go.get()).toEqual([])
    expect(await go.refresh()).toEqual([])
    await go.set(new Map())
    await go.invalidate()
  })

  it('answers an id as often as it is asked for', async () => {
    const { region } = open<string>()
    const { asked, fn } = numbered()
    const go = region.cacheMultiOnArguments({ namespace: 'go' })(fn)
    expect(await go(7, 7, 8)).toEqual(['1 7', '1 7', '2 8'])
    expect(asked).toEqual([[7, 8]])
  })

  it('can be asked for its values without being called', async () => {
    const { region } = open<string>()
    const { fn } = numbered()
    const go = region.cacheMultiOnArguments({ namespace: 'go' })(fn)
    expect(await go.get(1, 2)).toEqual([NO_VALUE, NO_VALUE])
    await go(1)
    expect(await go.get(2, 1)).toEqual([NO_VALUE, '1 1'])
  })

  it('can be given values, and calls for the others', async () => {
    const { region } = open<string>()
    const { fn } = numbered()
    const go = region.cacheMultiOnArguments({ namespace: 'go' })(fn)
    await go.set(
      new Map([
        [1, 'one'],
        [2, ''],
      ]),
    )
    expect(await go(1, 2, 3)).toEqual(['one', '', '1 3'])
  })

  it('can be refreshed in one call, which answers in the order of the ids', async () => {
    const { region } = open<string>()
    const { asked, fn } = numbered()
    const go = region.cacheMultiOnArguments({ namespace: 'go' })(fn)
    await go(1, 2)
    expect(await go.refresh(2, 1)).toEqual(['3 2', '4 1'])
    expect(asked).toEqual([
      [1, 2],
      [2, 1],
    ])
    expect(await go(1, 2)).toEqual(['4 1', '3 2'])
  })

  it('refreshes an id that is listed twice once', async () => {
    const { region } = open<string>()
    const { fn } = numbered()
    const go = region.cacheMultiOnArguments({ namespace: 'go' })(fn)
    const refreshed = await go.refresh(1, 1)
    expect(refreshed[0]).toBe(refreshed[1])
    expect(await go.get(1)).toEqual([refreshed[0]])
  })

  it('serves old values while they are renewed when it is invalidated softly', async () => {
    const { region } = open<string>()
    const gate = held<readonly string[]>()
    let first = true
    const go = region.cacheMultiOnArguments({ namespace: 'go' })((...ids: number[]) => {
      if (!first) return gate.create()
      first = false
      return ids.map((id) => `old ${id}`)
    })
    await go(1, 2)
    await go.invalidate.soft(1)
    const leader = go(1, 2)
    await gate.started
    expect(await go(1, 2)).toEqual(['old 1', 'old 2'])
    gate.resolve(['new 1'])
    expect(await leader).toEqual(['new 1', 'old 2'])
  })

  it('honours expirationTime and shouldCache in every form', async () => {
    const { region, clock } = open<number>({ expirationTime: 100 })
    const calls = counting()
    const told: string[] = []
    const go = region.cacheMultiOnArguments({
      namespace: 'go',
      expirationTime: 1_000,
      shouldCache: (value: number, key: string) => {
        told.push(key)
        return value % 2 === 1
      },
    })((...ids: string[]) => ids.map(() => calls.next()))
    expect(await go('a', 'b')).toEqual([1, 2])
    expect(await go.get('a', 'b')).toEqual([1, NO_VALUE])
    clock.tick(500)
    expect(await go.get('a')).toEqual([1])
    await go.set(
      new Map([
        ['c', 5],
        ['a', 6],
      ]),
    )
    expect(await go.get('a', 'c')).toEqual([NO_VALUE, 5])
    clock.tick(900)
    expect(await go.get('c')).toEqual([5])
    expect(await go.refresh('c', 'd')).toEqual([3, 4])
    expect(await go.get('c', 'd')).toEqual([3, NO_VALUE])
    expect(told).toContain('go|"a"')
  })

  it('passes the error of the function on, and leaves no lease', async () => {
    const { region } = open<string>()
    const go = region.cacheMultiOnArguments({ namespace: 'go' })((..._: number[]) =>
      Promise.reject<string[]>(new Error('boom')),
    )
    await expect(go(1, 2)).rejects.toThrow('boom')
    await expect(go.refresh(1, 2)).rejects.toThrow('boom')
    for (const key of go.keys(1, 2)) expect(await region.keyIsLocked(key)).toBe(false)
    await idle()
  })

  it('rejects when the function answers another number of values', async () => {
    const { region } = open<string>()
    const go = region.cacheMultiOnArguments({ namespace: 'go' })((..._: number[]) => ['only one'])
    await expect(go(1, 2)).rejects.toMatchObject({ code: 'ERR_BATCH_LENGTH' })
    await expect(go.refresh(1, 2)).rejects.toMatchObject({ code: 'ERR_BATCH_LENGTH' })
    expect(await go.get(1, 2)).toEqual([NO_VALUE, NO_VALUE])
  })
})

inEveryRegion('a cached function that answers a map', (open) => {
  it('leaves out ids without a value, and does not store them', async () => {
    const { region } = open<string>()
    const asked: number[][] = []
    const go = region.cacheMultiOnArguments({ namespace: 'go', asMap: true })((...ids: number[]) => {
      asked.push(ids)
      return new Map(ids.filter((id) => id % 2 === 1).map((id) => [id, `v${id}`]))
    })
    expect(await go(1, 2, 3)).toEqual(
      new Map([
        [1, 'v1'],
        [3, 'v3'],
      ]),
    )
    expect(await go(1, 2)).toEqual(new Map([[1, 'v1']]))
    expect(asked).toEqual([[1, 2, 3], [2]])
    expect(await go.get(1, 2)).toEqual(['v1', NO_VALUE])
  })

  it('can be refreshed, also for ids without a value', async () => {
    const { region } = open<string>()
    const calls = counting()
    const go = region.cacheMultiOnArguments({ namespace: 'go', asMap: true })((...ids: number[]) => {
      const run = calls.next()
      return new Map(ids.filter((id) => id < 10).map((id) => [id, `${run}:${id}`]))
    })
    expect(await go(1)).toEqual(new Map([[1, '1:1']]))
    expect(await go.refresh(1, 2, 10)).toEqual(
      new Map([
        [1, '2:1'],
        [2, '2:2'],
      ]),
    )
    expect(await go(1, 2, 10)).toEqual(
      new Map([
        [1, '2:1'],
        [2, '2:2'],
      ]),
    )
    expect(await go.get(10)).toEqual([NO_VALUE])
  })

  it('removes with a refresh the ids that have no value any more', async () => {
    const { region } = open<string>()
    let gone = false
    const go = region.cacheMultiOnArguments({ namespace: 'go', asMap: true })((...ids: number[]) =>
      gone ? new Map<number, string>() : new Map(ids.map((id) => [id, 'there'])),
    )
    await go(1)
    gone = true
    expect(await go.refresh(1)).toEqual(new Map())
    expect(await go.get(1)).toEqual([NO_VALUE])
  })

  it('never offers shouldCache an id without a value', async () => {
    const { region } = open<number>()
    const told: number[] = []
    const go = region.cacheMultiOnArguments({
      namespace: 'go',
      asMap: true,
      shouldCache: (value: number) => {
        told.push(value)
        return value > 1
      },
    })((...ids: number[]) => new Map(ids.filter((id) => id !== 2).map((id) => [id, id])))
    expect(await go(1, 2, 3)).toEqual(
      new Map([
        [1, 1],
        [3, 3],
      ]),
    )
    expect(told.sort()).toEqual([1, 3])
    expect(await go.get(1, 2, 3)).toEqual([NO_VALUE, NO_VALUE, 3])
  })

  it('rejects when the map has the ids as another type, which no caller would ever find', async () => {
    const { region } = open<string>()
    const driver = region.cacheMultiOnArguments({ namespace: 'driver', asMap: true })(
      (...ids: number[]) => new Map(ids.map((id) => [String(id), 'row'])) as never,
    )
    await expect(driver(1, 2)).rejects.toMatchObject({
      code: 'ERR_CREATOR',
      message: expect.stringContaining("got '1' in place of `1`") as string,
    })
    const big = region.cacheMultiOnArguments({ namespace: 'big', asMap: true })(
      (...ids: string[]) => new Map(ids.map((id) => [BigInt(id), 'row'])) as never,
    )
    await expect(big.refresh('7')).rejects.toMatchObject({ code: 'ERR_CREATOR' })
  })

  it.each<[kind: string, ids: readonly unknown[], copy: (id: never) => unknown]>([
    ['objects', [{ a: 1 }, { a: 2 }], (id: object) => ({ ...id })],
    ['dates', [new Date(1), new Date(2)], (id: Date) => new Date(id)],
    ['arrays', [[1], [2]], (id: number[]) => [...id]],
  ])('rejects when the map has other %s that are equal, which it would never find', async (_, ids, copy) => {
    const { region } = open<string>()
    const loader = (of: (id: never) => unknown) =>
      region.cacheMultiOnArguments(
        (...given: unknown[]) => new Map(given.map((id) => [of(id as never), 'row'])) as never,
        { namespace: `copies ${of === copy}`, asMap: true },
      ) as (...ids: readonly unknown[]) => Promise<Map<unknown, unknown>>
    await expect(loader(copy)(...ids)).rejects.toMatchObject({
      code: 'ERR_CREATOR',
      message: expect.stringContaining('Expected a Map whose keys are the ids of the call') as string,
    })
    expect([...(await loader((id) => id)(...ids)).keys()]).toEqual(ids)
  })

  it('finds no row for an id whose text is another id of the call', async () => {
    const { region } = open<string>()
    const fn = region.cacheMultiOnArguments(
      (...ids: (number | string)[]) => new Map(ids.filter((id) => id === '1').map((id) => [id, 'row'])),
      { namespace: 'texts', asMap: true },
    )
    expect(await fn(1, '1')).toEqual(new Map([['1', 'row']]))
  })

  it('finds no row for an id that is an object, although the map has others', async () => {
    const { region } = open<string>()
    const fn = region.cacheMultiOnArguments(
      (...ids: { id: number }[]) =>
        new Map<{ id: number }, string>(ids.filter(({ id }) => id === 1).map((id) => [id, 'row'])).set(
          { id: 3 },
          'another',
        ),
      { namespace: 'rows', asMap: true },
    )
    const [one, two] = [{ id: 1 }, { id: 2 }]
    expect([...(await fn(one, two))]).toEqual([[one, 'row']])
  })

  it('rejects when the function answers no map', async () => {
    const { region } = open<string>()
    const go = region.cacheMultiOnArguments({ namespace: 'go', asMap: true })(
      (..._: number[]) => ['no map'] as never,
    )
    await expect(go(1)).rejects.toMatchObject({ code: 'ERR_CREATOR' })
  })
})

describe('the wrapper of a function of many ids', () => {
  it('keeps its name and length, and offers the function itself', () => {
    function many(first: number, ...rest: number[]) {
      return [first, ...rest]
    }
    const cached = openMemory().region.cacheMultiOnArguments({ namespace: 'n' })(
      many as (...ids: number[]) => number[],
    )
    expect(cached.name).toBe('many')
    expect(cached.length).toBe(1)
    expect(cached.original(1, 2)).toEqual([1, 2])
  })

  it('stores each id under the key of a function called with it alone', async () => {
    const { region, backend } = openMemory<number>()
    const cached = region.cacheMultiOnArguments({ namespace: 'many' })((...ids: number[]) => ids)
    await cached(1, 2)
    expect(cached.keys(1, 2)).toEqual(['many|1', 'many|2'])
    for (const key of cached.keys(1, 2)) expect(backend.get(key)).toBeDefined()
  })

  it('calls in the order of sorted keys, with any key generator', async () => {
    const { region } = openMemory<number>()
    const asked: number[][] = []
    const cached = region.cacheMultiOnArguments({
      namespace: 'n',
      functionMultiKeyGenerator:
        (namespace) =>
        (...ids) =>
          ids.map((id) => `${namespace}:${9 - Number(id)}`),
    })((...ids: number[]) => {
      asked.push(ids)
      return ids.map((id) => id * 10)
    })
    expect(await cached(1, 2, 3)).toEqual([10, 20, 30])
    expect(asked).toEqual([[3, 2, 1]])
  })

  it('fences every id before it is called for a refresh', async () => {
    const gate = deferred()
    const asked: string[][] = []
    const backend = wrap(
      memory(),
      intercept((operation, proceed) =>
        operation.name === 'acquire' && operation.keys[0] === 'n|"b"'
          ? (gate.promise.then(proceed) as ReturnType<typeof proceed>)
          : proceed(),
      ),
    )
    const region = makeRegion<string>({ backend })
    const cached = region.cacheMultiOnArguments({ namespace: 'n' })((...ids: string[]) => {
      asked.push(ids)
      return ids
    })
    const refreshed = cached.refresh('a', 'b')
    await idle()
    expect(asked).toEqual([])
    await region.delete('n|"b"')
    gate.resolve()
    expect(await refreshed).toEqual(['a', 'b'])
    expect(asked).toEqual([['a', 'b']])
    expect(await cached.get('b')).toEqual(['b'])
  })

  it('gives every lease back when one of them cannot be had for a refresh', async () => {
    const backend = wrap(
      memory(),
      intercept((operation, proceed) => {
        if (operation.name === 'acquire' && operation.keys[0] === 'n|"b"') throw new Error('no connection')
        return proceed()
      }),
    )
    const region = makeRegion<string>({ backend })
    const cached = region.cacheMultiOnArguments({ namespace: 'n' })(
      (..._: string[]) => expect.unreachable() as string[],
    )
    await expect(cached.refresh('a', 'b')).rejects.toMatchObject({ code: 'ERR_BACKEND' })
    expect(await region.keyIsLocked('n|"a"')).toBe(false)
  })

  it('renews stale entries with one array of their ids, behind the caller and for a dependency', async () => {
    const jobs: (() => unknown)[] = []
    const clock = manualClock()
    const region = makeRegion<string>({
      name: 'arrays',
      backend: wrap(memory(), dependencies()),
      clock,
      expirationTime: 100,
      asyncCreationRunner: ({ run }) => void jobs.push(run),
    })
    const asked: (readonly number[])[] = []
    let version = 1
    const go = region.cacheMultiOnArguments(
      async (ids: readonly number[]) => {
        asked.push(ids)
        return ids.map((id) => `${id} v${version}`)
      },
      { namespace: 'go', ids: 'array', dependencies: (id) => dep.id('row', id) },
    )
    await go([1, 2, 3])
    version = 2
    clock.tick(101)
    const wanted = [2, 1, 9]
    const served = go(wanted)
    wanted.length = 0
    expect(await served).toEqual(['2 v1', '1 v1', '9 v2'])
    for (const run of jobs.splice(0)) await run()
    expect(await go.get([1, 2, 3, 9])).toEqual(['1 v2', '2 v2', NO_VALUE, '9 v2'])
    version = 3
    await region.refreshDependencies([dep.id('row', 1), dep.id('row', 9)])
    expect(await go.get([1, 2, 9])).toEqual(['1 v3', '2 v2', '9 v3'])
    await go.invalidate.soft([2])
    expect(await go([2])).toEqual(['2 v2'])
    for (const run of jobs.splice(0)) await run()
    expect(await go([2])).toEqual(['2 v3'])
    expect(asked.flat().sort((a, b) => a - b)).toEqual([1, 1, 1, 2, 2, 2, 3, 9, 9])
  })

  it('refuses anything but an array as the ids of a function of one array', async () => {
    const { region } = openMemory<number>()
    const go = region.cacheMultiOnArguments(async (ids: readonly number[]) => [...ids], {
      namespace: 'n',
      ids: 'array',
    })
    for (const call of [go, go.get, go.refresh, go.invalidate, go.invalidate.soft])
      await expect(call(5 as never)).rejects.toMatchObject({ code: 'ERR_OPTION' })
    expect(() => go.keys(5 as never)).toThrow(/an array of ids/)
  })

  it('without `ids` takes an array as one id', async () => {
    const { region } = openMemory<number>()
    const sums = region.cacheMultiOnArguments(
      async (...lists: number[][]) => lists.map((list) => list.reduce((sum, part) => sum + part, 0)),
      { namespace: 'sum' },
    )
    expect(await sums([1, 2], [3])).toEqual([3, 3])
    expect(sums.keys([1, 2], [3])).toEqual(['sum|[1,2]', 'sum|[3]'])
    expect(await sums.get([1, 2])).toEqual([3])
  })

  it('gives each entry the lifetime of its id or value', async () => {
    for (const expirationTime of [
      (id: number) => (id > 0 ? id : undefined),
      { ofResult: (value: string, id: number) => (value === `value ${id}` && id > 0 ? id : undefined) },
    ]) {
      const { region, clock } = openMemory<string>({ expirationTime: 50 })
      const runs: number[][] = []
      const go = region.cacheMultiOnArguments(
        async (...ids: number[]) => {
          runs.push(ids)
          return new Map(ids.flatMap((id) => (id === 7 ? [] : [[id, `value ${id}`]])))
        },
        { namespace: 'go', asMap: true, expirationTime },
      )
      await go(100, 200, 0, 7)
      clock.tick(51)
      expect(await go.get(100, 200, 0)).toEqual(['value 100', 'value 200', NO_VALUE])
      clock.tick(50)
      await go(100, 200)
      expect(runs).toEqual([[0, 100, 200, 7].sort(), [100]])
      await go.refresh(200)
      clock.tick(200)
      expect(await go.get(200, 100)).toEqual(['value 200', NO_VALUE])
      clock.tick(1)
      expect(await go.get(200)).toEqual([NO_VALUE])
      const outcomes = await go.set(
        new Map([
          [300, 'value 300'],
          [0, 'value 0'],
          [400, 'value 400'],
        ]),
      )
      expect(outcomes).toEqual(['stored', 'stored', 'stored'])
      clock.tick(300)
      expect(await go.get(300, 0, 400)).toEqual(['value 300', NO_VALUE, 'value 400'])
      clock.tick(1)
      expect(await go.get(300, 0, 400)).toEqual([NO_VALUE, NO_VALUE, 'value 400'])
    }
  })

  it('refuses a generator that makes another number of keys', async () => {
    const { region } = openMemory<number>()
    const cached = region.cacheMultiOnArguments({
      functionMultiKeyGenerator: () => () => ['only one'],
    })((...ids: number[]) => ids)
    await expect(cached(1, 2)).rejects.toMatchObject({ code: 'ERR_KEY' })
    await expect(cached.get(1, 2)).rejects.toMatchObject({ code: 'ERR_KEY' })
    await expect(cached.invalidate(1, 2)).rejects.toMatchObject({ code: 'ERR_KEY' })
  })

  it('refuses options that cannot be', () => {
    const { region } = openMemory()
    for (const options of [
      undefined,
      null,
      {},
      { namespace: '' },
      { namespace: 'n', expirationTime: -1 },
      { namespace: 'n', expirationTime: {} },
      { namespace: 'n', expirationTime: { ofResult: 5 } },
      { namespace: 'n', expirationTime: { ofResult: () => 5, ofresult: 5 } },
      { namespace: 'n', ids: 'list' },
      { namespace: 'n', asDict: true },
      { namespace: 'n', asMap: 'yes' },
      { namespace: 'n', self: 'shared' },
      { namespace: 'n', functionMultiKeyGenerator: 5 },
    ])
      expect(() => region.cacheMultiOnArguments(options as never), JSON.stringify(options)).toThrow(
        expect.objectContaining({ name: 'CorralError' }) as Error,
      )
  })
})

describe('`set` of a function of many ids', () => {
  it('takes a Map alone', async () => {
    const region = makeRegion<number>({ backend: memory() })
    const squares = region.cacheMultiOnArguments(async (...ids: number[]) => ids.map((id) => id * id), {
      namespace: 'squares',
    })
    for (const wrong of [[[5, 25]], new Set([5]), new Uint8Array(1), undefined, Promise.resolve(), {}, 'x'])
      await expect(squares.set(wrong as never)).rejects.toMatchObject({ code: 'ERR_OPTION' })
    expect(await squares.set(new Map([[5, 25]]))).toEqual(['stored'])
    expect(await squares.get(5, 0)).toEqual([25, NO_VALUE])
  })
})

describe("a function with ids: 'array'", () => {
  it('takes one list without holes', async () => {
    const region = makeRegion<string>({ backend: memory() })
    const names = region.cacheMultiOnArguments(async (ids: readonly number[]) => ids.map((id) => `v${id}`), {
      namespace: 'names',
      ids: 'array',
    }) as unknown as (...given: unknown[]) => Promise<string[]>
    // biome-ignore lint/suspicious/noSparseArray: it is what must be refused
    for (const wrong of [[[1, , 2]], [[1], [2]], [1, 2], []])
      await expect(names(...wrong)).rejects.toMatchObject({ code: 'ERR_OPTION' })
    expect(await names([1, 2])).toEqual(['v1', 'v2'])
  })

  it('is refused if it takes (...ids), but not if it hands them on', async () => {
    const region = makeRegion<unknown>({ backend: memory() })
    const cached = (fn: unknown) =>
      region.cacheMultiOnArguments(fn as (ids: number[]) => number[], {
        namespace: 'ids',
        sharesNamespace: true,
        ids: 'array',
      })
    const inner = (ids: number[]) => ids.map((id) => id + 1)
    const refused: unknown[] = [
      async (...ids: number[]) => ids.map((id) => id + 1),
      function many(...ids: number[]) {
        return ids.map(Number).concat(ids.map((id) => id + 1))
      },
    ]
    for (const fn of refused) expect(() => cached(fn)).toThrow('got one of (...ids). Leave out `ids`.')
    const wrappers: unknown[] = [
      (...args: [number[]]) => inner(...args),
      (...args: [number[]]) => (args.length === 1 ? Reflect.apply(inner, undefined, args) : []),
      (...args: [number[]]) => inner(args[0]),
      vi.fn(inner),
    ]
    for (const fn of wrappers) {
      const names = cached(fn)
      expect(await names([1, 2])).toEqual([2, 3])
      await names.invalidate([1, 2])
    }
  })
})

describe('a thenable without `catch` whose `then` returns nothing', () => {
  // biome-ignore lint/suspicious/noThenProperty: it is what a library of the caller may return
  const thenable = <T>(value: T) => ({ then: (resolve: (value: T) => void) => void resolve(value) }) as never

  it('is the result of a function of one id or of many', async () => {
    const region = makeRegion<number>({ backend: memory() })
    const one = region.cacheOnArguments((_: number): Promise<number> => thenable(1), { namespace: 'one' })
    const many = region.cacheMultiOnArguments((...ids: number[]): Promise<number[]> => thenable(ids), {
      namespace: 'many',
    })
    expect([await one(5), await one.refresh(5), await many(1, 2)]).toEqual([1, 1, [1, 2]])
  })

  it('is refused where a function must return at once', async () => {
    const region = makeRegion<number>({ backend: memory() })
    const one = region.cacheOnArguments(async (_: number) => 1, {
      namespace: 'one',
      shouldCache: () => thenable(true),
    })
    await expect(one(5)).rejects.toMatchObject({ code: 'ERR_OPTION' })
  })
})

it('a key generator may fill the same list at each call', async () => {
  const list: string[] = []
  const region = openMemory<string>().region
  const fn = region.cacheMultiOnArguments(async (...ids: number[]) => ids.map((id) => `value ${id}`), {
    namespace: 'n',
    functionMultiKeyGenerator:
      (namespace) =>
      (...ids) => {
        list.splice(0, list.length, ...ids.map((id) => `${namespace}/${String(id)}`))
        return list
      },
  })
  const keys = fn.keys(3, 4)
  expect(await Promise.all([fn(1, 2), fn(2, 1)])).toEqual([
    ['value 1', 'value 2'],
    ['value 2', 'value 1'],
  ])
  expect(keys).toEqual(['n/3', 'n/4'])
  expect(await region.getMulti(['n/1', 'n/2'])).toEqual(['value 1', 'value 2'])
})

describe('a cached function of 150,000 ids, which are too many for parameters', () => {
  const ids = Array.from({ length: 150_000 }, (_, i) => i)
  const values = new Map(ids.map((id) => [id, -id]))
  const last = ids.length - 1

  it('takes them as one array in every member', async () => {
    const fn = makeRegion<number>({ backend: nullBackend() }).cacheMultiOnArguments(
      (given: readonly number[]) => new Map(given.map((id) => [id, id])),
      { namespace: 'many', ids: 'array', asMap: true },
    )
    expect(fn.keys(ids)[last]).toBe(`many|${last}`)
    expect((await fn(ids)).get(last)).toBe(last)
    expect((await fn.refresh(ids)).get(last)).toBe(last)
    expect((await fn.get(ids))[last]).toBe(NO_VALUE)
    expect((await fn.set(values)).length).toBe(ids.length)
    await fn.invalidate.soft(ids)
    await fn.invalidate(ids)
  })

  it('takes their values, also where it takes ids as parameters', async () => {
    const fn = makeRegion<number>({ backend: memory() }).cacheMultiOnArguments(
      (...given: readonly number[]) => [...given],
      { namespace: 'many' },
    )
    await fn.set(values)
    expect(await fn.get(0, last)).toEqual([-0, -last])
  })

  it('asks its key generator for a part of the keys at a time, and names a wrong part', () => {
    const counts: number[] = []
    const keysOf = (most: number) =>
      makeRegion<number>({ backend: memory() }).cacheMultiOnArguments(
        async (given: readonly number[]) => given,
        {
          namespace: 'many',
          ids: 'array',
          functionMultiKeyGenerator:
            () =>
            (...given) => {
              counts.push(given.length)
              return given.slice(0, most).map(String)
            },
        },
      ).keys
    expect(keysOf(ids.length)(ids)).toEqual(ids.map(String))
    expect(counts.every((count) => count <= 10_000)).toBe(true)
    expect(() => keysOf(1)(ids)).toThrow('keys for')
  })
})
