/**
 * Caches over a database that is used through a bare driver. A driver tells of nothing, so the application says which rows it
 * changed; units of work see to it that this waits for the commit.
 */
import { attempt, type MaybePromise } from '../base/maybe-promise.js'
import { expectFunction } from '../base/options.js'
import type { OpenTransaction } from '../signals/transactions.js'
import { saysUncommitted } from './orm/failed-commits.js'
import { type RowCache, type RowOptions, rowInvalidation } from './orm/rows.js'
import { inTransaction } from './orm/units.js'

export type { EntityLists } from './orm/core.js'
export { type Outbox, type OutboxOptions, outbox, type RunQuery } from './orm/outbox.js'
export type { RowCache, RowChange, RowOptions, RowRelations } from './orm/rows.js'

/**
 * Runs a statement on one connection.
 * @example
 * ```ts
 * import type { RunStatement } from 'corral/integrations/sql'
 *
 * interface Client {
 *   query(sql: string): Promise<unknown>
 * }
 * export const statements = (client: Client): RunStatement => (sql) => client.query(sql)
 * ```
 */
export type RunStatement = (sql: string) => MaybePromise<unknown>

/**
 * Caches over the rows of a database.
 * @example
 * ```ts
 * import type { RunStatement, SqlCache } from 'corral/integrations/sql'
 *
 * export const rename = (database: SqlCache, run: RunStatement, id: number) =>
 *   database.unitOfWork(run, async () => {
 *     await run(`UPDATE article SET title = 'new' WHERE id = ${id}`)
 *     await database.invalidate('article', id)
 *   })
 * ```
 */
export interface SqlCache extends RowCache {
  /**
   * Runs work between `BEGIN` and `COMMIT` of a connection, or `ROLLBACK` if it fails. Inside another unit of work of the same function
   * `run` it is a savepoint. Cached functions inside store nothing.
   * @param run - a function for each connection, always the same one
   * @throws CorralError `ERR_NOT_INVALIDATED` when it is committed, but not everything could be invalidated
   */
  unitOfWork<R>(run: RunStatement, work: () => MaybePromise<R>): Promise<R>
}

/**
 * Caches over a database without an ORM.
 * @example
 * ```ts
 * import type { Region } from 'corral'
 * import { sqlCache } from 'corral/integrations/sql'
 *
 * export const connect = (pages: Region) => sqlCache({ regions: pages, tables: { article: 'id' } })
 * ```
 * @throws CorralError `ERR_OPTION` for options that cannot be right
 */
export function sqlCache(options: RowOptions): SqlCache {
  const { dependenciesOf, changed, invalidate } = rowInvalidation(options, 'sqlCache()', false)
  /** The units of work of each connection that are under way, savepoints last. */
  const units = new WeakMap<RunStatement, readonly OpenTransaction[]>()
  return {
    ...{ dependenciesOf, changed, invalidate },
    async unitOfWork<R>(run: RunStatement, work: () => MaybePromise<R>): Promise<R> {
      expectFunction(run, 'the statements of unitOfWork()', 'a function that runs one on a connection')
      expectFunction(work, 'the work of unitOfWork()')
      const all = units.get(run) ?? []
      const [begin, commit, rollback] = statementsOf(all.length)
      let own: OpenTransaction | undefined
      let failed: unknown
      const transact = async (worked: () => Promise<R>): Promise<R> => {
        await run(begin)
        const result = await worked().catch(async (error: unknown) => {
          await run(rollback)
          throw error
        })
        try {
          await run(commit)
        } catch (error) {
          failed = error
          throw error
        }
        return result
      }
      const inside = async (_: void, open: OpenTransaction): Promise<R> => {
        own = open
        units.set(run, [...(units.get(run) ?? []), open])
        return work()
      }
      try {
        return await inTransaction<void, R>(transact, inside, {
          around: all.at(-1),
          saysUncommitted: (error) => error === failed && saysUncommitted(error),
        })
      } catch (error) {
        // The transaction may be open, and the next user of a pool's connection would begin inside of it.
        if (failed !== undefined) await attempt(() => run(rollback)).catch(() => {})
        throw error
      } finally {
        // Not `all`: a unit that nothing awaits may end after the one around it.
        units.set(run, units.get(run)?.filter((one) => one !== own) ?? [])
      }
    },
  }
}

function statementsOf(depth: number): readonly [begin: string, commit: string, rollback: string] {
  if (depth === 0) return ['BEGIN', 'COMMIT', 'ROLLBACK']
  const name = `corral_${depth}`
  return [`SAVEPOINT ${name}`, `RELEASE SAVEPOINT ${name}`, `ROLLBACK TO SAVEPOINT ${name}`]
}
