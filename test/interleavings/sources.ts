/** Regions over a value that has expired, and a source that is slow, fails or hangs. */
import { expect } from 'vitest'
import { type Backend, type CachedValue, NO_VALUE, type Region, type RegionOptions } from '../../src/index.js'
import type { Schedule } from './explore.js'
import { watched } from './moments.js'

type Invalidations = Readonly<Record<string, (region: Region<string>) => Promise<unknown>>>

export const HARD: Invalidations = {
  delete: (region) => region.delete('k'),
  invalidate: (region) => region.invalidate(),
}
export const SOFT: Invalidations = {
  expire: (region) => region.expire('k'),
  'invalidate softly': (region) => region.invalidate('soft'),
}

/** The ends of a read that got no value. */
export const AWAY = 'the source is away'
const LATE = 'ERR_CREATION_TIMEOUT'

/** How the first creation ends; `is away`: how each of them ends. */
export type Source = 'slow' | 'fails' | 'hangs' | 'is away'

interface Staging {
  readonly makeRegion: (options: RegionOptions) => Region<string>
  /** Opens the store as one more process sees it. */
  readonly open: () => Backend<CachedValue>
  /** @default 1 */
  readonly processes?: number
  readonly options?: RegionOptions
}

/** Processes over one store, and their source, whose data may change. */
export async function staged(schedule: Schedule, source: Source, staging: Staging) {
  const { makeRegion, open, processes = 1, options } = staging
  let now = 1_000
  const clock = { now: () => now }
  const common = { name: 'r', clock, expirationTime: 100, grace: '1h', retryAfter: '1h' } as const
  const regions = Array.from({ length: processes }, () =>
    makeRegion({ ...common, backend: open(), ...options }),
  )
  const memories = regions.map((_, i) => `process ${i}`)
  const [region] = regions as [Region<string>]
  await schedule.alone(() => region.set('k', 'old'))
  now += 101
  const facts = watched<number>('facts', schedule.touch, String)
  const fact = (name: string): number => facts.get(name) ?? 0
  let isRepaired = false
  let tries = 0
  const ask = () => {
    tries++
    facts.set('tries', fact('tries') + 1)
    return { isFirst: fact('tries') === 1, seen: `v${fact('version')}` }
  }
  const create = async (): Promise<string> => {
    const { seen, isFirst } = await schedule.step('ask the source', ask, {})
    // Time has to pass for a creation to be given up.
    if (isFirst && source === 'hangs' && !isRepaired) return new Promise(() => {})
    const fails = source === 'is away' || (isFirst && source === 'fails')
    const reply = fails ? () => Promise.reject(new Error(AWAY)) : () => seen
    return schedule.step('the source replies', reply, {})
  }
  const read = (one = region): Promise<string> =>
    one
      .getOrCreate('k', create)
      .catch((error: Error & { readonly code?: string }) => (error.code === LATE ? LATE : error.message))
  return {
    /** The first process and the last. */
    one: region,
    other: regions.at(-1) ?? region,
    read,
    tries: () => tries,
    /** Reads, and accepts no version that is older than the latest one that was acknowledged before. */
    async checked(work: () => Promise<string | typeof NO_VALUE>): Promise<void> {
      const floor = fact('acknowledged')
      const value = await work()
      const version = typeof value === 'string' ? /^v(\d+)$/.exec(value)?.[1] : undefined
      if (version === undefined)
        expect(floor > 0 ? [AWAY, LATE, NO_VALUE] : ['old', AWAY, LATE, NO_VALUE]).toContain(value)
      else expect(Number(version)).toBeGreaterThanOrEqual(floor)
    },
    /** The data of the source change, and then the older value is invalidated. */
    async change(invalidate: () => unknown): Promise<void> {
      const changed = () => (facts.set('version', fact('version') + 1), fact('version'))
      const version = await schedule.step('change', changed, {})
      await invalidate()
      facts.set('acknowledged', Math.max(fact('acknowledged'), version))
    },
    /** An actor that uses a process, whose memory it shares with all others that do. */
    acting: <R>(name: string, process: Region<string>, work: () => Promise<R>) =>
      schedule.actor(name, work, memories[regions.indexOf(process)]),
    /** Time passes in all processes, at any moment. After the last event the source works. */
    passing: (events: readonly (readonly [name: string, pass: () => void])[]) =>
      schedule.actor(
        'time',
        async () => {
          for (const [i, [name, pass]] of events.entries()) {
            const event = () => {
              isRepaired = i === events.length - 1
              pass()
            }
            await schedule.step(name, event, { writes: memories })
          }
        },
        'time',
      ),
  }
}
