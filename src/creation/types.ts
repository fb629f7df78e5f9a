import type { CachedValue, NoValue } from '../backend/cached-value.js'
import type { Duration } from '../base/duration.js'
import type { MaybePromise } from '../base/maybe-promise.js'

/**
 * Describes a creation to its creator: the keys, the abort signal, and the ways to describe the value.
 * @example
 * ```ts
 * import { type Creation, makeRegion } from 'corral'
 *
 * async function login({ expireIn }: Creation): Promise<string> {
 *   const { token, lifetime } = { token: 'secret', lifetime: 240_000 }
 *   expireIn(lifetime)
 *   return token
 * }
 * const loadToken = () => makeRegion<string>().getOrCreate('token', login)
 * ```
 */
export interface Creation {
  readonly key: string
  /** All keys of this creation, in the order in which values are expected. */
  readonly keys: readonly string[]
  /**
   * When this creation started: epoch ms, later than all that this process began before over the same backend. If a region
   * of that backend has a clock ahead of this one, so is this time.
   */
  readonly startedAt: number
  /** Aborted when no caller waits for the value any longer. */
  readonly signal: AbortSignal
  /** The value that stands, if one does: of the key, or of the first of several. For a conditional request. */
  readonly previous: CachedValue | undefined
  /**
   * Returns the value that stands, for the creator to return: the source says that it did not change. It is then stored as
   * new, and depends on the same names. If an invalidation came meanwhile it is not stored.
   * @param key - one key of the creation; needed if there are several. @default the only one
   * @throws CorralError `ERR_CREATOR` if no value stands; `ERR_KEY` for a key of no creation, and for none of several;
   *   `ERR_OUTSIDE_CREATION` after the end of the creation.
   */
  unchanged<T = never>(key?: string): T
  /**
   * Gives the entry its own expiration time, from facts that the creator learnt. A number is ms.
   * @param key - one key of the creation. @default all of them
   * @throws CorralError `ERR_OPTION` for an invalid duration; `ERR_KEY` for a key of no creation;
   *   `ERR_OUTSIDE_CREATION` after the end of the creation.
   */
  expireIn(duration: Duration, key?: string): void
  /**
   * How long the value may be served as stale after its expiry, instead of the `grace` of its readers. `0`: never. A number is
   * ms. Readers with `grace: 0` take nothing stale in any case.
   * @param key - one key of the creation. @default all of them
   * @throws CorralError as `expireIn`
   */
  grace(duration: Duration, key?: string): void
  /**
   * Declares the dependencies of one key's value; the function `dependsOn` declares for all keys of the creation.
   * @throws CorralError `ERR_NO_LEDGER` where the region does not track dependencies; `ERR_KEY` for a key of no creation;
   *   `ERR_OUTSIDE_CREATION` after the end of the creation.
   */
  dependsOn(key: string, ...names: readonly (string | readonly string[])[]): void
}

/**
 * Creates the value of one key.
 * @example
 * ```ts
 * import type { Creator } from 'corral'
 *
 * const loadUser: Creator<string> = async ({ key, signal }) => {
 *   const response = await fetch(`https://example.org/users/${key}`, { signal })
 *   return response.text()
 * }
 * ```
 */
export type Creator<T> = (creation: Creation) => MaybePromise<T>

/**
 * Creates the values of many keys, in the order of the keys. `NO_VALUE` stands for a key that has none: it is not stored.
 * @example
 * ```ts
 * import { type MultiCreator, NO_VALUE } from 'corral'
 *
 * const lengths: MultiCreator<number> = (keys) => keys.map((key) => (key === '' ? NO_VALUE : key.length))
 * ```
 */
export type MultiCreator<T> = (
  keys: readonly string[],
  creation: Creation,
) => MaybePromise<readonly (T | NoValue)[]>

