import type { Backend } from '../../src/backend/backend.js'
import { delegate } from '../../src/backend/delegate.js'
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

/** A backend whose ledger keeps no marks: names stay as they are until they are invalidated. */
export function withoutMarks<T>(backend: Backend<T>): Backend<T> {
  const { ledger } = backend
  if (ledger === undefined) throw new Error('Expected a ledger.')
  const unmarked: Ledger = {
    shared: ledger.shared,
    open: (clock) => ({ ...bindLedger(ledger.open(clock)), pending: undefined }),
  }
  return delegate(backend, { ledger: unmarked }, true)
}
