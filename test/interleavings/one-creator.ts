import { describe, it } from 'vitest'
import { type Backend, type CachedValue, makeRegion, type Region } from '../../src/index.js'
import { type Exploration, PATIENCE } from './no-invalidation-is-lost.js'
import type { Steps } from './stepped.js'

/** Opens the shared store, each time as another process sees it. */
export type Opener = (schedule: Steps) => () => Backend<CachedValue>

/** Regions of three processes: they share a store's leases, but no flight. */
function regions(open: () => Backend<CachedValue>, options: object = {}) {
  const next = (): Region<number> => makeRegion<number>({ name: 'r', backend: open(), ...options })
  return [next(), next(), next()] as const
}

export function runsOneCreator(kind: string, open: Opener, all: Exploration): void {
  describe(`one creator over ${kind}`, { timeout: PATIENCE }, () => {
    it('serves callers of two regions from one creation', () =>
      all(async (schedule) => {
        const [one, other] = regions(open(schedule))
        let creations = 0
        const create = () => schedule.step('create', () => ++creations)
        const values = await Promise.all([
          one.getOrCreate('k', create),
          other.getOrCreate('k', create),
          one.getOrCreate('k', create),
        ])
        if (creations !== 1 || values.some((value) => value !== 1))
          throw new Error(`${creations} creations: ${values}`)
      }))

    it('creates each of many keys once, for every order of the keys', () =>
      all(async (schedule) => {
        const [one, other] = regions(open(schedule))
        const creations: string[] = []
        const create = (keys: readonly string[]) =>
          schedule.step(`create ${keys}`, () => {
            creations.push(...keys)
            return keys.map((key) => Number(key))
          })
        const results = await Promise.all([
          one.getOrCreateMulti(['1', '2'], create),
          other.getOrCreateMulti(['2', '1'], create),
        ])
        if (creations.sort().join() !== '1,2') throw new Error(`created ${creations}`)
        if (String(results) !== '1,2,2,1') throw new Error(`answered ${results}`)
      }))

    it('lets one of the waiting callers create when the creator of another region fails', () =>
      all(async (schedule) => {
        const [one, ...others] = regions(open(schedule))
        let creations = 0
        const failing = one.getOrCreate('k', () =>
          schedule.step('fail', () => Promise.reject(new Error('boom'))),
        )
        const values = await Promise.allSettled([
          failing,
          ...others.map((other) => other.getOrCreate('k', () => schedule.step('create', () => ++creations))),
        ])
        const told = values.map((value) =>
          value.status === 'fulfilled' ? value.value : (value.reason as Error).message,
        )
        // The one that asked first may find another's value instead of failing.
        if (told[1] !== 1 || told[2] !== 1 || (told[0] !== 'boom' && told[0] !== 1))
          throw new Error(`answered ${told}`)
        if (await one.keyIsLocked('k')) throw new Error('a lease was left behind')
      }))

    it('never runs two creators of a key at a time, with a value or without', () =>
      all(async (schedule) => {
        let now = 1_000
        const clock = { now: () => now }
        const [one, other] = regions(open(schedule), { clock, expirationTime: 100 })
        await one.set('k', 0)
        now += 101
        let running = 0
        const create = async () => {
          if (++running > 1) throw new Error('two creators at a time')
          const value = await schedule.step('create', () => 1)
          running--
          return value
        }
        const values = await Promise.all([one.getOrCreate('k', create), other.getOrCreate('k', create)])
        if (!values.includes(1)) throw new Error(`nobody got the new value: ${values}`)
      }))
  })

  describe(`no caller waits in a cycle over ${kind}`, { timeout: PATIENCE }, () => {
    it('when a creator asks for its own key, or two ask for each other', () =>
      all(async (schedule) => {
        const [region] = regions(open(schedule))
        const a = (): Promise<number> =>
          region.getOrCreate('a', () => region.getOrCreate('b', () => leaf('a')))
        const b = (): Promise<number> =>
          region.getOrCreate('b', () => region.getOrCreate('a', () => leaf('b')))
        const leaf = (key: string) => region.getOrCreate(key, () => schedule.step(`leaf ${key}`, () => 1))
        const [one, other] = await Promise.all([a(), b()])
        if (one !== 1 || other !== 1) throw new Error(`answered ${one}, ${other}`)
      }))
  })
}
