import type { MaybePromise } from '../../base/maybe-promise.js'
import {
  expectBoolean,
  expectFunction,
  expectMethods,
  expectThat,
  ownOptions,
  rejectOptions,
  rejectUnknownOptions,
} from '../../base/options.js'
import type { IdPart } from '../../ledger/names.js'
import { refreshAfterCommit } from '../../signals/refresh.js'
import {
  beginHostTransaction,
  invalidateAfterCommit,
  invalidateUnsure,
  type OpenTransaction,
} from '../../signals/transactions.js'
import { cascadesFrom } from '../orm/cascades.js'
import {
  type EntityChange,
  namesOfEntities,
  type OrmOptions,
  ormInvalidation,
  type Relations,
} from '../orm/core.js'
import { saysUnwritten } from '../orm/failed-commits.js'
import { hookMethods } from '../orm/hooks.js'
import { inTransaction, written } from '../orm/units.js'
import {
  cascadesOf,
  insertion,
  readEntity,
  recovery,
  referencesOf,
  removal,
  softRemoval,
  typeOf,
  update,
} from './entities.js'
import type { Metadata, QueryRunner, Subscriber, TypeOrmDataSource } from './host.js'
import { trackReads } from './reads.js'
import { type Statements, statementsOf } from './statements.js'

export type { EntityLists, OrmOptions, Relations } from '../orm/core.js'
export type { ResultCacheOptions } from '../orm/query-cache.js'
export type { TypeOrmDataSource } from './host.js'
export { type TypeOrmCachedQuery, type TypeOrmResultCache, typeOrmResultCache } from './result-cache.js'

/**
 * The caches over the entities of a data source.
 * @example
 * ```ts
 * import type { TypeOrmCache } from 'corral/integrations/typeorm'
 *
 * interface Manager {
 *   save(entity: object): Promise<unknown>
 * }
 *
 * export const rename = (orm: TypeOrmCache<Manager>, article: { title: string }, title: string) =>
 *   orm.unitOfWork(async (manager) => {
 *     article.title = title
 *     await manager.save(article)
 *   })
 * ```
 */
export interface TypeOrmCache<M> {
  /**
   * The names that a value depends on which was made from these entities, and from those that the relations lead to.
   * `null` is a relation without an entity. For lists, add the condition of `dep.scopes`.
   * @throws CorralError `ERR_OPTION` for an entity without its primary key, and for a relation that was not loaded
   */
  dependenciesOf(entities: unknown, relations?: Relations): readonly string[]
  /**
   * Runs a transaction in which cached functions store nothing, and invalidates after its commit.
   * @throws CorralError `ERR_NOT_INVALIDATED` when it is committed, but not everything could be invalidated
   */
  unitOfWork<R>(work: (manager: M) => Promise<R>): Promise<R>
  /**
   * Invalidates for a change that TypeORM does not tell of, such as one by a trigger: one entity by the parts of its key, or all of a type.
   * Inside `unitOfWork` it waits for the commit.
   */
  invalidate(type: string, ...key: readonly IdPart[]): Promise<void>
  /**
   * Refreshes in the background once the transaction of a manager, or of the unit of work around, is committed. The work reads on a
   * connection of its own. `drainRefreshes` of `corral/signals` waits for all.
   */
  refreshAfterCommit(manager: object | undefined, refresh: () => MaybePromise<unknown>): Promise<void>
  /** Ends the automatic invalidation. */
  stop(): void
}

/**
 * Options of `typeOrm`.
 * @example
 * ```ts
 * import type { Region } from 'corral'
 * import type { TypeOrmOptions } from 'corral/integrations/typeorm'
 *
 * export const options = (pages: Region): TypeOrmOptions => ({ regions: pages, trackReads: true })
 * ```
 */
export interface TypeOrmOptions extends OrmOptions {
  /**
   * Cached functions depend on what they read through TypeORM, without saying it: on the keys of loaded entities, and on the
   * list of `scopes` that a condition is, else on all changes of the type. A value that was made from a read of which TypeORM does not
   * tell enough, such as raw SQL, is not stored, and `corral:unstored` has the reason. Replaces methods of the query
   * builder. @default false
   */
  readonly trackReads?: boolean | undefined
  /**
   * Replaces `transaction` of the data source and its managers, so that each is a `unitOfWork`: cached functions inside it store
   * nothing. A transaction by hand, with a query runner, is not. @default false
   */
  readonly patch?: boolean | undefined
}

