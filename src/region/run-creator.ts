import {
  type CachedValue,
  frozenMetadata,
  type Metadata,
  metadataOf,
  NO_VALUE,
} from '../backend/cached-value.js'
import type { CircuitBreaker } from '../base/breaker.js'
import { creationChannel, diagnostics, type Messages } from '../base/diagnostics.js'
import { milliseconds } from '../base/duration.js'
import { CorralError, formatValue } from '../base/errors.js'
import { checkWhole } from '../base/parts.js'
import { performance } from '../base/timers.js'
import { collectDependencies, type DependencyCollector } from '../creation/collector.js'
import { beginTracked } from '../creation/outside.js'
import { KEEP } from '../creation/own-result.js'
import { currentScope, type Scope } from '../creation/scope.js'
import { currentTransaction, type Transaction } from '../creation/transaction.js'
import type { Creation, Creator, MultiCreator } from '../creation/types.js'
import { notTracked } from '../dependencies/depends-on.js'
import type { LeasedKey } from '../dogpile/types.js'
import { jittered } from '../freshness/freshness.js'
import { refuseVersions } from '../ledger/checked-names.js'
import { listNames } from '../ledger/names.js'
import { type DependencySnapshot, type LedgerTime, namesOf } from '../ledger/snapshot.js'
import { mayFallBack } from './policy.js'
import { refuseReadOnce } from './read-once.js'
import { inherit, MISSING, toLookup } from './serve.js'
import type { Created, CreationPlan, RegionState } from './state.js'
import { originOf } from './stats.js'

/** ms. A grace from here on is one without end. */
const LONGEST = 2 ** 50

/** The ms that a creator gives its values, and why it keeps one from being stored. */
type OwnFacts = { -readonly [time in 'expiresIn' | 'standsFor']?: Metadata[time] } & { withheld?: string }

/** The facts that a running creator leaves behind beside its values. */
interface CreationRecord {
  readonly startedAt: number
  readonly collector: DependencyCollector | undefined
  /** Names that the creator declared for single keys. */
  namesOfKeys: Map<string, readonly string[]> | undefined
  known?: ReadonlyMap<string, number>
  /** The own times of all keys, and those of single keys. */
  readonly times: OwnFacts
  timesOf: Map<string, OwnFacts> | undefined
  untracked: boolean
  /** Why the values are for the caller that leads the creation alone. */
  own: string | undefined
  /** `false`: its creator created nothing, such as a host that gave its reservation back. */
  isCreation: boolean
  /** The creator has ended: later facts reach no entry. */
  over: boolean
}

/** The time at which the creations of one call began, on the clock that invalidations are compared with. */
export interface CreationStart {
  at: number | undefined
  /** Called when the creation is given up. */
  abandon?: () => void
}

/** Runs the creator as of a time that was taken before, and builds the entries of its values. */
export async function runCreator(
  region: RegionState,
  plan: CreationPlan,
  keys: readonly string[],
  signalOf: () => AbortSignal,
  start: CreationStart,
  leases: readonly LeasedKey<Created>[] = [],
): Promise<Created[]> {
  const { precise, tracker, ownNames } = region
  let asOf = earliestOf(leases)
  if (asOf === undefined && tracker !== undefined) asOf = await tracker.asOf(ownNames)
  const startedAt = region.stamp(precise.now())
  const standing = isLater(region, leases, asOf) ? await judgeAgain(region, plan, keys, leases) : leases
  start.at ??= tracker === undefined ? startedAt : asOf?.at
  const record: CreationRecord = {
    startedAt,
    collector: asOf && collectDependencies(asOf, ownNames, region.precise),
    namesOfKeys: undefined,
    times: {},
    timesOf: undefined,
    untracked: false,
    own: undefined,
    isCreation: true,
    over: false,
  }
  if (plan.breaker?.admits() === false) throw brokenOff(region, plan.breaker)
  const endTracked = tracker?.tracksDependencies === true ? beginTracked(keys) : undefined
  const end = countingCreation(region, plan, keys, signalOf)
  start.abandon = () => end('abandoned')
  try {
    const creation = new RunningCreation(region, keys, signalOf, record, standing)
    const created = await (isTraced()
      ? traced(region, keys, () => callCreator(region, plan, keys, creation, record))
      : callCreator(region, plan, keys, creation, record))
    const values = plan.isSingle ? [single(created, keys)] : expectList(created, keys)
    const entries = entriesOf(region, plan, keys, values, record)
    if (record.isCreation) end('made')
    return entries
  } catch (error) {
    end('failed', { error })
    throw error
  } finally {
    record.over = true
    endTracked?.()
  }
}

