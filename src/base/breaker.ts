import { isPausing } from './clock.js'
import { performance } from './timers.js'

export interface CircuitBreakerOptions {
  /** In a row. */
  readonly failures: number
  /** ms. */
  readonly cooldown: number
  /** ms: failures that come together are one. @default 0 */
  readonly incident?: number
}

export type CircuitBreaker = ReturnType<typeof circuitBreaker>

/** Refuses work while it fails: after `failures` in a row nothing is admitted for `cooldown` ms, then one probe decides. */
export function circuitBreaker(
  { failures, cooldown, incident = 0 }: CircuitBreakerOptions,
  now: () => number = performance.now,
) {
  let inARow = 0
  let since = 0
  let failedAt = 0
  let probing = false
  // A clock that was set back in between must not close it.
  const isOpen = () => inARow >= failures && Math.abs(failedAt - since) >= incident
  const refuses = () => isOpen() && (probing || isPausing({ since: failedAt, ms: cooldown }, now()))
  return {
    /** Whether no work would be admitted now. */
    refuses,
    /** Whether work may begin. While it is open, one call after each `cooldown` may: the probe. */
    admits(): boolean {
      if (refuses()) return false
      probing = isOpen()
      return true
    },
    succeeded() {
      inARow = 0
      probing = false
    },
    failed() {
      failedAt = now()
      if (inARow++ === 0) since = failedAt
      probing = false
    },
    /** Work ended without telling anything: another call may be the probe. */
    withdrawn() {
      probing = false
    },
    get inARow() {
      return inARow
    },
  }
}
