/** What the failure of a COMMIT says. In doubt its outcome is unknown: the reply may be lost, or a hook after the commit failed. */

interface Failure {
  readonly code?: unknown
  readonly sqlState?: unknown
  /** Of `node:sqlite`. */
  readonly errcode?: unknown
  readonly cause?: unknown
}

/** Deferred constraints, serialization failures, deadlocks. In 40003 PostgreSQL and CockroachDB do not know the outcome themselves. */
const POSTGRES = /^(?:23|40)(?!003)[0-9A-Z]{3}$/
/** Of MySQL and MariaDB, Galera included. */
const MYSQL = /^40001$/
/** The transaction stays open. */
const SQLITE = /^SQLITE_(?:BUSY|CONSTRAINT)/
const SQLITE_CODES: readonly number[] = [5, 19]

/** Whether the failure of the COMMIT itself says clearly that the database did not commit. */
export function saysUncommitted(error: unknown): boolean {
  const seen = new Set<unknown>()
  for (let one = error; typeof one === 'object' && one !== null && !seen.has(one); ) {
    seen.add(one)
    const { code, sqlState, errcode, cause } = one as Failure
    if (typeof code === 'string' && (POSTGRES.test(code) || SQLITE.test(code))) return true
    if (typeof sqlState === 'string' && MYSQL.test(sqlState)) return true
    if (code === 'ERR_SQLITE_ERROR' && SQLITE_CODES.includes(Number(errcode) & 0xff)) return true
    one = cause
  }
  return false
}
