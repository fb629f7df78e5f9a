import type { MaybePromise } from '../base/maybe-promise.js'
import type { Freshness, InvalidationMode } from '../ledger/ledger.js'
import type { DependencySnapshot, LedgerTime } from '../ledger/snapshot.js'
import type { CachedValue } from './cached-value.js'

/**
 * The dependency tracking that a chain offers to its region.
 * @example
 * ```ts
 * import type { Backend } from 'corral'
 *
 * export const isTracked = ({ tracker }: Backend) => tracker?.tracksDependencies === true
 * ```
 */
export interface Tracker {
  /** Whether the chain was asked to track dependencies, and not only its region as a whole. */
  readonly tracksDependencies: boolean
  readonly shared: boolean
  /** Creates a registry of calls. Each region has its own: over one chain a key may belong to several, under prefixes. */
  readonly calls?: (() => CallRegistry) | undefined
  /** The time to take before data is loaded, which then depends on `names`. */
  asOf(names: readonly string[]): MaybePromise<LedgerTime>
  invalidate(names: readonly string[], mode: InvalidationMode, transaction?: string): MaybePromise<void>
  /** Marks the names that a transaction is about to change, where the ledger keeps marks: `OpenLedger.pending`. */
  pending?:
    | ((names: readonly string[], mode: InvalidationMode, transaction: string) => MaybePromise<number>)
    | undefined
  validate(snapshot: DependencySnapshot): MaybePromise<Freshness>
  /** For explanations: the stored entry, current or not, and those of its names that were invalidated since. */
  inspect(
    key: string,
  ): MaybePromise<{ readonly entry: CachedValue | undefined; readonly invalidatedNames: readonly string[] }>
}

/** The calls of cached functions by the names that they declared before they ran, so that they can be repeated. */
export interface CallRegistry {
  /** `repeat` resolves with `false` if the new value could not be stored, so that the older one still stands. */
  record(key: string, names: readonly string[], repeat: () => Promise<boolean>): void
  /** The keys of the calls that declared one of the names. */
  keys(names: readonly string[]): readonly string[]
  /**
   * Repeats the calls whose values are still stored. Rejects with the first failure, once all have ended.
   * @param onDemand - receives a function that repeats the call of a key before its turn
   */
  repeat(
    keys: readonly string[],
    values: {
      getMulti(keys: readonly string[], options: { readonly ignoreExpiration: true }): Promise<unknown[]>
    },
    onDemand: (start: (key: string) => void) => void,
  ): Promise<void>
}
