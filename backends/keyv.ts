/**
 * A store made for Keyv, as a backend: any of the packages `@keyv/…`, a `Map`, or a store of yours.
 *
 * A store of Keyv reads, writes and deletes. It has no lease and no ledger, so a region over it has one creator at a time
 * in this process only, and `region.invalidate()` reaches this process only: `region.guarantees.limits` says so.
 */
import type { Backend } from '../src/backend/backend.js'
import { fromBase64Text, toBase64Text } from '../src/backend/base64-text.js'
import type { Bytes } from '../src/backend/cached-value.js'
import { defineBackend } from '../src/backend/define-backend.js'
import { CorralError, formatValue } from '../src/base/errors.js'
import { andThen, type MaybePromise, native } from '../src/base/maybe-promise.js'
import { expectMethods, expectThat, ownOptions, rejectUnknownOptions } from '../src/base/options.js'
import { onePerObject } from '../src/base/process-global.js'
import { epochNow } from '../src/base/timers.js'

/**
 * The members of a store that are used. The stores of Keyv 5 and 6 have them.
 * @example
 * ```ts
 * import { keyv, type KeyvStorage } from 'corral/backends/keyv'
 *
 * const store: KeyvStorage = new Map<string, unknown>()
 * export const backend = keyv({ store })
 * ```
 */
export interface KeyvStorage {
  get(key: string): unknown
  /** `expiry` is a lifetime in ms; with `capabilities.expires`, as in Keyv 6, an epoch time in ms. */
  set(key: string, value: string, expiry?: number): unknown
  delete(key: string): unknown
  getMany?(keys: string[]): unknown
  /** Stores that swallow failures emit `error`. */
  on?(event: 'error', listener: (error: unknown) => void): unknown
  readonly capabilities?: { readonly expires?: boolean | undefined } | undefined
}

/**
 * The options of `keyv()`.
 * @example
 * ```ts
 * import type { KeyvBackendOptions } from 'corral/backends/keyv'
 *
 * export const options: KeyvBackendOptions = { store: new Map() }
 * ```
 */
export interface KeyvBackendOptions {
  /** The store itself, not a `Keyv` around it. It is never closed here. */
  readonly store: KeyvStorage
}

/** By store: the lease of a key is the backend's own, so a second backend would not see that a deletion voided a creation. */
const backendOf = onePerObject('keyv', backendOver)

/**
 * A backend of bytes over a store that was made for Keyv 5 or 6. Put an encoding around it.
 *
 * A store that swallows failures tells of them by `error` events: each operation that is under way then rejects, so that a
 * failed deletion is no lost invalidation. Every call with the same store returns the same backend.
 * @example
 * ```ts
 * import { makeRegion, wrap } from 'corral'
 * import { keyv } from 'corral/backends/keyv'
 * import { json } from 'corral/proxies/json'
 *
 * const users = makeRegion<string>({ name: 'users', backend: wrap(keyv({ store: new Map() }), json()) })
 * console.log(await users.getOrCreate('5', () => 'Ada'), users.guarantees.limits)
 * ```
 * @throws CorralError `ERR_OPTION` when `store` lacks a method, or is a `Keyv`, which hides failures.
 */
export function keyv(options: KeyvBackendOptions): Backend<Bytes> {
  return backendOf(expectStore(options))
}

function backendOver(store: KeyvStorage): Backend<Bytes> {
  const absolute = store.capabilities?.expires === true
  const heeding = failuresOf(store)
  const read = (key: string, stored: unknown) => fromBase64Text('keyv', key, stored)
  return defineBackend<Bytes>({
    name: 'keyv',
    stores: 'bytes',
    get: (key) =>
      andThen(
        heeding(() => store.get(key)),
        (stored) => read(key, stored),
      ),
    ...(typeof store.getMany === 'function' && {
      getMulti: (keys: readonly string[]) =>
        andThen(
          heeding(() => store.getMany?.([...keys])),
          (found) => listOf(found).map((stored, at) => read(keys[at] as string, stored)),
        ),
    }),
    set(key, value, { ttl }) {
      const lifetime = ttl === undefined ? undefined : Math.ceil(ttl)
      const expiry = lifetime !== undefined && absolute ? epochNow() + lifetime : lifetime
      return andThen(
        heeding(() => store.set(key, toBase64Text(value), expiry)),
        (result) => {
          // A Map returns itself, most stores return true or nothing.
          if (result === false)
            throw new CorralError('ERR_BACKEND', 'The store of Keyv refused a write: it returned false.')
        },
      )
    },
    delete: (key) =>
      andThen(
        heeding(() => store.delete(key)),
        (was) => (typeof was === 'boolean' ? was : undefined),
      ),
  })
}

function expectStore(options: KeyvBackendOptions): KeyvStorage {
  options = ownOptions(options)
  rejectUnknownOptions(options, ['store'], 'keyv()')
  const { store } = options
  expectMethods(store, ['get', 'set', 'delete'], '`store` of keyv() to be a store of Keyv')
  expectThat(
    !('store' in store && 'stats' in store),
    store,
    '`store` of keyv() to be a store, not a Keyv, which hides failed deletions',
    'Pass its store: keyv({ store: yours.store }).',
  )
  return store
}

function listOf(found: unknown): readonly unknown[] {
  if (Array.isArray(found)) return found
  throw new CorralError(
    'ERR_BACKEND',
    `Expected getMany() of the store to return a list, got ${formatValue(found)}.`,
  )
}

/** Runs operations. One that seems to succeed while the store emits an `error` may be the one that failed: it rejects. */
function failuresOf(store: KeyvStorage): <R>(run: () => R) => MaybePromise<Awaited<R>> {
  let failures = 0
  let latest: unknown
  store.on?.('error', (error) => {
    failures++
    latest = error
  })
  return <R>(run: () => R) => {
    const before = failures
    const heed = (result: Awaited<R>): Awaited<R> => {
      if (failures === before) return result
      throw new CorralError('ERR_BACKEND', 'The store of Keyv emitted an error, and did not throw it.', {
        cause: latest,
      })
    }
    const running = run()
    return andThen(native(running as MaybePromise<Awaited<R>>), heed)
  }
}
