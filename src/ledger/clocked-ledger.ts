import type { MaybePromise } from '../base/maybe-promise.js'
import type { Freshness, InvalidationMode, Ledger, LedgerReading } from './ledger.js'
import type { DependencySnapshot, LedgerTime } from './snapshot.js'

/** A ledger whose every operation names its clock. */
export interface ClockedLedger {
  readonly shared: boolean
  use?(clock: string): void
  read(clock: string, names: readonly string[]): MaybePromise<LedgerReading>
  now(clock: string, names: readonly string[]): MaybePromise<LedgerTime>
  judge(clock: string, snapshot: DependencySnapshot): MaybePromise<Freshness>
  invalidate(clock: string, names: readonly string[], mode: InvalidationMode): MaybePromise<void>
}

/** Binds such a ledger to a clock. */
export function openable(ledger: ClockedLedger): Ledger {
  return {
    shared: ledger.shared,
    open: (clock) => {
      ledger.use?.(clock)
      return {
        storeClock: clock,
        read: (names) => ledger.read(clock, names),
        now: (names) => ledger.now(clock, names),
        invalidate: (names, mode) => ledger.invalidate(clock, names, mode),
        restore: (snapshot) => ledger.judge(clock, snapshot),
      }
    },
  }
}
