/** Rows of tables, for hosts that know no entities: the application says which columns are the key of each table. */
import { reportOnce } from '../../base/diagnostics.js'
import { formatValue } from '../../base/errors.js'
import { oneOrMany } from '../../base/one-or-many.js'
import {
  didYouMean,
  expectBoolean,
  expectText,
  expectThat,
  ownOptions,
  rejectOptions,
  rejectUnknownOptions,
} from '../../base/options.js'
import { dep } from '../../dependencies/dep.js'
import type { IdPart } from '../../ledger/names.js'
import { invalidateAfterCommit } from '../../signals/transactions.js'
import { type EntityChange, isPart, type OrmOptions, ormInvalidation, typeName } from './core.js'
import { declareRead, forbidRead, namesOfRead } from './reads.js'
import { tablesWrittenBy } from './written-tables.js'

/**
 * Options of the integrations that know tables and no entities.
 * @example
 * ```ts
 * import type { Region } from 'corral'
 * import type { RowOptions } from 'corral/integrations/sql'
 *
 * export const options = (regions: Region): RowOptions => ({
 *   regions,
 *   tables: { article: 'id', order_line: ['order', 'line'] },
 * })
 * ```
 */
export interface RowOptions extends OrmOptions {
  /** The columns of the primary key of each table, as its rows have them. */
  readonly tables: Readonly<Record<string, string | readonly string[]>>
}

/**
 * Options of the integrations that see statements.
 * @example
 * ```ts
 * import type { Region } from 'corral'
 * import type { StatementOptions } from 'corral/integrations/kysely'
 *
 * export const options = (regions: Region): StatementOptions => ({ regions, tables: { article: 'id' }, trackReads: true })
 * ```
 */
export interface StatementOptions extends RowOptions {
  /**
   * Cached functions depend on the tables that they read, without saying it: on all changes of them. A value that was made from a
   * statement of which nothing tells the tables, such as raw SQL, is not stored, and `corral:unstored` has the reason. @default false
   */
  readonly trackReads?: boolean | undefined
}

/**
 * The properties of a row that hold rows of other tables.
 * @example
 * ```ts
 * import type { RowRelations } from 'corral/integrations/sql'
 *
 * export const ofArticle: RowRelations = { author: 'author', tags: { table: 'tag', relations: { owner: 'author' } } }
 * ```
 */
export interface RowRelations {
  readonly [property: string]: string | { readonly table: string; readonly relations?: RowRelations }
}

/**
 * How rows changed, as far as it is known.
 * @example
 * ```ts
 * import type { RowChange } from 'corral/integrations/sql'
 *
 * export const moved: RowChange = { before: { id: 5, category: 'news' }, modified: ['category'] }
 * ```
 */
export interface RowChange {
  /** The row before the change; of a deletion the row itself. Without it the row may have been in any list. */
  readonly before?: object | null
  /** The row is new, so that it leaves no list. @default false */
  readonly created?: boolean
  /** The columns that changed. @default any of them */
  readonly modified?: readonly string[]
}

/**
 * Caches over the rows of a database.
 * @example
 * ```ts
 * import type { RowCache } from 'corral/integrations/sql'
 *
 * export const names = (database: RowCache, articles: object[]) => database.dependenciesOf('article', articles)
 * ```
 */
export interface RowCache {
  /**
   * The names that a value depends on which was made from these rows, and from those under the properties named. `null` is a row that is not
   * there. For lists, add the condition of `dep.scopes`.
   * @throws CorralError `ERR_OPTION` for a row without its key, a property that is missing, and a table without a key
   */
  dependenciesOf(table: string, rows: unknown, relations?: RowRelations): readonly string[]
  /**
   * Invalidates for changed rows, and for the lists that they enter and leave. Inside a unit of work it waits for the commit.
   * @throws CorralError `ERR_OPTION` for a row without its key; `ERR_NOT_INVALIDATED` outside of a unit of work
   */
  changed(table: string, rows: object | readonly object[], change?: RowChange): Promise<void>
  /** The same for one row of which only the key is known, or without a key for all rows of a table. */
  invalidate(table: string, ...key: readonly IdPart[]): Promise<void>
}

/** A `RowCache` that hosts tell of statements. */
export interface RowInvalidation extends RowCache {
  /** A statement changed rows of tables. `returned`: rows that it returned; all that it changed, under their former keys, if `areAll`. */
  written(tables: readonly string[], returned: readonly unknown[], areAll: boolean): Promise<void>
  /** A statement read tables; `undefined`: it is not known which. `key`: only the row with this key. */
  read(tables: readonly string[] | undefined, key?: unknown): void
  /** A statement in raw SQL was sent. That nothing is invalidated for it is told once for each of its tables. */
  raw(sql: string): void
  /** The tables that SQL changes, as far as its words show. */
  writtenIn(sql: string): readonly string[]
  readonly tables: readonly string[]
  /** The columns of a table's key; absent for a table without one. */
  columnsOf(table: string): readonly string[] | undefined
  /** Whether an object has the key of a row. */
  isKeyed(table: string, row: unknown): boolean
}

