import { randomUUID } from 'node:crypto'
import { NO_VALUE, type NoValue } from '../backend/cached-value.js'
import { untilAborted } from '../base/aborts.js'
import type { AnyFunction, Arguments, ArgumentsOf } from '../base/any-function.js'
import { report } from '../base/diagnostics.js'
import type { Duration } from '../base/duration.js'
import { andThen, attempt, isPromise, type MaybePromise, native } from '../base/maybe-promise.js'
import {
  checkOptions,
  expectBoolean,
  expectFunction,
  expectInteger,
  expectText,
  type OptionCheck,
  rejectOptions,
} from '../base/options.js'
import { performance } from '../base/timers.js'
import { SERVING_CHECKS, SINCE, servingOptions } from '../creation/create-options.js'
import { runWithoutEntry } from '../creation/outside.js'
import { currentScope, handUpVersion } from '../creation/scope.js'
import type { ServingOptions } from '../creation/types.js'
import { keysOfForms, mayCountArguments } from '../functions/arity.js'
import { expectRegion } from '../functions/cache-results.js'
import { expectNoDecorator } from '../functions/cached-method.js'
import { areChangeable, capturing, keysTellAll, tellsAll } from '../functions/captured.js'
import { copyOptions, expectLifetime } from '../functions/declarations.js'
import {
  checkNamespace,
  expectKeysOf,
  type FunctionKeyGenerator,
  functionKeyGenerator,
} from '../functions/keys.js'
import { dress, reasonOf } from '../functions/members.js'
import { claimNamespace, type Declaring } from '../functions/namespaces.js'
import type {
  CachedFunction,
  CacheOptions,
  CallOptions,
  ResultLifetime,
  Returning,
  Typed,
} from '../functions/types.js'
import type { InvalidationMode, InvalidationReason } from '../ledger/ledger.js'
import { name, text } from '../ledger/names.js'
import { deadlinesOf, hardTimeoutOf, policyOf, withinLimits } from '../region/policy.js'
import type { Region } from '../region/types.js'
import { partsOf, textOfParts } from '../versions/version.js'
import {
  type Check,
  type CheckOptions,
  makeCheck,
  VERSION_OPTIONS,
  type Version,
} from '../versions/version-check.js'
import { readName, register, registered } from '../versions/version-names.js'
import { boundedRegion } from './bounded-region.js'

/**
 * Options of `versioned`.
 * @example
 * ```ts
 * import type { VersionedOptions } from 'corral/session'
 *
 * export const ofPages: VersionedOptions<[id: string], string> = {
 *   namespace: 'page',
 *   version: (id) => id.length,
 *   expirationTime: '10m',
 * }
 * ```
 */
export interface VersionedOptions<A extends readonly unknown[], V = unknown, T = never>
  extends CheckOptions,
    ServingOptions {
  /** Returns, cheaply, the version that the result for these arguments would have now. */
  readonly version: (...args: A) => MaybePromise<Version>
  /** Tells this function's entries from others'. */
  readonly namespace: string
  /** Says that another function of the region has the same namespace on purpose. @default false */
  readonly sharesNamespace?: boolean | undefined
  /** Where results are kept, over any backend. @default a store in this process for `maxSize` results */
  readonly region?: Region<V> | undefined
  /** How many results to keep in this process, of all arguments and versions; with a `region` its backend says so. @default 1000 */
  readonly maxSize?: number | undefined
  /**
   * How long a result of an unchanged version is fresh, from its creation. A function of the arguments, or `{ ofResult }`,
   * is called once for each entry. @default '1h'
   */
  readonly expirationTime?:
    | Duration
    | ((...args: A) => Duration | undefined)
    | ResultLifetime<T, A>
    | undefined
  /** Makes the keys; it sees the arguments without the version. */
  readonly functionKeyGenerator?: FunctionKeyGenerator | undefined
  /** Whether `f()` and `f(undefined)` have different keys. @default as for `region.cacheOnArguments` */
  readonly exactArity?: boolean | undefined
  /** Whether to store the function's result. */
  readonly shouldCache?: ((value: T, key: string) => boolean) | undefined
}

/**
 * A function whose results are kept for as long as a cheap check says that they would come out the same.
 * @example
 * ```ts
 * import type { VersionedFunction } from 'corral/session'
 *
 * export async function reload(page: VersionedFunction<[id: string], string>, id: string): Promise<string> {
 *   await page.invalidate(id)
 *   return page(id)
 * }
 * ```
 */
