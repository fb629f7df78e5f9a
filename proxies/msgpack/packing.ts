import { Packr } from 'msgpackr'
import { cloned } from '../../src/base/cloned.js'
import { CorralError } from '../../src/base/errors.js'
import { refuseLarge } from '../../src/wire/codec.js'
import { encoderFailed, faithfulEncoder, lossyEncoder } from '../../src/wire/fidelity.js'
import { hasProtoKey, hasRegExp } from '../../src/wire/guards.js'
import type { FidelityRules } from '../../src/wire/keeps.js'
import { FAITHFUL } from './faithful.js'
import { replaceNegativeZeros } from './negative-zero.js'
import { mayHoldLoneSurrogate, mayHoldRegExp, mendNegativeZeros, mentionsProto, STAND_IN } from './packed.js'
import type { Settings } from './settings.js'
import { standInOf } from './views.js'

/** Packs a payload. */
export type Pack = (payload: unknown) => Buffer

/** A function that packs, and refuses values that would change. Its result lies on msgpackr's slab. */
export function packing({ lossy, regExp, maxBytes, keeps }: Settings, more: object): Pack {
  // Strictly taken, a value with a toJSON of its own is refused; a field of that name is data.
  const packr = new Packr({ ...FAITHFUL, ...more, ...(lossy ? {} : { useToJSON: false }) })
  const encode = (payload: unknown): Buffer => {
    const packed = packr.pack(payload)
    refuseLarge(packed.length, maxBytes, 'msgpack()')
    return packed
  }
  if (lossy) return lossyEncoder(keeps, (payload) => refuseUnreadable(encode(payload), payload, regExp))
  return faithfulEncoder(keeps, {
    encode,
    mentionsProto,
    mayHoldLoneSurrogate,
    ofThisRealm: (payload) => cloned(payload, standInOf),
    encodeNegativeZeros: (payload) => packNegativeZeros(packr, payload, keeps),
  })
}

/** A value that no read would accept is not stored, even with `lossy`. */
function refuseUnreadable(packed: Buffer, payload: unknown, regExp: boolean): Buffer {
  if (mentionsProto(packed) && hasProtoKey(payload)) refuse('a key named __proto__', 'Rename the key.')
  if (!regExp && mayHoldRegExp(packed) && hasRegExp(payload))
    refuse('a RegExp', 'Store its source, or allow it: regExp: true.')
  return packed
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
