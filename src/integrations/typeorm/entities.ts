/** Entities of TypeORM, and the changes that its events tell of. */
import { formatValue } from '../../base/errors.js'
import { rejectOptions } from '../../base/options.js'
import type { IdPart } from '../../ledger/names.js'
import { type Cascade, effectOf } from '../orm/cascades.js'
import { type EntityChange, isPart, type ReadEntity } from '../orm/core.js'
import type { Metadata, Subscriber } from './host.js'

type EntityEvent = Parameters<Subscriber['afterInsert']>[0]
type UpdateEvent = Parameters<Subscriber['afterUpdate']>[0]

/** The type whose table an entity is stored in: classes of a single table share their names. */
function rootOf(metadata: Metadata): Metadata {
  let root = metadata
  while (root.parentEntityMetadata !== undefined) root = root.parentEntityMetadata
  return root
}

export const typeOf = (metadata: Metadata): string => rootOf(metadata).name

/** The parts of a primary key in the order of its columns, or nothing if one of them is missing. */
export function keyOf(metadata: Metadata, entity: object | undefined): readonly IdPart[] | undefined {
  if (entity === undefined) return undefined
  const parts = metadata.primaryColumns.map((column) => column.getEntityValue(entity))
  return parts.length > 0 && parts.every(isPart) ? parts : undefined
}

/** The change of an insertion. `insert()` and `upsert()` tell of no key that is certain: an upsert may have changed any row. */
export function insertion({ metadata, entity, entityId }: EntityEvent): readonly EntityChange[] {
  if (metadata.isJunction) return linked(metadata, entityId)
  const type = typeOf(metadata)
  const key = entityId === undefined ? undefined : keyOf(metadata, entity)
  return key === undefined ? [{ type }] : [{ type, key, item: entity, created: true }]
}

/** The change of an update. Those of `update()` and of query builders tell of no row. */
export function update(event: UpdateEvent): readonly EntityChange[] {
  const { metadata, entity, databaseEntity, updatedColumns, updatedRelations } = event
  const type = typeOf(metadata)
  const key = keyOf(metadata, databaseEntity)
  if (key === undefined) {
    const moved = metadata.primaryColumns.some(
      (column) => entity && column.getEntityValue(entity) !== undefined,
    )
    return [{ type, moved }]
  }
  const modified = [...updatedColumns, ...updatedRelations].map(({ propertyName }) => propertyName)
  // `save` of a part of an entity: the rest is as it was.
  return [{ type, key, item: { ...databaseEntity, ...entity }, before: databaseEntity, modified }]
}

/** The change of a removal. The database may remove or change other rows with it. */
export function removal(event: EntityEvent): readonly EntityChange[] {
  return softRemoval(event).map((change) => ({ ...change, deleted: !event.metadata.isJunction }))
}

/** The change of a soft removal. After a removal the entity has lost its key. */
export function softRemoval({ metadata, databaseEntity, entityId }: EntityEvent): readonly EntityChange[] {
  if (metadata.isJunction) return linked(metadata, entityId)
  const type = typeOf(metadata)
  // Of an orphan TypeORM tells the id alone.
  const key = keyOf(metadata, databaseEntity ?? entityOf(metadata, entityId))
  return key === undefined ? [{ type }] : [{ type, key, item: databaseEntity ?? {}, before: databaseEntity }]
}

/** An id of TypeORM, which of a key of one column is its value. */
function entityOf({ primaryColumns: [column] }: Metadata, id: unknown): object | undefined {
  if (typeof id === 'object') return id ?? undefined
  return id === undefined || column === undefined ? undefined : { [column.propertyName]: id }
}

/** The change of a recovery: the entity comes back into its lists. */
export function recovery({ metadata, databaseEntity }: EntityEvent): readonly EntityChange[] {
  return softRemoval({ metadata, databaseEntity } as EntityEvent)
}

/** The foreign keys whose rule changes rows when the row that they refer to is deleted. */
export function cascadesOf(entities: readonly Metadata[]): readonly Cascade[] {
  return foreignKeysOf(entities).flatMap(({ from, to, onDelete }) => {
    const effect = effectOf(onDelete)
    return effect ? [{ from, to, ...effect }] : []
  })
}

/** Those whose rule changes rows when the key changes that they have. */
export function referencesOf(entities: readonly Metadata[]): readonly Cascade[] {
  return foreignKeysOf(entities).flatMap(({ from, to, onUpdate, columns }) =>
    effectOf(onUpdate) ? [{ from, to, passesOn: columns.some(({ isPrimary }) => isPrimary) }] : [],
  )
}

function foreignKeysOf(entities: readonly Metadata[]) {
  return entities
    .filter(({ isJunction }) => !isJunction)
    .flatMap((metadata) =>
      metadata.foreignKeys.map((key) => ({
        ...{ onDelete: key.onDelete, onUpdate: key.onUpdate, columns: key.columns },
        ...{ from: typeOf(metadata), to: typeOf(key.referencedEntityMetadata) },
      })),
    )
}

/** Both sides of a row that joins them. */
export function linked({ foreignKeys }: Metadata, row: unknown): readonly EntityChange[] {
  return foreignKeys.map(({ referencedEntityMetadata, columns, referencedColumns }) => {
    const type = typeOf(referencedEntityMetadata)
    const byName = new Map(
      columns.map((column, i) => [
        referencedColumns[i]?.propertyName,
        (row as Record<string, unknown> | undefined)?.[column.propertyName],
      ]),
    )
    const key = referencedEntityMetadata.primaryColumns.map(({ propertyName }) => byName.get(propertyName))
    return key.every(isPart) ? { type, key, modified: [] } : { type }
  })
}

/** An entity that a repository returned. @throws CorralError `ERR_OPTION` if it has no key */
export function readEntity(metadata: Metadata, entity: object): ReadEntity {
  const key = keyOf(metadata, entity)
  if (key === undefined)
    rejectOptions(
      `Expected an entity of '${metadata.name}' with its primary key, got one without: what was made from it could not be invalidated. Select ${metadata.primaryColumns.map(({ propertyName }) => `\`${propertyName}\``).join(', ')}, too.`,
    )
  return { type: typeOf(metadata), key, related: (relation) => relatedOf(metadata, entity, relation) }
}

function relatedOf(metadata: Metadata, entity: object, property: string): unknown {
  const relation = metadata.relations.find(({ propertyName }) => propertyName === property)
  if (relation === undefined)
    rejectOptions(
      `Expected a relation of '${metadata.name}', got ${formatValue(property)}. It has ${metadata.relations.map(({ propertyName }) => `'${propertyName}'`).join(', ') || 'none'}.`,
    )
  const related: unknown = relation.getEntityValue(entity)
  if (related === undefined || related instanceof Promise)
    rejectOptions(
      `Expected the relation '${property}' of '${metadata.name}' to be loaded, got an entity without it: what was made from it could not be invalidated. Load it: { relations: { ${property}: true } }.`,
    )
  return related
}
