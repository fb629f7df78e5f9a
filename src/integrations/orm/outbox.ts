/** Names to invalidate, in a table that the transaction itself writes: they are as durable as its other rows. */
import { randomUUID } from 'node:crypto'
import { type Duration, milliseconds } from '../../base/duration.js'
import type { MaybePromise } from '../../base/maybe-promise.js'
import {
  expectFunction,
  expectMethods,
  expectOneOf,
  expectThat,
  rejectOptions,
  rejectUnknownOptions,
} from '../../base/options.js'
import { epochNow } from '../../base/timers.js'
import { refuseVersions } from '../../ledger/checked-names.js'
import type { InvalidationMode } from '../../ledger/ledger.js'
import { listNames } from '../../ledger/names.js'
import type { Target } from '../../signals/settle.js'

/**
 * Runs a statement with values on one connection, and returns the rows that it selects.
 * @example
 * ```ts
 * import type { RunQuery } from 'corral/integrations/sql'
 *
 * interface Client {
 *   query(sql: string, values: unknown[]): Promise<{ rows: object[] }>
 * }
 * export const queries = (client: Client): RunQuery => async (sql, values) => (await client.query(sql, [...values])).rows
 * ```
 */
export type RunQuery = (sql: string, values: readonly (string | number)[]) => MaybePromise<unknown>

/**
 * Options of `outbox`.
 * @example
 * ```ts
 * import type { OutboxOptions } from 'corral/integrations/sql'
 *
 * export const onPostgres: Pick<OutboxOptions, 'placeholder'> = { placeholder: (at) => `$${at}` }
 * ```
 */
export interface OutboxOptions {
  /** Where values depend on the names. Regions over the same ledger need only one of them. */
  readonly regions: Target | readonly Target[]
  /** The name of the table. @default 'corral_outbox' */
  readonly table?: string
  /** The place of a value in a statement, counted from 1: `$1` for PostgreSQL. @default a question mark */
  readonly placeholder?: (at: number) => string
  /** After so long the rows that a process has taken and not deleted are free for others: it may have died. @default '30s' */
  readonly claimFor?: Duration
}

/**
 * A table of names to invalidate.
 * @example
 * ```ts
 * import { dep } from 'corral'
 * import type { Outbox, RunQuery } from 'corral/integrations/sql'
 *
 * export async function rename(box: Outbox, run: RunQuery, id: number) {
 *   await run('BEGIN', [])
 *   await run('UPDATE article SET title = ? WHERE id = ?', ['new', id])
 *   await box.write(run, dep.id('article', id))
 *   await run('COMMIT', [])
 *   await box.drain(run)
 * }
 * ```
 */
export interface Outbox {
  /** The statement that makes the table, in words that SQLite, PostgreSQL and MySQL have in common. */
  readonly createTable: string
  /**
   * Writes names into the table, on the connection of a transaction and before its commit.
   * @throws CorralError `ERR_OPTION` for names that are none, before anything is written; what the statement throws
   */
  write(run: RunQuery, names: string | readonly string[], mode?: InvalidationMode): Promise<void>
  /**
   * Invalidates the names of committed transactions, then deletes their rows. Any process may call it at any time, on a
   * connection outside of every transaction: after each commit, and now and then for the transactions of processes that
   * died. A row is deleted only after its names are invalidated, so it may be invalidated twice and is never lost.
   * Resolves with the number of rows.
   * @throws CorralError `ERR_OPTION` for a row of another form, and what an invalidation or a statement throws;
   * the rows stay for the next call
   */
  drain(run: RunQuery): Promise<number>
}

/**
 * Makes an outbox: names of invalidations in the same database as the rows that they are about. Where marks in the ledger
 * survive the death of a process, an outbox also survives that of the cache's store and of the network in between.
 * @example
 * ```ts
 * import type { Region } from 'corral'
 * import { outbox } from 'corral/integrations/sql'
 *
 * export const forPages = (pages: Region) => outbox({ regions: pages, placeholder: (at) => `$${at}` })
 * ```
 * @throws CorralError `ERR_OPTION` for options that cannot be right
 */