/**
 * After each commit of TypeORM, invalidates the values that depend on the entities which the transaction changed, by their primary
 * keys, their lists, and both sides of a relation of many to many. `update`, `delete`, `softDelete`, `insert`, `upsert`
 * and query builders tell of no rows, and so invalidate everything of the type, as do statements that call no listeners, `clear` and
 * raw SQL. A deletion invalidates all of the types whose rows the database deletes or changes with it, by `onDelete` of their relations.
 * @param dataSource - initialized
 * @example
 * ```ts
 * import type { Region } from 'corral'
 * import { type TypeOrmDataSource, typeOrm } from 'corral/integrations/typeorm'
 *
 * export const connect = (source: TypeOrmDataSource, pages: Region) => typeOrm(source, { regions: pages })
 * ```
 * @throws CorralError `ERR_OPTION` for options that cannot be right
 */
export function typeOrm<M>(dataSource: TypeOrmDataSource<M>, options: TypeOrmOptions): TypeOrmCache<M> {
  options = ownOptions(options)
  expectMethods(dataSource, ['getMetadata', 'hasMetadata', 'transaction'], 'typeOrm() to get a DataSource')
  expectThat(
    Array.isArray(dataSource.subscribers),
    dataSource,
    'typeOrm() to get a DataSource with subscribers',
  )
  rejectUnknownOptions(options, ['regions', 'scopes', 'mode', 'trackReads', 'patch'], 'typeOrm()')
  const { trackReads: isTracked = false, patch = false } = options
  expectBoolean(isTracked, '`trackReads` of typeOrm()')
  expectBoolean(patch, '`patch` of typeOrm()')
  const entities = dataSource.entityMetadatas as readonly Metadata[] | undefined
  const types = entities && new Set(entities.map(typeOf))
  const ofDeletion = cascadesFrom(cascadesOf(entities ?? []))
  const ofMove = cascadesFrom(referencesOf(entities ?? []))
  const invalidation = ormInvalidation(options, 'typeOrm()', types, ({ type, deleted, moved }) => [
    ...(deleted ? ofDeletion(type) : []),
    ...(moved ? ofMove(type) : []),
  ])
  const { regions, mode } = invalidation
  const invalidate = (changes: readonly EntityChange[]) =>
    invalidateAfterCommit(regions, invalidation.namesOf(changes), { mode })
  const transactions = openTransactions()
  const subscriber = subscriberOf(transactions, statementsOf(entities ?? []), invalidate)
  // In front: one that throws keeps TypeORM from telling those behind it, though the rows are written.
  dataSource.subscribers.unshift(subscriber)
  const endOfReads = isTracked ? trackReads(dataSource, invalidation.listsOf) : () => {}
  const endOfPatch = patch ? patchTransaction(dataSource) : () => {}

  const read = (entity: unknown) => {
    const target: unknown = typeof entity === 'object' ? entity?.constructor : undefined
    if (!dataSource.hasMetadata(target as never))
      rejectOptions(
        `Expected entities of the data source, got ${typeof target === 'function' ? `an object of class '${target.name}'` : `a ${typeof entity}`}. Pass what a repository returned; an EntitySchema needs a \`target\`.`,
      )
    return readEntity(dataSource.getMetadata(target as never) as Metadata, entity as object)
  }
  return {
    dependenciesOf: (entities, relations = {}) => [...namesOfEntities(read, entities, relations)],
    unitOfWork(work) {
      expectFunction(work, 'the work of unitOfWork()')
      return inTransaction((own) => dataSource.transaction(own), work)
    },
    async invalidate(type, ...key) {
      const change = { type: typeOf(dataSource.getMetadata(type as never) as Metadata) }
      await invalidate([key.length === 0 ? change : { ...change, key, item: {} }])
    },
    refreshAfterCommit(manager, refresh) {
      const runner = (manager as { readonly queryRunner?: QueryRunner } | undefined)?.queryRunner
      return written(transactions.of(runner), () => refreshAfterCommit(refresh))
    },
    stop() {
      endOfReads()
      endOfPatch()
      const at = dataSource.subscribers.indexOf(subscriber)
      if (at >= 0) dataSource.subscribers.splice(at, 1)
    },
  }
}

interface OwnManager {
  readonly dataSource?: object
  /** In TypeORM 0.3. */
  readonly connection?: object
}

type Work = (own: unknown) => Promise<unknown>

function patchTransaction(dataSource: TypeOrmDataSource): () => void {
  return hookMethods(dataSource.manager as OwnManager, (one) => one.dataSource ?? one.connection, {
    transaction(_, args, run) {
      // An isolation level may stand before it.
      const work = args.at(-1) as Work
      return inTransaction<unknown, unknown>(
        (own) => run(...args.slice(0, -1), own) as Promise<unknown>,
        (own) => work(own),
      )
    },
  })
}