/** The end of a creation, once: one that was given up may still end by itself. */
function countingCreation(
  region: RegionState,
  plan: CreationPlan,
  keys: readonly string[],
  signalOf: () => AbortSignal,
) {
  const { breaker } = plan
  const { counters } = region
  const began = performance.now()
  let isOver = false
  return (outcome: Messages['create']['outcome'], failure?: { readonly error: unknown }): void => {
    if (isOver) return
    isOver = true
    const milliseconds = performance.now() - began
    counters.creations++
    counters.creationMilliseconds += milliseconds
    if (outcome !== 'made') counters.failedCreations++
    if (outcome === 'made') breaker?.succeeded()
    else if (breaker !== undefined) {
      // A creator that was called off says nothing about its source, and neither does an answer.
      const isFailure =
        failure === undefined || (mayFallBack(region, plan, failure.error) && !signalOf().aborted)
      if (isFailure) breaker.failed()
      else breaker.withdrawn()
    }
    if (!creates.hasSubscribers) return
    creates.publish({ ...originOf(region), keys, milliseconds, outcome, ...failure })
  }
}

function brokenOff({ name }: RegionState, { inARow }: CircuitBreaker): CorralError {
  return new CorralError(
    'ERR_UNAVAILABLE',
    `The creators of ${name === undefined ? 'the region' : `region '${name}'`} failed ${inARow} times in a row. None runs until its \`breaker\` admits the next: look at their source.`,
  )
}

const creates = diagnostics('create')

/** A tracer subscribes to the start or to the end. */
function isTraced(): boolean {
  return creationChannel.start.hasSubscribers || creationChannel.asyncEnd.hasSubscribers
}

function traced(
  { name, counters }: RegionState,
  keys: readonly string[],
  call: () => unknown,
): Promise<unknown> {
  const creation = { region: name, namespace: counters.namespace, keys }
  // A creator that throws at once fails like any other: its trace ends with `asyncEnd`.
  return creationChannel.tracePromise(async () => call(), creation)
}

/** Whether the creation begins later than the reads that came with its leases: an invalidation may have come in between. */
function isLater(
  { invalidator }: RegionState,
  leases: readonly LeasedKey<Created>[],
  asOf: LedgerTime | undefined,
): boolean {
  if (!leases.some(({ found }) => found?.value !== undefined)) return false
  return invalidator !== undefined || asOf === undefined || leases.every((lease) => lease.asOf !== asOf)
}

/** The leases with the values that still stand. */
function judgeAgain(
  region: RegionState,
  plan: CreationPlan,
  keys: readonly string[],
  leases: readonly LeasedKey<Created>[],
): Promise<LeasedKey<Created>[]> {
  return Promise.all(
    leases.map(async (lease, i): Promise<LeasedKey<Created>> => {
      const entry = lease.found?.value?.entry
      if (entry === undefined) return lease
      const { snapshot } = entry.metadata
      const verdict = snapshot && (await region.tracker?.validate(snapshot))
      if (verdict === 'invalid') return { ...lease, found: MISSING }
      return { ...lease, found: await toLookup(region, keys[i] as string, entry, plan) }
    }),
  )
}

/** The earliest time that came with the leases: the creator reads nothing that is older. */
function earliestOf(leases: readonly LeasedKey<Created>[]): LedgerTime | undefined {
  let earliest: LedgerTime | undefined
  for (const { asOf } of leases) {
    if (asOf === undefined || (earliest !== undefined && earliest.epoch !== asOf.epoch)) return undefined
    if (earliest === undefined || asOf.at < earliest.at) earliest = asOf
  }
  return earliest
}

/**
 * The object that the creator receives. Its functions and its signal are made when the creator reads them, and work without
 * the object.
 */
class RunningCreation implements Creation {
  readonly key: string
  readonly keys: readonly string[]
  readonly startedAt: number
  readonly #region: RegionState
  readonly #signalOf: () => AbortSignal
  readonly #record: CreationRecord
  readonly #leases: readonly LeasedKey<Created>[]

