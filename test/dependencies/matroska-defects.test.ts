import { expect, it } from 'vitest'
import { CorralError, dep, dependsOn, NO_VALUE } from '../../src/index.js'
import { sleep } from '../support/waiting.js'
import { onStores } from './stores.js'

onStores('all', 'invalidations that Matroska loses', (at) => {
  it('M1: a value computed before an invalidation and put after it is refused', async () => {
    const [region, other] = at().regions<string>()
    const asOf = await region.asOf()
    await other.invalidateDependencies(dep.id('user', 1))
    expect(await region.set('k', 'old', { dependencies: [dep.id('user', 1)], asOf })).toBe('refused')
    expect(await other.get('k')).toBe(NO_VALUE)
    const late = region.cacheOnArguments({ namespace: 'late', resultDependencies: () => dep.id('user', 1) })(
      async () => {
        await other.invalidateDependencies(dep.id('user', 1))
        return 'old'
      },
    )
    await late()
    expect(await other.get(late.key())).toBe(NO_VALUE)
  })

  it('M2: an invalidation in the middle of a put leaves nothing that later ones cannot reach', async () => {
    const [region, other] = at().regions<number>()
    for (let i = 0; i < 30; i++) {
      const asOf = await region.asOf()
      const name = dep.id('row', i)
      await Promise.all([
        region.set(`k${i}`, i, { dependencies: [name], asOf }),
        other.invalidateDependencies(name),
      ])
      expect(await other.get(`k${i}`)).toBe(NO_VALUE)
    }
  })

  it('M3: under contention nothing is given up in silence', async () => {
    const [region, other] = at().regions<number>()
    const asOf = await region.asOf()
    const name = dep.tag('hot')
    await Promise.all(
      Array.from({ length: 40 }, (_, i) => [
        region.set(`k${i}`, i, { dependencies: [name], asOf }),
        other.invalidateDependencies(name),
      ]).flat(),
    )
    const left = await other.getMulti(Array.from({ length: 40 }, (_, i) => `k${i}`))
    expect(left.filter((value) => value !== NO_VALUE)).toEqual([])
  })

  it('M5: bookkeeping that was evicted makes a miss', async () => {
    const { regions, lose } = at()
    const [region, other] = regions<string>()
    const asOf = await region.asOf()
    await region.set('k', 'old', { dependencies: [dep.id('user', 2)], asOf })
    expect(await other.get('k')).toBe('old')
    await lose?.(dep.id('user', 2))
    await other.invalidateDependencies(dep.id('user', 2))
    await lose?.(dep.id('user', 2))
    expect(await region.get('k')).toBe(NO_VALUE)
    expect(await other.get('k')).toBe(NO_VALUE)
  })

  it('M6: former dependencies of a key do not harm its present ones', async () => {
    const [region] = at().regions<string>()
    const [a, b] = [dep.tag('a'), dep.tag('b')]
    await region.set('k', 'one', { dependencies: [a, b], asOf: await region.asOf() })
    await region.set('k', 'two', { dependencies: [a], asOf: await region.asOf() })
    await region.invalidateDependencies(b)
    expect(await region.get('k')).toBe('two')
    await region.delete('k')
    await region.set('k', 'three')
    await region.invalidateDependencies(a)
    expect(await region.get('k')).toBe('three')
  })

  it('M10: an item that leaves a list invalidates it', async () => {
    const [region] = at().regions<number>()
    const books = dep
      .scopes<{ readonly category: string }>('book')
      .describes(['category'], ({ category }) => ({ category }))
    const count = region.cacheOnArguments({
      namespace: 'count',
      dependencies: (category: string) => books.condition({ category }),
    })(async (_category: string) => 1)
    await count('sci-fi')
    await books.invalidateFor({ category: 'drama' }, region, {
      before: { category: 'sci-fi' },
      modified: ['category'],
    })
    expect(await count.get('sci-fi')).toBe(NO_VALUE)
  })

  it('M9: names may lie on any node of a cluster', async () => {
    const [region, other] = at().regions<string>()
    const names = Array.from({ length: 20 }, (_, i) => dep.id('user', i))
    for (const name of names) {
      await region.set('k', 'v', { dependencies: names, asOf: await region.asOf() })
      expect(await other.get('k')).toBe('v')
      await other.invalidateDependencies(name)
      expect(await region.get('k')).toBe(NO_VALUE)
    }
  })

  it('M11: a list by a condition without a description is not cached, or an error', async () => {
    const [region] = at().regions<number>()
    let runs = 0
    const ask = (mode: 'lenient' | 'strict') => {
      const books = dep.scopes<{ readonly year: number }>('book', { mode })
      return region.getOrCreate(mode, async () => {
        dependsOn(books.condition({ year: 1 } as never))
        return ++runs
      })
    }
    await expect(ask('strict')).rejects.toSatisfy((error) => CorralError.is(error, 'ERR_OPTION'))
    expect([await ask('lenient'), await ask('lenient')]).toEqual([1, 2])
  })

  it('M12: names of different things are different names', async () => {
    const [region] = at().regions<number>()
    const pairs = [
      [dep.id('a:b', 1), dep.id('a', 'b:1')],
      [dep.tag('id:a:1'), dep.id('a', 1)],
      [dep.tag('n', 'x:y'), dep.tag('n:x', 'y')],
      [dep.id('Order', 1, 2), dep.id('Order', '1:2')],
    ] as const
    for (const [one, other] of pairs) {
      await region.set('k', 1, { dependencies: [one], asOf: await region.asOf() })
      await region.invalidateDependencies(other)
      expect(await region.get('k')).toBe(1)
      await region.invalidateDependencies(one)
      expect(await region.get('k')).toBe(NO_VALUE)
    }
  })

  it('M14: a stampede is one creation; nothing, batches and soft invalidations are at home', async () => {
    const [region, other] = at().regions<string | null>()
    let runs = 0
    const find = region.cacheOnArguments({
      namespace: 'find',
      dependencies: (id: number) => dep.id('row', id),
    })(async (id: number) => {
      runs++
      return id === 0 ? null : `row ${id}`
    })
    expect(new Set(await Promise.all(Array.from({ length: 20 }, () => find(1))))).toEqual(new Set(['row 1']))
    expect([await find(0), await find(0)]).toEqual([null, null])
    expect(runs).toBe(2)
    expect(await other.getMulti([find.key(0), find.key(1), find.key(2)])).toEqual([null, 'row 1', NO_VALUE])
    await other.invalidateDependencies(dep.id('row', 1), 'soft')
    expect(await region.get(find.key(1))).toBe(NO_VALUE)
    expect(await region.get(find.key(1), { ignoreExpiration: true })).toBe('row 1')
  })

  it('M16: invalidating after the commit is safe from readers before, during and after the transaction', async () => {
    const [region, other] = at().regions<number>()
    const database = { committed: 1 }
    const read = async (from: typeof region) => {
      const find = from.cacheOnArguments({ namespace: 'balance', dependencies: () => dep.id('account', 1) })(
        async () => {
          const seen = database.committed
          await sleep(Math.random() * 4)
          return seen
        },
      )
      return find()
    }
    for (let version = 2; version < 12; version++) {
      const readers = [read(region), read(other)]
      // The transaction is under way: others still see the former rows, and may cache them.
      await sleep(Math.random() * 4)
      readers.push(read(region), read(other))
      database.committed = version
      await region.invalidateDependencies(dep.id('account', 1))
      expect(await Promise.all([read(region), read(other)])).toEqual([version, version])
      await Promise.all(readers)
      expect(await Promise.all([read(region), read(other)])).toEqual([version, version])
    }
  })
})

