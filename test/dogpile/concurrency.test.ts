import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { type DogpileDriver, dogpile, type Lookup } from '../../src/dogpile/index.js'
import { makeRegion } from '../../src/index.js'
import { manualClock } from '../support/stage.js'
import { idle } from '../support/waiting.js'

vi.mock(import('../../src/base/timers.js'), async (original) => {
  const { globalTimers } = await import('../support/global-timers.js')
  return globalTimers(await original())
})

/** Waits on the fake clock of these tests, which the shared helper does not use. */
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

interface Scenario {
  readonly callers: number
  /** ms, all of them. */
  readonly expire: number
  readonly create: number
  readonly usages: number
  readonly use: number
  readonly delay: number
  /** The store forgets a value after so long. */
  readonly storeExpire?: number
}

interface Report {
  readonly mostCreators: number
  readonly generations: number
  readonly slowUses: number
  readonly oldest: number
  readonly took: number
}

/** Many callers use one resource again and again, in virtual time. */
async function simulate({
  callers,
  expire,
  create,
  usages,
  use,
  delay,
  storeExpire,
}: Scenario): Promise<Report> {
  const began = Date.now()
  let stored: { readonly value: number; readonly at: number } | undefined
  let creators = 0
  let mostCreators = 0
  let generations = 0
  let slowUses = 0
  let oldest = 0
  const steps: DogpileDriver<number> = {
    read(): Lookup<number>[] {
      const age = stored === undefined ? Number.POSITIVE_INFINITY : Date.now() - stored.at
      if (stored === undefined || (storeExpire !== undefined && age > storeExpire))
        return [{ state: 'missing' }]
      return [{ state: age > expire ? 'stale' : 'fresh', value: stored.at }]
    },
    async create() {
      mostCreators = Math.max(mostCreators, ++creators)
      generations++
      await sleep(create)
      creators--
      return [Date.now()]
    },
    fill(fills) {
      return fills.map(([, value]) => {
        stored = { value, at: value }
        return 'stored'
      })
    },
  }
  const pile = dogpile<number>({ wait: Number.POSITIVE_INFINITY })
  const caller = async () => {
    for (let usage = 0; usage < usages; usage++) {
      const asked = Date.now()
      const createdAt = await pile.run('key', steps)
      if (Date.now() - asked > 10) slowUses += 1
      await sleep(use)
      oldest = Math.max(oldest, Date.now() - createdAt)
      await sleep(delay)
    }
  }
  let done = false
  const all = Promise.all(Array.from({ length: callers }, caller)).then(() => {
    done = true
  })
  while (!done) await vi.advanceTimersByTimeAsync(50)
  await all
  return { mostCreators, generations, slowUses, oldest, took: Date.now() - began }
}

const SCENARIOS: Record<string, Scenario> = {
  'quick creations': { callers: 10, expire: 2_000, create: 500, usages: 50, use: 50, delay: 100 },
  'slow creations': { callers: 10, expire: 5_000, create: 2_000, usages: 50, use: 100, delay: 100 },
  'uses that last as long as a creation': {
    callers: 10,
    expire: 5_000,
    create: 2_000,
    usages: 50,
    use: 1_000,
    delay: 100,
  },
  'creations slower than the expiration': {
    callers: 10,
    expire: 2_000,
    create: 2_500,
    usages: 50,
    use: 50,
    delay: 100,
  },
  'a store that forgets before the expiration': {
    callers: 10,
    expire: 1_000,
    create: 600,
    usages: 100,
    use: 50,
    delay: 100,
    storeExpire: 800,
  },
  'a store that keeps long enough, quick creations': {
    callers: 10,
    expire: 2_000,
    create: 500,
    usages: 50,
    use: 50,
    delay: 100,
    storeExpire: 2_750,
  },
  'a store that keeps long enough, slow creations': {
    callers: 10,
    expire: 5_000,
    create: 2_000,
    usages: 50,
    use: 100,
    delay: 100,
    storeExpire: 7_700,
  },
}

