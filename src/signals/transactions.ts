import { asyncContext, type ContextFrame } from '../base/async-context.js'
import { report } from '../base/diagnostics.js'
import { CorralError } from '../base/errors.js'
import type { MaybePromise } from '../base/maybe-promise.js'
import { oneOrMany } from '../base/one-or-many.js'
import {
  expectBoolean,
  expectFunction,
  expectMethods,
  expectOneOf,
  ownOptions,
  rejectUnknownOptions,
} from '../base/options.js'
import type { DependencyCollector } from '../creation/collector.js'
import { type Transaction, UNDONE } from '../creation/transaction.js'
import { captureCause, checkReady, guardsOf } from '../events/event-source.js'
import { refuseVersions } from '../ledger/checked-names.js'
import type { InvalidationMode, InvalidationReason } from '../ledger/ledger.js'
import { listNames } from '../ledger/names.js'
import { type Marked, Marks } from './marks.js'
import { type Done, type PendingInvalidation, runChange, settle, type Target } from './settle.js'

/** A transaction. `parent` is the one that its caller runs in, which may be of another connection. */
interface Work extends ContextFrame<Work>, Pick<Transaction, 'into'> {
  /** The transaction that its pending invalidations join at its commit; `undefined`: the database has committed then. */
  joins: Work | undefined
  /** Whether it is part of the one that it joins. If not, it may also be one of another connection, committed before that one. */
  isSavepoint: boolean
  /** Whether it is around a transaction of a host that has not begun yet. */
  awaitsHost: boolean
  readonly debts: PendingInvalidation[]
  readonly into: ReturnType<typeof underWay>
  /** Its own marks, then those of its savepoints. */
  readonly marks: [Marks, ...Marks[]]
  /** Whether all its names are marked by `prepare`. If not, each change marks its own. */
  readonly isPrepared: boolean
  over: boolean
}

const works = asyncContext<Work>('transactions')

/** Settles debts, or leaves them to the transaction around. */
export async function invalidateNowOrAfterCommit<R>(
  debts: readonly PendingInvalidation[],
  done: Done<R>,
): Promise<R> {
  const work = works.current()
  if (work === undefined) return settle(debts, done)
  await markEagerly(work, debts)
  return leaveTo(work, debts, done)
}

/** Leaves debts to a transaction. */
function leaveTo<R>({ debts: all }: Work, debts: readonly PendingInvalidation[], done: Done<R>): R {
  for (const debt of debts) all.push(debt)
  if (done.failed !== undefined) throw done.failed
  return done.result
}

/**
 * Runs a change whose names are known before it. They are marked until it is done, or until the transaction around is over.
 * @param invalidate - what follows the change
 */
export async function runMarked<R>(
  marked: Marked,
  change: () => MaybePromise<R>,
  invalidate: (done: Done<R>) => PendingInvalidation,
): Promise<R> {
  const work = works.current()
  const marks = new Marks()
  await (work === undefined ? marks.mark([marked]) : markEagerly(work, [{ ...marked }]))
  let done: Done<R>
  try {
    done = await runChange(change)
  } catch (error) {
    await marks.end()
    throw error
  }
  if (work !== undefined) return invalidateNowOrAfterCommit([invalidate(done)], done)
  return settleMarked([Object.assign(invalidate(done), { marks })], done, [marks])
}

/** Marks the names of changes inside a transaction, unless all are marked before its commit. */
async function markEagerly(
  work: Work,
  changes: readonly (Marked & Pick<Partial<PendingInvalidation>, 'marks'>)[],
): Promise<void> {
  if (work.isPrepared) return
  const [marks] = work.marks
  for (const change of changes) change.marks = marks
  await marks.mark(changes)
}

/**
 * Runs a transaction. Brokers inside invalidate when it is committed, that is when the returned promise
 * resolves, and not at all when it rejects. Inside another `afterCommit` it is part of that one, as a savepoint is; since it
 * may also be a transaction of another database, names that are not marked are invalidated at its own end, too. A value that a region creates inside is never shared or stored: it may be older than the latest commit, or never committed.
 *
 * Where the ledger of a region keeps marks, each change marks its names before it is made: until the commit or the rollback
 * every value created from them is a miss, and if the process dies in between, the names are invalidated when its marks expire.
 * @param transaction - may call `committing` when all of its work is done and the commit follows. If it rejects after that, it is
 * unknown whether the database has committed: the names are invalidated, and their marks stay until they expire.
 * @example
 * ```ts
 * import { afterCommit, type Broker } from 'corral/signals'
 *
 * export const rename = (users: Broker<{ id: number }>, save: (id: number) => Promise<void>) =>
 *   afterCommit(() => users.apply({ id: 5 }, () => save(5)))
 * ```
 * @throws CorralError `ERR_NOT_INVALIDATED` when it is committed, but not everything could be invalidated.
 */
