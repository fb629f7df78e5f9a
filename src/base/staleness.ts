import { type Duration, milliseconds } from './duration.js'
import { expectThat } from './options.js'

/**
 * ms by which an invalidation of another process may be seen late. `0` is a bound too.
 * @throws CorralError `ERR_OPTION` unless it is a duration from 0 up, and finite.
 */
export function staleness(given: Duration): number {
  if (given === 0) return 0
  const ms = milliseconds(given, 'maxStaleness')
  expectThat(
    ms < Number.POSITIVE_INFINITY,
    given,
    '`maxStaleness` to be finite',
    "A copy without a bound would outlive every invalidation. Say how late one may be seen, such as '1s'.",
  )
  return ms
}
