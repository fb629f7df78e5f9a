import { Redis } from 'ioredis'
import { inject } from 'vitest'
import { cluster, type Deployment, sentinel, standalone } from '../backends/redis/deployments.js'
import { LONG } from '../support/long.js'
import { sharedNow, sleep } from '../support/waiting.js'
import type { Binding } from './checker.js'
import { histories, type World } from './history.js'

/** ms. */
const BOUND = 400

/** An invalidation binds its own process at once, and every other after the bound. */
const bindings =
  (bound: number): NonNullable<World['bindings']> =>
  () => ({
    'within the bound': (change, process) => (process === change.process ? change.end : change.end + bound),
  })

const over = (at: Deployment, bound: number, more: Partial<World>): World => ({
  place: () => ({ redis: at.where, near: bound }),
  bindings: bindings(bound),
  bound,
  // Copies answer most reads, so the long form can afford many between two changes.
  burst: LONG ? 8 : 1,
  stop: () => at.stop(),
  ...more,
})

const disturbed = (at: Deployment, bound: number): World =>
  over(at, bound, {
    async trouble(round, processes) {
      const { admin } = at
      if (round % 5 === 0) await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
      if (round % 5 === 1) await admin.call('CLIENT', 'KILL', 'TYPE', 'pubsub')
      if (round % 5 === 2) await admin.call('CLIENT', 'PAUSE', 60, 'ALL')
      if (round % 5 === 3) await processes.freeze(2 * BOUND)
      if (round % 5 === 4) await (round % 2 === 0 ? admin.flushall() : admin.del('~corral:journal={keys}'))
      return 'troubles'
    },
  })

/** Runs a command on every node. */
async function onAll({ servers }: Deployment, ...command: readonly [string, ...string[]]): Promise<void> {
  const [name, ...args] = command
  for (const { port } of servers) {
    const client = new Redis({ port })
    await client.call(name, ...args)
    client.disconnect()
  }
}

const disturbedCluster = (at: Deployment, bound: number): World =>
  over(at, bound, {
    async trouble(round, processes) {
      if (round % 5 === 0) await onAll(at, 'CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
      if (round % 5 === 1) await onAll(at, 'CLIENT', 'KILL', 'TYPE', 'pubsub')
      if (round % 5 === 2) await onAll(at, 'CLIENT', 'PAUSE', '60', 'ALL')
      if (round % 5 === 3) await processes.freeze(2 * BOUND)
      if (round % 5 === 4) await at.admin.del('~corral:near:~corral:journal={keys}')
      return 'troubles'
    },
  })

/** ms around the death of a primary within which an invalidation may have been acknowledged and lost with it. */
const LOSABLE = { before: 1_000, after: 250 }

async function failingOver(): Promise<World> {
  const at = await sentinel()
  let death: number | undefined
  const kept: Binding = (change, process) => {
    const { end } = change
    if (death !== undefined && end >= death - LOSABLE.before && end <= death + LOSABLE.after) return undefined
    return process === change.process ? end : end + BOUND
  }
  return over(at, BOUND, {
    kept,
    every: () => 1_000,
    async trouble(round) {
      if (round !== (LONG ? 10 : 1)) return undefined
      await (await at.primary()).kill('SIGKILL')
      death = sharedNow()
      await sleep(50)
      return 'troubles'
    },
  })
}

histories('the history of processes with near caches', {
  missing: () => inject('servers').redis === null,
  floor: LONG
    ? { reads: 350_000, hard: 3_500, landed: 100, troubles: 1 }
    : { reads: 800, hard: 80, landed: 10, troubles: 1 },
  ms: LONG ? 240_000 : 5_000,
  patience: LONG ? 1_800_000 : 45_000,
  worlds: {
    'bounded; connections and subscriptions killed, commands paused, processes frozen, data lost': async () =>
      disturbed(await standalone(), BOUND),
    'strong; connections and subscriptions killed, commands paused, processes frozen, data lost': async () =>
      disturbed(await standalone(), 0),
    'bounded; a failover under Sentinel': failingOver,
    'bounded, on a Cluster; connections and subscriptions killed, commands paused, processes frozen, the registration lost':
      async () => disturbedCluster(await cluster(), BOUND),
  },
})
