import type { Ledger } from '../../src/ledger/ledger.js'
import { memoryLedger } from '../../src/ledger/memory-ledger.js'
import { Mirror } from '../../src/ledger/mirror.js'
import type { LedgerTail } from '../../src/ledger/tail.js'

/** The journal of keys, among those of clocks. */
const KEYS = ''

/** A ledger in memory that also tells near caches what changed. Every change is made here, so they hear of it in its own step. */
export function ledgerWithTail(): { readonly ledger: Ledger; keyChanged(key: string): void } {
  const ledger = memoryLedger()
  let mirror: Mirror | undefined
  const tail = (clock: string): LedgerTail => {
    const found = (mirror ??= new Mirror())
    found.follow(KEYS)
    found.follow(clock)
    return {
      place: () => found.place(),
      keyStands: (key, since) => found.stands(KEYS, key, since),
      namesStand: (names, since) => found.allStand(clock, names, since),
      admits: (key, since) => found.admits(KEYS, key, since),
      filled: (key) => found.changed(KEYS, [key]),
      isProven: () => true,
      proofAge: () => 0,
      prove: () => true,
      catchUp: () => {},
      join: () => () => {},
    }
  }
  return {
    ledger: {
      shared: ledger.shared,
      open(clock) {
        const opened = ledger.open(clock)
        return {
          ...opened,
          invalidate(names, mode) {
            mirror?.changed(clock, names)
            return opened.invalidate(names, mode)
          },
          tail: () => tail(clock),
        }
      },
    },
    keyChanged: (key) => mirror?.changed(KEYS, [key]),
  }
}