export interface VersionedFunction<A extends readonly unknown[], T> {
  (...args: A): Promise<T>
  /** The function that was passed. */
  readonly original: (...args: A) => MaybePromise<T>
  /** The same function and members, with options for this call: `fn.with({ signal })(...args)`. */
  with(options: CallOptions<T>): VersionedFunction<A, T>
  /** The version that a call would have now: in a session the one that it knows. */
  version(...args: A): Promise<string>
  /** The key of a version's result. */
  key(version: string, ...args: A): string
  /** The result of the present version if it is there, never calling the function. */
  get(...args: A): Promise<T | NoValue>
  /** Reads the version again, calls the function and stores its result, even over a fresh one. */
  refresh(...args: A): Promise<T>
  readonly invalidate: InvalidateVersions<A>
}

/**
 * Invalidates the results of all versions for some arguments, hard or softly.
 * @example
 * ```ts
 * import type { InvalidateVersions } from 'corral/session'
 *
 * export const later = (invalidate: InvalidateVersions<[id: string]>, id: string) => invalidate.soft(id)
 * ```
 */
export interface InvalidateVersions<A extends readonly unknown[]> {
  /**
   * Removes the results of all versions for these arguments, in every session. This session reads the version again.
   * @throws CorralError `ERR_NO_LEDGER` when the region does not track dependencies.
   */
  (...args: A): Promise<void>
  /** Marks them stale: served while one caller renews them. */
  soft(...args: A): Promise<void>
}

/**
 * Wraps a function whose arguments the `version` can take, or the first of them.
 * @example
 * ```ts
 * import { type Versioned, versioned } from 'corral/session'
 *
 * const cached: Versioned<[id: string], string> = versioned({ namespace: 'page', version: (id: string) => id.length })
 * export const page = cached(async (id: string) => `the page of ${id}`)
 * ```
 */
export type Versioned<A extends readonly unknown[], V, R = never> = <
  B extends readonly unknown[],
  T extends V,
>(
  fn: ((this: void, ...args: B) => MaybePromise<T>) & VersionFits<A, B> & ResultFits<R, T>,
) => VersionedFunction<B, T>

type VersionFits<A extends readonly unknown[], B extends readonly unknown[]> = ((
  ...args: A
) => unknown) extends (...args: B) => unknown
  ? unknown
  : { readonly 'version() cannot take the arguments of this function': B }

/** `R` is the result that the options expect; `never` if they expect none. */
type ResultFits<R, T> = [R] extends [never]
  ? unknown
  : T extends R
    ? unknown
    : { readonly 'the options cannot take the result of this function': T }

const OPTIONS: Readonly<Record<string, OptionCheck>> = {
  ...VERSION_OPTIONS,
  version: expectFunction,
  // Checked by checkNamespace(), which has a code of its own.
  namespace: () => {},
  sharesNamespace: expectBoolean,
  region: expectRegion,
  maxSize: (value, subject) => expectInteger(value, subject),
  expirationTime: expectLifetime,
  exactArity: expectBoolean,
  functionKeyGenerator: expectFunction,
  shouldCache: expectFunction,
  ...SERVING_CHECKS,
}

/**
 * Caches a function by its arguments and by a version that is cheap to read, such as the time of the last change. The
 * version is read before the function is called, and at most once in a session for the same arguments.
 * @example
 * ```ts
 * import { versioned } from 'corral/session'
 *
 * const updatedAt = new Map([['tea', 1]])
 * const page = versioned(async (id: string) => `the page of ${id}`, {
 *   namespace: 'page',
 *   version: (id) => updatedAt.get(id),
 * })
 * await page('tea')
 * ```
 * @throws CorralError `ERR_OPTION` on an unknown or invalid option, `ERR_NAMESPACE` without a namespace.
 */
export function versioned<F extends (this: void, ...args: never[]) => MaybePromise<V>, V = unknown>(
  fn: F,
  options: VersionedOptions<ArgumentsOf<F>, V, Awaited<ReturnType<F>>> & Returning<F, V>,
): Typed<F, VersionedFunction<ArgumentsOf<F>, Awaited<ReturnType<F>>>>
export function versioned<A extends readonly unknown[], V = unknown, R = never>(
  options: VersionedOptions<A, V, R>,
): Versioned<A, V, R>
export function versioned(...given: Arguments): unknown {
  expectNoDecorator('versioned()', given)
  const [fn, options] = typeof given[0] === 'function' ? given : [undefined, given[0]]
  const wrap = versionedBy(options as Options, fn === undefined ? undefined : { called: versioned })
  return fn === undefined ? wrap : wrap(fn as Wrapped)
}

function versionedBy(given: Options, by?: Declaring): (...args: Arguments) => unknown {
  const options = copyOptions(given as CacheOptions) as Options
  checkOptions(options, 'versioned()', OPTIONS)
  const { version, region, maxSize } = options
  const namespace = checkNamespace(options.namespace)
  expectFunction(version, '`version` of versioned()')
  if (region !== undefined && maxSize !== undefined)
    rejectOptions(
      'Expected either `region` or `maxSize`, got both: the backend of a region decides how much it keeps.',
    )
  const check = makeCheck(`the versioned function '${namespace}'`, options)
  const home = (region ?? boundedRegion(maxSize ?? 1_000)) as Region
  const declare = (...args: Arguments) => {
    expectNoDecorator('versioned()', args)
    const fn = args[0] as Wrapped
    expectFunction(fn, '`fn` of versioned()')
    claimNamespace(home, namespace, fn, options.sharesNamespace, by ?? { called: declare as AnyFunction })
    return versionedFunction(options, fn, check, home)
  }
  return declare
}

