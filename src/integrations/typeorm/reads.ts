/**
 * The reads of TypeORM. All of them are executed by a query builder, which knows the types that it reads; the conditions of `find` and its
 * like are objects. An entity that is loaded is an event, and so is each statement.
 */
import { currentScope } from '../../creation/scope.js'
import { dep } from '../../dependencies/dep.js'
import type { IdPart } from '../../ledger/names.js'
import { changesName, type EntityLists, isPart, typeName } from '../orm/core.js'
import { type Around, hookMethods } from '../orm/hooks.js'
import { declareRead, forbidRead, namesOfRead, statementSent, telling, toldBy } from '../orm/reads.js'
import { keyOf, typeOf } from './entities.js'
import type { Metadata } from './host.js'

interface Alias {
  readonly name: string
  readonly hasMetadata: boolean
  readonly metadata: Metadata
}

interface Join {
  readonly alias: Alias
  readonly direction: string
  readonly condition?: string | undefined
  readonly relation?:
    | { readonly isManyToOne: boolean; readonly isOneToOneOwner: boolean; readonly isManyToMany: boolean }
    | undefined
}

interface FindOptions {
  readonly where?: unknown
  readonly order?: unknown
  readonly skip?: unknown
  readonly take?: unknown
}

interface Builder {
  readonly dataSource?: Database
  /** In TypeORM 0.3. */
  readonly connection?: Database
  readonly findOptions: FindOptions
  readonly expressionMap: {
    readonly limit?: number | undefined
    readonly offset?: number | undefined
    readonly skip?: number | undefined
    readonly take?: number | undefined
    readonly groupBys: readonly unknown[]
    readonly mainAlias?: Alias | undefined
    readonly aliases: readonly Alias[]
    readonly joinAttributes: readonly Join[]
    readonly wheres: readonly unknown[]
    readonly cache?: boolean | undefined
  }
  getQuery(): string
}

interface Database {
  readonly queryResultCache?: unknown
  readonly options?: { readonly cache?: unknown }
  readonly subscribers: object[]
  createQueryBuilder(): Builder
}

/** Until the returned function is called, the reads of a data source declare themselves. */
export function trackReads(database: object, listsOf: (type: string) => readonly EntityLists[]): () => void {
  const source = database as Database
  const subscriber = {
    beforeQuery: ({ query }: { readonly query: string }) => statementSent(query),
    afterLoad: (entity: object, { metadata }: { readonly metadata: Metadata }) => loaded(entity, metadata),
  }
  source.subscribers.push(subscriber)
  const executed =
    (isAll: boolean): Around<Builder> =>
    async (self, args, run) => {
      if (currentScope() === undefined) return run(...args)
      const result = await telling(() => run(...args), self)
      const { entities } = (result ?? {}) as { readonly entities?: readonly object[] }
      declareBuilder(self, isAll, entities, listsOf)
      return result
    }
  const raw: Around<Builder> = async (self, args, run) => {
    if (currentScope() === undefined) return run(...args)
    const around = toldBy() as Builder | undefined
    if (around === undefined) declareBuilder(self, false, undefined, listsOf)
    else
      declareRead(
        typesOf(self)
          .filter((type) => !typesOf(around).includes(type))
          .map(changesName),
      )
    return telling(() => run(...args), self)
  }
  const stream: Around<Builder> = (_, args, run) => {
    forbidRead('it was made from a stream')
    return run(...args)
  }
  const end = hookMethods(source.createQueryBuilder(), (self) => self.dataSource ?? self.connection, {
    executeEntitiesAndRawResults: executed(true),
    executeCountQuery: executed(true),
    executeExistsQuery: executed(false),
    ...{ loadRawResults: raw, stream },
  })
  return () => {
    end()
    const at = source.subscribers.indexOf(subscriber)
    if (at >= 0) source.subscribers.splice(at, 1)
  }
}

function loaded(entity: object, metadata: Metadata): void {
  if (currentScope() === undefined) return
  const key = keyOf(metadata, entity)
  const type = typeOf(metadata)
  // A part without the key may be of any row.
  if (key === undefined) declareRead([typeName(type), changesName(type)])
  else declareRead([typeName(type), dep.id(type, ...(key as [IdPart]))])
}

/** The types that a query reads. Rows that join two types are changes of both. */
const typesOf = ({ expressionMap: { aliases } }: Builder): readonly string[] =>
  // The metadata of an alias without any is an error.
  aliases
    .filter((alias) => alias.hasMetadata && !alias.metadata.isJunction)
    .map(({ metadata }) => typeOf(metadata))

