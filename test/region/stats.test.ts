/** Every form of reading reports on `corral:read` and counts in `region.stats()`. */
import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import {
  dep,
  diagnostics,
  inBackground,
  type Messages,
  makeRegion,
  type ReadStats,
  type Region,
  type RegionStats,
  wrap,
} from '../../src/index.js'
import { versioned } from '../../src/session/index.js'
import { held, inEveryRegion, open as openMemory } from '../support/stage.js'
import { turn } from '../support/waiting.js'

type Result = Messages['read']['result']

/** The reads that `work` reports, as "key result". */
async function readsOf(work: () => unknown): Promise<string[]> {
  const seen: string[] = []
  const listen = ({ key, result }: Messages['read']) => void seen.push(`${key} ${result}`)
  diagnostics('read').subscribe(listen as never)
  try {
    await work()
  } finally {
    diagnostics('read').unsubscribe(listen as never)
  }
  return seen
}

const COUNTED = ['hits', 'stale', 'misses', 'joined', 'creations', 'failedCreations'] as const
type Counted = Partial<Record<(typeof COUNTED)[number], number>>

/** The numbers that grew, without times. */
function grown(before: ReadStats | undefined, after: ReadStats | undefined): Counted {
  const pairs = COUNTED.map((name) => [name, (after?.[name] ?? 0) - (before?.[name] ?? 0)] as const)
  return Object.fromEntries(pairs.filter(([, difference]) => difference !== 0))
}

async function growthOf(region: Region<never>, work: () => unknown): Promise<Counted> {
  const before = region.stats()
  await work()
  return grown(before, region.stats())
}

const RESULTS: Readonly<Record<Result, keyof ReadStats>> = { hit: 'hits', stale: 'stale', miss: 'misses' }

/** Forms that read one key, whatever is stored there. */
const FORMS: Readonly<Record<string, (region: Region<string>) => unknown>> = {
  get: (region) => region.get('key'),
  'get of stale values too': (region) => region.get('key', { ignoreExpiration: true }),
  getMulti: (region) => region.getMulti(['key']),
  'getMulti of a key twice': (region) => region.getMulti(['key', 'key']),
  'getOrCreateMulti of a key twice': (region) =>
    region.getOrCreateMulti(['key', 'key'], (keys) => keys.map(() => 'new')),
  has: (region) => region.has('key'),
  getValueMetadata: (region) => region.getValueMetadata('key'),
  getOrCreate: (region) => region.getOrCreate('key', () => 'new'),
  getOrCreateMulti: (region) => region.getOrCreateMulti(['key'], (keys) => keys.map(() => 'new')),
  'a cached function': (region) =>
    region.cacheOnArguments({ namespace: 'f', functionKeyGenerator: () => () => 'key' })(async () => 'new')(),
  'get of a cached function': (region) =>
    region
      .cacheOnArguments({ namespace: 'f', functionKeyGenerator: () => () => 'key' })(async () => 'new')
      .get(),
  'a cached function of many ids': (region) =>
    region.cacheMultiOnArguments({ namespace: 'f', functionMultiKeyGenerator: () => () => ['key'] })(
      async (..._: number[]) => ['new'],
    )(1),
  'get of a cached function of many ids': (region) =>
    region
      .cacheMultiOnArguments({ namespace: 'f', functionMultiKeyGenerator: () => () => ['key'] })(
        async (..._: number[]) => ['new'],
      )
      .get(1),
  'a cached method': (region) => {
    const cached = region.cacheOnArguments({
      namespace: 'f',
      self: 'shared',
      functionKeyGenerator: () => () => 'key',
    })
    class Shop {
      @cached
      async name(): Promise<string> {
        return 'new'
      }
    }
    return new Shop().name()
  },
}

