import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import {
  type CachedValue,
  type Creation,
  type CreationJob,
  currentCreation,
  defineBackend,
  inBackground,
  makeRegion,
  NO_VALUE,
  type Region,
  wrap,
} from '../../src/index.js'
import { inEveryRegion, manualClock, open as openMemory } from '../support/stage.js'
import { gate, until } from '../support/waiting.js'

interface Page {
  readonly tag: string
}

/** A source that answers "not modified" to a caller that has its latest version. */
function source() {
  const state = { tag: 'v1', full: 0, notModified: 0 }
  const load = (creation: Creation): Page => {
    const previous = creation.previous?.payload as Page | undefined
    if (previous?.tag === state.tag) {
      state.notModified++
      return creation.unchanged()
    }
    state.full++
    return { tag: state.tag }
  }
  return { state, load }
}

describe('a value that was created from tracked ones by a region that tracks nothing', () => {
  it('is no other after unchanged()', async () => {
    const clock = manualClock()
    const tracked = makeRegion<string>({ name: 't', backend: wrap(memory(), dependencies()) })
    const plain = makeRegion<string>({ name: 'p', backend: memory({ clock }), clock, expirationTime: 1_000 })
    const untracked = async () => (await plain.getValueMetadata('key'))?.metadata.untracked
    await plain.getOrCreate('key', () => tracked.getOrCreate('part', () => 'part'))
    expect(await untracked()).toBe(true)
    clock.tick(1_001)
    await plain.getOrCreate('key', ({ unchanged }) => unchanged<string>())
    expect(await untracked()).toBe(true)
  })
})

inEveryRegion('the previous value', (open) => {
  it('is there while it stands, and unchanged() makes it new', async () => {
    const { region, clock } = open<Page>({ expirationTime: 1_000 })
    const { state, load } = source()
    expect(await region.getOrCreate('key', load)).toEqual({ tag: 'v1' })
    clock.tick(1_001)
    expect(await region.getOrCreate('key', load)).toEqual({ tag: 'v1' })
    expect(await region.get('key')).toEqual({ tag: 'v1' })
    state.tag = 'v2'
    clock.tick(1_001)
    expect(await region.getOrCreate('key', load)).toEqual({ tag: 'v2' })
    expect(state).toEqual({ tag: 'v2', full: 2, notModified: 1 })
  })

  it('of a softly invalidated key is there, and none of a deleted one', async () => {
    const { region } = open<Page>()
    const { state, load } = source()
    await region.getOrCreate('key', load)
    await region.expire('key')
    await region.getOrCreate('key', load)
    expect(await region.get('key')).toEqual({ tag: 'v1' })
    expect(state.notModified).toBe(1)
    await region.delete('key')
    await region.getOrCreate('key', load)
    expect(state.full).toBe(2)
    await region.invalidate()
    await region.getOrCreate('key', load)
    expect(state.full).toBe(3)
  })

  it.each(['delete', 'invalidate'] as const)('is not stored again if %s() came meanwhile', async (how) => {
    const { region, clock } = open<Page>({ expirationTime: 1_000 })
    await region.set('key', { tag: 'v1' })
    clock.tick(1_001)
    const [started, end] = [gate(), gate()]
    const read = region.getOrCreate('key', async (creation) => {
      started.open()
      await end.opened
      return creation.unchanged()
    })
    await started.opened
    await (how === 'delete' ? region.delete('key') : region.invalidate())
    end.open()
    expect(await read).toEqual({ tag: 'v1' })
    expect(await region.get('key', { ignoreExpiration: true })).toBe(NO_VALUE)
  })

  it('of many keys is asked for by key', async () => {
    const { region, clock } = open<string>({ expirationTime: 1_000 })
    await region.setMulti([
      ['a', 'old a'],
      ['b', 'old b'],
    ])
    clock.tick(1_001)
    const values = await region.getOrCreateMulti(['a', 'b'], (keys, creation) => {
      expect(creation.previous?.payload).toBe('old a')
      return keys.map((key) => creation.unchanged<string>(key))
    })
    expect(values).toEqual(['old a', 'old b'])
    expect(await region.getMulti(['a', 'b'])).toEqual(['old a', 'old b'])
  })

  it('is there for a refresh, and for a renewal in the background', async () => {
    const runner = inBackground()
    const { region, clock } = open<Page>({ expirationTime: 1_000, asyncCreationRunner: runner })
    const { state, load } = source()
    const page = region.cacheOnArguments(async () => load(currentCreation()), { namespace: 'page' })
    await page()
    await page.refresh()
    expect(state).toEqual({ tag: 'v1', full: 1, notModified: 1 })
    clock.tick(1_001)
    await page()
    await runner.drain()
    await until(() => state.notModified === 2)
    expect(await page.get()).toEqual({ tag: 'v1' })
  })

  it('is missing where none stands: unchanged() throws', async () => {
    const { region } = open<string>()
    const read = region.getOrCreate('key', (creation) => {
      expect(creation.previous).toBeUndefined()
      return creation.unchanged()
    })
    await expect(read).rejects.toMatchObject({ code: 'ERR_CREATOR' })
    await expect(region.getOrCreate('key', (creation) => creation.unchanged('other'))).rejects.toMatchObject({
      code: 'ERR_KEY',
    })
    let late: Creation | undefined
    await region.getOrCreate('key', (creation) => {
      late = creation
      return 'value'
    })
    expect(() => late?.unchanged()).toThrow('before the end of its creation')
  })
})

