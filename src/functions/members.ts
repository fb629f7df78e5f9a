import { NO_VALUE, type NoValue } from '../backend/cached-value.js'
import { untilAborted } from '../base/aborts.js'
import type { AnyFunction, Arguments } from '../base/any-function.js'
import { cloned } from '../base/cloned.js'
import { report } from '../base/diagnostics.js'
import { type Duration, expectDuration, milliseconds } from '../base/duration.js'
import { CorralError } from '../base/errors.js'
import { expectSync } from '../base/expect-sync.js'
import { inBatches } from '../base/in-batches.js'
import { andThen, attempt, type MaybePromise, mapEach, native } from '../base/maybe-promise.js'
import { checkOptions } from '../base/options.js'
import { CREATE_OPTIONS, SINCE, servingOptions } from '../creation/create-options.js'
import { keepForCaller } from '../creation/own-result.js'
import { handUpVersion, UNKNOWN } from '../creation/scope.js'
import type { CreateOptions, Creation } from '../creation/types.js'
import { resolveVersions } from '../ledger/checked-names.js'
import type { InvalidationReason } from '../ledger/ledger.js'
import { type Declared, runUncached } from './declarations.js'
import type { CacheOptions, CallOptions, CreatorOfCall, FunctionStore, SetOutcome } from './types.js'

type Values<V> = readonly (V | NoValue)[]

/** The parts in which functions of one value and of many ids differ. */
export interface CallForm<V> {
  /** A list, not parameters: thousands of ids as parameters overflow the stack. */
  keysOf(args: Arguments): readonly string[]
  /** The keys of calls that may be the same one to the function: what ends the value of one ends theirs. */
  otherKeys?(args: Arguments): readonly string[]
  /** The arguments with a list of ids of their own, which the caller may use again. */
  kept(args: Arguments): Arguments
  /** The arguments of a call for each key alone. */
  argsPerKey(args: Arguments): readonly Arguments[]
  /** The arguments of a call for one key, as a caller passes them. */
  callOf(own: Arguments): Arguments
  /** Calls the function for some of the keys. */
  run(original: (...args: Arguments) => unknown, each: readonly Arguments[]): MaybePromise<Values<V>>
  /** The arguments as they are now, as far as they can be copied. */
  capture(args: Arguments): Arguments
  /** Whether the keys of arguments that were captured can still change. */
  mayChange(args: Arguments): boolean
  /** @param creatorOf - called at once, or not at all where no creator is needed */
  create(
    keys: readonly string[],
    args: Arguments,
    creatorOf: CreatorOfCall<V>,
    options: CreateOptions<V>,
  ): Promise<unknown>
  read(keys: readonly string[], options: CreateOptions<V>): Promise<unknown>
  resultOf(args: Arguments, values: Values<V>): unknown
  /** Splits the arguments of `set` into those of the call and the values of its keys. */
  splitSet(given: Arguments): readonly [args: Arguments, values: readonly V[]]
  /** The result of `set`, from the outcome of each key. */
  outcomeOf(outcomes: readonly SetOutcome[]): unknown
  readonly members: object
}

/** Wraps a function whose results are kept in a region, and gives it its members. */
export function withMembers<V>(
  store: FunctionStore<V>,
  options: CacheOptions,
  names: Declared | undefined,
  fn: AnyFunction,
  form: CallForm<V>,
  self?: object,
): (...args: Arguments) => Promise<unknown> {
  const original = (self === undefined ? fn : dress(fn.bind(self), fn, {})) as (...args: Arguments) => unknown
  const lifetimes = lifetimesOf<V>(options)
  const own = callOptions<V>(options, {})
  store.checkServing(options)
  const { copy = 'share' } = options
  // What is stored is nobody's: the function may keep what it returned, and change it.
  const making =
    copy === 'share' ? original : (...args: Arguments) => andThen(native(original(...args)), cloned)
  const creatorOf = trackedCreator(store, names, form, making, lifetimes, own, self)
  const withOptions = (call: CallOptions<V>) =>
    membersOf({ store, options, names, fn, form, original, lifetimes, creatorOf, call })
  return withOptions({})
}

