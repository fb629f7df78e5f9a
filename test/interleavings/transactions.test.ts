import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import {
  type Backend,
  type CachedValue,
  dependsOn,
  type Ledger,
  makeRegion,
  memoryLedger,
  NO_VALUE,
  type Region,
  wrap,
} from '../../src/index.js'
import { LONG, TIMES } from '../support/long.js'
import { explore, type Schedule } from './explore.js'
import { watched } from './moments.js'
import { clusterSteps, memcachedSteps, PATIENCE } from './shared-ledgers.js'
import { stepped, telling } from './stepped.js'

const ROW = 'id:row:1'

/** The store that processes share, and the chain by which each of them sees it. */
interface Shared {
  chain(): Backend<CachedValue>
  /** The lives of all marks pass. */
  expire(): void
  /** Creations after that until one is stored. @default 1 */
  readonly patience?: number
}

/** A ledger in memory whose marks expire when the test says so, with one step for each operation. */
function ledgerOnDemand({ step, touch }: Schedule): { readonly ledger: Ledger; expire(): void } {
  let time = 0
  const inner = telling(memoryLedger({ clock: { now: () => time } }), touch)
  return {
    ledger: {
      shared: true,
      open(clock) {
        const opened = inner.open(clock)
        return {
          storeClock: clock,
          read: (names) => step('read ledger', () => opened.read(names), { asks: true }),
          now: (names) => step('begin', () => opened.now(names)),
          invalidate: (...given) => step('stamp', () => opened.invalidate(...given), {}),
          pending: (...given) => step('mark', () => opened.pending?.(...given) ?? 0, {}),
        }
      },
    },
    expire: () => void (time += 1e9),
  }
}

const STORES: Readonly<Record<string, (schedule: Schedule) => Shared>> = {
  'a store that checks and writes in one step': (schedule) => {
    const store = stepped(schedule, memory())
    // Its marks outlive the test: a name whose transaction died stays a miss.
    return { chain: () => wrap(store, dependencies()), expire: () => {} }
  },
  'a lent ledger, which checks and writes in two steps': (schedule) => {
    const store = stepped(schedule, memory())
    const { ledger, expire } = ledgerOnDemand(schedule)
    return { chain: () => wrap(store, dependencies({ ledger })), expire }
  },
  'the steps of Redis Cluster': (schedule) => {
    const store = stepped(schedule, memory())
    const { ledger, expire } = clusterSteps(schedule)
    return { chain: () => wrap(store, dependencies({ ledger: ledger() })), expire }
  },
  'the steps of memcached': (schedule) => {
    const store = stepped(schedule, memory())
    const { ledger, expire } = memcachedSteps(schedule)
    // The fill of a creation that learns its names late finds the marks, and ends them.
    return { chain: () => wrap(store, dependencies({ ledger: ledger() })), expire, patience: 2 }
  },
}

/** A row of a database, and the processes that cache it. */
interface World {
  readonly schedule: Schedule
  readonly shared: Shared
  readonly database: Map<string, number>
  readonly processes: readonly Region<number>[]
  readonly chains: readonly Backend<CachedValue>[]
  /** Transactions that have marked the row, and are neither committed nor over. */
  uncommitted: number
}

function newWorld(schedule: Schedule, shared: Shared): World {
  const chains = [shared.chain(), shared.chain()]
  const processes = chains.map((backend) =>
    makeRegion<number>({ name: 'r', backend, clock: { now: () => 1_000 }, expirationTime: 100 }),
  )
  const database = watched<number>('database', schedule.touch, String)
  return { schedule, shared, database, chains, processes, uncommitted: 0 }
}

const committed = ({ database }: World) => database.get('row') ?? 0

/** The ways in which a value's dependency is told. */
const WAYS: Readonly<Record<string, (world: World, region: Region<number>) => Promise<number>>> = {
  'declared ahead': (world, region) =>
    region.cacheOnArguments({ functionKeyGenerator: () => () => 'row', dependencies: () => ROW })(() =>
      select(world),
    )(),
  'declared inside': (world, region) =>
    region.getOrCreate('row', async () => {
      const found = await select(world)
      dependsOn(ROW)
      return found
    }),
}

