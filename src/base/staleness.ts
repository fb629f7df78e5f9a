import { type Duration, milliseconds } from './duration.js'
import { expectThat } from './options.js'
import { MAX_DELAY } from './timers.js'

/**
 * ms by which an invalidation of another process may be seen late. `0` is a bound too.
 * @throws CorralError `ERR_OPTION` unless it is a duration from 0 to 24 days.
 */
export function staleness(given: Duration): number {
  if (given === 0) return 0
  const ms = milliseconds(given, 'maxStaleness')
  expectThat(
    ms <= MAX_DELAY,
    given,
    '`maxStaleness` to be at most 24 days',
    "A copy without a bound would outlive every invalidation. Say how late one may be seen, such as '1s'.",
  )
  return ms
}
