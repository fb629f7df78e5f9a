import { failureLog, report } from '../base/diagnostics.js'
import { clearTimeout, setTimeout } from '../base/timers.js'
import type { InvalidationMode } from '../ledger/ledger.js'

/**
 * Invalidations that failed: a store behind a network cannot promise that each gets through. Until a failed one has been
 * repeated, its keys are hidden from this process, so that no caller reads an invalidated value. For authors of backends:
 *
 * ```ts
 * const recovery = new Recovery({ max: 10_000, name: 'mine', store })
 * await recovery.watch(key, store.delete(key)) // rejects as before; the key is remembered
 * if (recovery.hides(key)) return undefined // a miss
 * ```
 */
interface RecoveryOptions {
  /** The store's name, for reports. */
  readonly name: string
  /** Invalidations to remember; 0 remembers none. */
  readonly max: number
  readonly store: RecoveryStore
  /** Called once a key is hidden, or everything because of names: copies from before must not be served any more. */
  readonly hidden?: CopiesOfHidden | undefined
}

/** Copies of a store's values, which a failed invalidation makes wrong. */
interface CopiesOfHidden {
  key(key: string): void
  names(clock: string, names: readonly string[]): void
}

/** The operations that are repeated once the store replies. */
interface RecoveryStore {
  /** Returns, for each key, the error that kept it from being deleted. */
  deleteMulti(keys: readonly string[]): Promise<readonly (Error | undefined)[]>
  invalidate(clock: string, names: readonly string[], mode: InvalidationMode): Promise<void>
  /** Loses a clock on purpose: every older entry is a miss, for all processes. */
  dropClock(clock: string): Promise<void>
  /** Whether an error means that no server replied; otherwise the store refused the operation. */
  isUnreachable(error: unknown): boolean
}

interface FailedNames {
  readonly clock: string
  readonly names: readonly string[]
  readonly mode: InvalidationMode
}

/** ms between attempts. */
const RETRY = 1_000
/** ms between attempts when the store refuses all that is left; it refuses until its configuration changes. */
const MAX_RETRY = 30_000
/** Keys in one attempt. */
const BATCH = 500

/**
 * If more than `max` invalidations fail, the oldest are kept, and the clocks of the store are dropped once it replies. That
 * invalidates every older entry. Without a clock nothing could replace a dropped invalidation, so all are kept.
 */
export class Recovery {
  /** Each with the number of its latest failure: a key that fails again during a repetition must be repeated again. */
  readonly #keys = new Map<string, number>()
  readonly #names = new Set<FailedNames>()
  /** The clocks of all chains over the store. */
  readonly #clocks = new Set<string>()
  #failures = 0
  /** The number of the latest failure that was not remembered; 0 if all are. */
  #overflow = 0
  #pause = RETRY
  #replaying: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #closed = false
  /** Attempts fail every second while the store is away. */
  readonly #attempts = failureLog()
  /** Whether the store refused the last attempt; `undefined` unless it failed. */
  #wasRefused: boolean | undefined

  constructor(readonly options: RecoveryOptions) {}

  addClock(clock: string): void {
    this.#clocks.add(clock)
  }

  /** Whether reads of the key are misses: an invalidation of it, or of names or of too many keys, has not reached the store. */
  hides(key: string): boolean {
    return this.isBlind || this.#keys.has(key)
  }

  /** Whether an invalidation of this very key has not reached the store. */
  hasFailed(key: string): boolean {
    return this.#keys.has(key)
  }

  /** Whether every read is a miss. */
  get isBlind(): boolean {
    return this.#overflow > 0 || this.#names.size > 0
  }

  get size(): number {
    return this.#keys.size + this.#names.size + (this.#overflow > 0 ? 1 : 0)
  }

  /** A moment to note before an invalidation is attempted. */
  get failures(): number {
    return this.#failures
  }

