import { afterAll, describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { nullBackend } from '../../backends/null.js'
import { makeRegion } from '../../src/index.js'
import { LONG } from '../support/long.js'
import { turn } from '../support/waiting.js'
import { explore, type Schedule } from './explore.js'
import { type Opener, runsOneCreator } from './one-creator.js'
import { stepped } from './stepped.js'

const BUDGET = LONG ? 200_000 : 800

let runs = 0
let complete = 0
async function all(scenario: (schedule: Schedule) => Promise<void>, budget = BUDGET): Promise<void> {
  const explored = await explore(scenario, { budget, samples: budget >> 2 })
  runs += explored.runs
  if (explored.exhausted) complete++
  expect(explored.runs).toBeGreaterThan(1)
}
afterAll(() => console.log(`one creator: ${runs} schedules, ${complete} scenarios exhaustively`))

/** One backend stands for the store of all processes. */
const shared: Opener = (schedule) => {
  const backend = stepped(schedule)
  return () => backend
}
runsOneCreator('memory', shared, all)
const leasing: Opener = (schedule) => {
  const backend = stepped(schedule, memory(), true, 0)
  return () => backend
}
runsOneCreator('a store that leases an absent key at once', leasing, (scenario) =>
  all(scenario, LONG ? BUDGET : BUDGET >> 3),
)

describe('one creator', () => {
  it('shares a creation over a backend that stores nothing', async () => {
    const region = makeRegion<number>({ backend: nullBackend() })
    let creations = 0
    const create = async () => {
      await turn()
      return ++creations
    }
    expect(await Promise.all(Array.from({ length: 50 }, () => region.getOrCreate('k', create)))).toEqual(
      Array(50).fill(1),
    )
  })
})
