import type { CachedValue, NoValue } from '../backend/cached-value.js'
import type { Arguments } from '../base/any-function.js'
import { bindContext } from '../base/async-context.js'
import { all, andThen, ignoreRejection, type MaybePromise, orElse } from '../base/maybe-promise.js'
import { nextTick } from '../base/timers.js'
import { type Begun, SINCE } from '../creation/create-options.js'
import { renewalOnDemand, waitingCreation } from '../creation/renewal.js'
import { currentTransaction, type Transaction } from '../creation/transaction.js'
import type { CreateOptions, Creator, MultiCreator } from '../creation/types.js'
import type { CreationFailure, Lookup, Renewed, RunOptions, Standing } from '../dogpile/types.js'
import { checkKey, listKeys } from '../functions/keys.js'
import type { CreatorOfCall, FunctionStore } from '../functions/types.js'
import { hasVersions } from '../ledger/checked-names.js'
import { checkCreateOptions, checkCreator, limitOf, NO_OPTIONS, withinOf } from './checks.js'
import { driverOf, type RegionDriver } from './driver.js'
import { callFailures } from './handing-up.js'
import { deadlinesOf, mayFallBack, policyFor, withinLimits } from './policy.js'
import { isAhead, renewAhead } from './refresh-ahead.js'
import {
  ageOf,
  countLookup,
  countRead,
  countShared,
  countStale,
  freshnessIn,
  isFreshHit,
  MISSING,
  matchesSession,
  newest,
  readMulti,
  readOne,
  recordRead,
  type StaleReason,
  serveHit,
  sharedPayload,
  toLookup,
  whenRead,
  withoutCreation,
} from './serve.js'
import type { Created, CreationPlan, RegionHandle, RegionState } from './state.js'
import type { Region } from './types.js'

/** The operations that create values: if they are missing or stale, or because the caller says so. */
export function regionCreations<V>(
  handle: RegionHandle,
): Pick<Region<V>, 'getOrCreate' | 'getOrCreateMulti'> &
  Pick<FunctionStore<V>, 'getOrCreateWith' | 'refreshMulti' | 'renew'> {
  const { operation } = handle
  return {
    getOrCreate: (key, creator, create) => getOrCreate(handle, key, creator, create, undefined),
    getOrCreateWith: (key, args, creatorOf, create) => getOrCreate(handle, key, creatorOf, create, args),
    getOrCreateMulti: (keys, creator, create) =>
      operation((region) => getOrCreateMulti(region, keys, creator, checkCreateOptions(create))),
    refreshMulti: (keys, creator, create) =>
      operation((region) => refreshMulti(region, keys, creator, checkCreateOptions(create))),
    renew: (key, creator, create) =>
      operation((region) => renew(region, key, creator, checkCreateOptions(create))),
  }
}

/** @param args - `given` makes the creator of a call with these arguments. It runs at the call, and never for a hit. */
function getOrCreate<T>(
  { use }: RegionHandle,
  key: string,
  given: Creator<T> | CreatorOfCall<T>,
  create: CreateOptions<T> | undefined,
  args: Arguments | undefined,
): Promise<T> {
  let found: MaybePromise<CachedValue | undefined>
  let region: RegionState | undefined
  let plan: CreationPlan | undefined
  try {
    region = use()
    checkKey(key)
    checkCreator(given)
    // Those of a cached function were checked when it was declared.
    const options = create === undefined || args !== undefined ? create : checkCreateOptions(create)
    if (options?.signal?.aborted) throw options.signal.reason
    const limit = limitOf(options?.expirationTime)
    const stored = region.keyOf(key)
    // No number is at least `undefined`.
    if (region.counters.absent >= (region.chain.ifAbsentFrom as number)) {
      const begun =
        joinTogether<T>(region, key, options) ?? leaseOrEntry<T>(region, key, stored, given, options, args)
      if (begun !== undefined) return begun
    }
    found = readOne(region, stored, withinOf(options?.maxStaleness))
    if (isFreshHit(region, found, limit, options?.jitter)) {
      if ((options?.refreshAhead ?? region.policy.refreshAhead) !== undefined) {
        const policy = policyFor(region, options ?? NO_OPTIONS, args !== undefined)
        if (isAhead(region, key, found, limit, policy))
          renewAhead(region, planOfCall(region, key, given, options, args), new Map([[key, found]]))
      }
      return Promise.resolve(serveHit<T>(region, key, found, limit, options?.jitter))
    }
    const joined = found === undefined ? joinTogether<T>(region, key, options) : undefined
    if (joined !== undefined) return joined
    plan = planOfCall(region, key, given, options, args)
    const created = createUnlessFresh<T>(region, key, stored, plan, found, 0)
    return Promise.resolve(ending(key, plan, created))
  } catch (error) {
    const failures = plan === undefined ? region && callFailures(region) : plan.failures
    failures?.onEnd(error)
    // Options may contradict those of the region after the read was sent.
    void ignoreRejection(found)
    return Promise.reject(error)
  }
}