  /** An attempt that began at `since` got through. It replaces those that had failed before it began. */
  succeeded(key: string, since: number): void {
    if ((this.#keys.get(key) ?? Number.POSITIVE_INFINITY) <= since) this.#keys.delete(key)
  }

  failedKey(key: string): void {
    if (this.#failed() && (this.#keys.has(key) || this.#hasRoom())) this.#keys.set(key, this.#failures)
    this.options.hidden?.key(key)
  }

  failedNames(clock: string, names: readonly string[], mode: InvalidationMode): void {
    if (this.#failed() && this.#hasRoom()) this.#names.add({ clock, names, mode })
    this.options.hidden?.names(clock, names)
  }

  /** The outcome of the work. If it fails, its key counts as not invalidated. */
  async watch<T>(key: string, work: T | PromiseLike<T>): Promise<T> {
    try {
      return await work
    } catch (error) {
      this.failedKey(key)
      throw error
    }
  }

  /** Tries now. Resolves after the attempt, whether or not it succeeded. */
  replay(): Promise<void> {
    if (this.size === 0) return Promise.resolve()
    this.#replaying ??= this.#repeat()
      .then(
        (refused) => {
          this.#pause = refused !== undefined && !this.isBlind ? Math.min(this.#pause * 2, MAX_RETRY) : RETRY
          if (refused !== undefined) this.#report(refused, true)
          else this.#done()
        },
        (error: unknown) => this.#report(error, false),
      )
      .finally(() => {
        this.#replaying = undefined
        if (this.size > 0) this.#later()
      })
    return this.#replaying
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
  }

  #failed(): boolean {
    if (this.options.max === 0) return false
    this.#failures++
    if (this.#pause > RETRY) {
      // The store refused the others. This one may get through at once.
      clearTimeout(this.#timer)
      this.#timer = undefined
      this.#pause = RETRY
    }
    this.#later()
    return true
  }

  #hasRoom(): boolean {
    const { max } = this.options
    if (this.#keys.size + this.#names.size < max || this.#clocks.size === 0) return true
    if (this.#overflow === 0)
      this.#notice(`more than ${max} invalidations failed: all reads are misses until they are repeated`)
    this.#overflow = this.#failures
    return false
  }

  #later(): void {
    if (this.#closed || this.#timer !== undefined) return
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      void this.replay()
    }, this.#pause)
    this.#timer.unref()
  }

  /** Returns an error of the store if it refused anything. @throws if the store is unreachable. */
  async #repeat(): Promise<Error | undefined> {
    const { store } = this.options
    let refused: Error | undefined
    const isDone = async (work: Promise<void>): Promise<boolean> => {
      try {
        await work
        return true
      } catch (error) {
        if (store.isUnreachable(error)) throw error
        refused = error as Error
        return false
      }
    }
    const keys = [...this.#keys.keys()]
    for (let i = 0; i < keys.length; i += BATCH)
      refused = (await this.#deleteMulti(keys.slice(i, i + BATCH))) ?? refused
    for (const failed of [...this.#names])
      if (await isDone(store.invalidate(failed.clock, failed.names, failed.mode))) this.#names.delete(failed)
    if (this.#overflow > 0) {
      const since = this.#failures
      let dropped = true
      for (const clock of this.#clocks) dropped = (await isDone(store.dropClock(clock))) && dropped
      if (dropped && this.#overflow <= since) this.#overflow = 0
    }
    return refused
  }

  /** A store may delete all keys of a batch or none: one key that it refuses must not hold up the others. */
  async #deleteMulti(keys: readonly string[]): Promise<Error | undefined> {
    const { store } = this.options
    const since = this.#failures
    const errors = await store.deleteMulti(keys)
    let refused: Error | undefined
    let unreachable: Error | undefined
    for (const [i, key] of keys.entries()) {
      const error = errors[i]
      if (error === undefined) this.succeeded(key, since)
      else if (store.isUnreachable(error)) unreachable = error
      else if (unreachable === undefined)
        refused = keys.length === 1 ? error : ((await this.#deleteMulti([key])) ?? refused)
    }
    if (unreachable !== undefined) throw unreachable
    return refused
  }

  /** A store that was away and refuses now has changed its state, and so has the reverse. */
  #report(error: unknown, isRefused: boolean): void {
    if (this.#wasRefused !== isRefused) this.#attempts.over()
    this.#wasRefused = isRefused
    this.#attempts.failed(() => ({ where: `${this.options.name} recovery`, error }))
  }

  #done(): void {
    this.#wasRefused = undefined
    this.#attempts.over()
    this.#notice('invalidations that had failed were repeated')
  }

  #notice(message: string): void {
    report('notice', () => ({ where: `${this.options.name} recovery`, message }))
  }
}
