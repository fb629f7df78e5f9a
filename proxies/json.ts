import { randomUUID } from 'node:crypto'
import type { Bytes, CachedValue } from '../src/backend/cached-value.js'
import { CorralError } from '../src/base/errors.js'
import { expectFunction, ownOptions } from '../src/base/options.js'
import type { BackendProxy } from '../src/chain/proxy.js'
import {
  CODEC_JSON,
  type EncodingOptions,
  encoding,
  encodingOptions,
  refuseLarge,
} from '../src/wire/codec.js'
import { faithfulEncoder, lossyEncoder } from '../src/wire/fidelity.js'
import { closeFrame, openFrame, readFrameOf } from '../src/wire/frame.js'
import { hasProtoKey, isDeeper } from '../src/wire/guards.js'
import type { FidelityRules } from '../src/wire/keeps.js'
import { type JsonTransform, strictReplacer } from './json/replacer.js'

export type { JsonTransform }

/**
 * Options of `json()`.
 * @example
 * ```ts
 * import { json, type JsonOptions } from 'corral/proxies/json'
 *
 * // Keeps bigints, as text with a mark.
 * const withBigints: JsonOptions = {
 *   replacer: (_, value) => (typeof value === 'bigint' ? `bigint:${value}` : value),
 *   reviver: (_, value) =>
 *     typeof value === 'string' && value.startsWith('bigint:') ? BigInt(value.slice(7)) : value,
 * }
 * const proxy = json(withBigints)
 * ```
 */
export interface JsonOptions extends EncodingOptions {
  /** As the function of `JSON.stringify`. Together with `reviver` it keeps values that JSON alone does not. */
  readonly replacer?: JsonTransform | undefined
  /** As the function of `JSON.parse`. */
  readonly reviver?: JsonTransform | undefined
}

/** `JSON.stringify` writes −0 as 0, although `JSON.parse` reads it. No value has this text by chance. */
const STAND_IN = `-0:${randomUUID()}`

/**
 * Encodes values as JSON text: other tools and languages read it. Keeps all JSON values, and −0, and `undefined` as a
 * whole payload; a `replacer` and its `reviver` keep more.
 * @example
 * ```ts
 * import { makeRegion, wrap } from 'corral'
 * import { memcached } from 'corral/backends/memcached'
 * import { json } from 'corral/proxies/json'
 *
 * const backend = wrap(memcached('localhost:11211'), json({ maxBytes: 500_000 }))
 * const products = makeRegion<{ id: number }>({ name: 'products', backend })
 * ```
 * @throws CorralError `ERR_OPTION` for options that it does not take. The chain's `set` fails with `ERR_UNENCODABLE`,
 *   naming the path of the part that would be lost, and with `ERR_VALUE_TOO_LARGE`.
 */
export function json(options: JsonOptions = {}): BackendProxy<CachedValue, Bytes> {
  options = ownOptions(options)
  const { lossy, maxBytes, maxDepth } = encodingOptions(options, 'json()', ['replacer', 'reviver'])
  const { replacer, reviver } = options
  if (replacer !== undefined) expectFunction(replacer, '`replacer` of json()')
  if (reviver !== undefined) expectFunction(reviver, '`reviver` of json()')
  const textOf = stringifying(replacer, lossy, maxDepth)

  return encoding('json', {
    encode({ payload, metadata }, key) {
      const text = payload === undefined ? '' : textOf(payload)
      const size = Buffer.byteLength(text)
      refuseLarge(size, maxBytes, 'json()')
      const { bytes, at } = openFrame(CODEC_JSON, metadata, size, key)
      bytes.write(text, at, size)
      return closeFrame(bytes, key)
    },
    decode(stored, key) {
      const entry = readFrameOf(CODEC_JSON, maxBytes, stored, key)
      if (entry === undefined) return undefined
      const { bytes, start, end, metadata } = entry
      // JSON has no text without a value, so that none stands for a payload that is undefined.
      if (start === end) return { payload: undefined, metadata }
      const text = bytes.toString('utf8', start, end)
      if (mayHideProto(text) && hasProtoKey(JSON.parse(text))) return undefined
      const payload: unknown = JSON.parse(text, reviver)
      // A level takes two characters at least. A reviver has walked the value already, and stops at the stack's end.
      if (reviver === undefined && text.length >= maxDepth * 2 && isDeeper(payload, maxDepth))
        return undefined
      return { payload, metadata }
    },
  })
}

/** The key itself, or an escape for one of the letters it is made of, which `JSON.stringify` never writes. */
function mayHideProto(text: string): boolean {
  return text.includes('__proto__') || (text.includes('\\u00') && /\\u00(?:5f|70|72|6f|74)/i.test(text))
}

/**
 * Whether text that JSON.stringify wrote has the key: inside a string its quotes would be escaped. The part without
 * the first quote is looked for before, because quotes are everywhere and underscores are not.
 */
function hasProtoText(text: string): boolean {
  return text.includes('__proto__":') && text.includes('"__proto__":')
}

function stringifying(
  replacer: JsonTransform | undefined,
  lossy: boolean,
  maxDepth: number,
): (payload: unknown) => string {
  const keeps: FidelityRules = {
    encoding: 'json()',
    structured: false,
    holes: false,
    loneSurrogates: true,
    classes: new Map(),
    maxDepth,
  }
  const encode = (payload: unknown, transform?: JsonTransform) => JSON.stringify(payload, transform) ?? ''
  const mended = (payload: unknown, transform: JsonTransform) =>
    encode(payload, transform).replaceAll(`"${STAND_IN}"`, '-0')

  if (lossy) return lossyEncoder(keeps, (payload) => refuseProto(encode(payload, replacer)))
  if (replacer !== undefined)
    return lossyEncoder(keeps, (payload) =>
      refuseProto(mended(payload, strictReplacer(keeps, replacer, STAND_IN))),
    )
  return faithfulEncoder(keeps, {
    encode,
    mentionsProto: hasProtoText,
    encodeNegativeZeros: (payload) => mended(payload, (_, part) => (Object.is(part, -0) ? STAND_IN : part)),
  })
}

/** A value that no read would accept is not stored, even with `lossy`. */
function refuseProto(text: string): string {
  if (!hasProtoText(text)) return text
  throw new CorralError(
    'ERR_UNENCODABLE',
    'Expected no key named __proto__, got one in the text that JSON made of the value: no encoding takes it. Rename the key.',
  )
}