describe('many callers of one resource', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'Date'] })
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  const check = async (scenario: Scenario) => {
    const { callers, expire, create, usages, use, delay, storeExpire = Number.POSITIVE_INFINITY } = scenario
    const report = await simulate(scenario)
    const effective = Math.min(expire, storeExpire)
    expect(report.mostCreators).toBe(1)
    expect(report.generations).toBeGreaterThan(1)
    expect(report.generations).toBeLessThanOrEqual(Math.ceil((1.1 * report.took) / effective))
    expect(report.oldest).toBeLessThan(1.1 * (effective + create + use + delay))
    const safe = storeExpire > expire
    expect(report.slowUses).toBeLessThanOrEqual(
      safe ? report.generations + callers - 1 : report.generations * callers,
    )
    expect(report.took).toBeLessThan(
      usages * (use + delay) + (safe ? report.generations + 1 : report.generations * 2) * create + 1_000,
    )
  }

  it('with quick creations: one creator at a time, the others hardly wait', () =>
    check(SCENARIOS['quick creations'] as Scenario))
  it('with slow creations: one creator at a time, the others hardly wait', () =>
    check(SCENARIOS['slow creations'] as Scenario))
  it('with uses that last as long as a creation: values are used while others are made', () =>
    check(SCENARIOS['uses that last as long as a creation'] as Scenario))
  it('with creations slower than the expiration: one creator at a time', () =>
    check(SCENARIOS['creations slower than the expiration'] as Scenario))
  it('with a store that forgets before the expiration: all wait, one creates', () =>
    check(SCENARIOS['a store that forgets before the expiration'] as Scenario))
  it('with a store that keeps long enough for quick creations: the others hardly wait', () =>
    check(SCENARIOS['a store that keeps long enough, quick creations'] as Scenario))
  it('with a store that keeps long enough for slow creations: the others hardly wait', () =>
    check(SCENARIOS['a store that keeps long enough, slow creations'] as Scenario))
})

describe('many callers of a region', () => {
  it('never run two creators of a key at once', async () => {
    const clock = manualClock()
    const region = makeRegion<number>({ backend: memory({ clock }), clock, expirationTime: 250 })
    let running = 0
    let most = 0
    let creations = 0
    const caller = async (seed: number) => {
      for (let round = 0; round < 5; round++) {
        await region.getOrCreate('key', async () => {
          most = Math.max(most, ++running)
          creations++
          await idle(3)
          running--
          return creations
        })
        clock.tick(50 + ((seed * 31 + round * 17) % 40))
        await idle(1 + ((seed + round) % 3))
      }
    }
    await Promise.all(Array.from({ length: 10 }, (_, seed) => caller(seed)))
    expect(most).toBe(1)
    expect(creations).toBeGreaterThan(2)
    expect(await region.keyIsLocked('key')).toBe(false)
  })

  it('never run two creators of a key at once, in batches of many keys', async () => {
    const clock = manualClock()
    const region = makeRegion<string>({ backend: memory({ clock }), clock, expirationTime: 100 })
    const making = new Map<string, number>()
    let overlapped = false
    let creations = 0
    const caller = async (seed: number) => {
      for (let round = 0; round < 6; round++) {
        const count = 1 + ((seed * 7 + round * 3) % 5)
        const keys = Array.from({ length: count }, (_, i) =>
          String(1 + ((seed * 13 + round * 5 + i * 3) % 10)),
        )
        const values = await region.getOrCreateMulti(keys, async (missing) => {
          creations++
          for (const key of missing) {
            if ((making.get(key) ?? 0) > 0) overlapped = true
            making.set(key, (making.get(key) ?? 0) + 1)
          }
          await idle(2)
          for (const key of missing) making.set(key, (making.get(key) ?? 0) - 1)
          return missing
        })
        expect(values).toEqual(keys)
        clock.tick(40)
      }
    }
    await Promise.all(Array.from({ length: 5 }, (_, seed) => caller(seed)))
    expect(overlapped).toBe(false)
    expect(creations).toBeGreaterThan(10)
  })

  it('hold the leases of three names apart, and never two of one name', async () => {
    const backend = memory()
    const inside = new Map<string, number>()
    let overlapped = false
    let entered = 0
    const worker = async (seed: number) => {
      for (let round = 0; round < 20; round++) {
        const name = `name ${(seed + round * 7) % 3}`
        for (;;) {
          const acquired = await backend.acquire(name, 60_000)
          if (acquired.token === undefined) {
            await acquired.settled
            continue
          }
          const now = (inside.get(name) ?? 0) + 1
          inside.set(name, now)
          if (now > 1) overlapped = true
          entered++
          await Promise.resolve()
          inside.set(name, now - 1)
          expect(await backend.release(name, acquired.token)).toBe(true)
          break
        }
      }
    }
    await Promise.all(Array.from({ length: 19 }, (_, seed) => worker(seed)))
    expect(overlapped).toBe(false)
    expect(entered).toBe(19 * 20)
  })
})
