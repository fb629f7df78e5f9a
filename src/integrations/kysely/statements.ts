/** The tables that a query of Kysely changes. */
import type { QueryNode } from './host.js'

const MUTATIONS: ReadonlySet<string> = new Set([
  ...['InsertQueryNode', 'UpdateQueryNode', 'DeleteQueryNode', 'MergeQueryNode'],
])

/** A query as far as it is known: the tables that it changes, and whether it returns all rows that it changed. */
export interface Mutation {
  readonly tables: readonly string[]
  readonly returns: boolean
}

/** `undefined` for a query that changes nothing, as far as its nodes say: raw SQL says nothing. */
export function mutationOf(root: QueryNode): Mutation | undefined {
  const isMutation = MUTATIONS.has(root.kind)
  // A query of another kind changes tables only in its common table expressions.
  if (!isMutation && !('with' in root && root.with !== undefined)) return undefined
  const tables = new Set<string>()
  const nested = { found: 0 }
  collect(root, tables, nested)
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

function collect(node: unknown, tables: Set<string>, nested: { found: number }): void {
  if (Array.isArray(node)) for (const one of node) collect(one, tables, nested)
  else if (typeof node === 'object' && node !== null) {
    const { kind, into, table, from } = node as Partial<Record<'kind' | 'into' | 'table' | 'from', unknown>>
    if (MUTATIONS.has(kind as string)) {
      nested.found++
      const target = kind === 'DeleteQueryNode' ? from : kind === 'UpdateQueryNode' ? table : into
      for (const name of tablesIn(target)) tables.add(name)
    }
    for (const part of Object.values(node)) collect(part, tables, nested)
  }
}

/** The names of the tables that a node stands for, without their schemas. */
export function tablesIn(node: unknown): readonly string[] {
  if (Array.isArray(node)) return node.flatMap(tablesIn)
  if (typeof node !== 'object' || node === null) return []
  const {
    kind,
    node: inner,
    froms,
    table,
  } = node as Partial<Record<'kind' | 'node' | 'froms' | 'table', unknown>>
  if (kind === 'TableNode') {
    const { identifier } = (table ?? {}) as { readonly identifier?: { readonly name?: unknown } }
    return typeof identifier?.name === 'string' ? [identifier.name] : []
  }
  return [...tablesIn(inner), ...tablesIn(froms)]
}
