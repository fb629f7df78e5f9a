import { afterAll, it } from 'vitest'
import { LONG } from '../support/long.js'
import { seeded } from '../support/seeded.js'
import {
  type Choose,
  DELETE,
  INVALIDATE,
  type NearOperation,
  type NearRun,
  type NearWorld,
  READ,
  READ_STRONGLY,
  runNear,
} from './near.js'

const SCHEDULES = LONG ? 1_000_000 : Number(process.env.NEAR ?? 20_000)

const TOGETHER = 200

const total = { runs: 0, reads: 0, copies: 0, invalidations: 0 }
afterAll(() =>
  console.log(
    `near caches: ${total.runs} schedules, ${total.reads} reads, ${total.copies} by copies, ${total.invalidations} acknowledged invalidations; 0 violations`,
  ),
)

function count({ reads, copies, invalidations }: NearRun): void {
  total.runs++
  total.reads += reads
  total.copies += copies
  total.invalidations += invalidations
}

async function check(world: NearWorld, choose: Choose, about: string): Promise<void> {
  const run = await runNear(world, choose)
  count(run)
  if (run.violations.length > 0) throw new Error(`${about}: ${run.violations.join('; ')}`)
}

const WORLDS: Readonly<Record<string, Omit<NearWorld, 'operations'>>> = {
  'bounded, with messages': {
    processes: 2,
    keys: ['a', 'b'],
    maxStaleness: 200,
    pushes: true,
    faults: false,
  },
  'bounded, without messages': { processes: 2, keys: ['a'], maxStaleness: 14, pushes: false, faults: false },
  'bounded, without messages, with more changes than the ring has': {
    processes: 2,
    keys: ['a', 'b', 'c', 'd'],
    maxStaleness: 30,
    pushes: false,
    faults: false,
  },
  'bounded so shortly that the proof often ends': {
    processes: 2,
    keys: ['a', 'b'],
    maxStaleness: 12,
    pushes: true,
    faults: true,
  },
  'in front of layers that pass replies on in any order': {
    processes: 1,
    keys: ['a', 'b'],
    maxStaleness: 200,
    pushes: true,
    faults: false,
    disorder: true,
  },
  strong: { processes: 3, keys: ['a', 'b'], maxStaleness: 0, pushes: true, faults: false },
  'strong, with faults': { processes: 2, keys: ['a'], maxStaleness: 0, pushes: true, faults: true },
  'bounded, with faults': {
    processes: 2,
    keys: ['a', 'b', 'c', 'd', 'e'],
    maxStaleness: 150,
    pushes: true,
    faults: true,
  },
  'strong, on a Cluster': {
    processes: 2,
    keys: ['a'],
    maxStaleness: 0,
    pushes: true,
    faults: false,
    isCluster: true,
    isWarm: true,
  },
  'strong, on a Cluster, with faults': {
    processes: 2,
    keys: ['a'],
    maxStaleness: 0,
    pushes: true,
    faults: true,
    isCluster: true,
  },
}

/** The part of all schedules that a world gets. One on a Cluster takes three times as long. */
const weightOf = ({ isCluster = false }: Omit<NearWorld, 'operations'>) => (isCluster ? 1 / 3 : 1)
const WEIGHTS = Object.values(WORLDS).reduce((sum, world) => sum + weightOf(world), 0)

it.each(Object.entries(WORLDS))(
  'a near cache that is %s keeps its promises in random schedules',
  async (name, world) => {
    const runs = Math.ceil((SCHEDULES * weightOf(world)) / WEIGHTS)
    // Many at a time, since every step waits for a turn of the event loop.
    for (let from = 1; from <= runs; from += TOGETHER)
      await Promise.all(
        Array.from({ length: Math.min(TOGETHER, runs - from + 1) }, (_, i) => {
          const random = seeded(from + i)
          const choose = (most: number) => Math.floor(random() * most)
          return check({ ...world, operations: 20 }, choose, `${name}, seed ${from + i}`)
        }),
      )
  },
  LONG || process.env.NEAR !== undefined ? 24 * 3_600_000 : 180_000,
)

/** The choices of a run: the first ones are given, the others are the first of what there is. */
function following(given: readonly number[]) {
  const taken: { choice: number; most: number }[] = []
  const choose: Choose = (most) => {
    const choice = given[taken.length] ?? 0
    taken.push({ choice, most })
    return choice
  }
  /** The choices of the next run in order; `undefined` after the last. */
  const next = (): readonly number[] | undefined => {
    for (let i = taken.length - 1; i >= 0; i--) {
      const { choice, most } = taken[i] as { choice: number; most: number }
      if (choice + 1 < most) return [...taken.slice(0, i).map((one) => one.choice), choice + 1]
    }
    return undefined
  }
  return { choose, next }
}

const ALL: Omit<NearWorld, 'operations'> = {
  processes: 2,
  keys: ['a'],
  maxStaleness: 1_000,
  pushes: true,
  faults: false,
}

/** Every order of the steps of some operations, or the first `most` of them. */
async function everyOrder(operations: readonly NearOperation[], most: number): Promise<boolean> {
  let given: readonly number[] | undefined = []
  for (let run = 0; given !== undefined && run < most; run++) {
    const { choose, next } = following(given)
    await check({ ...ALL, operations }, choose, `${JSON.stringify(operations)} in order ${given.join(' ')}`)
    given = next()
  }
  return given === undefined
}

const EVENTS: readonly NearOperation[] = [
  [0, READ],
  [0, READ_STRONGLY],
  [0, DELETE],
  [1, DELETE],
  [1, INVALIDATE],
]

it(
  'keeps the promises in orders of three events of two processes with one key, in all of them in the long form',
  async () => {
    const triples = EVENTS.flatMap((first) =>
      EVENTS.flatMap((second) => EVENTS.map((third): NearOperation[] => [first, second, third])),
    )
    // Without a read nothing can be seen, and without a change nothing can be wrong.
    const telling = triples.filter(
      (some) =>
        some.some(([, kind]) => kind === READ || kind === READ_STRONGLY) &&
        some.some(([, kind]) => kind === DELETE || kind === INVALIDATE),
    )
    const done = await Promise.all(telling.map((some) => everyOrder(some, LONG ? 1e9 : 100)))
    console.log(
      `near caches: ${done.filter(Boolean).length} of ${done.length} triples of events in every order`,
    )
  },
  LONG ? 24 * 3_600_000 : 300_000,
)