const declaredInside = WAYS['declared inside'] as (typeof WAYS)[string]

/** The row as a creator reads it, which returns it later. */
async function select(world: World): Promise<number> {
  const found = await world.schedule.step('select', () => committed(world), {})
  return world.schedule.step('return it', () => found, {})
}

/** A read that starts after the commit of a version returns no older one, whether or not its process has invalidated by then. */
async function checked(world: World, read: () => Promise<number | typeof NO_VALUE>): Promise<void> {
  const floor = committed(world)
  const found = await read()
  if (found !== NO_VALUE && found < floor)
    throw new Error(`A read that began after the commit of version ${floor} returned ${found}.`)
}

type Fate = 'commits' | 'rolls back' | 'dies after its commit' | 'dies before its commit'

const FATES: readonly Fate[] = ['commits', 'rolls back', 'dies after its commit', 'dies before its commit']

/** A transaction that changes the row. */
async function transact(world: World, process: number, fate: Fate, twoPhase = true): Promise<void> {
  const { schedule, shared, database, chains } = world
  const { tracker } = chains[process] as Backend<CachedValue>
  const id = `transaction-${process}`
  world.uncommitted++
  if (twoPhase) await tracker?.pending?.([ROW], 'hard', id)
  const commits = fate === 'commits' || fate === 'dies after its commit'
  await schedule.step(commits ? 'commit' : 'nothing', () => {
    world.uncommitted--
    if (commits) database.set('row', committed(world) + 1)
  })
  // Of a process that died nothing is left but its marks. The lives of all marks exceed their commits.
  if (fate.startsWith('dies'))
    return void (await schedule.step('marks expire', () => world.uncommitted === 0 && shared.expire()))
  await tracker?.invalidate([ROW], 'hard', twoPhase ? id : undefined)
}

/** An actor that begins when it is picked. */
function acting({ schedule }: World, name: string, work: () => Promise<unknown>, memory = name) {
  const begin = async () => {
    await schedule.step('begins', () => undefined, {})
    await work()
  }
  return schedule.actor(name, begin, memory)
}

/** When all is over: nothing stale is left, and the row can be cached again. */
async function lookAgain(world: World, isExpired: boolean): Promise<void> {
  await world.schedule.alone(async () => {
    for (const region of world.processes) await checked(world, () => region.get('row'))
    const [region] = world.processes as [Region<number>]
    const { patience = 1 } = isExpired ? world.shared : {}
    for (let i = 0; i < patience; i++) await checked(world, () => declaredInside(world, region))
    if (!isExpired) return
    const kept = await region.get('row')
    if (kept !== committed(world)) throw new Error(`Expected the row to be cached, got ${String(kept)}.`)
  })
}

const totals = { scenarios: 0, schedules: 0, complete: 0 }

async function all(
  scenario: (schedule: Schedule) => Promise<void>,
  limits: { budget: number; samples: number; preemptions?: number },
): Promise<boolean> {
  const { runs, exhausted } = await explore(scenario, {
    ...limits,
    budget: limits.budget * TIMES,
    samples: limits.samples * TIMES,
    seed: ++totals.scenarios,
  })
  totals.schedules += runs
  if (exhausted) totals.complete++
  if (LONG) console.log(`${expect.getState().currentTestName}: ${runs} schedules, complete: ${exhausted}`)
  return exhausted
}

afterAll(() =>
  console.log(
    `interleavings of transactions: ${totals.schedules} schedules of ${totals.scenarios} scenarios, ${totals.complete} of them exhaustively; 0 stale`,
  ),
)

// The library takes its timers from Node when it is loaded; the pause of a ledger has to be a step here.
vi.mock(import('../../src/base/timers.js'), async (original) => {
  const { globalTimers } = await import('../support/global-timers.js')
  return globalTimers(await original())
})

