import { aroundBackend } from '../../src/backend/around.js'
import type { Backend } from '../../src/backend/backend.js'
import type { Bytes } from '../../src/backend/cached-value.js'
import { completeBackend, withDeadlines } from '../../src/backend/define-backend.js'
import { leaseWaiters } from '../../src/backend/lease-waiters.js'
import { turns } from '../../src/base/turns.js'
import type { Commands } from './client/commands.js'
import { tooManyWait } from './client/server.js'
import { entriesOf } from './entries.js'
import { entryItemsOf } from './entry-items.js'
import { leasesOf } from './lease.js'
import { ledgerOf } from './ledger.js'

/** The operations of several commands. A single command has a deadline of its own. */
const BOUNDED = new Set([
  ...['set', 'setMulti', 'acquire', 'renew', 'release'],
  ...['ledger.now', 'ledger.invalidate', 'ledger.restore'],
])

/** memcached pushes nothing. ms */
const POLL = { from: 3, to: 50, growth: 2 }

/** Operations of several commands that run at one time: enough to fill every round trip. */
const MAX_RUNNING = 256

/** Puts the backend together over commands: those of servers, or of a test that steps through them. */
export function backendOver(
  commands: Commands,
  timeout: number,
  maxWaiting = Number.POSITIVE_INFINITY,
): Backend<Bytes> {
  const items = entryItemsOf(commands)
  const ledger = ledgerOf(commands)
  const waiters = leaseWaiters({ store: 'memcached', poll: POLL })
  const leases = leasesOf({ items, ledger, waiters })
  const backend = completeBackend<Bytes>({
    name: 'memcached',
    stores: 'bytes',
    timeout: Number.POSITIVE_INFINITY,
    ...entriesOf({ items, leases, ledger, waiters, timeout }),
    ...leases,
    keepsFailures: true,
    ledger,
    ping: () => commands.ping(),
    close() {
      waiters.close()
      commands.close()
    },
  })
  // The time of an operation begins with its turn: thousands at once do not make each other late.
  const refuse = (waiting: number) => tooManyWait('operations wait for their turn at memcached', waiting)
  const inTurn = turns({ maxRunning: MAX_RUNNING, maxWaiting, refuse })
  return aroundBackend(withDeadlines(backend, timeout, BOUNDED), (operation, run) =>
    BOUNDED.has(operation) ? inTurn(run) : run(),
  )
}