interface Wrapped<V> {
  readonly store: FunctionStore<V>
  readonly options: CacheOptions
  readonly names: Declared | undefined
  readonly fn: AnyFunction
  readonly form: CallForm<V>
  readonly original: (...args: Arguments) => unknown
  readonly lifetimes: Lifetimes<V>
  readonly creatorOf: CreatorOfCall<V>
  /** The options of this call, from `with`. */
  readonly call: CallOptions<V>
}

function membersOf<V>(wrapped: Wrapped<V>): (...args: Arguments) => Promise<unknown> {
  const { store, options, names, fn, form, original, call: given } = wrapped
  const { namespace, copy = 'share' } = options
  const create = callOptions(options, given)
  const { expirationTime, grace } = create
  const reason = reasonOf(given)
  const uncached = (args: Arguments) => {
    if (given.signal?.aborted) throw given.signal.reason
    return untilAborted(
      given.signal,
      runUncached(store, names, namespace, original, capturedIfKeyed(form, args)),
    )
  }
  const ofArguments = keyedWork(store, options, form)
  const withKeys = <R>(...given: Parameters<typeof ofArguments<R>>) => {
    const run = ofArguments<R>(...given)
    return (...args: Arguments): Promise<R> => run(args)
  }
  const copyOf = <T>(value: T): T => (copy === 'share' || value === NO_VALUE ? value : cloned(value))
  const own = <T>(result: Promise<T>): Promise<T> => (copy === 'share' ? result : result.then(copyOf))
  const others = (args: Arguments) => form.otherKeys?.(args) ?? []
  /** A new value of one key is an invalidation of the other ones. */
  const endingOthers = async <T>(args: Arguments, work: () => Promise<T>): Promise<T> => {
    const keys = others(args)
    const result = await work()
    if (keys.length > 0) await store.deleteMulti(keys, reason)
    return result
  }
  const nothing = () => undefined
  const creatorOf: CreatorOfCall<V> = (keys, args) => wrapped.creatorOf(keys, args, create)

  const call = withKeys<unknown>((keys, args) => own(form.create(keys, args, creatorOf, create)), uncached)
  return dress(call, fn, {
    original,
    ...form.members,
    with(more: CallOptions<V>) {
      checkOptions(more, 'with()', CALL_OPTIONS)
      return membersOf({ ...wrapped, call: { ...given, ...more } })
    },
    get: withKeys<unknown>(
      (keys) => untilAborted(given.signal, own(form.read(keys, create))),
      () => NO_VALUE,
    ),
    set: (...values: Arguments) =>
      attempt(() => {
        const [args, payloads] = form.splitSet(values)
        const put = (keys: readonly string[]) =>
          endingOthers(args, () => putValues(wrapped, create, keys, args, payloads.map(copyOf)))
        const withheld = () => form.outcomeOf(payloads.map(() => 'withheld'))
        return ofArguments<unknown>(put, withheld)(args)
      }),
    refresh: withKeys<unknown>((keys, args) => {
      const refreshed = endingOthers(args, () => store.refreshMulti(keys, creatorOf(keys, args), create))
      return own(refreshed.then((values) => form.resultOf(args, values)))
    }, uncached),
    // Also while the function is switched off: its stored values must not come back with the switch.
    invalidate: Object.assign(
      withKeys((keys, args) => store.deleteMulti([...keys, ...others(args)], reason), nothing, true),
      {
        soft: withKeys(
          (keys, args) =>
            inBatches([...keys, ...others(args)], (key) =>
              store.expire(key, reason, { grace, expirationTime }),
            ).then(nothing),
          nothing,
          true,
        ),
      },
    ),
  })
}

