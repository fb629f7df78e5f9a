import type { Backend, Representation, Write } from '../backend/backend.js'
import { layerOver, type Overrides } from '../backend/delegate.js'
import { mapAcquired } from '../backend/lease.js'
import { reportUndecodable } from '../base/diagnostics.js'
import { CorralError } from '../base/errors.js'
import {
  all,
  andThen,
  isPromise,
  type MaybePromise,
  mapEach,
  mapLazily,
  native,
} from '../base/maybe-promise.js'
import { checkOptions, expectFunction, expectMethods, expectOneOf, expectText } from '../base/options.js'
import { isPlainObject } from '../base/realms.js'
import { capturedValues } from './captured-values.js'
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
 * @throws CorralError `ERR_OPTION` unless the codec has `encode` and `decode`, and nothing that is unknown; the proxy throws `ERR_CHAIN` if it does not fit.
 */
export function mapValues<Outer, Inner>(codec: Codec<Outer, Inner>): BackendProxy<Outer, Inner> {
  expectMethods(codec, ['encode', 'decode'], 'mapValues() to receive { encode, decode }')
  if (isPlainObject(codec)) checkOptions(codec, 'mapValues()', MEMBERS)
  const layer = codec.name ?? 'codec'
  const failed = (key: string) => (error: unknown) => reportUndecodable(layer, key, 'decoding failed', error)
  const otherForm = (stored: Inner, key: string): undefined =>
    codec.isOlder?.(stored, key) === true
      ? undefined
      : reportUndecodable(layer, key, 'not in the form that this layer writes')
  const decode = (stored: Inner | undefined, key: string): MaybePromise<Outer | undefined> => {
    if (stored === undefined) return undefined
    try {
      const value = native(codec.decode(stored, key))
      return isPromise(value)
        ? value.then((later) => later ?? otherForm(stored, key), failed(key))
        : (value ?? otherForm(stored, key))
    } catch (error) {
      return failed(key)(error)
    }
  }
  return (next) => {
    checkFit(layer, codec.inner, next.stores)
    // An entry below is another object. Where nothing encodes, a store keeps the caller's own object.
    const encodes = next.capture !== undefined || next.stores === 'bytes'
    const captured = encodes ? capturedValues(codec, next) : undefined
    const encodeOne = (value: Outer, key: string): MaybePromise<Inner> =>
      captured?.take(value, key) ?? native(codec.encode(value, key))
    const encode = ([key, value, options]: Write<Outer>): MaybePromise<Write<Inner>> =>
      andThen(encodeOne(value, key), (inner) => [key, inner, options])
    const layerAbove: Overrides<Outer> = {
      get(key) {
        const stored = next.get(key)
        return isPromise(stored) ? mapLazily(stored, decode, key) : decode(stored, key)
      },
      set: (key, value, options) => andThen(encodeOne(value, key), (inner) => next.set(key, inner, options)),
      getMulti: (keys) =>
        andThen(next.getMulti(keys), (stored) => all(stored.map((one, i) => decode(one, keys[i] as string)))),
      setMulti: (writes) =>
        andThen(mapEach(writes, encode), (encoded) => next.setMulti(Object.freeze(encoded))),
      acquire: (key, ms, options) =>
        andThen(next.acquire(key, ms, options), (acquired) =>
          mapAcquired(
            acquired,
            ({ found }) => decode(found, key),
            (stored) => decode(stored, key),
          ),
        ),
      stores: codec.outer,
      capture: captured?.capture,
      copyOut: undefined,
    }
    // Every operation that takes or returns a value is replaced; the others do not know its type.
    return layerOver(next as Backend<unknown> as Backend<Outer>, layerAbove, true)
  }
}

const representation = (value: unknown, subject: string) => expectOneOf(value, subject, ['values', 'bytes'])
const MEMBERS = {
  name: expectText,
  inner: representation,
  outer: representation,
  encode: expectFunction,
  decode: expectFunction,
  isOlder: expectFunction,
}

/** @throws CorralError `ERR_CHAIN` if a layer works on another representation than the backend below it holds. */
export function checkFit(
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
