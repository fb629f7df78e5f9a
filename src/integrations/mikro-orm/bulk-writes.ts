/** Writes by a condition, of which MikroORM has no events: the methods of its managers are replaced. */
import type { EntityChange } from '../orm/core.js'
import { type Around, hookMethods } from '../orm/hooks.js'
import type { Manager, Metadata, MikroOrmHost } from './host.js'

/** @param change - runs a write that changes all entities of types */
export function hookBulkWrites(
  orm: MikroOrmHost,
  entities: readonly Metadata[],
  change: (em: Manager, changes: readonly EntityChange[], run: () => unknown) => Promise<unknown>,
): void {
  const write = (deleted: boolean): Around<Manager> => {
    return (em, args, run) => {
      const named = entitiesOf(entities, args[0])
      // Those of `nativeUpdate`: rows that are inserted have been in no other row.
      const set = Object.keys((args[2] ?? {}) as object)
      const moved = named.some(({ primaryKeys }) => primaryKeys.some((key) => set.includes(key)))
      const changes = Array.from(typesOf(named, entities), (type) => ({ type, deleted, moved }))
      return change(em, changes, () => run(...args))
    }
  }
  const [changes, deletes] = [write(false), write(true)]
  const hooks = { insert: changes, insertMany: changes, nativeUpdate: changes, nativeDelete: deletes }
  hookMethods(orm.em as unknown as Manager, (em) => em.getDriver(), hooks)
}

/** @param change - runs an upsert of rows of types, of which MikroORM tells unless it fails */
export function hookUpserts(
  orm: MikroOrmHost,
  entities: readonly Metadata[],
  change: (em: Manager, changes: readonly EntityChange[], run: () => unknown) => Promise<unknown>,
): void {
  const around: Around<Manager> = (em, args, run) => {
    const types = typesOf(entitiesOf(entities, args[0]), entities)
    return change(
      em,
      Array.from(types, (type) => ({ type })),
      () => run(...args),
    )
  }
  hookMethods(orm.em as unknown as Manager, (em) => em.getDriver(), { upsert: around, upsertMany: around })
}

const entitiesOf = (entities: readonly Metadata[], target: unknown): readonly Metadata[] =>
  entities.filter(({ className }) => className === nameOf(target))

/** The types of entities; of all if it is not known which. */
const typesOf = (named: readonly Metadata[], all: readonly Metadata[]): ReadonlySet<string> =>
  new Set((named.length > 0 ? named : all).map(({ root, className }) => root?.className ?? className))

/** Of a name, a class, an `EntitySchema`, or an entity, of which there may be a list. */
function nameOf(target: unknown): unknown {
  if (typeof target === 'string') return target
  if (typeof target === 'function') return target.name
  const [one] = [target].flat() as readonly {
    readonly meta?: Metadata
    readonly constructor?: { readonly name: string }
  }[]
  return one?.meta?.className ?? one?.constructor?.name
}
