import { afterAll, expect } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { LONG } from '../support/long.js'
import { explore, type Schedule } from './explore.js'
import { keepsOrderOfInvalidations, losesNoInvalidation } from './no-invalidation-is-lost.js'
import { humble, type Steps, stepped } from './stepped.js'

const BUDGET = LONG ? 200_000 : 600
const SAMPLES = LONG ? 100_000 : 400

let runs = 0
let scenarios = 0
let complete = 0
async function all(scenario: (schedule: Schedule) => Promise<void>, times = 1): Promise<void> {
  const explored = await explore(scenario, {
    budget: BUDGET * times,
    samples: SAMPLES * times,
    seed: ++scenarios,
  })
  runs += explored.runs
  if (explored.exhausted) complete++
  expect(explored.runs).toBeGreaterThan(1)
}
afterAll(() =>
  console.log(
    `interleavings: ${runs} schedules of ${scenarios} scenarios, ${complete} of them exhaustively; 0 stale`,
  ),
)

losesNoInvalidation('a backend with lease and ledger', stepped, all)
losesNoInvalidation('a backend of three methods', humble, all)
keepsOrderOfInvalidations('a backend with lease and ledger', stepped, all)

/** The first step of a creation alone is another one, so a part of the orders is enough. */
const part: typeof all = (scenario, times = 1) => all(scenario, LONG ? times : times / 6)
const leasing = (schedule: Steps) => stepped(schedule, memory(), true, 0)
losesNoInvalidation('a backend that leases an absent key at once', leasing, part, ['getOrCreate'])
keepsOrderOfInvalidations('a backend that leases an absent key at once', leasing, part)
