import type { LedgerReading } from '../../../src/ledger/ledger.js'
import { parseClock, parseStamp } from '../format.js'
import { PendingReply, type ReplySource } from './pending-reply.js'
import { type BatchedReads, valuesOf } from './read-batcher.js'

/**
 * Reads of a cluster, joined for each node on its own: what one node has does not wait for another that is slow or gone.
 * @param laneOf the node of a key. A wrong answer costs time only: a batch is sent to whoever has its keys by then.
 */
export function clusterBatcher(laneOf: (key: string) => string, open: () => BatchedReads): BatchedReads {
  const all = new Map<string, BatchedReads>()
  const laneFor = (key: string): BatchedReads => {
    const name = laneOf(key)
    let lane = all.get(name)
    if (lane === undefined) all.set(name, (lane = open()))
    return lane
  }
  const get = (key: string) => laneFor(key).get(key)
  /** Those of this tick: afterwards their batches may have been sent. */
  const recent = new Map<
    readonly string[],
    { readonly clock: string; readonly reply: PendingReply<LedgerReading> }
  >()

  return {
    get,
    getMulti: (keys) => valuesOf(keys.map(get)),
    readLedger(clock, stamps) {
      if (stamps.length === 0) return laneFor(clock).readLedger(clock, stamps)
      const known = recent.get(stamps)
      if (known?.clock === clock) return known.reply
      if (recent.size === 0) process.nextTick(() => recent.clear())
      const reply = new Ledger(get(clock), stamps.map(get))
      recent.set(stamps, { clock, reply })
      return reply
    },
    get isBusy() {
      for (const lane of all.values()) if (lane.isBusy) return true
      return false
    },
  }
}

type Part = PendingReply<Buffer | undefined>

class Ledger extends PendingReply<LedgerReading> {
  constructor(
    private readonly clock: Part,
    private readonly stamps: readonly Part[],
  ) {
    super(everything([clock, ...stamps]))
  }

  protected read(): LedgerReading {
    return {
      now: parseClock(bytesOf(this.clock)),
      stamps: this.stamps.map((one) => parseStamp(bytesOf(one))),
    }
  }
}

function bytesOf(part: Part): Buffer | null {
  return (part.value() as Buffer | undefined) ?? null
}

function everything(parts: readonly Part[]): ReplySource {
  const [first, ...others] = new Set(parts.map(({ source }) => source))
  if (first !== undefined && others.length === 0) return first
  const arrivals = first === undefined ? others : [first, ...others]
  return {
    settled: Promise.all(arrivals.map(({ settled }) => settled)).then(() => {}),
    get isSettled() {
      return arrivals.every(({ isSettled }) => isSettled)
    },
  }
}
