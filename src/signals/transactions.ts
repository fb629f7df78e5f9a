import { asyncContext, type ContextFrame, innermostActive } from '../base/async-context.js'
import { CorralError } from '../base/errors.js'
import type { MaybePromise } from '../base/maybe-promise.js'
import { expectFunction, expectMethods, expectOneOf, rejectUnknownOptions } from '../base/options.js'
import type { DependencyCollector } from '../creation/collector.js'
import { type Transaction, UNDONE } from '../creation/transaction.js'
import { captureCause, checkReady, guardsOf } from '../events/event-source.js'
import { refuseVersions } from '../ledger/checked-names.js'
import type { InvalidationMode, InvalidationReason } from '../ledger/ledger.js'
import { listNames } from '../ledger/names.js'
import { type Done, type PendingInvalidation, runChange, settle, type Target } from './settle.js'

/** A transaction. The pending invalidations of a savepoint join the outer one. */
interface Work extends ContextFrame<Work>, Pick<Transaction, 'into'> {
  readonly debts: PendingInvalidation[]
  readonly into: ReturnType<typeof underWay>
  over: boolean
}

const works = asyncContext<Work>('transactions')

/** Settles debts, or leaves them to the transaction around. */
export async function invalidateNowOrAfterCommit<R>(
  debts: readonly PendingInvalidation[],
  done: Done<R>,
  work = works.current(),
): Promise<R> {
  if (work === undefined) return settle(debts, done)
  work.debts.push(...debts)
  if (done.failed !== undefined) throw done.failed
  return done.result
}

/**
 * Runs a transaction. Brokers inside invalidate when it is committed, that is when the returned promise
 * resolves, and not at all when it rejects. Inside another `afterCommit` it is part of that one, as a savepoint is. A value
 * that a region creates inside is never shared or stored: it may be older than the latest commit, or never committed.
 * @example
 * ```ts
 * import { afterCommit, type Broker } from 'corral/signals'
 *
 * export const rename = (users: Broker<{ id: number }>, save: (id: number) => Promise<void>) =>
 *   afterCommit(() => users.apply({ id: 5 }, () => save(5)))
 * ```
 * @throws CorralError `ERR_NOT_INVALIDATED` when it is committed, but not everything could be invalidated.
 */
export async function afterCommit<R>(transaction: () => MaybePromise<R>): Promise<R> {
  expectFunction(transaction, 'the transaction of afterCommit()')
  const work = begin()
  const committed = () => runChange(transaction)
  const done = await works.enter(work, committed).catch((rollback: unknown) => {
    undo(work)
    throw rollback
  })
  return finish(work, done)
}

/**
 * A transaction of which no function is the whole, such as one between `begin()` and `commit()` of a database client.
 * @example
 * ```ts
 * import { beginTransaction, type OpenTransaction } from 'corral/signals'
 *
 * interface Client {
 *   query(sql: string): Promise<unknown>
 * }
 *
 * export async function begin(client: Client): Promise<OpenTransaction> {
 *   await client.query('BEGIN')
 *   return beginTransaction()
 * }
 * export async function commit(client: Client, transaction: OpenTransaction): Promise<void> {
 *   await client.query('COMMIT')
 *   await transaction.commit()
 * }
 * ```
 */
export interface OpenTransaction {
  /** Runs a part of the transaction inside it. @throws CorralError `ERR_CLOSED` once it is over. */
  run<R>(work: () => R): R
  /**
   * Says that the transaction is committed, and invalidates. Inside another transaction its invalidations join those of that
   * one.
   * @throws CorralError `ERR_NOT_INVALIDATED`, with `retry()`; `ERR_CLOSED` once it is over.
   */
  commit(): Promise<void>
  /** Says that nothing of the transaction is kept. Does nothing once it is over. */
  rollback(): void
}

/**
 * Begins a transaction for code that has no function around it; where there is one, `afterCommit` is simpler. Inside `run`
 * the rules of `afterCommit` hold. One that begins inside the `run` of another is a savepoint of it. End each with `commit` or
 * `rollback`: until then its invalidations wait.
 * @example
 * ```ts
 * import { beginTransaction, type Broker } from 'corral/signals'
 *
 * export async function rename(users: Broker<{ id: number }>, save: () => Promise<void>): Promise<void> {
 *   const transaction = beginTransaction()
 *   try {
 *     await transaction.run(() => users.apply({ id: 5 }, save))
 *     await transaction.commit()
 *   } finally {
 *     transaction.rollback()
 *   }
 * }
 * ```
 */
