import type { Cluster, Redis } from 'ioredis'
import { inject } from 'vitest'
import { cluster, type Deployment, sentinel, standalone } from '../backends/redis/deployments.js'
import { LONG } from '../support/long.js'
import { sharedNow, sleep } from '../support/waiting.js'
import { histories, type World } from './history.js'

const nodes = ({ admin }: Deployment): readonly Redis[] =>
  'nodes' in admin ? (admin as Cluster).nodes('master') : [admin]

const over = (at: Deployment, more: Partial<World>): World => ({
  place: () => ({ redis: at.where }),
  stop: () => at.stop(),
  ...more,
})

const disturbed = (at: Deployment): World =>
  over(at, {
    async trouble(round) {
      for (const node of nodes(at)) {
        if (round % 3 === 0) await node.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
        if (round % 3 === 1) await node.call('CLIENT', 'PAUSE', 60, round % 2 === 0 ? 'ALL' : 'WRITE')
        if (round % 3 === 2) await node.script('FLUSH')
      }
      return 'troubles'
    },
  })

const frozen = (at: Deployment): World =>
  over(at, {
    every: () => 500,
    async trouble() {
      await at.servers[0]?.kill('SIGSTOP')
      await sleep(150)
      await at.servers[0]?.kill('SIGCONT')
      return 'troubles'
    },
  })

/** Every creation begins with the request for its lease, which brings the entry if there is one. */
const leasing = (at: Deployment, troubled: (at: Deployment) => World): World => ({
  ...troubled(at),
  place: () => ({ redis: at.where, leasesFirst: true }),
})

/**
 * ms around the death of a primary within which an invalidation may have been acknowledged and lost with it. A read that
 * disregards an invalidation of that time is counted and printed; any other stale read fails the test.
 */
const LOSABLE = { before: 1_000, after: 250 }

function losing(at: Deployment, kill: () => Promise<unknown>): World {
  let death: number | undefined
  return over(at, {
    every: () => 1_000,
    async trouble(round) {
      if (round !== (LONG ? 10 : 1)) return undefined
      await kill()
      death = sharedNow()
      return 'troubles'
    },
    kept: ({ end }) =>
      death !== undefined && end >= death - LOSABLE.before && end <= death + LOSABLE.after ? undefined : end,
  })
}

histories('the history of processes over Redis', {
  missing: () => inject('servers').redis === null,
  floor: LONG
    ? { reads: 40_000, hard: 1_500, landed: 100, troubles: 1 }
    : { reads: 800, hard: 80, landed: 10, troubles: 1 },
  ms: LONG ? 60_000 : 4_000,
  patience: LONG ? 600_000 : 45_000,
  worlds: {
    'connections killed, commands paused, scripts flushed': async () => disturbed(await standalone()),
    'a Cluster, connections killed, commands paused, scripts flushed': async () => disturbed(await cluster()),
    'memory so short that values, stamps and clocks are evicted': async () => {
      const at = await standalone({ args: ['--maxmemory', '2mb', '--maxmemory-policy', 'allkeys-random'] })
      return over(at, {
        every: () => 20,
        // Enough foreign data to make the server evict at random, bookkeeping included.
        async trouble(round) {
          for (let i = 0; i < 20; i++) await at.admin.set(`filler ${round} ${i}`, 'x'.repeat(20_000))
          return 'troubles'
        },
      })
    },
    'the server frozen now and then': async () => frozen(await standalone()),
    'leases as the first step; connections killed, commands paused, scripts flushed': async () =>
      leasing(await standalone(), disturbed),
    'leases as the first step; the server frozen now and then': async () =>
      leasing(await standalone(), frozen),
    'a Sentinel failover': async () => {
      const at = await sentinel()
      return losing(at, async () => (await at.primary()).kill('SIGKILL'))
    },
    'a Cluster failover': async () => {
      const at = await cluster({ masters: 3, replicas: 1 })
      return losing(at, async () => at.servers[0]?.kill('SIGKILL'))
    },
  },
})
