import { NO_VALUE, type NoValue } from '../backend/cached-value.js'
import { backendError } from '../backend/typed-failures.js'
import { CorralError } from '../base/errors.js'
import { andThen, ignoreRejection, isPromise, type MaybePromise } from '../base/maybe-promise.js'
import { checkKey, checkKeys } from '../functions/keys.js'
import { freshnessOf, isFreshHit, readOne, recordRead, serve, serveHit } from './freshness.js'
import { limitOf, type RegionUse } from './holder.js'
import type { ReadOptions, Region } from './types.js'

/** What reads a region and creates nothing. */
export function regionReads<V>({
  use,
  operation,
}: RegionUse): Pick<Region<V>, 'get' | 'getMulti' | 'peek' | 'has' | 'getValueMetadata'> {
  const get = (key: string, read?: ReadOptions): Promise<V | NoValue> => {
    try {
      const region = use()
      checkKey(key)
      const limit = limitOf(read?.expirationTime)
      const found = readOne(region, key)
      if (isFreshHit(region, found, limit)) return Promise.resolve(serveHit<V>(region, key, found, limit))
      const staleToo = read?.ignoreExpiration === true
      if (!isPromise(found)) return Promise.resolve(serve<V>(region, key, found, limit, staleToo))
      return found.then(
        (entry) => serve<V>(region, key, entry, limit, staleToo),
        (error) => {
          throw backendError(region.chain.name, error)
        },
      )
    } catch (error) {
      return Promise.reject(error)
    }
  }

  const getMulti = (keys: readonly string[], read: ReadOptions = {}): Promise<(V | NoValue)[]> =>
    operation((region) => {
      checkKeys(keys)
      const limit = limitOf(read.expirationTime)
      return andThen(region.backend.getMulti(keys), (entries) =>
        Promise.all(
          entries.map((entry, i) =>
            serve<V>(region, keys[i] as string, entry, limit, read.ignoreExpiration === true),
          ),
        ),
      )
    })

  return {
    get,
    getMulti,
    peek(key, read) {
      const at = use()
      checkKey(key)
      const found = readOne(at, key)
      const limit = limitOf(read?.expirationTime)
      if (isFreshHit(at, found, limit)) return serveHit<V>(at, key, found, limit)
      const answer: MaybePromise<V | NoValue> = isPromise(found)
        ? found.then(() => NO_VALUE)
        : serve<V>(at, key, found, limit, read?.ignoreExpiration === true)
      if (!isPromise<V | NoValue>(answer)) return answer as V | NoValue
      void ignoreRejection(answer)
      throw new CorralError(
        'ERR_ASYNC_BACKEND',
        `peek() needs a chain that answers at once; '${at.backend.name}' or a layer around it answers later, or the check of a version does. Use get().`,
      )
    },
    has: async (key, read) => (await get(key, read)) !== NO_VALUE,
    getValueMetadata: (key, read = {}) =>
      operation(async (at) => {
        checkKey(key)
        const found = await at.backend.get(key)
        const limit = limitOf(read.expirationTime)
        const freshness = await freshnessOf(at, key, found, limit)
        if (
          found === undefined ||
          freshness === 'invalid' ||
          (freshness === 'stale' && read.ignoreExpiration !== true)
        )
          return undefined
        recordRead(at, key, found, freshness === 'stale', limit)
        return {
          payload: found.payload as V,
          metadata: found.metadata,
          age: at.precise.now() - found.metadata.createdAt,
        }
      }),
  }
}
