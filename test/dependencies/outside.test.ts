/** Names that are declared where no creation is in sight: mostly because a driver called back from a queue of its own. */
import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks'
import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { type Creation, dep, dependsOn, diagnostics, makeRegion, NO_VALUE, wrap } from '../../src/index.js'
import { held } from '../support/stage.js'
import { onStores } from './stores.js'

const ROW = dep.id('row', 1)

type Callback = (row: number) => void

/** A pool that calls back from a queue that another caller drains, so that the async context of the query is lost. */
function pool() {
  const queue: Callback[] = []
  return {
    query: (callback: Callback) => void queue.push(callback),
    async drain() {
      while (queue.length === 0) await new Promise((resolve) => setImmediate(resolve))
      for (const callback of queue.splice(0)) callback(1)
    },
  }
}

function tracked<V = number>(name = 'r') {
  return makeRegion<V>({ name, backend: wrap(memory(), dependencies()) })
}

/** The notices of `dependsOn` while `run` runs. */
async function noticesOf(run: () => unknown) {
  const notices: { readonly key?: string | undefined; readonly message: string }[] = []
  const listen = (message: {
    readonly where: string
    readonly key?: string | undefined
    readonly message: string
  }) => {
    if (message.where === 'dependsOn') notices.push(message)
  }
  diagnostics('notice').subscribe(listen as never)
  try {
    await run()
  } finally {
    diagnostics('notice').unsubscribe(listen as never)
  }
  return notices
}

describe('dependsOn() outside of every creation', () => {
  it.each<[string, () => void]>([
    ['with names', () => dependsOn(ROW, [dep.tag('t')])],
    ['with a list that happens to be empty', () => dependsOn([])],
    ["with outside: 'throw'", () => dependsOn(ROW, { outside: 'throw' })],
    ['with options that say nothing', () => dependsOn(ROW, { outside: undefined })],
  ])('throws, %s', (_, declare) => {
    expect(declare).toThrow(
      expect.objectContaining({
        code: 'ERR_OUTSIDE_CREATION',
        message: expect.stringMatching(/^Expected .*, got .*creation\.dependsOn\(.*AsyncResource\.bind/s),
      }),
    )
  })

  it("does nothing with outside: 'ignore'", async () => {
    expect(await noticesOf(() => dependsOn(ROW, { outside: 'ignore' }))).toEqual([])
  })

  it('refuses options that it does not know, inside a creation as well', async () => {
    for (const options of [{ outside: 'warn' }, { outsde: 'ignore' }, null, 5, [5]]) {
      const declare = () => dependsOn(ROW, options as never)
      expect(declare).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }))
      const creating = tracked().getOrCreate('k', () => (declare(), 1))
      await expect(creating).rejects.toMatchObject({ code: 'ERR_OPTION' })
    }
  })

  it('refuses wrong names first', () => {
    expect(() => dependsOn(5 as never, { outside: 'ignore' })).toThrow(/names/)
  })

  it('takes the options behind the names inside a creation', async () => {
    const region = tracked()
    await region.getOrCreate('k', () => (dependsOn(ROW, [dep.tag('t')], { outside: 'ignore' }), 1))
    expect((await region.explain('k')).dependsOn).toEqual(expect.arrayContaining([ROW, dep.tag('t')]))
  })

  it('throws where the creation is over: the names would come too late', async () => {
    let late: (() => void) | undefined
    const region = tracked()
    await region.getOrCreate('k', () => {
      late = AsyncResource.bind(() => dependsOn(ROW))
      return 1
    })
    expect(late).toThrow(expect.objectContaining({ code: 'ERR_OUTSIDE_CREATION' }))
  })
})

describe('a cached function that runs uncached', () => {
  const ways = {
    'because it is switched off': { enabled: () => false },
    'because its arguments have no key': { onKeyError: 'bypass' },
  } as const
  it.each(Object.entries(ways))('may declare names, %s', async (_, options) => {
    for (const region of [tracked(), makeRegion<number>({ backend: memory() })]) {
      const cached = region.cacheOnArguments({ namespace: 'f', ...options })(async (_: unknown) => {
        dependsOn(ROW)
        await undefined
        dependsOn(ROW)
        return 1
      })
      expect(await cached(() => 5)).toBe(1)
      expect(await cached.refresh(() => 5)).toBe(1)
      expect(() => dependsOn(ROW)).toThrow(expect.objectContaining({ code: 'ERR_OUTSIDE_CREATION' }))
    }
  })

  it('hands the names to the creation around it', async () => {
    const region = tracked()
    const part = region.cacheOnArguments({ namespace: 'f', enabled: () => false })(async () => {
      dependsOn(ROW)
      return 1
    })
    await region.getOrCreate('k', () => part())
    expect((await region.explain('k')).dependsOn).toContain(ROW)
  })

  it('hands up the names of the arguments of its call, which the caller changes while it runs', async () => {
    const region = tracked()
    const { create, resolve } = held<void>()
    const part = region.cacheOnArguments(
      async (row: { id: number }) => {
        await create()
        return row.id
      },
      {
        namespace: 'f',
        enabled: () => false,
        resultDependencies: (_, row) => dep.id('row', row.id),
      },
    )
    const outer = region.getOrCreate('k', () => {
      const row = { id: 5 }
      const result = part(row)
      row.id = 6
      return result
    })
    resolve()
    expect(await outer).toBe(5)
    expect((await region.explain('k')).dependsOn).toEqual(['region:r', dep.id('row', 5)])
  })

  it('throws where its own context was lost', async () => {
    const { query, drain } = pool()
    const part = tracked().cacheOnArguments({ namespace: 'f', enabled: () => false })(
      () =>
        new Promise<number>((resolve, reject) =>
          query((row) => {
            try {
              dependsOn(ROW)
              resolve(row)
            } catch (error) {
              reject(error)
            }
          }),
        ),
    )
    const result = part()
    await Promise.all([expect(result).rejects.toMatchObject({ code: 'ERR_OUTSIDE_CREATION' }), drain()])
  })

  it('throws after its end, also while another call runs uncached', async () => {
    const left = held<void>()
    const slow = held<number>()
    let late: Promise<unknown> | undefined
    const hurried = tracked().cacheOnArguments({ namespace: 'f', enabled: () => false })(async () => {
      late = left.create().then(() => dependsOn(ROW))
      return 1
    })
    const other = tracked('other').cacheOnArguments({ namespace: 'f', enabled: () => false })(slow.create)
    await hurried()
    const running = other()
    left.resolve()
    await expect(late).rejects.toMatchObject({ code: 'ERR_OUTSIDE_CREATION' })
    slow.resolve(2)
    await running
  })
})

