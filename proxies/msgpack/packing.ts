import { Packr } from 'msgpackr'
import { CorralError } from '../../src/base/errors.js'
import { refuseLarge } from '../../src/wire/codec.js'
import { carefulCheck, encoderFailed, NEGATIVE_ZERO, quickCheck, UNSURE } from '../../src/wire/fidelity.js'
import { hasProtoKey, hasRegExp } from '../../src/wire/guards.js'
import type { FidelityRules } from '../../src/wire/keeps.js'
import { replaceNegativeZeros } from './negative-zero.js'
import { mayHoldLoneSurrogate, mayHoldRegExp, mendNegativeZeros, mentionsProto, STAND_IN } from './packed.js'
import { FAITHFUL, type Settings } from './settings.js'

/** Packs a payload. */
export type Pack = (payload: unknown) => Buffer

/** A function that packs, and refuses values that would change. Its result lies on msgpackr's slab. */
export function packing(settings: Settings, more: object): Pack {
  // Strictly taken, a value with a toJSON of its own is refused; a field of that name is data.
  const packr = new Packr({ ...FAITHFUL, ...more, ...(settings.lossy ? {} : { useToJSON: false }) })
  return settings.lossy ? lossyPacking(packr, settings) : strictPacking(packr, settings)
}

function lossyPacking(packr: Packr, { regExp, maxBytes, keeps }: Settings): Pack {
  return (payload) => {
    let packed: Buffer
    try {
      packed = packr.pack(payload)
    } catch (error) {
      throw encoderFailed(keeps, error)
    }
    refuseLarge(packed.length, maxBytes, 'msgpack()')
    // A value that no read would accept is not stored, even with `lossy`.
    if (mentionsProto(packed) && hasProtoKey(payload)) refuse('a key named __proto__', 'Rename the key.')
    if (!regExp && mayHoldRegExp(packed) && hasRegExp(payload))
      refuse('a RegExp', 'Store its source, or allow it: regExp: true.')
    return packed
  }
}

function strictPacking(packr: Packr, { maxBytes, keeps }: Settings): Pack {
  const check = quickCheck(keeps)
  const checkWithText = quickCheck(keeps, { text: true })
  return (payload) => {
    let packed: Buffer
    try {
      packed = packr.pack(payload)
    } catch (error) {
      carefulCheck(keeps, payload)
      throw encoderFailed(keeps, error)
    }
    refuseLarge(packed.length, maxBytes, 'msgpack()')
    let fit = (mayHoldLoneSurrogate(packed) ? checkWithText : check)(payload, packed.length)
    if (fit === UNSURE || mentionsProto(packed)) fit = carefulCheck(keeps, payload)
    return fit === NEGATIVE_ZERO ? packNegativeZeros(packr, payload, keeps) : packed
  }
}

function packNegativeZeros(packr: Packr, payload: unknown, keeps: FidelityRules): Buffer {
  const { copy, count } = replaceNegativeZeros(payload, STAND_IN)
  const packed = packr.pack(copy)
  if (mendNegativeZeros(packed, count)) return packed
  throw encoderFailed(keeps, new Error('a −0 could not be told from other data'))
}

function refuse(what: string, advice: string): never {
  throw new CorralError(
    'ERR_UNENCODABLE',
    `Expected a value that msgpack() can read back, got one with ${what} in it. ${advice}`,
  )
}