/** A copy of arguments that have a key. Without one, the function may need the very objects. */
function capturedIfKeyed<V>(form: CallForm<V>, args: Arguments): Arguments {
  try {
    form.keysOf(args)
    return form.capture(args)
  } catch {
    return args
  }
}

const CALL_OPTIONS = {
  ...CREATE_OPTIONS,
  // Checked where something is invalidated.
  reason: () => {},
  meta: () => {},
}

/** The reason among the options of a call, for its invalidations. */
export function reasonOf({ reason, meta }: InvalidationReason): InvalidationReason | undefined {
  if (reason === undefined && meta === undefined) return undefined
  return { ...(reason !== undefined && { reason }), ...(meta !== undefined && { meta }) }
}

/** The options of the region's operations. Built once, because a hit must not pay for it. */
function callOptions<V>(options: CacheOptions, call: CallOptions<V>): CreateOptions<V> {
  const { expirationTime } = options
  const computed = typeof expirationTime === 'object' || typeof expirationTime === 'function'
  const fixed = call.expirationTime ?? (computed ? undefined : expirationTime)
  return {
    ...servingOptions(options),
    ...servingOptions(call),
    expirationTime: fixed === undefined ? undefined : milliseconds(fixed, 'expirationTime'),
    shouldCache: call.shouldCache ?? (options.shouldCache as CreateOptions<V>['shouldCache']),
    ...(call.maxStaleness !== undefined && { maxStaleness: call.maxStaleness }),
    ...(call.signal && { signal: call.signal }),
    ...(SINCE in call && { [SINCE]: call[SINCE] }),
  }
}

/** The lifetimes that a function gives its entries, one by one. */
interface Lifetimes<V> {
  readonly ofArguments?: (...args: Arguments) => Duration | undefined
  readonly ofResult?: (result: V, ...args: Arguments) => Duration | undefined
}

function lifetimesOf<V>({ expirationTime }: CacheOptions): Lifetimes<V> {
  if (typeof expirationTime === 'function')
    return { ofArguments: expirationTime as NonNullable<Lifetimes<V>['ofArguments']> }
  return typeof expirationTime === 'object' ? (expirationTime as unknown as Lifetimes<V>) : {}
}

const LIFETIME = '`expirationTime` of a cached function'

/** Reads a lifetime, at once: the entry is stored with it. */
function lifetime(given: Duration | undefined): Duration | undefined {
  if (given === undefined) return undefined
  return expectDuration(expectSync(LIFETIME, given), LIFETIME)
}

/** The creator of a call: it declares the dependencies of each key, and records how to repeat the call for that key. */
function trackedCreator<V>(
  store: FunctionStore<V>,
  names: Declared | undefined,
  form: CallForm<V>,
  original: (...args: Arguments) => unknown,
  lifetimes: Lifetimes<V>,
  own: CreateOptions<V>,
  self: object | undefined,
): Wrapped<V>['creatorOf'] {
  const creatorOf: CreatorOfCall<V> = (keys, given, options = own) => {
    const args = form.capture(given)
    return (missing, creation) => {
      const each = form.argsPerKey(args)
      const argsOf = new Map(keys.map((key, i) => [key, each[i]]))
      const wanted = missing.map((key) => argsOf.get(key) as Arguments)
      return lasting(lifetimes, options, wanted, creation, () =>
        names === undefined ? run(wanted, creation) : declaring(names, wanted, creation),
      )
    }
  }
  const run = checkedRun(form, original)
  const declaring = async (names: Declared, wanted: readonly Arguments[], creation: Creation) => {
    const { keys } = creation
    const lists = await declaredNames(names, wanted)
    wanted.forEach((args, i) => {
      const [key, list] = [keys[i] as string, lists[i] as readonly string[]]
      creation.dependsOn(key, list)
      store.recordCall(
        key,
        list,
        self === undefined ? repeating(repeat, key, args) : whileReachable(weakly, key, args),
      )
    })
    const values = await run(wanted, creation)
    wanted.forEach((args, i) => {
      if (values[i] !== NO_VALUE) creation.dependsOn(keys[i] as string, names.fromResult(values[i], args))
    })
    return values
  }
  const repeat: Repeat = (key, args) =>
    attempt(() => {
      // Of changed arguments, which give another key, the call cannot be repeated: the value stays stale.
      if (!hasKey(form, args, key)) return true
      return store.renew(key, creatorOf([key], form.callOf(args)), own)
    })
  const weakly = new WeakRef(repeat)
  return creatorOf
}

