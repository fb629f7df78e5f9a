/**
 * The reads of MikroORM, as its driver, its managers and its statements tell them. The driver gets the condition of each read with
 * all filters in it; an entity that is loaded is an event.
 */
import { currentScope, type Scope } from '../../creation/scope.js'
import type { IdPart } from '../../ledger/names.js'
import { changesName, type EntityLists, isPart, namesOfEntities } from '../orm/core.js'
import { hookMethods } from '../orm/hooks.js'
import { declareRead, forbidRead, namesOfRead, statementSent, type TypeRead, telling } from '../orm/reads.js'
import { readEntity } from './entities.js'
import { inEventManagers } from './events.js'
import type { Manager, Metadata, MikroOrmHost, Property, UnitOfWork } from './host.js'

type Method = (...args: unknown[]) => unknown
type Driver = Record<string, Method>
type Condition = Readonly<Record<string, unknown>>

/** Until the returned function is called, the reads of a database declare themselves. */
export function trackReads(orm: MikroOrmHost, listsOf: (type: string) => readonly EntityLists[]): () => void {
  const em = orm.em as unknown as Manager
  const driver = em.getDriver() as Driver
  const owners = new WeakMap<UnitOfWork, Scope | 'several'>()
  const subscriber = {
    onLoad: (event: { readonly entity: object; readonly em: Manager }) => loaded(event, owners),
  }
  const ends = [
    inEventManagers(orm, (events) => events.registerSubscriber(subscriber as never)),
    hookMethods(em, (one) => one.getDriver(), managerHooks(owners, orm)),
    ...['find', 'findOne', 'count'].map((name) =>
      replaceMethod(driver, name, (method) => told(orm, method, name, listsOf)),
    ),
    ...WRITES.map((name) =>
      replaceMethod(
        driver,
        name,
        (method) =>
          (...args) =>
            telling(() => method(...args)),
      ),
    ),
    hookStatements(orm),
  ]
  return () => {
    for (const end of ends.reverse()) end()
  }
}

const WRITES = [
  ...[
    'nativeInsert',
    'nativeInsertMany',
    'nativeUpdate',
    'nativeUpdateMany',
    'nativeDelete',
    'syncCollections',
  ],
]

function replaceMethod(target: Driver, name: string, by: (method: Method) => Method): () => void {
  const method = target[name]
  if (method === undefined) return () => {}
  const replacement = by(method.bind(target))
  target[name] = replacement
  return () => {
    // Another one may be around it.
    if (target[name] === replacement) Reflect.deleteProperty(target, name)
  }
}

/** Raw SQL and query builders send statements that no read of the driver is around. */
function hookStatements({ config }: MikroOrmHost): () => void {
  if (config === undefined) return () => {}
  const before = config.get('onQuery' as never) as (sql: string, params: unknown) => string
  let isOver = false
  config.set(
    'onQuery' as never,
    ((sql: string, params: unknown) => {
      if (!isOver) statementSent(sql)
      return before(sql, params)
    }) as never,
  )
  return () => {
    isOver = true
  }
}

/** An entity is loaded into a manager, which thereby belongs to the creation, unless it belongs to another. */
function loaded(
  { entity, em }: { readonly entity: object; readonly em: Manager },
  owners: WeakMap<UnitOfWork, Scope | 'several'>,
): void {
  const scope = currentScope()
  const uow = em.getUnitOfWork()
  const owner = owners.get(uow)
  if (owner !== undefined && owner !== scope) owners.set(uow, 'several')
  if (scope !== undefined) declareRead([...namesOfEntities(readEntity, entity, {})])
}

/**
 * A manager returns an entity that it has already without any further word. So a creation must be the only one that loads
 * entities into its managers.
 */
