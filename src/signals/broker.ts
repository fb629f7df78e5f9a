import { expectAwaited, expectSync } from '../base/expect-sync.js'
import { frozenCopy } from '../base/frozen.js'
import type { MaybePromise } from '../base/maybe-promise.js'
import { oneOrMany } from '../base/one-or-many.js'
import {
  checkOptions,
  expectFunction,
  expectMethods,
  expectOneOf,
  expectText,
  expectThat,
  type OptionCheck,
  ownOptions,
  rejectOptions,
  rejectUnknownOptions,
} from '../base/options.js'
import { dep } from '../dependencies/dep.js'
import { type Change, checkChange, type Scopes } from '../dependencies/scopes.js'
import { type Emitter, emitter, type Listener } from '../events/emitter.js'
import {
  asSource,
  captureCause,
  checkReady,
  type EventSource,
  guardsOf,
  type MissedEvents,
} from '../events/event-source.js'
import { refuseVersions } from '../ledger/checked-names.js'
import type { InvalidationMode, InvalidationReason } from '../ledger/ledger.js'
import { checkNames, type IdPart } from '../ledger/names.js'
import { type Done, invalidateIn, type PendingInvalidation, type Target } from './settle.js'
import { invalidateNowOrAfterCommit, runMarked } from './transactions.js'

/**
 * Where the values of entities are cached, and the names that a change of an entity invalidates.
 * @example
 * ```ts
 * import { dep, makeRegion } from 'corral'
 * import type { BrokerOptions } from 'corral/signals'
 *
 * interface Comment {
 *   readonly id: number
 *   readonly post: number
 * }
 * export const ofComments: BrokerOptions<Comment> = {
 *   regions: [makeRegion({ name: 'pages' })],
 *   id: ({ id }) => id,
 *   dependencies: ({ post }) => dep.tag('comments of', post),
 *   mode: 'soft',
 * }
 * ```
 */
export interface BrokerOptions<T> {
  /** Where its entities are cached, inner ones first. Regions over the same ledger need only one of them. */
  readonly regions: readonly Target[]
  /** The id of an item, or the parts of its composite key: `dep.id(type, …)` is invalidated. */
  readonly id?: ((item: T) => IdPart | readonly [IdPart, ...IdPart[]]) | undefined
  /** Other names that concern an item: its lists, its children. */
  readonly dependencies?: ((item: T) => string | readonly string[]) | undefined
  /** Lists that items enter and leave. */
  readonly scopes?:
    | Pick<Scopes<T, never>, 'namesFor'>
    | readonly Pick<Scopes<T, never>, 'namesFor'>[]
    | undefined
  /** @default 'hard' */
  readonly mode?: InvalidationMode | undefined
}

/**
 * The past of a change, and its reason.
 * @example
 * ```ts
 * import type { ChangeOptions } from 'corral/signals'
 *
 * interface Task {
 *   readonly id: number
 *   readonly done: boolean
 * }
 * export const finishing = (before: Task): ChangeOptions<Task> => ({
 *   before,
 *   modified: ['done'],
 *   reason: 'a task was finished',
 * })
 * ```
 */
export interface ChangeOptions<T> extends Change<T>, InvalidationReason {}

/**
 * The same of a deletion: the item leaves all its lists, independent of modified fields.
 * @example
 * ```ts
 * import type { Broker, DeletionOptions } from 'corral/signals'
 *
 * interface Task {
 *   readonly id: number
 * }
 * const cleanUp: DeletionOptions<Task> = { reason: 'older than a year' }
 * export const remove = (tasks: Broker<Task>, task: Task, write: () => Promise<void>) =>
 *   tasks.delete(task, write, cleanUp)
 * ```
 */
export type DeletionOptions<T> = Omit<ChangeOptions<T>, 'created' | 'modified'>

/**
 * A change, as the listeners of a broker receive it.
 * @example
 * ```ts
 * import type { BrokerChange } from 'corral/signals'
 *
 * export const audit = ({ broker, action, names, reason }: BrokerChange) =>
 *   console.log(`${action} of a ${broker} invalidated ${names.length} names`, reason ?? '')
 * ```
 */
