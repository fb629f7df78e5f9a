import { CorralError, messageOf } from '../base/errors.js'
import { prototypeHere } from '../base/realms.js'
import type { FidelityRules } from './keeps.js'
import { carefulCheck, lossOf, type Traits } from './loss.js'
import { isWellFormed } from './text.js'

/** An encoder, and the traces that lossy values leave in its output. */
export interface Encoder<Encoded extends { readonly length: number }> {
  encode(payload: unknown): Encoded
  /** Whether a key named `__proto__` may be in there. */
  mentionsProto(encoded: Encoded): boolean
  /** Whether half a surrogate pair may have been in there; absent where the encoding keeps it. */
  mayHoldLoneSurrogate?(encoded: Encoded): boolean
  /**
   * A copy that the encoder encodes rightly of a payload with something of another realm in it. Absent where the encoder does not tell
   * classes by their identity.
   */
  ofThisRealm?(payload: unknown): unknown
  /** Encodes a payload with a −0 in it; absent where the encoding keeps it. */
  encodeNegativeZeros?(payload: unknown): Encoded
}

/**
 * An encoder that refuses values that would change.
 * @throws CorralError `ERR_UNENCODABLE` naming the path of the first part that the encoding would not keep.
 */
export function faithfulEncoder<Encoded extends { readonly length: number }>(
  keeps: FidelityRules,
  encoder: Encoder<Encoded>,
): (payload: unknown) => Encoded {
  const check = quickCheck(keeps, false)
  const checkWithText = quickCheck(keeps, true)
  const checked = (payload: unknown, encoded: Encoded): Traits => {
    const quick = encoder.mayHoldLoneSurrogate?.(encoded) === true ? checkWithText : check
    const found = quick(payload, encoded.length)
    return found === undefined || encoder.mentionsProto(encoded) ? carefulCheck(keeps, payload) : found
  }
  return lossyEncoder(keeps, (payload) => {
    const encoded = encodeForeign(keeps, encoder, payload)
    const { negativeZero, foreign } = checked(payload, encoded)
    if (!negativeZero && !foreign) return encoded
    const mended = foreign && encoder.ofThisRealm !== undefined ? encoder.ofThisRealm(payload) : payload
    if (negativeZero && encoder.encodeNegativeZeros !== undefined) return encoder.encodeNegativeZeros(mended)
    return mended === payload ? encoded : encoder.encode(mended)
  })
}

/** Encodes a value of this realm, and of another one if that is the reason why the encoder fails. */
function encodeForeign<Encoded extends { readonly length: number }>(
  keeps: FidelityRules,
  encoder: Encoder<Encoded>,
  payload: unknown,
): Encoded {
  try {
    return encoder.encode(payload)
  } catch (error) {
    if (!CorralError.is(error) && carefulCheck(keeps, payload).foreign && encoder.ofThisRealm !== undefined)
      return encoder.encode(encoder.ofThisRealm(payload))
    throw error
  }
}

/** An encoder that takes every value; its failures get the code and the form of Corral's errors. */
export function lossyEncoder<Encoded>(
  keeps: FidelityRules,
  encode: (payload: unknown) => Encoded,
): (payload: unknown) => Encoded {
  return (payload) => {
    try {
      return encode(payload)
    } catch (error) {
      throw encoderFailed(keeps, error)
    }
  }
}

/** The error if an encoder failed on a value in which the scan found nothing that it cannot keep. */
export function encoderFailed(keeps: FidelityRules, error: unknown): CorralError {
  if (CorralError.is(error)) return error
  return new CorralError(
    'ERR_UNENCODABLE',
    `Expected a value that ${keeps.encoding} can encode, got one on which it failed: ${messageOf(error)}. Store plainer or smaller data.`,
    { cause: error },
  )
}

/**
 * Finds out fast whether an encoding keeps all of a value: no path, no memory of parts that were seen. More parts than there
 * are bytes in the encoded value mean that parts are shared or cyclic. That is unsure too.
 * @returns `undefined`: unsure
 */
type QuickCheck = (value: unknown, encodedBytes: number) => Traits | undefined

interface QuickLook extends Traits {
  readonly keeps: FidelityRules
  readonly text: boolean
  /** The number of parts that may still be seen. */
  left: number
}

/**
 * A quick check for an encoding. Keys named `__proto__` are found in the encoded bytes, not here; so are the traces of
 * half surrogate pairs, and only where such bytes occur is `text` looked at.
 */
function quickCheck(keeps: FidelityRules, text: boolean): QuickCheck {
  const look: QuickLook = { keeps, text, left: 0, negativeZero: false, foreign: false }
  return (value, encodedBytes) => {
    look.left = encodedBytes - 1
    look.negativeZero = false
    look.foreign = false
    return keepsPart(look, value, 1) && look.left >= 0 ? look : undefined
  }
}

function keepsPart(look: QuickLook, part: unknown, depth: number): boolean {
  switch (typeof part) {
    case 'object':
      return part === null || keepsObject(look, part, depth)
    case 'string':
      return !look.text || isWellFormed(part)
    case 'boolean':
      return true
    case 'number':
      if (part === 0) {
        if (1 / part < 0) look.negativeZero = true
        return true
      }
      return look.keeps.structured || Number.isFinite(part)
    default:
      return lossOf(look.keeps, part) === undefined
  }
}

const PLAIN = Object.prototype

function keepsObject(look: QuickLook, value: object, depth: number): boolean {
  if (depth > look.keeps.maxDepth || look.left < 0) return false
  const prototype: object | null = Object.getPrototypeOf(value)
  if (prototype !== PLAIN && prototype !== null) return keepsInstance(look, value, prototype, depth)
  return keepsProperties(look, value, depth)
}

function keepsProperties(look: QuickLook, value: object, depth: number): boolean {
  let parts = 0
  for (const key in value) {
    parts++
    if (look.text && !isWellFormed(key)) return false
    if (!keepsPart(look, (value as Record<string, unknown>)[key], depth + 1)) return false
  }
  look.left -= parts
  return true
}

function keepsElements(look: QuickLook, value: readonly unknown[], depth: number): boolean {
  look.left -= value.length
  if (look.left < 0) return false
  for (let i = 0; i < value.length; i++) {
    const part = value[i]
    if (!keepsPart(look, part, depth + 1)) return false
    if (part === undefined && !look.keeps.holes && !(i in value)) return false
  }
  return true
}

function keepsInstance(look: QuickLook, value: object, prototype: object, depth: number): boolean {
  const isList = Array.isArray(value)
  if (prototype === Array.prototype) return isList && keepsElements(look, value as readonly unknown[], depth)
  switch (isList ? undefined : look.keeps.classes.get(prototype)) {
    case 'foreign':
      look.foreign = true
      return true
    case 'whole':
      return true
    case 'map':
      for (const [key, part] of value as Map<unknown, unknown>) {
        look.left -= 2
        if (!keepsPart(look, key, depth + 1) || !keepsPart(look, part, depth + 1)) return false
      }
      return true
    case 'set':
      for (const part of value as Set<unknown>) {
        look.left--
        if (!keepsPart(look, part, depth + 1)) return false
      }
      return true
    default: {
      // Rare: the prototype is of another realm, or of no class that is kept.
      const here = prototypeHere(value)
      if (here === prototype || here === null) return false
      look.foreign = true
      return here === PLAIN ? keepsProperties(look, value, depth) : keepsInstance(look, value, here, depth)
    }
  }
}
