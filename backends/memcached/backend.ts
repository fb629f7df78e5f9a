import type { Backend } from '../../src/backend/backend.js'
import type { Bytes } from '../../src/backend/cached-value.js'
import { defineBackend, withDeadlines } from '../../src/backend/define-backend.js'
import { leaseWaiters } from '../../src/backend/lease-waiters.js'
import type { Commands } from './client/commands.js'
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

/** Puts the backend together over commands: those of servers, or of a test that steps through them. */
export function backendOver(commands: Commands, timeout: number): Backend<Bytes> {
  const items = entryItemsOf(commands)
  const ledger = ledgerOf(commands)
  const waiters = leaseWaiters({ store: 'memcached', poll: POLL })
  const leases = leasesOf({ items, ledger, waiters })
  const backend = defineBackend<Bytes>({
    name: 'memcached',
    stores: 'bytes',
    timeout: Number.POSITIVE_INFINITY,
    ...entriesOf({ items, leases, ledger, waiters, timeout }),
    ...leases,
    ledger,
    close() {
      waiters.close()
      commands.close()
    },
  })
  return withDeadlines(backend, timeout, BOUNDED)
}
