import { CorralError } from '../base/errors.js'
import { currentScope } from '../creation/scope.js'
import { refuseVersions } from '../ledger/checked-names.js'
import { checkNames } from '../ledger/names.js'

/**
 * Declares, inside a creator, the dependencies of its value, also those that only its result shows, such as the rows of a
 * query. Outside of a creation it does nothing, so that a function can be called uncached.
 * @example
 * ```ts
 * import { dep, dependsOn } from 'corral'
 *
 * export async function firstUsers(query: () => Promise<{ id: number }[]>) {
 *   const rows = await query()
 *   dependsOn(rows.map(({ id }) => dep.id('user', id)))
 *   return rows
 * }
 * ```
 * @throws CorralError `ERR_NO_LEDGER` inside a creation of a region that does not track dependencies; `ERR_VERSION` for a
 *   version that was not read before: dependsOn(await schema.current()).
 */
export function dependsOn(...names: readonly (string | readonly string[])[]): void {
  const flat = names.flat()
  checkNames(flat, false)
  refuseVersions(flat)
  const scope = currentScope()
  if (scope === undefined) return
  if (scope.collector === undefined) throw notTracked(scope.node.keys[0] as string)
  scope.collector.add(flat)
}

/** The error of a creation that declares names that its region does not track. */
export function notTracked(key: string): CorralError {
  return new CorralError(
    'ERR_NO_LEDGER',
    `'${key}' says what it is made from, but its region does not track dependencies: an invalidation would be lost. Put dependencies() into its chain.`,
  )
}
