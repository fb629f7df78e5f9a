import { type Duration, expectDuration } from '../base/duration.js'
import { expectFunction, expectMethods, expectThat, type OptionCheck } from '../base/options.js'
import { staleness } from '../base/staleness.js'
import type { ServingOptions } from './types.js'

/** The checks of `ServingOptions`. */
export const SERVING_CHECKS: Readonly<Record<string, OptionCheck>> = {
  grace: expectDurationOrZero,
  retryAfter: expectDurationOrZero,
  serveStaleIf: (value, subject) => expectFunction(value, subject, 'a function of the error'),
  errorExpirationTime: expectDurationOrZero,
  softTimeout: expectDuration,
  hardTimeout: expectDuration,
  abandonAfter: expectDuration,
  refreshAhead: (value, subject) =>
    expectThat(
      value === 'xfetch' || (typeof value === 'number' && value > 0 && value < 1),
      value,
      `${subject} to be a part of the lifetime, between 0 and 1, or 'xfetch'`,
    ),
  jitter: (value, subject) =>
    expectThat(
      typeof value === 'number' && value >= 0 && value <= 1,
      value,
      `${subject} to be a part of the lifetime, from 0 to 1`,
    ),
}

/** The serving options among others, as far as they are given. */
export function servingOptions(options: ServingOptions): ServingOptions {
  const given = Object.entries(options).filter(
    ([name, value]) => name in SERVING_CHECKS && value !== undefined,
  )
  return Object.fromEntries(given)
}

function expectDurationOrZero(value: unknown, subject: string): void {
  if (value !== 0) expectDuration(value, `${subject}, unless it is 0,`)
}

/** In the options of a call: the moment of `performance.now()` at which the caller's own call began, if that was earlier. */
export const SINCE: unique symbol = Symbol('since')

export interface Begun {
  readonly [SINCE]?: number
}

/** The checks of `CreateOptions`. */
export const CREATE_OPTIONS: Readonly<Record<string, OptionCheck>> = {
  expirationTime: expectDuration,
  shouldCache: (value, subject) => expectFunction(value, subject, 'a function of value and key'),
  ...SERVING_CHECKS,
  maxStaleness: (value) => staleness(value as Duration),
  signal: (value, subject) =>
    expectMethods(value, ['addEventListener', 'removeEventListener'], `${subject} to be an AbortSignal`),
}
