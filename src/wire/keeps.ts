/** How the inside of a kept object is visited; `whole` has nothing inside that could be lost. */
export type Visit = 'whole' | 'map' | 'set' | 'error'

/** The kinds of values that an encoding keeps beyond null, booleans, strings, finite numbers, arrays and plain objects. */
export interface FidelityRules {
  /** The encoding as users write it, such as `json()`. */
  readonly encoding: string
  readonly undefined: boolean
  readonly nonFinite: boolean
  readonly bigint: boolean
  readonly holes: boolean
  readonly loneSurrogates: boolean
  readonly cycles: boolean
  /** By prototype: an instance of a subclass is not an instance of the class that comes back. */
  readonly classes: ReadonlyMap<object, Visit>
  /** Objects nested deeper than this are refused. */
  readonly maxDepth: number
}
