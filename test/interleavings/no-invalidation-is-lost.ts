import { describe, it } from 'vitest'
import type { Backend } from '../../src/backend/backend.js'
import { type CachedValue, makeRegion, NO_VALUE, type Region } from '../../src/index.js'
import type { Steps } from './stepped.js'

/** Plays a scenario in one order of its steps after another; `times` as many as usual. */
export type Exploration = (scenario: (schedule: Steps) => Promise<void>, times?: number) => Promise<void>

/** ms: a search ends with its number of orders, however slow the machine is. */
export const PATIENCE = 1_800_000

/** The parts of a scenario: a region, the truth that it caches, and the newest version whose invalidation was acknowledged. */
interface World {
  readonly region: Region<number>
  readonly schedule: Steps
  truth: number
  acknowledged: number
  readonly find: ReturnType<typeof finder>
}

/** The expensive work: it reads the truth, and returns it only later. */
function finder(world: () => World) {
  return async () => {
    const seen = await world().schedule.step('read the truth', () => world().truth)
    return world().schedule.step('return it', () => seen)
  }
}

/** Ways to make every older value invalid. Each first changes the truth, as an application does. */
const hard: Record<string, (world: World) => Promise<unknown>> = {
  delete: ({ region }) => region.delete('k'),
  deleteMulti: ({ region }) => region.deleteMulti(['k', 'other']),
  set: ({ region, truth }) => region.set('k', truth),
  setMulti: ({ region, truth }) =>
    region.setMulti([
      ['k', truth],
      ['other', truth],
    ]),
  refresh: ({ region, find }) =>
    region
      .cacheOnArguments({ functionKeyGenerator: () => () => 'k' })(find)
      .refresh(),
  'invalidate hard': ({ region }) => region.invalidate('hard'),
}
const soft: Record<string, (world: World) => Promise<unknown>> = {
  expire: ({ region }) => region.expire('k'),
  'invalidate soft': ({ region }) => region.invalidate('soft'),
}

/** Ways to ask for the value. */
const reads: Record<string, (world: World) => Promise<number>> = {
  getOrCreate: ({ region, find }) => region.getOrCreate('k', find),
  getOrCreateMulti: async ({ region, find }) =>
    (await region.getOrCreateMulti(['k'], async () => [await find()]))[0] as number,
}

async function changeAnd(world: World, invalidate: (world: World) => Promise<unknown>): Promise<void> {
  const version = await world.schedule.step('change the truth', () => ++world.truth)
  await invalidate(world)
  world.acknowledged = Math.max(world.acknowledged, version)
}

function newWorld(schedule: Steps, backend: Backend<CachedValue>, options: object = {}): World {
  const world: World = {
    region: makeRegion<number>({ backend, clock: { now: () => 1_000 }, expirationTime: 100, ...options }),
    schedule,
    truth: 1,
    acknowledged: 0,
    find: finder(() => world),
  }
  return world
}

/** A read that starts now must return at least the version that was acknowledged before. */
async function checked(world: World, read: (world: World) => Promise<number>): Promise<void> {
  const floor = world.acknowledged
  const value = await read(world)
  if (!(value >= floor))
    throw new Error(`A read that began after the invalidation of version ${floor} returned ${value}.`)
}

/**
 * One invalidation and concurrent callers, on any backend.
 * @param asked - the ways to ask for the value. Default: all
 */
