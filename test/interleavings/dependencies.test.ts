import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import {
  type Backend,
  type CachedValue,
  dependsOn,
  type InvalidationMode,
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
import { clusterSteps, epochSteps, memcachedSteps, PATIENCE, type SharedLedger } from './shared-ledgers.js'
import { stepped, telling } from './stepped.js'

/** How often an actor that could go on may be left, in the long form. */
const PREEMPTIONS = Number(process.env.PREEMPTIONS ?? 3)
/** How many orders of each of these are drawn at random, in the long form. */
const SAMPLES = Number(process.env.SAMPLES ?? 45_000)

/** The store that processes share, and the chain by which each of them sees it. */
interface Shared {
  chain(): Backend<CachedValue>
  /** Records that can be lost, each with the function that loses it. */
  readonly lose: Readonly<Record<string, () => void>>
}

const ROW = 'id:row:1'
const LIST = 'tag:list'
/** The name by which all of the regions' entries can be invalidated. */
const OWN = 'region:r'

/** A store whose entries can vanish without anybody's lease being touched, as by eviction. */
function evictable(schedule: Schedule): { store: Backend<CachedValue>; evict: (key: string) => void } {
  const gone = watched<true>('eviction of', schedule.touch, String)
  const inner = stepped(schedule, memory())
  const { get, getMulti, set } = inner
  const back = (key: string, outcome: string) => outcome === 'stored' && gone.delete(key)
  return {
    evict: (key) => void gone.set(key, true),
    store: {
      ...inner,
      get: async (key) => {
        const found = await get(key)
        return gone.has(key) ? undefined : found
      },
      getMulti: async (keys) =>
        (await getMulti(keys)).map((found, i) => (gone.has(keys[i] as string) ? undefined : found)),
      set: async (key, value, options) => {
        const outcome = await set(key, value, options)
        back(key, outcome)
        return outcome
      },
    },
  }
}

/** Every operation of a ledger that is atomic in itself, as a step; it can be lost as a whole. */
function lendable({ step, touch }: Schedule): SharedLedger {
  let current = telling(memoryLedger({ maxStamps: 2 }), touch)
  const ledger: Ledger = {
    shared: true,
    open: (clock) => ({
      storeClock: clock,
      read: (names) => step('read ledger', () => current.open(clock).read(names), { asks: true }),
      now: (names) => step('begin', () => current.open(clock).now(names), {}),
      invalidate: (names, mode) =>
        step(`invalidate ${mode}`, () => current.open(clock).invalidate(names, mode), {}),
    }),
  }
  return {
    ledger: () => ledger,
    loseClock: () => {
      current = telling(memoryLedger(), touch)
    },
    // Three more names push the others out of it, which then stand at its floor.
    loseStamp: () => void current.open('~clock').invalidate(['x', 'y', 'z'], 'soft'),
  }
}

function lent(schedule: Schedule, ledger: SharedLedger): Shared {
  const { store, evict } = evictable(schedule)
  return {
    chain: () => wrap(store, dependencies({ ledger: ledger.ledger() })),
    lose: {
      'the clock': ledger.loseClock,
      'the stamp': () => ledger.loseStamp(ROW),
      'the stamp of the region': () => ledger.loseStamp(OWN),
      'the entry': () => evict('row'),
    },
  }
}

const STORES: Readonly<Record<string, (schedule: Schedule) => Shared>> = {
  memory: (schedule) => {
    const { store, evict } = evictable(schedule)
    return { chain: () => wrap(store, dependencies()), lose: { 'the entry': () => evict('row') } }
  },
  'a lent ledger, which checks and writes in two steps': (schedule) => lent(schedule, lendable(schedule)),
  'the steps of Redis Cluster': (schedule) => lent(schedule, clusterSteps(schedule)),
  'the steps of memcached': (schedule) => lent(schedule, memcachedSteps(schedule)),
  'get, set and add alone': (schedule) => lent(schedule, epochSteps(schedule)),
}

type Part = 'row' | 'list'

type Versions = Map<string, number>

/** The truth, the acknowledged part of it, and the processes that read it. */
interface World {
  readonly schedule: Schedule
  readonly shared: Shared
  readonly truth: Versions
  readonly hard: Versions
  readonly soft: Versions
  readonly processes: readonly Region<Readings>[]
}

/** The versions that a value was made from. */
type Readings = Partial<Record<Part, number>>

function newWorld(schedule: Schedule, shared: Shared): World {
  const region = () =>
    makeRegion<Readings>({
      name: 'r',
      backend: shared.chain(),
      clock: { now: () => 1_000 },
      expirationTime: 100,
    })
  return {
    schedule,
    shared,
    truth: watched('truth of', schedule.touch, String),
    hard: watched('hard floor of', schedule.touch, String),
    soft: watched('soft floor of', schedule.touch, String),
    processes: [region(), region()],
  }
}

const version = (of: Versions, part: Part): number => of.get(part) ?? 0

/** Reads a part of the truth. */
function find({ schedule, truth }: World, part: Part): Promise<Readings> {
  return schedule.step(`read ${part}`, () => ({ [part]: version(truth, part) }), {})
}

/** The ways in which a value's dependencies are told, each a way to read `row`. */
const WAYS: Record<string, (world: World, region: Region<Readings>) => Promise<Readings>> = {
  'declared ahead': (world, region) =>
    region.cacheOnArguments({ functionKeyGenerator: () => () => 'row', dependencies: () => ROW })(() =>
      find(world, 'row'),
    )(),
  'told by the result': (world, region) =>
    region.cacheOnArguments({ functionKeyGenerator: () => () => 'row', resultDependencies: () => ROW })(() =>
      find(world, 'row'),
    )(),
  'declared inside': (world, region) =>
    region.getOrCreate('row', async () => {
      const found = await find(world, 'row')
      dependsOn(ROW)
      return found
    }),
  'put with asOf': async (world, region) => {
    const there = await region.get('row')
    if (there !== NO_VALUE) return there
    const asOf = await region.asOf()
    const found = await find(world, 'row')
    await region.set('row', found, { dependencies: [ROW], asOf })
    return found
  },
}

const inside = WAYS['declared inside'] as (typeof WAYS)[string]

/** A list that is made from the row, each by its own name. */
function readList(world: World, region: Region<Readings>): Promise<Readings> {
  return region.getOrCreate('list', async () => {
    const own = await find(world, 'list')
    dependsOn(LIST)
    return { ...(await inside(world, region)), ...own }
  })
}

/** The same where the row is there already, and the list declares its name a second time, as of a later moment. */
WAYS['handed up by a part that was there before'] = (world, region) =>
  region.getOrCreate('list', async () => {
    dependsOn(ROW)
    return inside(world, region)
  })

const PARTS: readonly Part[] = ['row', 'list']

/** Reads, and accepts nothing older than the version that was acknowledged before. */
async function checked(
  world: World,
  read: () => Promise<Readings | typeof NO_VALUE>,
  freshOnly = false,
): Promise<void> {
  const floors = PARTS.map((part) =>
    Math.max(version(world.hard, part), freshOnly ? version(world.soft, part) : 0),
  )
  const found = await read()
  if (found === NO_VALUE) return
  PARTS.forEach((part, i) => {
    const seen = found[part]
    if (seen !== undefined && seen < (floors[i] as number))
      throw new Error(
        `A read that began after ${part} ${floors[i]} was acknowledged${freshOnly ? ', softly or not,' : ''} returned ${seen}.`,
      )
  })
}

async function changed(
  world: World,
  part: Part,
  invalidate: () => Promise<unknown>,
  mode: InvalidationMode = 'hard',
): Promise<void> {
  const { schedule, truth, [mode]: floor } = world
  const next = () => version(truth, part) + 1
  const made = await schedule.step(
    `change ${part}`,
    () => (truth.set(part, next()), version(truth, part)),
    {},
  )
  await invalidate()
  floor.set(part, Math.max(version(floor, part), made))
}

function lookAgain(world: World): Promise<void> {
  return world.schedule.alone(async () => {
    for (const region of world.processes)
      for (const key of ['row', 'list']) await checked(world, () => region.get(key), true)
  })
}

/** An actor that begins when it is picked. Its work through a region concerns all concurrent users of the region. */
function acting(
  { schedule, processes }: World,
  name: string,
  through: Region<Readings> | undefined,
  work: () => Promise<unknown>,
): Promise<unknown> {
  const begin = async () => {
    await schedule.step('begins', () => undefined, {})
    await work()
  }
  return schedule.actor(name, begin, through === undefined ? name : `process ${processes.indexOf(through)}`)
}

const totals = { schedules: 0, sampled: 0, scenarios: 0, complete: 0 }
async function all(
  scenario: (schedule: Schedule) => Promise<void>,
  { budget, samples, preemptions }: { budget: number; samples: number; preemptions?: number },
): Promise<boolean> {
  const { runs, exhausted } = await explore(scenario, {
    budget: budget * TIMES,
    samples: samples * TIMES,
    seed: ++totals.scenarios,
    ...(preemptions !== undefined && { preemptions }),
  })
  totals.schedules += runs
  if (!(exhausted && preemptions === undefined)) totals.sampled += Math.min(runs, samples * TIMES)
  if (exhausted) totals.complete++
  if (LONG)
    console.log(
      `${expect.getState().currentTestName}: ${runs} schedules${exhausted ? ', all there are' : ''}`,
    )
  expect(runs).toBeGreaterThan(1)
  return exhausted
}
afterAll(() =>
  console.log(
    `interleavings of dependencies: ${totals.schedules} schedules of ${totals.scenarios} scenarios, ` +
      `${totals.complete} of them exhaustively, ${totals.sampled} schedules at random; 0 stale`,
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
  // That pause may end at any time: it is a step like others.
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
  describe(`no invalidation of a dependency is lost over ${kind}`, () => {
    const world = (schedule: Schedule) => {
      forget()
      current = schedule
      return newWorld(schedule, open(schedule))
    }
    // Of a store of single steps there are too many orders to try them all; of one of whole operations there are not.
    const whole = kind === 'memory'
    const losses = ['nothing', ...Object.keys(open({ step: () => {}, touch: () => {} } as never).lose)]

    describe.each(losses)('one reader, one writer, and the loss of %s', (lost) => {
      for (const [way, read] of Object.entries(WAYS))
        for (const mode of ['hard', 'soft'] as const)
          it(`${way}, ${mode}`, async () => {
            const exhausted = await all(
              async (schedule) => {
                const at = world(schedule)
                const [one, other] = at.processes as [Region<Readings>, Region<Readings>]
                if (way.startsWith('handed up')) await schedule.alone(() => inside(at, one))
                await Promise.all([
                  acting(at, 'reader', undefined, async () => {
                    await checked(at, () => read(at, one))
                    await checked(at, () => one.get(way.startsWith('handed up') ? 'list' : 'row'), true)
                  }),
                  acting(at, 'writer', undefined, () =>
                    changed(at, 'row', () => other.invalidateDependencies(ROW, mode), mode),
                  ),
                  lost === 'nothing' ||
                    schedule.actor(
                      'fate',
                      () => schedule.step(`lose ${lost}`, () => at.shared.lose[lost]?.(), {}),
                      'fate',
                    ),
                ])
                await lookAgain(at)
              },
              whole
                ? { budget: LONG ? 1_000_000 : lost === 'nothing' ? 400 : 75, samples: 30 }
                : { budget: LONG ? 200_000 : 10, samples: LONG ? 500 : 70, preemptions: 2 },
            )
            if (LONG) expect(exhausted).toBe(true)
          }, 1_800_000)
    })

    it('two readers of one process, which share a creation, and a writer', async () => {
      const exhausted = await all(
        async (schedule) => {
          const at = world(schedule)
          const [one, other] = at.processes as [Region<Readings>, Region<Readings>]
          // Others may join for as long as it is being made.
          const slowly = () =>
            one.getOrCreate('row', async () => {
              const found = await find(at, 'row')
              dependsOn(ROW)
              return schedule.step('return it', () => found, {})
            })
          const reading = () => checked(at, slowly)
          await Promise.all([
            acting(at, 'one', one, reading),
            acting(at, 'other', one, reading),
            acting(at, 'writer', undefined, () =>
              changed(at, 'row', () => other.invalidateDependencies(ROW)),
            ),
          ])
          await lookAgain(at)
        },
        { budget: LONG ? 1_000_000 : 50, samples: LONG ? 600 : 300, preemptions: 2 },
      )
      if (LONG) expect(exhausted).toBe(true)
    }, 1_800_000)

    const pairs: Readonly<Record<string, readonly [Act, Act]>> = {
      'the row and the list, both hard': [byName('row', ROW), byName('list', LIST)],
      'the row hard and softly': [byName('row', ROW), byName('row', ROW, 'soft')],
      'the row softly, the list softly': [byName('row', ROW, 'soft'), byName('list', LIST, 'soft')],
      'the row hard, the key of the list': [byName('row', ROW), byKey('list')],
      'the row softly, the key of the list softly': [byName('row', ROW, 'soft'), byKey('list', 'soft')],
      'the row hard, the whole region': [byName('row', ROW), ofRegion('list')],
    }
    describe('two readers of nested creations, and two writers', () => {
      for (const [what, [first, second]] of Object.entries(pairs))
        it(`${what}`, async () => {
          const exhausted = await all(
            async (schedule) => {
              const at = world(schedule)
              const [one, other] = at.processes as [Region<Readings>, Region<Readings>]
              const reading = (region: Region<Readings>) => async () => {
                await checked(at, () => readList(at, region))
                await checked(at, () => region.get('list'), true)
              }
              await Promise.all([
                acting(at, 'one', first.by === 'key' ? one : undefined, reading(one)),
                acting(at, 'other', second.by === 'key' ? other : undefined, reading(other)),
                acting(at, 'first writer', first.by === 'key' ? one : undefined, () => first.act(at, one)),
                acting(at, 'second writer', second.by === 'key' ? other : undefined, () =>
                  second.act(at, other),
                ),
              ])
              await lookAgain(at)
            },
            {
              budget: LONG ? 50_000_000 : whole ? 1_500 : 10,
              samples: LONG ? SAMPLES : whole ? 25 : 150,
              preemptions: LONG ? (whole ? PREEMPTIONS : 1) : whole ? 1 : 2,
            },
          )
          if (LONG) expect(exhausted).toBe(true)
        }, 7_200_000)
    })
  })

/** Invalidates the change. Names concern the ledger alone; a key may have a flight and a lease. */
interface Act {
  readonly by: 'name' | 'key'
  readonly act: (world: World, region: Region<Readings>) => Promise<void>
}

function byName(part: Part, name: string, mode: InvalidationMode = 'hard'): Act {
  return {
    by: 'name',
    act: (at, region) => changed(at, part, () => region.invalidateDependencies(name, mode), mode),
  }
}
function byKey(part: Part, mode: InvalidationMode = 'hard'): Act {
  const invalidate = (region: Region<Readings>) =>
    mode === 'hard' ? region.delete(part) : region.expire(part)
  return { by: 'key', act: (at, region) => changed(at, part, () => invalidate(region), mode) }
}
function ofRegion(part: Part): Act {
  return { by: 'name', act: (at, region) => changed(at, part, () => region.invalidate()) }
}