/** The result of a call, within its limits. The creation around the call learns here that it got no value. */
function ending<T>(key: string, plan: CreationPlan, result: MaybePromise<T>): MaybePromise<T> {
  const { failures } = plan
  const limited = withinLimits(key, plan, result)
  if (failures === undefined) return limited
  return orElse(
    () => limited,
    (error) => {
      failures.onEnd(error)
      throw error
    },
  )
}

/** Whether a call of this turn began with a lease. */
let hasBegun = false

/**
 * One step of the store leases a key that is probably absent, or brings its entry. Callers of the same turn share it.
 * `undefined`: the key is to be read first.
 */
function leaseOrEntry<T>(
  region: RegionState,
  key: string,
  stored: string,
  given: Creator<T> | CreatorOfCall<T>,
  options: CreateOptions<never> | undefined,
  args: Arguments | undefined,
): Promise<T> | undefined {
  // The reads of one turn are one command, which costs less than a step for each.
  if (region.errors.has(key) || !isOutside() || hasBegun) return undefined
  hasBegun = true
  nextTick(() => {
    hasBegun = false
  })
  const plan = planOfCall(region, key, given, options, args)
  const driver = driverOf(region, plan, key, stored)
  driver.isUnread = true
  const led = region.dogpile.lead(key, driver, readOptions(region, plan, undefined, []))
  if (led === undefined) return undefined
  const created = led.then((led): MaybePromise<T> => {
    if (led === undefined)
      return createUnlessFresh<T>(region, key, stored, plan, driver.brought, driver.sharing)
    recordRead(region, key, led.value.entry, plan, led.value.isStale)
    return sharedPayload<T>(region, led.value)
  })
  const result = Promise.resolve(withinLimits(key, plan, region.calling.count(created) as Promise<T>))
  const moment = sharedMoment(region, key, plan)
  if (moment) together.set(moment, { options: plan.options, result, reader: driver })
  return result
}

function planOfCall<T>(
  region: RegionState,
  key: string,
  given: Creator<T> | CreatorOfCall<T>,
  options: CreateOptions<never> = NO_OPTIONS,
  args: Arguments | undefined,
): CreationPlan {
  return args === undefined
    ? planOf(region, given as Creator<T>, options, true)
    : planOf(region, (given as CreatorOfCall<T>)([key], args), options, false, true)
}

/** The slow half of getOrCreate, apart from it because a hit must not pay for its closures. */
function createUnlessFresh<T>(
  region: RegionState,
  key: string,
  stored: string,
  plan: CreationPlan,
  found: MaybePromise<CachedValue | undefined>,
  sharing: number,
): MaybePromise<T> {
  const { expiration, policy } = plan
  const serveOrCreate = (lookup: Lookup<Created>): MaybePromise<T> => {
    countShared(region, key, sharing, lookup)
    if (lookup.state !== 'fresh') return createOne<T>(region, key, stored, plan, lookup)
    const { entry } = lookup.value
    if (isAhead(region, key, entry, expiration, policy)) renewAhead(region, plan, new Map([[key, entry]]))
    return serveHit<T>(region, key, entry, expiration, policy.jitter)
  }
  if (found === undefined) return serveOrCreate(MISSING)
  return whenRead(region, found, (one) => {
    countLookup(region, one === undefined)
    return andThen(newest(region, key, stored, one, plan), (entry) =>
      andThen(toLookup(region, key, entry, plan), serveOrCreate),
    )
  })
}

/** The result of a caller that joined a creation, for those that would join at the same moment with the same options. */
interface Together {
  readonly options: CreateOptions<never>
  readonly result: Promise<unknown>
  /** It is yet to read the key, and then counts those that share its result. */
  readonly reader?: RegionDriver
}

const together = new WeakMap<object, Together>()

/** Of a thousand callers of one key the second joins the first, and all others join the second, by its very promise. */
function joinTogether<T>(
  region: RegionState,
  key: string,
  options: CreateOptions<never> = NO_OPTIONS,
): Promise<T> | undefined {
  const moment = region.dogpile.momentOf(key)
  const joined = moment && together.get(moment)
  if (joined?.options !== options || hasVersions() || !isOutside()) return undefined
  if (joined.reader) joined.reader.sharing++
  else countShared(region, key, 1, MISSING)
  return joined.result as Promise<T>
}

