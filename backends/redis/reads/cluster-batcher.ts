import type { LedgerReading } from '../../../src/ledger/ledger.js'
import { parseClock, parseStamp } from '../moments.js'
import { type Arrival, Reply } from './pending-reply.js'
import { type JoinedReads, together } from './read-batcher.js'

/**
 * Reads of a cluster, joined for each node on its own: what one node has does not wait for another that is slow or gone.
 * @param laneOf the node of a key. A wrong answer costs time only: a batch is sent to whoever has its keys by then.
 */
export function lanes(laneOf: (key: string) => string, open: () => JoinedReads): JoinedReads {
  const all = new Map<string, JoinedReads>()
  const laneFor = (key: string): JoinedReads => {
    const name = laneOf(key)
    let lane = all.get(name)
    if (lane === undefined) all.set(name, (lane = open()))
    return lane
  }
  const one = (key: string) => laneFor(key).one(key)
  /** Those of this tick: afterwards their batches may have been sent. */
  const recent = new Map<
    readonly string[],
    { readonly clock: string; readonly reply: Reply<LedgerReading> }
  >()

  return {
    one,
    many: (keys) => together(keys.map(one)),
    reading(clock, stamps) {
      if (stamps.length === 0) return laneFor(clock).reading(clock, stamps)
      const known = recent.get(stamps)
      if (known?.clock === clock) return known.reply
      if (recent.size === 0) process.nextTick(() => recent.clear())
      const reply = new Ledger(one(clock), stamps.map(one))
      recent.set(stamps, { clock, reply })
      return reply
    },
    get busy() {
      for (const lane of all.values()) if (lane.busy) return true
      return false
    },
  }
}

type Part = Reply<Buffer | undefined>

class Ledger extends Reply<LedgerReading> {
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

function everything(parts: readonly Part[]): Arrival {
  const [first, ...others] = new Set(parts.map(({ from }) => from))
  if (first !== undefined && others.length === 0) return first
  const arrivals = first === undefined ? others : [first, ...others]
  return {
    arrived: Promise.all(arrivals.map(({ arrived }) => arrived)).then(() => {}),
    get here() {
      return arrivals.every(({ here }) => here)
    },
  }
}
