import { afterAll, describe, expect, it } from 'vitest'
import { makeRegion, NO_VALUE, type Region } from '../../src/index.js'
import { LONG } from '../support/long.js'
import { explore, type Schedule } from './explore.js'
import { humble, stepped } from './stepped.js'

const BUDGET = LONG ? 200_000 : 500
const SAMPLES = LONG ? 50_000 : 300

let runs = 0
let scenarios = 0
afterAll(() => console.log(`failing sources: ${runs} schedules of ${scenarios} scenarios; 0 revived`))

async function all(scenario: (schedule: Schedule) => Promise<void>): Promise<void> {
  const explored = await explore(scenario, { budget: BUDGET, samples: SAMPLES, seed: ++scenarios })
  runs += explored.runs
  expect(explored.runs).toBeGreaterThan(1)
}

const HARD: Readonly<Record<string, (region: Region<string>) => Promise<unknown>>> = {
  delete: (region) => region.delete('k'),
  invalidate: (region) => region.invalidate(),
}
const SOFT: Readonly<Record<string, (region: Region<string>) => Promise<unknown>>> = {
  expire: (region) => region.expire('k'),
  'invalidate softly': (region) => region.invalidate('soft'),
}
const AWAY = 'the source is away'

/** A region with a value that has expired, and reads whose creator fails in two steps. */
async function failing(backend: typeof stepped, schedule: Schedule) {
  let now = 1_000
  const region = makeRegion<string>({
    backend: backend(schedule),
    clock: { now: () => now },
    expirationTime: 100,
    grace: '1h',
    retryAfter: '1h',
  })
  await region.set('k', 'old')
  now += 101
  let tries = 0
  const read = (): Promise<string> =>
    region
      .getOrCreate('k', async () => {
        tries++
        await schedule.step('ask the source', () => undefined)
        return schedule.step('hear that it fails', () => Promise.reject(new Error(AWAY)))
      })
      .catch((error: unknown) => (error as Error).message)
  return { region, read, tries: () => tries }
}

describe.each([
  ['a backend with lease and ledger', stepped],
  ['a backend of three methods', humble],
] as const)('a source that fails over %s', (_, backend) => {
  it.each(Object.keys(HARD))('revives nothing that %s reached, for one reader and one that follows', (how) =>
    all(async (schedule) => {
      const { region, read } = await failing(backend, schedule)
      const first = read()
      await HARD[how]?.(region)
      // It begins after the invalidation was acknowledged.
      const follower = await read()
      expect(follower).toBe(AWAY)
      expect(['old', AWAY]).toContain(await first)
      expect(await region.get('k', { ignoreExpiration: true })).toBe(NO_VALUE)
    }),
  )

  it.each(Object.keys(HARD))('revives nothing that %s reached, for two readers and two that follow', (how) =>
    all(async (schedule) => {
      const { region, read } = await failing(backend, schedule)
      const before = [read(), read()]
      await HARD[how]?.(region)
      expect(await Promise.all([read(), read()])).toEqual([AWAY, AWAY])
      for (const value of await Promise.all(before)) expect(['old', AWAY]).toContain(value)
    }),
  )

  it.each(Object.keys(SOFT))('leaves the value that %s marked, and is tried again once', (how) =>
    all(async (schedule) => {
      const { region, read, tries } = await failing(backend, schedule)
      const first = read()
      await SOFT[how]?.(region)
      expect(await read()).toBe('old')
      expect(await first).toBe('old')
      expect(await Promise.all([read(), read()])).toEqual(['old', 'old'])
      expect(tries()).toBeLessThanOrEqual(3)
    }),
  )

  it('is tried once by readers at a time', () =>
    all(async (schedule) => {
      const { read, tries } = await failing(backend, schedule)
      expect(await Promise.all([read(), read(), read()])).toEqual(['old', 'old', 'old'])
      expect(await read()).toBe('old')
      expect(tries()).toBe(1)
    }))
})
