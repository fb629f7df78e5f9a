import type { Clock } from '../base/clock.js'
import { isPromise, type MaybePromise } from '../base/maybe-promise.js'
import { clearTimeout, nextTick, performance, setTimeout } from '../base/timers.js'
import type { LedgerTime } from './snapshot.js'
import { LEAST_PUSHED, type LedgerTail } from './tail.js'

/** A journal, and the time up to which its changes are known; `undefined`: none is. */
export interface JournalPosition {
  readonly journal: string
  readonly since: LedgerTime | undefined
}

/** The changes of one journal since the time that was asked about. */
export interface JournalChanges {
  readonly now: LedgerTime
  /** Changes up to this time may be missing. */
  readonly floor: number
  readonly changed: readonly JournalChange[]
}

export interface JournalChange {
  readonly name: string
  readonly at: number
}

/** The reply to a question about journals. */
export interface JournalReply {
  /** The server that gave it: another one may have lost changes that were known here. */
  readonly server: string
  /** In the order of the question. `undefined`: not every change of the journal is recorded yet. */
  readonly journals: readonly (JournalChanges | undefined)[]
}

/** Some changes, and the times of the journal before and after them. */
export interface JournalStep {
  /** `undefined`: unknown, so the step only tells what changed. */
  readonly server: string | undefined
  readonly epoch: string
  readonly before: number
  readonly at: number
}

/** The way to the store that keeps the journals. */
interface JournalSource {
  /** Asks for all changes since the positions. Each journal replies in one step of the store. */
  pull(positions: readonly JournalPosition[]): Promise<JournalReply>
  /** Called with `true` when the first near cache joins, and with `false` when the last one leaves. */
  listen?(on: boolean): void
}

/** Changes of one journal that are kept one by one. */
const KEPT = 16_384
/** ms between questions that only renew the registration. */
const RENEW = 10_000

interface Journal {
  readonly id: string
  /** The time up to which all changes are applied. */
  time: LedgerTime | undefined
  /** The place from which on its changes are known. */
  from: number
  /** The place of its latest change, or of anything else after which copies have to be judged again. */
  movedAt: number
  /** The latest changes by name, the latest last. */
  readonly recent: Map<string, number>
}

/**
 * This process's mirror of the latest changes in a store. It knows no server: a source asks one, and passes on the messages
 * of others.
 *
 * Every change gets a place when it becomes known here, and every read one before it is sent. A copy stands while no change of
 * its key or names has a place behind its own. So a reply that was under way while a change became known makes no copy, and it
 * does not matter in which order replies, messages and acknowledgements arrive.
 */
export class Mirror {
  #at = 0
  /** Copies with a smaller place cannot be judged any more. */
  #floor = 0
  /** Reads with a smaller place make no copies: the connection was lost while they were under way. */
  #readFloor = 0
  #server: string | undefined
  /** When the latest question was sent that has a reply, on the clock that never steps. */
  #provenAt = Number.NEGATIVE_INFINITY
  /** The question that is not sent yet. */
  #next: Promise<boolean> | undefined
  #isCatchingUp = false
  #isBehind = false
  #isUsed = false
  #timer: NodeJS.Timeout | undefined
  #isClosed = false
  readonly #journals = new Map<string, Journal>()
  readonly #members: number[] = []

  /**
   * @param source - absent where every change is made through this process, which is then told of each at once
   * @param clock - one that never steps
   */
  constructor(
    private readonly source?: JournalSource,
    private readonly clock: Clock = performance,
  ) {}

  follow(id: string): Journal {
    let found = this.#journals.get(id)
    if (found === undefined) {
      const from = ++this.#at
      // Without a source every change is known from now on; else no copy stands before the first reply.
      const movedAt = this.source === undefined ? from : Number.POSITIVE_INFINITY
      found = { id, time: undefined, from, movedAt, recent: new Map() }
      this.#journals.set(id, found)
    }
    return found
  }

  /** The place of the latest read or change. */
  get latest(): number {
    return this.#at
  }

  /** Whether nothing happened to the journal after the place. */
  isUnmoved({ movedAt }: Journal, since: number): boolean {
    return since >= movedAt && since >= this.#floor
  }

  place(): number {
    return ++this.#at
  }

  stands(journal: Journal, name: string, since: number): boolean {
    return this.#isKnown(journal, since) && !((journal.recent.get(name) ?? 0) > since)
  }