function declareBuilder(
  self: Builder,
  isAll: boolean,
  rows: readonly object[] | undefined,
  listsOf: (type: string) => readonly EntityLists[],
): void {
  const why = unknownOf(self)
  if (why !== undefined) {
    forbidRead(why)
    return
  }
  const { mainAlias, aliases, joinAttributes, wheres, groupBys, limit, offset, skip, take } =
    self.expressionMap
  const { where, order } = self.findOptions
  // Conditions of query builders are texts.
  const isFind =
    groupBys.length === 0 && (wheres.length === 0 || (wheres.length === 1 && where !== undefined))
  const isFlat = isFind && ![where, order].flat().some(hasNested)
  const main = (mainAlias as Alias).metadata
  const others = aliases.filter((alias) => alias !== mainAlias && !alias.metadata.isJunction)
  const names = others
    .filter(({ name }) => !isFlat || !isFollowed(joinAttributes.find(({ alias }) => alias.name === name)))
    .map(({ metadata }) => changesName(typeOf(metadata)))
  const isPage = [limit, offset, skip, take].some((one) => one !== undefined)
  const read = {
    type: typeOf(main),
    keys: isFind ? keysOf(main, where) : undefined,
    equal: isFlat && isAll && !isPage ? equalities(where) : undefined,
    rows,
  }
  declareRead([...names, ...namesOfRead(read, listsOf(read.type))])
}

/** Why it is not known what a query reads. */
function unknownOf(self: Builder): string | undefined {
  const { mainAlias, aliases, cache } = self.expressionMap
  if (mainAlias === undefined || aliases.some(({ hasMetadata }) => !hasMetadata))
    return 'it was made from a table that is no entity'
  if (aliases.some(({ metadata }) => metadata.tableType === 'view')) return 'it was made from a view'
  if ((self.getQuery().match(/\bselect\b/gi)?.length ?? 0) > 1) return 'it was made with a query in a query'
  const { queryResultCache, options } = (self.dataSource ?? self.connection) as Database
  const { alwaysEnabled } = (options?.cache ?? {}) as { readonly alwaysEnabled?: boolean }
  if (queryResultCache !== undefined && (cache === undefined ? alwaysEnabled : cache))
    return 'it was made from the result cache of TypeORM'
  return undefined
}

/** A relation whose entities a change of the entity itself exchanges, or a change of the rows that join them. */
function isFollowed(join: Join | undefined): boolean {
  const { direction, condition, relation } = join ?? {}
  if (direction !== 'LEFT' || condition || relation === undefined) return false
  return relation.isManyToOne || relation.isOneToOneOwner || relation.isManyToMany
}

const isPlainObject = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype

const hasNested = (condition: unknown): boolean => Object.values(condition ?? {}).some(isPlainObject)

/** The values that a condition allows, if it is a list of them. */
function valuesOf(condition: unknown): readonly unknown[] | undefined {
  const { type, value } = (condition ?? {}) as { readonly type?: unknown; readonly value?: unknown }
  if (typeof condition !== 'object') return [condition]
  if (type === 'equal') return [value]
  return type === 'in' && Array.isArray(value) ? (value as unknown[]) : undefined
}

/** The keys of the only rows that the alternatives of a condition allow. */
function keysOf({ primaryColumns }: Metadata, where: unknown): readonly (readonly IdPart[])[] | undefined {
  const alternatives = [where].flat().map((one) => {
    const values = primaryColumns.map(({ propertyName }) =>
      valuesOf((one as Record<string, unknown> | undefined)?.[propertyName]),
    )
    const [first] = values
    if (values.length === 1) return first?.map((part) => [part])
    return values.every((some) => some?.length === 1) ? [values.map((some) => some?.[0])] : undefined
  })
  const keys = alternatives.flatMap((some) => some ?? [[undefined]])
  return keys.every((key) => key.every(isPart)) ? (keys as IdPart[][]) : undefined
}

/** The fields of a condition that is nothing but equalities. */
function equalities(where: unknown): Readonly<Record<string, unknown>> | undefined {
  if (Array.isArray(where)) return undefined
  const all: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(where ?? {})) {
    if (value === undefined) continue
    const [one, ...more] = valuesOf(value) ?? []
    if (one === undefined || one === null || more.length > 0) return undefined
    all[name] = one
  }
  return all
}