inEveryRegion('a read', (open) => {
  it.each(Object.entries(FORMS))('is reported and counted once: %s', async (_, read) => {
    const stages: [Result, (region: Region<string>, tick: (ms: number) => void) => unknown][] = [
      ['miss', () => undefined],
      ['hit', (region) => region.set('key', 'old')],
      ['stale', (region, tick) => region.set('key', 'old').then(() => tick(101))],
      ['miss', (region) => region.set('key', 'old').then(() => region.invalidate())],
    ]
    for (const [result, prepare] of stages) {
      const { region, clock } = open<string>({ expirationTime: 100 })
      await prepare(region, clock.tick)
      let before = region.stats()
      const reports = await readsOf(async () => {
        before = region.stats()
        await read(region)
      })
      expect(reports, result).toEqual([`key ${result}`])
      expect(grown(before, region.stats())[RESULTS[result] as keyof Counted], result).toBe(1)
      const { hits, stale, misses } = region.stats()
      expect(hits + stale + misses, result).toBe(1)
    }
  })

  it('of many keys is one for each of them', async () => {
    const { region } = open<string>()
    await region.set('a', 'a')
    const forms = [
      () => region.getMulti(['a', 'b']),
      () => region.getOrCreateMulti(['b', 'a'], (keys) => keys.map((key) => key)),
    ]
    for (const read of forms) expect((await readsOf(read)).sort()).toEqual(['a hit', 'b miss'])
    expect(region.stats()).toMatchObject({ hits: 2, misses: 2, stale: 0, creations: 1, hitRatio: 0.5 })
  })
})

describe('a synchronous read', () => {
  it('is reported and counted once', async () => {
    const { region, clock } = openMemory<string>({ expirationTime: 100 })
    const peek = () => region.peek('key')
    expect(await readsOf(peek)).toEqual(['key miss'])
    await region.set('key', 'value')
    expect(await readsOf(peek)).toEqual(['key hit'])
    clock.tick(101)
    expect(await readsOf(peek)).toEqual(['key stale'])
    expect(region.stats()).toMatchObject({ hits: 1, misses: 1, stale: 1 })
  })
})

inEveryRegion('callers that share a creation', (open) => {
  it('are counted as misses, all but one of them as joined', async () => {
    const { region } = open<string>()
    const creator = held<string>()
    const callers = [0, 1, 2].map(() => region.getOrCreate('key', creator.create))
    const many = region.getOrCreateMulti(['key', 'other'], (keys) => keys.map(() => 'other'))
    await creator.started
    await turn()
    creator.resolve('value')
    await Promise.all([...callers, many])
    expect(region.stats()).toMatchObject({ misses: 5, joined: 3, hits: 0, stale: 0, creations: 2 })
  })

  it('are not joined where they get the stale value', async () => {
    const { region, clock } = open<string>({ expirationTime: 100 })
    await region.set('key', 'old')
    clock.tick(101)
    const creator = held<string>()
    const leader = region.getOrCreate('key', creator.create)
    await creator.started
    await region.getOrCreate('key', creator.create)
    creator.resolve('new')
    await leader
    expect(region.stats()).toMatchObject({ stale: 2, joined: 0, creations: 1 })
  })
})

describe('creations', () => {
  it('are counted with their time, failed ones too', async () => {
    const { region } = openMemory<string>()
    const growth = await growthOf(region as never, async () => {
      await region.getOrCreate('a', () => 'a')
      await region.getOrCreate('b', () => Promise.reject(new Error('no'))).catch(() => {})
    })
    expect(growth).toEqual({ misses: 2, creations: 2, failedCreations: 1 })
    expect(region.stats().creationMilliseconds).toBeGreaterThan(0)
  })

  it('that renew in the background, or refresh, are counted in their namespace', async () => {
    const runner = inBackground()
    const { region, clock } = openMemory<string>({ expirationTime: 100, asyncCreationRunner: runner })
    const cached = region.cacheOnArguments({ namespace: 'f' })(async () => 'value')
    await cached()
    clock.tick(101)
    await cached()
    await runner.drain()
    await cached.refresh()
    expect(region.stats().namespaces.f).toMatchObject({ misses: 1, stale: 1, hits: 0, creations: 3 })
  })

  it('that refreshDependencies repeats are counted in their namespace', async () => {
    const region = makeRegion<string>({ name: 'r', backend: wrap(memory(), dependencies()) })
    const cached = region.cacheOnArguments({ namespace: 'f', dependencies: () => dep.tag('t') })(
      async () => 'value',
    )
    await cached()
    await region.refreshDependencies(dep.tag('t'))
    expect(region.stats().namespaces.f).toMatchObject({ misses: 1, creations: 2 })
  })
})

