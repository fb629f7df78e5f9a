/** Transactions of hosts: units of work around a function, and those that a connection begins and ends by calls. */
import { isNotInvalidated } from '../../signals/settle.js'
import { beginTransaction, type OpenTransaction } from '../../signals/transactions.js'

/**
 * Runs work in a transaction of a host, and invalidates after its commit. If the commit itself fails after the work is done, it is
 * unknown whether the database has it: its reply may be lost. So its names are invalidated too, and the failure is passed on.
 * @param transact - resolves after the commit
 * @param isPrepared - whether names are marked when the work is done; not so for a savepoint, and where that is after the commit
 */
export async function inTransaction<T, R>(
  transact: (work: (own: T) => Promise<R>) => Promise<R>,
  work: (own: T) => R | Promise<R>,
  isPrepared = true,
): Promise<R> {
  const open = beginTransaction({ prepared: true })
  let isWorked = false
  let result: R
  try {
    result = await open.run(() =>
      transact(async (own) => {
        const worked = await work(own)
        if (isPrepared) await open.prepare()
        isWorked = true
        return worked
      }),
    )
  } catch (error) {
    await (isWorked ? open.unsure() : open.rollback())
    throw error
  }
  try {
    await open.commit()
  } catch (error) {
    throw isNotInvalidated(error) ? Object.assign(error, { result }) : error
  }
  return result
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
  /** Says that the transaction was committed with an unknown outcome. Never rejects. */
  unsure(connection: object): Promise<void>
  /** Says that a savepoint or the whole transaction is rolled back. A savepoint stays open for more work. */
  rollback(connection: object, savepoint?: string): void
  /** Runs work inside the innermost transaction of a connection, if it has one. */
  inside<R>(connection: object, work: () => R): R
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
      const open = self.inside(connection, () => beginTransaction({ prepared: true }))
      begun.set(connection, [...all, { name, open }])
    },
    async prepare(connection) {
      // Of savepoints that were never released the host commits the changes, too.
      for (const { open } of begun.get(connection) ?? []) await open.prepare()
    },
    async commit(connection, savepoint) {
      for (const open of taken(connection, savepoint)) await open.commit()
    },
    async unsure(connection) {
      for (const open of taken(connection, undefined)) await open.unsure()
    },
    rollback(connection, savepoint) {
      for (const open of taken(connection, savepoint)) void open.rollback()
      if (savepoint !== undefined) self.begin(connection, savepoint)
    },
    inside(connection, work) {
      const innermost = begun.get(connection)?.at(-1)
      return innermost === undefined ? work() : innermost.open.run(work)
    },
  }
  return self
}
