import { beforeEach, describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { near } from '../../proxies/near.js'
import {
  type CachedValue,
  defineBackend,
  delegate,
  makeRegion,
  type RegionOptions,
  wrap,
} from '../../src/index.js'
import { stepped } from '../interleavings/stepped.js'
import { gate, turn } from '../support/waiting.js'

// One call of a turn at most asks for its lease at once.
beforeEach(turn)

/** A store that notes its steps, and brings an entry or leases its key in one of them. */
function world(ifAbsentFrom = 0, reply: (label: string) => unknown = () => {}) {
  const steps: string[] = []
  const step = async <R>(label: string, run: () => R | Promise<R>): Promise<R> => {
    if (!label.endsWith('answered')) steps.push(label)
    const result = await run()
    await reply(label)
    return result
  }
  let now = 1_000
  const backend = stepped({ step }, memory(), false, ifAbsentFrom)
  const open = (options: RegionOptions = {}) =>
    makeRegion<number>({ backend, clock: { now: () => now }, expirationTime: 100, ...options })
  return { steps, backend, open, after: (ms: number) => void (now += ms) }
}

describe('a key that is probably absent', () => {
  it('is leased by the first step, and created', async () => {
    const { steps, open } = world()
    const region = open()
    expect(await region.getOrCreate('k', () => 1)).toBe(1)
    expect(steps).toEqual(['acquire k', 'fill k'])
    expect(region.stats()).toMatchObject({ hits: 0, misses: 1, creations: 1, joined: 0 })
  })

  it('that has an entry is a hit of one step, without a lease', async () => {
    const { steps, open } = world()
    const region = open()
    await region.set('k', 1)
    steps.length = 0
    expect(await region.getOrCreate('k', () => 2)).toBe(1)
    expect(steps).toEqual(['acquire k'])
    expect(await region.keyIsLocked('k')).toBe(false)
    expect(region.stats()).toMatchObject({ hits: 1, misses: 0, creations: 0 })
  })

  it.each(['hard', 'soft'] as const)('whose region was invalidated, %s, is created', async (mode) => {
    const { open } = world()
    const jobs: Promise<void>[] = []
    const region = open({ asyncCreationRunner: (job) => void jobs.push(job.run()) })
    await region.set('k', 1)
    await region.invalidate(mode)
    expect(await region.getOrCreate('k', () => 2)).toBe(mode === 'hard' ? 2 : 1)
    await Promise.all(jobs)
    expect(await region.get('k')).toBe(2)
  })

  it('whose entry has expired is served stale while a runner renews it', async () => {
    const { open, after } = world()
    const jobs: Promise<void>[] = []
    const region = open({ asyncCreationRunner: (job) => void jobs.push(job.run()) })
    await region.set('k', 1)
    after(101)
    expect(await region.getOrCreate('k', () => 2)).toBe(1)
    await Promise.all(jobs)
    expect(await region.get('k')).toBe(2)
    expect(region.stats()).toMatchObject({ stale: 1, misses: 0 })
  })

  it('is asked for once by all callers of a turn', async () => {
    const { steps, open } = world()
    const region = open()
    let creations = 0
    const values = await Promise.all(
      Array.from({ length: 20 }, () => region.getOrCreate('k', () => ++creations)),
    )
    expect(values).toEqual(Array(20).fill(1))
    expect(steps).toEqual(['acquire k', 'fill k'])
  })

  it.each([
    ['fresh', 0, { hits: 20, stale: 0, misses: 0, joined: 0 }],
    ['stale', 101, { hits: 0, stale: 20, misses: 0, joined: 0 }],
    ['absent', undefined, { hits: 0, stale: 0, misses: 20, joined: 19 }],
  ] as const)('that is %s is counted for each caller of a turn', async (_, age, counts) => {
    const { open, after: pass } = world()
    const region = open({ asyncCreationRunner: () => {} })
    if (age !== undefined) await region.set('k', 1)
    pass(age ?? 0)
    await Promise.all(Array.from({ length: 20 }, () => region.getOrCreate('k', () => 1)))
    expect(region.stats()).toMatchObject(counts)
  })

  it('is leased by the first step while the failure of another key is remembered', async () => {
    const { steps, open } = world()
    const region = open({ errorExpirationTime: '1h' })
    const fail = () => Promise.reject(new Error('down'))
    await expect(region.getOrCreate('failing', fail)).rejects.toThrow('down')
    await turn()
    steps.length = 0
    await region.getOrCreate('k', () => 1)
    expect(steps).toEqual(['acquire k', 'fill k'])
    await turn()
    await expect(region.getOrCreate('failing', () => 1)).rejects.toThrow('down')
  })

  it('is read if another key was asked for in the same turn, since reads of a turn are one command', async () => {
    const { steps, open } = world()
    const region = open()
    await Promise.all(['a', 'b', 'c'].map((key) => region.getOrCreate(key, () => 1)))
    expect(steps.slice(0, 3).sort()).toEqual(['acquire a', 'get b', 'get c'])
  })

  it('whose entry is on its way is not shared with a caller that came after a newer write', async () => {
    const held = gate()
    const { open } = world(0, (label) => (label === 'acquire r:k' ? held.opened : undefined))
    const region = open({ name: 'one', keyspace: 'r' })
    // It stands for another process: a write of this one closes the flight.
    const other = open({ name: 'other', keyspace: 'r' })
    await region.set('k', 1)
    const first = region.getOrCreate('k', () => 0)
    await other.set('k', 2)
    const second = region.getOrCreate('k', () => 0)
    held.open()
    expect(await first).toBe(1)
    expect(await second).toBe(2)
  })

  it('is read through a layer that replaces get', async () => {
    const { steps, backend, open } = world()
    const seen: string[] = []
    const get: typeof backend.get = (key) => {
      seen.push(key)
      return backend.get(key)
    }
    for (const [name, chain] of Object.entries({
      delegated: delegate(backend, { get }),
      spread: wrap(backend, (next) => ({ ...next, get })),
    })) {
      await turn()
      steps.length = 0
      await open({ name, backend: chain }).getOrCreate('k', () => 1)
      expect(steps[0]).toBe(`get ${name}:k`)
    }
    expect(seen).toContain('delegated:k')
    expect(seen).toContain('spread:k')
  })

  it('is looked for among the copies of a near cache first', async () => {
    const store = { ...memory(), ifAbsentFrom: 0 }
    let leases = 0
    const acquire: typeof store.acquire = (...given) => {
      leases++
      return store.acquire(...given)
    }
    const counting = delegate(store, { acquire }, true)
    const region = makeRegion<number>({ backend: wrap(counting, near(memory(), { maxStaleness: '1s' })) })
    await region.getOrCreate('k', () => 1)
    await region.get('k')
    await turn()
    leases = 0
    expect(await region.getOrCreate('k', () => 2)).toBe(1)
    expect(leases).toBe(0)
  })
})

describe('whether keys are probably absent', () => {
  it.each([-0.1, 1.1, Number.NaN] as number[])('is not said by an `ifAbsentFrom` of %s', (ifAbsentFrom) => {
    const spec = { name: 'odd', get() {}, set() {}, delete() {}, ifAbsentFrom }
    expect(() => defineBackend(spec)).toThrow('ifAbsentFrom')
  })

  it('means nothing to a store without a lease of its own, which would lease an entry that is there', async () => {
    const entries = new Map<string, CachedValue>()
    const backend = defineBackend<CachedValue>({
      name: 'map',
      get: (key) => entries.get(key),
      set: (key, value) => void entries.set(key, value),
      delete: (key) => void entries.delete(key),
      ifAbsentFrom: 0,
    })
    const region = makeRegion<number>({ backend })
    await region.set('k', 1)
    expect(await region.getOrCreate('k', () => 2)).toBe(1)
    expect(region.stats()).toMatchObject({ hits: 1, misses: 0 })
  })

  it('leaves alone the failure that denies the renewal of an entry, where a process keeps it', async () => {
    const store = memory()
    const backend = defineBackend<CachedValue>({
      name: 'leasing',
      get: (key) => store.get(key),
      set: (key, value, options) => store.set(key, value, options),
      delete: (key) => store.delete(key),
      acquire: async (key, ms, options) => {
        const found = options?.ifAbsent ? await store.get(key) : undefined
        return found === undefined ? store.acquire(key, ms, options) : { token: '', found }
      },
      renew: (key, token, ms) => store.renew(key, token, ms),
      release: (key, token) => store.release(key, token),
      held: (key) => store.held(key),
      ifAbsentFrom: 0,
    })
    const region = makeRegion<number>({ backend, retryAfter: '1h', grace: '1h' })
    await region.set('k', 1)
    await region.expire('k')
    let tries = 0
    const fail = () => {
      tries++
      throw new Error('down')
    }
    for (let i = 0; i < 3; i++) {
      await turn()
      expect(await region.getOrCreate('k', fail)).toBe(1)
    }
    expect(tries).toBe(1)
  })

  it('is learnt from the latest lookups, by each function for itself', async () => {
    const { steps, open } = world(0.7)
    const region = open()
    const absent = region.cacheOnArguments(async (id: number) => id, { namespace: 'absent' })
    const present = region.cacheOnArguments(async (id: number) => id, { namespace: 'present' })
    const firstStep = async (call: () => Promise<number>) => {
      await turn()
      steps.length = 0
      await call()
      return steps[0]
    }
    for (let id = 0; id < 20; id++) {
      await absent(id)
      await present(1)
    }
    expect(await firstStep(() => absent(20))).toMatch(/^acquire /)
    expect(await firstStep(() => present(1))).toMatch(/^get /)
    for (let i = 0; i < 20; i++) await absent(1)
    expect(await firstStep(() => absent(1))).toMatch(/^get /)
  })
})