onStores(['Redis', 'Redis Cluster'], 'invalidations that Matroska loses', (at) => {
  it('M4: no stamp expires before the entries that rest on it', async () => {
    const { regions, admin } = at()
    const [region] = regions<string>()
    await region.set('k', 'v', {
      dependencies: [dep.id('user', 4)],
      asOf: await region.asOf(),
      expirationTime: '12h',
    })
    const [value] = (await keys(admin)).filter((key) => key.endsWith(':k'))
    const left = (await admin?.pttl(value ?? '')) ?? 0
    expect(left).toBeGreaterThan(12 * 3_600_000)
    expect(await admin?.pttl(`~corral:stamp:6:~clock${dep.id('user', 4)}`)).toBeGreaterThanOrEqual(
      left - 1_000,
    )
  })
})

onStores(['Redis', 'Redis Cluster', 'memcached', 'LMDB'], 'invalidations that Matroska loses', (at) => {
  it('M15: a foreign value under the key is a miss', async () => {
    const { regions, spoil } = at()
    const [region, other] = regions<string>()
    await region.set('k', 'v')
    expect(await other.get('k')).toBe('v')
    await spoil?.(`${region.name}:k`)
    expect(await region.get('k')).toBe(NO_VALUE)
    expect(await other.get('k')).toBe(NO_VALUE)
  })
})

