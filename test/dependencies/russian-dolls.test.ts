import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { json } from '../../proxies/json.js'
import { msgpack } from '../../proxies/msgpack.js'
import {
  dep,
  dependsOn,
  intercept,
  type Ledger,
  makeRegion,
  NO_VALUE,
  type Region,
  wrap,
} from '../../src/index.js'
import { versioned } from '../../src/session/index.js'
import { deferred, turn, until } from '../support/waiting.js'

/** A region whose stale values are never renewed, so that they are served for as long as a test looks. */
function standing() {
  let now = 1_000
  const clock = { now: () => now }
  const region = makeRegion<string>({
    name: 'dolls',
    backend: wrap(memory({ clock }), dependencies()),
    clock,
    expirationTime: 100,
    asyncCreationRunner: () => {},
  })
  return { region, pass: (ms: number) => (now += ms) }
}

describe('a value that is made from a stale one', () => {
  it('is never stored as fresh: a part that has expired', async () => {
    const { region, pass } = standing()
    const part = () => region.getOrCreate('part', () => 'part')
    await part()
    pass(101)
    expect(await region.getOrCreate('whole', async () => `whole of ${await part()}`)).toBe('whole of part')
    expect(await region.get('whole')).toBe(NO_VALUE)
    expect(await region.get('whole', { ignoreExpiration: true })).toBe('whole of part')
  })

  it('is not stored at all: a part that was invalidated softly', async () => {
    const { region } = standing()
    const part = () =>
      region.getOrCreate('part', () => {
        dependsOn(dep.id('row', 1))
        return 'part'
      })
    await part()
    await region.invalidateDependencies(dep.id('row', 1), 'soft')
    expect(await region.getOrCreate('whole', async () => `whole of ${await part()}`)).toBe('whole of part')
    expect(await region.get('whole', { ignoreExpiration: true })).toBe(NO_VALUE)
  })
})

describe('parts that are read side by side', () => {
  it('hand up the dependencies of each, at any depth', async () => {
    const { region } = standing()
    const leaf = (id: number) =>
      region.getOrCreate(`leaf ${id}`, async () => {
        await turn()
        dependsOn(dep.id('leaf', id))
        return `${id}`
      })
    const branch = (...ids: number[]) =>
      region.getOrCreate(`branch ${ids}`, async () => (await Promise.all(ids.map(leaf))).join())
    const tree = () =>
      region.getOrCreate('tree', async () => (await Promise.all([branch(1, 2), branch(3, 4)])).join())
    for (const id of [1, 2, 3, 4]) {
      expect(await tree()).toBe('1,2,3,4')
      await region.invalidateDependencies(dep.id('leaf', id))
      expect(await region.get('tree')).toBe(NO_VALUE)
      expect(await region.get(id < 3 ? 'branch 3,4' : 'branch 1,2')).not.toBe(NO_VALUE)
    }
  })
})

