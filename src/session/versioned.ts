import type { NoValue } from '../backend/cached-value.js'
import { type Duration, milliseconds } from '../base/duration.js'
import { CorralError } from '../base/errors.js'
import { andThen, type MaybePromise } from '../base/maybe-promise.js'
import { expectFunction, expectInteger, expectThat, rejectUnknownOptions } from '../base/options.js'
import { currentScope, handUpVersion } from '../creation/scope.js'
import { checkNamespace, type FunctionKeyGenerator, functionKeyGenerator } from '../functions/keys.js'
import type { CachedFunction } from '../functions/types.js'
import { name, text } from '../ledger/names.js'
import type { Region } from '../region/types.js'
import { partsOf, textOfParts } from '../versions/version.js'
import { type CheckOptions, makeCheck, type Version } from '../versions/version-check.js'
import { readName, register, registered } from '../versions/version-names.js'
import { boundedRegion } from './bounded-region.js'

export interface VersionedOptions<A extends readonly unknown[], V = unknown> extends CheckOptions {
  /** Returns, cheaply, the version that the result for these arguments would have now. */
  readonly version: (...args: A) => MaybePromise<Version>
  /** Tells this function's entries from others'. */
  readonly namespace: string
  /** Where results are kept, over any backend. @default a store in this process for `maxSize` results */
  readonly region?: Region<V>
  /** How many results to keep in this process, of all arguments and versions; with a `region` its backend says so. @default 1000 */
  readonly maxSize?: number
  /** How long a result of an unchanged version is fresh, from its creation. @default '1h' */
  readonly expirationTime?: Duration
  /** Makes the keys; it sees the arguments without the version. */
  readonly functionKeyGenerator?: FunctionKeyGenerator
  /** Whether to store the function's result. */
  readonly shouldCache?: (value: never, key: string) => boolean
  /** How long to wait for another caller's creation. @default the region's */
  readonly wait?: Duration
}