async function keys(admin: unknown): Promise<string[]> {
  const { nodes } = admin as { nodes?: (role: 'master') => { keys(pattern: string): Promise<string[]> }[] }
  const servers =
    nodes === undefined
      ? [admin as { keys(pattern: string): Promise<string[]> }]
      : nodes.call(admin, 'master')
  return (await Promise.all(servers.map((server) => server.keys('*')))).flat().sort()
}

const SHARED = ['Redis', 'Redis Cluster', 'memcached', 'LMDB']

onStores(SHARED, 'invalidations that Matroska loses', (at) => {
  it('M7: the bookkeeping of a name does not grow with the entries that depend on it', async () => {
    const { regions, records, admin } = at()
    const [region] = regions<number>()
    const put = async (from: number, to: number) => {
      const asOf = await region.asOf()
      const pairs = Array.from({ length: to - from }, (_, i) => [`k${from + i}`, i] as const)
      await region.setMulti(pairs, { dependencies: [dep.tag('front-page')], asOf })
    }
    const size = async () =>
      admin === undefined
        ? undefined
        : admin.memory('USAGE', `~corral:stamp:6:~clock${dep.tag('front-page')}`)
    await put(0, 1)
    const [one, before] = [(await records?.()) ?? 0, await size()]
    await put(1, 1_000)
    expect(await records?.()).toBe(one + 999)
    await region.deleteMulti(Array.from({ length: 500 }, (_, i) => `k${i}`))
    expect(await records?.()).toBe(one + 499)
    expect(await size()).toBe(before)
  })

  it('M13: a value that cannot be stored leaves nothing behind', async () => {
    const { regions, records } = at()
    const [region] = regions<unknown>()
    const asOf = await region.asOf()
    const before = await records?.()
    expect(before).toBeGreaterThan(0)
    const cycle: { self?: unknown } = {}
    cycle.self = cycle
    await expect(region.set('k', cycle, { dependencies: [dep.tag('never')], asOf })).rejects.toSatisfy(
      (error) => CorralError.is(error),
    )
    expect(await records?.()).toBe(before)
  })
})

onStores(['Redis', 'Redis Cluster', 'memcached'], 'invalidations that Matroska loses', (at) => {
  it('M8: invalidating a name takes as many commands for any number of dependents', async () => {
    const { regions, commands } = at()
    const [region] = regions<number>()
    const cost = async (name: string, entries: number) => {
      const asOf = await region.asOf()
      await region.setMulti(
        Array.from({ length: entries }, (_, i) => [`${name} ${i}`, i] as const),
        { dependencies: [name], asOf },
      )
      const before = await commands?.()
      await region.invalidateDependencies(name)
      return ((await commands?.()) ?? 0) - (before ?? 0)
    }
    // The first call of a script is sent twice, to each node.
    for (let i = 0; i < 12; i++) await cost(dep.id('first', i), 1)
    const few = await cost(dep.tag('few'), 2)
    expect(few).toBeGreaterThan(0)
    expect(await cost(dep.tag('many'), 2_000)).toBe(few)
  })
})
