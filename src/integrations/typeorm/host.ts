/** The parts of TypeORM that the integration uses, by their structure: nothing of the package is imported. */

export interface Column {
  readonly propertyName: string
  readonly isPrimary: boolean
  readonly referencedColumn?: { readonly propertyName: string } | undefined
  getEntityValue(entity: object): unknown
}

export interface Metadata {
  readonly name: string
  readonly tableName: string
  readonly isJunction: boolean
  readonly tableType?: string | undefined
  readonly inheritancePattern?: string | undefined
  readonly parentEntityMetadata?: Metadata | undefined
  readonly primaryColumns: readonly Column[]
  readonly foreignKeys: readonly ForeignKey[]
  readonly relations: readonly Relation[]
}

export interface ForeignKey {
  readonly referencedEntityMetadata: Metadata
  readonly onDelete?: string | undefined
  readonly onUpdate?: string | undefined
  readonly columns: readonly Column[]
  readonly referencedColumns: readonly Column[]
}

export interface Relation {
  readonly propertyName: string
  getEntityValue(entity: object): unknown
  readonly inverseEntityMetadata: Metadata
}

export interface QueryRunner {
  readonly isTransactionActive: boolean
}

interface TransactionEvent {
  readonly queryRunner: QueryRunner
}

interface EntityEvent extends TransactionEvent {
  readonly metadata: Metadata
  readonly entity?: object | undefined
  readonly databaseEntity?: object | undefined
  readonly entityId?: unknown
}

interface UpdateEvent extends EntityEvent {
  readonly updatedColumns: readonly { readonly propertyName: string }[]
  readonly updatedRelations: readonly { readonly propertyName: string }[]
}

interface QueryEvent extends TransactionEvent {
  readonly query: string
  readonly success: boolean
  readonly error?: unknown
}

/** A subscriber whose methods TypeORM awaits. */
export interface Subscriber {
  afterTransactionStart(event: TransactionEvent): Promise<void>
  beforeTransactionCommit(event: TransactionEvent): Promise<void>
  afterTransactionCommit(event: TransactionEvent): Promise<void>
  beforeTransactionRollback(event: TransactionEvent): Promise<void>
  afterTransactionRollback(event: TransactionEvent): void
  /** TypeORM has it since 0.3.18. */
  afterQuery(event: QueryEvent): Promise<void>
  beforeInsert(event: EntityEvent): void
  beforeUpdate(event: EntityEvent): void
  beforeRemove(event: EntityEvent): void
  beforeSoftRemove(event: EntityEvent): void
  beforeRecover(event: EntityEvent): void
  afterInsert(event: EntityEvent): Promise<void>
  afterUpdate(event: UpdateEvent): Promise<void>
  afterRemove(event: EntityEvent): Promise<void>
  afterSoftRemove(event: EntityEvent): Promise<void>
  afterRecover(event: EntityEvent): Promise<void>
}

/**
 * The `DataSource` of TypeORM. `M` is its `EntityManager`.
 * @example
 * ```ts
 * import { makeRegion } from 'corral'
 * import { type TypeOrmDataSource, typeOrm } from 'corral/integrations/typeorm'
 *
 * export const attach = <M>(source: TypeOrmDataSource<M>) => typeOrm(source, { regions: makeRegion({ name: 'pages' }) })
 * ```
 */
export interface TypeOrmDataSource<M = unknown> {
  readonly manager: M
  readonly subscribers: object[]
  /** The entities that it knows. */
  readonly entityMetadatas?: readonly object[]
  hasMetadata(target: never): boolean
  getMetadata(target: never): object
  transaction<R>(work: (manager: M) => Promise<R>): Promise<R>
}
