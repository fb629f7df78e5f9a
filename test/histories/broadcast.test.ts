import { inject } from 'vitest'
import { standalone } from '../backends/redis/deployments.js'
import { faultProxy } from '../support/faultproxy.js'
import { LONG } from '../support/long.js'
import { sleep } from '../support/waiting.js'
import { busBindings } from './checker.js'
import { histories, type World } from './history.js'

/** Processes with stores that a Redis bus joins, each behind a faulty network. */
async function joined(troubled: boolean): Promise<World> {
  const at = await standalone()
  const proxies = await Promise.all([0, 1, 2].map(() => faultProxy({ port: at.servers[0]?.port ?? 0 })))
  const troubles = [
    async () => proxies[Math.floor(Math.random() * 3)]?.reset(),
    () => at.admin.call('CLIENT', 'KILL', 'TYPE', 'pubsub'),
    async () => {
      const victim = proxies[Math.floor(Math.random() * 3)]
      victim?.set({ kind: 'blackhole' })
      await sleep(600)
      victim?.set({ kind: 'none' })
    },
    async () => {
      const victim = proxies[Math.floor(Math.random() * 3)]
      victim?.set({ kind: 'latency', ms: 20, jitter: 60 })
      await sleep(200)
      victim?.set({ kind: 'none' })
    },
    async () => {
      await at.servers[0]?.kill('SIGSTOP')
      await sleep(100)
      await at.servers[0]?.kill('SIGCONT')
    },
  ] as const
  return {
    place: (index) => ({ bus: `redis://127.0.0.1:${proxies[index]?.port}` }),
    bindings: busBindings,
    every: () => 150 + Math.random() * 250,
    ...(troubled && {
      async trouble(round) {
        await troubles[round % troubles.length]?.()
        return 'troubles'
      },
    }),
    async stop() {
      await Promise.all(proxies.map((proxy) => proxy.close()))
      await at.stop()
    },
  }
}

const length = { ms: LONG ? 60_000 : 5_000, patience: LONG ? 400_000 : 60_000 }
const floor = {
  ...(LONG
    ? { reads: 50_000, hits: 10_000, changes: 1_500, landed: 100 }
    : { reads: 1_500, hits: 200, changes: 60, landed: 5 }),
  ...{
    'compared in its own process': 101,
    'compared after it was heard': 101,
    'compared after the delay': 101,
  },
}

const missing = () => inject('servers').redis === null

histories('the history of stores joined by broadcast()', {
  ...{ ...length, floor, missing },
  worlds: { 'a bus that works': () => joined(false) },
})
histories('the history of stores joined by broadcast() over a broken bus', {
  ...{ ...length, floor: { ...floor, gaps: LONG ? 50 : 3 }, missing },
  worlds: { 'connections cut, blackholed and delayed, the server frozen': () => joined(true) },
})
