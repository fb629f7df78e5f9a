import type { LedgerTail } from '../../src/ledger/tail.js'
import type { Store } from './client/store.js'
import { entryKey } from './format.js'

/**
 * The latest changes of a file are in the file: every read sees the commits of all processes. So the place of a read is the
 * version of its entry, which each write replaces, and names are judged by the ledger. A hit of a near cache spares the decoding.
 */
export function fileTail(store: Store): LedgerTail {
  const place = (key: string): number => store.snapshot((read) => read(entryKey(key)).version ?? 0)
  return {
    place,
    // A copy that was discarded has lost its place.
    keyStands: (key, mark) => mark.key === mark.place && place(key) === mark.place,
    admits: (key, since) => since !== 0 && place(key) === since,
    filled() {},
    isProven: () => true,
    proofAge: () => 0,
    prove: () => true,
    catchUp() {},
    join: () => () => {},
  }
}