function managerHooks(owners: WeakMap<UnitOfWork, Scope | 'several'>, { config }: MikroOrmHost) {
  const isForeign = (em: Manager, scope: Scope): boolean => {
    const uow = em.getUnitOfWork()
    // References have nothing but their keys.
    const isEmpty = Array.from(uow.getIdentityMap().values()).every((one) => !one.__helper.isInitialized())
    if (isEmpty) owners.set(uow, scope)
    const owner = owners.get(uow)
    return owner === undefined || owner === 'several' || !isAround(scope, owner)
  }
  const read = (em: Manager, args: readonly unknown[], run: Method): unknown => {
    const scope = currentScope()
    if (scope !== undefined) {
      if (isForeign(em, scope))
        forbidRead('it was made with an EntityManager that has entities from before (take a fork of its own)')
      const { cache } = (args.at(-1) ?? {}) as { readonly cache?: unknown }
      const results = config?.get('resultCache' as never) as { readonly global?: unknown } | undefined
      if (cache === undefined ? results?.global : cache)
        forbidRead('it was made from the result cache of MikroORM')
    }
    return run(...args)
  }
  const hidden = (_: Manager, args: readonly unknown[], run: Method): unknown => {
    forbidRead('it was made with a reader that MikroORM tells nothing of')
    return run(...args)
  }
  const reads = { find: read, findOne: read, count: read, populate: read }
  return { ...reads, stream: hidden, getKnex: hidden, getKysely: hidden }
}

/** Whether a creation is the other one, or around it. */
function isAround(scope: Scope, inner: Scope): boolean {
  let one: Scope | undefined = inner
  while (one !== undefined && one !== scope) one = one.parent
  return one !== undefined
}

/** A read of the driver that is declared once its rows are there. */
function told(
  orm: MikroOrmHost,
  method: Method,
  name: string,
  listsOf: (type: string) => readonly EntityLists[],
): Method {
  return async (...args) => {
    if (currentScope() === undefined) return method(...args)
    const result = await telling(() => method(...args))
    const [entityName, where, options] = args
    const metadata = metadataOf(orm, entityName)
    if (metadata === undefined) forbidRead('it was made from an entity that is not known')
    else {
      const found = name === 'find' ? (result as readonly object[]) : undefined
      declareCondition(
        metadata,
        where,
        (options ?? {}) as ReadOptions,
        { found, isAll: name !== 'findOne' },
        listsOf,
      )
    }
    return result
  }
}

function metadataOf(orm: MikroOrmHost, name: unknown): Metadata | undefined {
  const storage = orm.getMetadata?.() as { find?(name: unknown): Metadata | undefined } | undefined
  return storage?.find?.(name)
}

interface ReadOptions {
  readonly populate?: unknown
  readonly orderBy?: unknown
  readonly populateWhere?: unknown
  readonly _populateWhere?: unknown
  readonly populateFilter?: unknown
  readonly having?: unknown
  readonly groupBy?: unknown
  readonly limit?: unknown
  readonly offset?: unknown
  readonly first?: unknown
  readonly last?: unknown
}

function declareCondition(
  metadata: Metadata,
  where: unknown,
  options: ReadOptions,
  { found, isAll }: { readonly found: readonly object[] | undefined; readonly isAll: boolean },
  listsOf: (type: string) => readonly EntityLists[],
): void {
  const others = new Set<string>()
  const parts = flattened(metadata, where)
  try {
    refuseComputed(metadata, options)
    for (const part of parts) collectTypes(metadata, part, others, false)
    for (const order of [options.orderBy].flat()) collectTypes(metadata, order, others, false)
    collectPopulated(metadata, options, others)
  } catch (error) {
    if (!(error instanceof Unknown)) throw error
    forbidRead(error.message)
    return
  }
  const names = [...others].map(changesName)
  if (metadata.pivotTable) {
    declareRead([...names, ...pivotNames(metadata, parts)])
    return
  }
  const isPage = [options.limit, options.offset, options.first, options.last].some((one) => one != null)
  const type = metadata.root.className
  const read: TypeRead = {
    type,
    keys: keysOf(metadata, parts),
    equal: isAll && !isPage ? equalities(parts) : undefined,
    rows: found,
  }
  declareRead([...names, ...namesOfRead(read, listsOf(type))])
}

/** What a read depends on cannot be known. */
class Unknown extends Error {}

