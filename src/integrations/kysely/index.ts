/**
 * Caches over a Kysely database. A plugin of Kysely sees queries and no commits, so the connections of the dialect are watched
 * instead: they see queries, transactions and savepoints.
 */
import { expectFunction, expectMethods } from '../../base/options.js'
import { saysUncommitted } from '../orm/failed-commits.js'
import { type RowCache, type RowInvalidation, rowInvalidation, type StatementOptions } from '../orm/rows.js'
import {
  type ConnectionTransactions,
  connectionTransactions,
  inTransaction,
  written as invalidateFor,
  runStatement,
  streamStatement,
} from '../orm/units.js'
import type { KyselyDatabase, KyselyDialect, QueryNode } from './host.js'
import { returnsKeys } from './returned.js'
import { mutationOf, tablesOf } from './statements.js'

export type { EntityLists } from '../orm/core.js'
export type { RowCache, RowChange, RowOptions, RowRelations, StatementOptions } from '../orm/rows.js'
export type { KyselyDatabase, KyselyDialect } from './host.js'

/**
 * Caches over the rows of a Kysely database.
 * @example
 * ```ts
 * import type { KyselyCache, KyselyDatabase } from 'corral/integrations/kysely'
 *
 * export const inUnit = <T>(database: KyselyCache, db: KyselyDatabase<T>, work: (trx: T) => Promise<void>) =>
 *   database.unitOfWork(db, work)
 * ```
 */
export interface KyselyCache extends RowCache {
  /** The dialect whose connections are watched: `new Kysely({ dialect: database.dialect(new PostgresDialect(…)) })`. */
  dialect<D extends KyselyDialect>(dialect: D): D
  /**
   * A transaction of the database in which cached functions store nothing.
   * @throws CorralError `ERR_NOT_INVALIDATED` when it is committed, but not everything could be invalidated
   */
  unitOfWork<T, R>(db: KyselyDatabase<T>, work: (trx: T) => Promise<R>): Promise<R>
}

/**
 * After each statement or commit of a Kysely database, invalidates the values that depend on the rows which it changed: those that
 * `returning` returned with their key, else all of the table; in both cases all lists of the table, for no former row is known. Nothing
 * tells of raw SQL and of cascades in the database: call `invalidate`.
 * @example
 * ```ts
 * import type { Region } from 'corral'
 * import { kyselyCache } from 'corral/integrations/kysely'
 *
 * export const connect = (pages: Region) => kyselyCache({ regions: pages, tables: { article: 'id' } })
 * ```
 * @throws CorralError `ERR_OPTION` for options that cannot be right
 */
export function kyselyCache(options: StatementOptions): KyselyCache {
  const rows = rowInvalidation(options, 'kyselyCache()', true)
  const uncommitted = new WeakSet<object>()
  const { dependenciesOf, changed, invalidate } = rows
  return {
    ...{ dependenciesOf, changed, invalidate },
    dialect(dialect) {
      expectMethods(dialect, ['createDriver', 'createAdapter'], 'dialect() to get a dialect of Kysely')
      return overriding(dialect, {
        createDriver: () => watchedDriver(dialect.createDriver(), rows, uncommitted),
      })
    },
    unitOfWork(db, work) {
      expectMethods(db, ['transaction'], 'unitOfWork() to get a Kysely')
      expectFunction(work, 'the work of unitOfWork()')
      return inTransaction((own) => db.transaction().execute(own), work, {
        saysUncommitted: (error) => uncommitted.has(error as object),
      })
    },
  }
}

/** The same object with some members replaced. The others run on the object itself, which may have private fields. */
function overriding<T extends object>(target: T, members: object): T {
  return new Proxy(target, {
    get(_, name) {
      if (Object.hasOwn(members, name)) return Reflect.get(members, name)
      const member: unknown = Reflect.get(target, name)
      return typeof member === 'function' ? member.bind(target) : member
    },
    // Kysely replaces a member of a connection itself, to log queries.
    set: (_, name, value) => Reflect.set(Object.hasOwn(members, name) ? members : target, name, value),
  })
}

type Call = (connection: object, ...more: unknown[]) => Promise<unknown>
type Driver = ReturnType<KyselyDialect['createDriver']>