export interface BrokerChange extends InvalidationReason {
  readonly broker: string
  readonly action: 'apply' | 'delete' | 'invalidate'
  /** The invalidated names. */
  readonly names: readonly string[]
  readonly origin: 'local' | 'remote'
}

/**
 * The events of a broker, for `broker.on`.
 * @example
 * ```ts
 * import type { Broker, BrokerEvents } from 'corral/signals'
 *
 * export function mirror(users: Broker<unknown>, drop: (names?: readonly string[]) => void) {
 *   const onMissed = ({ of, why }: BrokerEvents['missed']) => {
 *     console.warn(of, why)
 *     drop()
 *   }
 *   return [users.on('change', ({ names }) => drop(names)), users.on('missed', onMissed)]
 * }
 * ```
 */
export interface BrokerEvents {
  /** A change is done, and all that was made from the item is invalidated. */
  change: BrokerChange
  /** Other processes may have told of changes that were not heard here. */
  missed: MissedEvents
}

/**
 * An item, or a function that finds it in the result of the change: an item that is being created has no id before.
 * @example
 * ```ts
 * import type { Broker, ItemOf } from 'corral/signals'
 *
 * interface User {
 *   readonly id: number
 * }
 * const created: ItemOf<User, { readonly rows: readonly User[] }> = ({ rows }) => rows[0] as User
 * export const insert = (users: Broker<User>, write: () => Promise<{ rows: User[] }>) =>
 *   users.apply(created, write, { created: true })
 * ```
 */
export type ItemOf<T, R> = T | ((result: R) => T)

/**
 * Connects the changes of a type of entities with the cached values of them.
 * @example
 * ```ts
 * import type { Broker } from 'corral/signals'
 *
 * interface Product {
 *   readonly id: number
 *   readonly price: number
 * }
 * export const reprice = (products: Broker<Product>, before: Product, write: (after: Product) => Promise<void>) => {
 *   const after = { ...before, price: before.price * 2 }
 *   return products.apply(after, () => write(after), { before })
 * }
 * ```
 */
export interface Broker<T> {
  readonly type: string
  /**
   * Creates or updates an item: runs the change, and when it is done invalidates the item, its lists and its children in
   * every region. Resolves to the result of the change. A change that fails invalidates nothing, and rejects as it is. Say in
   * the options the item `before` the change, or that it is `created`: else all its lists are invalidated.
   * @throws CorralError `ERR_NOT_INVALIDATED`, with `result` and `retry()`, when the change is done but not all could be
   * invalidated, or some names of its result are unknown; `ERR_OPTION`, before anything is done, for options that
   * cannot be right, and the error of a function that returns the names of an item; `ERR_NOT_CONFIGURED`, `ERR_CLOSED`
   * or `ERR_NO_LEDGER`, before anything is done, where a region cannot invalidate names.
   */
  apply<R>(item: ItemOf<T, R>, change: () => MaybePromise<R>, options?: ChangeOptions<T>): Promise<R>
  /** The same for the end of an item. */
  delete<R>(item: T, change: () => MaybePromise<R>, options?: DeletionOptions<T>): Promise<R>
  /**
   * Invalidates for a change that was made without the broker; for a deletion with the item as `before`.
   * @throws CorralError `ERR_NOT_INVALIDATED`, `ERR_OPTION` like `apply`.
   */
  invalidate(item: T, options?: ChangeOptions<T>): Promise<void>
  /** The names that a change of an item invalidates. */
  namesFor(item: T, options?: Change<T>): readonly string[]
  /** Listens to changes, also those of other processes where a `relay` brings them. Returns a function that ends it. */
  on<K extends keyof BrokerEvents>(event: K, listener: Listener<BrokerEvents[K]>): () => void
}

/**
 * Makes the broker of a type of entities.
 * @example
 * ```ts
 * import { dep, makeRegion, wrap } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import { dependencies } from 'corral/proxies/dependencies'
 * import { broker } from 'corral/signals'
 *
 * interface User {
 *   readonly id: number
 *   readonly team: string
 * }
 * const cache = makeRegion<User>({ name: 'users', backend: wrap(memory(), dependencies()) })
 * const users = broker<User>('user', {
 *   regions: [cache],
 *   id: (user) => user.id,
 *   dependencies: (user) => dep.tag('team', user.team),
 * })
 * await users.apply({ id: 5, team: 'red' }, async () => 'saved')
 * ```
 * @throws CorralError `ERR_OPTION` for an option that cannot be right, or without an option that names the dependencies of an item.
 */
