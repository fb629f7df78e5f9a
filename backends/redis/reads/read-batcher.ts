import { CorralError } from '../../../src/base/errors.js'
import { Fifo } from '../../../src/base/fifo.js'
import { nextTick, performance } from '../../../src/base/timers.js'
import type { LedgerReading, Stamp } from '../../../src/ledger/ledger.js'
import { parseClock, parseStamp } from '../format.js'
import { ComputedReply, PendingReply, type ReplySource } from './pending-reply.js'

export type Fetched = Buffer | null | Error

export interface Reads {
  /** The bytes of a key. Everything asked for in the same tick is one command; the same key is asked for once. */
  get(key: string): Promise<Buffer | undefined>
  getMulti(keys: readonly string[]): Promise<(Buffer | undefined)[]>
  /**
   * A clock and stamps, in the same command as the entries of the same tick.
   * @param stamps always the same array for the same clock and names, and another one for others.
   */
  readLedger(clock: string, stamps: readonly string[]): Promise<LedgerReading>
}

export interface BatchedReads extends Reads {
  get(key: string): PendingReply<Buffer | undefined>
  readLedger(clock: string, stamps: readonly string[]): PendingReply<LedgerReading>
  /** Whether something was asked for that has not come. */
  readonly isBusy: boolean
}

interface ReadBatcherOptions {
  /**
   * Fetches the values of distinct keys in their order, until a moment on the clock of `performance`. The failure of one
   * node is an Error in the places of its keys.
   */
  readonly fetch: FetchKeys
  /** ms for a read, from when the first of its batch was asked for, or from the latest reply if its batch waited longer. */
  readonly timeout: number
  /** Keys that may wait for another reply; reads beyond are refused. */
  readonly maxWaiting: number
  /** Keys in one command. */
  readonly maxKeys: number
  /** Bytes expected in one reply, by the size of the latest ones. */
  readonly maxBytes: number
}

export type FetchKeys = (keys: string[], until: number) => Promise<readonly Fetched[]>

/** Commands under way at one time; later reads gather into the next one. */
const MAX_IN_FLIGHT = 4

/**
 * Joins reads of one tick. A batch takes no more reads once it is sent, so a read never returns data older than itself.
 * None needs a timer to wait in time: those before it have the earlier deadlines, and make room by then.
 */
export class ReadBatcher implements BatchedReads {
  /** The batch that takes reads. */
  #open: Batch | undefined
  /** Full batches, which wait for a reply to another. */
  readonly #full = new Fifo<Batch>()
  /** Keys of full batches. */
  #waiting = 0
  /** On the clock of `performance`. */
  #latestReply = 0
  #isScheduled = false
  #inFlight = 0
  #averageSize = 1_024
  /** Keys in one batch, by the size of the latest values. */
  #limit: number

  constructor(private readonly options: ReadBatcherOptions) {
    this.#limit = Math.min(options.maxKeys, options.maxBytes)
  }

  get = (key: string): PendingReply<Buffer | undefined> => {
    const batch = this.#current()
    return new EntryReply(batch, batch.place(key))
  }

  getMulti(keys: readonly string[]): Promise<(Buffer | undefined)[]> {
    return inSlices(keys, this.options.maxWaiting, (slice) => valuesOf(slice.map(this.get)))
  }

  readLedger(clock: string, stamps: readonly string[]): PendingReply<LedgerReading> {
    const batch = this.#current()
    const known = batch.reading(stamps)
    if (known !== undefined) return known
    const places = stamps.map((stamp) => batch.place(stamp))
    const clockPlace = batch.place(clock)
    const reply = new ComputedReply(batch, () => ({
      now: parseClock(batch.at(clockPlace)),
      stamps: places.map((place) => batch.stamp(place)),
    }))
    batch.addReading(stamps, reply)
    return reply
  }

  get isBusy(): boolean {
    return this.#inFlight > 0 || this.#open !== undefined || this.#full.size > 0
  }

  #current(): Batch {
    const open = this.#open
    if (open !== undefined && open.keys.length < this.#limit) return open
    if (open !== undefined) {
      if (this.#waiting >= this.options.maxWaiting) return this.#refused()
      this.#full.push(open)
      this.#waiting += open.keys.length
    }
    const batch = new Batch(performance.now() + this.options.timeout)
    this.#open = batch
    if (!this.#isScheduled) {
      this.#isScheduled = true
      nextTick(() => {
        this.#isScheduled = false
        this.#flush()
      })
    }
    return batch
  }

  #refused(): Batch {
    const batch = new Batch(0)
    batch.fail(
      new CorralError(
        'ERR_UNAVAILABLE',
        `Reads of ${this.#waiting} keys wait for Redis already, which is the most: see \`maxWaiting\`.`,
      ),
    )
    return batch
  }

  #flush(): void {
    while (this.#inFlight < MAX_IN_FLIGHT) {
      let batch = this.#full.shift()
      if (batch !== undefined) this.#waiting -= batch.keys.length
      else [batch, this.#open] = [this.#open, undefined]
      if (batch === undefined) return
      this.#send(batch)
    }
  }

