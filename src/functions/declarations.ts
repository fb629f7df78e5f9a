import type { Arguments } from '../base/any-function.js'
import { expectDuration } from '../base/duration.js'
import { ignoreRejection, type MaybePromise } from '../base/maybe-promise.js'
import { oneOrMany } from '../base/one-or-many.js'
import {
  checkOptions,
  expectBoolean,
  expectFunction,
  expectThat,
  type OptionCheck,
  rejectUnknownOptions,
} from '../base/options.js'
import { isPlainObject } from '../base/realms.js'
import { SERVING_CHECKS } from '../creation/create-options.js'
import { runWithoutEntry } from '../creation/outside.js'
import { currentScope, handUpVersion } from '../creation/scope.js'
import { refuseVersions, resolveVersions } from '../ledger/checked-names.js'
import { groupName, type IdPart, listNames } from '../ledger/names.js'
import { areChangeable } from './captured.js'
import type { CacheMultiOptions, CacheOptions, FunctionStore } from './types.js'

/** The names that the result of a call depends on: those known from its arguments, and those known from the result. */
export interface Declared {
  readonly fromArguments: (args: Arguments) => readonly string[]
  readonly fromResult: (result: unknown, args: Arguments) => readonly string[]
}

type Checks = Readonly<Record<string, OptionCheck>>

const COMMON: Checks = {
  // Needed or not, as the key generator says.
  namespace: () => {},
  sharesNamespace: expectBoolean,
  expirationTime: expectLifetime,
  shouldCache: expectFunction,
  ...SERVING_CHECKS,
  dependencies: expectFunction,
  resultDependencies: expectFunction,
  group(value, subject) {
    const fits = typeof value === 'object' && value !== null && isPlainObject(value)
    expectThat(fits, value, `${subject} to be an object such as { user: ([id]) => id }`)
    for (const [name, member] of Object.entries(value)) expectFunction(member, `\`group.${name}\``)
  },
}

/** @throws CorralError `ERR_OPTION` unless it is a duration, a function of the arguments or `{ ofResult }`. */
export function expectLifetime(value: unknown, subject: string): void {
  if (typeof value === 'object' && value !== null) {
    rejectUnknownOptions(value, ['ofResult'], subject)
    expectFunction((value as { readonly ofResult?: unknown }).ofResult, `\`ofResult\` of ${subject}`)
  } else if (typeof value !== 'function') expectDuration(value, subject)
}

/** The options as they are now: the caller may change its object afterwards. What is no plain object is refused by the check. */
export function copyOptions<O extends CacheOptions | CacheMultiOptions>(given: O): O {
  if (typeof given !== 'object' || given === null || !isPlainObject(given)) return given
  const { expirationTime } = given
  return typeof expirationTime === 'object' && expirationTime !== null
    ? { ...given, expirationTime: { ...expirationTime } }
    : { ...given }
}

/**
 * Checks the options of a cached function and returns the names that they declare. `undefined`: they declare none, and
 * nothing has to be tracked.
 * @param own - checks of the options that only one of the two forms has
 * @param grouped - the argument of the functions of `group`
 */
export function readOptions(
  where: string,
  options: CacheOptions | CacheMultiOptions,
  own: Checks,
  grouped: (args: Arguments) => unknown,
): Declared | undefined {
  const remedy = `Call ${where.slice(0, -1)}fn, { namespace }).`
  expectThat(options !== undefined, options, 'options after the function', remedy)
  checkOptions(options, where, { ...COMMON, ...own })
  const { dependencies = none, resultDependencies = none, group = {} } = options as Declarations
  const groups = Object.entries(group)
  if (dependencies === none && resultDependencies === none && groups.length === 0) return undefined
  return {
    fromArguments: (args) => [
      ...listNames(dependencies(...args), false),
      ...groups.flatMap(([name, member]) => {
        const ids = oneOrMany(member(grouped(args)))
        // groupName() refuses a promise. Its rejection, and those of the others, must not end the process as well.
        return ids.map((id) => ignoreRejection(id)).map((id) => groupName(name, id as IdPart))
      }),
    ],
    fromResult: (result, args) => listNames(resultDependencies(result, ...args), false),
  }
}

interface Declarations {
  readonly dependencies?: (...args: Arguments) => string | readonly string[]
  readonly resultDependencies?: (...args: Arguments) => string | readonly string[]
  readonly group?: Readonly<Record<string, (args: unknown) => IdPart | readonly IdPart[]>>
}

const none = (): readonly string[] => []

/**
 * Runs a function uncached. A creation around the caller depends on the declared names as if the result came from the
 * cache. If that creation cannot track them, it must not be stored.
 */
export async function runUncached<V>(
  store: FunctionStore<V>,
  names: Declared | undefined,
  namespace: string | undefined,
  original: (...args: Arguments) => MaybePromise<V>,
  args: Arguments,
): Promise<V> {
  if (currentScope() === undefined) return runWithoutEntry(async () => original(...args))
  if (names === undefined) return original(...args)
  const why = `it was made from a result of '${namespace}', run uncached, whose dependencies this region does not track`
  const told = names.fromArguments(args)
  const ahead = await resolveVersions(told)
  const asOf = await store.asOf().catch(() => undefined)
  const handUp = (list: readonly string[]): void => {
    const collector = currentScope()?.collector
    if (collector === undefined || asOf === undefined) handUpVersion(undefined, why)
    else {
      // Names mean something only in the ledger in which they are invalidated: its epoch tells it from other ledgers.
      collector.inherit({ epoch: asOf.epoch, groups: [] }, true)
      refuseVersions(list)
      collector.add(list)
    }
  }
  handUp(ahead)
  // The names are those of the arguments at the call: of others, a creation around must not be stored.
  const refuseChanged = (when: string): void => {
    if (areChangeable(args) && names.fromArguments(args).join('\0') !== told.join('\0'))
      handUpVersion(undefined, `the arguments of '${namespace}' were changed ${when} it ran`)
  }
  refuseChanged('before')
  const result = await original(...args)
  refuseChanged('while')
  handUp(names.fromResult(result, args))
  return result
}
