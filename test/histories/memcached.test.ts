import { describe, expect, inject, it } from 'vitest'
import { type Event, type History, startPeers } from '../backends/memcached/peers.js'
import { LONG, say } from '../backends/memcached/start.js'
import { faultProxy } from '../support/faultproxy.js'
import { type Server, startMemcached } from '../support/servers.js'
import { sleep } from '../support/waiting.js'

const PROCESSES = 4
const MS = LONG ? 240_000 : 12_000
const FLOOR = LONG
  ? { reads: 200_000, invalidations: 5_000, landed: 500 }
  : { reads: 1_000, invalidations: 100, landed: 10 }

type Pick = (history: History) => readonly Event[]

function byKey(histories: readonly History[], pick: Pick): ReadonlyMap<number, readonly Event[]> {
  const map = new Map<number, Event[]>()
  for (const event of histories.flatMap((history) => [...pick(history)])) {
    const events = map.get(event[0])
    if (events === undefined) map.set(event[0], [event])
    else events.push(event)
  }
  return map
}

/** Reads that began after an invalidation was acknowledged, and yet answered an older version. */
function older(histories: readonly History[], reads: Pick, invalidations: Pick): string[] {
  const found: string[] = []
  const acknowledged = byKey(histories, invalidations)
  for (const [key, events] of byKey(histories, reads)) {
    const newest: { readonly end: number; readonly version: number }[] = []
    for (const [, , end, version] of (acknowledged.get(key) ?? []).toSorted((a, b) => a[2] - b[2]))
      newest.push({ end, version: Math.max(version, newest.at(-1)?.version ?? 0) })
    let at = 0
    for (const [, begin, , version] of [...events].sort((a, b) => a[1] - b[1])) {
      while (at < newest.length && (newest[at]?.end ?? 0) < begin) at++
      const least = newest[at - 1]?.version ?? 0
      if (version < least)
        found.push(`key ${key}: a read that began at ${begin} answered ${version}, ${least} was acknowledged`)
    }
  }
  return found
}

describe.skipIf(inject('servers').memcached === null)('the history of a memcached in trouble', () => {
  it('has no stale read, in any process', { timeout: 3 * MS + 60_000 }, async () => {
    const truth = await startMemcached()
    let server: Server = await startMemcached()
    const { port } = server
    const proxy = await faultProxy({ port })
    const peers = await startPeers(PROCESSES)
    const troubles: Record<string, () => Promise<unknown>> = {
      killed: async () => {
        await server.kill('SIGKILL')
        await sleep(50)
        server = await startMemcached({ port })
      },
      frozen: async () => {
        await server.kill('SIGSTOP')
        await sleep(400)
        await server.kill('SIGCONT')
      },
      flushed: () => say(port, 'flush_all'),
      cut: async () => {
        proxy.set({ kind: 'cut', afterBytes: Math.random() * 4_000 })
        await sleep(100)
        proxy.set({ kind: 'none' })
      },
      'hung up': async () => {
        proxy.set({ kind: 'fin' })
        await sleep(60)
        proxy.set({ kind: 'none' })
      },
      reset: async () => proxy.reset(),
      swallowed: async () => {
        proxy.set({ kind: 'blackhole' })
        await sleep(350)
        proxy.set({ kind: 'none' })
      },
    }
    const happened: Record<string, number> = {}
    let over = false
    const trouble = async () => {
      for (let i = 0; !over; i++) {
        await sleep(LONG ? 900 : 500)
        const [name, cause] = Object.entries(troubles)[i % 7] as [string, () => Promise<unknown>]
        if (over) return
        await cause()
        happened[name] = (happened[name] ?? 0) + 1
      }
    }
    const troubled = trouble()
    const histories = await Promise.all(
      peers.all.map((peer, index) =>
        peer.do({
          kind: 'history',
          // Half of them see the network break as well.
          servers: `127.0.0.1:${index % 2 ? proxy.port : port}`,
          truth: `127.0.0.1:${truth.port}`,
          index,
          processes: PROCESSES,
          keys: 12,
          ms: MS,
        }),
      ),
    )
    over = true
    await troubled
    peers.end()
    await proxy.close()
    await server.stop()
    await truth.stop()

    const count = (pick: Pick) => histories.reduce((sum, history) => sum + pick(history).length, 0)
    const creations = byKey(histories, (history) => history.creations)
    let landed = 0
    for (const [key, , end] of histories.flatMap(({ hard, soft }) => [...hard, ...soft]))
      if ((creations.get(key) ?? []).some(([, from, to]) => from < end && end < to)) landed++
    const counts = {
      reads: count(({ reads }) => reads),
      invalidations: count(({ hard }) => hard) + count(({ soft }) => soft),
      landed,
    }
    const failures: Record<string, number> = {}
    for (const history of histories)
      for (const [code, times] of Object.entries(history.failures))
        failures[code] = (failures[code] ?? 0) + times
    const stale = older(
      histories,
      ({ reads }) => reads,
      ({ hard }) => hard,
    )
    const staleAsFresh = older(
      histories,
      ({ fresh }) => fresh,
      ({ soft }) => soft,
    )
    console.log(
      `[history] memcached: ${counts.reads} reads, ${counts.invalidations} acknowledged invalidations, ${landed} of them during a creation, ` +
        `${count((history) => history.creations)} creations, ${stale.length + staleAsFresh.length} stale; troubles ${JSON.stringify(happened)}; failed ${JSON.stringify(failures)}`,
    )
    expect(stale.slice(0, 5)).toEqual([])
    expect(staleAsFresh.slice(0, 5)).toEqual([])
    expect(histories.flatMap(({ wrong }) => wrong)).toEqual([])
    expect(counts.reads).toBeGreaterThanOrEqual(FLOOR.reads)
    expect(counts.invalidations).toBeGreaterThanOrEqual(FLOOR.invalidations)
    expect(counts.landed).toBeGreaterThanOrEqual(FLOOR.landed)
  })
})
