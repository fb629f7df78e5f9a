/** Transactions of hosts: units of work around a function, and those that a connection begins and ends by calls. */
import { report } from '../../base/diagnostics.js'
import { CorralError } from '../../base/errors.js'
import { isNotInvalidated } from '../../signals/settle.js'
import {
  afterCommit,
  beginHostTransaction,
  beginUnit,
  insideTransaction,
  invalidateInDoubt,
  invalidateUnsure,
  type OpenTransaction,
} from '../../signals/transactions.js'
import { saysUnwritten } from './failed-commits.js'

/** How a host runs a transaction. */
export interface HostWork {
  /** The transaction of the same connection that it is a savepoint of. A host that has events of transactions need not say so. */
  readonly around?: OpenTransaction | undefined
  /** Whether the work ends before the commit, so that its names are marked in between. @default true */
  readonly endsBeforeCommit?: boolean
  /** Whether a failure after the work says that nothing is committed. @default no failure does */
  readonly saysUncommitted?: (error: unknown) => boolean
}

/**
 * Runs work in a transaction of a host, and invalidates after its commit. If it fails after the work is done, it is unknown whether
 * the database has committed: the reply may be lost. So its names are invalidated too, and the failure is passed on.
 * @param transact - resolves after the commit
 */
export async function inTransaction<T, R>(
  transact: (work: (own: T) => Promise<R>) => Promise<R>,
  work: (own: T, open: OpenTransaction) => R | Promise<R>,
  { around, endsBeforeCommit = true, saysUncommitted = () => false }: HostWork = {},
): Promise<R> {
  const open = beginUnit(around)
  let isWorked = false
  let result: R
  try {
    result = await open.run(() =>
      transact(async (own) => {
        open.began()
        const worked = await work(own, open)
        if (endsBeforeCommit && !open.isSavepoint()) await open.prepare()
        isWorked = true
        return worked
      }),
    )
  } catch (error) {
    await (isWorked && !saysUncommitted(error) ? open.unsure() : open.rollback())
    throw isWorked ? error : rolledBack(error)
  }
  try {
    await open.commit()
  } catch (error) {
    throw isNotInvalidated(error) ? Object.assign(error, { result }) : error
  }
  return result
}

/** The error of work that failed. That of another transaction inside says that its change is done, which this one's is not. */
function rolledBack(error: unknown): unknown {
  if (!isNotInvalidated(error)) return error
  return new CorralError(
    'ERR_BACKEND',
    'This transaction was rolled back: another one inside it was committed, but not invalidated, and that error was not caught. ' +
      'Call error.cause.retry() until it succeeds. To keep the transaction, catch the error inside: isNotInvalidated().',
    { cause: error },
  )
}

/**
 * Invalidates for a statement of a connection. Without a transaction known of the connection it is committed by now; but a caller
 * inside a transaction may have begun one in raw SQL.
 */
export function written<R>(open: OpenTransaction | undefined, invalidate: () => Promise<R>): Promise<R> {
  if (open !== undefined) return open.run(invalidate)
  return insideTransaction() ? afterCommit(invalidate) : invalidate()
}

/**
 * Runs a statement of a connection, and passes on its failure.
 * @param open - the transaction of the connection
 * @param invalidate - all that the statement may have changed
 */
export async function runStatement<R>(
  open: OpenTransaction | undefined,
  run: () => R | Promise<R>,
  invalidate: () => Promise<unknown>,
): Promise<R> {
  try {
    return await run()
  } catch (error) {
    await invalidateFailed(open, error, invalidate)
    throw error
  }
}

/**
 * The rows of a statement of a connection, which invalidates once they are read.
 * @param all - invalidates for all that the statement may have changed
 * @param done - invalidates for all that it has changed
 */
export async function* streamStatement<R>(
  open: OpenTransaction | undefined,
  stream: AsyncIterable<R>,
  all: () => Promise<unknown>,
  done: () => Promise<unknown>,
): AsyncGenerator<R, void, undefined> {
  let isOver = false
  try {
    yield* stream
    isOver = true
    await done()
  } catch (error) {
    if (!isOver) await invalidateFailed(open, error, all)
    isOver = true
    throw error
  } finally {
    // A reader may leave before the end, when the statement has changed rows already. If it leaves by an error of its own, the language
    // drops this one.
    if (!isOver) await done().catch(reported)
  }
}

function reported(error: unknown): never {
  report('failure', () => ({ where: 'statement', error }))
  throw error
}

/**
 * Invalidates for a statement that failed, unless its failure says that nothing is written: the database may have executed it, as after
 * a timeout of the client. In a transaction the names wait for the commit, which may follow. Never rejects: a failure is reported on
 * `corral:failure`.
 */
async function invalidateFailed(
  open: OpenTransaction | undefined,
  failure: unknown,
  invalidate: () => Promise<unknown>,
): Promise<void> {
  if (saysUnwritten(failure)) return
  if (open === undefined) return invalidateUnsure(invalidate)
  try {
    await open.run(invalidate)
  } catch (error) {
    report('failure', () => ({ where: 'statement', error }))
  }
}

interface Begun {
  readonly name: string | undefined
  readonly open: OpenTransaction
}

/** The open transactions of connections, with their savepoints. */
export interface ConnectionTransactions {
  begin(connection: object, savepoint?: string): void
  /** Marks the names of the transaction, right before it is committed. */
  prepare(connection: object): Promise<void>
  /** Says that a savepoint is released, or that the whole transaction is committed. */
  commit(connection: object, savepoint?: string): Promise<void>
  /** Invalidates after a commit of unknown outcome, and waits for the end: a rollback, another commit, or none. Never rejects. */
  doubt(connection: object): Promise<void>
  /** Says that the transaction was committed with an unknown outcome. Never rejects. */
  unsure(connection: object): Promise<void>
  /** Says that a savepoint or the whole transaction is rolled back. A savepoint stays open for more work. */
  rollback(connection: object, savepoint?: string): void
  /** The innermost transaction of a connection. */
  of(connection: object): OpenTransaction | undefined
}

export function connectionTransactions(): ConnectionTransactions {
  const begun = new WeakMap<object, Begun[]>()
  /** Takes a savepoint out with all that began inside it, innermost first; all for the transaction itself. */
  const taken = (connection: object, savepoint: string | undefined): readonly OpenTransaction[] => {
    const all = begun.get(connection) ?? []
    const from = savepoint === undefined ? 0 : all.findLastIndex(({ name }) => name === savepoint)
    return from < 0
      ? []
      : all
          .splice(from)
          .reverse()
          .map(({ open }) => open)
  }
  const self: ConnectionTransactions = {
    begin(connection, name) {
      const all = begun.get(connection) ?? []
      begun.set(connection, [...all, { name, open: beginHostTransaction(self.of(connection)) }])
    },
    async prepare(connection) {
      // Of savepoints that were never released the host commits the changes, too.
      for (const { open } of begun.get(connection) ?? []) await open.prepare()
    },
    async commit(connection, savepoint) {
      for (const open of taken(connection, savepoint)) await open.commit()
    },
    async doubt(connection) {
      await Promise.all((begun.get(connection) ?? []).map(({ open }) => invalidateInDoubt(open)))
    },
    async unsure(connection) {
      for (const open of taken(connection, undefined)) await open.unsure()
    },
    rollback(connection, savepoint) {
      for (const open of taken(connection, savepoint)) void open.rollback()
      if (savepoint !== undefined) self.begin(connection, savepoint)
    },
    of: (connection) => begun.get(connection)?.at(-1)?.open,
  }
  return self
}
