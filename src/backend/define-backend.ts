import type { AnyFunction } from '../base/any-function.js'
import { milliseconds } from '../base/duration.js'
import { CorralError, formatValue } from '../base/errors.js'
import { frozenCopy } from '../base/frozen.js'
import {
  andThen,
  isPromise,
  type MaybePromise,
  mapEach,
  native,
  orElse,
  promising,
} from '../base/maybe-promise.js'
import {
  expectBoolean,
  expectFunction,
  expectText,
  expectThat,
  rejectOptions,
  rejectUnknownOptions,
} from '../base/options.js'
import { MAX_DELAY, withTimeout } from '../base/timers.js'
import type { LedgerQuestion } from '../ledger/ledger.js'
import { aroundBackend } from './around.js'
import type { Backend, BackendSpec } from './backend.js'
import { asLayer, orGiveBack } from './delegate.js'
import type { Acquired, Granted, PlainMutex } from './lease.js'
import { leaseFor } from './local-lease.js'

const REQUIRED: readonly string[] = ['get', 'set', 'delete']
const LEASE = ['acquire', 'renew', 'release', 'held'] as const
const OPTIONAL = ['getMulti', 'setMulti', 'deleteMulti', 'ping', 'close', 'keys', 'mutex'] as const
/** The key that a `ping` reads in a store without one of its own. */
const PROBE = '~ping'
const ANSWERING: ReadonlySet<string> = new Set([...REQUIRED, ...LEASE, ...OPTIONAL])
const OTHERS = [
  ...['ledger', 'tracker', 'timeout', 'stores', 'copyOut'],
  ...['keepsFailures', 'trouble', 'ifAbsentFrom'],
]
const KNOWN = ['name', ...REQUIRED, ...LEASE, ...OPTIONAL, ...OTHERS]

/**
 * Completes a backend that an author wrote: batch forms, empty batches, a deadline for every operation, a lease of this
 * process where the store has none, and the stored value and the ledger's time with every lease that is granted.
 * @example
 * ```ts
 * import { type BackendSpec, type CachedValue, defineBackend } from 'corral'
 *
 * const entries = new Map<string, CachedValue>()
 * const spec: BackendSpec<CachedValue> = {
 *   name: 'map',
 *   get: (key) => entries.get(key),
 *   set: (key, value) => void entries.set(key, value),
 *   delete: (key) => void entries.delete(key),
 * }
 * export const backend = defineBackend(spec)
 * ```
 * @throws CorralError `ERR_OPTION` if a method is missing, is not a function, or only a part of the lease is there.
 */
export function defineBackend<T>(spec: BackendSpec<T>): Backend<T> {
  checkSpec(spec)
  return completeBackend(withPromises(spec), spec)
}

/**
 * The same for methods that return promises of this realm or values: a hit pays for nothing more.
 * @param actual - the backend under all proxies
 */
export function completeBackend<T>(spec: BackendSpec<T>, actual: object = spec): Backend<T> {
  const limit = milliseconds(spec.timeout ?? '10s', 'timeout')
  const backend = complete(spec, actual)
  return asLayer(limit > MAX_DELAY ? backend : withDeadlines(backend, limit))
}

/**
 * The spec with promises of this realm: an author's methods may return thenables of a client library, without `catch` and with
 * a `then` that returns nothing.
 */
function withPromises<T>(spec: BackendSpec<T>): BackendSpec<T> {
  const { mutex } = spec
  const members = spec as unknown as Readonly<Record<string, unknown>>
  const member = (name: string): unknown => {
    const given = members[name]
    return typeof given === 'function' && ANSWERING.has(name)
      ? promising(given as AnyFunction).bind(spec)
      : given
  }
  const copy = Object.fromEntries(KNOWN.map((name) => [name, member(name)])) as unknown as BackendSpec<T>
  return mutex === undefined ? copy : { ...copy, mutex: (key) => promisingMutex(mutex.call(spec, key)) }
}

function promisingMutex(mutex: PlainMutex): PlainMutex {
  const { locked } = mutex
  return {
    acquire: (wait) => native(mutex.acquire(wait)),
    release: () => native(mutex.release()),
    ...(locked && { locked: () => native(locked.call(mutex)) }),
  }
}