/** Nothing around the caller depends on the value, or waits for it. */
function isOutside(): boolean {
  return waitingCreation() === undefined && currentTransaction() === undefined
}

/** The moment at which a caller joins, if others may have its promise. A store that copies, or a session, tells callers apart. */
function sharedMoment(
  { dogpile, backend }: RegionState,
  key: string,
  plan: CreationPlan,
): object | undefined {
  if (plan.deadlines !== undefined || plan.signal !== undefined) return undefined
  if (backend.copyOut !== undefined || hasVersions() || !isOutside()) return undefined
  return dogpile.momentOf(key)
}

/** Of a thousand callers one needs the driver, so the others do not build it. */
function createOne<T>(
  region: RegionState,
  key: string,
  stored: string,
  plan: CreationPlan,
  found: Lookup<Created>,
): Promise<T> {
  const inside = currentTransaction()
  const { calling } = region
  let why: StaleReason | undefined
  let tell: ReturnType<typeof countStale> | undefined
  let reason: ((key: string, reason: StaleReason) => void) | undefined
  if (found.state === 'stale') {
    tell = countStale(region, key, found.value.entry, plan)
    reason = (_, one) => (why = one)
    const held = inside === undefined ? withoutCreation(region, found.value.entry) : undefined
    if (held !== undefined) {
      tell(held)
      recordRead(region, key, found.value.entry, plan, true)
      return Promise.resolve(sharedPayload<T>(region, found.value))
    }
  } else {
    countRead(region, key, 'invalid')
    throwRemembered(region, plan, key)
  }
  const moment = found.state === 'missing' ? sharedMoment(region, key, plan) : undefined
  calling.begin()
  const result = region.dogpile
    .run(key, () => driverOf(region, plan, key, stored), readOptions(region, plan, inside, [found], reason))
    .then(
      (created) => {
        calling.end()
        tell?.(why)
        recordRead(region, key, created.entry, plan, created.isStale, inside)
        return sharedPayload<T>(region, created)
      },
      (error) => {
        calling.end()
        tell?.(why)
        throw error
      },
    )
  if (moment) together.set(moment, { options: plan.options, result })
  return result
}

async function getOrCreateMulti<T>(
  region: RegionState,
  given: readonly string[],
  creator: MultiCreator<T>,
  options: CreateOptions<never>,
): Promise<(T | NoValue)[]> {
  const keys = listKeys(given)
  checkCreator(creator)
  if (keys.length === 0) return []
  const plan = planOf(region, creator, options)
  return ending(keys[0] as string, plan, createMany(region, keys, plan, withinOf(options.maxStaleness)))
}

async function createMany<T>(
  region: RegionState,
  keys: readonly string[],
  plan: CreationPlan,
  within: number | undefined,
): Promise<(T | NoValue)[]> {
  const unique = [...new Set(keys)].sort()
  const inside = currentTransaction()
  const driver = driverOf(region, plan)
  const entries = await readMulti(region, unique, { ...plan, within })
  const seen = [...(await all(unique.map((key, i) => toLookup(region, key, entries[i], plan))))]
  const told = new Map<string, ReturnType<typeof countStale>>()
  const reasons = new Map<string, StaleReason>()
  const due = new Map<string, CachedValue>()
  unique.forEach((key, i) => {
    const found = seen[i] as Lookup<Created>
    if (found.state === 'stale') {
      told.set(key, countStale(region, key, found.value.entry, plan))
      const held = inside === undefined ? withoutCreation(region, found.value.entry) : undefined
      if (held !== undefined) {
        reasons.set(key, held)
        seen[i] = { state: 'fresh', value: found.value }
      }
    } else countRead(region, key, freshnessIn(found), found.value?.entry)
    if (found.state === 'missing') throwRemembered(region, plan, key)
    if (found.state === 'fresh' && isAhead(region, key, found.value.entry, plan.expiration, plan.policy))
      due.set(key, found.value.entry)
  })
  if (due.size > 0) renewAhead(region, plan, due)
  const run = readOptions(region, plan, inside, seen, (key, reason) => reasons.set(key, reason))
  const created = await region.dogpile.runMulti(unique, driver, run).finally(() => {
    for (const [key, tell] of told) tell(reasons.get(key))
  })
  for (const [key, { entry, isStale }] of created) recordRead(region, key, entry, plan, isStale, inside)
  return keys.map((key) => sharedPayload<T>(region, created.get(key) as Created))
}

