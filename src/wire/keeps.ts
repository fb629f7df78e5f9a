/**
 * How the inside of a kept object is visited; `whole` has nothing inside that could be lost, and neither has `foreign`, which the
 * encoder takes for something else as long as it is not copied.
 */
export type Visit = 'whole' | 'foreign' | 'map' | 'set' | 'error'

/** The kinds of values that an encoding keeps beyond null, booleans, strings, finite numbers, arrays and plain objects. */
export interface FidelityRules {
  /** The encoding as users write it, such as `json()`. */
  readonly encoding: string
  /** Structured data: `undefined`, NaN, infinities, bigints and cycles are kept. */
  readonly structured: boolean
  readonly holes: boolean
  readonly loneSurrogates: boolean
  /** By prototype: an instance of a subclass is not an instance of the class that comes back. */
  readonly classes: ReadonlyMap<object, Visit>
  /** Objects nested deeper than this are refused. */
  readonly maxDepth: number
}

/** The classes of views on bytes. Their order is Node's, and stands in entries of `v8()`. */
export const VIEWS = [
  Int8Array,
  Uint8Array,
  Uint8ClampedArray,
  Int16Array,
  Uint16Array,
  Int32Array,
  Uint32Array,
  Float32Array,
  Float64Array,
  DataView,
  Buffer,
  BigInt64Array,
  BigUint64Array,
] as const

type Classes = readonly { readonly prototype: object }[]

/** The classes that every encoding of structured data keeps, and the others that one of them keeps. */
export function structuredClasses(
  regExp: boolean,
  wrappers: Classes = [],
  errors: Classes = [],
): ReadonlyMap<object, Visit> {
  const visited = (classes: Classes, visit: Visit) =>
    classes.map(({ prototype }): [object, Visit] => [prototype, visit])
  return new Map([
    ...visited([Map], 'map'),
    ...visited([Set], 'set'),
    ...visited([Date, ArrayBuffer, ...VIEWS, ...(regExp ? [RegExp] : []), ...wrappers], 'whole'),
    ...visited(errors, 'error'),
  ])
}