function complete<T>(spec: BackendSpec<T>, actual: object): Backend<T> {
  const { forget, ...store } = leaseFor(spec)
  const { ledger } = spec
  const get = (key: string) => spec.get(key)
  // Without a lease of the store's own each write of a batch is fenced here, one by one.
  const ownBatches = store.reach === 'store'
  /** The step after a grant where the store's own brought only the token. */
  const readAfterGrant = (
    key: string,
    question: LedgerQuestion | undefined,
    granted: Partial<Granted<T>> & Pick<Granted, 'token'>,
  ): MaybePromise<Granted<T>> => {
    const found = 'found' in granted ? granted.found : get(key)
    const { token, stamps } = granted
    const asOf =
      granted.asOf ??
      (token !== '' && question ? ledger?.open(question.clock).now(question.names) : undefined)
    return isPromise(found) || isPromise(asOf)
      ? Promise.all([found, asOf]).then(([value, time]) => ({ token, found: value, asOf: time, stamps }))
      : { token, found, asOf, stamps }
  }
  return {
    ...store,
    name: spec.name,
    get,
    getMulti(keys) {
      if (keys.length === 0) return []
      return spec.getMulti === undefined
        ? mapEach(keys, get)
        : expectLength(spec, 'getMulti', keys.length, spec.getMulti(frozenCopy(keys)))
    },
    setMulti(writes) {
      if (writes.length === 0) return []
      if (forget !== undefined) for (const [key, , { token }] of writes) if (token === undefined) forget(key)
      return spec.setMulti !== undefined && ownBatches
        ? expectLength(spec, 'setMulti', writes.length, spec.setMulti(frozenCopy(writes)))
        : mapEach(writes, (write) => store.set(...write))
    },
    deleteMulti(keys) {
      if (keys.length === 0) return
      if (forget !== undefined) for (const key of keys) forget(key)
      if (spec.deleteMulti !== undefined && ownBatches) return spec.deleteMulti(frozenCopy(keys))
      return andThen(mapEach(keys, store.delete), () => undefined)
    },
    acquire: (key, ms, options) =>
      andThen(store.acquire(key, ms, options), (acquired): MaybePromise<Acquired<T>> => {
        const { token } = acquired
        return token === undefined
          ? acquired
          : orGiveBack(
              () => readAfterGrant(key, options?.question, acquired),
              () => store.release(key, token),
            )
      }),
    ping: () => (spec.ping === undefined ? andThen(get(PROBE), () => undefined) : spec.ping()),
    close: () => spec.close?.(),
    keys: spec.keys && ((prefix) => (spec.keys as NonNullable<typeof spec.keys>)(prefix)),
    ledger,
    tracker: spec.tracker,
    stores: spec.stores,
    // A lease of this process knows no entries.
    ifAbsentFrom: spec.acquire && spec.ifAbsentFrom,
    copyOut: spec.copyOut,
    actual,
  }
}

/** A result of another length would give callers each other's values. */
function expectLength<T, R>(
  { name }: BackendSpec<T>,
  operation: string,
  count: number,
  returned: MaybePromise<readonly R[]>,
): MaybePromise<readonly R[]> {
  return andThen(returned, (results) => {
    if (Array.isArray(results) && results.length === count) return results as readonly R[]
    throw new CorralError(
      'ERR_BACKEND',
      `Expected ${name}.${operation} to return an array of ${count}, one for each key in their order, got ${
        Array.isArray(results) ? `one of ${results.length}` : formatValue(results)
      }.`,
    )
  })
}

/**
 * A store or a ledger that hangs must not hold up its callers. An operation that returns at once pays nothing.
 * @param only - the operations to bound; absent: all but `settled` and `close`.
 */
export function withDeadlines<T>(backend: Backend<T>, ms: number, only?: ReadonlySet<string>): Backend<T> {
  const isBounded = (operation: string) =>
    only === undefined ? operation !== 'settled' && operation !== 'close' : only.has(operation)
  const bounded = aroundBackend(backend, (operation, run) => {
    const work = run()
    return isPromise(work) && isBounded(operation)
      ? withTimeout(work, ms, () => late(`${backend.name}.${operation}`, ms))
      : work
  })
  return {
    ...bounded,
    acquire(key, time, options) {
      let timedOut = false
      const acquired = andThen(backend.acquire(key, time, options), (late) => {
        // The caller saw a failure and will not release the lease, so it is released here.
        if (timedOut && late.token !== undefined)
          void orElse(
            () => backend.release(key, late.token),
            () => false,
          )
        return late
      })
      if (!isPromise(acquired)) return acquired
      return withTimeout(acquired, ms, () => {
        timedOut = true
        return late(`${backend.name}.acquire`, ms)
      })
    },
  }
}

function late(operation: string, ms: number): CorralError {
  return new CorralError(
    'ERR_TIMEOUT',
    `${operation} did not return within ${ms} ms. Check the store, or raise \`timeout\` of the backend.`,
  )
}

function checkSpec<T>(spec: BackendSpec<T>): void {
  expectThat(
    typeof spec === 'object' && spec !== null,
    spec,
    'defineBackend() to receive an object of methods',
  )
  if (Object.getPrototypeOf(spec) === Object.prototype) rejectUnknownOptions(spec, KNOWN, 'defineBackend()')
  expectText(spec.name, "a backend's `name`")
  const members = spec as unknown as Readonly<Record<string, unknown>>
  for (const name of [...REQUIRED, ...LEASE, ...OPTIONAL])
    if (REQUIRED.includes(name) || members[name] !== undefined)
      expectFunction(members[name], `\`${name}\` of backend '${spec.name}'`)
  if (spec.keepsFailures !== undefined)
    expectBoolean(spec.keepsFailures, `\`keepsFailures\` of backend '${spec.name}'`)
  const { ifAbsentFrom = 0 } = spec
  expectThat(
    ifAbsentFrom >= 0 && ifAbsentFrom <= 1,
    ifAbsentFrom,
    `\`ifAbsentFrom\` of backend '${spec.name}' to be from 0 to 1`,
  )
  const missing = LEASE.filter((name) => members[name] === undefined)
  if (missing.length > 0 && missing.length < LEASE.length)
    rejectOptions(
      `Backend '${spec.name}' has only part of a lease: \`${missing.join('`, `')}\` missing. Give all of ${LEASE.join(', ')}, or none.`,
    )
}
