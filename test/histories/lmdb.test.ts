import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import {
  bundlePeer,
  endPeers,
  LONG,
  type RunningPeer,
  startPeer,
  temporaryFolder,
} from '../backends/lmdb/support.js'
import { sleep } from '../support/waiting.js'

const SECONDS = LONG ? 240 : 20
const KEYS = 24
const PEERS = 4
const FLOOR = LONG
  ? { reads: 200_000, invalidations: 5_000, during: 500 }
  : { reads: 1_000, invalidations: 100, during: 10 }

afterAll(endPeers)

test(
  `no process reads what an acknowledged invalidation made old, for ${SECONDS} s with kills and freezes`,
  async () => {
    const folder = temporaryFolder()
    const program = await bundlePeer()
    const total = { reads: 0, invalidations: 0, during: 0, failures: 0, runs: 0, kills: 0, freezes: 0 }
    const violations: string[] = []
    const start = async (me: number): Promise<RunningPeer> => {
      const peer = await startPeer(program, {
        role: 'history',
        file: join(folder, 'cache.mdb'),
        truth: join(folder, 'truth'),
        lease: 500,
        keys: KEYS,
        peers: PEERS,
        me,
      })
      peer.on((reply) => {
        if (reply.kind === 'violation') violations.push(reply.what)
        if (reply.kind !== 'tally') return
        for (const name of ['reads', 'invalidations', 'during', 'failures', 'runs'] as const)
          total[name] += reply[name]
      })
      return peer
    }
    const peers = await Promise.all(Array.from({ length: PEERS }, (_, me) => start(me)))
    const end = Date.now() + SECONDS * 1000
    while (Date.now() < end && violations.length === 0) {
      await sleep(300 + Math.random() * 900)
      const me = Math.floor(Math.random() * PEERS)
      const victim = peers[me] as RunningPeer
      if (Math.random() < 0.6) {
        victim.signal('SIGKILL')
        await victim.exited
        peers[me] = await start(me)
        total.kills++
      } else {
        victim.signal('SIGSTOP')
        await sleep(Math.random() * 1200)
        victim.signal('SIGCONT')
        total.freezes++
      }
    }
    const stopped = peers.map((peer) => peer.next('stopped'))
    for (const peer of peers) peer.tell({ kind: 'stop' })
    await Promise.all(stopped)
    console.log('history over lmdb', total)
    expect(violations).toEqual([])
    expect(total.reads).toBeGreaterThan(FLOOR.reads)
    expect(total.invalidations).toBeGreaterThan(FLOOR.invalidations)
    expect(total.during).toBeGreaterThan(FLOOR.during)
    // An operation may fail when a frozen process holds the write lock, but that is rare.
    expect(total.failures).toBeLessThan((total.reads + total.invalidations) / 50)
  },
  SECONDS * 1000 + 60_000,
)
