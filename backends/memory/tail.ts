import type { Ledger, OpenLedger } from '../../src/ledger/ledger.js'
import { memoryLedger } from '../../src/ledger/memory-ledger.js'
import { Mirror, mirrorTail } from '../../src/ledger/mirror.js'
import type { LedgerTail } from '../../src/ledger/tail.js'

/** The journal of keys, among those of clocks. */
const KEYS = ''

/** A ledger in memory that also tells near caches what changed. Every change is made here, so they hear of it in its own step. */
export function ledgerWithTail(): { readonly ledger: Ledger; keyChanged(key: string): void } {
  const ledger = memoryLedger()
  let mirror: Mirror | undefined
  const tail = (clock: string): LedgerTail => {
    mirror ??= new Mirror()
    return mirrorTail(mirror, { keys: KEYS, names: clock })
  }
  const open = (clock: string): OpenLedger => {
    const opened = ledger.open(clock)
    return {
      ...opened,
      invalidate(names, ...rest) {
        mirror?.changed(clock, names)
        return opened.invalidate(names, ...rest)
      },
      pending(names, ...rest) {
        mirror?.changed(clock, names)
        return opened.pending?.(names, ...rest) ?? 0
      },
      tail: () => tail(clock),
    }
  }
  // Every grant of a lease opens the ledger.
  const clocks = new Map<string, OpenLedger>()
  return {
    ledger: {
      shared: ledger.shared,
      open(clock) {
        let found = clocks.get(clock)
        if (found === undefined) clocks.set(clock, (found = open(clock)))
        return found
      },
    },
    keyChanged: (key) => mirror?.changed(KEYS, [key]),
  }
}
