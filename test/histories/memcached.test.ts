import { inject } from 'vitest'
import { say } from '../backends/memcached/start.js'
import { type Fault, faultProxy } from '../support/faultproxy.js'
import { LONG } from '../support/long.js'
import { startMemcached } from '../support/servers.js'
import { sleep } from '../support/waiting.js'
import { histories, type World } from './history.js'

async function troubled(): Promise<World> {
  let server = await startMemcached()
  const { port } = server
  const proxy = await faultProxy({ port })
  const faulty = async (fault: Fault, ms: number) => {
    proxy.set(fault)
    await sleep(ms)
    proxy.set({ kind: 'none' })
  }
  const troubles: Readonly<Record<string, () => unknown>> = {
    async killed() {
      await server.kill('SIGKILL')
      await sleep(50)
      server = await startMemcached({ port })
    },
    async frozen() {
      await server.kill('SIGSTOP')
      await sleep(400)
      await server.kill('SIGCONT')
    },
    flushed: () => say(port, 'flush_all'),
    cut: () => faulty({ kind: 'cut', afterBytes: Math.random() * 4_000 }, 100),
    'hung up': () => faulty({ kind: 'fin' }, 60),
    reset: () => proxy.reset(),
    swallowed: () => faulty({ kind: 'blackhole' }, 350),
  }
  return {
    processes: 4,
    // Half of the processes see the network break as well.
    place: (index) => ({
      memcached: { servers: `127.0.0.1:${index % 2 ? proxy.port : port}`, timeout: 250, probe: 100 },
    }),
    every: () => (LONG ? 900 : 500),
    async trouble(round) {
      const [name, cause] = Object.entries(troubles)[round % 7] as [string, () => unknown]
      await cause()
      return name
    },
    async stop() {
      await proxy.close()
      await server.stop()
    },
  }
}

histories('the history of processes over memcached', {
  missing: () => inject('servers').memcached === null,
  floor: {
    ...(LONG ? { reads: 200_000, changes: 5_000, landed: 500 } : { reads: 1_000, changes: 100, landed: 10 }),
    ...{ killed: 2, frozen: 2, flushed: 2, cut: 2, 'hung up': 2, reset: 2, swallowed: 2 },
  },
  ms: LONG ? 240_000 : 12_000,
  patience: LONG ? 600_000 : 300_000,
  worlds: { 'killed, frozen, flushed, the network broken': troubled },
})
