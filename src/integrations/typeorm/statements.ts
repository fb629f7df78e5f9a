/**
 * Statements of TypeORM that no event of an entity follows: raw SQL, `clear`, and all that calls no listeners. TypeORM tells of every
 * statement. If events of rows follow a statement, as many events came before it.
 */
import type { EntityChange } from '../orm/core.js'
import { tablesWrittenBy } from '../orm/written-tables.js'
import { linked, typeOf } from './entities.js'
import type { Metadata, QueryRunner } from './host.js'

export interface Statements {
  /** The event before a change of a row. The one after it is to follow. */
  expect(runner: QueryRunner, metadata: Metadata): void
  /** The event after the change. */
  told(runner: QueryRunner, metadata: Metadata): void
  /** The changes of a statement that was executed, as far as no event is to follow it. */
  executed(runner: QueryRunner, sql: string): readonly EntityChange[]
  /** All that a statement may have changed. */
  changesOf(sql: string): readonly EntityChange[]
  /** The changes of statements whose events have not come. None is expected from now on. */
  takePending(runner: QueryRunner): readonly EntityChange[]
}

/** How rows of a table changed, whichever they are. */
interface Written {
  readonly deleted: boolean
  readonly moved: boolean
}

interface Progress {
  /** How many events are to come, by table. */
  readonly expected: Map<string, number>
  /** The changes that the events are to tell of, by table. */
  readonly pending: Map<string, Written>
}

export function statementsOf(entities: readonly Metadata[]): Statements {
  const runners = new WeakMap<QueryRunner, Progress>()
  const progressOf = (runner: QueryRunner): Progress => {
    const known = runners.get(runner) ?? { expected: new Map(), pending: new Map() }
    runners.set(runner, known)
    return known
  }
  const changesIn = (table: string, written: Written): readonly EntityChange[] =>
    entities
      .filter((metadata) => tableOf(metadata) === table)
      .flatMap((metadata): readonly EntityChange[] => {
        // TypeORM writes the paths of a tree with the entity itself.
        if (metadata.tableType === 'closure-junction') return []
        return metadata.isJunction ? linked(metadata, undefined) : [{ type: typeOf(metadata), ...written }]
      })
  return {
    expect(runner, metadata) {
      const { expected } = progressOf(runner)
      const table = tableOf(metadata)
      expected.set(table, (expected.get(table) ?? 0) + 1)
    },
    told(runner, metadata) {
      const { expected, pending } = progressOf(runner)
      const table = tableOf(metadata)
      const left = (expected.get(table) ?? 0) - 1
      expected.set(table, left)
      // Of changes that TypeORM takes back it has no second event: then they stay until the transaction ends.
      if (left > 0) return
      expected.delete(table)
      pending.delete(table)
    },
    executed(runner, sql) {
      const { expected, pending } = progressOf(runner)
      const written = writtenBy(sql)
      return tablesWrittenBy(sql).flatMap((table) => {
        if (!expected.has(table)) return changesIn(table, written)
        const { deleted = false, moved = false } = pending.get(table) ?? {}
        pending.set(table, { deleted: deleted || written.deleted, moved: moved || written.moved })
        return []
      })
    },
    changesOf: (sql) => tablesWrittenBy(sql).flatMap((table) => changesIn(table, writtenBy(sql))),
    takePending(runner) {
      const { pending } = progressOf(runner)
      runners.delete(runner)
      return Array.from(pending, ([table, written]) => changesIn(table, written)).flat()
    },
  }
}

const tableOf = ({ tableName }: Metadata): string => tableName.toLowerCase()

/** A statement does not say whether a column that it sets is a key. */
const writtenBy = (sql: string): Written => ({
  deleted: /\b(?:delete|truncate|replace|merge)\b/i.test(sql),
  moved: /\b(?:update|merge)\b/i.test(sql),
})
