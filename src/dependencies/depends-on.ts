import { CorralError } from '../base/errors.js'
import { oneOrMany } from '../base/one-or-many.js'
import { checkOptions, expectOneOf, ownOptions } from '../base/options.js'
import { declaredOutside } from '../creation/outside.js'
import { currentScope } from '../creation/scope.js'
import { refuseVersions } from '../ledger/checked-names.js'
import { checkNames } from '../ledger/names.js'

/**
 * Options of `dependsOn`, behind the names.
 * @example
 * ```ts
 * import { dep, dependsOn, type DependsOnOptions } from 'corral'
 *
 * const cachedOrNot: DependsOnOptions = { outside: 'ignore' }
 * export const noteUser = (id: number) => dependsOn(dep.id('user', id), cachedOrNot)
 * ```
 */
export interface DependsOnOptions {
  /**
   * Outside of every creation: `'throw'`, or `'ignore'` for functions that are also called uncached. An ignored call may
   * belong to a creation whose async context was lost, so `corral:notice` reports each creation that runs at that time.
   * @default 'throw'
   */
  readonly outside?: 'throw' | 'ignore' | undefined
}

type Names = string | readonly string[]

/**
 * Declares, inside a creator, the dependencies of its value, also those that only its result shows, such as the rows of a
 * query. A cached function that runs uncached may call it too.
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
 * @throws CorralError `ERR_OUTSIDE_CREATION` outside of every creation, as where a driver lost the async context: see
 *   `outside`; `ERR_NO_LEDGER` inside a creation of a region that does not track dependencies; `ERR_VERSION` for a
 *   version that was not read before: dependsOn(await schema.current()).
 */
export function dependsOn(
  ...given: readonly Names[] | readonly [...names: Names[], options: DependsOnOptions]
): void {
  const last = given.at(-1)
  // An object alone, without the option, was meant as a name.
  const options = isOptions(last) && (given.length > 1 || 'outside' in last) ? ownOptions(last) : undefined
  const all = options === undefined ? given : given.slice(0, -1)
  const names = all.flatMap((one) => oneOrMany<string>(one as Names))
  checkNames(names, false)
  if (options !== undefined) checkOptions(options, 'dependsOn()', OPTIONS)
  refuseVersions(names)
  const scope = currentScope()
  if (scope === undefined) declaredOutside(names, options?.outside === 'ignore')
  else if (scope.collector === undefined) throw notTracked(scope.node.keys[0] as string)
  else scope.collector.add(names)
}

const OPTIONS = {
  outside: (value: unknown, subject: string) => expectOneOf(value, subject, ['throw', 'ignore']),
}

/** Anything else that is no name, such as a Set or a promise, is refused as one. */
function isOptions(given: unknown): given is DependsOnOptions {
  return Object.prototype.toString.call(given) === '[object Object]'
}

/** The error of a creation that declares names that its region does not track. */
export function notTracked(key: string): CorralError {
  return new CorralError(
    'ERR_NO_LEDGER',
    `'${key}' says what it is made from, but its region does not track dependencies: an invalidation would be lost. Put dependencies() into its chain.`,
  )
}
