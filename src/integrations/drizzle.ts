/**
 * Caches over a Drizzle database. Drizzle tells its own cache of tables only, beside the statement and before the commit. So the
 * session of the database is watched instead: each statement when it is done, each transaction when it has ended.
 */
import { expectFunction, expectMethods, expectThat } from '../base/options.js'
import type { OpenTransaction } from '../signals/transactions.js'
import { saysUncommitted } from './orm/failed-commits.js'
import { type RowCache, type RowInvalidation, rowInvalidation, type StatementOptions } from './orm/rows.js'
import { inTransaction, runStatement, streamStatement, written } from './orm/units.js'

export {
  type DrizzleResultCache,
  type DrizzleResultCacheOptions,
  drizzleResultCache,
} from './drizzle/result-cache.js'
export type { EntityLists } from './orm/core.js'
export type { ResultCacheOptions } from './orm/query-cache.js'
export type { RowCache, RowChange, RowOptions, RowRelations, StatementOptions } from './orm/rows.js'

/**
 * A database of Drizzle, with a driver that returns promises.
 * @example
 * ```ts
 * import type { Region } from 'corral'
 * import { type DrizzleDatabase, drizzleCache } from 'corral/integrations/drizzle'
 *
 * export const connect = (db: DrizzleDatabase, pages: Region) =>
 *   drizzleCache(db, { regions: pages, tables: { article: 'id' } })
 * ```
 */
export interface DrizzleDatabase<T = never> {
  transaction(work: (tx: T) => Promise<unknown>, ...config: never[]): Promise<unknown>
}

/**
 * Caches over the rows of a Drizzle database.
 * @example
 * ```ts
 * import type { DrizzleCache } from 'corral/integrations/drizzle'
 *
 * interface Transaction {
 *   execute(statement: string): Promise<unknown>
 * }
 * export const clear = (database: DrizzleCache<Transaction>) =>
 *   database.unitOfWork(async (tx) => {
 *     await tx.execute('DELETE FROM article') // raw SQL, of which nothing tells
 *     await database.invalidate('article')
 *   })
 * ```
 */
export interface DrizzleCache<T> extends RowCache {
  /**
   * A transaction of the database in which cached functions store nothing. `db.transaction` of this database is the same
   * while the integration watches it.
   * @throws CorralError `ERR_NOT_INVALIDATED` when it is committed, but not everything could be invalidated
   */
  unitOfWork<R>(work: (tx: T) => Promise<R>): Promise<R>
  /** Ends the watching. */
  stop(): void
}

type Method = (...args: unknown[]) => unknown
interface Session {
  prepareQuery: Method
}
interface Watchable {
  readonly session: Session
  transaction: Method
}

/**
 * After each statement or commit of a Drizzle database, invalidates the values that depend on the rows which it changed: those that
 * `returning()` returned with their key, else all of the table; in both cases all lists of the table, for Drizzle tells of no former
 * row. It replaces the methods `transaction` and `session.prepareQuery` of this one object until `stop()`. Nothing tells of raw SQL, of
 * `db.batch` and of cascades in the database: call `invalidate`.
 * @param db - with a driver that returns promises
 * @example
 * ```ts
 * import type { Region } from 'corral'
 * import { type DrizzleDatabase, drizzleCache } from 'corral/integrations/drizzle'
 *
 * export const connect = (db: DrizzleDatabase, pages: Region) =>
 *   drizzleCache(db, { regions: pages, tables: { article: 'id' } })
 * ```
 * @throws CorralError `ERR_OPTION` for options that cannot be right, and for a database without a session to watch
 */
export function drizzleCache<T>(db: DrizzleDatabase<T>, options: StatementOptions): DrizzleCache<T> {
  const watched = db as unknown as Watchable
  expectMethods(watched, ['transaction'], 'drizzleCache() to get a database of Drizzle')
  expectMethods(watched.session, ['prepareQuery'], 'drizzleCache() to get a database of Drizzle 0.45')
  const { resultKind } = db as { readonly resultKind?: unknown }
  expectThat(
    resultKind !== 'sync',
    db,
    'drizzleCache() to get a database whose driver returns promises',
    'Take libsql instead of better-sqlite3 or sql.js, or sqlCache() with calls of your own.',
  )
  const rows = rowInvalidation(options, 'drizzleCache()', true)
  const stop = watch(watched, { rows, sessions: new WeakMap() })
  const { dependenciesOf, changed, invalidate } = rows
  return {
    ...{ dependenciesOf, changed, invalidate, stop },
    unitOfWork<R>(work: (tx: T) => Promise<R>) {
      expectFunction(work, 'the work of unitOfWork()')
      return watched.transaction(work) as Promise<R>
    },
  }
}

/** The open transactions of each session, savepoints last. Over a single connection a database and its transactions share one. */
type Sessions = WeakMap<Session, readonly OpenTransaction[]>

/** A database, or a transaction, which is an object of the same shape. */
interface Place {
  readonly rows: RowInvalidation
  readonly sessions: Sessions
  readonly around?: { readonly session: Session; readonly open?: OpenTransaction }
}

