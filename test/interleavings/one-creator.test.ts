import { afterAll, describe, expect, it } from 'vitest'
import { nullBackend } from '../../backends/null.js'
import { makeRegion } from '../../src/index.js'
import { explore, type Schedule } from './explore.js'
import { stepped } from './stepped.js'

const BUDGET = process.env.LONG === '1' ? 200_000 : 2_500

let runs = 0
let complete = 0
async function all(scenario: (schedule: Schedule) => Promise<void>): Promise<void> {
  const explored = await explore(scenario, { budget: BUDGET, samples: BUDGET >> 2 })
  runs += explored.runs
  if (explored.exhausted) complete++
  expect(explored.runs).toBeGreaterThan(1)
}
afterAll(() => console.log(`one creator: ${runs} schedules, ${complete} scenarios exhaustively`))

/** Two regions over one backend stand for two processes: they share its leases, but no flight. */
function twoRegions(schedule: Schedule) {
  const backend = stepped(schedule)
  return [makeRegion<number>({ name: 'r', backend }), makeRegion<number>({ name: 'r', backend })] as const
}

describe('one creator', () => {
  it('serves callers of two regions from one creation', () =>
    all(async (schedule) => {
      const [one, other] = twoRegions(schedule)
      let creations = 0
      const create = () => schedule.step('create', () => ++creations)
      const values = await Promise.all([
        one.getOrCreate('k', create),
        other.getOrCreate('k', create),
        one.getOrCreate('k', create),
      ])
      if (creations !== 1 || values.some((value) => value !== 1))
        throw new Error(`${creations} creations: ${values}`)
    }))

  it('creates each of many keys once, in whatever order they are asked for', () =>
    all(async (schedule) => {
      const [one, other] = twoRegions(schedule)
      const creations: string[] = []
      const create = (keys: readonly string[]) =>
        schedule.step(`create ${keys}`, () => {
          creations.push(...keys)
          return keys.map((key) => Number(key))
        })
      const results = await Promise.all([
        one.getOrCreateMulti(['1', '2'], create),
        other.getOrCreateMulti(['2', '1'], create),
      ])
      if (creations.sort().join() !== '1,2') throw new Error(`created ${creations}`)
      if (String(results) !== '1,2,2,1') throw new Error(`answered ${results}`)
    }))

  it('lets one of the waiting callers create when the creator of another region fails', () =>
    all(async (schedule) => {
      const backend = stepped(schedule)
      const [one, ...others] = [1, 2, 3].map(() => makeRegion<number>({ name: 'r', backend }))
      let creations = 0
      const failing = one?.getOrCreate('k', () =>
        schedule.step('fail', () => Promise.reject(new Error('boom'))),
      )
      const values = await Promise.allSettled([
        failing,
        ...others.map((other) => other.getOrCreate('k', () => schedule.step('create', () => ++creations))),
      ])
      const told = values.map((value) =>
        value.status === 'fulfilled' ? value.value : (value.reason as Error).message,
      )
      // The one that asked first may find another's value instead of failing.
      if (told[1] !== 1 || told[2] !== 1 || (told[0] !== 'boom' && told[0] !== 1))
        throw new Error(`answered ${told}`)
      if (await one?.keyIsLocked('k')) throw new Error('a lease was left behind')
    }))

  it('never runs two creators of a key at a time, with a value or without', () =>
    all(async (schedule) => {
      let now = 1_000
      const backend = stepped(schedule)
      const clock = { now: () => now }
      const [one, other] = [1, 2].map(() =>
        makeRegion<number>({ name: 'r', backend, clock, expirationTime: 100 }),
      )
      await one?.set('k', 0)
      now += 101
      let running = 0
      const create = async () => {
        if (++running > 1) throw new Error('two creators at a time')
        const value = await schedule.step('create', () => 1)
        running--
        return value
      }
      const values = await Promise.all([one?.getOrCreate('k', create), other?.getOrCreate('k', create)])
      if (!values.includes(1)) throw new Error(`nobody got the new value: ${values}`)
    }))

  it('shares a creation over a backend that stores nothing', async () => {
    const region = makeRegion<number>({ backend: nullBackend() })
    let creations = 0
    const create = async () => {
      await new Promise((resolve) => setImmediate(resolve))
      return ++creations
    }
    expect(await Promise.all(Array.from({ length: 50 }, () => region.getOrCreate('k', create)))).toEqual(
      Array(50).fill(1),
    )
  })
})

describe('nobody waits in a cycle', () => {
  it('when a creator asks for its own key, or two ask for each other', () =>
    all(async (schedule) => {
      const region = makeRegion<number>({ backend: stepped(schedule) })
      const a = (): Promise<number> => region.getOrCreate('a', () => region.getOrCreate('b', () => leaf('a')))
      const b = (): Promise<number> => region.getOrCreate('b', () => region.getOrCreate('a', () => leaf('b')))
      const leaf = (key: string) => region.getOrCreate(key, () => schedule.step(`leaf ${key}`, () => 1))
      const [one, other] = await Promise.all([a(), b()])
      if (one !== 1 || other !== 1) throw new Error(`answered ${one}, ${other}`)
    }))
})