/** A function whose results are kept for as long as a cheap check says that they would come out the same. */
export interface VersionedFunction<A extends readonly unknown[], T> {
  (...args: A): Promise<T>
  /** The function that was wrapped. */
  readonly original: (...args: A) => MaybePromise<T>
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

export interface InvalidateVersions<A extends readonly unknown[]> {
  /**
   * Removes the results of all versions for these arguments, in every session, and lets this one ask for the version anew.
   * @throws CorralError `ERR_NO_LEDGER` when the region does not track dependencies.
   */
  (...args: A): Promise<void>
  /** Marks them stale: served while one caller renews them. */
  soft(...args: A): Promise<void>
}

/** Wraps a function whose arguments the `version` can take, or the first of them. */
export type Versioned<A extends readonly unknown[], V> = <B extends readonly unknown[], T extends V>(
  fn: ((...args: B) => MaybePromise<T>) & VersionFits<A, B>,
) => VersionedFunction<B, T>

type VersionFits<A extends readonly unknown[], B extends readonly unknown[]> = ((
  ...args: A
) => unknown) extends (...args: B) => unknown
  ? unknown
  : { readonly 'version() cannot take the arguments of this function': B }

const OPTIONS = [
  'version',
  'namespace',
  'region',
  'maxSize',
  'expirationTime',
  'functionKeyGenerator',
  'shouldCache',
  'wait',
  'session',
  'withoutSession',
  'defaultVersion',
  'timeout',
]

type AnyFunction = (...args: never[]) => unknown

/**
 * Caches a function by its arguments and by a version that is cheap to read, such as the time of the last change. The
 * version is read before the function is called, and at most once in a session for the same arguments.
 * @throws CorralError `ERR_OPTION` on an unknown or invalid option, `ERR_NAMESPACE` without a namespace.
 */
export function versioned<A extends readonly unknown[], V = unknown>(
  options: VersionedOptions<A, V>,
): Versioned<A, V> {
  rejectUnknownOptions(options, OPTIONS, 'versioned()')
  const { version, region, maxSize, expirationTime = '1h', wait, shouldCache } = options
  const namespace = checkNamespace(options.namespace)
  expectFunction(version, '`version` of versioned()')
  milliseconds(expirationTime, 'expirationTime')
  if (region !== undefined && maxSize !== undefined)
    throw new CorralError(
      'ERR_OPTION',
      'Expected either `region` or `maxSize`, got both: how much a region keeps is up to its backend.',
    )
  if (maxSize !== undefined) expectInteger(maxSize, '`maxSize` of versioned()')
  expectThat(
    region === undefined || typeof region?.cacheOnArguments === 'function',
    region,
    '`region` of versioned() to be a region, such as makeRegion() returns',
  )
  const { functionKeyGenerator: generator = functionKeyGenerator } = options
  expectFunction(generator, '`functionKeyGenerator` of versioned()')
  const check = makeCheck(`the versioned function '${namespace}'`, options)
  const home = (region ?? boundedRegion(maxSize ?? 1_000)) as Region
  const registeredAs = `versioned ${namespace}`

  const decorate = <T extends V>(fn: (...args: A) => MaybePromise<T>): VersionedFunction<A, T> => {
    expectFunction(fn, '`fn` of versioned()')
    const keyOf = generator(namespace, fn as AnyFunction) as (...args: A) => string
    const groupOf = (key: string) => name('versioned', [text('key', key)])
    const ask = (args: A) => () => version(...args)
    const current = (args: A, key: string) => check.current(key, ask(args))

    // Entries of others that were made from a result rest on its version too, wherever they are read.
    const present = (argsText: string) => {
      const args = partsOf(argsText) as unknown as A
      return current(args, keyOf(...args))
    }
    const known = registered(registeredAs)
    register(registeredAs, known === undefined ? present : 'ambiguous')
    const handUp = (args: A, token: string) => {
      if (currentScope() === undefined) return
      let argsText: string | undefined
      try {
        argsText = textOfParts(args)
      } catch {
        // A name cannot give these arguments back, so a value that rests on them could not be checked later.
      }
      handUpVersion(
        argsText !== undefined && registered(registeredAs) === present
          ? readName(registeredAs, argsText, token)
          : undefined,
        `it was made from the versioned '${namespace}', whose version cannot be asked for by name`,
      )
    }

    const inner = home.cacheOnArguments({
      functionKeyGenerator:
        () =>
        (token, ...args) =>
          `${keyOf(...(args as unknown as A))}@${JSON.stringify(token)}`,
      expirationTime,
      ...(shouldCache !== undefined && { shouldCache }),
      ...(wait !== undefined && { wait }),
    })((_token: string, ...args: A): MaybePromise<T> => {
      // Known to all versions, so that one invalidation reaches the results of every session.
      currentScope()?.collector?.add([groupOf(keyOf(...args))])
      return fn(...args)
    }) as unknown as CachedFunction<[token: string, ...args: A], T>

    const withVersion = <R>(
      args: A,
      read: (args: A, key: string) => MaybePromise<string>,
      work: (token: string) => Promise<R>,
    ): Promise<R> => {
      try {
        const token = andThen(read(args, keyOf(...args)), (found) => {
          handUp(args, found)
          return work(found)
        })
        return Promise.resolve(token)
      } catch (error) {
        return Promise.reject(error)
      }
    }
    const invalidate = async (mode: 'hard' | 'soft', args: A): Promise<void> => {
      const key = keyOf(...args)
      check.forget(key)
      await home.invalidateDependencies(groupOf(key), mode)
    }

    const call = (...args: A) => withVersion(args, current, (token) => inner(token, ...args))
    for (const property of ['name', 'length'] as const)
      Object.defineProperty(call, property, { value: fn[property], configurable: true })
    return Object.assign(call, {
      original: (...args: A) => fn(...args),
      version: async (...args: A) => current(args, keyOf(...args)),
      key: (token: string, ...args: A) => inner.key(token, ...args),
      get: (...args: A) => withVersion(args, current, (token) => inner.get(token, ...args)),
      refresh: (...args: A) =>
        withVersion(
          args,
          (_, key) => check.renewed(key, ask(args)),
          (token) => inner.refresh(token, ...args),
        ),
      invalidate: Object.assign((...args: A) => invalidate('hard', args), {
        soft: (...args: A) => invalidate('soft', args),
      }),
    })
  }
  return decorate as unknown as Versioned<A, V>
}
