import { nextTick } from '../../../src/base/timers.js'
import type { LedgerReading } from '../../../src/ledger/ledger.js'
import { parseClock, parseStamp } from '../format.js'
import { ComputedReply, type PendingReply, type ReplySource } from './pending-reply.js'
import { type BatchedReads, bytesOf, valuesOf } from './read-batcher.js'

/**
 * Reads of a cluster, joined for each node on its own: the reads of one node do not wait for another that is slow or gone.
 * @param laneOf the node of a key. A wrong one costs time only: a batch is sent to the node that has its keys by then.
 */
export function clusterBatcher(laneOf: (key: string) => string, open: () => BatchedReads): BatchedReads {
  const lanes = new Map<string, BatchedReads>()
  const get = (key: string) => {
    const name = laneOf(key)
    let lane = lanes.get(name)
    if (lane === undefined) lanes.set(name, (lane = open()))
    return lane.get(key)
  }
  /** Those of this tick: afterwards their batches may have been sent. */
  const recent = new Map<readonly string[], PendingReply<LedgerReading>>()
  return {
    get,
    getMulti: (keys) => valuesOf(keys.map(get)),
    readLedger(clock, stamps) {
      const known = recent.get(stamps)
      if (known !== undefined) return known
      if (recent.size === 0) nextTick(() => recent.clear())
      const [now, found] = [get(clock), stamps.map(get)]
      const reply = new ComputedReply(jointSource([now, ...found]), () => ({
        now: parseClock(bytesOf(now)),
        stamps: found.map((stamp) => parseStamp(bytesOf(stamp))),
      }))
      recent.set(stamps, reply)
      return reply
    },
    get isBusy() {
      return [...lanes.values()].some((lane) => lane.isBusy)
    },
  }
}

function jointSource(replies: readonly PendingReply<unknown>[]): ReplySource {
  const sources = [...new Set(replies.map(({ source }) => source))]
  const [only] = sources
  if (only !== undefined && sources.length === 1) return only
  return {
    settled: Promise.all(sources.map(({ settled }) => settled)).then(() => {}),
    get isSettled() {
      return sources.every(({ isSettled }) => isSettled)
    },
  }
}
