/** From a change that is done to the invalidations of its names, and to those that failed. */
import { report } from '../base/diagnostics.js'
import { CorralError, formatValue, isError } from '../base/errors.js'
import type { MaybePromise } from '../base/maybe-promise.js'
import type { EndOfMarks } from '../events/event-source.js'
import type { InvalidationMode, InvalidationReason } from '../ledger/ledger.js'
import type { Marks } from './marks.js'

/** The region that a broker invalidates through. */
export interface Target {
  readonly name: string | undefined
  invalidateDependencies(
    names: readonly string[],
    mode?: InvalidationMode,
    cause?: InvalidationReason,
    marks?: EndOfMarks,
  ): Promise<void>
}

/** The invalidations that a change needs once it is done. */
export interface PendingInvalidation {
  /** Inner before outer. */
  readonly regions: readonly Target[]
  /** Names that could not be told yet: finds and invalidates them. */
  readonly unknown?: () => Promise<void>
  readonly names: readonly string[]
  readonly mode: InvalidationMode
  readonly cause: InvalidationReason
  /** The marks of its transaction, which end with the invalidation. Absent where they stay until they expire. */
  marks?: Marks | undefined
  /** Notifies the listeners when all is invalidated. */
  readonly tell: () => void
}

/**
 * The data of an error of the code `ERR_NOT_INVALIDATED`: the change is done, and cannot be called off any more.
 * @example
 * ```ts
 * import type { NotInvalidated } from 'corral/signals'
 *
 * export async function insist(error: NotInvalidated): Promise<void> {
 *   console.error(`still cached: ${error.names.join(', ')}`)
 *   await error.retry()
 * }
 * ```
 */
export interface NotInvalidated<R = unknown> extends CorralError {
  readonly code: 'ERR_NOT_INVALIDATED'
  /** The result of the change. */
  readonly result: R
  readonly names: readonly string[]
  /** The regions where it failed, as far as they have names. */
  readonly regions: readonly (string | undefined)[]
  /** Repeats the failed invalidations. */
  retry(): Promise<void>
}

/**
 * Whether a change is done, but not all of its names are invalidated.
 * @example
 * ```ts
 * import { type Broker, isNotInvalidated } from 'corral/signals'
 *
 * interface User {
 *   readonly id: number
 * }
 * export async function save(users: Broker<User>, user: User, write: () => Promise<User>): Promise<User> {
 *   try {
 *     return await users.apply(user, write)
 *   } catch (error) {
 *     if (!isNotInvalidated(error)) throw error
 *     setTimeout(() => void error.retry().catch(console.error), 1_000)
 *     return error.result as User // the user is saved
 *   }
 * }
 * ```
 */
export function isNotInvalidated(error: unknown): error is NotInvalidated {
  return CorralError.is(error, 'ERR_NOT_INVALIDATED')
}

/** How a change ended that is done. */
export interface Done<R> {
  readonly result: R
  /** Something inside it could not be invalidated, and says so: `retry` of the whole repeats that too. */
  readonly failed?: NotInvalidated
}

/**
 * Runs a change. If it rejects because an invalidation inside it failed, the change counts as done, and its own
 * invalidations must not be dropped.
 */
export async function runChange<R>(change: () => MaybePromise<R>): Promise<Done<R>> {
  try {
    return { result: await change() }
  } catch (error) {
    if (isNotInvalidated(error)) return { result: error.result as R, failed: error }
    throw error
  }
}

/** Each region once, with all that is to be invalidated in it; then the listeners, change by change. */
export async function settle<R>(
  debts: readonly PendingInvalidation[],
  { result, failed }: Done<R>,
): Promise<R> {
  const failures = await attempt(tasks(debts))
  if (failed !== undefined)
    failures.push({ regions: failed.regions, names: failed.names, work: () => failed.retry(), error: failed })
  if (failures.length === 0) {
    for (const { tell } of debts) tell()
    return result
  }
  throw notInvalidated(failures, result, debts)
}

interface Task {
  /** Their names, as far as they have some. */
  readonly regions: NotInvalidated['regions']
  readonly names: readonly string[]
  readonly work: () => Promise<void>
}

