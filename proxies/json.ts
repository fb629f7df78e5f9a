import { randomUUID } from 'node:crypto'
import type { Bytes, CachedValue } from '../src/backend/cached-value.js'
import { CorralError } from '../src/base/errors.js'
import { expectFunction, rejectUnknownOptions } from '../src/base/options.js'
import { mapValues } from '../src/chain/map-values.js'
import type { BackendProxy } from '../src/chain/proxy.js'
import { CODEC_JSON, refuseLarge, sizeLimits } from '../src/wire/codec.js'
import { carefulCheck, encoderFailed, NEGATIVE_ZERO, quickCheck, UNSURE } from '../src/wire/fidelity.js'
import { closeFrame, openFrame, readFrame } from '../src/wire/frame.js'
import { hasProtoKey, isDeeper } from '../src/wire/guards.js'
import type { FidelityRules } from '../src/wire/keeps.js'
import { type JsonTransform, strictReplacer } from './json/replacer.js'

export type { JsonTransform }

export interface JsonOptions {
  /** As the function of `JSON.stringify`. Together with `reviver` it keeps values that JSON alone does not. */
  readonly replacer?: JsonTransform
  /** As the function of `JSON.parse`. */
  readonly reviver?: JsonTransform
  /** Store the JSON text without checking that it keeps the whole value. @default false */
  readonly lossy?: boolean
  /** Larger payloads are refused at `set` and misses when read. In bytes. @default 16 MiB */
  readonly maxBytes?: number
  /** Deeper nesting is refused at `set` and a miss when read. @default 500 */
  readonly maxDepth?: number
}

const OPTIONS = ['replacer', 'reviver', 'lossy', 'maxBytes', 'maxDepth']

/** `JSON.stringify` writes −0 as 0, although `JSON.parse` reads it. No value has this text by chance. */
const STAND_IN = `-0:${randomUUID()}`

/**
 * Encodes values as JSON text: other tools and languages read it. Keeps all JSON values, and −0, and `undefined` as a
 * whole payload; a `replacer` and its `reviver` keep more.
 * @throws CorralError `ERR_OPTION` for options that it does not take. The chain's `set` fails with `ERR_UNENCODABLE`,
 *   naming the path of the part that would be lost, and with `ERR_VALUE_TOO_LARGE`.
 */
export function json(options: JsonOptions = {}): BackendProxy<CachedValue, Bytes> {
  rejectUnknownOptions(options, OPTIONS, 'json()')
  const { replacer, reviver, lossy = false } = options
  if (replacer !== undefined) expectFunction(replacer, '`replacer` of json()')
  if (reviver !== undefined) expectFunction(reviver, '`reviver` of json()')
  const { maxBytes, maxDepth } = sizeLimits(options, 'json()')
  const textOf = lossy ? lossyText(replacer, maxDepth) : strictText(replacer, maxDepth)

  return mapValues<CachedValue, Bytes>({
    name: 'json',
    inner: 'bytes',
    outer: 'values',
    encode({ payload, metadata }, key) {
      const text = payload === undefined ? '' : textOf(payload)
      const size = Buffer.byteLength(text)
      refuseLarge(size, maxBytes, 'json()')
      const { bytes, at } = openFrame(CODEC_JSON, metadata, size)
      bytes.write(text, at, size)
      return closeFrame(bytes, key)
    },
    decode(stored, key) {
      const entry = readFrame(stored, key)
      if (entry === undefined || entry.codec !== CODEC_JSON) return undefined
      const { bytes, start, end, metadata } = entry
      if (end - start > maxBytes) return undefined
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

function keepsOf(maxDepth: number): FidelityRules {
  return {
    encoding: 'json()',
    undefined: false,
    nonFinite: false,
    bigint: false,
    holes: false,
    loneSurrogates: true,
    cycles: false,
    classes: new Map(),
    maxDepth,
  }
}

function strictText(replacer: JsonTransform | undefined, maxDepth: number): (payload: unknown) => string {
  const keeps = keepsOf(maxDepth)
  const check = quickCheck(keeps)
  const mend = (payload: unknown, transform: JsonTransform): string =>
    (JSON.stringify(payload, transform) ?? '').replaceAll(`"${STAND_IN}"`, '-0')

  if (replacer !== undefined)
    return (payload) => {
      try {
        return refuseProto(mend(payload, strictReplacer(keeps, replacer, STAND_IN)))
      } catch (error) {
        throw encoderFailed(keeps, error)
      }
    }
  return (payload) => {
    let text: string | undefined
    try {
      text = JSON.stringify(payload)
    } catch (error) {
      carefulCheck(keeps, payload)
      throw encoderFailed(keeps, error)
    }
    let fit = text === undefined ? UNSURE : check(payload, text.length)
    if (fit === UNSURE || hasProtoText(text ?? '')) fit = carefulCheck(keeps, payload)
    if (fit === NEGATIVE_ZERO) text = mend(payload, (_, part) => (Object.is(part, -0) ? STAND_IN : part))
    return text ?? ''
  }
}

function lossyText(replacer: JsonTransform | undefined, maxDepth: number): (payload: unknown) => string {
  const keeps = keepsOf(maxDepth)
  return (payload) => {
    try {
      return refuseProto(JSON.stringify(payload, replacer) ?? '')
    } catch (error) {
      throw encoderFailed(keeps, error)
    }
  }
}

/** A value that no read would accept is not stored, even with `lossy`. */
function refuseProto(text: string): string {
  if (!hasProtoText(text)) return text
  throw new CorralError(
    'ERR_UNENCODABLE',
    'Expected no key named __proto__, got one in the text that JSON made of the value: no encoding takes it. Rename the key.',
  )
}
