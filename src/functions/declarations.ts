import { CorralError, formatValue } from '../base/errors.js'
import { ignoreRejection } from '../base/maybe-promise.js'
import { groupName, type IdPart, listNames } from '../ledger/names.js'

/** What a cached function declares of its results, in the form in which the options say it. */
export interface Declarations {
  readonly dependencies?: unknown
  readonly resultDependencies?: unknown
  readonly group?: unknown
}

/** Answers the names that a call's result depends on: from its arguments, and once it is there from the result. */
export interface Declared {
  readonly fromArguments: (args: readonly unknown[]) => readonly string[]
  readonly fromResult: (result: unknown, args: readonly unknown[]) => readonly string[]
}

type Names = (...args: readonly unknown[]) => string | readonly string[]
type Groups = Readonly<Record<string, (args: unknown) => IdPart | readonly IdPart[]>>

/**
 * Reads the declarations once. `undefined`: there are none, and nothing has to be tracked.
 * @param told what the functions of `group` are told of the arguments.
 * @throws CorralError `ERR_OPTION` when one is no function.
 */
export function declared(
  { dependencies, resultDependencies, group }: Declarations,
  told: (args: readonly unknown[]) => unknown = (args) => args,
): Declared | undefined {
  expectFunction('dependencies', dependencies)
  expectFunction('resultDependencies', resultDependencies)
  if (group !== undefined && (typeof group !== 'object' || group === null))
    throw new CorralError(
      'ERR_OPTION',
      `Expected \`group\` to be an object such as { user: ([id]) => id }, got ${formatValue(group)}.`,
    )
  const groups = Object.entries((group ?? {}) as Groups)
  for (const [name, member] of groups) expectFunction(`group.${name}`, member)
  if (dependencies === undefined && resultDependencies === undefined && groups.length === 0) return undefined
  const list = (names: string | readonly string[]) => listNames(names, false)
  return {
    fromArguments: (args) => [
      ...(dependencies === undefined ? [] : list((dependencies as Names)(...args))),
      ...groups.flatMap(([name, member]) => {
        const ids = [member(told(args))].flat() as readonly IdPart[]
        // A promise is no id, and refused as such; if others reject besides, that is nobody's business any more.
        return ids.map((id) => ignoreRejection(id)).map((id) => groupName(name, id as IdPart))
      }),
    ],
    fromResult: (result, args) =>
      resultDependencies === undefined ? [] : list((resultDependencies as Names)(result, ...args)),
  }
}

function expectFunction(option: string, value: unknown): void {
  if (value !== undefined && typeof value !== 'function')
    throw new CorralError('ERR_OPTION', `Expected \`${option}\` to be a function, got ${formatValue(value)}.`)
}