type Wrapped = (...args: Arguments) => MaybePromise<unknown>
type Options = VersionedOptions<Arguments, unknown, unknown>

function versionedFunction(
  options: Options,
  fn: Wrapped,
  check: Check,
  home: Region,
): VersionedFunction<Arguments, unknown> {
  const { namespace, functionKeyGenerator: generator = functionKeyGenerator } = options
  const exactArity = options.exactArity ?? mayCountArguments(fn)
  const keyOf = expectKeysOf(generator(namespace, fn, { exactArity }))
  const hasForms = options.exactArity === undefined && exactArity
  const groupOf = (key: string) => name('versioned', [text('key', key)])
  const begin = callsOf(options, check, generator, keyOf)
  const current = (args: Arguments) => begin('current', args)
  const handUp = handingUp(namespace, (argsText) => andThen(current(partsOf(argsText)), ({ token }) => token))
  const stored = storedByVersion(options, fn, home, generator, keyOf, (args) => groupOf(keyOf(...args)))
  const unstored = runningUnstored(namespace, fn, home)

  const withVersion =
    <R>(
      how: 'current' | 'renewed',
      work: (since: number | undefined) => (token: string, ...args: Arguments) => Promise<R>,
      otherwise: (call: VersionedCall, reason: string) => MaybePromise<R>,
    ): Timed<R> =>
    (since, ...given) =>
      attempt(() => {
        const wasOpen = home.isConfigured
        return andThen(begin(how, given), (call): MaybePromise<R> => {
          const { token, args } = call
          if (call.changed) return otherwise(call, 'its arguments were changed before the function ran')
          // A call that began before close() ends with its result.
          if (wasOpen && !home.isConfigured)
            return otherwise(call, 'the region was closed while the version was read')
          handUp(args, token)
          return work(since)(token, ...args)
        })
      })
  const invalidate = async (mode: InvalidationMode, args: Arguments, reason?: InvalidationReason) => {
    const keys = hasForms ? keysOfForms(keyOf, args) : [keyOf(...args)]
    for (const key of keys) check.forget(key)
    await home.invalidateDependencies(keys.map(groupOf), mode, reason)
  }
  const membersOf = (
    inner: typeof stored,
    given: CallOptions<unknown>,
  ): VersionedFunction<Arguments, unknown> => {
    const { hardTimeout = options.hardTimeout, signal } = given
    const within = <R>(call: Timed<R>) => inTime(namespace, home, { hardTimeout, signal }, call)
    const reason = reasonOf(given)
    // The version may take a part of the time: the rest of the call falls back at the same deadline.
    const begun = (since: number | undefined) =>
      since === undefined ? inner : inner.with({ [SINCE]: since } as CallOptions<unknown>)
    return dress(within(withVersion('current', begun, unstored)), fn, {
      original: fn,
      with: (more: CallOptions<unknown>) => membersOf(inner.with(more), { ...given, ...more }),
      version: async (...args: Arguments) => (await current(args)).token,
      key(version: string, ...args: Arguments) {
        expectText(version, '`version` of key()', 'the text that version() of the function returns')
        return inner.key(version, ...args)
      },
      get: untimed(
        given,
        withVersion<unknown>(
          'current',
          () => inner.get,
          () => NO_VALUE,
        ),
      ),
      refresh: within(withVersion('renewed', (since) => begun(since).refresh, unstored)),
      invalidate: Object.assign((...args: Arguments) => invalidate('hard', args, reason), {
        soft: (...args: Arguments) => invalidate('soft', args, reason),
      }),
    })
  }
  return membersOf(stored, {})
}

/** A call that began at a moment of `performance.now()`; `undefined`: it has no deadline. */
type Timed<R> = (since: number | undefined, ...args: Arguments) => Promise<R>

function untimed<R>({ signal }: CallOptions<unknown>, call: Timed<R>): (...args: Arguments) => Promise<R> {
  return (...args) => attempt(() => untilAborted(signal, call(undefined, ...args)))
}

/** A call within its signal and the `hardTimeout` of the function or its region, which cover the read of its version, too. */
function inTime<R>(
  namespace: string,
  home: Region,
  { hardTimeout: own, signal }: CallOptions<unknown>,
  call: Timed<R>,
): (...args: Arguments) => Promise<R> {
  return (...args) => {
    const hardTimeout = own ?? hardTimeoutOf(home)
    const since = hardTimeout === undefined ? undefined : performance.now()
    const deadlines = hardTimeout === undefined ? undefined : deadlinesOf(policyOf({ hardTimeout }), since)
    return attempt(() => withinLimits(namespace, { deadlines, signal }, call(since, ...args)))
  }
}

