/** A source that is slow, fails or hangs: deadlines and the end of a creation are events that come at any moment. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { NO_VALUE, type RegionOptions } from '../../src/index.js'
import { LONG, TIMES } from '../support/long.js'
import { inRealTime, inVirtualTime } from '../support/virtual-time.js'
import { explore, type Schedule } from './explore.js'
import { HARD, SOFT, type Source, staged } from './sources.js'
import { humble, stepped } from './stepped.js'

let loaded: Awaited<ReturnType<typeof inVirtualTime>>
beforeAll(async () => {
  loaded = await inVirtualTime()
}, 60_000)

let [runs, scenarios, complete] = [0, 0, 0]
afterAll(() => {
  inRealTime()
  console.log(
    `slow sources: ${runs} schedules of ${scenarios} scenarios, ${complete} of them complete; 0 values revived`,
  )
})

/** Of one event every order there is. Of more there are too many: those that leave an actor so often while it could go on. */
const MOST = { events: 2, actors: 1 } as const
const most = (events: Events) => (events.length === 1 ? undefined : MOST.events)

/** In the long form every order there is, of those that have at most so many preemptions. */
async function all(
  scenario: (schedule: Schedule) => Promise<void>,
  short: { readonly budget: number; readonly samples: number },
  preemptions?: number,
): Promise<void> {
  const { budget, samples } = LONG ? { budget: 1_000_000, samples: 200 } : short
  const explored = await explore(scenario, {
    ...{ budget, samples: samples * TIMES, seed: ++scenarios },
    ...(preemptions !== undefined && { preemptions }),
  })
  runs += explored.runs
  if (explored.exhausted) complete++
  if (LONG) {
    console.log(`${expect.getState().currentTestName}: ${explored.runs} schedules`)
    expect(explored.exhausted).toBe(true)
  }
  expect(explored.runs).toBeGreaterThan(1)
}

/** ms by which each event is later than all deadlines of its kind. */
const PASSES = {
  'the soft deadline passes': 10,
  'the hard deadline passes': 25_000,
  'the creation is given up': 60_000,
} as const
const [SOFTLY, HARDLY, GIVEN_UP] = Object.keys(PASSES) as (keyof typeof PASSES)[]
type Events = readonly (keyof typeof PASSES)[]

/** Events that come one after another. Without the last one a source that hangs would hold up its caller for ever. */
const sequences = (source: Source): readonly Events[] =>
  [[SOFTLY], [HARDLY], [GIVEN_UP], [SOFTLY, HARDLY], [SOFTLY, GIVEN_UP]].filter(
    (events) => source !== 'hangs' || events.at(-1) !== SOFTLY,
  ) as Events[]

type Store = (schedule: Schedule) => ReturnType<typeof stepped>
const STORES: Readonly<Record<string, { readonly open: Store; readonly processes: number }>> = {
  'a backend with lease and ledger': {
    open: (schedule) => stepped(schedule, undefined, false),
    processes: 2,
  },
  'a backend of three methods': { open: humble, processes: 1 },
}

describe.each(Object.entries(STORES))('over %s', (_, { open, processes }) => {
  const stage = (schedule: Schedule, source: Source, timeouts: RegionOptions) => {
    const { time, corral } = loaded
    time.reset()
    const backend = open(schedule)
    return staged(schedule, source, {
      ...{ makeRegion: corral.makeRegion, open: () => backend, processes },
      options: { softTimeout: 5, ...timeouts, abandonAfter: 50_000, lease: { ms: 60_000, wait: '1h' } },
    })
  }
  const passes = (events: Events) =>
    events.map((event) => [event, () => loaded.time.block(PASSES[event])] as const)
  const ALSO_STALE = { ignoreExpiration: true }

  describe.each(['slow', 'fails', 'hangs'] as const)('a source that %s', (source) => {
    it.each(sequences(source).flatMap((events) => Object.keys(HARD).map((how) => [how, events] as const)))(
      'revives nothing that %s() reached, for one reader while %j',
      { timeout: 3_600_000 },
      (how, events) =>
        all(
          async (schedule) => {
            // At a hard deadline the store has 25 ms, which may be over before it replies.
            const at = await stage(schedule, source, { hardTimeout: 20_000 })
            const { one, other } = at
            await Promise.all([
              at.acting('reader', one, async () => {
                await schedule.step('begins', () => undefined, {})
                await at.checked(() => at.read(one))
                await at.checked(() => one.get('k', ALSO_STALE))
              }),
              at.acting('writer', other, () => at.change(() => HARD[how]?.(other))),
              at.passing(passes(events)),
            ])
            await schedule.alone(() => at.checked(() => other.get('k', ALSO_STALE)))
          },
          { budget: 60, samples: 30 },
          most(events),
        ),
    )

    it.each(Object.keys(HARD))(
      'revives nothing for two readers and two writers, one of which calls %s()',
      { timeout: 3_600_000 },
      (how) =>
        all(
          async (schedule) => {
            const at = await stage(schedule, source, { hardTimeout: 20_000 })
            const { one, other } = at
            const reader = (name: string, process: typeof one) =>
              at.acting(name, process, async () => {
                await schedule.step('begins', () => undefined, {})
                await at.checked(() => at.read(process))
                await at.checked(() => process.get('k', ALSO_STALE))
              })
            await Promise.all([
              reader('one reader', one),
              reader('other reader', other),
              at.acting('one writer', one, () => at.change(() => HARD.delete?.(one))),
              at.acting('other writer', other, () => at.change(() => HARD[how]?.(other))),
              at.passing(passes([SOFTLY, HARDLY, GIVEN_UP] as Events)),
            ])
            await schedule.alone(() => at.checked(() => one.get('k', ALSO_STALE)))
          },
          { budget: 60, samples: 240 },
          MOST.actors,
        ),
    )

    const toTheEnd = [[GIVEN_UP], [SOFTLY, GIVEN_UP]] as Events[]
    it.each(toTheEnd.flatMap((events) => Object.keys(SOFT).map((how) => [how, events] as const)))(
      'leaves its reader a value through %s(), while %j',
      { timeout: 3_600_000 },
      (how, events) =>
        all(
          async (schedule) => {
            const at = await stage(schedule, source, {})
            const { one, other } = at
            await Promise.all([
              at.acting('reader', one, async () => {
                await schedule.step('begins', () => undefined, {})
                expect(['old', 'v0', 'v1']).toContain(await at.read(one))
              }),
              at.acting('writer', other, () => at.change(() => SOFT[how]?.(other))),
              at.passing(passes(events)),
            ])
            const fresh = await schedule.alone(() => other.get('k'))
            expect([NO_VALUE, 'v1']).toContain(fresh)
          },
          { budget: 60, samples: 30 },
          most(events),
        ),
    )
  })
})
