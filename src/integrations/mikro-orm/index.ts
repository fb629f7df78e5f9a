import type { MaybePromise } from '../../base/maybe-promise.js'
import {
  expectBoolean,
  expectFunction,
  expectMethods,
  ownOptions,
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
  expectType,
  namesOfEntities,
  type OrmOptions,
  ormInvalidation,
  type Relations,
} from '../orm/core.js'
import { hookMethods } from '../orm/hooks.js'
import { inTransaction, runStatement, written } from '../orm/units.js'
import { hookBulkWrites, hookUpserts } from './bulk-writes.js'
import {
  type BeforeFlush,
  beforeFlush,
  cascadesOf,
  changesOf,
  readEntity,
  referencesOf,
  upserted,
} from './entities.js'
import { inEventManagers, subscribe } from './events.js'
import type { Manager, Metadata, MikroOrmHost, Subscriber, UnitOfWork } from './host.js'
import { trackReads } from './reads.js'

export type { EntityLists, OrmOptions, Relations } from '../orm/core.js'
export type { ResultCacheOptions } from '../orm/query-cache.js'
export type { MikroOrmHost } from './host.js'
export { type MikroOrmCacheAdapter, mikroOrmResultCache } from './result-cache.js'

/**
 * The caches over the entities of a MikroORM.
 * @example
 * ```ts
 * import type { MikroOrmCache } from 'corral/integrations/mikro-orm'
 *
 * interface Manager {
 *   transactional<R>(work: (own: Manager) => Promise<R>): Promise<R>
 * }
 *
 * export const rename = (orm: MikroOrmCache, em: Manager, article: { title: string }, title: string) =>
 *   orm.unitOfWork(em, async () => {
 *     article.title = title
 *   })
 * ```
 */
export interface MikroOrmCache {
  /**
   * The names that a value depends on which was made from these entities, and from those that the relations lead to. `null` is
   * a relation without an entity. For lists, add the condition of `dep.scopes`.
   * @throws CorralError `ERR_OPTION` for what is no entity, and for a relation that was not loaded
   */
  dependenciesOf(entities: unknown, relations?: Relations): readonly string[]
  /**
   * Runs `em.transactional(work)`, in which cached functions store nothing, and invalidates after its commit.
   * @throws CorralError `ERR_NOT_INVALIDATED` when it is committed, but not everything could be invalidated
   */
  unitOfWork<M, R>(
    em: { transactional<T>(work: (own: M) => Promise<T>): Promise<T> },
    work: (own: M) => Promise<R>,
  ): Promise<R>
  /**
   * Invalidates for a change that MikroORM does not tell of, such as `nativeUpdate` or raw SQL: one entity by the parts of its key, or
   * all of a type, which has the name of its root class. Inside `unitOfWork` it waits for the commit.
   */
  invalidate(type: string, ...key: readonly IdPart[]): Promise<void>
  /**
   * Refreshes in the background once the transaction of `em`, or of the unit of work around, is committed; at once if there is none.
   * The work reads with a fork of its own. `drainRefreshes` of `corral/signals` waits for all.
   */
  refreshAfterCommit(em: object | undefined, refresh: () => MaybePromise<unknown>): Promise<void>
}

/**
 * Options of `mikroOrm`.
 * @example
 * ```ts
 * import type { Region } from 'corral'
 * import type { MikroOrmOptions } from 'corral/integrations/mikro-orm'
 *
 * export const options = (pages: Region): MikroOrmOptions => ({ regions: pages, trackReads: true })
 * ```
 */
export interface MikroOrmOptions extends OrmOptions {
  /**
   * Cached functions depend on what they read through MikroORM, without saying it: on the keys of loaded entities, and on the
   * list of `scopes` that a condition is, else on all changes of the type. A value that was made from a read of which MikroORM does not
   * tell enough, such as raw SQL, is not stored, and `corral:unstored` has the reason. Replaces methods of the driver and of
   * the managers. @default false
   */
  readonly trackReads?: boolean | undefined
  /**
   * Replaces `em.transactional`, so that each is a `unitOfWork`: cached functions inside it store nothing. A transaction by hand,
   * between `em.begin()` and `em.commit()`, is not. Replaces `em.nativeUpdate`, `em.nativeDelete`, `em.insert` and `em.insertMany`, so that
   * they invalidate everything of their type. @default false
   */
  readonly patch?: boolean | undefined
}

/**
 * After each commit of MikroORM, invalidates the values that depend on the entities which the transaction changed, by their primary
 * keys, their lists, both sides of a relation of many to many. A deletion invalidates all of the types whose rows the database deletes or
 * changes with it, by the rules of the entities. Nothing tells of `nativeUpdate`, `nativeDelete`, `insert` and `insertMany` without
 * `patch`, of query builders and of raw SQL: call `invalidate`. MikroORM 6, unlike 7, does not tell of savepoints, so that one that is rolled back invalidates too much.
 * @example
 * ```ts
 * import type { Region } from 'corral'
 * import { type MikroOrmHost, mikroOrm } from 'corral/integrations/mikro-orm'
 *
 * export const connect = (orm: MikroOrmHost, pages: Region) => mikroOrm(orm, { regions: pages })
 * ```
 * @throws CorralError `ERR_OPTION` for options that cannot be right
 */