function tasks(debts: readonly PendingInvalidation[]): Task[] {
  const unknown = debts.flatMap((debt) =>
    debt.unknown === undefined ? [] : [{ regions: [undefined], names: [], work: debt.unknown }],
  )
  return [...merged(debts), ...unknown]
}

function merged(debts: readonly PendingInvalidation[]): Task[] {
  const lists: {
    region: Target
    mode: InvalidationMode
    marks: Marks | undefined
    of: PendingInvalidation[]
  }[] = []
  for (const debt of debts)
    for (const region of debt.regions) {
      const { mode, marks } = debt
      const found = lists.find((list) => list.region === region && list.mode === mode && list.marks === marks)
      if (found === undefined) lists.push({ region, mode, marks, of: [debt] })
      else found.of.push(debt)
    }
  return lists.map(({ region, mode, marks, of }) => {
    const names = [...new Set(of.flatMap((debt) => debt.names))]
    const cause = of.length === 1 && of[0] !== undefined ? of[0].cause : common(of)
    return { regions: [region.name], names, work: () => invalidateIn(region, names, mode, cause, marks) }
  })
}

/**
 * The change is done: a cause that cannot travel, which only shows now, must not keep the names from being invalidated.
 * Twice is harmless.
 */
export async function invalidateIn(
  region: Target,
  names: readonly string[],
  mode: InvalidationMode,
  cause: InvalidationReason,
  marks?: Marks,
): Promise<void> {
  if (names.length === 0) return
  const transaction = marks?.endedBy(region, names, mode)
  const end = transaction === undefined ? undefined : { transaction, isPassedOn: false }
  const ends: readonly [EndOfMarks?] = end === undefined ? [] : [end]
  try {
    await region.invalidateDependencies(names, mode, cause, ...ends)
  } catch (error) {
    if (!REFUSALS.some((code) => CorralError.is(error, code))) throw error
    report('failure', () => ({
      where: `reason of an invalidation in ${formatValue(region.name)}`,
      error,
    }))
    await region.invalidateDependencies(names, mode, undefined, ...ends)
  }
  // Else they end by themselves after the invalidation.
  if (end?.isPassedOn) marks?.forget(region, names, mode)
}

const REFUSALS = ['ERR_UNENCODABLE', 'ERR_VALUE_TOO_LARGE', 'ERR_OPTION'] as const

/** Characters of all reasons together; the rest is cut off. */
const REASON = 1_000

/** One invalidation for several changes has all their reasons, and no metadata. */
function common(debts: readonly PendingInvalidation[]): InvalidationReason {
  const reasons = [
    ...new Set(debts.flatMap(({ cause }) => (cause.reason === undefined ? [] : [cause.reason]))),
  ]
  if (reasons.length === 0) return {}
  const reason = reasons.join('; ')
  return { reason: reason.length > REASON ? `${reason.slice(0, REASON)}…` : reason }
}

interface Failure extends Task {
  readonly error: unknown
}

/** One region after the other, and the rest also when one fails. */
async function attempt(all: readonly Task[]): Promise<Failure[]> {
  const failures: Failure[] = []
  for (const task of all)
    try {
      await task.work()
    } catch (error) {
      failures.push({ ...task, error })
    }
  return failures
}

function notInvalidated<R>(
  failures: readonly Failure[],
  result: R,
  debts: readonly PendingInvalidation[],
): NotInvalidated<R> {
  const [first] = failures
  const regions = failures.flatMap((failure) => failure.regions)
  const error = new CorralError(
    'ERR_NOT_INVALIDATED',
    `The change is done, but values created from it could not be invalidated in ${regions.map((name) => (name === undefined ? 'a region' : `'${name}'`)).join(', ')}${isError(first?.error) ? ` (${first.error.message.replace(/\.$/, '')})` : ''}. ` +
      'Call error.retry() until it succeeds; error.result is the result of the change.',
    { cause: first?.error },
  )
  return Object.assign(error, {
    code: 'ERR_NOT_INVALIDATED' as const,
    result,
    regions,
    names: [...new Set(failures.flatMap(({ names }) => names))],
    retry: async () => {
      const left = await attempt(failures)
      if (left.length > 0) throw notInvalidated(left, result, debts)
      for (const { tell } of debts) tell()
    },
  })
}
