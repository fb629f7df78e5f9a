import type { FidelityRules, Visit } from '../../src/wire/keeps.js'

/** The result of the options of `msgpack()`. */
export interface Settings {
  readonly lossy: boolean
  readonly regExp: boolean
  readonly maxBytes: number
  readonly keeps: FidelityRules
}

/** The settings of both directions, so that a decoded value equals the encoded one. */
export const FAITHFUL = { moreTypes: true, structuredClone: true, copyBuffers: true }

/** The kinds of values that msgpackr keeps in its faithful mode. */
export function keepsOf(regExp: boolean, maxDepth: number): FidelityRules {
  return {
    encoding: 'msgpack()',
    undefined: true,
    nonFinite: true,
    bigint: true,
    holes: false,
    loneSurrogates: false,
    cycles: true,
    classes: regExp ? new Map([...CLASSES, [RegExp.prototype, 'whole']]) : CLASSES,
    maxDepth,
  }
}

const CLASSES: ReadonlyMap<object, Visit> = new Map<object, Visit>([
  [Map.prototype, 'map'],
  [Set.prototype, 'set'],
  ...[
    Date,
    Buffer,
    ArrayBuffer,
    DataView,
    Int8Array,
    Uint8Array,
    Uint8ClampedArray,
    Int16Array,
    Uint16Array,
    Int32Array,
    Uint32Array,
    Float32Array,
    Float64Array,
    BigInt64Array,
    BigUint64Array,
  ].map(({ prototype }): [object, Visit] => [prototype, 'whole']),
])
