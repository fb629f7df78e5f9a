import type { Reading, Stamp } from '../../src/ledger.js'
import { parseClock, parseStamp } from './moments.js'

export type Reply = Buffer | null | Error

export interface Reads {
  /** The bytes of a key. Everything asked for in the same tick is one command; the same key is asked for once. */
  one(key: string): Promise<Buffer | undefined>
  many(keys: readonly string[]): Promise<(Buffer | undefined)[]>
  /** A clock and stamps, in the same command as the entries of the same tick. `stamps`: the same array for the same names. */
  reading(clock: string, stamps: readonly string[]): Promise<Reading>
}

export interface CoalescerOptions {
  /** Fetches the values of distinct keys in their order; what failed for one node only is an Error in its places. */
  readonly send: (keys: string[]) => Promise<readonly Reply[]>
  /** Keys in one command. */
  readonly maxKeys: number
  /** Bytes expected in one reply, by the size of the latest ones. */
  readonly maxBytes: number
}

/** So many commands under way at once; what comes meanwhile gathers into the next one. */
const IN_FLIGHT = 4

/** Somebody who waits for a place in the replies, or for all of them. */
interface Waiter {
  settle(replies: readonly Reply[]): void
  fail(error: unknown): void
}

interface Batch {
  readonly keys: string[]
  readonly places: Map<string, number>
  readonly gets: (Promise<Buffer | undefined> | undefined)[]
  readonly readings: Map<readonly string[], { readonly clock: string; readonly promise: Promise<Reading> }>
  readonly waiters: Waiter[]
}

/** Joins reads of one tick. A batch takes no more reads once it is sent, so a read never sees what is older than itself. */
export function coalescer({ send, maxKeys, maxBytes }: CoalescerOptions): Reads {
  let open: Batch | undefined
  let scheduled = false
  let inFlight = 0
  let averageSize = 1_024
  let limit = Math.min(maxKeys, maxBytes)
  const full: Batch[] = []

  const current = (): Batch => {
    if (open !== undefined && open.keys.length < limit) return open
    if (open !== undefined) full.push(open)
    open = { keys: [], places: new Map(), gets: [], readings: new Map(), waiters: [] }
    if (!scheduled) {
      scheduled = true
      process.nextTick(flush)
    }
    return open
  }
  const flush = () => {
    scheduled = false
    while (inFlight < IN_FLIGHT) {
      let batch = full.shift()
      if (batch === undefined) {
        batch = open
        open = undefined
      }
      if (batch === undefined) return
      dispatch(batch)
    }
  }
  const dispatch = (batch: Batch): void => {
    inFlight++
    const landed = () => {
      inFlight--
      if (full.length > 0 || open !== undefined) flush()
    }
    const failed = (error: unknown) => {
      for (const waiter of batch.waiters) waiter.fail(error)
      landed()
    }
    send(batch.keys).then((replies) => {
      if (replies.length !== batch.keys.length)
        return failed(new TypeError(`Redis answered ${replies.length} values for ${batch.keys.length} keys`))
      for (const waiter of batch.waiters) waiter.settle(replies)
      learn(replies)
      landed()
    }, failed)
  }
  const learn = (replies: readonly Reply[]) => {
    let bytes = 0
    for (const reply of replies) if (reply !== null && !(reply instanceof Error)) bytes += reply.length
    averageSize = Math.max(1, averageSize * 0.8 + (bytes / replies.length) * 0.2)
    limit = Math.max(1, Math.min(maxKeys, Math.floor(maxBytes / averageSize)))
  }

  const place = (batch: Batch, key: string): number => {
    let found = batch.places.get(key)
    if (found === undefined) {
      found = batch.keys.length
      batch.places.set(key, found)
      batch.keys.push(key)
    }
    return found
  }

  const one = (key: string): Promise<Buffer | undefined> => {
    const batch = current()
    const at = place(batch, key)
    const shared = batch.gets[at]
    if (shared !== undefined) return shared
    const promise = new Promise<Buffer | undefined>((resolve, reject) => {
      batch.waiters.push({
        fail: reject,
        settle(replies) {
          const reply = replies[at] ?? undefined
          if (reply instanceof Error) reject(reply)
          else resolve(reply)
        },
      })
    })
    batch.gets[at] = promise
    return promise
  }

  return {
    one,
    many: (keys) => Promise.all(keys.map(one)),
    reading(clock, stamps) {
      const batch = current()
      const known = batch.readings.get(stamps)
      if (known?.clock === clock) return known.promise
      const atClock = place(batch, clock)
      const at = stamps.map((stamp) => place(batch, stamp))
      const promise = new Promise<Reading>((resolve, reject) => {
        batch.waiters.push({
          fail: reject,
          settle(replies) {
            const now = replies[atClock]
            const failure =
              now instanceof Error ? now : at.map((i) => replies[i]).find((reply) => reply instanceof Error)
            if (failure !== undefined) return reject(failure)
            resolve({ now: parseClock(now as Buffer | null), stamps: at.map((i) => stampOf(replies, i)) })
          },
        })
      })
      batch.readings.set(stamps, { clock, promise })
      return promise
    },
  }
}

let parsedOf: readonly Reply[] | undefined
let parsed: (Stamp | undefined)[] = []

/** Readings of a batch share most of their stamps: each is parsed once. */
function stampOf(replies: readonly Reply[], at: number): Stamp | undefined {
  if (parsedOf !== replies) [parsedOf, parsed] = [replies, []]
  const known = parsed[at]
  return known ?? (parsed[at] = parseStamp(replies[at] as Buffer | null))
}