  allStand(journal: Journal, names: readonly string[], since: number): boolean {
    if (!this.#isKnown(journal, since)) return false
    for (const name of names) if ((journal.recent.get(name) ?? 0) > since) return false
    return true
  }

  /** Whether a value that was read at the place may become a copy. */
  admits(journal: Journal, name: string, since: number): boolean {
    return since >= this.#readFloor && this.stands(journal, name, since)
  }

  isProven(within: number): boolean {
    if (within >= LEAST_PUSHED) this.#isUsed = true
    // A question that was sent at the same reading of the clock may be older than a change that a read has to see.
    return this.source === undefined || this.clock.now() - this.#provenAt < within
  }

  /** ms since the question was sent that proves the present knowledge. */
  proofAge(): number {
    return this.source === undefined ? 0 : this.clock.now() - this.#provenAt
  }

  /** Resolves with `true` once all changes are known that had been acknowledged when it was called. */
  prove(): MaybePromise<boolean> {
    const { source } = this
    if (source === undefined) return true
    this.#next ??= new Promise((resolve, reject) => {
      // Calls of one tick share a question. It is sent after each of them began.
      nextTick(() => {
        this.#next = undefined
        this.#ask(source).then(() => resolve(true), reject)
      })
    })
    return this.#next
  }

  /** This process changed names, or tried to and does not know the outcome. */
  changed(id: string, names: readonly string[], step?: JournalStep): void {
    const journal = this.#journals.get(id)
    if (journal === undefined) return
    this.#note(journal, names)
    if (step !== undefined && this.#continues(journal, step)) journal.time = timeOf(step)
  }

  /** A message of another process arrived. `names` is absent if there were too many. */
  received(id: string, names: readonly string[] | undefined, step: JournalStep): void {
    const journal = this.#journals.get(id)
    if (journal === undefined) return
    const { time } = journal
    const isSameClock = step.server === this.#server && step.epoch === time?.epoch
    if (isSameClock && step.at <= (time as LedgerTime).at) return
    if (names !== undefined) this.#note(journal, names)
    if (names !== undefined && this.#continues(journal, step)) journal.time = timeOf(step)
    else this.catchUp()
  }

  /** Asks in the background, one question after another: messages may have been lost, or the proof is old. */
  catchUp(): void {
    if (this.#members.length === 0 || this.#isClosed) return
    // A question that is under way may have been sent before the change.
    if (this.#isCatchingUp) {
      this.#isBehind = true
      return
    }
    this.#isCatchingUp = true
    this.#isBehind = false
    const done = () => {
      this.#isCatchingUp = false
      if (this.#isBehind) this.catchUp()
    }
    const proof = this.prove()
    if (isPromise(proof)) proof.then(done, done)
    else done()
  }

  /** The connection was lost. The reads under way may be sent again, in another order. */
  disconnected(): void {
    this.#readFloor = ++this.#at
  }

  join(maxStaleness: number): () => void {
    if (this.#isClosed) return () => {}
    this.#members.push(maxStaleness)
    if (this.#members.length === 1) this.source?.listen?.(true)
    if (this.source !== undefined) this.#beat()
    let left = false
    return () => {
      if (left) return
      left = true
      this.#members.splice(this.#members.indexOf(maxStaleness), 1)
      if (this.#members.length === 0) this.#rest()
    }
  }

  /** The store closes, whether or not each near cache has left. */
  close(): void {
    this.#isClosed = true
    this.#rest()
  }

  #rest(): void {
    clearTimeout(this.#timer)
    this.source?.listen?.(false)
  }

  #isKnown({ from, time }: Journal, since: number): boolean {
    // Written so that the mark of a copy that lost its place is not known.
    if (!(since >= this.#floor && since >= from)) return false
    return this.source === undefined || time !== undefined
  }

  #note(journal: Journal, names: readonly string[]): void {
    const { recent } = journal
    const at = ++this.#at
    journal.movedAt = Math.max(journal.movedAt, at)
    for (const name of names) {
      recent.delete(name)
      recent.set(name, at)
    }
    if (recent.size <= KEPT) return
    let excess = recent.size - KEPT / 2
    for (const [name, place] of recent) {
      if (excess-- <= 0) break
      recent.delete(name)
      this.#floor = Math.max(this.#floor, place)
    }
  }

  /** Whether a step begins where the changes that are known end. */
  #continues({ time }: Journal, { server, epoch, before }: JournalStep): boolean {
    return server !== undefined && server === this.#server && time?.epoch === epoch && time.at === before
  }

  async #ask(source: JournalSource): Promise<void> {
    // The reply proves nothing about later changes, however long it is under way.
    const sentAt = this.clock.now()
    const journals = [...this.#journals.values()]
    const positions = journals.map(({ id, time }) => ({ journal: id, since: time }))
    const { server, journals: replies } = await source.pull(positions)
    const isGap = positions.some(({ since }, i) => !isContinued(since, replies[i]))
    if (server !== this.#server || isGap) this.#forget()
    this.#server = server
    journals.forEach((journal, i) => {
      const reply = replies[i]
      if (reply !== undefined) this.#apply(journal, positions[i]?.since, reply)
    })
    this.#provenAt = Math.max(this.#provenAt, sentAt)
  }

  #apply(journal: Journal, since: LedgerTime | undefined, { now, changed }: JournalChanges): void {
    // A question without a time is told of no changes, though another reply may have come since it was sent.
    if (journal.time === undefined || since === undefined) {
      journal.time = now
      // No copy that is here, and no read that is under way, can be judged by what is known from now on.
      journal.from = ++this.#at
      journal.movedAt = journal.from
      return
    }
    const { at } = journal.time
    const later = changed.filter((change) => change.at > at).map(({ name }) => name)
    if (later.length > 0) this.#note(journal, later)
    if (now.at > at) journal.time = now
  }

  /** Everything that is known may be wrong or incomplete. */
  #forget(): void {
    for (const journal of this.#journals.values()) {
      journal.time = undefined
      journal.movedAt = Number.POSITIVE_INFINITY
      journal.recent.clear()
    }
  }

  #beat(): void {
    clearTimeout(this.#timer)
    // A near cache with a shorter bound proves each read by itself.
    const pushed = this.#members.filter((bound) => bound >= LEAST_PUSHED)
    const pause = Math.min(RENEW, ...pushed.map((bound) => bound / 4))
    const isDue = this.#isUsed || this.clock.now() - this.#provenAt >= RENEW
    this.#isUsed = false
    if (isDue) this.catchUp()
    this.#timer = setTimeout(() => this.#beat(), pause)
    this.#timer.unref()
  }
}

/** Whether a reply tells every change since the time that was asked about. */
function isContinued(since: LedgerTime | undefined, reply: JournalChanges | undefined): boolean {
  if (since === undefined) return true
  if (reply === undefined) return false
  const { now, floor } = reply
  if (now.epoch !== since.epoch || now.at < since.at) return false
  return now.at === since.at || floor <= since.at
}

function timeOf({ epoch, at }: JournalStep): LedgerTime {
  return { epoch, at }
}

interface MirrorTailOptions {
  /** The journal of keys. */
  readonly keys: string
  /** The journal of names. */
  readonly names: string
  /** The name of a key in its journal. */
  readonly nameOf?: (key: string) => string
  /** Whether the names are told as they are. */
  readonly areTold?: (names: readonly string[]) => boolean
}

/** The tail of a ledger, by a mirror of the journals of keys and of names. */
export function mirrorTail(
  mirror: Mirror,
  { keys: keysId, names: namesId, nameOf = (key) => key, areTold = () => true }: MirrorTailOptions,
): LedgerTail {
  const [keys, names] = [mirror.follow(keysId), mirror.follow(namesId)]
  return {
    place: () => mirror.place(),
    keyStands(key, mark) {
      if (mirror.isUnmoved(keys, mark.key)) return true
      if (!mirror.stands(keys, nameOf(key), mark.key)) return false
      mark.key = mirror.latest
      return true
    },
    namesStand(list, mark) {
      if (mirror.isUnmoved(names, mark.names)) return true
      if (!mirror.allStand(names, list, mark.names) || !areTold(list)) return false
      mark.names = mirror.latest
      return true
    },
    admits: (key, since) => mirror.admits(keys, nameOf(key), since),
    filled: (key) => mirror.changed(keysId, [nameOf(key)]),
    isProven: (within) => mirror.isProven(within),
    proofAge: () => mirror.proofAge(),
    prove: () => mirror.prove(),
    catchUp: () => mirror.catchUp(),
    join: (maxStaleness) => mirror.join(maxStaleness),
  }
}