export function mikroOrm(orm: MikroOrmHost, options: MikroOrmOptions): MikroOrmCache {
  options = ownOptions(options)
  expectMethods(orm?.em, ['getEventManager'], 'mikroOrm() to get a MikroORM')
  const events = orm.em.getEventManager()
  expectMethods(events, ['registerSubscriber', 'dispatchEvent', 'clone'], 'mikroOrm() to get a MikroORM')
  rejectUnknownOptions(options, ['regions', 'scopes', 'mode', 'trackReads', 'patch'], 'mikroOrm()')
  const { trackReads: isTracked = false, patch = false } = options
  expectBoolean(isTracked, '`trackReads` of mikroOrm()')
  expectBoolean(patch, '`patch` of mikroOrm()')
  const entities = entitiesOf(orm)
  const types = entities && new Set(entities.map(({ root, className }) => root?.className ?? className))
  const ofDeletion = cascadesFrom(cascadesOf(entities ?? []))
  const ofMove = cascadesFrom(referencesOf(entities ?? []))
  const invalidation = ormInvalidation(options, 'mikroOrm()', types, ({ type, deleted, moved }) =>
    deleted ? ofDeletion(type) : moved ? ofMove(type) : [],
  )
  const { regions, mode } = invalidation
  const invalidate = (changes: readonly EntityChange[]) =>
    changes.length === 0
      ? Promise.resolve()
      : invalidateAfterCommit(regions, invalidation.namesOf(changes), { mode })
  const transactions = transactionsByContext()
  const subscriber = subscriberOf(transactions, invalidate)
  inEventManagers(orm, (one) => subscribe(one, subscriber))
  hookFlushes(orm, subscriber.flushFailed)
  hookUpserts(orm, entities ?? [], (em, changes, run) =>
    runStatement(transactions.of(em), run, () => invalidate(changes)),
  )
  if (isTracked) trackReads(orm, invalidation.listsOf)
  if (patch) {
    patchTransactional(orm, transactions)
    hookBulkWrites(orm, entities ?? [], async (em, changes, run) => {
      const told = () => invalidate(changes)
      const result = await runStatement(transactions.of(em), run, told)
      await written(transactions.of(em), told)
      return result
    })
  }
  return {
    dependenciesOf: (entities, relations = {}) => [...namesOfEntities(readEntity, entities, relations)],
    unitOfWork(em, work) {
      expectMethods(em, ['transactional'], 'unitOfWork() to get an EntityManager')
      expectFunction(work, 'the work of unitOfWork()')
      const around = transactions.of(em as unknown as Manager)
      return inTransaction((own) => em.transactional(own), work, { around })
    },
    async invalidate(type, ...key) {
      expectType(types, type, 'invalidate() to get the type of an entity')
      await invalidate([key.length === 0 ? { type } : { type, key, item: {} }])
    },
    refreshAfterCommit: (em, refresh) =>
      written(transactions.of(em as Manager | undefined), () => refreshAfterCommit(refresh)),
  }
}

/** The entities; `undefined` if MikroORM does not list them. */
function entitiesOf(orm: MikroOrmHost): readonly Metadata[] | undefined {
  const storage = orm.getMetadata?.() as { getAll?(): Readonly<Record<string, Metadata>> } | undefined
  const all = storage?.getAll?.()
  return all instanceof Map ? [...(all as Map<unknown, Metadata>).values()] : all && Object.values(all)
}

/** MikroORM has no event of a failed flush, whose first changes may stay. */
function hookFlushes(orm: MikroOrmHost, failed: (em: Manager) => Promise<void>): void {
  hookMethods(orm.em as unknown as Manager, (em) => em.getDriver(), {
    async flush(em, args, run) {
      try {
        return await run(...args)
      } catch (error) {
        await failed(em)
        throw error
      }
    },
  })
}

type Work = (own: unknown) => Promise<unknown>

function patchTransactional(orm: MikroOrmHost, transactions: Transactions): void {
  hookMethods(orm.em as unknown as Manager, (em) => em.getDriver(), {
    transactional: (em, [work, ...more], run) =>
      inTransaction<unknown, unknown>(
        (own) => run(own, ...more) as Promise<unknown>,
        (own) => (work as Work)(own),
        { around: transactions.of(em) },
      ),
  })
}

