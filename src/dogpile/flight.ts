import { addAbort, removeAbort } from '../base/aborts.js'
import { report } from '../base/diagnostics.js'
import { CorralError } from '../base/errors.js'
import { isPromise, type MaybePromise, orElse } from '../base/maybe-promise.js'
import { clearTimeout, performance, setImmediate, setTimeout } from '../base/timers.js'
import type { CreationNode, Scope } from '../creation/scope.js'
import { addWait } from '../creation/wait-graph.js'
import type {
  CreationFailure,
  Deadlines,
  FillResult,
  Lookup,
  Renewed,
  RunOptions,
  Standing,
} from './types.js'

/** How long a caller waits for another caller's creation. */
export interface Limits<V = never> extends Pick<RunOptions<V>, 'fallsBack' | 'onFailed'> {
  /** ms; Infinity: no limit. */
  readonly wait: number
  /** The same as a moment of `performance.now()`. */
  readonly deadline: number
  /** The moment at which the caller stops waiting for another process and starts over; Infinity: never. */
  readonly patience: number
  readonly signal?: AbortSignal | undefined
  /** Absent for a caller without deadlines of its own. */
  readonly late?: Late<V> | undefined
}

/** The deadlines of a caller's own, at which it reads the key again. */
interface Late<V> extends Deadlines {
  readonly readAgain: (key: string) => MaybePromise<Lookup<V> | undefined>
  /** Called before the caller leaves with a value that stands: the creation goes on, so another waiter takes its place. */
  readonly leave: (flight: Flight<V>) => void
}

/** ms beyond a hard deadline for the store to return the value that stands. */
export const ALLOWANCE = 25

interface Waiter<V> {
  readonly resolve: (result: Renewed<V> | undefined) => void
  readonly reject: (error: unknown) => void
  readonly limits: Limits<V>
  readonly leads: boolean
  /** After so many reads of the flight. */
  readonly joined: number
  readonly endWait: (() => void) | undefined
  readonly abort: (() => void) | undefined
  /** The deadline at which it has read the key again. */
  asked: 'soft' | 'hard' | undefined
}

/** Ends the wait of one caller with an error. */
export type Leave = (error: unknown) => void

type Settle<V> = (waiter: Pick<Waiter<V>, 'resolve' | 'reject' | 'limits' | 'joined' | 'leads'>) => void

/** A creation that the callers of this process share. */
export class Flight<V> {
  readonly key: string
  readonly node: CreationNode
  /** Takes joiners until its fill is sent: after that an invalidation could be acknowledged that a joiner does not see. */
  open = true
  /** Its creator runs. */
  creating = false
  /** That of its creation, once there is one. */
  scope: Scope | undefined
  /** How often it has read the store, or asked it for a lease. */
  readCount = 0
  /** The caller that leads, while it waits, and the others. Most flights have no others. */
  #leader: Waiter<V> | undefined
  #joined: Set<Waiter<V>> | undefined
  /** Made when something reads the signal: nearly no creator does. */
  #abandoned: AbortController | undefined
  #reason: { readonly abort: unknown } | undefined
  /** One timer for all waiters, set for the earliest deadline: a thousand joiners must not cost a thousand timers. */
  #timer: NodeJS.Timeout | undefined
  #armedFor = Number.POSITIVE_INFINITY
  /** The waiters with deadlines of their own, which keep the process running. */
  #late = 0
  #ended: Settle<V> | undefined
  #moment: { readonly readCount: number; readonly at: number } | undefined
  /** No caller may try: a creation failed not long ago. */
  isHeldBack = false
  /** A waiter stands in for callers that took a value that stood. */
  isAttended = false
  readonly #listedIn: Map<string, Flight<V>> | undefined

  /** @param listedIn - where callers find the flight to join it; it leaves the list when it is closed */
  constructor(key: string, node: CreationNode, listedIn?: Map<string, Flight<V>>) {
    this.key = key
    this.node = node
    this.#listedIn = listedIn?.set(key, this)
  }

