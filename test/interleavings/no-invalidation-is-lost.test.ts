import { afterAll, expect } from 'vitest'
import { LONG } from '../support/long.js'
import { explore, type Schedule } from './explore.js'
import { keepsOrderOfInvalidations, losesNoInvalidation } from './no-invalidation-is-lost.js'
import { humble, stepped } from './stepped.js'

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
