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

const total = { runs: 0, reads: 0, copies: 0, invalidations: 0, violations: 0 }
afterAll(() =>
  console.log(
    `near caches: ${total.runs} schedules, ${total.reads} reads, ${total.copies} by copies, ${total.invalidations} acknowledged invalidations; ${total.violations} violations`,
  ),
)

function count({ reads, copies, invalidations, violations }: NearRun): void {
  total.runs++
  total.reads += reads
  total.copies += copies
  total.invalidations += invalidations
  total.violations += violations.length
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

/** A choice of an order in which it takes another step than the first one. */
interface Departure {
  readonly at: number
  readonly choice: number
}

/** All orders of the steps of some operations that depart so often from taking the first step. Returns their number. */
async function everyOrder(operations: readonly NearOperation[], departures: number): Promise<number> {
  const open: (readonly Departure[])[] = [[]]
  let runs = 0
  const run = async (departed: readonly Departure[]): Promise<void> => {
    const choices: number[] = []
    const choose: Choose = (most) => {
      const at = choices.push(most) - 1
      return departed.find((one) => one.at === at)?.choice ?? 0
    }
    await check({ ...EVICTED, operations }, choose, `${JSON.stringify({ operations, departed })}`)
    runs++
    if (departed.length === departures) return
    for (let at = (departed.at(-1)?.at ?? -1) + 1; at < choices.length; at++)
      for (let choice = 1; choice < (choices[at] as number); choice++)
        open.push([...departed, { at, choice }])
  }
  while (open.length > 0) await Promise.all(open.splice(-TOGETHER).map(run))
  return runs
}

/** The processes know all changes, and their next reads go to the store. */
const EVICTED: Omit<NearWorld, 'operations'> = {
  processes: 2,
  keys: ['a'],
  maxStaleness: 1_000,
  pushes: true,
  faults: false,
  areEvicted: true,
}

/** All orders of a triple are more than a million at the median. */
const DEPARTURES = LONG ? 4 : 2

const EVENTS: readonly NearOperation[] = [
  [0, READ],
  [0, READ_STRONGLY],
  [0, DELETE],
  [1, DELETE],
  [1, INVALIDATE],
]

it(
  `keeps the promises in every order of three events of two processes with one key, with ${DEPARTURES} departures`,
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
    let orders = 0
    for (const some of telling) orders += await everyOrder(some, DEPARTURES)
    console.log(
      `near caches: ${telling.length} triples of events in all ${orders} orders with up to ${DEPARTURES} departures`,
    )
  },
  LONG ? 24 * 3_600_000 : 300_000,
)
