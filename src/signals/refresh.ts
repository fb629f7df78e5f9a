import { bindContext } from '../base/async-context.js'
import { report } from '../base/diagnostics.js'
import type { MaybePromise } from '../base/maybe-promise.js'
import { expectFunction } from '../base/options.js'
import { processGlobal } from '../base/process-global.js'
import { nextTurn } from '../base/timers.js'
import { leaveScopes } from '../creation/scope.js'
import { leaveTransactions } from '../creation/transaction.js'
import { invalidateNowOrAfterCommit } from './transactions.js'

/** Runs work in the context of the application's start, where no request and no unit of work of an ORM is. */
const outsideOfRequests = bindContext((work: () => void) => work())

/** All copies of the package drain together. */
const underWay = processGlobal('refreshes', () => new Set<Promise<void>>())

/**
 * Refreshes in the background once the transaction around the caller is committed and its names are invalidated, or in the
 * next turn of the event loop outside of every transaction. The work is outside of the transaction and of the caller's
 * `AsyncLocalStorage` values, so it needs a connection of its own. It never delays the caller. A failure is reported on
 * `corral:failure`: the next reader creates the value. After a rollback nothing runs.
 * @example
 * ```ts
 * import type { CachedFunction } from 'corral'
 * import { afterCommit, refreshAfterCommit } from 'corral/signals'
 *
 * export const save = (page: CachedFunction<[id: number], string>, write: () => Promise<void>) =>
 *   afterCommit(async () => {
 *     await write()
 *     await refreshAfterCommit(() => page.refresh(5))
 *   })
 * ```
 */
export async function refreshAfterCommit(refresh: () => MaybePromise<unknown>): Promise<void> {
  expectFunction(refresh, 'the work of refreshAfterCommit()')
  let begun = false
  // A retry of failed invalidations tells again; there was one commit.
  const tell = () => {
    if (begun) return
    begun = true
    outsideOfRequests(() => leaveTransactions(() => leaveScopes(() => start(refresh))))
  }
  const debt = { regions: [], names: [], mode: 'hard', cause: {}, tell } as const
  await invalidateNowOrAfterCommit([debt], { result: undefined })
}

/**
 * Resolves when all refreshes of `refreshAfterCommit` are done whose transactions are committed: call it before the process ends.
 * @example
 * ```ts
 * import { drainRefreshes } from 'corral/signals'
 *
 * process.once('SIGTERM', () => void drainRefreshes())
 * ```
 */
export async function drainRefreshes(): Promise<void> {
  while (underWay.size > 0) await Promise.all(underWay)
}

function start(refresh: () => MaybePromise<unknown>): void {
  const work = run(refresh).finally(() => underWay.delete(work))
  underWay.add(work)
}

async function run(refresh: () => MaybePromise<unknown>): Promise<void> {
  try {
    // A hook of a commit may still hold the only connection of a pool.
    await nextTurn()
    await refresh()
  } catch (error) {
    report('failure', () => ({ where: 'refreshAfterCommit', error }))
  }
}