export function outbox(options: OutboxOptions): Outbox {
  rejectUnknownOptions(options, ['regions', 'table', 'placeholder', 'claimFor'], 'outbox()')
  const { table = 'corral_outbox', placeholder = () => '?', claimFor = '30s' } = options
  const regions = Object.freeze([options.regions].flat())
  expectThat(regions.length > 0, regions, '`regions` of outbox() to list regions')
  for (const region of regions)
    expectMethods(region, ['invalidateDependencies'], '`regions` of outbox() to list regions')
  expectFunction(
    placeholder,
    '`placeholder` of outbox()',
    'a function of the place, such as (at) => `$${at}`',
  )
  expectThat(
    typeof table === 'string' && /^\w+(\.\w+)?$/.test(table),
    table,
    "`table` of outbox() to be the name of a table, such as 'corral_outbox'",
  )
  const lifetime = milliseconds(claimFor, 'claimFor')
  const sql = statements(table, placeholder)
  return {
    createTable: sql.create,
    async write(run, given, mode = 'hard') {
      expectFunction(run, 'the statements of write()', 'a function that runs one on the connection')
      expectOneOf(mode, 'the mode of write()', ['hard', 'soft'])
      const names = listNames(given)
      refuseVersions(names, true)
      await run(sql.insert, [randomUUID(), JSON.stringify(names), mode, '', 0])
    },
    async drain(run) {
      expectFunction(run, 'the statements of drain()', 'a function that runs one on a connection')
      const claim = randomUUID()
      const now = epochNow()
      await run(sql.claim, [claim, now + lifetime, now])
      const rows = ((await run(sql.select, [claim])) ?? []) as readonly OutboxRow[]
      if (rows.length === 0) return 0
      try {
        await invalidateRows(regions, rows)
      } catch (error) {
        await run(sql.free, [claim])
        throw error
      }
      await run(sql.remove, [claim])
      return rows.length
    },
  }
}

interface OutboxRow {
  readonly names?: unknown
  readonly invalidation?: unknown
}

/** Values of one kind stand at the same place in each statement. */
function statements(table: string, at: (place: number) => string) {
  return {
    create: `CREATE TABLE ${table} (id VARCHAR(36) PRIMARY KEY, names TEXT NOT NULL, invalidation VARCHAR(4) NOT NULL, claim VARCHAR(36) NOT NULL, claimed_until BIGINT NOT NULL)`,
    insert: `INSERT INTO ${table} (id, names, invalidation, claim, claimed_until) VALUES (${at(1)}, ${at(2)}, ${at(3)}, ${at(4)}, ${at(5)})`,
    claim: `UPDATE ${table} SET claim = ${at(1)}, claimed_until = ${at(2)} WHERE claimed_until <= ${at(3)}`,
    select: `SELECT names, invalidation FROM ${table} WHERE claim = ${at(1)}`,
    free: `UPDATE ${table} SET claimed_until = 0 WHERE claim = ${at(1)}`,
    remove: `DELETE FROM ${table} WHERE claim = ${at(1)}`,
  }
}

/** Their order does not matter: an invalidation is about all that was created before it. */
async function invalidateRows(regions: readonly Target[], rows: readonly OutboxRow[]): Promise<void> {
  for (const mode of ['hard', 'soft'] as const) {
    const names = new Set(rows.filter(({ invalidation }) => invalidation === mode).flatMap(namesOf))
    if (names.size > 0)
      for (const region of regions)
        await region.invalidateDependencies([...names], mode, { reason: 'an outbox' })
  }
  const foreign = rows.find(({ invalidation }) => invalidation !== 'hard' && invalidation !== 'soft')
  if (foreign !== undefined) rejectRow(foreign)
}

function namesOf(row: OutboxRow): readonly string[] {
  const names: unknown = typeof row.names === 'string' ? JSON.parse(row.names) : row.names
  return Array.isArray(names) && names.every((name) => typeof name === 'string') ? names : rejectRow(row)
}

function rejectRow(row: OutboxRow): never {
  rejectOptions(
    `Expected rows of an outbox with \`names\` and \`invalidation\`, got one with the columns ${Object.keys(row).join(', ')}. Let \`run\` return rows as objects, and no other program write to the table.`,
  )
}