function watch(watched: Watchable, { rows, sessions, around }: Place): () => void {
  const { session, transaction } = watched
  watched.transaction = (work, ...config) =>
    inTransaction<Watchable, unknown>(
      (inner) => transaction.call(watched, inner, ...config) as Promise<unknown>,
      async (tx, open) => {
        watch(tx, { rows, sessions, around: { session, open } })
        sessions.set(tx.session, [...(sessions.get(tx.session) ?? []), open])
        try {
          return await (work as (tx: Watchable) => unknown)(tx)
        } finally {
          const left = sessions.get(tx.session)?.filter((one) => one !== open) ?? []
          sessions.set(tx.session, left)
        }
      },
      { around: around?.open, saysUncommitted: (error) => isOfCommit(error) && saysUncommitted(error) },
    )
  // A savepoint has the session of the transaction around it, which is watched already.
  const { prepareQuery } = session
  const openOf = () => sessions.get(session)?.at(-1)
  if (session !== around?.session)
    session.prepareQuery = (...args) => told(prepareQuery.apply(session, args) as object, args, rows, openOf)
  return () => {
    watched.transaction = transaction
    session.prepareQuery = prepareQuery
  }
}

/** Whether the failed statement was the COMMIT itself. Drizzle tells so over the drivers to which it sends it as a statement. */
const isOfCommit = (error: unknown): boolean =>
  (error as { readonly query?: unknown } | null)?.query === 'commit'

/** The methods of a prepared query that run it. */
const RUNS: ReadonlySet<unknown> = new Set(['execute', 'run', 'all', 'get', 'values'])

/** A prepared query that tells of the rows that it changed, once it has, and of the tables that it reads. */
function told(
  prepared: object,
  args: readonly unknown[],
  rows: RowInvalidation,
  openOf: () => OpenTransaction | undefined,
): object {
  const [{ sql = '' } = {}] = args as readonly { readonly sql?: string }[]
  const described = args.flatMap(mutatedTables)
  // Drizzle does not tell of the changes in common table expressions.
  const isBuilt = /^with\s/i.test(sql) && args.some(isDescription)
  const tables = Array.from(new Set([...described, ...(isBuilt ? rows.writtenIn(sql) : [])]))
  const read = args.flatMap(readTables)
  // Drizzle does not tell of the tables of a query in a condition.
  const isKnown = read.length > 0 && sql.match(/\bselect\b/gi)?.length === 1
  // The second argument has the fields of `returning()`.
  const columns = tables.flatMap((table) => rows.columnsOf(table) ?? [])
  const returns = args[1] !== undefined && described.length > 0 && returnsKeys(sql, args[1], tables, columns)
  const begun = (): void => {
    rows.read(isKnown ? read : undefined)
    if (tables.length === 0 && read.length === 0) rows.raw(sql)
  }
  const all = () => rows.written(tables, [], false)
  return new Proxy(prepared, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name)
      if (typeof member !== 'function') return member
      // Of MySQL.
      if (name === 'iterator')
        return async function* (...given: unknown[]) {
          begun()
          const stream = member.apply(target, given) as AsyncIterable<unknown>
          yield* streamStatement(openOf(), stream, all, () => written(openOf(), all))
        }
      if (!RUNS.has(name)) return member
      return async (...given: unknown[]) => {
        begun()
        const result: unknown = await runStatement(openOf(), () => member.apply(target, given), all)
        const isList = Array.isArray(result)
        if (tables.length > 0)
          await written(openOf(), () => rows.written(tables, isList ? result : [], returns && isList))
        return result
      }
    },
  })
}

const [TABLE_NAME, COLUMNS] = ['drizzle:Name', 'drizzle:Columns'].map(Symbol.for) as [symbol, symbol]

interface Column {
  readonly name?: unknown
  readonly table?: Readonly<Record<symbol, unknown>>
}

/**
 * Whether the rows that a statement returns tell the keys of all rows that it changed. They do not if it sets a column of the key, or
 * returns another column, or an expression, under the name of one.
 */
function returnsKeys(
  sql: string,
  fields: unknown,
  tables: readonly string[],
  columns: readonly string[],
): boolean {
  const list = (Array.isArray(fields) ? fields : []) as readonly { path: readonly string[]; field: Column }[]
  // In a condition Drizzle writes the table in front of the column.
  const set = Array.from(sql.matchAll(/ ["`]([^"`]+)["`] = /g), ([, name]) => uncased(name))
  return list.every(({ path: [name = '', ...deeper], field }) => {
    if (!columns.includes(name)) return true
    const { table, name: inDatabase } = field
    const own = (table?.[COLUMNS] as Readonly<Record<string, unknown>> | undefined)?.[name]
    const isKey = deeper.length === 0 && own === field && tables.includes(table?.[TABLE_NAME] as string)
    return isKey && !set.includes(uncased(inDatabase))
  })
}

/** With `casing` Drizzle derives the name in the database from that of the column, which alone is known here. */
const uncased = (name: unknown): string => String(name).replaceAll('_', '').toLowerCase()

/** The tables in the description of a statement that changes some. */
const mutatedTables = (argument: unknown): readonly string[] =>
  tablesOf(argument, ['insert', 'update', 'delete'])

const readTables = (argument: unknown): readonly string[] => tablesOf(argument, ['select'])

function tablesOf(argument: unknown, types: readonly string[]): readonly string[] {
  return isDescription(argument) && types.includes(argument.type) ? argument.tables : []
}

interface Description {
  readonly type: string
  readonly tables: readonly string[]
}

function isDescription(argument: unknown): argument is Description {
  const { type, tables } = (argument ?? {}) as Partial<Description>
  return Array.isArray(tables) && type !== undefined
}
