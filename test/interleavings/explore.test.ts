import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import {
  type Backend,
  type CachedValue,
  dependsOn,
  type Ledger,
  makeRegion,
  NO_VALUE,
  type Region,
  wrap,
} from '../../src/index.js'
import { withOperations } from '../support/ledgers.js'
import { LONG } from '../support/long.js'
import { explore, type Schedule } from './explore.js'
import { type Touched, watched } from './moments.js'
import { clusterSteps, epochSteps, memcachedSteps, PATIENCE, type SharedLedger } from './shared-ledgers.js'
import { stepped } from './stepped.js'

type Scenario = (schedule: Schedule) => Promise<unknown>

/** All that a scenario can come to, and how many schedules were played to see it. */
async function outcomes(
  scenario: Scenario,
  options: { readonly again?: boolean; readonly preemptions?: number } = {},
) {
  const seen = new Set<string>()
  const { runs, exhausted } = await explore(
    async (schedule) => {
      const outcome = JSON.stringify(await scenario(schedule))
      // Steps after a moment that is known are not part of the search.
      if (!schedule.trace.includes('and so on')) seen.add(outcome)
    },
    { budget: 500_000, ...options },
  )
  expect(exhausted).toBe(true)
  return { seen: [...seen].sort(), runs }
}

/** Several actors, each with its steps. */
const acting = (schedule: Schedule, names: readonly string[], steps: number, touched?: Touched) =>
  Promise.all(
    names.map((name) =>
      schedule.actor(
        name,
        async () => {
          for (let i = 0; i < steps; i++) await schedule.step(`${i}`, () => undefined, touched)
        },
        touched && name,
      ),
    ),
  )

describe('the search', () => {
  it('plays all orders of steps of which nothing is known', async () => {
    const scenario: Scenario = (schedule) => acting(schedule, ['a', 'b', 'c'], 2)
    expect((await outcomes(scenario)).runs).toBe(90)
    expect((await outcomes(scenario, { again: true })).runs).toBe(90)
  })

  it('comes to each moment once where steps have nothing to do with each other', async () => {
    const scenario: Scenario = (schedule) => acting(schedule, ['a', 'b', 'c'], 2, {})
    const { runs } = await outcomes(scenario)
    expect((await outcomes(scenario, { again: true })).runs).toBe(90)
    // 27 moments with 54 ways from one to another: each way that leads to a known moment ends a run.
    expect(runs).toBeLessThanOrEqual(54 - 27 + 2)
  })

  it('finds the update that is lost between a read and a write, and needs a preemption for it', async () => {
    const scenario: Scenario = async (schedule) => {
      const counter = watched('counter', schedule.touch, String)
      const count = () => counter.get('') ?? 0
      const increment = async () => {
        const before = await schedule.step('read', count, {})
        await schedule.step('write', () => counter.set('', before + 1), {})
      }
      await Promise.all(['a', 'b', 'c'].map((name) => schedule.actor(name, increment, name)))
      return count()
    }
    for (const again of [false, true]) {
      expect((await outcomes(scenario, { again })).seen).toEqual(['1', '2', '3'])
      expect((await outcomes(scenario, { again, preemptions: 0 })).seen).toEqual(['3'])
      expect((await outcomes(scenario, { again, preemptions: 1 })).seen).toEqual(['1', '2', '3'])
    }
  })
})

type Open = (schedule: Schedule) => { readonly chain: () => Backend<CachedValue>; readonly lose?: () => void }

/** A memory backend with a part of it replaced. */
const over =
  (change: (inner: Backend<CachedValue>) => Partial<Backend<CachedValue>> = () => ({})): Open =>
  (schedule) => {
    const inner = memory()
    const backend = stepped(schedule, { ...inner, ...change(inner) })
    return { chain: () => wrap(backend, dependencies()) }
  }

const lent =
  (make: (schedule: Schedule) => SharedLedger, change = (ledger: Ledger) => ledger): Open =>
  (schedule) => {
    const backend = stepped(schedule)
    const shared = make(schedule)
    return {
      chain: () => wrap(backend, dependencies({ ledger: change(shared.ledger()) })),
      lose: () => shared.loseStamp('row'),
    }
  }