export function rowInvalidation(
  options: StatementOptions,
  where: string,
  seesStatements: boolean,
): RowInvalidation {
  options = ownOptions(options)
  const more = seesStatements ? ['trackReads'] : []
  rejectUnknownOptions(options, ['regions', 'scopes', 'mode', 'tables', ...more], where)
  const { trackReads = false } = options
  expectBoolean(trackReads, `\`trackReads\` of ${where}`)
  const keys = keyColumns(options.tables, where)
  const invalidation = ormInvalidation(options, where, new Set(keys.keys()))
  const { regions, mode } = invalidation
  const invalidate = async (changes: readonly EntityChange[]): Promise<void> => {
    if (changes.length > 0) await invalidateAfterCommit(regions, invalidation.namesOf(changes), { mode })
  }
  const columnsOf = (table: string): readonly string[] => {
    const columns = keys.get(table)
    if (columns !== undefined) return columns
    rejectOptions(
      `Expected a table of \`tables\` of ${where}, got ${formatValue(table)}. ${didYouMean(table, [...keys.keys()])}It has: ${[...keys.keys()].join(', ')}.`,
    )
  }
  const keyOf = (table: string, row: unknown): readonly IdPart[] => {
    const columns = columnsOf(table)
    const key = keyIn(row, columns)
    if (key !== undefined) return key
    rejectOptions(
      `Expected rows of '${table}' with their key (${columns.join(', ')}), got ${formatValue(row)}. Select these columns, too.`,
    )
  }
  const writtenIn = (sql: string): readonly string[] => {
    const written = tablesWrittenBy(sql)
    return [...keys.keys()].filter((table) => written.includes(table.toLowerCase()))
  }
  return {
    dependenciesOf: (table, rows, relations = {}) => [...namesOfRows(keyOf, table, rows, relations)],
    changed: async (table, rows, change = {}) => {
      rejectUnknownOptions(change, ['before', 'created', 'modified'], 'changed()')
      const list = oneOrMany(rows)
      const changes = list.map((item) => ({ ...change, type: table, key: keyOf(table, item), item }))
      const former = keyIn(change.before, columnsOf(table))
      // The lists are those of the row, whatever its key was.
      await invalidate(
        former === undefined ? changes : [...changes, { type: table, key: former, modified: [] }],
      )
    },
    invalidate: async (table, ...key) => {
      const { length } = columnsOf(table)
      expectThat(
        key.length === 0 || key.length === length,
        key,
        `the ${length} part(s) of the key of '${table}'`,
      )
      await invalidate([key.length === 0 ? { type: table } : { type: table, key, item: {} }])
    },
    read(tables, row) {
      if (!trackReads) return
      if (tables === undefined) forbidRead('it was made with a statement of which the tables are not known')
      const [table = ''] = tables ?? []
      const key = row === undefined ? undefined : keyIn(row, keys.get(table) ?? [])
      for (const type of tables ?? []) declareRead(namesOfRead({ type, keys: key && [key] }, []))
    },
    raw(sql) {
      for (const table of writtenIn(sql)) reportRaw(where, table)
    },
    writtenIn,
    tables: [...keys.keys()],
    columnsOf: (table) => keys.get(table),
    isKeyed: (table, row) => keyIn(row, keys.get(table) ?? []) !== undefined && keys.has(table),
    written: (tables, returned, areAll) =>
      invalidate(
        tables.flatMap((table) =>
          changesOf(table, tables.length > 1 ? undefined : keys.get(table), returned, areAll),
        ),
      ),
  }
}

function reportRaw(where: string, table: string): void {
  reportOnce('notice', `${where} raw ${table}`, () => ({
    where,
    message: `raw SQL that changes '${table}' was sent. Nothing is invalidated for it: call invalidate('${table}') after it, inside of its transaction.`,
  }))
}

/** The rows that a statement returned, and all of the table if it may have changed others. */
function changesOf(
  type: string,
  columns: readonly string[] | undefined,
  returned: readonly unknown[],
  areAll: boolean,
): readonly EntityChange[] {
  if (columns === undefined) return [{ type }]
  const found = returned.map((row) => keyIn(row, columns)).filter((key) => key !== undefined)
  // The other columns may be missing or of another name, so that any list may have had the row.
  const changes = found.map((key) => ({ type, key, item: {} }))
  return areAll && found.length === returned.length ? changes : [...changes, { type }]
}

function keyColumns(tables: unknown, where: string): ReadonlyMap<string, readonly string[]> {
  expectThat(
    typeof tables === 'object' && tables !== null && Object.keys(tables).length > 0,
    tables,
    `\`tables\` of ${where} to name the key of each table`,
    "Such as { article: 'id', order_line: ['order', 'line'] }.",
  )
  const columns = Object.entries(tables).map(([table, key]) => [table, oneOrMany(key)] as const)
  for (const [table, key] of columns) {
    expectThat(key.length > 0, key, `\`tables.${table}\` of ${where} to name columns`)
    for (const column of key) expectText(column, `\`tables.${table}\` of ${where}`, 'the name of a column')
  }
  return new Map(columns)
}

function keyIn(row: unknown, columns: readonly string[]): readonly IdPart[] | undefined {
  const parts = columns.map(
    (column) => (row as Readonly<Record<string, unknown>> | null | undefined)?.[column],
  )
  return parts.every(isPart) ? parts : undefined
}

function namesOfRows(
  keyOf: (table: string, row: unknown) => readonly IdPart[],
  table: string,
  rows: unknown,
  relations: RowRelations,
  names: Set<string> = new Set(),
): Set<string> {
  for (const row of [rows].flat(Number.POSITIVE_INFINITY) as readonly unknown[]) {
    if (row === null || row === undefined) continue
    names.add(typeName(table)).add(dep.id(table, ...(keyOf(table, row) as [IdPart])))
    for (const [property, target] of Object.entries(relations)) {
      const related = (row as Readonly<Record<string, unknown>>)[property]
      if (related === undefined)
        rejectOptions(
          `Expected rows of '${table}' with '${property}', got one without it: a change of it would go unnoticed. Join it, too; \`null\` is none.`,
        )
      const deeper = typeof target === 'string' ? { table: target } : target
      namesOfRows(keyOf, deeper.table, related, deeper.relations ?? {}, names)
    }
  }
  return names
}