export function broker<T>(type: string, options: BrokerOptions<T>): Broker<T> {
  options = ownOptions(options)
  check(type, options)
  const regions = frozenCopy(options.regions)
  const events = emitter<BrokerEvents>("a broker's event", ['change', 'missed'])
  const guards: EventSource['guards'] = new Set()
  const survey = surveyOf(type, options)
  const mode = options.mode ?? 'hard'
  const debt = debtsOf(type, regions, mode, events)
  const run = changesOf(type, { regions, mode }, survey, debt)

  /** May come from a generator, and is read more than once. */
  const kept = (change: Change<T>): Change<T> => ({
    ...change,
    modified: checkChange(type, undefined, change).changed,
  })
  const split = (given: ChangeOptions<T>, known = ['before', 'created', 'modified', 'info']) => {
    rejectUnknownOptions(given, [...known, 'reason', 'meta'], `broker '${type}'`)
    const { reason, meta, ...told } = given
    // All of them before anything is done: afterwards it would be too late to refuse.
    const cause = captureCause({ reason, meta }, [...guards, ...regions.flatMap(guardsOf)])
    return { cause, change: kept(told) }
  }

  const self: Broker<T> = {
    type,
    namesFor: (item, change = {}) => complete(survey(item, kept(change))),
    apply: async (item, work, given = {}) => run('apply', item, work, split(given)),
    async delete(item, work, given = {}) {
      const { cause, change } = split(given, ['before', 'info'])
      return run('delete', item, work, { cause, change: { ...change, before: change.before ?? item } })
    },
    async invalidate(item, given = {}) {
      const { cause, change } = split(given)
      const owed = debt('invalidate', [], () => survey(item, change), cause)
      await invalidateNowOrAfterCommit([owed], { result: undefined })
    },
    on: events.on,
  }
  asSource(self, {
    kind: 'broker',
    name: type,
    event: 'change',
    accepts: ({ broker: of, action, reason }) =>
      of === type &&
      (action === 'apply' || action === 'delete' || action === 'invalidate') &&
      (reason === undefined || typeof reason === 'string'),
    emitter: events as unknown as EventSource['emitter'],
    guards,
  })
  return self
}

interface CollectedNames {
  readonly names: readonly string[]
  readonly failures: readonly unknown[]
}

type Survey<T> = (item: T, change: Change<T>) => CollectedNames

const now = <V>(type: string, option: string, result: V): V =>
  expectSync(`\`${option}\` of broker '${type}'`, result)

/** Collects all names that the functions of a broker return, and the failures of the others. */
function surveyOf<T>(type: string, { id, dependencies, scopes: given }: BrokerOptions<T>): Survey<T> {
  const scopes = given === undefined ? [] : oneOrMany(given)
  return (item, change) => {
    expectAwaited(`an item of broker '${type}'`, item)
    const names = new Set<string>()
    const failures: unknown[] = []
    const gather = (find: () => readonly string[]) => {
      try {
        for (const name of find()) names.add(name)
      } catch (error) {
        failures.push(error)
      }
    }
    for (const image of new Set([change.before ?? item, item])) {
      if (id !== undefined)
        gather(() => [dep.id(type, ...(oneOrMany(now(type, 'id', id(image))) as [IdPart]))])
      gather(() => listed(now(type, 'dependencies', dependencies?.(image))))
    }
    for (const scope of scopes)
      gather(() => scope.namesFor(item, change, (failure) => failures.push(failure)))
    return { names: [...names], failures }
  }
}

function complete({ names, failures }: CollectedNames): readonly string[] {
  if (failures.length > 0) throw failures[0]
  return names
}

type Debt = ReturnType<typeof debtsOf>

