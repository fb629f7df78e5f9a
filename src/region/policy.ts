import { report } from '../base/diagnostics.js'
import { milliseconds } from '../base/duration.js'
import { expectSync } from '../base/expect-sync.js'
import { rejectOptions } from '../base/options.js'
import { SERVING_CHECKS } from '../creation/create-options.js'
import type { ServingOptions } from '../creation/types.js'

/** `ServingOptions` in numbers. */
export interface Policy {
  /** The options as they were given, for calls that add some. */
  readonly given: ServingOptions
  /** ms; `undefined`: as long as the entry is fresh, at least a minute. */
  readonly grace: number | undefined
  /** ms; 0: off. */
  readonly retryAfter: number
  /** ms; 0: errors are not remembered. */
  readonly errorsFor: number
  readonly jitter: number
}

const NAMES = Object.keys(SERVING_CHECKS) as readonly (keyof ServingOptions)[]

/** The policy of a region, or of one call. @throws CorralError `ERR_OPTION` for options that contradict each other. */
export function policyOf(given: ServingOptions): Policy {
  const { jitter = 0 } = given
  const grace = orZero(given, 'grace')
  const retryAfter = orZero(given, 'retryAfter')
  if (grace === 0 && retryAfter)
    rejectOptions(
      'Expected no `retryAfter` with `grace: 0`, got both. Nothing is served stale, so every caller has to try: leave out one of them.',
    )
  return {
    given,
    grace,
    retryAfter: retryAfter ?? (grace === 0 ? 0 : 5_000),
    errorsFor: orZero(given, 'errorExpirationTime') ?? 0,
    jitter,
  }
}

function orZero(
  given: ServingOptions,
  name: 'grace' | 'retryAfter' | 'errorExpirationTime',
): number | undefined {
  const value = given[name]
  return value === undefined || value === 0 ? value : milliseconds(value, name)
}

/** The policy of a call: its options stand before those of the region. */
export function policyFor({ policy }: { readonly policy: Policy }, options: ServingOptions): Policy {
  let merged: ServingOptions | undefined
  for (const name of NAMES)
    if (options[name] !== undefined) merged = { ...(merged ?? policy.given), [name]: options[name] }
  return merged === undefined ? policy : policyOf(merged)
}

/** Whether a failure of a creator may be answered with a value that stands. */
export function mayFallBack({ given: { serveStaleIf }, grace }: Policy, error: unknown): boolean {
  if (grace === 0) return false
  if (serveStaleIf === undefined) return true
  try {
    return expectSync('`serveStaleIf`', serveStaleIf(error))
  } catch (failure) {
    report('failure', () => ({ where: 'serveStaleIf', error: failure }))
    return false
  }
}