describe('unchanged()', () => {
  it('needs a key in a creation of several', async () => {
    const clock = manualClock()
    const region = makeRegion<string>({ backend: memory({ clock }), clock, expirationTime: 100 })
    await region.setMulti([
      ['a', 'of a'],
      ['b', 'of b'],
    ])
    clock.tick(101)
    await region.getOrCreateMulti(['a', 'b'], (keys, creation) => {
      expect(() => creation.unchanged()).toThrow(expect.objectContaining({ code: 'ERR_KEY' }))
      return keys.map((key) => creation.unchanged<string>(key))
    })
    expect(await region.getMulti(['a', 'b'])).toEqual(['of a', 'of b'])
    clock.tick(101)
    await region.getOrCreateMulti(['a'], (_, creation) => [creation.unchanged<string>()])
    expect(await region.get('a')).toBe('of a')
  })

  it('keeps the dependencies of the value', async () => {
    const clock = manualClock()
    const region = makeRegion<string>({
      backend: wrap(memory({ clock }), dependencies()),
      clock,
      expirationTime: 1_000,
    })
    const load = () =>
      region.getOrCreate('key', (creation) => {
        if (creation.previous !== undefined) return creation.unchanged()
        creation.dependsOn('key', 'user:1')
        return 'value'
      })
    await load()
    clock.tick(1_001)
    await load()
    expect(await region.get('key')).toBe('value')
    await region.invalidateDependencies('user:1')
    expect(await region.get('key')).toBe(NO_VALUE)
  })
})

describe('currentCreation()', () => {
  it('gives a cached function its creation', async () => {
    const { region, clock } = openMemory<string>()
    const load = region.cacheOnArguments(
      async (id: number) => {
        const { expireIn, signal, key } = currentCreation()
        expireIn(1_000)
        return `${key} ${id} ${signal.aborted}`
      },
      { namespace: 'load' },
    )
    expect(await load(1)).toBe(`${load.key(1)} 1 false`)
    clock.tick(1_001)
    expect(await load.get(1)).toBe(NO_VALUE)
  })

  it('is the innermost one', async () => {
    const { region } = openMemory<string>()
    const key = await region.getOrCreate('outer', async () => {
      const inner = await region.getOrCreate('inner', async () => (await null, currentCreation().key))
      return `${inner} in ${currentCreation().key}`
    })
    expect(key).toBe('inner in outer')
  })

  it('throws outside of every creation, and after the end of one', async () => {
    const outside = expect.objectContaining({ code: 'ERR_OUTSIDE_CREATION' }) as Error
    expect(() => currentCreation()).toThrow(outside)
    const { region } = openMemory<string>()
    let late: (() => Creation) | undefined
    await region.getOrCreate('key', async () => {
      late = () => currentCreation()
      return 'value'
    })
    expect(() => late?.()).toThrow(outside)
  })
})

describe('a value that was invalidated hard', () => {
  const create = (creation: Creation): string => {
    creation.dependsOn(creation.key, ['n'])
    return creation.previous === undefined ? 'new' : creation.unchanged()
  }
  const WAYS = {
    'by name': (region: Region<string>) => region.invalidateDependencies('n'),
    'with its region': (region: Region<string>) => region.invalidate(),
  } as const

  it.each(Object.entries(WAYS))(
    '%s while a job waited in its queue is no previous value',
    async (_, invalidate) => {
      const clock = manualClock()
      const jobs: CreationJob[] = []
      const region = makeRegion<string>({
        name: 'queued',
        ...{ backend: wrap(memory({ clock }), dependencies()), clock, expirationTime: 1_000, grace: '1h' },
        asyncCreationRunner: (job) => void jobs.push(job),
      })
      await region.getOrCreate('k', (creation) => {
        creation.dependsOn('k', ['n'])
        return 'old'
      })
      clock.tick(1_001)
      expect(await region.getOrCreate('k', create)).toBe('old')
      await invalidate(region)
      await jobs[0]?.run()
      expect(await region.get('k')).toBe('new')
    },
  )

  it('between the reads of a batch and its creator is no previous value, in a store without a ledger', async () => {
    const clock = manualClock()
    const entries = new Map<string, CachedValue>()
    const slow = gate()
    let readsOfB = 0
    const backend = defineBackend<CachedValue>({
      name: 'without a ledger',
      async get(key) {
        // The first read finds it stale; the second one comes with the lease.
        if (key === 'b' && ++readsOfB === 2) await slow.opened
        return entries.get(key)
      },
      set: async (key, value) => void entries.set(key, value),
      delete: async (key) => void entries.delete(key),
    })
    const region = makeRegion<string>({ backend, clock, expirationTime: 1_000, grace: '1h' })
    await region.setMulti([
      ['a', 'old'],
      ['b', 'old'],
    ])
    clock.tick(1_001)
    const created = region.getOrCreateMulti(['a', 'b'], (keys, creation) =>
      keys.map((key) => {
        try {
          return creation.unchanged(key)
        } catch {
          return `new ${key}`
        }
      }),
    )
    await until(() => readsOfB === 2)
    clock.tick(1)
    await region.invalidate()
    clock.tick(1)
    slow.open()
    await created
    expect(await region.getMulti(['a', 'b'])).toEqual(['new a', 'new b'])
  })
})
