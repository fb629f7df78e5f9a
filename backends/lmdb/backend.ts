import type { Backend } from '../../src/backend/backend.js'
import type { Bytes } from '../../src/backend/cached-value.js'
import { defineBackend } from '../../src/backend/define-backend.js'
import { byteBudget } from './client/budget.js'
import type { Store } from './client/store.js'
import { fileWaiters } from './client/waiters.js'
import { fileEntries } from './entries.js'
import { fileLeases } from './lease.js'
import { fileLedger } from './ledger.js'

interface Place {
  /** What changes with every commit. */
  readonly dataFile: string
  readonly maxBytes: number
  /** ms, like `timeout`. */
  readonly sweepEvery: number
  readonly timeout: number
  release(): Promise<void>
}

/** Puts the backend together over whatever commits: a file, or a test that steps through the commits to one. */
export function backendOver(store: Store, place: Place): Backend<Bytes> {
  const { dataFile, maxBytes, sweepEvery, timeout, release } = place
  const waiters = fileWaiters(dataFile)
  const ledger = fileLedger(store)
  const budget = byteBudget({ store, maxBytes, sweepEvery: Math.min(sweepEvery, 2 ** 30) })
  return defineBackend<Bytes>({
    name: 'lmdb',
    stores: 'bytes',
    timeout,
    ...fileEntries(store, ledger, waiters, budget),
    ...fileLeases(store, waiters),
    ledger,
    async close() {
      if (store.closed) return
      budget.close()
      waiters.close()
      await store.close(release)
    },
  })
}
