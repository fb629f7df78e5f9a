import { setTimeout as delay } from 'node:timers/promises'
import type { Cluster, Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { type Crew, crew, type Worker } from './crew.js'
import { cluster, type Deployment, sentinel, standalone } from './deployments.js'
import { type History, judge, type Verdict } from './history.js'
import { LONG } from './suite.js'

const PROCESSES = 3
/** ms of one round; rounds follow until there is enough to judge by, on however slow a machine. */
const MS = LONG ? 60_000 : 4_000
const PATIENCE = LONG ? 600_000 : 45_000
const FLOOR = LONG ? { reads: 40_000, hard: 1_500, landed: 100 } : { reads: 800, hard: 80, landed: 10 }

interface Setting {
  readonly start: () => Promise<Deployment>
  /** Makes trouble every now and then. */
  readonly trouble: (at: Deployment, round: number) => Promise<void>
  readonly every: number
  /** Redis itself may lose acknowledged writes then: stale reads are counted, and printed, but allowed. */
  readonly lossy?: boolean
}

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
      await delay(150)
      await server?.kill('SIGCONT')
    },
    every: 500,
  },
  'a Cluster, connections killed and scripts flushed': { start: cluster, trouble: cutAndPause, every: 400 },
  'a Sentinel failover': {
    start: sentinel,
    trouble: async (at, round) => {
      if (round !== (LONG ? 10 : 1)) return
      const primary = await (at as Awaited<ReturnType<typeof sentinel>>).primary()
      await primary.kill('SIGKILL')
    },
    every: 1_000,
    lossy: true,
  },
  'a Cluster failover': {
    start: () => cluster({ masters: 3, replicas: 1 }),
    trouble: async ({ servers: [first] }, round) => {
      if (round === (LONG ? 10 : 1)) await first?.kill('SIGKILL')
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
        const troubles = (async () => {
          for (let round = 0; going; round++) {
            await delay(every)
            await trouble(at, round).catch(() => {})
          }
        })()
        const histories: History[] = []
        const began = performance.now()
        let verdict = judge(histories)
        while (lacking(verdict) && performance.now() - began < PATIENCE) {
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
          verdict = judge(histories)
        }
        going = false
        await troubles
        for (const worker of workers) worker.kill('SIGKILL')
        print(name, verdict)
        expect(lacking(verdict)).toBe(false)
        if (!lossy) {
          expect(verdict.stale).toEqual([])
          expect(verdict.staleAsFresh).toEqual([])
        }
      } finally {
        await at.stop()
      }
    },
    PATIENCE + 120_000,
  )
})

function lacking({ reads, hard, landed }: Verdict): boolean {
  return reads < FLOOR.reads || hard < FLOOR.hard || landed < FLOOR.landed
}

function print(
  name: string,
  { reads, hard, soft, landed, creations, stale, staleAsFresh, failures }: Verdict,
): void {
  console.log(
    `[history] ${name}: ${reads} reads, ${hard} hard and ${soft} soft invalidations acknowledged, ${landed} of them during a creation, ` +
      `${creations} creations, ${stale.length} stale, ${staleAsFresh.length} stale served as fresh, failures ${JSON.stringify(failures)}`,
  )
}
