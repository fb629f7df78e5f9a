import { aroundBackend } from '../../src/backend/around.js'
import type { Backend } from '../../src/backend/backend.js'
import type { Bytes } from '../../src/backend/cached-value.js'
import { completeBackend, withDeadlines } from '../../src/backend/define-backend.js'
import { leaseWaiters } from '../../src/backend/lease-waiters.js'
import { frozenCopy } from '../../src/base/frozen.js'
import { inBatches, settledInBatches } from '../../src/base/in-batches.js'
import { attempt, type MaybePromise } from '../../src/base/maybe-promise.js'
import { turns } from '../../src/base/turns.js'
import type { Commands } from './client/commands.js'
import { tooManyWait } from './client/server.js'
import { entriesOf } from './entries.js'
import { entryItemsOf } from './entry-items.js'
import { leasesOf } from './lease.js'
import { ledgerOf } from './ledger.js'

/** The operations of several commands. A single command has a deadline of its own. */
const BOUNDED = new Set([
  ...['set', 'acquire', 'renew', 'release'],
  ...['ledger.now', 'ledger.invalidate', 'ledger.restore'],
])

/** memcached pushes nothing. ms */
const POLL = { from: 3, to: 50, growth: 2 }

/** Operations of several commands that run at one time: enough to fill every round trip. */
const MAX_RUNNING = 256

/** Names that are invalidated in one step. */
const MAX_NAMES = 500

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
  return inSlices(
    aroundBackend(withDeadlines(backend, timeout, BOUNDED), (operation, run) =>
      BOUNDED.has(operation) ? inTurn(run) : run(),
    ),
  )
}

/**
 * Each part of a batch takes its own turn, with its own deadline, and the next parts wait outside of the queue: a batch of any
 * size is in time, and lets other callers in between.
 */
function inSlices(single: Backend<Bytes>): Backend<Bytes> {
  const { ledger } = single
  return {
    ...single,
    getMulti: (keys) => inBatches(frozenCopy(keys), single.get),
    setMulti: (writes) => inBatches(frozenCopy(writes), (write) => single.set(...write)),
    deleteMulti: (keys) => allOf(frozenCopy(keys), single.delete),
    ledger: ledger && {
      ...ledger,
      open(clock) {
        const opened = ledger.open(clock)
        return {
          ...opened,
          invalidate: (names, ...rest) => bySlices(names, (slice) => opened.invalidate(slice, ...rest)),
        }
      },
    },
  }
}

/** @throws the first failure, after every item was tried */
async function allOf<T>(items: readonly T[], work: (item: T) => MaybePromise<unknown>): Promise<void> {
  const outcomes = await settledInBatches(items, async (item) => work(item))
  const failed = outcomes.find((one) => one.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}

/** Invalidates names, a slice after the other. @throws the first failure, after every slice was tried */
async function bySlices(
  given: readonly string[],
  invalidate: (names: readonly string[]) => MaybePromise<unknown>,
): Promise<void> {
  const names = frozenCopy(given)
  const failures: unknown[] = []
  let at = 0
  do {
    const slice = names.slice(at, at + MAX_NAMES)
    await attempt(() => invalidate(slice)).catch((error) => failures.push(error))
    at += MAX_NAMES
    // An invalidation of no names moves the clock as well.
  } while (at < names.length)
  if (failures.length > 0) throw failures[0]
}
