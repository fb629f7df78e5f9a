/** Names to invalidate, in a table that the transaction itself writes: they are as durable as its other rows. */
import { randomUUID } from 'node:crypto'
import { report } from '../../base/diagnostics.js'
import { type Duration, milliseconds } from '../../base/duration.js'
import { CorralError } from '../../base/errors.js'
import type { MaybePromise } from '../../base/maybe-promise.js'
import { oneOrMany } from '../../base/one-or-many.js'
import {
  expectFunction,
  expectMethods,
  expectOneOf,
  expectThat,
  ownOptions,
  rejectOptions,
  rejectUnknownOptions,
} from '../../base/options.js'
import { epochNow, MAX_DELAY } from '../../base/timers.js'
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
  readonly table?: string | undefined
  /** The place of a value in a statement, counted from 1: `$1` for PostgreSQL. @default a question mark */
  readonly placeholder?: ((at: number) => string) | undefined
  /** After so long the rows that a process has taken and not deleted are free for others: it may have died. @default '30s' */
  readonly claimFor?: Duration | undefined
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
   * A row that this process cannot read, such as one of a later version, is told on `corral:failure`, once by each process, and
   * stays for others. Resolves with the number of the other rows.
   * @throws CorralError `ERR_OPTION` if `run` returns no rows as objects, and what an invalidation or a statement throws; the rows
   * stay for the next call
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
  options = ownOptions(options)
  rejectUnknownOptions(options, ['regions', 'table', 'placeholder', 'claimFor'], 'outbox()')
  const { table = 'corral_outbox', placeholder = () => '?', claimFor = '30s' } = options
  const regions = Object.freeze(oneOrMany(options.regions))
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
  // The column holds whole numbers.
  const lifetime = Math.ceil(milliseconds(claimFor, 'claimFor'))
  expectThat(
    lifetime <= MAX_DELAY,
    claimFor,
    '`claimFor` of outbox() to be at most 24 days',
    'The rows of a process that died are invalidated only after it.',
  )
  const sql = statements(table, placeholder)
  /** The ids of the rows that are told. */
  const told = new Set<string>()
  return {
    createTable: sql.create,
    async write(run, given, mode = 'hard') {
      expectFunction(run, 'the statements of write()', 'a function that runs one on the connection')
      expectOneOf(mode, 'the mode of write()', ['hard', 'soft'])
      const names = listNames(given)
      refuseVersions(names, true)
      for (const some of fitting(names))
        await run(sql.insert, [randomUUID(), JSON.stringify(some), mode, '', 0])
    },
    async drain(run) {
      // A claim from the future is one of a clock that was ahead: its process may have died since.
      expectFunction(run, 'the statements of drain()', 'a function that runs one on a connection')
      const claim = randomUUID()
      const now = epochNow()
      await run(sql.claim, [claim, now + lifetime, now, now + 2 * lifetime])
      const found = await run(sql.select, [claim])
      try {
        const rows = expectRows(found)
        if (rows.length === 0) return 0
        const { names, unreadable } = readRows(rows)
        await invalidateAll(regions, names)
        // Before the others are deleted: they must not go with them.
        for (const id of unreadable) await run(sql.skip, [claim, id])
        tellOf(unreadable, told, table)
        await run(sql.remove, [claim])
        return rows.length - unreadable.length
      } catch (error) {
        await run(sql.free, [claim])
        throw error
      }
    },
  }
}

/** Taken for no rows, any other result would leave the invalidations undone in silence. */
function expectRows(found: unknown): readonly OutboxRow[] {
  const remedy = 'The rows stay. Let `run` return them: of pg `(await client.query(sql, values)).rows`.'
  expectThat(
    Array.isArray(found),
    found,
    'a list of the rows that a statement selects from an outbox',
    remedy,
  )
  return found
}

interface OutboxRow {
  readonly id?: unknown
  readonly names?: unknown
  readonly invalidation?: unknown
}

/** Bytes of a row's names. MySQL keeps 65,535 of a `TEXT`, and without its strict mode cuts the rest off. */
const MAX_NAMES = 60_000

