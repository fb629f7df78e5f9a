import type { MaybePromise } from '../../src/base/maybe-promise.js'
import { bindLedger, type Freshness, type Ledger, type OpenLedger } from '../../src/ledger/ledger.js'
import type { DependencySnapshot } from '../../src/ledger/snapshot.js'
import { validate } from '../../src/ledger/validate.js'

/** The verdict of a ledger that must be there. */
export function judge(
  ledger: Ledger | undefined,
  clock: string,
  snapshot: DependencySnapshot,
): MaybePromise<Freshness> {
  if (ledger === undefined) throw new Error('Expected a ledger.')
  return validate(ledger.open(clock), snapshot)
}

/** A ledger with some of its operations replaced. It gives no time at hand, so that every verdict asks `read`. */
export function withOperations(ledger: Ledger, change: (opened: OpenLedger) => Partial<OpenLedger>): Ledger {
  return {
    shared: ledger.shared,
    open: (clock) => {
      const { time: _, ...opened } = bindLedger(ledger.open(clock))
      return { ...opened, ...change(opened) }
    },
  }
}
