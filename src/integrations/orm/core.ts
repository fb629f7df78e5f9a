/** From the changes that an ORM tells of to the names that they invalidate: the same for every ORM. */
import { oneOrMany } from '../../base/one-or-many.js'
import { didYouMean, expectMethods, expectOneOf, expectThat, optionError } from '../../base/options.js'
import { dep } from '../../dependencies/dep.js'
import type { Scopes } from '../../dependencies/scopes.js'
import type { InvalidationMode } from '../../ledger/ledger.js'
import type { IdPart } from '../../ledger/names.js'
import type { Target } from '../../signals/settle.js'

/**
 * Lists of a type of entities, from `dep.scopes`.
 * @example
 * ```ts
 * import { dep } from 'corral'
 * import type { EntityLists } from 'corral/integrations/typeorm'
 *
 * export const lists: EntityLists = dep.scopes<{ shelf: string }>('Book').describes(['shelf'], ({ shelf }) => ({ shelf }))
 * ```
 */
export type EntityLists = Pick<Scopes<never>, 'namesFor' | 'isDescribed'>

/**
 * Options that the integrations of all ORMs have.
 * @example
 * ```ts
 * import type { Region } from 'corral'
 * import type { OrmOptions } from 'corral/integrations/typeorm'
 *
 * export const softly = (regions: readonly Region[]): OrmOptions => ({ regions, mode: 'soft' })
 * ```
 */
export interface OrmOptions {
  /** Where values depend on the entities. Regions over the same ledger need only one of them. */
  readonly regions: Target | readonly Target[]
  /** Lists that entities enter and leave, by the name of their type: `{ Article: dep.scopes('Article').describes(…) }`. */
  readonly scopes?: Readonly<Record<string, EntityLists | readonly EntityLists[]>> | undefined
  /** @default 'hard' */
  readonly mode?: InvalidationMode | undefined
}

/** A change of an entity, as far as an ORM tells it. */
export interface EntityChange {
  /** The name of its type; of a type that shares a table with others, that of the root. */
  readonly type: string
  /** The parts of its primary key, in the order of the table. Without them the change concerns all entities of the type. */
  readonly key?: readonly IdPart[] | undefined
  readonly item?: object | undefined
  readonly before?: object | null | undefined
  readonly created?: boolean
  /** The row was deleted, and the database deleted or changed those that refer to it. */
  readonly deleted?: boolean
  /** The key of the row changed, and the database changed it in those that refer to it. */
  readonly moved?: boolean
  readonly modified?: readonly string[] | undefined
}

/** The name that values depend on which were made from entities of a type. A change of unknown entities invalidates it. */
export const typeName = (type: string): string => dep.tag('entities', type)

/** The name of all changes of a type, for lists by conditions that nothing describes. */
export const changesName = (type: string): string => dep.tag('changes', type)

/** Whether a value is a part of a key. */
export const isPart = (part: unknown): part is IdPart =>
  typeof part === 'string' || typeof part === 'number' || typeof part === 'bigint'

/**
 * The relations to follow.
 * @example
 * ```ts
 * import type { Relations } from 'corral/integrations/typeorm'
 *
 * export const ofArticle: Relations = { author: true, tags: { owner: true } }
 * ```
 */
export interface Relations {
  readonly [relation: string]: boolean | Relations
}

/** An entity that was read, as its ORM knows it. */
export interface ReadEntity {
  readonly type: string
  readonly key: readonly IdPart[]
  /** The entities of a relation. @throws CorralError `ERR_OPTION` if it is unknown or was not loaded */
  related(relation: string): unknown
}

/**
 * The names of entities, in lists of any depth, and of those that their relations lead to.
 * @param read - throws `ERR_OPTION` for anything but an entity with its key
 */
export function namesOfEntities(
  read: (entity: unknown) => ReadEntity,
  entities: unknown,
  relations: Relations,
  names: Set<string> = new Set(),
): Set<string> {
  for (const one of [entities].flat(Number.POSITIVE_INFINITY) as readonly unknown[]) {
    if (one === null || one === undefined) continue
    const { type, key, related } = read(one)
    names.add(typeName(type)).add(dep.id(type, ...(key as [IdPart])))
    for (const [relation, deeper] of Object.entries(relations))
      if (deeper !== false) namesOfEntities(read, related(relation), deeper === true ? {} : deeper, names)
  }
  return names
}

export interface OrmInvalidation {
  readonly regions: readonly Target[]
  readonly mode: InvalidationMode
  /** The names that changes invalidate. */
  namesOf(changes: readonly EntityChange[]): readonly string[]
  /** The lists of a type. */
  listsOf(type: string): readonly EntityLists[]
}

/**
 * @param types - the names of the entities' types that changes may have; absent if the ORM does not list them
 * @param cascades - the types whose rows the database deletes or changes with the row of a change
 * @throws CorralError `ERR_OPTION` for options that cannot be right.
 */
export function ormInvalidation(
  options: OrmOptions,
  where: string,
  types: ReadonlySet<string> | undefined,
  cascades: (change: EntityChange) => Iterable<string> = () => [],
): OrmInvalidation {
  const { mode = 'hard', scopes = {} } = options
  const regions = Object.freeze(oneOrMany(options.regions))
  expectThat(regions.length > 0, regions, `\`regions\` of ${where} to list regions`)
  for (const region of regions)
    expectMethods(region, ['invalidateDependencies'], `\`regions\` of ${where} to list regions`)
  expectOneOf(mode, `\`mode\` of ${where}`, ['hard', 'soft'])
  const lists = new Map(Object.entries(scopes).map(([type, one]) => [type, oneOrMany(one)]))
  for (const [type, some] of lists) {
    // No change would ever reach the lists of another name.
    expectType(types, type, `\`scopes\` of ${where} to name types of entities`)
    for (const one of some)
      expectMethods(
        one,
        ['namesFor', 'isDescribed'],
        `\`scopes.${type}\` of ${where} to come from dep.scopes()`,
      )
  }
  return {
    regions,
    mode,
    namesOf(told) {
      const names = new Set<string>()
      const others = new Set(told.flatMap((change) => [...cascades(change)]))
      const changes = [...told, ...Array.from(others, (type): EntityChange => ({ type }))]
      for (const change of changes)
        for (const name of namesOf(change, lists.get(change.type) ?? [])) names.add(name)
      // Always, as another process may track its reads.
      for (const { type } of changes) names.add(changesName(type))
      return [...names]
    },
    listsOf: (type) => lists.get(type) ?? [],
  }
}

/**
 * @param types - those of the ORM; absent if it does not list them
 * @throws CorralError `ERR_OPTION` for a type that no value can depend on
 */
export function expectType(types: ReadonlySet<string> | undefined, type: unknown, expected: string): void {
  if (types === undefined || types.has(type as string)) return
  const similar = typeof type === 'string' ? didYouMean(type, [...types]) : ''
  throw optionError(
    type,
    expected,
    `${similar}A type that shares a table with others has the name of the root. The ORM has: ${[...types].join(', ')}.`,
  )
}

function namesOf(change: EntityChange, lists: readonly EntityLists[]): readonly string[] {
  const { type, key, item, before, created, modified } = change
  if (key === undefined) return [typeName(type), ...lists.flatMap((one) => one.namesFor(undefined as never))]
  const own = dep.id(type, ...(key as [IdPart]))
  const past = created ? { created } : { before: before as never, modified }
  // An extractor that fails makes all lists of its kind names, and is told by the lists that are lenient; here the change is done.
  return [own, ...lists.flatMap((one) => one.namesFor(item as never, past, () => {}))]
}