/** The conditions that all hold. */
function flattened(metadata: Metadata, where: unknown): readonly Condition[] {
  const [key] = metadata.primaryKeys
  if (where === undefined || where === null) return []
  if (typeof where !== 'object' || Array.isArray(where))
    return metadata.primaryKeys.length === 1 ? [{ [key as string]: where }] : [compositeOf(metadata, where)]
  const { $and, ...rest } = where as Condition
  const inner = Array.isArray($and) ? $and.flatMap((one) => flattened(metadata, one)) : []
  return [split(rest), ...inner]
}

/** MikroORM joins the names of a composite key: `order~~~line`. */
function split(condition: Condition): Condition {
  const parts = Object.entries(condition).flatMap(([joint, value]) => {
    const names = joint.split('~~~')
    const key = names.length > 1 ? keyIn(value, names.length) : undefined
    return key === undefined ? [[joint, value]] : names.map((name, at) => [name, key[at]])
  })
  return Object.fromEntries(parts) as Condition
}

/** The only composite key of a condition, which may be in a list, or stand in the place of one. */
function keyIn(condition: unknown, length: number): readonly unknown[] | undefined {
  const { $in: given = condition } = isPlainObject(condition) ? (condition as Condition) : {}
  if (!Array.isArray(given)) return undefined
  const isList = given.every((one) => Array.isArray(one) && one.length === length)
  if (!isList) return given.length === length ? given : undefined
  return given.length === 1 ? (given[0] as readonly unknown[]) : undefined
}

const compositeOf = ({ primaryKeys }: Metadata, values: unknown): Condition =>
  Array.isArray(values) ? Object.fromEntries(primaryKeys.map((key, at) => [key, values[at]])) : {}

function refuseComputed(metadata: Metadata, { having, groupBy }: ReadOptions): void {
  if (metadata.virtual || metadata.view) throw new Unknown(`'${metadata.className}' is a query of its own`)
  if (having !== undefined || groupBy !== undefined) throw new Unknown('its rows are grouped')
  const formula = Object.values(metadata.properties).find((property) => property.formula !== undefined)
  if (formula !== undefined) throw new Unknown(`'${metadata.className}.${formula.name}' is a formula`)
}

/** The types whose changes change which rows meet a condition, or their order. */
function collectTypes(metadata: Metadata, part: unknown, types: Set<string>, isNested: boolean): void {
  if (part === undefined || part === null) return
  for (const [key, value] of Object.entries(part)) {
    if (key.startsWith('$')) {
      for (const one of [value].flat())
        if (isPlainObject(one)) collectTypes(metadata, one, types, isNested)
        else refuseQuery(one)
      continue
    }
    const composite =
      key.includes('~~~') && key.split('~~~').every((one) => Object.hasOwn(metadata.properties, one))
    if (!composite && !Object.hasOwn(metadata.properties, key))
      throw new Unknown(`its condition on '${metadata.className}' has a part that is no property`)
    if (isNested) types.add(metadata.root.className)
    const { targetMeta, kind, owner } = (metadata.properties[key] ?? {}) as Partial<Property>
    if (targetMeta === undefined) refuseQuery(value)
    else {
      if (kind === '1:m' || kind === 'm:n' || (kind === '1:1' && !owner)) types.add(targetMeta.root.className)
      if (isPlainObject(value)) collectTypes(targetMeta, value, types, true)
      else refuseQuery(value)
    }
  }
}

/** A query inside of a condition reads more. */
function refuseQuery(value: unknown): void {
  for (const one of Array.isArray(value) ? value.flat(2) : [value])
    if (typeof one === 'function' || (typeof one === 'object' && one !== null && !isData(one)))
      throw new Unknown('its condition has a query in it')
}

const isPlainObject = (value: unknown): boolean =>
  typeof value === 'object' &&
  value !== null &&
  [Object.prototype, null].includes(Object.getPrototypeOf(value) as object | null)

const isData = (value: object): boolean =>
  isPlainObject(value) || value instanceof Date || value instanceof Uint8Array || value instanceof RegExp

interface Populate {
  readonly field: string
  readonly children?: readonly Populate[]
}