  /** Aborted when the last waiter gives up. */
  get abandoned(): AbortSignal {
    if (this.#abandoned === undefined) {
      this.#abandoned = new AbortController()
      if (this.#reason !== undefined) this.#abandoned.abort(this.#reason.abort)
    }
    return this.#abandoned.signal
  }

  get ended(): boolean {
    return this.#ended !== undefined
  }

  /**
   * The same object for all callers to whom it makes no difference which of them joins. `undefined`: it takes no joiners.
   * @param since - a moment of `performance.now()`: deadlines of callers before that are too early for a caller of now
   */
  moment(since: number): object | undefined {
    if (!this.open) return undefined
    const { readCount } = this
    if (this.#moment?.readCount !== readCount || this.#moment.at < since)
      this.#moment = { readCount, at: performance.now() }
    return this.#moment
  }

  /** Takes no joiners any more, and no caller finds it. */
  close(): void {
    this.open = false
    if (this.#listedIn?.get(this.key) === this) this.#listedIn.delete(this.key)
  }

  /**
   * Ends with a value. A value that was not stored is only for callers that joined before the read number `readCount` of
   * the store: for a later caller an invalidation may have come in between. The later ones start over. So do all but the
   * leader if the value is its own.
   */
  complete(value: V, filled: FillResult, readCount = this.readCount): void {
    this.close()
    const shared = filled === 'stored' || filled === 'withheld'
    const result = { value, filled }
    const own = filled === 'own'
    this.#end(({ resolve, joined, leads }) =>
      resolve((shared || joined < readCount) && (!own || leads) ? result : undefined),
    )
  }

  /**
   * Returns whether a caller got the error.
   * @param found - the key as it was read after the failure, for callers that fall back to it
   * @param isAnswer - `false`: the creation was given up, so the error says nothing about the source
   */
  fail(error: unknown, found?: Lookup<V>, isAnswer = true): boolean {
    let isHeard = false
    this.close()
    this.#end(({ resolve, reject, limits, leads }) => {
      if (isFallback(limits, found, isAnswer ? { error, leads } : undefined, this.key))
        return resolve({ value: found.value, filled: 'lost' })
      isHeard = true
      reject(error)
    })
    return isHeard
  }

  /** Every caller gave up, so that a failure says nothing about the source. */
  get wasAbandoned(): boolean {
    return this.#reason !== undefined
  }

  /** Gives a creation up that does not end. Its result is void. */
  abandon(error: unknown, found?: Lookup<V>): void {
    this.#abandon(error)
    this.fail(error, found, false)
  }

  /** All waiters start over. The flight is still listed until it is closed. */
  retry(): void {
    this.open = false
    this.#end(({ resolve }) => resolve(undefined))
  }