export function beginTransaction(): OpenTransaction {
  const work = begin()
  const expectOpen = () => {
    if (work.over)
      throw new CorralError(
        'ERR_CLOSED',
        'Expected a transaction under way, got one that was committed or rolled back. Begin another: beginTransaction().',
      )
  }
  return {
    run(part) {
      expectFunction(part, 'the work of run()')
      expectOpen()
      return works.enter(work, part)
    },
    async commit() {
      expectOpen()
      await finish(work, { result: undefined })
    },
    rollback() {
      if (!work.over) undo(work)
    },
  }
}

/**
 * Whether the caller is inside a transaction, of `afterCommit` or of `beginTransaction`.
 * @example
 * ```ts
 * import { insideTransaction } from 'corral/signals'
 *
 * export const connection = <T>(own: T, pool: T): T => (insideTransaction() ? own : pool)
 * ```
 */
export function insideTransaction(): boolean {
  return works.current() !== undefined
}

/**
 * Options of `invalidateAfterCommit`.
 * @example
 * ```ts
 * import type { InvalidateOptions } from 'corral/signals'
 *
 * export const afterImport: InvalidateOptions = { mode: 'soft', reason: 'the nightly import' }
 * ```
 */
export interface InvalidateOptions extends InvalidationReason {
  /** @default 'hard' */
  readonly mode?: InvalidationMode
}

/**
 * Invalidates names when the transaction around the caller is committed, or at once outside of every transaction. A broker
 * does the same for the names of an item.
 * @param regions - where values depend on the names; regions over the same ledger need only one of them
 * @example
 * ```ts
 * import { dep, type Region } from 'corral'
 * import { invalidateAfterCommit } from 'corral/signals'
 *
 * export const changed = (pages: Region, id: number) => invalidateAfterCommit(pages, dep.id('page', id))
 * ```
 * @throws CorralError `ERR_NOT_INVALIDATED`, with `retry()`; `ERR_OPTION`, and where a region cannot invalidate names
 * `ERR_NOT_CONFIGURED`, `ERR_CLOSED` or `ERR_NO_LEDGER`, before anything is done.
 */
export async function invalidateAfterCommit(
  regions: Target | readonly Target[],
  names: string | readonly string[],
  options: InvalidateOptions = {},
): Promise<void> {
  const where = 'invalidateAfterCommit()'
  rejectUnknownOptions(options, ['mode', 'reason', 'meta'], where)
  const { mode = 'hard', ...given } = options
  expectOneOf(mode, `\`mode\` of ${where}`, ['hard', 'soft'])
  const targets = [regions].flat()
  for (const region of targets) expectMethods(region, ['invalidateDependencies'], `${where} to get regions`)
  const list = listNames(names)
  refuseVersions(list, true)
  const cause = captureCause(given, targets.flatMap(guardsOf))
  // Names that can never be invalidated must not become pending.
  targets.forEach(checkReady)
  const debt = { regions: targets, names: list, mode, cause, tell: () => {} }
  await invalidateNowOrAfterCommit([debt], { result: undefined })
}

function begin(): Work {
  works.begin()
  return { debts: [], into: underWay(), parent: works.current(), over: false }
}

/** Ends a transaction that is committed. */
function finish<R>(work: Work, done: Done<R>): Promise<R> {
  leave(work)
  return invalidateNowOrAfterCommit(work.debts, done, innermostActive(work.parent))
}

/** Ends a transaction that was rolled back. */
function undo(work: Work): void {
  leave(work)
  work.into.each((collector) => collector.forbidStoring(UNDONE))
}

function leave(work: Work): void {
  work.over = true
  works.end()
}

/** Of a creation that has ended, nothing is kept: a transaction may make many. */
function underWay() {
  const known = new WeakSet<DependencyCollector>()
  const all: WeakRef<DependencyCollector>[] = []
  return {
    add(collector: DependencyCollector) {
      if (known.has(collector)) return
      known.add(collector)
      all.push(new WeakRef(collector))
    },
    each(work: (collector: DependencyCollector) => void) {
      for (const one of all) {
        const collector = one.deref()
        if (collector !== undefined) work(collector)
      }
    },
  }
}