interface OpenTransactions {
  begin(runner: QueryRunner): void
  /** Marks the names of a transaction that is about to be committed; not those of a savepoint. */
  prepare(runner: QueryRunner): Promise<void>
  /**
   * Says that a transaction is about to be rolled back. It ends here, as TypeORM does not tell of a `ROLLBACK` that fails because the
   * database has rolled back by itself. After a commit that failed nobody knows whether the database has it.
   */
  failed(runner: QueryRunner): Promise<void>
  end(runner: QueryRunner): OpenTransaction | undefined
  /** The innermost transaction of a query runner. */
  of(runner: QueryRunner | undefined): OpenTransaction | undefined
}

/** The transactions of each query runner, savepoints behind the transaction that they are part of. */
function openTransactions(): OpenTransactions {
  const open = new WeakMap<QueryRunner, OpenTransaction[]>()
  const committing = new WeakSet<OpenTransaction>()
  const self: OpenTransactions = {
    begin(runner) {
      open.set(runner, [...(open.get(runner) ?? []), beginHostTransaction(self.of(runner))])
    },
    async prepare(runner) {
      const [outermost, ...savepoints] = open.get(runner) ?? []
      if (outermost === undefined || savepoints.length > 0) return
      committing.add(outermost)
      await outermost.prepare()
    },
    async failed(runner) {
      const [outermost, ...savepoints] = open.get(runner) ?? []
      if (savepoints.length > 0 || outermost === undefined) return
      self.end(runner)
      await (committing.has(outermost) ? outermost.unsure() : outermost.rollback())
    },
    end(runner) {
      const all = open.get(runner)
      const ended = all?.pop()
      if (all?.length === 0) open.delete(runner)
      return ended
    },
    of: (runner) => runner && open.get(runner)?.at(-1),
  }
  return self
}

function subscriberOf(
  transactions: OpenTransactions,
  statements: Statements,
  invalidate: (changes: readonly EntityChange[]) => Promise<void>,
): Subscriber {
  const inside = (runner: QueryRunner, changes: readonly EntityChange[]) =>
    written(transactions.of(runner), () => invalidate(changes))
  const tell =
    <E extends Parameters<Subscriber['afterInsert']>[0]>(changesOf: (event: E) => readonly EntityChange[]) =>
    (event: E): Promise<void> => {
      statements.told(event.queryRunner, event.metadata)
      return inside(event.queryRunner, changesOf(event))
    }
  /** Statements were executed, and no event will tell of their rows, because something failed in between. */
  const tellPending = async (runner: QueryRunner, more: readonly EntityChange[] = []): Promise<void> => {
    const changes = [...statements.takePending(runner), ...more]
    if (changes.length === 0) return
    const open = transactions.of(runner)
    await (open === undefined
      ? invalidateUnsure(() => invalidate(changes))
      : open.run(() => invalidate(changes)))
  }
  return {
    async afterTransactionStart({ queryRunner }) {
      // They are not of the savepoint, which may be rolled back alone.
      const pending = tellPending(queryRunner)
      transactions.begin(queryRunner)
      await pending
    },
    async beforeTransactionCommit({ queryRunner }) {
      await tellPending(queryRunner)
      await transactions.prepare(queryRunner)
    },
    async afterTransactionCommit({ queryRunner }) {
      await transactions.end(queryRunner)?.commit()
    },
    async beforeTransactionRollback({ queryRunner }) {
      statements.takePending(queryRunner)
      await transactions.failed(queryRunner)
    },
    afterTransactionRollback: ({ queryRunner }) => transactions.end(queryRunner)?.rollback(),
    async afterQuery({ queryRunner, query, success, error }) {
      if (success) {
        // Outside of a transaction nothing settles what an event was to follow, and never came.
        const isAlone = transactions.of(queryRunner) === undefined
        const changes = isAlone ? statements.changesOf(query) : statements.executed(queryRunner, query)
        if (changes.length > 0) await inside(queryRunner, changes)
        return
      }
      await tellPending(queryRunner, saysUnwritten(error) ? [] : statements.changesOf(query))
    },
    ...expecting(statements),
    afterInsert: tell(insertion),
    afterUpdate: tell(update),
    afterRemove: tell(removal),
    afterSoftRemove: tell(softRemoval),
    afterRecover: tell(recovery),
  }
}

type Before = 'beforeInsert' | 'beforeUpdate' | 'beforeRemove' | 'beforeSoftRemove' | 'beforeRecover'

function expecting(statements: Statements): Pick<Subscriber, Before> {
  const before: Subscriber[Before] = ({ queryRunner, metadata }) => statements.expect(queryRunner, metadata)
  return {
    beforeInsert: before,
    beforeUpdate: before,
    beforeRemove: before,
    beforeSoftRemove: before,
    beforeRecover: before,
  }
}
