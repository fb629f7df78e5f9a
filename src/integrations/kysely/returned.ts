/** Whether the rows that a statement of Kysely returns tell the keys of all rows that it changed. */
import type { QueryNode } from './host.js'
import { tablesIn } from './statements.js'

type Node = Readonly<Record<string, unknown>>

/**
 * Whether a changed row can have been, and can be, in no other row of the table than the one whose key is returned. It cannot if the
 * statement sets a column of the key, replaces rows, or returns the key's name for another column or another table's.
 * @param columns - those of the key
 */
export function returnsKeys(root: QueryNode, columns: readonly string[]): boolean {
  const statement = root as unknown as Node
  const {
    into,
    table,
    from,
    using,
    joins,
    updates,
    onConflict,
    onDuplicateKey,
    replace,
    orAction,
    returning,
  } = statement
  const isDeletion = root.kind === 'DeleteQueryNode'
  const target = isDeletion ? from : (table ?? into)
  const sets = [updates, part(onConflict, 'updates'), part(onDuplicateKey, 'updates')].flat().filter(isNode)
  const isMoved = sets.some((set) => {
    const name = columnOf(set.column)
    return name === undefined || columns.some((one) => one.toLowerCase() === name.toLowerCase())
  })
  if (isMoved || replace === true || orAction !== undefined) return false
  const own = [...tablesIn(target), ...aliasesIn(target)]
  const isAlone = [using, joins, isDeletion ? undefined : from].every((one) => one === undefined)
  const selections = [part(returning, 'selections')].flat().map((one) => part(one, 'selection'))
  return selections.every((one) => isOwn(one, columns, own, isAlone))
}

/** Whether a selection gives no column the name of a part of the key that is none. */
function isOwn(
  selection: unknown,
  columns: readonly string[],
  own: readonly string[],
  isAlone: boolean,
): boolean {
  if (!isNode(selection)) return false
  const { kind, node, alias, table } = selection
  if (kind === 'SelectAllNode') return isAlone
  if (kind === 'AliasNode') {
    const name = part(alias, 'name')
    if (typeof name !== 'string') return false
    return !columns.includes(name) || (columnOf(node) === name && isOwn(node, columns, own, isAlone))
  }
  if (kind !== 'ReferenceNode') return false
  const isOfOwn = table === undefined || tablesIn(table).some((one) => own.includes(one))
  if (part(selection.column, 'kind') === 'SelectAllNode') return isOfOwn
  const name = columnOf(selection)
  return name !== undefined && (isOfOwn || !columns.includes(name))
}

/** The name of a column, of which a node is or which it refers to. */
function columnOf(node: unknown): string | undefined {
  if (!isNode(node)) return undefined
  if (node.kind === 'ReferenceNode') return columnOf(node.column)
  const name = node.kind === 'ColumnNode' ? part(node.column, 'name') : undefined
  return typeof name === 'string' ? name : undefined
}

function aliasesIn(target: unknown): readonly string[] {
  if (Array.isArray(target)) return target.flatMap(aliasesIn)
  if (!isNode(target)) return []
  const name = part(target.alias, 'name')
  return [...(typeof name === 'string' ? [name] : []), ...[target.froms, target.items].flatMap(aliasesIn)]
}

const isNode = (value: unknown): value is Node => typeof value === 'object' && value !== null
const part = (node: unknown, name: string): unknown => (isNode(node) ? node[name] : undefined)
