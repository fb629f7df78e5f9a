import { ignoreRejection, type MaybePromise } from '../base/maybe-promise.js'
import { expectFunction } from '../base/options.js'
import { currentScope, handUpVersion } from '../creation/scope.js'
import { dependsOn } from '../dependencies/depends-on.js'
import { resolveVersions } from '../ledger/checked-names.js'
import { groupName, type IdPart, listNames } from '../ledger/names.js'
import type { CacheMultiOptions, CacheOptions, FunctionStore } from './types.js'

/** The names that the result of a call depends on: those known from its arguments, and those known from the result. */
export interface Declared {
  readonly fromArguments: (args: readonly unknown[]) => readonly string[]
  readonly fromResult: (result: unknown, args: readonly unknown[]) => readonly string[]
}

type Names = (...args: readonly unknown[]) => string | readonly string[]
type Groups = Readonly<Record<string, (args: unknown) => IdPart | readonly IdPart[]>>

/**
 * Reads the declarations of a cached function once. `undefined`: it declares none, and nothing has to be tracked.
 * @param grouped - the argument of the functions of `group`
 * @throws CorralError `ERR_OPTION` for a declaration that is not a function.
 */
export function declared(
  options: CacheOptions | CacheMultiOptions,
  grouped: (args: readonly unknown[]) => unknown,
): Declared | undefined {
  const { dependencies, resultDependencies, group = {} } = options
  const groups = Object.entries(group as Groups)
  for (const [name, member] of groups) expectFunction(member, `\`group.${name}\``)
  if (dependencies === undefined && resultDependencies === undefined && groups.length === 0) return undefined
  const list = (names: string | readonly string[]) => listNames(names, false)
  return {
    fromArguments: (args) => [
      ...(dependencies === undefined ? [] : list((dependencies as Names)(...args))),
      ...groups.flatMap(([name, member]) => {
        const ids = [member(grouped(args))].flat() as readonly IdPart[]
        // groupName() refuses a promise. Its rejection, and those of the others, must not end the process besides.
        return ids.map((id) => ignoreRejection(id)).map((id) => groupName(name, id as IdPart))
      }),
    ],
    fromResult: (result, args) =>
      resultDependencies === undefined ? [] : list((resultDependencies as Names)(result, ...args)),
  }
}

/**
 * Runs a function uncached. A creation around the caller depends on the declared names as if the result came from the
 * cache. If that creation cannot track them, it must not be stored.
 */
export async function runUncached<V>(
  store: FunctionStore<V>,
  names: Declared | undefined,
  namespace: string | undefined,
  original: (...args: readonly unknown[]) => MaybePromise<V>,
  args: readonly unknown[],
): Promise<V> {
  if (names === undefined || currentScope() === undefined) return original(...args)
  const why = `it was made from a result of '${namespace}', run uncached, whose dependencies this region does not track`
  const ahead = await resolveVersions(names.fromArguments(args))
  const asOf = await store.asOf().catch(() => undefined)
  const handUp = (list: readonly string[]): void => {
    const collector = currentScope()?.collector
    if (collector === undefined || asOf === undefined) handUpVersion(undefined, why)
    else {
      // Names mean something only in the ledger in which they are invalidated: its epoch tells it from other ledgers.
      collector.inherit({ epoch: asOf.epoch, groups: [] }, true)
      dependsOn(list)
    }
  }
  handUp(ahead)
  const result = await original(...args)
  handUp(names.fromResult(result, args))
  return result
}
