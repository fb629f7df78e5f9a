import { frozenMetadata, NO_VALUE, type NoValue } from '../backend/cached-value.js'
import { backendError } from '../backend/typed-failures.js'
import { CorralError } from '../base/errors.js'
import { andThen, ignoreRejection, isPromise, type MaybePromise } from '../base/maybe-promise.js'
import { optionError } from '../base/options.js'
import type { CreateOptions } from '../creation/types.js'
import { freshFor } from '../freshness/freshness.js'
import { checkKey, listKeys } from '../functions/keys.js'
import type { FunctionStore } from '../functions/types.js'
import { limitOf, NO_OPTIONS, termsOf, withinOf } from './checks.js'
import { policyFor } from './policy.js'
import {
  countRead,
  freshnessOf,
  isFreshHit,
  newest,
  readMulti,
  readOne,
  recordRead,
  serve,
  serveHit,
  whenRead,
} from './serve.js'
import type { ReadTerms, RegionHandle, RegionState } from './state.js'
import type { ReadOptions, Region, ValueMetadata } from './types.js'

/** The operations that read a region and create nothing. */
export function regionReads<V>(
  handle: RegionHandle,
): Pick<Region<V>, 'get' | 'getMulti' | 'peek' | 'has' | 'keys' | 'getValueMetadata'> {
  const { use, operation } = handle
  return {
    get: (key, read) => get<V, ReadOptions>(handle, key, read, termsOf),
    has: async (key, read) => (await get<V, ReadOptions>(handle, key, read, termsOf)) !== NO_VALUE,
    peek: (key, read) => peek<V>(use(), key, read),
    keys: (prefix = '') => listKeysOf(use(), prefix),
    getMulti: (given, read) => getMulti<V, ReadOptions>(handle, given, read, termsOf),
    getValueMetadata: (key, read) => operation((region) => getValueMetadata<V>(region, key, read)),
  }
}

/** The reads of cached functions, by the options of the function and of its call. */
export function functionReads<V>(handle: RegionHandle): Pick<FunctionStore<V>, 'get' | 'getMulti'> {
  return {
    get: (key, options) => get<V, CreateOptions<V>>(handle, key, options, termsOfCall),
    getMulti: (keys, options) => getMulti<V, CreateOptions<V>>(handle, keys, options, termsOfCall),
  }
}

function termsOfCall(region: RegionState, options: CreateOptions<never> = NO_OPTIONS): ReadTerms {
  const { expirationTime, maxStaleness } = options
  return {
    ...{ expiration: limitOf(expirationTime), within: withinOf(maxStaleness) },
    policy: policyFor(region, options, true),
  }
}

type TermsOf<O> = (region: RegionState, options: O | undefined) => ReadTerms

function get<V, O>(
  { use }: RegionHandle,
  key: string,
  options: O | undefined,
  termsOf: TermsOf<O>,
): Promise<V | NoValue> {
  try {
    const region = use()
    checkKey(key)
    const terms = termsOf(region, options)
    const { expiration, policy, within } = terms
    const stored = region.keyOf(key)
    const found = readOne(region, stored, within)
    if (isFreshHit(region, found, expiration, policy.jitter))
      return Promise.resolve(serveHit<V>(region, key, found, expiration, policy.jitter))
    return Promise.resolve(
      whenRead(region, found, (one) =>
        andThen(newest(region, key, stored, one, terms), (entry) => serve<V>(region, key, entry, terms)),
      ),
    )
  } catch (error) {
    return Promise.reject(error)
  }
}

function getMulti<V, O>(
  { operation }: RegionHandle,
  given: Iterable<string>,
  options: O | undefined,
  termsOf: TermsOf<O>,
): Promise<(V | NoValue)[]> {
  return operation((region) => {
    const keys = listKeys(given)
    const terms = termsOf(region, options)
    const counted = new Set<string>()
    return andThen(readMulti(region, keys, terms), (entries) =>
      Promise.all(
        entries.map((entry, i) => {
          const key = keys[i] as string
          const isFirst = counted.size < counted.add(key).size
          return serve<V>(region, key, entry, terms, isFirst)
        }),
      ),
    )
  })
}

function peek<V>(region: RegionState, key: string, read?: ReadOptions): V | NoValue {
  checkKey(key)
  const terms = termsOf(region, read)
  const { expiration, within } = terms
  const stored = region.keyOf(key)
  const copy = readOne(region, stored, within)
  if (isFreshHit(region, copy, expiration)) return serveHit<V>(region, key, copy, expiration)
  const found = isPromise(copy) ? copy : newest(region, key, stored, copy, terms)
  const result: MaybePromise<V | NoValue> = isPromise(found)
    ? found.then(() => NO_VALUE)
    : serve<V>(region, key, found, terms)
  if (!isPromise<V | NoValue>(result)) return result as V | NoValue
  void ignoreRejection(result)
  throw new CorralError(
    'ERR_ASYNC_BACKEND',
    `peek() needs a chain that answers at once; '${region.backend.name}' or a layer around it answers later, or the check of a version does. Use get().`,
  )
}

/** @throws CorralError `ERR_UNSUPPORTED` where the chain cannot list keys. */
function listKeysOf({ keys, backend: { name } }: RegionState, prefix: string): AsyncIterable<string> {
  if (typeof prefix !== 'string') throw optionError(prefix, 'a text that keys begin with')
  if (keys === undefined)
    throw new CorralError(
      'ERR_UNSUPPORTED',
      `Expected a chain that can list its keys, got one over '${name}' that cannot. Take memory(), lmdb() or redis(), and give mapKeys() its inverse.`,
    )
  return typedKeys(name, keys(prefix))
}

async function* typedKeys(backend: string, keys: AsyncIterable<string>): AsyncGenerator<string, void> {
  try {
    yield* keys
  } catch (error) {
    throw backendError(backend, error)
  }
}

async function getValueMetadata<V>(
  region: RegionState,
  key: string,
  read: ReadOptions | undefined,
): Promise<ValueMetadata<V> | undefined> {
  checkKey(key)
  const terms = termsOf(region, read)
  const stored = region.keyOf(key)
  const found = await whenRead(region, readOne(region, stored, terms.within), (one) =>
    newest(region, key, stored, one, terms),
  )
  const freshness = await freshnessOf(region, key, found, terms)
  countRead(region, key, freshness, found, terms)
  if (found === undefined || freshness === 'invalid') return undefined
  if (freshness === 'stale' && terms.staleToo !== true) return undefined
  recordRead(region, key, found, terms, freshness === 'stale')
  const { payload, metadata } = found
  const { createdAt } = metadata
  const expiresAt = createdAt + freshFor(metadata, terms.expiration, region.expiration, region.policy.jitter)
  return {
    payload: payload as V,
    metadata: frozenMetadata(metadata),
    age: region.precise.now() - createdAt,
    expiresAt,
  }
}