/** The names of each call, with the versions among them. If they are unknown, no creation around is stored. */
async function declaredNames(names: Declared, wanted: readonly Arguments[]) {
  try {
    return await mapEach(wanted, (args) => resolveVersions(names.fromArguments(args)))
  } catch (error) {
    handUpVersion(undefined, UNKNOWN)
    throw error
  }
}

/** Calls the function, and keeps its values from being stored if the arguments give other keys before or after it. */
function checkedRun<V>(form: CallForm<V>, original: (...args: Arguments) => unknown) {
  const haveKeys = (wanted: readonly Arguments[], { keys }: Creation) =>
    wanted.every((args, i) => hasKey(form, args, keys[i] as string))
  /** Nothing may pause between the check of the keys and the call. */
  return (wanted: readonly Arguments[], creation: Creation): MaybePromise<Values<V>> => {
    if (!haveKeys(wanted, creation)) {
      keepForCaller(creation, 'its arguments were changed before the function ran')
      return form.run(original, wanted)
    }
    // Copies of its own, which the function may change: names and lifetimes are those of the arguments of the call.
    const copies = wanted.map((args) => form.capture(args))
    const values = form.run(original, copies)
    if (!wanted.some((args) => form.mayChange(args))) return values
    return andThen(values, (found) => {
      if (!haveKeys(wanted, creation))
        keepForCaller(creation, 'its arguments were changed while the function ran')
      return found
    })
  }
}

/** Gives each entry its own lifetime. One that cannot be is refused before the function does its work. */
function lasting<V>(
  { ofArguments, ofResult }: Lifetimes<V>,
  { expirationTime: fixed, shouldCache }: CreateOptions<V>,
  wanted: readonly Arguments[],
  creation: Creation,
  run: () => MaybePromise<Values<V>>,
): MaybePromise<Values<V>> {
  if (fixed !== undefined) return run()
  const { keys, expireIn } = creation
  const last = (given: Duration | undefined, i: number) => {
    const ms = lifetime(given)
    if (ms !== undefined) expireIn(ms, keys[i])
  }
  if (ofArguments !== undefined) wanted.forEach((args, i) => last(ofArguments(...args), i))
  if (ofResult === undefined) return run()
  return andThen(run(), (values) => {
    // Values of a wrong number are refused by the region, with the number in the message.
    if (values?.length === wanted.length)
      wanted.forEach((args, i) => {
        const [value, key] = [values[i] as V, keys[i] as string]
        if (value === NO_VALUE) return
        // The answer that keeps a value out is the last one: without its lifetime it must not be stored.
        if (shouldCache && !shouldCache(value, key)) keepForCaller(creation, 'shouldCache said no', true, key)
        else last(ofResult(value, ...args), i)
      })
    return values
  })
}

type Repeat = (key: string, args: Arguments) => Promise<boolean>

/** Whether the arguments of a call for one key give that key now. */
function hasKey<V>(form: CallForm<V>, args: Arguments, key: string): boolean {
  if (!form.mayChange(args)) return true
  try {
    return form.keysOf(form.callOf(args))[0] === key
  } catch {
    return false
  }
}

/** Stands outside, where the creation is not in sight: the recorded closure would keep it, its flight and its results. */
function repeating(repeat: Repeat, key: string, args: Arguments): () => Promise<boolean> {
  return () => repeat(key, args)
}

