import type { Ledger } from '../../src/ledger/ledger.js'
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
  return {
    ledger: {
      shared: ledger.shared,
      open(clock) {
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
      },
    },
    keyChanged: (key) => mirror?.changed(KEYS, [key]),
  }
}
