import { afterAll, describe, expect, it } from 'vitest'
import { makeRegion, NO_VALUE } from '../../src/index.js'
import { LONG } from '../support/long.js'
import { explore, type Schedule } from './explore.js'
import { AWAY, HARD, SOFT, staged } from './sources.js'
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

/** Reads whose creator fails in two steps, of a value that has expired. */
const failing = (backend: typeof stepped, schedule: Schedule) =>
  staged(schedule, 'is away', { makeRegion, open: () => backend(schedule) })

describe.each([
  ['a backend with lease and ledger', stepped],
  ['a backend of three methods', humble],
] as const)('a source that fails over %s', (_, backend) => {
  it.each(Object.keys(HARD))('revives nothing that %s reached, for one reader and one that follows', (how) =>
    all(async (schedule) => {
      const { one: region, read } = await failing(backend, schedule)
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
      const { one: region, read } = await failing(backend, schedule)
      const before = [read(), read()]
      await HARD[how]?.(region)
      expect(await Promise.all([read(), read()])).toEqual([AWAY, AWAY])
      for (const value of await Promise.all(before)) expect(['old', AWAY]).toContain(value)
    }),
  )

  it.each(Object.keys(SOFT))('leaves the value that %s marked, and is tried again once', (how) =>
    all(async (schedule) => {
      const { one: region, read, tries } = await failing(backend, schedule)
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
