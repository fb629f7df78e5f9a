import { CorralError } from '../base/errors.js'
import type { FidelityRules } from './keeps.js'
import { explainLoss, type Loss } from './loss.js'
import { isWellFormed } from './text.js'

/** Kept · kept, but a −0 is in there · has to be looked at with care. */
export const FITS = 0
export const NEGATIVE_ZERO = 1
export const UNSURE = 2
export type Fit = typeof FITS | typeof NEGATIVE_ZERO | typeof UNSURE

/**
 * Answers whether an encoding keeps all of a value, fast: no path, no memory of parts that were seen. Looking at more parts
 * than there are bytes in the encoded value means that parts are shared or cyclic; that is unsure too.
 */
export type QuickCheck = (value: unknown, encodedBytes: number) => Fit

const PLAIN = Object.prototype

/**
 * A quick check for an encoding. Keys named `__proto__` are found in the encoded bytes, not here; so are the traces of
 * half surrogate pairs, and only where such bytes occur is `text` looked at.
 */
export function quickCheck(
  keeps: FidelityRules,
  { text = false }: { readonly text?: boolean } = {},
): QuickCheck {
  const { classes, maxDepth } = keeps
  let left = 0
  let negativeZero = false

  const keepsNumber = (value: number): boolean => {
    if (value === 0) {
      if (1 / value < 0) negativeZero = true
      return true
    }
    return keeps.nonFinite || Number.isFinite(value)
  }
  const keepsScalar = (value: unknown): boolean => {
    switch (typeof value) {
      case 'string':
        return !text || isWellFormed(value)
      case 'boolean':
        return true
      case 'number':
        return keepsNumber(value)
      case 'undefined':
        return keeps.undefined
      case 'bigint':
        return keeps.bigint
      default:
        return false
    }
  }
  const keepsAny = (value: unknown, depth: number): boolean =>
    typeof value === 'object' ? value === null || keepsObject(value, depth) : keepsScalar(value)

  const keepsObject = (value: object, depth: number): boolean => {
    if (depth > maxDepth || left < 0) return false
    const prototype = Object.getPrototypeOf(value)
    if (prototype === PLAIN || prototype === null) {
      let parts = 0
      for (const key in value) {
        const part = (value as Record<string, unknown>)[key]
        parts++
        if (text && !isWellFormed(key)) return false
        if (typeof part === 'object' ? part !== null && !keepsObject(part, depth + 1) : !keepsScalar(part))
          return false
      }
      left -= parts
      return true
    }
    return Array.isArray(value) ? keepsArray(value, prototype, depth) : keepsInstance(value, prototype, depth)
  }
  const keepsArray = (value: readonly unknown[], prototype: object, depth: number): boolean => {
    if (prototype !== Array.prototype) return false
    left -= value.length
    if (left < 0) return false
    for (let i = 0; i < value.length; i++) {
      const part = value[i]
      if (typeof part === 'object' ? part !== null && !keepsObject(part, depth + 1) : !keepsScalar(part))
        return false
      if (part === undefined && !keeps.holes && !(i in value)) return false
    }
    return true
  }
  const keepsInstance = (value: object, prototype: object, depth: number): boolean => {
    switch (classes.get(prototype)) {
      case 'whole':
        return true
      case 'map':
        for (const [key, part] of value as Map<unknown, unknown>) {
          left -= 2
          if (!keepsAny(key, depth + 1) || !keepsAny(part, depth + 1)) return false
        }
        return true
      case 'set':
        for (const part of value as Set<unknown>) {
          left--
          if (!keepsAny(part, depth + 1)) return false
        }
        return true
      default:
        return false
    }
  }
  return (value, encodedBytes) => {
    left = encodedBytes - 1
    negativeZero = false
    if (!keepsAny(value, 1) || left < 0) return UNSURE
    return negativeZero ? NEGATIVE_ZERO : FITS
  }
}

/**
 * Looks at a value with care: sees each object once and knows where it is.
 * @throws CorralError `ERR_UNENCODABLE` naming the path of the first part that the encoding would not keep.
 */
export function carefulCheck(keeps: FidelityRules, value: unknown): typeof FITS | typeof NEGATIVE_ZERO {
  const { loss, negativeZero } = explainLoss(keeps, value)
  if (loss !== undefined) refuseLoss(keeps, loss)
  return negativeZero ? NEGATIVE_ZERO : FITS
}

const ADVICE = 'Store plain data, choose an encoding that keeps it (docs/encodings.md), or pass lossy: true.'

/** @throws CorralError `ERR_UNENCODABLE` naming the path of a part that an encoding would not keep. */
export function refuseLoss(keeps: FidelityRules, { path, what, advice = ADVICE }: Loss): never {
  throw new CorralError(
    'ERR_UNENCODABLE',
    `Expected a value that ${keeps.encoding} keeps whole, got ${what} at \`${path}\`. ${advice}`,
  )
}

/** The error if an encoder failed on a value in which the scan found nothing that it cannot keep. */
export function encoderFailed(keeps: Pick<FidelityRules, 'encoding'>, error: unknown): CorralError {
  if (CorralError.is(error)) return error
  return new CorralError(
    'ERR_UNENCODABLE',
    `Expected a value that ${keeps.encoding} can encode, got one on which it failed: ${error instanceof Error ? error.message : String(error)}. Store plainer or smaller data.`,
    { cause: error },
  )
}