  constructor(
    region: RegionState,
    keys: readonly string[],
    signalOf: () => AbortSignal,
    record: CreationRecord,
    leases: readonly LeasedKey<Created>[],
  ) {
    this.#leases = leases
    this.key = keys[0] as string
    this.keys = keys
    this.startedAt = record.startedAt
    this.#region = region
    this.#signalOf = signalOf
    this.#record = record
  }

  get signal(): AbortSignal {
    return this.#signalOf()
  }

  get previous(): CachedValue | undefined {
    const entry = this.#leases[0]?.found?.value?.entry
    return entry && { payload: entry.payload, metadata: frozenMetadata(entry.metadata) }
  }

  get unchanged(): Creation['unchanged'] {
    return (given) => {
      this.#refuseOver('unchanged')
      if (given === undefined && this.keys.length > 1)
        throw new CorralError(
          'ERR_KEY',
          `Expected a key of the creation, such as '${this.key}', for creation.unchanged(key), got none: the creation is of ${this.keys.length} keys.`,
        )
      const key = given ?? this.key
      const previous = this.#leases[this.#placeOf(key)]?.found?.value?.entry
      if (previous === undefined)
        throw new CorralError(
          'ERR_CREATOR',
          `Expected a value of '${key}' that stands, for creation.unchanged(), got none. See whether creation.previous is there first.`,
        )
      const { snapshot, untracked } = previous.metadata
      if (untracked === true) this.#record.untracked = true
      // The new entry depends on the same names, from now on.
      if (snapshot !== undefined)
        this.#record.collector?.add([...namesOf(snapshot), ...(snapshot.versions ?? [])])
      return previous.payload as never
    }
  }

  get expireIn(): Creation['expireIn'] {
    return (duration, key) => {
      const expiresIn = milliseconds(duration, 'expireIn')
      this.#refuseOver('expireIn')
      this.#setOwn({ expiresIn }, key)
    }
  }

  get grace(): Creation['grace'] {
    return (duration, key) => {
      const ms = duration === 0 ? 0 : milliseconds(duration, 'grace')
      const standsFor = ms < LONGEST ? Math.round(ms) : Number.POSITIVE_INFINITY
      this.#refuseOver('grace')
      this.#setOwn({ standsFor }, key)
    }
  }