  #send(batch: Batch): void {
    this.#inFlight++
    const { fetch, timeout } = this.options
    fetch(batch.keys, Math.max(batch.until, this.#latestReply + timeout)).then(
      (fetched) => {
        try {
          batch.arrive(fetched)
          // A node that answers nothing gives no later read more time.
          if (batch.hasReply) this.#latestReply = performance.now()
          this.#learnSize(batch.bytes / fetched.length)
        } catch (error) {
          batch.fail(error)
        }
        this.#received()
      },
      (error: unknown) => {
        batch.fail(error)
        this.#received()
      },
    )
  }

  #received(): void {
    this.#inFlight--
    this.#flush()
  }

  #learnSize(bytes: number): void {
    const { maxKeys, maxBytes } = this.options
    this.#averageSize = Math.max(1, this.#averageSize * 0.8 + bytes * 0.2)
    this.#limit = Math.max(1, Math.min(maxKeys, Math.floor(maxBytes / this.#averageSize)))
  }
}

/** Reads of one call beyond the most that may wait follow each other. */
function inSlices<R>(
  keys: readonly string[],
  most: number,
  read: (keys: readonly string[]) => Promise<R[]>,
): Promise<R[]> {
  if (keys.length <= most) return read(keys)
  const rest = async () => {
    const found: R[] = []
    for (let at = 0; at < keys.length; at += most)
      for (const one of await read(keys.slice(at, at + most))) found.push(one)
    return found
  }
  return rest()
}

export async function valuesOf(
  replies: readonly PendingReply<Buffer | undefined>[],
): Promise<(Buffer | undefined)[]> {
  for (const { source } of replies) if (!source.isSettled) await source.settled
  return replies.map(bytesOf)
}

/** The value of a reply to a read, which is never a promise. To be read only once it is here. */
export function bytesOf(reply: PendingReply<Buffer | undefined>): Buffer | undefined {
  return reply.value() as Buffer | undefined
}

/** So many keys are looked through; a map of them costs more. */
const FEW = 8
const NONE: readonly Fetched[] = []

/** Of the two, only bytes have a length: a test of the class costs more than the rest of a place. */
function isFailed(one: Buffer | Error): one is Error {
  return (one as Partial<Buffer>).length === undefined
}

/** Distinct keys, in the order of their first reads, and the reply to them. */
class Batch implements ReplySource {
  readonly keys: string[] = []
  readonly settled: Promise<void>
  isSettled = false
  /** Whether a node replied, and the bytes of the values that came. */
  hasReply = false
  bytes = 0
  private resolve!: () => void
  private failure: { readonly error: unknown } | undefined = undefined
  private hasErrors = false
  private fetched: readonly Fetched[] = NONE
  /** The places of the keys, once they are too many to look through. */
  private places: Map<string, number> | undefined = undefined
  /** The readings of other lists than the first one: most batches have one list. */
  private readings: Map<readonly string[], PendingReply<LedgerReading>> | undefined = undefined
  private firstList: readonly string[] | undefined = undefined
  private firstReading: PendingReply<LedgerReading> | undefined = undefined
  private stamps: (Stamp | undefined)[] | undefined = undefined

  /** @param until when its reads are given up, on the clock of `performance`. */
  constructor(readonly until: number) {
    this.settled = new Promise((resolve) => {
      this.resolve = resolve
    })
  }

  /** Where the reply to a key will be. */
  place(key: string): number {
    const { keys, places } = this
    if (places === undefined) {
      const at = keys.indexOf(key)
      if (at >= 0) return at
      if (keys.length === FEW) this.places = new Map([...keys, key].map((one, i) => [one, i]))
      return keys.push(key) - 1
    }
    let found = places.get(key)
    if (found === undefined) {
      found = keys.push(key) - 1
      places.set(key, found)
    }
    return found
  }

  reading(list: readonly string[]): PendingReply<LedgerReading> | undefined {
    return list === this.firstList ? this.firstReading : this.readings?.get(list)
  }

  addReading(list: readonly string[], reading: PendingReply<LedgerReading>): void {
    if (this.firstList === undefined) {
      this.firstList = list
      this.firstReading = reading
    } else (this.readings ??= new Map()).set(list, reading)
  }

  arrive(fetched: readonly Fetched[]): void {
    // One value more or less would give callers each other's.
    if (fetched.length !== this.keys.length)
      throw new TypeError(`Redis returned ${fetched.length} values for ${this.keys.length} keys`)
    for (const one of fetched) {
      if (one === null) this.hasReply = true
      else if (isFailed(one)) this.hasErrors = true
      else {
        this.hasReply = true
        this.bytes += one.length
      }
    }
    this.fetched = fetched
    this.#settle()
  }

  fail(error: unknown): void {
    this.failure = { error }
    this.#settle()
  }

  #settle(): void {
    this.isSettled = true
    this.resolve()
  }

  at(place: number): Buffer | null {
    if (this.failure !== undefined) throw this.failure.error
    const found = this.fetched[place]
    if (this.hasErrors && found instanceof Error) throw found
    return found as Buffer | null
  }

  /** Readings share most of their stamps: each is parsed once. */
  stamp(place: number): Stamp | undefined {
    const found = this.at(place)
    return ((this.stamps ??= [])[place] ??= parseStamp(found))
  }
}

class EntryReply extends PendingReply<Buffer | undefined> {
  constructor(
    private readonly batch: Batch,
    private readonly place: number,
  ) {
    super(batch)
  }

  protected read(): Buffer | undefined {
    return this.batch.at(this.place) ?? undefined
  }
}
