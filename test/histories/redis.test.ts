import type { Cluster, Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { type Crew, crew, type Worker } from '../backends/redis/crew.js'
import { cluster, type Deployment, sentinel, standalone } from '../backends/redis/deployments.js'
import { LONG } from '../backends/redis/suite.js'
import { sleep } from '../support/waiting.js'
import { type History, judge, sharedNow, type Verdict } from './redis.js'

const PROCESSES = 3
/** ms of one round; rounds follow until there is enough to judge by, on however slow a machine. */
const MS = LONG ? 60_000 : 4_000
const PATIENCE = LONG ? 600_000 : 45_000
const FLOOR = LONG ? { reads: 40_000, hard: 1_500, landed: 100 } : { reads: 800, hard: 80, landed: 10 }

interface Setting {
  readonly start: () => Promise<Deployment>
  /** Makes trouble every now and then. `died` is to be called when a primary was killed. */
  readonly trouble: (at: Deployment, round: number, died: () => void) => Promise<void>
  readonly every: number
  /** A primary is killed, with what its replica had not got yet. */
  readonly lossy?: boolean
}

/**
 * ms around the death of a primary within which an invalidation may have been acknowledged and lost with it. What
 * disregards an invalidation of that time is counted and printed; nothing excuses what disregards any other.
 */
const LOSABLE = { before: 1_000, after: 250 }

const nodes = ({ admin }: Deployment): readonly Redis[] =>
  'nodes' in admin ? (admin as Cluster).nodes('master') : [admin]

const cutAndPause = async (at: Deployment, round: number) => {
  for (const node of nodes(at)) {
    if (round % 3 === 0) await node.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    if (round % 3 === 1) await node.call('CLIENT', 'PAUSE', 60, round % 2 === 0 ? 'ALL' : 'WRITE')
    if (round % 3 === 2) await node.script('FLUSH')
  }
}

const SETTINGS: Readonly<Record<string, Setting>> = {
  'connections killed, commands paused, scripts flushed': {
    start: standalone,
    trouble: cutAndPause,
    every: 300,
  },
  'memory so short that values, stamps and clocks are evicted': {
    start: () => standalone({ args: ['--maxmemory', '2mb', '--maxmemory-policy', 'allkeys-random'] }),
    // Enough foreign data to make the server evict at random, bookkeeping included.
    trouble: async ({ admin }, round) => {
      for (let i = 0; i < 20; i++) await admin.set(`filler ${round} ${i}`, 'x'.repeat(20_000))
    },
    every: 20,
  },
  'the server frozen now and then': {
    start: standalone,
    trouble: async ({ servers: [server] }) => {
      await server?.kill('SIGSTOP')
      await sleep(150)
      await server?.kill('SIGCONT')
    },
    every: 500,
  },
  'a Cluster, connections killed and scripts flushed': { start: cluster, trouble: cutAndPause, every: 400 },
  'a Sentinel failover': {
    start: sentinel,
    trouble: async (at, round, died) => {
      if (round !== (LONG ? 10 : 1)) return
      const primary = await (at as Awaited<ReturnType<typeof sentinel>>).primary()
      await primary.kill('SIGKILL')
      died()
    },
    every: 1_000,
    lossy: true,
  },
  'a Cluster failover': {
    start: () => cluster({ masters: 3, replicas: 1 }),
    trouble: async ({ servers: [first] }, round, died) => {
      if (round !== (LONG ? 10 : 1)) return
      await first?.kill('SIGKILL')
      died()
    },
    every: 1_000,
    lossy: true,
  },
}

describe.skipIf(inject('servers').redis === null)('the history of several processes', () => {
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

  it.each(Object.entries(SETTINGS))(
    'has no read that is older than an acknowledged invalidation: %s',
    async (name, { start, trouble, every, lossy = false }) => {
      const at = await start()
      try {
        await truth.admin.flushall()
        const workers = await team.hire(PROCESSES)
        let going = true
        let death: number | undefined
        const died = () => {
          death = sharedNow()
        }
        const lost = () =>
          death === undefined ? undefined : ([death - LOSABLE.before, death + LOSABLE.after] as const)
        const troubles = (async () => {
          for (let round = 0; going; round++) {
            await sleep(every)
            await trouble(at, round, died).catch(() => {})
          }
        })()
        const histories: History[] = []
        const began = performance.now()
        let verdict = judge(histories)
        while ((lacking(verdict) || (lossy && death === undefined)) && performance.now() - began < PATIENCE) {
          const part = (worker: Worker, index: number) =>
            worker.do({
              task: 'history',
              where: at.where,
              truth: truth.servers[0]?.port ?? 0,
              index,
              processes: PROCESSES,
              keys: 12,
              readers: 6,
              writers: 2,
              ms: MS,
              creation: 12,
            })
          histories.push(...(await Promise.all(workers.map(part))))
          verdict = judge(histories, lost())
        }
        going = false
        await troubles
        for (const worker of workers) worker.kill('SIGKILL')
        print(name, verdict)
        expect(lacking(verdict)).toBe(false)
        expect(death !== undefined).toBe(lossy)
        expect(verdict.stale).toEqual([])
        expect(verdict.staleAsFresh).toEqual([])
      } finally {
        await at.stop()
      }
    },
    PATIENCE + 120_000,
  )
})

it('the judgement excuses only what disregards an invalidation that may have died with a primary', () => {
  const history = (hard: History['hard'], reads: History['reads']): History => ({
    reads,
    hard,
    soft: [],
    fresh: [],
    creations: [],
    failures: {},
  })
  const told = (verdict: Verdict) => [verdict.stale.length, verdict.excused]
  // Version 2 was acknowledged at 100, version 3 at 200; later somebody reads versions 1, 2 and 3.
  const both: History['hard'] = [
    [0, 90, 100, 2],
    [0, 190, 200, 3],
  ]
  const read = (version: number): History['reads'] => [[0, 300, 310, version]]
  expect([1, 2, 3].map((version) => told(judge([history(both, read(version))])))).toEqual([
    [1, 0],
    [1, 0],
    [0, 0],
  ])
  expect([1, 2, 3].map((version) => told(judge([history(both, read(version))], [150, 250])))).toEqual([
    [1, 0],
    [0, 1],
    [0, 0],
  ])
})

function lacking({ reads, hard, landed }: Verdict): boolean {
  return reads < FLOOR.reads || hard < FLOOR.hard || landed < FLOOR.landed
}

function print(
  name: string,
  { reads, hard, soft, landed, creations, stale, staleAsFresh, excused, failures }: Verdict,
): void {
  console.log(
    `[history] ${name}: ${reads} reads, ${hard} hard and ${soft} soft invalidations acknowledged, ${landed} of them during a creation, ` +
      `${creations} creations, ${stale.length} stale, ${staleAsFresh.length} stale served as fresh, ${excused} stale by what died with a primary, failures ${JSON.stringify(failures)}`,
  )
}