  #setOwn(times: OwnFacts, key: string | undefined): void {
    const record = this.#record
    if (key === undefined) Object.assign(record.times, times)
    else {
      const of = (record.timesOf ??= new Map())
      this.#placeOf(key)
      of.set(key, { ...of.get(key), ...times })
    }
  }

  get dependsOn(): Creation['dependsOn'] {
    return (key, ...given) => {
      const list = given.flatMap((names) => listNames(names, false))
      refuseVersions(list)
      if (this.#region.tracker?.tracksDependencies !== true) throw notTracked(key)
      this.#placeOf(key)
      this.#refuseOver('dependsOn')
      const named = (this.#record.namesOfKeys ??= new Map())
      named.set(key, [...(named.get(key) ?? []), ...list])
    }
  }

  #refuseOver(member: string): void {
    if (this.#record.over)
      throw new CorralError(
        'ERR_OUTSIDE_CREATION',
        `Expected creation.${member}() before the end of its creation, got a call after the end of the creation of '${this.key}'. Await the work that calls it inside of the creator.`,
      )
  }

  [KEEP](reason: string, isCreation: boolean, key?: string): void {
    if (key !== undefined) this.#setOwn({ withheld: reason }, key)
    else Object.assign(this.#record, { own: reason, isCreation })
  }

  /** @throws CorralError `ERR_KEY` unless it is a key of this creation */
  #placeOf(key: string): number {
    const place = (this.#record.known ??= new Map(this.keys.map((one, i) => [one, i]))).get(key)
    if (place !== undefined) return place
    throw new CorralError(
      'ERR_KEY',
      `Expected one of the keys of this creation, got ${formatValue(key)}. See creation.keys.`,
    )
  }
}

function callCreator(
  region: RegionState,
  { create, isSingle }: CreationPlan,
  keys: readonly string[],
  creation: Creation,
  record: CreationRecord,
): unknown {
  const scope = currentScope()
  if (scope !== undefined) {
    scope.creation = creation
    if (region.tracker?.tracksDependencies === true) scope.collector = record.collector
    scope.markUntracked = () => (record.untracked = true)
    const inside = currentTransaction()
    scope.handUp = (into) => handUp(region, keys[0] as string, record, into as Scope, inside)
  }
  return isSingle ? (create as Creator<unknown>)(creation) : (create as MultiCreator<unknown>)(keys, creation)
}

/** What a creation without a result has learnt, as of its own start: names of single keys too, since it has no values to tell apart. */
function handUp(
  region: RegionState,
  key: string,
  { collector, namesOfKeys, untracked }: CreationRecord,
  into: Scope,
  inside: Transaction | undefined,
): void {
  const learnt = collector?.snapshot([...(namesOfKeys?.values() ?? [])].flat())
  const until = collector?.expiresAt() ?? Number.POSITIVE_INFINITY
  inherit(into, region, key, { untracked, snapshot: learnt?.snapshot }, until - region.precise.now(), inside)
}

function single(value: unknown, keys: readonly string[]): unknown {
  refuseReadOnce(value, keys[0] as string)
  return value
}

function expectList(values: unknown, keys: readonly string[]): readonly unknown[] {
  return checkWhole(values, () => {
    if (!Array.isArray(values) || values.length !== keys.length)
      throw new CorralError(
        'ERR_BATCH_LENGTH',
        `Expected the creator of ${keys.length} keys to return an array of ${keys.length} values in their order, got ${
          Array.isArray(values) ? `${values.length} values` : formatValue(values)
        }. Answer NO_VALUE for a key that has none.`,
      )
    for (const [i, key] of keys.entries()) {
      if (!(i in values))
        throw new CorralError(
          'ERR_BATCH_LENGTH',
          `Expected the creator to return a value for each key, got a hole at ${i}, for '${key}'. Answer NO_VALUE for a key that has none.`,
        )
      refuseReadOnce(values[i], key)
    }
    return values
  })
}

/** A value that was created to last shorter than the region's values says so: other readers do not know the wish. */
function shorterOf(wish: number | undefined, regional: number): number | undefined {
  return wish !== undefined && wish < regional ? wish : undefined
}

function entriesOf(
  region: RegionState,
  plan: CreationPlan,
  keys: readonly string[],
  values: readonly unknown[],
  { startedAt, collector, namesOfKeys, times, timesOf, untracked, own: kept }: CreationRecord,
): Created[] {
  const createdAt = region.precise.now()
  const together = collector?.snapshot()
  const until = collector?.expiresAt() ?? Number.POSITIVE_INFINITY
  const metadataFor = (
    own: number | undefined,
    snapshot?: DependencySnapshot,
    standsFor?: number,
  ): Metadata => {
    const limit = own ?? plan.expiration ?? region.expiration
    // A value lives no longer than its parts; created from a stale part it is stale at once.
    const shortened = until < createdAt + limit ? Math.max(until - createdAt, 1) : own
    const metadata = metadataOf(startedAt, createdAt, snapshot, shortened)
    if (until <= createdAt) metadata.stale = true
    if (untracked) metadata.untracked = true
    if (standsFor !== undefined) metadata.standsFor = standsFor
    return metadata
  }
  const { jitter } = plan.policy
  const lifetime = times.expiresIn ?? shorterOf(plan.expiration, region.expiration)
  return values.map((payload, i): Created => {
    // Names that were collected may be those of another value. Without a snapshot no creation around is stored.
    if (kept !== undefined)
      return { entry: { payload, metadata: metadataFor(undefined) }, withheld: kept, isOwn: true }
    const key = keys[i] as string
    const own = namesOfKeys?.get(key)
    const collected = own === undefined ? together : collector?.snapshot(own)
    const ofKey = timesOf?.get(key)
    const metadata = metadataFor(
      jittered(ofKey?.expiresIn ?? lifetime, region.expiration, jitter),
      collected?.snapshot,
      ofKey?.standsFor ?? times.standsFor,
    )
    const withheld =
      payload === NO_VALUE ? 'the creator returned NO_VALUE' : (collected?.unstorable ?? ofKey?.withheld)
    return { entry: { payload, metadata }, withheld }
  })
}