export function losesNoInvalidation(
  kind: string,
  backend: (schedule: Steps) => Backend<CachedValue>,
  all: Exploration,
  asked: readonly string[] = Object.keys(reads),
): void {
  const reading = Object.entries(reads).filter(([asking]) => asked.includes(asking))
  describe(`no invalidation is lost on ${kind}`, { timeout: PATIENCE }, () => {
    for (const [asking, read] of reading)
      for (const [how, invalidate] of Object.entries(hard)) {
        it(`when ${how} lands during ${asking}, and a reader follows it`, () =>
          all(async (schedule) => {
            const world = newWorld(schedule, backend(schedule))
            const first = checked(world, read)
            await changeAnd(world, invalidate)
            await Promise.all([first, checked(world, read)])
            // Later readers see the entry that is stored when all is over.
            const left = await world.region.get('k')
            if (left !== NO_VALUE && left < world.acknowledged)
              throw new Error(`${left} was stored for good.`)
          }))

        it(`when ${how} lands during ${asking} that others have joined`, () =>
          all(async (schedule) => {
            const world = newWorld(schedule, backend(schedule))
            const callers = [checked(world, read), checked(world, read)]
            const change = changeAnd(world, invalidate).then(() => checked(world, read))
            await Promise.all([...callers, change])
            const left = await world.region.get('k')
            if (left !== NO_VALUE && left < world.acknowledged)
              throw new Error(`${left} was stored for good.`)
          }))
      }

    for (const [how, invalidate] of Object.entries(hard))
      it(`when ${how} lands while a runner renews a stale value`, () =>
        all(async (schedule) => {
          let now = 1_000
          const jobs: Promise<void>[] = []
          const world = newWorld(schedule, backend(schedule), {
            clock: { now: () => now },
            asyncCreationRunner: (job: { run(): Promise<void> }) => jobs.push(job.run()),
          })
          await world.region.set('k', world.truth)
          now += 101
          const first = checked(world, reads.getOrCreate as (typeof reads)[string])
          await changeAnd(world, invalidate)
          await Promise.all([first, checked(world, reads.getOrCreate as (typeof reads)[string])])
          await Promise.all(jobs)
          const left = await world.region.get('k')
          if (left !== NO_VALUE && left < world.acknowledged) throw new Error(`${left} was stored for good.`)
        }))

    for (const [asking, read] of reading)
      for (const [how, invalidate] of Object.entries(soft))
        it(`after ${how} during ${asking} the older value is never fresh again`, () =>
          all(async (schedule) => {
            const world = newWorld(schedule, backend(schedule))
            await world.region.set('k', world.truth)
            const first = world.region.delete('k').then(() => checked(world, read))
            await changeAnd(world, invalidate)
            const floor = world.acknowledged
            const fresh = await world.region.get('k')
            if (fresh !== NO_VALUE && fresh < floor)
              throw new Error(`${fresh} is served as fresh after a soft invalidation.`)
            await first
            await read(world)
            const left = await world.region.get('k')
            if (left !== NO_VALUE && left < floor) throw new Error(`${left} was stored as fresh.`)
          }))
  })
}

/** Cases that need a lease and a ledger of the store. */
export function keepsOrderOfInvalidations(
  kind: string,
  backend: (schedule: Steps) => Backend<CachedValue>,
  all: Exploration,
): void {
  describe(`two refreshes at a time on ${kind}`, { timeout: PATIENCE }, () => {
    it('leave nothing from before either of them', () =>
      all(async (schedule) => {
        const world = newWorld(schedule, backend(schedule))
        await world.region.set('k', world.truth)
        const refreshing = async () => {
          await changeAnd(world, hard.refresh as (typeof hard)[string])
          const floor = world.acknowledged
          const left = await world.region.get('k')
          if (left !== NO_VALUE && left < floor)
            throw new Error(`${left} is served after the refresh to ${floor}.`)
        }
        await Promise.all([refreshing(), refreshing()])
      }, 3))
  })

  describe(`an answer on its way from ${kind}`, { timeout: PATIENCE }, () => {
    it('lets no newcomer join a creation that a region invalidation has overtaken', () =>
      all(async (schedule) => {
        const world = newWorld(schedule, backend(schedule))
        const first = checked(world, reads.getOrCreate as (typeof reads)[string])
        await schedule.step('later', () => undefined)
        await changeAnd(world, hard['invalidate hard'] as (typeof hard)[string])
        await Promise.all([first, checked(world, reads.getOrCreate as (typeof reads)[string])])
      }, 8))
  })

  describe(`a soft invalidation after a hard one on ${kind}`, { timeout: PATIENCE }, () => {
    it('never revives a hard-invalidated value', () =>
      all(async (schedule) => {
        const world = newWorld(schedule, backend(schedule))
        await world.region.set('k', world.truth)
        await changeAnd(world, ({ region }) => region.invalidate('hard'))
        await world.region.invalidate('soft')
        await Promise.all([
          checked(world, reads.getOrCreate as (typeof reads)[string]),
          checked(world, reads.getOrCreate as (typeof reads)[string]),
        ])
      }))
  })
}
