/** The tables that a query of Kysely changes. */
import type { QueryNode } from './host.js'

const MUTATIONS: ReadonlySet<string> = new Set([
  ...['InsertQueryNode', 'UpdateQueryNode', 'DeleteQueryNode', 'MergeQueryNode'],
])

/** A query as far as it is known: the tables that it changes, and whether it returns all rows that it changed. */
export interface Mutation {
  /** `undefined` if one of them is raw SQL. */
  readonly tables: readonly string[] | undefined
  readonly returns: boolean
}

/** `undefined` for a query that changes nothing, as far as its nodes say: raw SQL says nothing. */
export function mutationOf(root: QueryNode): Mutation | undefined {
  const isMutation = MUTATIONS.has(root.kind)
  // A query of another kind changes tables only in its common table expressions.
  if (!isMutation && !('with' in root && root.with !== undefined)) return undefined
  const tables = new Set<string>()
  const nested = { found: 0, isRaw: false }
  collect(root, tables, nested)
  if (nested.isRaw) return { tables: undefined, returns: false }
  if (tables.size === 0) return undefined
  const returns = isMutation && nested.found === 1 && 'returning' in root && root.returning !== undefined
  return { tables: [...tables], returns }
}

/** The tables that a query reads, and those that it changes; `undefined` if a part of it is raw SQL. */
export function tablesOf(root: QueryNode): readonly string[] | undefined {
  const tables = new Set<string>()
  const isKnown = (node: unknown): boolean => {
    if (Array.isArray(node)) return node.every(isKnown)
    if (typeof node !== 'object' || node === null) return true
    const { kind } = node as Partial<QueryNode>
    if (kind === 'RawNode') return false
    for (const table of kind === 'TableNode' ? tablesIn(node) : []) tables.add(table)
    return Object.values(node).every(isKnown)
  }
  return isKnown(root) ? [...tables] : undefined
}

function collect(node: unknown, tables: Set<string>, nested: { found: number; isRaw: boolean }): void {
  if (Array.isArray(node)) for (const one of node) collect(one, tables, nested)
  else if (typeof node === 'object' && node !== null) {
    const { kind, into, table, from, updates, joins } = node as Readonly<Record<string, unknown>>
    if (MUTATIONS.has(kind as string)) {
      nested.found++
      // MySQL changes joined tables, too. In other databases no column has a table in front.
      const joined = [updates].flat().some(isOfTable) ? joins : undefined
      const target = kind === 'DeleteQueryNode' ? from : kind === 'UpdateQueryNode' ? table : into
      const names = [...tablesIn(target), ...tablesIn(joined)]
      // A part of a MERGE has no target.
      if (target !== undefined && names.length === 0) nested.isRaw = true
      for (const name of names) tables.add(name)
    }
    for (const part of Object.values(node)) collect(part, tables, nested)
  }
}

function isOfTable(set: unknown): boolean {
  const { column } = (set ?? {}) as { readonly column?: { readonly kind?: string; readonly table?: unknown } }
  return column?.kind === 'ReferenceNode' && column.table !== undefined
}

/** The names of the tables that a node stands for, without their schemas. */
export function tablesIn(node: unknown): readonly string[] {
  if (Array.isArray(node)) return node.flatMap(tablesIn)
  if (typeof node !== 'object' || node === null) return []
  const { kind, node: inner, froms, items, table } = node as Readonly<Record<string, unknown>>
  if (kind === 'TableNode') {
    const { identifier } = (table ?? {}) as { readonly identifier?: { readonly name?: unknown } }
    return typeof identifier?.name === 'string' ? [identifier.name] : []
  }
  const joined = kind === 'JoinNode' ? table : undefined
  return [inner, froms, items, joined].flatMap(tablesIn)
}