describe('a region in between that tracks no dependencies', () => {
  function chain() {
    const store = memory()
    const tracked = (name: string) => makeRegion<string>({ name, backend: wrap(store, dependencies()) })
    const plain = (name: string) => makeRegion<string>({ name, backend: memory() })
    const [inner, outer] = [tracked('inner'), tracked('outer')]
    const [between, further] = [plain('between'), plain('further')]
    const row = { value: 'old' }
    const part = () =>
      inner.getOrCreate('part', () => {
        dependsOn(dep.id('row', 1))
        return row.value
      })
    const between1 = () => between.getOrCreate('key', () => part())
    const between2 = () => further.getOrCreate('key', () => between1())
    const whole = (of: () => Promise<string>) => outer.getOrCreate('whole', async () => `<${await of()}>`)
    return { inner, outer, between, row, part, between1, between2, whole }
  }

  it.each<[string, (at: ReturnType<typeof chain>) => () => Promise<string>]>([
    ['alone', ({ between1 }) => between1],
    ['with another such region around it', ({ between2 }) => between2],
  ])(
    'keeps values that are made from it from being stored, also when it was a hit: %s',
    async (_, through) => {
      const at = chain()
      const made = through(at)
      // On its own, so that nothing around it could be told then.
      await made()
      await at.inner.invalidateDependencies(dep.id('other', 1))
      expect(await at.whole(made)).toBe('<old>')
      expect(at.outer.peek('whole')).toBe(NO_VALUE)
      at.row.value = 'new'
      await at.inner.invalidateDependencies(dep.id('row', 1))
      await at.between.delete('key')
      if (made === at.between1) expect(await at.whole(made)).toBe('<new>')
      expect(at.outer.peek('whole')).toBe(NO_VALUE)
    },
  )

  it('is no matter where its value is made from nothing that is tracked', async () => {
    const at = chain()
    const made = () => at.between.getOrCreate('plain', async () => 'plain')
    await made()
    expect(await at.whole(made)).toBe('<plain>')
    expect(at.outer.peek('whole')).toBe('<plain>')
  })

  it('says so of a version too', async () => {
    const at = chain()
    let version = 1
    const price = versioned({ namespace: 'price', version: () => version, region: at.inner })(
      () => `${version}`,
    )
    const made = () => at.between.getOrCreate('key', () => price())
    await made()
    version = 2
    expect(await at.whole(made)).toBe('<1>')
    expect(at.outer.peek('whole')).toBe(NO_VALUE)
  })

  it('says so through an encoding', async () => {
    const store = memory({ stores: 'bytes' })
    const inner = makeRegion<string>({ name: 'inner', backend: wrap(store, msgpack(), dependencies()) })
    const outer = makeRegion<string>({ name: 'outer', backend: wrap(store, msgpack(), dependencies()) })
    const between = makeRegion<string>({ backend: wrap(memory({ stores: 'bytes' }), json()) })
    const made = () => between.getOrCreate('key', () => inner.getOrCreate('part', () => 'part'))
    await made()
    expect(await outer.getOrCreate('whole', made)).toBe('part')
    expect(outer.peek('whole')).toBe(NO_VALUE)
  })
})

describe('a part whose invalidation is under way', () => {
  /** A ledger that moves its clock before its stamps, as a cluster does: the two steps of an invalidation are those of a test. */
  function inTwoSteps() {
    const state = { at: 5, row: 5 }
    const epoch = 'e'
    const ledger: Ledger = {
      shared: true,
      open: () => ({
        storeClock: 'two steps',
        read: (names) => ({
          now: { epoch, at: state.at },
          stamps: names.map((name) => ({ hard: name === 'id:row:1' ? state.row : 0, soft: 0 })),
        }),
        now: () => ({ epoch, at: state.at }),
        invalidate: () => {},
      }),
    }
    return { state, ledger }
  }

  it('hands its own moment up: the whole began after the clock had moved, and before the stamp did', async () => {
    const { state, ledger } = inTwoSteps()
    const region = makeRegion<string>({ name: 'dolls', backend: wrap(memory(), dependencies({ ledger })) })
    const part = () =>
      region.getOrCreate('part', () => {
        dependsOn(dep.id('row', 1))
        return 'part'
      })
    await part()
    // The clock has moved for the row, and once more for another name.
    state.at = 8
    expect(await region.getOrCreate('whole', async () => `whole of ${await part()}`)).toBe('whole of part')
    state.row = 7
    expect(await region.get('part')).toBe(NO_VALUE)
    expect(await region.get('whole')).toBe(NO_VALUE)
  })
})