/** Trusts an absent record. */
const trusting = (ledger: Ledger): Ledger =>
  withOperations(ledger, (opened) => ({
    async read(names) {
      const { now, stamps } = await opened.read(names)
      return { now, stamps: stamps.map((stamp) => stamp ?? { hard: 0, soft: 0 }) }
    },
    restore: () => 'fresh' as const,
  }))

/** Stores that are right, and stores from which a part was removed. */
const WHOLE: Readonly<Record<string, Open>> = {
  'the memory backend': over(),
  'one that does not compare tokens': over((inner) => ({
    set: (key, value, { token: _, ...options }) => inner.set(key, value, options),
  })),
  'one that stores whatever was invalidated': over((inner) => ({
    set: (key, value, { ifCurrent: _, ...options }) => inner.set(key, value, options),
  })),
}
/** The same of stores whose operations are many steps. */
const IN_STEPS: Readonly<Record<string, Open>> = {
  'the steps of Redis Cluster': lent(clusterSteps),
  'the steps of memcached': lent(memcachedSteps),
  'get, set and add alone': lent(epochSteps),
  'memcached, with what is absent trusted': lent(memcachedSteps, trusting),
  'Redis Cluster, with what is absent trusted': lent(clusterSteps, trusting),
}

const WRITERS: Readonly<Record<string, (region: Region<number>) => Promise<unknown>>> = {
  'a name': (region) => region.invalidateDependencies('row'),
  'a name softly': (region) => region.invalidateDependencies('row', 'soft'),
  'a key': (region) => region.delete('k'),
}

const pause = setTimeout
let current: Schedule | undefined
beforeEach(() => {
  vi.stubGlobal('setTimeout', (work: () => void, ms?: number) =>
    ms === PATIENCE ? void current?.step('pause', work, {}) : pause(work, ms),
  )
})
afterEach(() => vi.unstubAllGlobals())

const totals = { reduced: 0, whole: 0, outcomes: 0 }
afterAll(() =>
  console.log(
    `the search: ${totals.reduced} schedules instead of ${totals.whole} came to the same ${totals.outcomes} outcomes`,
  ),
)

describe('a moment that is known need not be tried again', () => {
  for (const [kind, open] of Object.entries({ ...WHOLE, ...IN_STEPS }))
    for (const [what, invalidate] of Object.entries(WRITERS))
      it.each(LONG ? [0, 1, 2] : kind in WHOLE ? [0, 1] : [0])(
        `over ${kind}, with ${what} and %i preemptions`,
        async (preemptions) => {
          const scenario: Scenario = async (schedule) => {
            current = schedule
            const { chain, lose } = open(schedule)
            const region = () =>
              makeRegion<number>({
                name: 'r',
                backend: chain(),
                clock: { now: () => 1_000 },
                expirationTime: 100,
              })
            const [one, other] = [region(), region()]
            const truth = watched('truth', schedule.touch, String)
            const now = () => truth.get('') ?? 1
            const reading = async (from: Region<number>) => {
              const found = await from.getOrCreate('k', async () => {
                dependsOn('row')
                return schedule.step('find', now, {})
              })
              const later = await from.get('k')
              return [found, later === NO_VALUE ? 'nothing' : later]
            }
            const writing = async () => {
              await schedule.step('change', () => truth.set('', now() + 1), {})
              await invalidate(other)
              const left = await other.get('k')
              return left === NO_VALUE ? 'nothing' : left
            }
            return Promise.all([
              schedule.actor('reader', () => reading(one), 'reader'),
              schedule.actor('second reader', () => reading(other), 'other'),
              schedule.actor('writer', writing, 'other'),
              lose && schedule.actor('fate', () => schedule.step('lose', lose, {}), 'fate'),
            ])
          }
          const reduced = await outcomes(scenario, { preemptions })
          const whole = await outcomes(scenario, { preemptions, again: true })
          expect(reduced.seen).toEqual(whole.seen)
          expect(reduced.runs).toBeLessThanOrEqual(whole.runs)
          totals.reduced += reduced.runs
          totals.whole += whole.runs
          totals.outcomes += whole.seen.length
        },
        120_000,
      )
})
