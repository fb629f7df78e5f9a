/** The parts of Kysely that the integration uses, by their structure: nothing of the package is imported. */

/** A node of a query. */
export interface QueryNode {
  readonly kind: string
}

interface Connection {
  executeQuery(query: never, ...more: never[]): Promise<unknown>
  streamQuery(query: never, ...more: never[]): AsyncIterableIterator<unknown>
}

interface Driver {
  init(...more: never[]): Promise<void>
  acquireConnection(...more: never[]): Promise<Connection>
  beginTransaction(connection: never, settings: never): Promise<void>
  commitTransaction(connection: never): Promise<void>
  rollbackTransaction(connection: never): Promise<void>
  releaseConnection(connection: never, ...more: never[]): Promise<void>
  destroy(...more: never[]): Promise<void>
}

/**
 * A dialect of Kysely, which opens its connections.
 * @example
 * ```ts
 * import type { KyselyCache, KyselyDialect } from 'corral/integrations/kysely'
 *
 * export const watched = <D extends KyselyDialect>(database: KyselyCache, dialect: D): D => database.dialect(dialect)
 * ```
 */
export interface KyselyDialect {
  createDriver(): Driver
}

/**
 * A database of Kysely.
 * @example
 * ```ts
 * import type { KyselyCache, KyselyDatabase } from 'corral/integrations/kysely'
 *
 * export const inUnit = <T>(database: KyselyCache, db: KyselyDatabase<T>, work: (trx: T) => Promise<void>) =>
 *   database.unitOfWork(db, work)
 * ```
 */
export interface KyselyDatabase<T> {
  transaction(): { execute<R>(work: (trx: T) => Promise<R>): Promise<R> }
}