export async function afterCommit<R>(transaction: (committing: () => void) => MaybePromise<R>): Promise<R> {
  expectFunction(transaction, 'the transaction of afterCommit()')
  const work = begin(false, works.current())
  let isCommitting = false
  const committing = () => {
    isCommitting = true
  }
  const committed = () => runChange(() => transaction(committing))
  const done = await works.enter(work, committed).catch(async (failure: unknown) => {
    await (isCommitting ? doubt(work) : undo(work))
    throw failure
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
   * Marks the names of all changes so far, in one step for each region. Call it right before the commit of a transaction
   * that was begun with `prepared: true`. Never rejects: a failure is reported on `corral:failure`.
   */
  prepare(): Promise<void>
  /**
   * Says that the transaction is committed, and invalidates. Inside another transaction its invalidations join those of that
   * one.
   * @throws CorralError `ERR_NOT_INVALIDATED`, with `retry()`; `ERR_CLOSED` once it is over.
   */
  commit(): Promise<void>
  /**
   * Says that the commit failed, so that nobody knows whether the database has it. Invalidates like `commit`, and leaves the marks
   * until they expire: the database may commit later. Never rejects, and does nothing once it is over: a failure is reported on
   * `corral:failure`.
   */
  unsure(): Promise<void>
  /** Says that nothing of the transaction is kept, and takes its marks away. Never rejects, and does nothing once it is over. */
  rollback(): Promise<void>
}

/**
 * Options of `beginTransaction`.
 * @example
 * ```ts
 * import type { TransactionOptions } from 'corral/signals'
 *
 * export const atOnce: TransactionOptions = { prepared: true }
 * ```
 */
export interface TransactionOptions {
  /**
   * The names of all changes are marked together by `prepare()`, which the caller calls before the commit.
   * @default false: each change marks its names, before it is made where they are known
   */
  readonly prepared?: boolean | undefined
}

/**
 * Begins a transaction for code that has no function around it; where there is one, `afterCommit` is simpler. Inside `run`
 * the rules of `afterCommit` hold, also for one that begins inside the `run` of another. End each with `commit` or
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
 *     await transaction.rollback()
 *   }
 * }
 * ```
 * @throws CorralError `ERR_OPTION` for an option that cannot be right.
 */
export function beginTransaction(options: TransactionOptions = {}): OpenTransaction {
  options = ownOptions(options)
  rejectUnknownOptions(options, ['prepared'], 'beginTransaction()')
  const { prepared = false } = options
  expectBoolean(prepared, '`prepared` of beginTransaction()')
  return openTransaction(begin(prepared, works.current()))
}

const workOf = new WeakMap<OpenTransaction, Work>()

/**
 * Begins the transaction of a connection of a host. The first one inside a unit of work is that of the unit.
 * @param around - that of the same connection, of which it is a savepoint
 */
export function beginHostTransaction(around?: OpenTransaction): OpenTransaction {
  const unit = works.current()
  const outer = around && workOf.get(around)
  if (unit?.awaitsHost !== true) return openTransaction(begin(true, outer, outer !== undefined))
  Object.assign(unit, { awaitsHost: false, joins: outer, isSavepoint: outer !== undefined })
  return openTransaction(begin(true, unit, true))
}

/**
 * Invalidates for a statement outside of a transaction whose reply is lost. The database may have executed it, or may do so later: the
 * invalidation happens at once, and its marks stay until they expire. Never rejects: a failure is reported on `corral:failure`.
 */
export async function invalidateUnsure(invalidate: () => Promise<unknown>): Promise<void> {
  const open = openTransaction(begin(true, undefined))
  try {
    await open.run(invalidate)
    await open.prepare()
  } catch (error) {
    report('failure', () => ({ where: 'statement', error }))
  }
  await open.unsure()
}

/** A unit of work around a transaction of a host. */
export interface Unit extends OpenTransaction {
  /** Says that the transaction has begun: others that begin inside are of their own. */
  began(): void
  /** Whether it is a savepoint of another transaction. */
  isSavepoint(): boolean
}

/** @param around - the transaction of the same connection, of which it is a savepoint unless the host tells otherwise */
export function beginUnit(around?: OpenTransaction): Unit {
  const outer = around && workOf.get(around)
  const work = begin(true, outer, outer !== undefined)
  work.awaitsHost = true
  return Object.assign(openTransaction(work), {
    began: () => {
      work.awaitsHost = false
    },
    isSavepoint: () => joined(work) !== undefined,
  })
}

function openTransaction(work: Work): OpenTransaction {
  const expectOpen = () => {
    if (work.over)
      throw new CorralError(
        'ERR_CLOSED',
        'Expected a transaction under way, got one that was committed or rolled back. Begin another: beginTransaction().',
      )
  }
  const open: OpenTransaction = {
    run(part) {
      expectFunction(part, 'the work of run()')
      expectOpen()
      return works.enter(work, part)
    },
    async prepare() {
      expectOpen()
      const [marks] = work.marks
      const unmarked = work.debts.filter((debt) => debt.marks === undefined)
      for (const debt of unmarked) debt.marks = marks
      await marks.mark(unmarked)
    },
    async commit() {
      expectOpen()
      await finish(work, { result: undefined })
    },
    async unsure() {
      if (!work.over) await doubt(work)
    },
    async rollback() {
      if (!work.over) await undo(work)
    },
  }
  workOf.set(open, work)
  return open
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
  readonly mode?: InvalidationMode | undefined
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
  options = ownOptions(options)
  const where = 'invalidateAfterCommit()'
  rejectUnknownOptions(options, ['mode', 'reason', 'meta'], where)
  const { mode = 'hard', ...given } = options
  expectOneOf(mode, `\`mode\` of ${where}`, ['hard', 'soft'])
  const targets = oneOrMany(regions)
  for (const region of targets) expectMethods(region, ['invalidateDependencies'], `${where} to get regions`)
  const list = listNames(names)
  refuseVersions(list, true)
  const cause = captureCause(given, targets.flatMap(guardsOf))
  // Names that can never be invalidated must not become pending.
  targets.forEach(checkReady)
  const debt = { regions: targets, names: list, mode, cause, tell: () => {} }
  await invalidateNowOrAfterCommit([debt], { result: undefined })
}

function begin(isPrepared: boolean, joins: Work | undefined, isSavepoint = false): Work {
  works.begin()
  return {
    ...{ debts: [], into: underWay(), marks: [new Marks()], isPrepared },
    ...{ parent: works.current(), joins, isSavepoint, awaitsHost: false, over: false },
  }
}

/** The transaction that a committed one is part of. */
function joined(work: Work): Work | undefined {
  let found = work.joins
  while (found?.over) found = found.joins
  return found
}

/** Ends a transaction that is committed. */
async function finish<R>(work: Work, done: Done<R>): Promise<R> {
  leave(work)
  const { debts, marks } = work
  const around = joined(work)
  if (around !== undefined) {
    if (!work.isSavepoint) await invalidateUnmarked(debts)
    for (const mark of marks) around.marks.push(mark)
    return leaveTo(around, debts, done)
  }
  return settleMarked(debts, done, marks)
}

/** Invalidates after the outermost commit, and takes away the marks that are left. */
async function settleMarked<R>(
  debts: readonly PendingInvalidation[],
  done: Done<R>,
  marks: readonly Marks[],
): Promise<R> {
  for (const one of marks) one.committed()
  let result: R
  try {
    result = await settle(debts, done)
  } catch (error) {
    // The store failed just now. The caller does not wait until it has failed for the marks, too.
    void endAll(marks)
    throw error
  }
  await endAll(marks)
  return result
}

/**
 * Invalidates at the commit of a transaction that may be one of another database than the one around, whose end comes too late for
 * its names, and whose rollback drops them. Marked names need it not: they are misses until then, and invalidated by either end.
 */
async function invalidateUnmarked(debts: readonly PendingInvalidation[]): Promise<void> {
  const isUnmarked = ({ names, mode, marks }: PendingInvalidation) => {
    return (region: Target) => marks?.hold(region, names, mode) !== true
  }
  // A failure must not undo a savepoint: what is around invalidates once more.
  await invalidateCopies(debts, isUnmarked, 'commit inside a transaction')
}

/**
 * Invalidates the names of a transaction whose commit failed with an unknown outcome, and leaves it open, with its marks: the database
 * may have it, nothing may follow, or it may be committed once more. Never rejects.
 */
export async function invalidateInDoubt(open: OpenTransaction): Promise<void> {
  await invalidateCopies(workOf.get(open)?.debts ?? [], () => () => true, 'commit')
}

async function invalidateCopies(
  debts: readonly PendingInvalidation[],
  isDue: (debt: PendingInvalidation) => (region: Target) => boolean,
  where: string,
): Promise<void> {
  const now = debts.map((debt) => {
    const { regions, names, mode, cause, unknown } = debt
    const due = regions.filter(isDue(debt))
    return { regions: due, names, mode, cause, tell: () => {}, ...(unknown && { unknown }) }
  })
  await settle(now, { result: undefined }).catch((error: unknown) =>
    report('failure', () => ({ where, error })),
  )
}

/** Ends a transaction of which nobody knows whether it is committed. */
async function doubt(work: Work): Promise<void> {
  // Without its marks an invalidation leaves them.
  for (const debt of work.debts) debt.marks = undefined
  work.marks.splice(0, Number.POSITIVE_INFINITY, new Marks())
  await finish(work, { result: undefined }).catch((error: unknown) =>
    report('failure', () => ({ where: 'commit', error })),
  )
}

/** Ends a transaction that was rolled back. */
async function undo(work: Work): Promise<void> {
  leave(work)
  work.into.each((collector) => collector.forbidStoring(UNDONE))
  await endAll(work.marks)
}

async function endAll(marks: readonly Marks[]): Promise<void> {
  await Promise.all(marks.map((one) => one.end()))
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
