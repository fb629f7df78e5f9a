/** Whether the failure of a COMMIT or of a statement says that the database wrote nothing. Any other failure leaves that open: the reply may be lost. */

interface Failure {
  readonly code?: unknown
  readonly sqlState?: unknown
  /** Of `node:sqlite`. */
  readonly errcode?: unknown
  /** Of SQL Server. */
  readonly number?: unknown
  readonly name?: unknown
  readonly message?: unknown
  readonly cause?: unknown
}

/** Deferred constraints, serialization failures, deadlocks. In 40003 PostgreSQL and CockroachDB do not know the outcome themselves. */
const POSTGRES = /^(?:23|40)(?!003)[0-9A-Z]{3}$/
/** Of MySQL and MariaDB, Galera included. */
const MYSQL = /^40001$/
/** The transaction stays open. */
const SQLITE = /^SQLITE_(?:BUSY|CONSTRAINT)/
const SQLITE_CODES: readonly number[] = [5, 19]

/** The database refused the statement, and so took it back. Not the classes 08, 57P and XX: the connection or the server went. */
const REFUSED =
  /^(?:0A|2[0-9A-Z]|3[0-9A-Z]|40(?!003)|42|44|45|53|54|55|P0)[0-9A-Z]{3}$|^(?:57014|57P03|70100)$/
/** Of MySQL and MariaDB, with the general SQLSTATE. */
const MYSQL_REFUSED =
  /^ER_(?:LOCK_WAIT_TIMEOUT|NO_DEFAULT_FOR_FIELD|TRUNCATED_WRONG_VALUE(?:_FOR_FIELD)?|(?:CHECK_)?CONSTRAINT_(?:VIOLATED|FAILED))$/
const SQLITE_REFUSED =
  /^SQLITE_(?:ERROR|PERM|BUSY|LOCKED|READONLY|SCHEMA|TOOBIG|CONSTRAINT|MISMATCH|MISUSE|AUTH|RANGE)/
const SQLITE_REFUSED_CODES: readonly number[] = [1, 3, 5, 6, 8, 17, 18, 19, 20, 21, 23, 25]
/** Of SQLite where errors have no codes: sql.js, D1. */
const SQLITE_CONSTRAINT = /\b(?:UNIQUE|NOT NULL|CHECK|FOREIGN KEY) constraint failed\b/
/** Of SQL Server: no value, a constraint, a key, a deadlock, a text that is too long. */
const SQL_SERVER_REFUSED: readonly unknown[] = [515, 547, 2601, 2627, 1205, 2628, 8152]
/** Codes of Prisma for statements that the database refused. Three codes of its kind also stand for lost replies. */
const PRISMA_REFUSED = /^P2(?!010|028|036)\d{3}$/
/** There was no connection to send it over. */
const UNSENT = /^(?:ECONNREFUSED|ENOTFOUND|EAI_AGAIN|P10(?:00|01|03|10|11))$/

/** Whether the failure of the COMMIT itself says clearly that the database did not commit. */
export const saysUncommitted = (error: unknown): boolean =>
  isAny(error, ({ code, sqlState, errcode }) => {
    if (typeof code === 'string' && (POSTGRES.test(code) || SQLITE.test(code))) return true
    if (typeof sqlState === 'string' && MYSQL.test(sqlState)) return true
    return code === 'ERR_SQLITE_ERROR' && SQLITE_CODES.includes(Number(errcode) & 0xff)
  })

/** Whether the failure of a statement without a transaction says clearly that nothing of it is written. */
export const saysUnwritten = (error: unknown): boolean =>
  isAny(error, ({ code, sqlState, errcode, number, name, message }) => {
    if (typeof message === 'string' && SQLITE_CONSTRAINT.test(message)) return true
    if (typeof sqlState === 'string' && REFUSED.test(sqlState)) return true
    if (code === 'ERR_SQLITE_ERROR') return SQLITE_REFUSED_CODES.includes(Number(errcode) & 0xff)
    if (code === 'EREQUEST') return SQL_SERVER_REFUSED.includes(number)
    if (name === 'PrismaClientValidationError') return true
    const known = [REFUSED, MYSQL_REFUSED, SQLITE_REFUSED, PRISMA_REFUSED, UNSENT]
    return typeof code === 'string' && known.some((one) => one.test(code))
  })

/** Whether it holds for an error, or for one that it was caused by. */
function isAny(error: unknown, holds: (failure: Failure) => boolean): boolean {
  const seen = new Set<unknown>()
  for (let one = error; typeof one === 'object' && one !== null && !seen.has(one); ) {
    seen.add(one)
    if (holds(one as Failure)) return true
    one = (one as Failure).cause
  }
  return false
}
