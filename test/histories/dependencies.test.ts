import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { openPath } from '../../backends/lmdb/client/open-file.js'
import { clockOf, rangesOf, TAG } from '../../backends/lmdb/format.js'
import { CLOCK, STAMP, wireName } from '../../backends/memcached/format.js'
import { clockKeys, stampKey } from '../../backends/redis/format.js'
import { dep } from '../../src/index.js'
import { say } from '../backends/memcached/start.js'
import { type Crew, crew } from '../backends/redis/crew.js'
import { cluster, type Deployment, standalone } from '../backends/redis/deployments.js'
import { LONG } from '../backends/redis/suite.js'
import { startMemcached } from '../support/servers.js'
import { sleep } from '../support/waiting.js'
import type { Place } from './dependencies-part.js'
import { type History, judge, type Verdict } from './redis.js'

const PROCESSES = 3
const ROWS = 9
/** ms of one round; rounds follow until there is enough to judge by, on however slow a machine. */
const MS = LONG ? 30_000 : 2_500
const PATIENCE = LONG ? 1_800_000 : 40_000
/** A read of a list counts as one of each of its rows, which are six at most: three on average. */
const FLOOR = LONG
  ? { reads: 600_000, invalidations: 5_000, landed: 500 }
  : { reads: 800, invalidations: 60, landed: 8 }

/** ms between two losses, on average. */
const EVERY = 15

/** The clock's name in `src/dependencies/tracking-layer.ts`. */
const THE_CLOCK = '~clock'
const NAMES = [
  'region:history',
  ...Array.from({ length: ROWS }, (_, row) => [dep.id('row', row), dep.group('list', row)]).flat(),
]
const pick = <T>(list: readonly T[]): T => list[Math.floor(Math.random() * list.length)] as T

interface Setting {
  readonly place: Place
  /** Loses a record of the bookkeeping at random. */
  lose(): Promise<unknown>
  stop(): Promise<void>
}

async function overRedis(start: () => Promise<Deployment>): Promise<Setting> {
  const at = await start()
  const { clock, ring } = clockKeys(THE_CLOCK)
  return {
    place: { redis: at.where },
    lose: () => at.admin.del(Math.random() < 0.1 ? pick([clock, ring]) : stampKey(THE_CLOCK, pick(NAMES))),
    stop: () => at.stop(),
  }
}

const SETTINGS: Readonly<Record<string, () => Promise<Setting>>> = {
  Redis: () => overRedis(standalone),
  'Redis Cluster': () => overRedis(cluster),
  memcached: async () => {
    const server = await startMemcached()
    return {
      place: { memcached: `127.0.0.1:${server.port}` },
      lose: () =>
        say(
          server.port,
          `delete ${Math.random() < 0.1 ? wireName(CLOCK, THE_CLOCK) : wireName(STAMP, pick(NAMES))}`,
        ),
      stop: () => server.stop(),
    }
  },
  LMDB: async () => {
    const folder = mkdtempSync(join(tmpdir(), 'corral-dependencies-'))
    const path = join(folder, 'cache.mdb')
    const { bookkeeping, close } = openPath(path, {})
    const clocks = () =>
      rangesOf(TAG.clock).flatMap(([start, end]) => [...bookkeeping.getKeys({ start, end })] as Buffer[])
    return {
      place: { lmdb: path },
      // LMDB loses no single stamp: what can go is the clock, with or without what hangs on it.
      lose: async () => {
        if (Math.random() > 0.1) return
        for (const clock of clocks())
          await bookkeeping.transaction(() => {
            void bookkeeping.remove(clock)
            if (Math.random() < 0.5) return
            void bookkeeping.remove(clockOf(clock, TAG.anchor))
            for (const [start, end] of rangesOf(TAG.stamp))
              for (const stamp of bookkeeping.getKeys({ start, end })) void bookkeeping.remove(stamp)
          })
      },
      stop: async () => {
        await close()
        rmSync(folder, { recursive: true, force: true })
      },
    }
  },
}

const { redis, memcached } = inject('servers')

describe.skipIf(redis === null)('the history of what is invalidated by dependencies', () => {
  let team: Crew
  let truth: Deployment
  beforeAll(async () => {
    team = await crew()
    truth = await standalone()
  })
  afterAll(async () => {
    await team?.dismiss()
    await truth?.stop()
  })

  for (const [name, start] of Object.entries(SETTINGS))
    it.skipIf(name === 'memcached' && memcached === null)(
      `has no stale read while bookkeeping is lost at random: ${name}`,
      async () => {
        const setting = await start()
        await truth.admin.flushall()
        const workers = await team.hire(PROCESSES)
        let lost = 0
        let going = true
        const losing = (async () => {
          for (; going; await sleep(Math.random() * 2 * EVERY)) {
            await setting.lose()
            lost++
          }
        })()
        const histories: History[] = []
        const began = performance.now()
        let verdict = judge(histories)
        try {
          while (lacking(verdict) && performance.now() - began < PATIENCE) {
            histories.push(
              ...(await Promise.all(
                workers.map((worker, index) =>
                  worker.do({
                    task: 'dependencies',
                    place: setting.place,
                    truth: truth.servers[0]?.port ?? 0,
                    index,
                    processes: PROCESSES,
                    rows: ROWS,
                    ms: MS,
                  }),
                ),
              )),
            )
            verdict = judge(histories)
          }
        } finally {
          going = false
          await losing
          for (const worker of workers) worker.kill('SIGKILL')
          await setting.stop()
        }
        const { reads, hard, soft, landed, creations, stale, staleAsFresh, failures } = verdict
        console.log(
          `[history] dependencies on ${name}: ${reads} rows read, ${hard} hard and ${soft} soft invalidations acknowledged, ${landed} of them during a creation, ` +
            `${creations} creations, ${lost} records lost, ${stale.length} stale, ${staleAsFresh.length} stale served as fresh, failures ${JSON.stringify(failures)}`,
        )
        expect(stale.slice(0, 5)).toEqual([])
        expect(staleAsFresh.slice(0, 5)).toEqual([])
        expect(lacking(verdict)).toBe(false)
        expect(Object.values(failures).reduce((sum, count) => sum + count, 0)).toBeLessThan(reads / 50)
      },
      PATIENCE + 120_000,
    )
})

function lacking({ reads, hard, soft, landed }: Verdict): boolean {
  return reads < FLOOR.reads || hard + soft < FLOOR.invalidations || landed < FLOOR.landed
}
