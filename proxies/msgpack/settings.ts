import type { StructuredOptions } from '../../src/wire/codec.js'
import { type FidelityRules, structuredClasses } from '../../src/wire/keeps.js'

/** The result of the options of `msgpack()`. */
export interface Settings {
  readonly lossy: boolean
  readonly regExp: boolean
  readonly maxBytes: number
  readonly keeps: FidelityRules
}

/** The settings of both directions, so that a decoded value equals the encoded one. */
export const FAITHFUL = { moreTypes: true, structuredClone: true, copyBuffers: true }

/** Completes the options with the kinds of values that msgpackr keeps in its faithful mode. */
export function settingsOf({ maxDepth, ...options }: Required<StructuredOptions>): Settings {
  return {
    ...options,
    keeps: {
      encoding: 'msgpack()',
      structured: true,
      holes: false,
      loneSurrogates: false,
      classes: structuredClasses(options.regExp),
      maxDepth,
    },
  }
}
