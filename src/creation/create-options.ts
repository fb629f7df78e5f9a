import { expectDuration } from '../base/duration.js'
import { expectFunction, expectMethods, type OptionCheck } from '../base/options.js'

/** The checks of `CreateOptions`. */
export const CREATE_OPTIONS: Readonly<Record<string, OptionCheck>> = {
  expirationTime: expectDuration,
  shouldCache: (value, subject) => expectFunction(value, subject, 'a function of value and key'),
  wait: expectDuration,
  signal: (value, subject) =>
    expectMethods(value, ['addEventListener', 'removeEventListener'], `${subject} to be an AbortSignal`),
}