/** The same where the instance is not in sight either: the recorded closure would keep the instance alive. */
function whileReachable(repeat: WeakRef<Repeat>, key: string, args: Arguments): () => Promise<boolean> {
  return () => repeat.deref()?.(key, args) ?? Promise.resolve(true)
}

/** Does work with the keys of a call, or `otherwise` where the call has no keys or the function is switched off. */
function keyedWork<V>(
  { name: region }: FunctionStore<V>,
  options: CacheOptions,
  { keysOf, kept }: CallForm<V>,
) {
  const { namespace, enabled, onKeyError = 'throw' } = options
  const usableKeys = (args: Arguments, whileOff: boolean): readonly string[] | undefined => {
    if (!whileOff && enabled !== undefined && !expectSync('`enabled` of cacheOnArguments()', enabled()))
      return undefined
    try {
      return keysOf(args)
    } catch (error) {
      if (onKeyError === 'throw' || !CorralError.is(error, 'ERR_KEY_ARGUMENT')) throw error
      const message = `Not cached. ${error.message}`
      report('notice', () => ({ where: `cacheOnArguments: ${namespace}`, region, namespace, message }))
      return undefined
    }
  }
  return <R>(
    work: (keys: readonly string[], args: Arguments) => MaybePromise<R>,
    otherwise: (args: Arguments) => MaybePromise<R>,
    whileOff = false,
  ) =>
    (args: Arguments): Promise<R> => {
      // Not `attempt`: a hit must not pay for its closure.
      try {
        const keys = usableKeys(args, whileOff)
        return Promise.resolve(keys === undefined ? otherwise(args) : work(keys, kept(args)))
      } catch (error) {
        return Promise.reject(error)
      }
    }
}

async function putValues<V>(
  { store, names, form, lifetimes, call }: Wrapped<V>,
  { expirationTime, shouldCache, grace, jitter }: CreateOptions<V>,
  keys: readonly string[],
  args: Arguments,
  values: readonly V[],
): Promise<unknown> {
  const stores = keys.map((key, i) => expectSync('`shouldCache`', shouldCache?.(values[i] as V, key)) ?? true)
  if (names !== undefined && stores.includes(true))
    throw new CorralError(
      'ERR_AS_OF_MISSING',
      'A value with dependencies needs to know as of when it was loaded: take `const asOf = await region.asOf()` before loading, and pass { dependencies, asOf } to region.set(fn.key(…), value, …), with fn.keys(…) for functions of many ids. Or use refresh().',
    )
  const each = form.argsPerKey(args)
  // Values of one lifetime are stored in one step.
  const groups = new Map<Duration | undefined, number[]>()
  keys.forEach((_, i) => {
    if (!stores[i]) return
    const [value, own] = [values[i] as V, each[i] as Arguments]
    const computed = lifetimes.ofArguments?.(...own) ?? lifetimes.ofResult?.(value, ...own)
    const lasts = call.expirationTime ?? lifetime(computed) ?? expirationTime
    const group = groups.get(lasts)
    if (group === undefined) groups.set(lasts, [i])
    else group.push(i)
  })
  const outcomes: SetOutcome[] = keys.map(() => 'withheld')
  await Promise.all(
    [...groups].map(async ([lasts, group]) => {
      const pairs = group.map((i) => [keys[i] as string, values[i] as V] as const)
      const stored = await store.setMulti(pairs, { expirationTime: lasts, grace, jitter })
      group.forEach((i, at) => {
        outcomes[i] = stored[at] as SetOutcome
      })
    }),
  )
  const withheld = keys.filter((_, i) => !stores[i])
  if (withheld.length > 0) await store.deleteMulti(withheld)
  return form.outcomeOf(outcomes)
}

/** Gives a wrapper its members, and the name and length of the function that it wraps. */
export function dress<F extends object, M extends object>(wrapper: F, fn: AnyFunction, members: M): F & M {
  for (const property of ['name', 'length'] as const)
    Object.defineProperty(wrapper, property, { value: fn[property], configurable: true })
  return Object.assign(wrapper, members)
}
