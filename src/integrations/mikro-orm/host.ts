/** The parts of MikroORM that the integration uses, by their structure: nothing of the package is imported. */

export interface Metadata {
  readonly className: string
  readonly tableName?: string | undefined
  readonly root: { readonly className: string }
  readonly properties: Readonly<Record<string, Property>>
  readonly primaryKeys: readonly string[]
  /** The entity is a query, and no table. */
  readonly virtual?: boolean | undefined
  readonly view?: boolean | undefined
  /** The entity is the rows that join two others. */
  readonly pivotTable?: boolean | undefined
}

export interface Property {
  readonly name: string
  readonly kind: string
  /** Of a relation whose key is in the table of the entity. */
  readonly owner?: boolean | undefined
  readonly targetMeta?: Metadata | undefined
  /** `ON DELETE` of its foreign key, if the application says it. */
  readonly deleteRule?: string | undefined
  readonly cascade?: readonly string[] | undefined
  readonly nullable?: boolean | undefined
  readonly formula?: unknown
}

/** An entity, with the helper that MikroORM hangs on it. */
export interface Entity {
  readonly __helper: {
    readonly __meta: Metadata
    getPrimaryKeys(): readonly unknown[] | null
    isInitialized(): boolean
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

export interface ChangeSet {
  readonly type: string
  readonly entity: object
  readonly payload: object
  readonly originalEntity?: object | undefined
  /** Of MikroORM 7, for a class with a table of its own: the fields in the tables of the classes that it extends. */
  readonly tptChangeSets?: readonly { readonly payload: object }[] | undefined
}

export interface UnitOfWork {
  getChangeSets(): readonly ChangeSet[]
  getCollectionUpdates(): readonly object[]
  getOriginalEntityData(entity: never): object | undefined
  getIdentityMap(): { values(): Iterable<Entity> }
}

export interface Manager {
  isInTransaction(): boolean
  getTransactionContext(): unknown
  getDriver(): object
  getUnitOfWork(): UnitOfWork
}

interface FlushEvent {
  readonly em: Manager
  readonly uow: UnitOfWork
}

interface TransactionEvent {
  readonly em: object
  readonly uow?: UnitOfWork | undefined
  readonly transaction?: unknown
}

/** A subscriber whose methods MikroORM awaits. */
export interface Subscriber {
  onFlush(event: FlushEvent): Promise<void>
  afterFlush(event: FlushEvent): Promise<void>
  afterUpsert(event: { readonly em: Manager; readonly entity: object }): Promise<void>
  beforeTransactionStart(event: TransactionEvent): Promise<void>
  afterTransactionStart(event: TransactionEvent): Promise<void>
  beforeTransactionCommit(event: TransactionEvent & FlushEvent): Promise<void>
  afterTransactionCommit(event: TransactionEvent): Promise<void>
  beforeTransactionRollback(event: TransactionEvent): Promise<void>
  afterTransactionRollback(event: TransactionEvent): Promise<void>
}

/** Where MikroORM sends its events through. */
export interface EventManager {
  registerSubscriber(subscriber: never): void
  dispatchEvent(event: never, args: never, ...more: never[]): unknown
  clone(): EventManager
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
  readonly em: { getEventManager(): EventManager }
  readonly config?: { get(name: never): unknown; set(name: never, value: never): void }
}