  /**
   * Resolves with the value, within the caller's limits; `undefined`: the caller has to start over. The deadline does not run against a caller's own creator.
   * @param leaves - receives the way to end the wait
   * @throws CorralError `ERR_WAIT_TIMEOUT` at the deadline; the signal's reason when it is aborted.
   */
  wait(limits: Limits<V>, leads: boolean, leaves?: Leave[]): Promise<Renewed<V> | undefined> {
    return new Promise((resolve, rejectCaller) => {
      const { onFailed } = limits
      // Every end of a wait without a value: the caller may go on, and store what it makes of the failure.
      const reject = (error: unknown): void => {
        onFailed?.(error, this.scope?.handUp)
        rejectCaller(error)
      }
      if (this.#ended !== undefined)
        return this.#ended({ resolve, reject, limits, joined: this.readCount, leads })
      const { signal } = limits
      if (signal?.aborted) {
        reject(signal.reason)
        if (this.#isForsaken()) this.#abandon(signal.reason)
        return
      }
      const waiter: Waiter<V> = {
        resolve,
        reject,
        limits,
        leads,
        joined: this.readCount,
        endWait: addWait(this.node),
        abort: signal && (() => this.#giveUp(waiter, signal.reason)),
        asked: undefined,
      }
      if (signal !== undefined && waiter.abort !== undefined) addAbort(signal, waiter.abort)
      if (leads) this.#leader = waiter
      else (this.#joined ??= new Set()).add(waiter)
      if (limits.late !== undefined) {
        this.#late++
        // The timer may stand already, for waiters that keep nothing running.
        this.#timer?.ref()
      }
      leaves?.push((error) => {
        if (this.#waits(waiter)) this.#giveUp(waiter, error, rejectCaller)
      })
      // The deadline of a leader counts only while it waits for a store or another process: then `watch` sets the timer.
      if (!leads || limits.late !== undefined) this.#arm(this.#endOf(waiter))
    })
  }

  /** The store or another process takes its time: from now on the leader's deadline counts. */
  watch(): void {
    for (const waiter of this.#waiters()) this.#arm(this.#endOf(waiter))
  }

  /** Every caller that still waits. */
  #waiters(): readonly Waiter<V>[] {
    const joined = this.#joined === undefined ? [] : [...this.#joined]
    return this.#leader === undefined ? joined : [this.#leader, ...joined]
  }

  #waits(waiter: Waiter<V>): boolean {
    return this.#leader === waiter || this.#joined?.has(waiter) === true
  }

  #isForsaken(): boolean {
    return this.#leader === undefined && !this.#joined?.size
  }

  /** When a waiter has something to do next. */
  #endOf({ limits: { deadline, patience, late }, asked, leads }: Waiter<V>): number {
    const never = Number.POSITIVE_INFINITY
    const softAt = late === undefined || asked !== undefined ? never : late.softAt
    // A leader that creates does not wait: `lease.wait` does not apply to it, and its own `hardTimeout` does.
    const isOver = asked === 'hard' || (leads && this.creating && late !== undefined && !isHard(late))
    return Math.min(isOver ? never : deadline, softAt, this.creating ? never : patience)
  }

  #giveUp(waiter: Waiter<V>, error: unknown, settle: (error: unknown) => void = waiter.reject): void {
    part(waiter)
    if (this.#leader === waiter) this.#leader = undefined
    this.#joined?.delete(waiter)
    settle(error)
    if (waiter.limits.late !== undefined && --this.#late === 0) this.#timer?.unref()
    if (!this.#isForsaken()) return
    clearTimeout(this.#timer)
    this.#abandon(error)
  }

  #abandon(reason: unknown): void {
    // A caller that comes now must not join a creation that is being called off.
    this.open = false
    this.#reason ??= { abort: reason }
    this.#abandoned?.abort(reason)
  }

  #arm(deadline: number): void {
    if (deadline >= this.#armedFor) return
    clearTimeout(this.#timer)
    this.#armedFor = deadline
    const delay = Math.max(deadline - performance.now(), 0)
    this.#timer = setTimeout(() => this.#expire(), delay)
    // A creation that hangs must not keep the process running. The wait for another process does: its store sees to that.
    if (this.#late === 0) this.#timer.unref()
  }

  #expire(): void {
    this.#armedFor = Number.POSITIVE_INFINITY
    const now = performance.now()
    for (const waiter of this.#waiters()) {
      const { deadline, patience, wait, late } = waiter.limits
      if (patience <= now && !this.creating) {
        this.#giveUp(waiter, waitTimeout(this.key, wait), () => waiter.resolve(undefined))
      } else if (late !== undefined && isHard(late) && deadline <= now) this.#readAgain(waiter, late, 'hard')
      else if (deadline <= now && !(waiter.leads && this.creating))
        this.#giveUp(waiter, waitTimeout(this.key, wait))
      else if (late !== undefined && late.softAt <= now) this.#readAgain(waiter, late, 'soft')
    }
    // No spread: there may be more waiters than arguments.
    let next = Number.POSITIVE_INFINITY
    for (const waiter of this.#waiters()) {
      const end = this.#endOf(waiter)
      if (end > now && end < next) next = end
    }
    this.#arm(next)
  }

  /** A caller that is late takes the value that stands by now. Without one it goes on to wait until its deadline. */
  #readAgain(waiter: Waiter<V>, late: Late<V>, asked: 'soft' | 'hard'): void {
    if (waiter.asked === asked || waiter.asked === 'hard') return
    waiter.asked = asked
    const waits = () => this.#waits(waiter)
    const decide = (found: Lookup<V> | undefined) => {
      clearTimeout(timer)
      if (!waits()) return
      if (isFallback(waiter.limits, found, undefined, this.key)) {
        late.leave(this)
        this.#giveUp(waiter, undefined, () => waiter.resolve({ value: found.value, filled: 'lost' }))
      } else if (asked === 'hard')
        this.#giveUp(waiter, creationTimeout(this.key, late.hardTimeout, late.trouble))
    }
    let timer: NodeJS.Timeout | undefined
    // A value that arrived while the process was busy is not late.
    setImmediate(() => {
      if (!waits()) return
      const reading = orElse(
        () => late.readAgain(this.key),
        () => undefined,
      )
      if (!isPromise(reading)) return decide(reading)
      if (asked === 'hard') timer = setTimeout(() => decide(undefined), ALLOWANCE)
      void reading.then(decide)
    })
  }

  #end(settle: Settle<V>): void {
    if (this.#ended !== undefined) return
    this.#ended = settle
    if (this.#timer !== undefined) clearTimeout(this.#timer)
    for (const waiter of this.#waiters()) {
      part(waiter)
      settle(waiter)
    }
    this.#leader = undefined
    this.#joined = undefined
  }
}

/** Whether a caller has a deadline of its own. Without one, `lease.wait` bounds its wait. */
export function isHard({ hardAt }: Pick<Deadlines, 'hardAt'>): boolean {
  return hardAt < Number.POSITIVE_INFINITY
}

function part<V>({ endWait, abort, limits }: Waiter<V>): void {
  endWait?.()
  if (limits.signal !== undefined && abort !== undefined) removeAbort(limits.signal, abort)
}

/** The one decision about a value that stands: does this caller take it instead of a new one? */
function isFallback<V>(
  { fallsBack }: Limits<V>,
  found: Lookup<V> | undefined,
  failure: CreationFailure | undefined,
  key: string,
): found is Standing<V> {
  if (found === undefined || found.state === 'missing' || fallsBack === undefined) return false
  try {
    return fallsBack(found, failure, key)
  } catch (error) {
    // It is the caller's own with `corral/dogpile`: its failure must not leave other callers waiting.
    report('failure', () => ({ where: 'fallsBack', key, error }))
    return false
  }
}

/** The error of a caller at its deadline, or of one whose creation was given up. */
export function creationTimeout(key: string, ms: number, trouble?: () => unknown): CorralError {
  return new CorralError(
    'ERR_CREATION_TIMEOUT',
    `Expected a value for '${key}' within ${ms} ms, got none, and none stands. Look why its creator, the store or another process takes so long, or raise the timeout.`,
    { cause: trouble?.() },
  )
}

function waitTimeout(key: string, wait: number): CorralError {
  return new CorralError(
    'ERR_WAIT_TIMEOUT',
    `Waited ${wait} ms for another caller to create '${key}'. Raise \`lease.wait\`, or look why its creator takes so long.`,
  )
}
