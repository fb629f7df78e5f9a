import type { Backend } from '../../src/backend/backend.js'
import type { Bytes } from '../../src/backend/cached-value.js'
import { defineBackend } from '../../src/backend/define-backend.js'
import { byteBudget } from './client/budget.js'
import type { OpenFile } from './client/open-file.js'
import type { Store } from './client/store.js'
import { fileWaiters } from './client/waiters.js'
import { fileEntries } from './entries.js'
import { fileLeases } from './lease.js'
import { fileLedger } from './ledger.js'
import type { LmdbSettings } from './options.js'

interface Place extends LmdbSettings {
  readonly dataFile: OpenFile['dataFile']
  readonly release: OpenFile['close']
}

/** Puts the backend together over a store: a file, or a test that steps through the commits to one. */
export function backendOver(store: Store, place: Place): Backend<Bytes> {
  const { dataFile, maxBytes, sweepEvery, timeout, release } = place
  const waiters = fileWaiters(dataFile)
  const budget = byteBudget({ store, maxBytes, sweepEvery: Math.min(sweepEvery, 2 ** 30) })
  return defineBackend<Bytes>({
    name: 'lmdb',
    stores: 'bytes',
    timeout,
    ...fileEntries(store, waiters, budget),
    ...fileLeases(store, waiters),
    ledger: fileLedger(store),
    async close() {
      if (store.closed) return
      budget.close()
      waiters.close()
      await store.close(release)
    },
  })
}
