/**
 * Reads of an ORM that declare themselves: the value of a creator depends on what it read. A read of which it cannot be known
 * what it depends on keeps the value from being stored.
 */
import { asyncContext, type ContextFrame } from '../../base/async-context.js'
import { currentScope, forbidTracking, type Scope } from '../../creation/scope.js'
import { dep } from '../../dependencies/dep.js'
import type { IdPart } from '../../ledger/names.js'
import { changesName, type EntityLists, isPart, typeName } from './core.js'

/** Adds names to the creation around the caller. Outside of every creation there is nothing to track. */
export function declareRead(names: readonly string[]): void {
  const scope = currentScope()
  if (scope === undefined) return
  if (scope.collector === undefined)
    forbidTracking(scope, 'it was made from rows that its region does not track')
  else scope.collector.add(names)
}

/** Keeps the creation around the caller from being stored. */
export function forbidRead(why: string): void {
  const scope = currentScope()
  if (scope !== undefined) forbidTracking(scope, `${why}: what it was made from is not known`)
}

interface Telling extends ContextFrame<Telling> {
  readonly scope: Scope | undefined
  readonly by: unknown
}

const tellings = asyncContext<Telling>('told reads')

/** Runs a part of the ORM whose statements are declared by the caller. */
export function telling<R>(run: () => R | Promise<R>, by?: unknown): Promise<R> {
  const scope = currentScope()
  if (scope === undefined) return Promise.resolve(run())
  return tellings.during({ scope, by, parent: tellings.current(), over: false }, run)
}

/** The part around the caller, in the same creation. */
export function toldBy(): unknown {
  const telling = tellings.current()
  return telling?.scope === currentScope() ? telling?.by : undefined
}

/** A statement is sent. One that no part of the ORM tells of may read anything. */
export function statementSent(sql: string): void {
  const scope = currentScope()
  if (scope === undefined || tellings.current()?.scope === scope || CONTROL.test(sql)) return
  forbidRead('it was made with a statement that the ORM tells nothing of')
}

const CONTROL = /^\s*(?:begin|start transaction|commit|rollback|savepoint|release|set transaction)\b/i

/** A read of one type: rows by their keys, or by a condition. */
export interface TypeRead {
  readonly type: string
  /** If the condition allows only rows with these keys. */
  readonly keys?: readonly (readonly IdPart[])[] | undefined
  /** The fields that must be equal to values, if the condition is nothing else, and all rows that meet it are read. */
  readonly equal?: Readonly<Record<string, unknown>> | undefined
  /** The rows that were found; absent if they are not known, as those of a count. */
  readonly rows?: readonly object[] | undefined
}

/** The names that the set of the rows depends on. The rows themselves are declared as they are loaded. */
export function namesOfRead(
  { type, keys, equal, rows }: TypeRead,
  lists: readonly EntityLists[],
): readonly string[] {
  if (keys !== undefined) return [typeName(type), ...keys.map((key) => dep.id(type, ...(key as [IdPart])))]
  const list = equal && listNames(equal, rows, lists)
  return [typeName(type), ...(list ?? [changesName(type)])]
}

type Lists = EntityLists & { condition(condition: object): readonly string[] }

/** The list that the rows are, if it is described, and its extractors find each row in it. */
function listNames(
  equal: Readonly<Record<string, unknown>>,
  rows: readonly object[] | undefined,
  lists: readonly EntityLists[],
): readonly string[] | undefined {
  const values = Object.values(equal)
  if (!values.every((value) => isPart(value) || typeof value === 'boolean' || value === null))
    return undefined
  // Databases have booleans and fractions in several forms: without a row to compare, another form may be meant.
  const isPlain = values.every((value) => typeof value !== 'boolean' && !(Number(value) % 1))
  if (!rows?.length && !isPlain) return undefined
  for (const one of lists) {
    if (!one.isDescribed(Object.keys(equal))) continue
    const names = (one as Lists).condition(equal)
    const isIn = (row: object) =>
      one.namesFor(row as never, { created: true }, () => {}).includes(names[1] as string)
    if (rows?.every(isIn) !== false) return names
  }
  return undefined
}
