/** A source that is slow, fails or hangs: deadlines and the end of a creation are events that come at any moment. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Region, RegionOptions } from '../../src/index.js'
import { LONG, TIMES } from '../support/long.js'
import { inRealTime, inVirtualTime } from '../support/virtual-time.js'
import { explore, type Schedule } from './explore.js'
import { humble, stepped } from './stepped.js'

const BUDGET = LONG ? 300_000 : 120
const SAMPLES = LONG ? 50_000 : 120

let loaded: Awaited<ReturnType<typeof inVirtualTime>>
beforeAll(async () => {
  loaded = await inVirtualTime()
}, 60_000)

let runs = 0
let scenarios = 0
let complete = 0
afterAll(() => {
  inRealTime()
  console.log(
    `slow sources: ${runs} schedules of ${scenarios} scenarios, ${complete} of them complete; 0 values revived`,
  )
})

async function all(scenario: (schedule: Schedule) => Promise<void>, of: number): Promise<void> {
  const explored = await explore(scenario, { budget: BUDGET, samples: SAMPLES * TIMES, seed: ++scenarios })
  runs += explored.runs
  if (explored.exhausted) complete++
  // One reader and one that follows: every order there is.
  if (LONG && of === 1) expect(explored.exhausted).toBe(true)
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
const LATE = 'ERR_CREATION_TIMEOUT'
type Source = 'slow' | 'fails' | 'hangs'

/** A region with a value that has expired, and its source, whose data may change. */
async function staged(
  backend: typeof stepped,
  schedule: Schedule,
  source: Source,
  // At a hard deadline the store has 25 ms, which may be over before it replies.
  timeouts: RegionOptions = { hardTimeout: 20_000 },
) {
  const { time, corral } = loaded
  time.reset()
  let now = 1_000
  const region = corral.makeRegion<string>({
    backend: backend(schedule),
    clock: { now: () => now },
    expirationTime: 100,
    grace: '1h',
    retryAfter: '1h',
    softTimeout: 5,
    ...timeouts,
    abandonAfter: 50_000,
    lease: { ms: 60_000, wait: '1h' },
  })
  await schedule.alone(() => region.set('k', 'old'))
  now += 101
  let isOver = false
  let version = 0
  let tries = 0
  const create = async (): Promise<string> => {
    const isFirst = ++tries === 1
    const read = await schedule.step('ask the source', () => `v${version}`)
    // Time has to pass for a creation to be given up.
    if (isFirst && source === 'hangs' && !isOver) return new Promise(() => {})
    return schedule.step('the source replies', () =>
      isFirst && source === 'fails' ? Promise.reject(new Error(AWAY)) : read,
    )
  }
  const read = (): Promise<string> =>
    region
      .getOrCreate('k', create)
      .catch((error: Error & { readonly code?: string }) => (error.code === LATE ? LATE : error.message))
  /** The deadlines pass one after another, at any moment. */
  const times = async () => {
    await schedule.step('the soft deadline passes', () => time.block(10))
    await schedule.step('the hard deadline passes', () => time.block(25_000))
    await schedule.step('the creation is given up', () => {
      isOver = true
      time.block(60_000)
    })
  }
  return { region, read, times, change: () => void version++ }
}

describe.each([
  ['a backend with lease and ledger', stepped],
  ['a backend of three methods', humble],
] as const)('over %s', (_, backend) => {
  describe.each(['slow', 'fails', 'hangs'] as const)('a source that %s', (source) => {
    it.each([
      ...Object.keys(HARD).map((how) => [how, 1] as const),
      ...Object.keys(HARD).map((how) => [how, 2] as const),
    ])(
      'revives nothing that %s() reached, for %i before and as many after it',
      { timeout: 600_000 },
      (how, of) =>
        all(async (schedule) => {
          const { region, read, times, change } = await staged(backend, schedule, source)
          const readers = (name: string) =>
            Array.from({ length: of }, (__, i) => schedule.actor(`${name} ${i}`, read))
          const before = readers('before')
          const passing = schedule.actor('time', times)
          const after = schedule.actor('writer', async () => {
            change()
            await HARD[how]?.(region)
            return Promise.all(readers('after'))
          })
          const followers = await after
          await passing
          const first = await Promise.all(before)
          for (const value of followers) expect(['v1', LATE, AWAY]).toContain(value)
          for (const value of first) expect(['old', 'v0', 'v1', LATE, AWAY]).toContain(value)
          const left = await schedule.alone(() => region.get('k', { ignoreExpiration: true }))
          expect(['old', 'v0']).not.toContain(left)
        }, of),
    )

    it.each(Object.keys(SOFT))('leaves every caller a value through %s', { timeout: 600_000 }, (how) =>
      all(async (schedule) => {
        const { region, read, times, change } = await staged(backend, schedule, source, {})
        const passing = schedule.actor('time', times)
        const before = schedule.actor('before', read)
        const after = schedule.actor('writer', async () => {
          change()
          await SOFT[how]?.(region)
          return read()
        })
        for (const value of [await before, await after]) expect(['old', 'v0', 'v1']).toContain(value)
        await passing
      }, 1),
    )
  })
})