/** A call that says `errorExpirationTime: 0` wants to know what the source says now. */
function throwRemembered({ errors }: RegionState, { options, failures }: CreationPlan, key: string): void {
  if (options.errorExpirationTime !== 0) errors.throwRemembered(key, failures?.onFailed)
}

/** Creates again, in one creation. A value that could not be stored is removed, so that no older one outlives it. */
async function refreshMulti<T>(
  region: RegionState,
  given: readonly string[],
  creator: MultiCreator<T>,
  options: CreateOptions<never>,
): Promise<(T | NoValue)[]> {
  const keys = listKeys(given)
  if (keys.length === 0) return []
  const plan = planOf(region, creator, options)
  const inside = currentTransaction()
  const unique = [...new Set(keys)]
  const renew = async () => {
    const all = await region.dogpile.renewMulti(unique, driverOf(region, plan), runOptions(plan))
    const left = [...all].filter(([, { filled }]) => filled !== 'stored').map(([key]) => key)
    if (left.length > 0) await region.backend.deleteMulti(left)
    return all
  }
  const renewed = await ending(unique[0] as string, plan, renew())
  for (const [key, { value }] of renewed) recordRead(region, key, value.entry, plan, false, inside)
  return keys.map((key) => sharedPayload<T>(region, (renewed.get(key) as Renewed<Created>).value))
}

/** Creates a softly invalidated value again. `false`: the new value could not be stored, and the older one stays. */
async function renew<T>(
  region: RegionState,
  key: string,
  creator: MultiCreator<T>,
  options: CreateOptions<never>,
): Promise<boolean> {
  checkKey(key)
  const plan = planOf(region, creator, options)
  const renewing = async () => {
    const { filled } = await region.dogpile.renew(key, driverOf(region, plan), runOptions(plan))
    // An older value must not outlive a value that is withheld by choice, such as NO_VALUE for a record that is gone.
    if (filled === 'withheld') await region.backend.delete(key)
    return filled
  }
  const filled = await ending(key, plan, renewing())
  return filled === 'stored' || filled === 'withheld'
}

export function planOf(
  region: RegionState,
  create: CreationPlan['create'],
  options: CreateOptions<never>,
  isSingle = false,
  isKept = false,
): CreationPlan {
  const { expirationTime, shouldCache, signal } = options
  const policy = policyFor(region, options, isKept)
  const deadlines = deadlinesOf(policy, (options as Begun)[SINCE], region.trouble)
  const expiration = limitOf(expirationTime)
  return {
    create,
    isSingle,
    expiration,
    policy,
    breaker: region.breaker,
    shouldCache,
    deadlines,
    signal,
    failures: callFailures(region),
    options,
  }
}

function runOptions({ deadlines, signal, failures }: CreationPlan): RunOptions<Created> {
  return { deadlines, signal, onFailed: failures?.onFailed }
}

/** A reader may share another caller's creation. A value created inside a transaction is never shared. */
function readOptions(
  region: RegionState,
  plan: CreationPlan,
  inside: Transaction | undefined,
  seen: readonly Lookup<Created>[],
  reason?: (key: string, reason: StaleReason) => void,
): RunOptions<Created> {
  const { deadlines, signal, policy, failures } = plan
  const onStale = renewalOnDemand(region.calls ?? region)
  const { onJoin } = region.counters
  const alone = inside !== undefined
  // It is asked when the creation of another caller fails, and so in the context of that one.
  const mayServe =
    policy.given.serveStaleIf && bindContext((error: unknown) => mayFallBack(region, plan, error))
  // A transaction may see other data than the value that stands.
  const fallsBack = alone
    ? undefined
    : ({ state, value }: Standing<Created>, failure: CreationFailure | undefined, key: string): boolean => {
        // It was read within the limits of the caller that leads. They may differ.
        const age = ageOf(region, value.entry.metadata, plan)
        if (age === 'fresh' && state === 'fresh') return true
        if (age === 'invalid' || policy.grace === 0) return false
        if (failure !== undefined && mayServe?.(failure.error) === false) return false
        reason?.(key, failure === undefined ? 'timeout' : 'error')
        return true
      }
  const onHeldBack = reason && ((key: string) => reason(key, 'error'))
  return {
    deadlines,
    signal,
    accept: matchesSession,
    alone,
    onStale,
    onJoin,
    onHeldBack,
    fallsBack,
    seen,
    onFailed: failures?.onFailed,
  }
}
