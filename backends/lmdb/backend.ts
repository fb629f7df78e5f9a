import { aroundBackend } from '../../src/backend/around.js'
import type { Backend } from '../../src/backend/backend.js'
import type { Bytes } from '../../src/backend/cached-value.js'
import { completeBackend, withDeadlines } from '../../src/backend/define-backend.js'
import { layerOver } from '../../src/backend/delegate.js'
import { andThen, mapEach } from '../../src/base/maybe-promise.js'
import { turns } from '../../src/base/turns.js'
import { byteBudget } from './client/budget.js'
import type { OpenFile } from './client/open-file.js'
import type { Store } from './client/store.js'
import { fileWaiters } from './client/waiters.js'
import { fileEntries } from './entries.js'
import { fileLeases } from './lease.js'
import { fileLedger } from './ledger.js'
import type { LmdbSettings } from './options.js'

/** The operations that may wait for the write lock. */
const BOUNDED = new Set([
  ...['set', 'delete', 'acquire', 'renew', 'release'],
  ...['ledger.now', 'ledger.invalidate', 'ledger.restore'],
])

/** Operations that wait for the write lock at one time: enough for full transactions, and far fewer than a deadline has time for. */
const MAX_RUNNING = 1_000

interface Place extends LmdbSettings {
  readonly dataFile: OpenFile['dataFile']
  readonly release: OpenFile['close']
}

/** Puts the backend together over a store: a file, or a test that steps through the commits to one. */
export function backendOver(store: Store, place: Place): Backend<Bytes> {
  const { dataFile, maxBytes, sweepEvery, timeout, pendingFor, release } = place
  const waiters = fileWaiters(dataFile)
  const budget = byteBudget({ store, maxBytes, sweepEvery: Math.min(sweepEvery, 2 ** 30) })
  const backend = completeBackend<Bytes>({
    name: 'lmdb',
    stores: 'bytes',
    timeout: Number.POSITIVE_INFINITY,
    ...fileEntries(store, waiters, budget),
    ...fileLeases(store, waiters),
    keepsFailures: true,
    ledger: fileLedger(store, pendingFor, budget.recordHit),
    async close() {
      if (store.closed) return
      budget.close()
      waiters.close()
      await store.close(release)
    },
  })
  return inTurns(backend, timeout)
}

/**
 * Bounds the operations in time and number. Those beyond the most that may run wait for their turn, in the order of the calls,
 * and have their time from then on: thousands at once do not make each other late. A batch is as many operations.
 */
function inTurns(backend: Backend<Bytes>, timeout: number): Backend<Bytes> {
  const inTurn = turns({
    maxRunning: MAX_RUNNING,
    maxWaiting: Number.POSITIVE_INFINITY,
    refuse: () => new Error('Expected any number of operations to wait'),
  })
  const single = aroundBackend(withDeadlines(backend, timeout, BOUNDED), (operation, run) =>
    BOUNDED.has(operation) ? inTurn(run) : run(),
  )
  const { get, getMulti, held } = backend
  return layerOver(
    single,
    {
      ...{ get, getMulti, held },
      setMulti: (writes) => mapEach(writes, (write) => single.set(...write)),
      deleteMulti: (keys) => andThen(mapEach(keys, single.delete), () => undefined),
    },
    true,
  )
}
