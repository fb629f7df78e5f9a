import { expect, it } from 'vitest'
import { standalone } from '../backends/redis/deployments.js'
import { LONG, withRedis } from '../backends/redis/suite.js'
import { type FaultProxy, faultProxy } from '../support/faultproxy.js'
import { sleep } from '../support/waiting.js'
import { history, judge, type Verdict } from './signals.js'

const MS = LONG ? 60_000 : 5_000
const PATIENCE = LONG ? 400_000 : 60_000
const FLOOR = LONG
  ? { reads: 50_000, hits: 10_000, acknowledged: 1_500, landed: 100, gaps: 50 }
  : { reads: 1_500, hits: 200, acknowledged: 60, landed: 5, gaps: 3 }

const unhandled: unknown[] = []
process.on('unhandledRejection', (error) => unhandled.push(error))

withRedis('the history of stores joined by broadcast()', standalone, (at) => {
  const troubles: Record<string, (proxies: readonly FaultProxy[], round: number) => Promise<void>> = {
    'a bus that works': async () => {},
    'connections cut, blackholed and delayed, the server frozen': async (proxies, round) => {
      const victim = proxies[Math.floor(Math.random() * proxies.length)]
      const kind = round % 4
      if (kind === 0) victim?.reset()
      else if (kind === 1) await at().admin.call('CLIENT', 'KILL', 'TYPE', 'pubsub')
      else if (kind === 2) {
        victim?.set({ kind: 'blackhole' })
        await sleep(600)
        victim?.set({ kind: 'none' })
      } else if (Math.random() < 0.5) {
        victim?.set({ kind: 'latency', ms: 20, jitter: 60 })
        await sleep(200)
        victim?.set({ kind: 'none' })
      } else {
        await at().servers[0]?.kill('SIGSTOP')
        await sleep(100)
        await at().servers[0]?.kill('SIGCONT')
      }
    },
  }

  it.each(Object.entries(troubles))(
    'has no read that is older than what was acknowledged, as far as that is promised: %s',
    async (name, trouble) => {
      const proxies = await Promise.all([0, 1, 2].map(() => faultProxy({ port: at().servers[0]?.port ?? 0 })))
      const quiet = name === 'a bus that works'
      let going = true
      const making = (async () => {
        for (let round = 0; going; round++) {
          await sleep(150 + Math.random() * 250)
          await trouble(proxies, round)
        }
      })()
      try {
        let total: Verdict | undefined
        const began = performance.now()
        do
          total = added(
            total,
            await history({ ports: proxies.map(({ port }) => port), keys: 6, readers: 5, ms: MS }),
          )
        while (lacking(total, quiet) && performance.now() - began < PATIENCE)
        const { compared, stale, ...counts } = total
        console.log(
          `[broadcast] ${name}: ${JSON.stringify(counts)}, compared in the own process, after hearing, after the delay: ${compared.join(', ')}; ${stale.length} stale`,
        )
        expect(stale).toEqual([])
        expect(lacking(total, quiet)).toBe(false)
        for (const count of compared) expect(count).toBeGreaterThan(100)
        expect(unhandled).toEqual([])
      } finally {
        going = false
        await making
        await Promise.all(proxies.map((proxy) => proxy.close()))
      }
    },
    PATIENCE + 120_000,
  )

  it('would be found out by its judge', () => {
    const write = { by: 0, key: 1, version: 2, acknowledged: 100, heard: [undefined, 120] }
    const read = (process: number, began: number) => ({ at: process, key: 1, began, version: 1 })
    expect(judge([read(0, 99), read(1, 119)], [write]).stale).toEqual([])
    expect(judge([read(0, 101)], [write]).stale).toHaveLength(1)
    expect(judge([read(1, 121)], [write]).stale).toHaveLength(1)
    expect(judge([read(2, 401)], [write]).stale).toHaveLength(1)
    expect(judge([{ ...read(1, 500), version: 2 }], [write]).stale).toEqual([])
  })
})

function added(one: Verdict | undefined, other: Verdict): Verdict {
  if (one === undefined) return other
  const sum = (key: 'reads' | 'hits' | 'acknowledged' | 'rejected' | 'landed' | 'gaps') =>
    one[key] + other[key]
  return {
    reads: sum('reads'),
    hits: sum('hits'),
    acknowledged: sum('acknowledged'),
    rejected: sum('rejected'),
    landed: sum('landed'),
    gaps: sum('gaps'),
    compared: other.compared.map((count, i) => count + (one.compared[i] ?? 0)) as never,
    stale: [...one.stale, ...other.stale],
  }
}

function lacking({ reads, hits, acknowledged, landed, gaps }: Verdict, quiet: boolean): boolean {
  return (
    reads < FLOOR.reads ||
    hits < FLOOR.hits ||
    acknowledged < FLOOR.acknowledged ||
    landed < FLOOR.landed ||
    (!quiet && gaps < FLOOR.gaps)
  )
}
