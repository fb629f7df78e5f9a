/** Entities of MikroORM, and the changes that its unit of work tells of. */
import { formatValue } from '../../base/errors.js'
import { rejectOptions } from '../../base/options.js'
import type { IdPart } from '../../ledger/names.js'
import { type Cascade, effectOf } from '../orm/cascades.js'
import { type EntityChange, isPart, type ReadEntity } from '../orm/core.js'
import type { ChangeSet, Entity, Members, Metadata, UnitOfWork } from './host.js'

/** The facts that are gone after a flush: deleted entities as they were, and the members of changed relations. */
export interface BeforeFlush {
  /** Gone after a flush that fails. */
  readonly changeSets: readonly ChangeSet[]
  readonly deleted: ReadonlyMap<object, object | undefined>
  /** Entities of which a relation to many gained or lost the other. */
  readonly linked: ReadonlySet<Entity>
}

export function beforeFlush(uow: UnitOfWork): BeforeFlush {
  const changeSets = uow.getChangeSets()
  const deleted = new Map<object, object | undefined>()
  for (const { type, entity } of changeSets)
    if (type.startsWith('delete')) deleted.set(entity, uow.getOriginalEntityData(entity as never))
  const linked = new Set<Entity>()
  for (const members of uow.getCollectionUpdates() as readonly Members[]) {
    const [before, now] = [new Set(members.getSnapshot() ?? []), new Set(members.getItems(false))]
    const moved = [...before, ...now].filter((member) => before.has(member) !== now.has(member))
    for (const entity of [members.owner, ...moved]) linked.add(entity)
  }
  return { changeSets, deleted, linked }
}

/** The changes of a flush. Their items are plain data, as `originalEntity` is: relations are keys. */
export function changesOf(
  changeSets: readonly ChangeSet[],
  { deleted, linked }: BeforeFlush,
): readonly EntityChange[] {
  const changes = changeSets.flatMap((changeSet): EntityChange | EntityChange[] => {
    const { type, entity, originalEntity } = changeSet
    const [named, payload] = [namedKey(entity as Entity), payloadOf(changeSet)]
    if (named.key === undefined) return named
    const { primaryKeys } = (entity as Entity).__helper.__meta
    if (type === 'create') return { ...named, item: { ...data(entity), ...payload }, created: true }
    if (type.startsWith('delete')) {
      const before = deleted.get(entity) ?? data(entity)
      return { ...named, item: before, before, deleted: true }
    }
    const before = originalEntity
    const modified = Object.keys(payload)
    const change = { ...named, item: { ...before, ...payload }, before, modified }
    return modified.some((property) => primaryKeys.includes(property))
      ? [{ ...change, moved: true }, underFormerKey(named.type, primaryKeys, before)]
      : change
  })
  // No field of theirs has changed, so that they enter and leave no list.
  return [...changes, ...Array.from(linked, (entity) => ({ ...namedKey(entity), modified: [] }))]
}

/** An entity whose key changed leaves the values that were made from it under the former one. */
function underFormerKey(
  type: string,
  primaryKeys: readonly string[],
  before: object | undefined,
): EntityChange {
  const parts = primaryKeys.flatMap((one) => (before as Readonly<Record<string, unknown>> | undefined)?.[one])
  return parts.every(isPart) ? { type, key: parts, modified: [] } : { type }
}

/** The changed fields in all tables of an entity. */
const payloadOf = ({ payload, tptChangeSets = [] }: ChangeSet): object =>
  Object.assign({}, ...tptChangeSets.map((one) => one.payload), payload)

/** The change of an upsert. MikroORM does not tell which fields it changed. */
export function upserted(entity: object): readonly EntityChange[] {
  return [{ ...namedKey(entity as Entity), item: data(entity) }]
}

/** The foreign keys of entities, all of which a database can change with the key that they have. */
export function referencesOf(entities: readonly Metadata[]): readonly Cascade[] {
  return referencesIn(entities).map(({ from, to, isInKey }) => ({ from, to, passesOn: isInKey }))
}

/** The foreign keys of entities whose rule the schema generator of MikroORM makes one that changes rows. */
export function cascadesOf(entities: readonly Metadata[]): readonly Cascade[] {
  return referencesIn(entities).flatMap(({ from, to, property: { deleteRule, cascade, nullable } }) => {
    const isWhole = cascade?.some((one) => one === 'remove' || one === 'all')
    const effect = effectOf(deleteRule ?? (isWhole ? 'cascade' : nullable ? 'set null' : undefined))
    return effect ? [{ from, to, ...effect }] : []
  })
}

/** The relations whose keys are in tables of entities. */
function referencesIn(entities: readonly Metadata[]) {
  return entities.flatMap(({ root, properties, primaryKeys, pivotTable }) =>
    Object.values(properties).flatMap((property) => {
      const { name, kind, owner, targetMeta } = property
      const isReference = !pivotTable && (kind === 'm:1' || (kind === '1:1' && owner))
      if (targetMeta === undefined || !isReference) return []
      const isInKey = primaryKeys.includes(name)
      return [{ from: root.className, to: targetMeta.root.className, property, isInKey }]
    }),
  )
}

/** The own fields of an entity, such as the generated ones that no change set has. */
const data = (entity: object): object => ({ ...entity })

function namedKey({ __helper: helper }: Entity): {
  readonly type: string
  readonly key: readonly IdPart[] | undefined
} {
  const parts = helper.getPrimaryKeys()
  return { type: helper.__meta.root.className, key: parts?.every(isPart) ? parts : undefined }
}

/** An entity, or a reference, which has its key without being loaded. @throws CorralError `ERR_OPTION` for anything else */
export function readEntity(one: unknown): ReadEntity {
  const entity = entityOf(one)
  const { type, key } = namedKey(entity)
  const { __meta: metadata } = entity.__helper
  if (key === undefined)
    rejectOptions(
      `Expected an entity of '${metadata.className}' with its primary key, got one that was not flushed: what was made from it could not be invalidated. Flush it first.`,
    )
  return { type, key, related: (relation) => relatedOf(metadata, entity, relation) }
}

function entityOf(one: unknown): Entity {
  const found = unwrapped(one) as Partial<Entity>
  if (typeof found === 'object' && typeof found.__helper?.getPrimaryKeys === 'function')
    return found as Entity
  rejectOptions(
    `Expected entities of MikroORM, got ${formatValue(one)}. Pass what \`em.find\` returned, before it is serialized.`,
  )
}

/** A `Reference` is around its entity. */
function unwrapped(one: unknown): unknown {
  const { unwrap } = (one ?? {}) as { unwrap?: () => unknown }
  return typeof unwrap === 'function' ? unwrap.call(one) : one
}

function relatedOf(metadata: Metadata, entity: Entity, property: string): unknown {
  if (!Object.hasOwn(metadata.properties, property))
    rejectOptions(
      `Expected a relation of '${metadata.className}', got ${formatValue(property)}. It has the properties ${Object.keys(metadata.properties).join(', ')}.`,
    )
  const related = (entity as unknown as Readonly<Record<string, unknown>>)[property]
  const members = related as Partial<Members> | null | undefined
  const isMany = typeof members?.getItems === 'function'
  if (related === undefined || (isMany && members?.isInitialized?.() === false))
    rejectOptions(
      `Expected the relation '${property}' of '${metadata.className}' to be loaded, got an entity without it: what was made from it could not be invalidated. Load it: { populate: ['${property}'] }.`,
    )
  return isMany ? members?.getItems?.() : related
}
