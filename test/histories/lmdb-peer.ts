import { NO_VALUE } from '../../src/backend/cached-value.js'
import type { Region } from '../../src/region/types.js'
import type { Peer, Reply, Task } from '../backends/lmdb/peer-protocol.js'
import { sleep, turn } from '../support/waiting.js'
import { openTruth } from './truth.js'

interface Value {
  readonly key: string
  readonly version: number
  readonly padding: string
}

const READERS = 8
const below = (n: number): number => Math.floor(Math.random() * n)

/** Reads whatever there is and changes its own keys, and says how much of it; whatever it reads must be new enough. */
export function history(peer: Peer, region: Region<unknown>, say: (reply: Reply) => void): void {
  const { me = 0, peers = 1, keys = 1, truth: path = '' } = peer
  const truth = openTruth(path, keys)
  // What the one before me was making when it was killed.
  for (let key = 0; key < keys; key++) truth.making(key, me, false)
  const own = Array.from({ length: keys }, (_, key) => key).filter((key) => key % peers === me)
  const busy = new Map<number, number>()
  let tally = { reads: 0, invalidations: 0, during: 0, failures: 0, runs: 0 }
  let running = true

  const creator = (key: number) => async (): Promise<Value> => {
    const version = truth.version(key)
    tally.runs++
    busy.set(key, (busy.get(key) ?? 0) + 1)
    truth.making(key, me, true)
    // Now and then it outlives its lease, and is renewed.
    await sleep(Math.random() < 0.02 ? 700 : below(15))
    const left = (busy.get(key) ?? 1) - 1
    busy.set(key, left)
    if (left === 0) truth.making(key, me, false)
    return { key: `k${key}`, version, padding: 'x'.repeat(below(3000)) }
  }
  const reader = async (): Promise<void> => {
    while (running) {
      const key = below(keys)
      const least = truth.acknowledged(key)
      try {
        const found =
          Math.random() < 0.6
            ? await region.getOrCreate(`k${key}`, creator(key))
            : await region.get(`k${key}`)
        tally.reads++
        if (found !== NO_VALUE) {
          const value = found as Value
          if (value.key !== `k${key}`) say({ kind: 'violation', what: `${value.key} was read as k${key}` })
          if (!(value.version >= least))
            say({ kind: 'violation', what: `k${key}: read ${value.version} after ${least} was acknowledged` })
        }
      } catch (error) {
        tally.failures++
        if ((error as { code?: unknown }).code === undefined)
          say({ kind: 'violation', what: `untyped: ${String(error)}` })
      }
      await (Math.random() < 0.3 ? sleep(below(3)) : turn())
    }
  }
  const change = async (): Promise<void> => {
    const kind = Math.random()
    const affected = kind < 0.08 ? own : [own[below(own.length)] as number]
    const during = affected.some((key) => truth.beingMade(key))
    const versions = affected.map((key) => truth.advance(key))
    const key = `k${affected[0]}`
    if (kind < 0.08) await region.invalidate('hard')
    else if (kind < 0.6) await region.delete(key)
    else if (kind < 0.7) await region.deleteMulti([key, 'nothing'])
    else await region.set(key, { key, version: versions[0], padding: 'set' })
    affected.forEach((one, i) => truth.acknowledge(one, versions[i] as number))
    tally.invalidations++
    if (during) tally.during++
  }
  const changer = async (): Promise<void> => {
    while (running) {
      try {
        await change()
      } catch {
        tally.failures++
      }
      await sleep(below(12))
    }
  }
  const tell = () => {
    say({ kind: 'tally', ...tally })
    tally = { reads: 0, invalidations: 0, during: 0, failures: 0, runs: 0 }
  }
  const timer = setInterval(tell, 50)
  const work = Promise.all([...Array.from({ length: READERS }, reader), changer()])
  process.on('message', async (task: Task) => {
    if (task.kind !== 'stop') return
    running = false
    await work
    clearInterval(timer)
    tell()
    await region.close()
    say({ kind: 'stopped' })
    process.disconnect()
  })
}