/**
 * How a region serves while a value is renewed. The options of a call stand before those of its cached function, and these
 * before those of the region.
 * @example
 * ```ts
 * import { makeRegion, type ServingOptions } from 'corral'
 * import { memory } from 'corral/backends/memory'
 *
 * const lenient: ServingOptions = { grace: '1h', retryAfter: '10s' }
 * const rates = makeRegion<number>({ backend: memory(), expirationTime: '5m', ...lenient })
 * ```
 */
export interface ServingOptions {
  /**
   * How long after its expiry a value may still be served as stale: the store keeps it so long, and no longer. `0`: never. A
   * number is ms. @default as long again as the value is fresh, at least a minute
   */
  readonly grace?: Duration | undefined
  /**
   * After a creator failed while a stale value stands, no process tries again for so long, and all callers get the stale
   * value. An invalidation ends it; a refresh ignores it. `0`: every caller that finds the value stale tries. A number is
   * ms. @default '5s', and 0 if `grace` is 0
   */
  readonly retryAfter?: Duration | undefined
  /**
   * Whether a creator's failure may be answered with a stale value. A failure that is an answer, such as "not found", is not
   * to be hidden: return `false`, and the caller gets the error. @default every failure
   */
  readonly serveStaleIf?: ((error: unknown) => boolean) | undefined
  /**
   * How long this process remembers the failure of a creator while no value stands, and rejects callers with it. An
   * invalidation or a `set` forgets it. A number is ms. @default not at all
   */
  readonly errorExpirationTime?: Duration | undefined
  /**
   * How long a caller to which a stale value stands waits for the new one. Then it takes the stale one, and the creation goes
   * on. A number is ms. @default as long as it takes
   */
  readonly softTimeout?: Duration | undefined
  /**
   * The caller's own deadline, from the start of its call. Then it gets the value that stands, or `ERR_CREATION_TIMEOUT`. A
   * number is ms. @default as long as its own creator takes, and `lease.wait` for others
   */
  readonly hardTimeout?: Duration | undefined
  /**
   * A creation that has not ended by then loses its lease, and its signal is aborted. Its result is not stored. So does one
   * whose callers all gave up, after the time of a lease. A number is ms. @default '5m', or `hardTimeout` if it is longer
   */
  readonly abandonAfter?: Duration | undefined
  /**
   * Renews a value behind the back of a caller that found it fresh, near the end of its life: after this part of it, such as
   * `0.8`, or by chance, the earlier the longer its creation took: `'xfetch'`. One caller of all processes renews; after a
   * failure the next try comes after `retryAfter`. The caller does not wait. @default not at all
   */
  readonly refreshAhead?: number | 'xfetch' | undefined
  /**
   * Shortens each lifetime by a random part of at most so much, so that values of one moment expire one after another. The
   * entry keeps its lifetime, so all processes agree on it. @default 0
   */
  readonly jitter?: number | undefined
}

/**
 * Options of one call that may create.
 * @example
 * ```ts
 * import type { CreateOptions } from 'corral'
 *
 * const impatient: CreateOptions<string> = { softTimeout: '200ms', signal: AbortSignal.timeout(5_000) }
 * ```
 */
export interface CreateOptions<T> extends ServingOptions {
  /**
   * How long the value is fresh to this call. A value that the call creates to last shorter than the region says has that time
   * for every reader. A number is ms. @default the entry's, else the region's
   */
  readonly expirationTime?: Duration | undefined
  /** Whether to store a created value. The caller gets it either way. @default always */
  readonly shouldCache?: ((value: T, key: string) => boolean) | undefined
  /**
   * With `near()` in the chain: how late this call may see an invalidation of another process; `0` is never. It can ask for less
   * than the near cache's own bound, not for more. A number is ms. @default the bound of `near()`; 0 inside a creator
   */
  readonly maxStaleness?: Duration | undefined
  /** Ends this caller's waiting, also for a store that hangs. The creation goes on for other callers; without any, its own signal is aborted. */
  readonly signal?: AbortSignal | undefined
}