/** The types of which a row belongs to a relation by a column of its own: a new one changes no row of the entity. */
function collectPopulated(metadata: Metadata, options: ReadOptions, types: Set<string>): void {
  for (const { kind, owner, targetMeta } of Object.values(metadata.properties))
    if (kind === '1:1' && !owner && targetMeta !== undefined) types.add(targetMeta.root.className)
  // MikroORM makes a condition of its own from a hint such as 'all', and keeps the hint.
  const { _populateWhere: hint = options.populateWhere } = options
  const isFiltered = isFull(hint) || isFull(options.populateFilter)
  const walk = ({ properties, className }: Metadata, hints: readonly Populate[]): void => {
    for (const { field, children = [] } of hints) {
      const property = properties[field.split(':')[0] as string]
      if (property === undefined) throw new Unknown(`it populates '${field}' of '${className}'`)
      const { targetMeta, kind, owner } = property
      if (targetMeta === undefined) continue
      refuseComputed(targetMeta, {})
      if (isFiltered || kind === '1:m' || (kind === '1:1' && !owner)) types.add(targetMeta.root.className)
      walk(targetMeta, children)
    }
  }
  if (Array.isArray(options.populate)) walk(metadata, options.populate as readonly Populate[])
}

const isFull = (value: unknown): boolean => isPlainObject(value) && Object.keys(value as object).length > 0

/** The entities on the sides of a relation that a condition on their rows names: a change of their relation is theirs. */
function pivotNames({ properties }: Metadata, parts: readonly Condition[]): readonly string[] {
  return parts.flatMap((part) =>
    Object.entries(part).flatMap(([name, value]) => {
      const target = properties[name]?.targetMeta
      const keys = target && valuesOf(value)?.map((one) => [one].flat())
      if (target === undefined) return []
      const type = target.root.className
      return keys?.every((key) => key.every(isPart))
        ? namesOfRead({ type, keys: keys as IdPart[][] }, [])
        : [changesName(type)]
    }),
  )
}

/** The values that a condition allows, if it is a list of them. */
function valuesOf(condition: unknown): readonly unknown[] | undefined {
  if (!isPlainObject(condition)) return [condition]
  const [[operator, value] = [], ...more] = Object.entries(condition as Condition)
  if (more.length > 0) return undefined
  if (operator === '$eq') return [value]
  return operator === '$in' && Array.isArray(value) ? (value as unknown[]) : undefined
}

/** The keys of the only rows that a condition allows. */
function keysOf(
  { primaryKeys, properties }: Metadata,
  parts: readonly Condition[],
): readonly (readonly IdPart[])[] | undefined {
  const all: Condition = Object.assign({}, ...parts)
  const values = primaryKeys.map((key) => (Object.hasOwn(all, key) ? valuesOf(all[key]) : undefined))
  const [first] = values
  if (first !== undefined && values.length === 1)
    return first.every(isPart) ? first.map((part) => [part]) : undefined
  const key = values.flatMap((one, at) => {
    const target = properties[primaryKeys[at] as string]?.targetMeta
    const part = one?.length === 1 ? one.flat(Number.POSITIVE_INFINITY) : []
    return part.length === (target === undefined ? 1 : keyLength(target)) ? part : [undefined]
  })
  return key.length > 1 && key.every(isPart) ? [key] : undefined
}

/** The number of parts of a key, with those of the references in it. */
const keyLength = ({ primaryKeys, properties }: Metadata): number =>
  primaryKeys.reduce((sum, key) => {
    const target = properties[key]?.targetMeta
    return sum + (target === undefined ? 1 : keyLength(target))
  }, 0)

/** The fields of a condition that is nothing but equalities. */
function equalities(parts: readonly Condition[]): Condition | undefined {
  const all: Record<string, unknown> = {}
  for (const part of parts)
    for (const [name, value] of Object.entries(part)) {
      const [one, ...more] = valuesOf(value) ?? []
      if (name.startsWith('$') || one === undefined || more.length > 0 || Object.hasOwn(all, name))
        return undefined
      all[name] = one
    }
  return all
}
