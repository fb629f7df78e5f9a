import type { Representation, Write } from '../backend/backend.js'
import { mapAcquired } from '../backend/lease.js'
import { reportUndecodable } from '../base/diagnostics.js'
import { CorralError, formatValue } from '../base/errors.js'
import { all, andThen, isPromise, type MaybePromise, mapEach, mapLazily } from '../base/maybe-promise.js'
import type { BackendProxy, Codec } from './proxy.js'

/**
 * Changes every value on its way down and back up. A stored value that cannot be decoded is a miss, counted and reported.
 * @example
 * ```ts
 * import { mapValues, type CachedValue } from 'corral'
 *
 * export const upperCase = mapValues<CachedValue<string>, CachedValue<string>>({
 *   encode: ({ payload, metadata }) => ({ payload: payload.toUpperCase(), metadata }),
 *   decode: (stored) => stored,
 * })
 * ```
 * @throws CorralError `ERR_OPTION` unless the codec has `encode` and `decode`; the proxy throws `ERR_CHAIN` if it does not fit.
 */
export function mapValues<Outer, Inner>(codec: Codec<Outer, Inner>): BackendProxy<Outer, Inner> {
  if (typeof codec?.encode !== 'function' || typeof codec.decode !== 'function')
    throw new CorralError(
      'ERR_OPTION',
      `Expected mapValues() to receive { encode, decode }, got ${formatValue(codec)}.`,
    )
  const layer = codec.name ?? 'codec'
  const decode = (stored: Inner | undefined, key: string): MaybePromise<Outer | undefined> => {
    if (stored === undefined) return undefined
    try {
      const value = codec.decode(stored, key)
      if (value === undefined) return reportUndecodable(layer, key, 'not in the form that this layer writes')
      if (!isPromise(value)) return value
      return value.then(
        (later) => later ?? reportUndecodable(layer, key, 'not in the form that this layer writes'),
        (error) => reportUndecodable(layer, key, 'decoding failed', error),
      )
    } catch (error) {
      return reportUndecodable(layer, key, 'decoding failed', error)
    }
  }
  return (next) => {
    checkFit(layer, codec.inner, next.stores)
    const encode = ([key, value, options]: Write<Outer>): MaybePromise<Write<Inner>> =>
      andThen(codec.encode(value, key), (inner) => [key, inner, options])
    return {
      name: next.name,
      get(key) {
        const stored = next.get(key)
        return isPromise(stored) ? mapLazily(stored, (later) => decode(later, key)) : decode(stored, key)
      },
      set: (key, value, options) =>
        andThen(codec.encode(value, key), (inner) => next.set(key, inner, options)),
      getMulti: (keys) =>
        andThen(next.getMulti(keys), (stored) => all(stored.map((one, i) => decode(one, keys[i] as string)))),
      setMulti: (writes) => andThen(mapEach(writes, encode), (encoded) => next.setMulti(encoded)),
      delete: (key) => next.delete(key),
      deleteMulti: (keys) => next.deleteMulti(keys),
      acquire: (key, ms, options) =>
        andThen(next.acquire(key, ms, options), (acquired) =>
          mapAcquired(
            acquired,
            ({ found }) => decode(found, key),
            (stored) => decode(stored, key),
          ),
        ),
      renew: (key, token, ms) => next.renew(key, token, ms),
      release: (key, token) => next.release(key, token),
      held: (key) => next.held(key),
      close: () => next.close(),
      ledger: next.ledger,
      tracker: next.tracker,
      reach: next.reach,
      stores: codec.outer,
      limits: next.limits,
      actual: next.actual,
    }
  }
}

function checkFit(
  layer: string,
  expected: Representation | undefined,
  found: Representation | undefined,
): void {
  if (expected === undefined || found === undefined || expected === found) return
  throw new CorralError(
    'ERR_CHAIN',
    expected === 'values'
      ? `${layer} works on values, but below it are bytes: put an encoding such as msgpack() below it.`
      : `${layer} works on bytes, but below it are values already: move it below the encoding, or drop it.`,
  )
}
