import type { LedgerTail } from '../../src/ledger/tail.js'
import type { Store } from './client/store.js'
import { entryKey } from './format.js'

/**
 * The latest changes of a file are in the file: every read sees the commits of all processes. So the place of a read is the
 * version of its entry, which each write replaces, and names are judged by the ledger. A hit of a near cache spares the decoding.
 * @param recordHit - receives the key of each hit, as for one of the file: else the entry of a busy copy would be evicted
 */
export function fileTail(store: Store, recordHit: (key: string) => void): LedgerTail {
  const place = (key: string): number => store.snapshot((read) => read(entryKey(key)).version ?? 0)
  return {
    place,
    // A copy that was discarded has lost its place.
    keyStands(key, mark) {
      if (mark.key !== mark.place || place(key) !== mark.place) return false
      recordHit(key)
      return true
    },
    admits: (key, since) => since !== 0 && place(key) === since,
    filled() {},
    isProven: () => true,
    proofAge: () => 0,
    prove: () => true,
    catchUp() {},
    join: () => () => {},
  }
}
