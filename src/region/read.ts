import { NO_VALUE, type NoValue } from '../backend/cached-value.js'
import { backendError } from '../backend/typed-failures.js'
import { CorralError } from '../base/errors.js'
import { andThen, ignoreRejection, isPromise, type MaybePromise } from '../base/maybe-promise.js'
import { optionError } from '../base/options.js'
import { freshFor } from '../freshness/freshness.js'
import { checkKey, listKeys } from '../functions/keys.js'
import { readLimits } from './checks.js'
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
import type { RegionHandle, RegionState } from './state.js'
import type { ReadOptions, Region, ValueMetadata } from './types.js'

/** The operations that read a region and create nothing. */
export function regionReads<V>(
  handle: RegionHandle,
): Pick<Region<V>, 'get' | 'getMulti' | 'peek' | 'has' | 'keys' | 'getValueMetadata'> {
  const { use, operation } = handle
  return {
    get: (key, read) => get<V>(handle, key, read),
    has: async (key, read) => (await get<V>(handle, key, read)) !== NO_VALUE,
    peek: (key, read) => peek<V>(use(), key, read),
    keys: (prefix = '') => listKeysOf(use(), prefix),
    getMulti: (given, read) =>
      operation((region) => {
        const keys = listKeys(given)
        const { limit, staleToo, within } = readLimits(read)
        return andThen(readMulti(region, keys, limit, within), (entries) =>
          Promise.all(entries.map((entry, i) => serve<V>(region, keys[i] as string, entry, limit, staleToo))),
        )
      }),
    getValueMetadata: (key, read) => operation((region) => getValueMetadata<V>(region, key, read)),
  }
}

function get<V>({ use }: RegionHandle, key: string, read?: ReadOptions): Promise<V | NoValue> {
  try {
    const region = use()
    checkKey(key)
    const { limit, staleToo, within } = readLimits(read)
    const stored = region.keyOf(key)
    const found = readOne(region, stored, within)
    if (isFreshHit(region, found, limit)) return Promise.resolve(serveHit<V>(region, key, found, limit))
    return Promise.resolve(
      whenRead(region, found, (one) =>
        andThen(newest(region, key, stored, one, limit), (entry) =>
          serve<V>(region, key, entry, limit, staleToo),
        ),
      ),
    )
  } catch (error) {
    return Promise.reject(error)
  }
}

function peek<V>(region: RegionState, key: string, read?: ReadOptions): V | NoValue {
  checkKey(key)
  const { limit, staleToo, within } = readLimits(read)
  const stored = region.keyOf(key)
  const copy = readOne(region, stored, within)
  if (isFreshHit(region, copy, limit)) return serveHit<V>(region, key, copy, limit)
  const found = isPromise(copy) ? copy : newest(region, key, stored, copy, limit)
  const result: MaybePromise<V | NoValue> = isPromise(found)
    ? found.then(() => NO_VALUE)
    : serve<V>(region, key, found, limit, staleToo)
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
  const { limit, staleToo, within } = readLimits(read)
  const stored = region.keyOf(key)
  const found = await whenRead(region, readOne(region, stored, within), (one) =>
    newest(region, key, stored, one, limit),
  )
  const freshness = await freshnessOf(region, key, found, limit)
  countRead(region, key, freshness, found)
  if (found === undefined || freshness === 'invalid') return undefined
  if (freshness === 'stale' && !staleToo) return undefined
  recordRead(region, key, found, limit, freshness === 'stale')
  const { payload, metadata } = found
  const { createdAt } = metadata
  const expiresAt = createdAt + freshFor(metadata, limit, region.expiration, region.policy.jitter)
  return { payload: payload as V, metadata, age: region.precise.now() - createdAt, expiresAt }
}
