import { milliseconds } from '../base/duration.js'
import { SERVING_CHECKS } from '../creation/create-options.js'
import type { ServingOptions } from '../creation/types.js'

/** `ServingOptions` in numbers. */
export interface Policy {
  /** The options as they were given, for calls that add some. */
  readonly given: ServingOptions
  /** ms; `undefined`: as long as the entry is fresh, at least a minute. */
  readonly grace: number | undefined
  readonly jitter: number
}

const NAMES = Object.keys(SERVING_CHECKS) as readonly (keyof ServingOptions)[]

/** The policy of a region, or of one call. */
export function policyOf(given: ServingOptions): Policy {
  const { grace, jitter = 0 } = given
  return { given, grace: grace && milliseconds(grace, 'grace'), jitter }
}

/** The policy of a call: its options stand before those of the region. */
export function policyFor({ policy }: { readonly policy: Policy }, options: ServingOptions): Policy {
  let merged: ServingOptions | undefined
  for (const name of NAMES)
    if (options[name] !== undefined) merged = { ...(merged ?? policy.given), [name]: options[name] }
  return merged === undefined ? policy : policyOf(merged)
}
