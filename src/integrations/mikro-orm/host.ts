/** The parts of MikroORM that the integration uses, by their structure: nothing of the package is imported. */

export interface Metadata {
  readonly className: string
  readonly root: { readonly className: string }
  readonly properties: Readonly<Record<string, unknown>>
}

/** An entity, with the helper that MikroORM hangs on it. */
export interface Entity {
  readonly __helper: {
    readonly __meta: Metadata
    getPrimaryKeys(): readonly unknown[] | null
  }
}

/** A relation to many. */
export interface Members {
  readonly owner: Entity
  isInitialized(): boolean
  getItems(check?: boolean): readonly Entity[]
  /** The members as the database had them; absent if they were never loaded. */
  getSnapshot(): readonly Entity[] | undefined
}

interface ChangeSet {
  readonly type: string
  readonly entity: object
  readonly payload: object
  readonly originalEntity?: object | undefined
}

export interface UnitOfWork {
  getChangeSets(): readonly ChangeSet[]
  getCollectionUpdates(): readonly object[]
  getOriginalEntityData(entity: never): object | undefined
}

export interface Manager {
  isInTransaction(): boolean
  getTransactionContext(): unknown
}

interface FlushEvent {
  readonly em: Manager
  readonly uow: UnitOfWork
}

interface TransactionEvent {
  readonly transaction?: unknown
}

/** A subscriber whose methods MikroORM awaits. */
export interface Subscriber {
  onFlush(event: FlushEvent): Promise<void>
  afterFlush(event: FlushEvent): Promise<void>
  afterUpsert(event: { readonly em: Manager; readonly entity: object }): Promise<void>
  afterTransactionCommit(event: TransactionEvent): Promise<void>
  afterTransactionRollback(event: TransactionEvent): Promise<void>
}

/**
 * The `MikroORM` of an application.
 * @example
 * ```ts
 * import { makeRegion } from 'corral'
 * import { type MikroOrmHost, mikroOrm } from 'corral/integrations/mikro-orm'
 *
 * export const attach = (orm: MikroOrmHost) => mikroOrm(orm, { regions: makeRegion({ name: 'pages' }) })
 * ```
 */
export interface MikroOrmHost {
  /** With `getAll()`, a record of the entities by name, or a map in later versions. */
  getMetadata?(): object
  readonly em: { getEventManager(): { registerSubscriber(subscriber: never): void } }
}