const pause = setTimeout
const repeat = setInterval
let current: Schedule | undefined
/** Timers of a run would keep all of it in memory for seconds, and there are very many runs. */
const timers: NodeJS.Timeout[] = []
const timed = (timer: NodeJS.Timeout) => (timers.push(timer), timer)
const forget = () => timers.splice(0).forEach((timer) => clearTimeout(timer))
beforeEach(() => {
  vi.stubGlobal('setTimeout', (work: () => void, ms?: number) =>
    ms === PATIENCE && current !== undefined ? void current.step('pause', work, {}) : timed(pause(work, ms)),
  )
  vi.stubGlobal('setInterval', (...args: Parameters<typeof repeat>) => timed(repeat(...args)))
})
afterEach(() => {
  vi.unstubAllGlobals()
  current = undefined
  forget()
})

for (const [kind, open] of Object.entries(STORES))
  describe(`no committed change is lost over ${kind}`, () => {
    const world = (schedule: Schedule) => {
      forget()
      current = schedule
      return newWorld(schedule, open(schedule))
    }
    const isWhole = kind.startsWith('a store')

    describe('one reader and one transaction', () => {
      for (const [way, read] of Object.entries(WAYS))
        for (const fate of FATES)
          it(`that ${fate}, the dependency is ${way}`, async () => {
            const exhausted = await all(
              async (schedule) => {
                const at = world(schedule)
                const [one] = at.processes as [Region<number>]
                await schedule.alone(() => read(at, one))
                await Promise.all([
                  acting(at, 'reader', async () => {
                    await checked(at, () => read(at, one))
                    await checked(at, () => one.get('row'))
                  }),
                  acting(at, 'writer', () => transact(at, 1, fate)),
                ])
                await lookAgain(at, !(isWhole && fate.startsWith('dies')))
              },
              { budget: LONG ? 1_000_000 : isWhole ? 300 : 100, samples: 50 },
            )
            if (LONG) expect(exhausted).toBe(true)
          }, 1_800_000)
    })

    const pairs: readonly (readonly [Fate, Fate])[] = [
      ['commits', 'commits'],
      ['commits', 'dies after its commit'],
      ['commits', 'rolls back'],
      ['dies after its commit', 'rolls back'],
      ['dies after its commit', 'dies after its commit'],
    ]
    describe('two readers and two transactions', () => {
      for (const [first, second] of pairs)
        it(`of which one ${first} and the other ${second}`, async () => {
          const exhausted = await all(
            async (schedule) => {
              const at = world(schedule)
              const [one, other] = at.processes as [Region<number>, Region<number>]
              const reading = (region: Region<number>) => async () => {
                await checked(at, () => declaredInside(at, region))
                await checked(at, () => region.get('row'))
              }
              await Promise.all([
                acting(at, 'one', reading(one)),
                acting(at, 'other', reading(other)),
                acting(at, 'first writer', () => transact(at, 0, first)),
                acting(at, 'second writer', () => transact(at, 1, second)),
              ])
              await lookAgain(at, false)
            },
            {
              budget: LONG ? 5_000_000 : 250,
              samples: LONG ? 5_000 : 120,
              preemptions: LONG ? (isWhole ? 4 : 2) : 2,
            },
          )
          if (LONG) expect(exhausted).toBe(true)
        }, 7_200_000)
    })

    it('two readers of one process that share a creation, and a transaction that dies', async () => {
      await all(
        async (schedule) => {
          const at = world(schedule)
          const [one] = at.processes as [Region<number>]
          const reading = () => checked(at, () => declaredInside(at, one))
          await Promise.all([
            acting(at, 'one', reading, 'process 0'),
            acting(at, 'other', reading, 'process 0'),
            acting(at, 'writer', () => transact(at, 1, 'dies after its commit')),
          ])
          await lookAgain(at, false)
        },
        { budget: LONG ? 1_000_000 : 100, samples: 200, preemptions: 2 },
      )
    }, 1_800_000)

    it('shows stale reads once the names are not marked before the commit', async () => {
      const exploring = all(
        async (schedule) => {
          const at = world(schedule)
          const [one] = at.processes as [Region<number>]
          await Promise.all([
            acting(at, 'reader', async () => {
              await checked(at, () => declaredInside(at, one))
              await checked(at, () => one.get('row'))
            }),
            acting(at, 'writer', () => transact(at, 1, 'dies after its commit', false)),
          ])
        },
        { budget: 0, samples: 3_000 },
      )
      await expect(exploring).rejects.toThrow('began after the commit of version 1 returned 0')
    })
  })