/** @param uncommitted - gets the failures of a COMMIT that say that nothing is committed */
function watchedDriver(driver: Driver, rows: RowInvalidation, uncommitted: WeakSet<object>): Driver {
  const transactions = connectionTransactions()
  const watched = new WeakMap<object, object>()
  const originals = new WeakMap<object, object>()
  /** Committed transactions whose invalidation failed. Kysely sees the failure and rolls back, though the transaction is over. */
  const committed = new WeakSet<object>()
  /** Connections whose COMMIT failed with an unknown outcome. What follows is a rollback, or the COMMIT again. */
  const unsure = new WeakSet<object>()
  const on = (name: string): Call => {
    const call = Reflect.get(driver, name) as Call
    return (connection, ...more) => call.call(driver, originals.get(connection) ?? connection, ...more)
  }
  return overriding(driver, {
    ...savepointsOf(driver, on, (connection) => originals.get(connection) ?? connection, transactions),
    async acquireConnection(...more: never[]) {
      const connection = await driver.acquireConnection(...more)
      const known = watched.get(connection) ?? watchedConnection(connection, rows, transactions)
      watched.set(connection, known)
      originals.set(known, connection)
      return known
    },
    releaseConnection: on('releaseConnection'),
    async beginTransaction(connection: object, ...more: unknown[]) {
      // Before: Kysely rolls back what fails to begin, too.
      committed.delete(connection)
      await on('beginTransaction')(connection, ...more)
      transactions.begin(originals.get(connection) ?? connection)
    },
    async commitTransaction(connection: object, ...more: unknown[]) {
      const original = originals.get(connection) ?? connection
      await transactions.prepare(original)
      try {
        await on('commitTransaction')(connection, ...more)
      } catch (error) {
        if (saysUncommitted(error)) uncommitted.add(error as object)
        else {
          unsure.add(original)
          await transactions.doubt(original)
        }
        throw error
      }
      unsure.delete(original)
      committed.add(connection)
      await transactions.commit(original)
    },
    async rollbackTransaction(connection: object, ...more: unknown[]) {
      if (committed.has(connection)) return
      const original = originals.get(connection) ?? connection
      if (unsure.delete(original)) await transactions.unsure(original)
      else transactions.rollback(original)
      await on('rollbackTransaction')(connection, ...more)
    },
  })
}

/** The savepoints of drivers that have them: those of Kysely 0.28 and later. */
function savepointsOf(
  driver: Driver,
  on: (name: string) => Call,
  originalOf: (connection: object) => object,
  transactions: ConnectionTransactions,
): object {
  const after = (name: string, then: (connection: object, savepoint: string) => unknown) => {
    if (typeof Reflect.get(driver, name) !== 'function') return {}
    const call: Call = async (connection, savepoint, ...more) => {
      await on(name)(connection, savepoint, ...more)
      await then(originalOf(connection), savepoint as string)
    }
    return { [name]: call }
  }
  return {
    ...after('savepoint', (connection, name) => transactions.begin(connection, name)),
    ...after('rollbackToSavepoint', (connection, name) => transactions.rollback(connection, name)),
    ...after('releaseSavepoint', (connection, name) => transactions.commit(connection, name)),
  }
}

type Connection = Awaited<ReturnType<Driver['acquireConnection']>>
interface Compiled {
  readonly query: QueryNode
  readonly sql: string
}

function watchedConnection(
  connection: Connection,
  rows: RowInvalidation,
  transactions: ConnectionTransactions,
): Connection {
  const mutatedBy = ({ query }: Compiled): readonly string[] => {
    const mutation = mutationOf(query)
    return mutation === undefined ? [] : (mutation.tables ?? rows.tables)
  }
  /** @param returned - all rows that the statement returned */
  const written = async (query: Compiled, returned?: readonly unknown[]): Promise<void> => {
    if (query.query.kind === 'RawNode') rows.raw(query.sql)
    const mutation = mutationOf(query.query)
    if (mutation === undefined) return
    const { tables = rows.tables, returns } = mutation
    const columns = tables.flatMap((table) => rows.columnsOf(table) ?? [])
    const areAll = returned !== undefined && returns && returnsKeys(query.query, columns)
    await invalidateFor(transactions.of(connection), () => rows.written(tables, returned ?? [], areAll))
  }
  return overriding(connection, {
    async executeQuery(query: Compiled & never, ...more: never[]) {
      rows.read(tablesOf((query as Compiled).query))
      const result = await runStatement(
        transactions.of(connection),
        () => connection.executeQuery(query, ...more),
        () => rows.written(mutatedBy(query), [], false),
      )
      await written(query, (result as { readonly rows?: readonly unknown[] }).rows)
      return result
    },
    async *streamQuery(query: Compiled & never, ...more: never[]) {
      rows.read(tablesOf((query as Compiled).query))
      yield* streamStatement(
        transactions.of(connection),
        connection.streamQuery(query, ...more),
        () => rows.written(mutatedBy(query), [], false),
        () => written(query),
      )
    },
  })
}