/** A call whose version is known. */
interface VersionedCall {
  /** The key that the arguments gave at the call. */
  readonly key: string
  readonly token: string
  /** The arguments as they were at the call, as far as they can be copied. */
  readonly args: Arguments
  /** The arguments give another key by now, so that the version may be that of another result. */
  readonly changed: boolean
}

/** Reads the versions of calls. The caller may change its arguments as soon as the call has returned. */
function callsOf(
  { version }: Options,
  check: Check,
  generator: FunctionKeyGenerator,
  keyOf: (...args: Arguments) => string,
): (how: 'current' | 'renewed', args: Arguments) => MaybePromise<VersionedCall> {
  const capture = capturing(generator)
  const areOwn = keysTellAll(generator)
  const hasKey = (key: string, args: Arguments): boolean => {
    if (areOwn || !areChangeable(args)) return true
    try {
      return keyOf(...args) === key
    } catch {
      return false
    }
  }
  return (how, given) => {
    const key = keyOf(...given)
    const ask = (): MaybePromise<Version> =>
      andThen(native(version(...capture(given)) as MaybePromise<Version>), (found) =>
        // Callers of the same session may wait for this version: no result may ever be found under it.
        hasKey(key, given) ? found : randomUUID(),
      )
    const read = check[how](key, ask)
    const args = isPromise(read) ? capture(given) : given
    return andThen(read, (token) => {
      const changed = !hasKey(key, args)
      if (changed) check.forget(key)
      return { key, token, args, changed }
    })
  }
}

/** Runs the function for one caller alone, where its result cannot be stored. */
function runningUnstored(namespace: string, fn: Wrapped, home: Region) {
  return ({ key, args }: VersionedCall, reason: string): MaybePromise<unknown> => {
    report('unstored', () => ({ region: home.name, namespace, key, reason }))
    if (currentScope() === undefined) return runWithoutEntry(async () => fn(...args))
    handUpVersion(undefined, `a call of '${namespace}' was not stored, because ${reason}`)
    return fn(...args)
  }
}

/** Hands a version up to the entries that are created from a result: they rest on it too, wherever they are read. */
function handingUp(namespace: string, present: (argsText: string) => MaybePromise<string>) {
  const registeredAs = `versioned ${namespace}`
  register(registeredAs, registered(registeredAs) === undefined ? present : 'ambiguous')
  return (args: Arguments, token: string): void => {
    if (currentScope() === undefined) return
    let versionName: string | undefined
    try {
      const argsText = textOfParts(args)
      if (registered(registeredAs) === present) versionName = readName(registeredAs, argsText, token)
    } catch {
      // A name cannot give these arguments back, so a value that rests on them could not be checked later.
    }
    handUpVersion(
      versionName,
      `it was made from the versioned '${namespace}', whose version cannot be asked for by name`,
    )
  }
}

/** The function as one of a version and its arguments, cached in the region. */
function storedByVersion(
  { namespace, expirationTime = '1h', shouldCache, ...others }: Options,
  fn: Wrapped,
  home: Region,
  generator: FunctionKeyGenerator,
  keyOf: (...args: Arguments) => string,
  groupOf: (args: Arguments) => string,
): CachedFunction<[token: unknown, ...args: Arguments], unknown> {
  const byVersion = (_token: unknown, ...args: Arguments) => {
    // Known to all versions, so that one invalidation reaches the results of every session.
    currentScope()?.collector?.add([groupOf(args)])
    return fn(...args)
  }
  const ofVersion: FunctionKeyGenerator =
    () =>
    (token, ...args) =>
      `${keyOf(...args)}@${JSON.stringify(token)}`
  return home.cacheOnArguments(byVersion, {
    // For statistics: the keys have it already.
    namespace,
    functionKeyGenerator: keysTellAll(generator) ? tellsAll(ofVersion, false) : ofVersion,
    expirationTime: withoutToken(expirationTime),
    ...({ ...servingOptions(others), shouldCache } as Pick<CacheOptions<Arguments, unknown>, 'shouldCache'>),
  })
}

/** The lifetime as a function of the version and the arguments. */
function withoutToken(
  given: NonNullable<Options['expirationTime']>,
): NonNullable<CacheOptions<[token: unknown, ...args: Arguments], unknown>['expirationTime']> {
  if (typeof given === 'function') return (_, ...args) => given(...args)
  if (typeof given !== 'object') return given
  const { ofResult } = given
  return { ofResult: (result, _, ...args) => ofResult(result, ...args) }
}