/** The pending invalidations of a change: names that are known, and functions to call again because they failed. */
function debtsOf(
  type: string,
  regions: readonly Target[],
  mode: InvalidationMode,
  events: Pick<Emitter<BrokerEvents>, 'emit'>,
) {
  return (
    action: BrokerChange['action'],
    before: readonly string[],
    find: (() => CollectedNames) | undefined,
    cause: InvalidationReason,
  ): PendingInvalidation => {
    const { names: after, failures } = find?.() ?? NOTHING
    const names = new Set([...before, ...after])
    const unknown = async () => {
      const again = find?.() ?? NOTHING
      for (const name of again.names) names.add(name)
      const failed = [...again.failures]
      for (const region of regions)
        await invalidateIn(region, again.names, mode, cause).catch((error: unknown) => failed.push(error))
      if (failed.length > 0) throw failed[0]
    }
    let told = false
    return {
      ...{ regions, names: [...names], mode, cause },
      ...(failures.length > 0 && { unknown }),
      tell() {
        // A retry may be called again, or by several callers that got the same error; there was one change.
        if (told) return
        told = true
        events.emit('change', {
          broker: type,
          action,
          names: Object.freeze([...names]),
          ...cause,
          origin: 'local',
        })
      },
    }
  }
}

/** Runs changes, and invalidates when they are done. */
function changesOf<T>(
  type: string,
  { regions, mode }: Pick<PendingInvalidation, 'regions' | 'mode'>,
  survey: Survey<T>,
  debt: Debt,
) {
  return async <R>(
    action: 'apply' | 'delete',
    item: ItemOf<T, R>,
    work: () => MaybePromise<R>,
    { cause, change }: { readonly cause: InvalidationReason; readonly change: Change<T> },
  ): Promise<R> => {
    expectFunction(work, `the change of broker '${type}'`)
    // A name that can never be invalidated must not become pending. A change that was made elsewhere may.
    regions.forEach(checkReady)
    const find = typeof item === 'function' ? (item as (result: R) => T) : undefined
    // Taken before: the change may write to the item or to its former state, and a deletion may take its id.
    const given = find === undefined ? (item as T) : (change.before ?? undefined)
    const before = given === undefined ? [] : complete(survey(given, change))
    const then = (done: Done<R>): CollectedNames => {
      if (find === undefined) return survey(item as T, change)
      try {
        return survey(now(type, 'item', find(done.result)), change)
      } catch (error) {
        // The change is done: if the item cannot be found, its known names, such as all its lists, are still invalidated.
        return { names: survey(undefined as T, change).names, failures: [error] }
      }
    }
    return runMarked({ regions, names: before, mode }, work, (done) =>
      debt(action, before, action === 'apply' ? () => then(done) : undefined, cause),
    )
  }
}

const NOTHING: CollectedNames = { names: [], failures: [] }

function listed(names: string | readonly string[] | undefined): readonly string[] {
  const list = names === undefined ? [] : typeof names === 'string' ? [names] : names
  checkNames(list, false)
  refuseVersions(list, true)
  return list
}

function check<T>(type: string, options: BrokerOptions<T>): void {
  expectText(type, 'the type of broker()', "a name of its entities, such as 'user'")
  const ofItem: OptionCheck = (way, subject) => expectFunction(way, subject, 'a function of the item')
  checkOptions(options, `broker '${type}'`, {
    regions: () => {},
    id: ofItem,
    dependencies: ofItem,
    scopes: checkScopes,
    mode: (mode, subject) => expectOneOf(mode, subject, ['hard', 'soft']),
  })
  const { regions, id, dependencies, scopes } = options
  const listing = `\`regions\` of broker '${type}' to list regions`
  expectThat(Array.isArray(regions) && regions.length > 0, regions, listing)
  for (const region of regions) expectMethods(region, ['invalidateDependencies'], listing)
  if ((id ?? dependencies ?? scopes) === undefined)
    rejectOptions(
      `Expected broker '${type}' to name the dependencies of an item. Give \`id\`, \`dependencies\` or \`scopes\`.`,
    )
}

function checkScopes(scopes: unknown, subject: string): void {
  for (const scope of oneOrMany(scopes))
    expectMethods(scope, ['namesFor'], `${subject} to come from dep.scopes()`)
}
