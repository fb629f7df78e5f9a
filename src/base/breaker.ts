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
  let openUntil = 0
  let probing = false
  const isOpen = () => inARow >= failures && openUntil - cooldown - since >= incident
  const refuses = () => isOpen() && (probing || now() < openUntil)
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
      if (inARow++ === 0) since = now()
      probing = false
      openUntil = now() + cooldown
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