interface Transactions {
  /** Says what a transaction begins inside of, and then its context: MikroORM 7 tells both of savepoints, too. */
  starting(em: object, around: unknown): void
  started(em: object, context: unknown): void
  /** The transaction that a manager is in. MikroORM does not tell of the end of one that it has not begun, so that is none. */
  of(em: Manager | undefined): OpenTransaction | undefined
  /** Marks the names of a transaction that is about to be committed; not those of a savepoint. */
  prepare(context: unknown): Promise<void>
  /** Says that a transaction is about to be rolled back. After a commit that failed nobody knows whether the database has it. */
  failed(context: unknown): Promise<void>
  end(context: unknown): OpenTransaction | undefined
}

/** The open transactions, by the context that MikroORM has for each. */
function transactionsByContext(): Transactions {
  const open = new WeakMap<object, OpenTransaction>()
  const around = new WeakMap<object, unknown>()
  const savepoints = new WeakSet<object>()
  const committing = new WeakSet<object>()
  const self: Transactions = {
    starting: (em, context) => void around.set(em, context),
    started(em, context) {
      const parent = around.get(em)
      around.delete(em)
      if (!isObject(context)) return
      const outer = isObject(parent) ? open.get(parent) : undefined
      if (isObject(parent)) {
        if (outer === undefined) return
        savepoints.add(context)
      }
      open.set(context, beginHostTransaction(outer))
    },
    of(em) {
      if (!em?.isInTransaction()) return undefined
      return open.get(rootOf(em.getTransactionContext() as object))
    },
    async prepare(context) {
      if (savepoints.has(context as object)) return
      committing.add(context as object)
      await open.get(context as object)?.prepare()
    },
    async failed(context) {
      if (committing.has(context as object)) await self.end(context)?.unsure()
    },
    end(context) {
      const ended = open.get(context as object)
      open.delete(context as object)
      return ended
    },
  }
  return self
}

const isObject = (value: unknown): value is object =>
  (typeof value === 'object' && value !== null) || typeof value === 'function'

/** The context of the outermost transaction in MikroORM 6: those of savepoints have that of their parent under a symbol of this name. */
function rootOf(context: object): object {
  for (let root = context; ; ) {
    const symbol = Object.getOwnPropertySymbols(root).find(
      ({ description }) => description === 'parentTransaction',
    )
    const parent = symbol && (root as Readonly<Record<symbol, object | undefined>>)[symbol]
    if (parent === undefined) return root
    root = parent
  }
}

function subscriberOf(
  transactions: Transactions,
  invalidate: (changes: readonly EntityChange[]) => Promise<void>,
): Subscriber & { flushFailed(em: Manager): Promise<void> } {
  const flushes = new WeakMap<UnitOfWork, BeforeFlush>()
  /** Flushes with a transaction of their own, whose changes were told before its commit. */
  const told = new WeakSet<UnitOfWork>()
  return {
    async onFlush({ uow }) {
      flushes.set(uow, beforeFlush(uow))
      told.delete(uow)
    },
    // Of a flush outside of a transaction MikroORM has committed its own by now.
    async afterFlush({ em, uow }) {
      const before = flushes.get(uow) ?? beforeFlush(uow)
      flushes.delete(uow)
      if (told.delete(uow)) return
      await written(transactions.of(em), () => invalidate(changesOf(uow.getChangeSets(), before)))
    },
    afterUpsert: ({ em, entity }) => written(transactions.of(em), () => invalidate(upserted(entity))),
    async beforeTransactionStart({ em, transaction }) {
      transactions.starting(em, transaction)
    },
    async afterTransactionStart({ em, transaction }) {
      transactions.started(em, transaction)
    },
    async beforeTransactionCommit({ em, uow, transaction }) {
      const before = flushes.get(uow)
      // The transaction of a flush itself: the changes are written, and `afterFlush` comes after the commit.
      if (before !== undefined && em.isInTransaction()) {
        told.add(uow)
        await written(transactions.of(em), () => invalidate(changesOf(uow.getChangeSets(), before)))
      }
      await transactions.prepare(transaction)
    },
    async afterTransactionCommit({ transaction }) {
      await transactions.end(transaction)?.commit()
    },
    async beforeTransactionRollback({ transaction }) {
      await transactions.failed(transaction)
    },
    async afterTransactionRollback({ uow, transaction }) {
      if (uow !== undefined) flushes.delete(uow)
      await transactions.end(transaction)?.rollback()
    },
    /** A failed flush without a transaction of its own keeps its first changes, unless the transaction around it is rolled back. */
    async flushFailed(em) {
      const uow = em.getUnitOfWork()
      const before = flushes.get(uow)
      flushes.delete(uow)
      if (before === undefined || told.delete(uow)) return
      const open = transactions.of(em)
      const tell = () => invalidate(changesOf(before.changeSets, before))
      await (open === undefined ? invalidateUnsure(tell) : open.run(tell))
    },
  }
}