/** Names in parts that fit into a row. */
function fitting(names: readonly string[]): readonly (readonly string[])[] {
  const parts: string[][] = [[]]
  let bytes = 0
  for (const name of names) {
    const more = Buffer.byteLength(JSON.stringify(name)) + 1
    if (bytes > 0 && bytes + more > MAX_NAMES) {
      parts.push([])
      bytes = 0
    }
    bytes += more
    parts.at(-1)?.push(name)
  }
  return parts
}

/** Values of one kind stand at the same place in each statement. */
function statements(table: string, at: (place: number) => string) {
  return {
    create: `CREATE TABLE ${table} (id VARCHAR(36) PRIMARY KEY, names TEXT NOT NULL, invalidation VARCHAR(4) NOT NULL, claim VARCHAR(36) NOT NULL, claimed_until BIGINT NOT NULL)`,
    insert: `INSERT INTO ${table} (id, names, invalidation, claim, claimed_until) VALUES (${at(1)}, ${at(2)}, ${at(3)}, ${at(4)}, ${at(5)})`,
    claim: `UPDATE ${table} SET claim = ${at(1)}, claimed_until = ${at(2)} WHERE claimed_until <= ${at(3)} OR claimed_until > ${at(4)}`,
    select: `SELECT id, names, invalidation FROM ${table} WHERE claim = ${at(1)}`,
    skip: `UPDATE ${table} SET claim = '', claimed_until = 0 WHERE claim = ${at(1)} AND id = ${at(2)}`,
    free: `UPDATE ${table} SET claimed_until = 0 WHERE claim = ${at(1)}`,
    remove: `DELETE FROM ${table} WHERE claim = ${at(1)}`,
  }
}

type Names = Readonly<Record<InvalidationMode, Set<string>>>

function readRows(rows: readonly OutboxRow[]): {
  readonly names: Names
  readonly unreadable: readonly string[]
} {
  const names: Names = { hard: new Set(), soft: new Set() }
  const unreadable: string[] = []
  for (const row of rows) {
    const { id, invalidation } = row
    if (typeof id !== 'string') rejectRow(row)
    const found = namesOf(row)
    if (found === undefined || (invalidation !== 'hard' && invalidation !== 'soft')) unreadable.push(id)
    else for (const name of found) names[invalidation].add(name)
  }
  return { names, unreadable }
}

function namesOf({ names: given }: OutboxRow): readonly string[] | undefined {
  try {
    const names: unknown = typeof given === 'string' ? JSON.parse(given) : given
    if (!Array.isArray(names) || !names.every((name) => typeof name === 'string')) return undefined
    const list = listNames(names)
    refuseVersions(list, true)
    return list
  } catch {
    return undefined
  }
}

/** The order of rows does not matter: an invalidation is about all that was created before it. */
async function invalidateAll(regions: readonly Target[], names: Names): Promise<void> {
  for (const mode of ['hard', 'soft'] as const)
    if (names[mode].size > 0)
      for (const region of regions)
        await region.invalidateDependencies([...names[mode]], mode, { reason: 'an outbox' })
}

function tellOf(unreadable: readonly string[], told: Set<string>, table: string): void {
  const unreported = unreadable.filter((id) => !told.has(id))
  if (unreported.length === 0) return
  for (const id of unreported) told.add(id)
  report('failure', () => ({
    where: 'outbox',
    error: new CorralError(
      'ERR_OPTION',
      `Expected rows of '${table}' with names and a mode, got ${unreported.length} of another form, such as that with the id '${unreported[0]}'. Values that depend on their names may be stale. Let processes of the version that wrote them drain, or delete them.`,
    ),
    count: unreported.length,
  }))
}

function rejectRow(row: OutboxRow): never {
  rejectOptions(
    `Expected rows of an outbox as objects with \`id\`, \`names\` and \`invalidation\`, got one with the columns ${Object.keys(row).join(', ')}. Let \`run\` return rows as objects.`,
  )
}