describe("names that outside: 'ignore' dropped", () => {
  it('are told once for each creation that ran meanwhile and tracks dependencies', async () => {
    const { query, drain } = pool()
    const region = tracked()
    const untracked = makeRegion<number>({ name: 'u', backend: memory() })
    const create = () => new Promise<number>((resolve) => query(resolve))
    const notices = await noticesOf(async () => {
      dependsOn(ROW, { outside: 'ignore' })
      await region.getOrCreate('over', () => 1)
      const running = [
        region.getOrCreate('one', create),
        region.getOrCreateMulti(['many 1', 'many 2', 'many 3'], () =>
          create().then((row) => [row, row, row]),
        ),
        untracked.getOrCreate('nothing to lose', create),
      ]
      await new Promise((resolve) => setImmediate(resolve))
      dependsOn(ROW, { outside: 'ignore' })
      dependsOn(ROW, { outside: 'ignore' })
      await Promise.all([drain(), ...running])
      dependsOn(ROW, { outside: 'ignore' })
    })
    expect(notices.map(({ key }) => key).sort()).toEqual(['many 1', 'one'])
    for (const { message } of notices) expect(message).toContain(ROW)
    expect(notices.find(({ key }) => key === 'many 1')?.message).toContain('2 more keys')
  })

  it('are told of renewals too, and of creations of cached functions', async () => {
    const { query, drain } = pool()
    const region = tracked()
    const cached = region.cacheOnArguments({ namespace: 'f', dependencies: () => ROW })(
      () =>
        new Promise<number>((resolve) =>
          query((row) => {
            dependsOn(dep.tag('inside'), { outside: 'ignore' })
            resolve(row)
          }),
        ),
    )
    const runs = [() => cached(), () => cached.refresh(), () => region.refreshDependencies(ROW)]
    for (const run of runs) {
      const notices = await noticesOf(() => Promise.all([run(), drain()]))
      expect(notices.map(({ key }) => key)).toEqual([cached.key()])
    }
  })
})

onStores('all', 'a driver that loses the async context', (at) => {
  it('loses no name that is declared at the creation, or in a callback that is bound', async () => {
    const [region, other] = at().regions<number>()
    const { query, drain } = pool()
    const part = region.cacheOnArguments({ namespace: 'part', dependencies: () => ROW })(async () => 1)
    const ways: Record<string, (creation: Creation, callback: Callback) => Callback> = {
      'creation.dependsOn':
        ({ key, dependsOn }, callback) =>
        (row) => (dependsOn(key, ROW), callback(row)),
      'AsyncResource.bind': (_, callback) => AsyncResource.bind((row) => (dependsOn(ROW), callback(row))),
      'AsyncLocalStorage.bind': (_, callback) =>
        AsyncLocalStorage.bind((row) => (dependsOn(ROW), callback(row))),
      'a cached function in a callback that is bound': (_, callback) =>
        AsyncResource.bind(() => void part().then(callback)),
    }
    for (const [way, bound] of Object.entries(ways)) {
      const created = region.getOrCreate(
        way,
        (creation) => new Promise<number>((resolve) => query(bound(creation, resolve))),
      )
      await Promise.all([created, drain()])
      expect(await other.get(way), way).toBe(1)
    }
    // Names that the options declare need no context.
    const declared = region.cacheOnArguments({
      namespace: 'declared',
      group: { row: () => 1 },
      resultDependencies: () => ROW,
    })(() => new Promise<number>((resolve) => query(resolve)))
    await Promise.all([declared(), drain()])
    await other.invalidateDependencies(ROW)
    for (const way of Object.keys(ways)) expect(await region.get(way), way).toBe(NO_VALUE)
    expect(await declared.get()).toBe(NO_VALUE)
  })
})