describe('the statistics of a namespace', () => {
  it('are a part of those of the region', async () => {
    const { region } = openMemory<string>()
    const one = region.cacheOnArguments({ namespace: 'one' })(async (id: number) => `${id}`)
    const many = region.cacheMultiOnArguments({ namespace: 'many' })(async (...ids: number[]) =>
      ids.map(String),
    )
    await one(1)
    await one(1)
    await one.get(2)
    await many(1, 2)
    await many(2, 3)
    await region.get('of no namespace')
    const { namespaces, ...all } = region.stats()
    expect(namespaces.one).toMatchObject({ hits: 1, misses: 2, creations: 1, hitRatio: 1 / 3 })
    expect(namespaces.many).toMatchObject({ hits: 1, misses: 3, creations: 2, hitRatio: 1 / 4 })
    expect(all).toMatchObject({ hits: 2, misses: 6, creations: 3, hitRatio: 2 / 8 })
  })

  it('are there from the declaration on, and of any name', () => {
    const { region } = openMemory<string>()
    void region.cacheOnArguments({ namespace: '__proto__' })(async () => 'value')
    const { namespaces } = region.stats()
    expect(Object.keys(namespaces)).toEqual(['__proto__'])
    expect(Object.entries(namespaces)[0]?.[1]).toMatchObject({ hits: 0, misses: 0, hitRatio: 0 })
  })

  it('stand in the messages', async () => {
    const { region } = openMemory<string>()
    const cached = region.cacheOnArguments({ namespace: 'f' })(async () => 'value')
    const seen: (string | undefined)[] = []
    const listen = ({ namespace }: Messages['read'] | Messages['create']) => void seen.push(namespace)
    for (const channel of ['read', 'create'] as const) diagnostics(channel).subscribe(listen as never)
    await cached()
    await cached()
    await region.get('of no namespace')
    for (const channel of ['read', 'create'] as const) diagnostics(channel).unsubscribe(listen as never)
    expect(seen).toEqual(['f', 'f', 'f', undefined])
  })

  it('are kept for versioned functions', async () => {
    const { region } = openMemory<string>()
    const tracked = makeRegion<string>({ name: 'r', backend: wrap(memory(), dependencies()) })
    const page = versioned({ namespace: 'page', version: () => 1, region: tracked })(async () => 'page')
    await page()
    await page()
    expect(tracked.stats().namespaces.page).toMatchObject({ hits: 1, misses: 1, creations: 1 })
    expect(region.stats().namespaces).toEqual({})
  })
})

describe('the statistics of a region', () => {
  it('begin when it is made, and go on over a new configuration', async () => {
    const before = Date.now()
    const region = makeRegion<string>()
    const cached = region.cacheOnArguments({ namespace: 'f' })(async () => 'value')
    const empty: RegionStats = region.stats()
    expect(empty).toMatchObject({ hits: 0, misses: 0, hitRatio: 0, namespaces: { f: { hits: 0 } } })
    expect(empty.since).toBeGreaterThanOrEqual(before - 1)
    expect(empty.since).toBeLessThanOrEqual(Date.now() + 1)
    region.configure({ backend: memory() })
    await cached()
    region.configure({ backend: memory(), replaceExistingBackend: true })
    await cached()
    expect(region.stats()).toMatchObject({ misses: 2, creations: 2, since: empty.since })
    await region.close()
    await expect(cached()).rejects.toMatchObject({ code: 'ERR_CLOSED' })
    expect(region.stats()).toMatchObject({ misses: 2, namespaces: { f: { misses: 2 } } })
    expect(empty.misses).toBe(0)
  })
})
