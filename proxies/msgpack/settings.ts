import type { StructuredOptions } from '../../src/wire/codec.js'
import { type FidelityRules, structuredClasses } from '../../src/wire/keeps.js'
import { foreignViews } from './views.js'

/** The result of the options of `msgpack()`. */
export interface Settings {
  readonly lossy: boolean
  readonly regExp: boolean
  readonly maxBytes: number
  readonly keeps: FidelityRules
}

/** Completes the options with the kinds of values that msgpackr keeps in its faithful mode. */
export function settingsOf({ maxDepth, ...options }: Required<StructuredOptions>): Settings {
  return {
    ...options,
    keeps: {
      encoding: 'msgpack()',
      structured: true,
      holes: false,
      loneSurrogates: false,
      classes: new Map([...structuredClasses(options.regExp), ...foreignViews]),
      maxDepth,
    },
  }
}
