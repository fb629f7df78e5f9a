import type { Backend } from '../../src/backend/backend.js'
import type { Bytes } from '../../src/backend/cached-value.js'
import { defineBackend } from '../../src/backend/define-backend.js'
import { CorralError } from '../../src/base/errors.js'
import { ignoreRejection, type MaybePromise } from '../../src/base/maybe-promise.js'
import { withTimeout } from '../../src/base/timers.js'
import { openable } from '../../src/ledger/clocked-ledger.js'
import type { Commands } from './client/commands.js'
import { entriesOf } from './entries.js'
import { entryItemsOf } from './entry-items.js'
import { leasesOf } from './lease.js'
import { ledgerOf } from './ledger.js'

/** Puts the backend together over commands: those of servers, or of a test that steps through them. */
export function backendOver(commands: Commands, timeout: number): Backend<Bytes> {
  const items = entryItemsOf(commands)
  const leases = leasesOf(items)
  const ledger = ledgerOf(commands)
  const entries = entriesOf({ items, leases, ledger, timeout })

  /** Single commands have a deadline of their own; an operation of several gets one for all of them. */
  const timely = <R>(operation: string, work: MaybePromise<R>): Promise<R> =>
    withTimeout(
      Promise.resolve(work),
      timeout,
      () =>
        new CorralError(
          'ERR_TIMEOUT',
          `Expected memcached.${operation} to end within ${timeout} ms, got no reply. Check the servers, or raise \`timeout\` of memcached().`,
        ),
    )

  return defineBackend<Bytes>({
    name: 'memcached',
    stores: 'bytes',
    timeout: Number.POSITIVE_INFINITY,
    get: entries.get,
    set: (key, value, options) => timely('set', entries.set(key, value, options)),
    delete: entries.delete,
    acquire: async (key, ms, options) => {
      const requested = Promise.resolve(leases.acquire(key, ms, options))
      try {
        return await timely('acquire', requested)
      } catch (error) {
        // The caller saw a failure and will not release the lease, so release it here if it is granted later.
        void ignoreRejection(requested.then(({ token }) => token !== undefined && leases.release(key, token)))
        throw error
      }
    },
    renew: (key, token, ms) => timely('renew', leases.renew(key, token, ms)),
    release: (key, token) => timely('release', leases.release(key, token)),
    held: leases.held,
    ledger: openable({
      shared: true,
      read: ledger.read,
      // Up to five round trips, where a name was learnt late.
      judge: (clock, snapshot) => timely('ledger.judge', ledger.judge(clock, snapshot)),
      now: (clock, names) => timely('ledger.now', ledger.now(clock, names)),
      invalidate: (clock, names, mode) => timely('ledger.invalidate', ledger.invalidate(clock, names, mode)),
    }),
    close() {
      leases.close()
      commands.close()
    },
  })
}