describe('a part that fails, in a value that is stored without it', () => {
  const AWAY = new Error('away')
  const fail = () => Promise.reject(AWAY)
  const instead = () => 'instead'

  function dolls() {
    const region = makeRegion<string>({ name: 'dolls', backend: wrap(memory(), dependencies()) })
    const whole = (part: () => Promise<unknown>) =>
      region.getOrCreate('whole', () => part().then(String, instead))
    const namesOfWhole = async () => (await region.explain('whole')).dependsOn
    return { region, whole, namesOfWhole }
  }

  it.each<[string, (region: ReturnType<typeof dolls>['region']) => () => Promise<unknown>]>([
    [
      'a cached function',
      (region) => region.cacheOnArguments(fail, { namespace: 'part', dependencies: () => 'name' }),
    ],
    [
      'a refresh',
      (region) => region.cacheOnArguments(fail, { namespace: 'part', dependencies: () => 'name' }).refresh,
    ],
    [
      'a function of many ids',
      (region) => {
        const part = region.cacheMultiOnArguments(async (..._: number[]): Promise<string[]> => fail(), {
          ...{ namespace: 'part', dependencies: (id: number) => (id === 2 ? 'name' : 'other') },
        })
        return () => part(1, 2)
      },
    ],
    [
      'names inside of the creator',
      (region) => () =>
        region.getOrCreate('part', () => {
          dependsOn('name')
          throw AWAY
        }),
    ],
    [
      'names of single keys',
      (region) => () =>
        region.getOrCreateMulti(['part', 'other'], (_, creation) => {
          creation.dependsOn('other', 'name')
          return fail()
        }),
    ],
    [
      'a part of the part',
      (region) => () =>
        region.getOrCreate('part', () =>
          region.getOrCreate('inner', () => {
            dependsOn('name')
            return fail()
          }),
        ),
    ],
    [
      'a part that takes too long',
      (region) =>
        region.cacheOnArguments(() => new Promise<string>(() => {}), {
          ...{ namespace: 'part', dependencies: () => 'name', hardTimeout: 20 },
        }),
    ],
  ])('hands up its names: %s', async (_, partOf) => {
    const { region, whole, namesOfWhole } = dolls()
    const part = partOf(region)
    expect(await whole(part)).toBe('instead')
    expect(await namesOfWhole()).toContain('name')
    await region.invalidateDependencies('name')
    expect(await region.get('whole')).toBe(NO_VALUE)
  })

  it('keeps it from being stored if its names are invalidated meanwhile', async () => {
    const { region, whole } = dolls()
    const part = region.cacheOnArguments(
      async () => {
        await region.invalidateDependencies('name')
        throw AWAY
      },
      { namespace: 'part', dependencies: () => 'name' },
    )
    await whole(part)
    expect(await region.get('whole')).toBe(NO_VALUE)
  })

  it('is as old as its own start for a caller that joins it later', async () => {
    const { region, whole } = dolls()
    let fails = (_: Error): void => {}
    const source = new Promise<string>((_, reject) => {
      fails = reject
    })
    const part = region.cacheOnArguments(() => source, { namespace: 'part', dependencies: () => 'name' })
    const first = part().catch(instead)
    await turn()
    await region.invalidateDependencies('name')
    const joined = whole(part)
    await turn()
    fails(AWAY)
    expect([await first, await joined]).toEqual(['instead', 'instead'])
    expect(await region.get('whole')).toBe(NO_VALUE)
  })

  it('hands its names up again while its failure is remembered', async () => {
    const { region, whole, namesOfWhole } = dolls()
    const part = region.cacheOnArguments(fail, {
      ...{ namespace: 'part', dependencies: () => 'name', errorExpirationTime: '1h' },
    })
    await part().catch(instead)
    await whole(part)
    expect(await namesOfWhole()).toContain('name')
  })

  it('keeps it from being stored if it failed before its names were known', async () => {
    const store = memory()
    const region = makeRegion<string>({ name: 'home', backend: wrap(store, dependencies()) })
    const away = intercept(({ name }, proceed) => (name === 'acquire' ? Promise.reject(AWAY) : proceed()))
    const other = makeRegion<string>({ name: 'away', backend: wrap(store, away, dependencies()) })
    const part = other.cacheOnArguments(async () => 'part', { namespace: 'part', dependencies: () => 'name' })
    expect(await region.getOrCreate('whole', () => part().catch(instead))).toBe('instead')
    expect(await region.get('whole')).toBe(NO_VALUE)
  })

  it.each<[string, (region: Region<string>) => () => Promise<unknown>]>([
    [
      'a cached function',
      (region) =>
        region.cacheOnArguments(async () => 'part', { namespace: 'part', dependencies: () => 'name' }),
    ],
    ['a value', (region) => () => region.getOrCreate('part', () => 'part')],
    ['values', (region) => () => region.getOrCreateMulti(['part', 'other'], (keys) => [...keys])],
  ])(
    'keeps it from being stored if the read failed that would have told its names: %s',
    async (_, partOf) => {
      const failures: Record<string, () => Promise<never>> = {
        rejects: () => Promise.reject(AWAY),
        throws: () => {
          throw AWAY
        },
        hangs: () => new Promise<never>(() => {}),
      }
      for (const [name, failure] of Object.entries(failures)) {
        const store = wrap(memory(), dependencies())
        const region = makeRegion<string>({ name: 'home', backend: store })
        const away = intercept((call, proceed) => (call.name.startsWith('get') ? failure() : proceed()))
        const part = partOf(makeRegion<string>({ name: 'away', backend: wrap(store, away), hardTimeout: 20 }))
        expect(await region.getOrCreate('whole', () => part().then(String, instead))).toBe('instead')
        expect(await region.get('whole'), name).toBe(NO_VALUE)
      }
    },
  )

  it('does not keep it from being stored while another process takes its time, and it is made here in the end', async () => {
    const store = memory()
    const open = () =>
      makeRegion<string>({ name: 'dolls', backend: wrap(store, dependencies()), lease: { wait: 200 } })
    const [here, there] = [open(), open()]
    const made = deferred<string>()
    const slow = there.getOrCreate('part', () => made.promise)
    await turn()
    const found = await here.getOrCreate('whole', () =>
      here.getOrCreate('part', () => {
        dependsOn('name')
        return 'mine'
      }),
    )
    expect(await here.get('whole')).toBe(found)
    made.resolve('theirs')
    await slow
  })

  it('does not keep it from being stored if a stale value takes its place in time', async () => {
    const store = memory()
    const leased = deferred()
    let isSlow = false
    const slow = intercept(({ name }, proceed) =>
      isSlow && name === 'acquire' ? leased.promise.then(() => proceed()) : proceed(),
    )
    const region = makeRegion<string>({ name: 'home', backend: wrap(store, dependencies()), grace: '1h' })
    const parts = makeRegion<string>({
      ...{ name: 'parts', backend: wrap(store, slow, dependencies()) },
      ...{ expirationTime: 1, grace: '1h', softTimeout: 20 },
    })
    await parts.getOrCreate('part', () => 'old')
    await until(async () => (await parts.explain('part')).verdict === 'stale')
    isSlow = true
    expect(await region.getOrCreate('whole', () => parts.getOrCreate('part', () => 'new'))).toBe('old')
    expect(await region.get('whole', { ignoreExpiration: true })).toBe('old')
    leased.resolve()
  })

  it('hands up its own names in a batch, and nothing of keys that others create', async () => {
    const store = memory()
    const open = () => makeRegion<string>({ name: 'dolls', backend: wrap(store, dependencies()) })
    const [here, there] = [open(), open()]
    const made = deferred<string>()
    const slow = there.getOrCreate('slow', () => made.promise)
    await turn()
    const parts = () =>
      here.getOrCreateMulti(['bad', 'slow'], (keys, creation) => {
        for (const key of keys) creation.dependsOn(key, `name of ${key}`)
        throw AWAY
      })
    expect(await here.getOrCreate('whole', () => parts().then(String, instead))).toBe('instead')
    expect(await here.get('whole')).toBe('instead')
    expect((await here.explain('whole')).dependsOn).toContain('name of bad')
    made.resolve('theirs')
    await slow
  })

  it('hands up its names to a reservation that waited for it', async () => {
    const { region, namesOfWhole } = dolls()
    const failing = deferred<string>()
    const part = region
      .getOrCreate('part', () => {
        dependsOn('name')
        return failing.promise
      })
      .catch(instead)
    await turn()
    const reserved = () =>
      region.reserve('part').then(
        () => 'reserved',
        () => 'instead',
      )
    const whole = region.getOrCreate('whole', reserved)
    await turn()
    failing.reject(AWAY)
    expect([await part, await whole]).toEqual(['instead', 'instead'])
    expect(await namesOfWhole()).toContain('name')
  })
})
