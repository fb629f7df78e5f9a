import { CorralError } from '../../../src/base/errors.js'

export interface Breaker {
  /** @throws CorralError `ERR_UNAVAILABLE` while it is open; one call after each `cooldown` is let through, as the probe. */
  admit(): void
  succeeded(): void
  failed(): void
}

/** ms: one lost connection fails many commands at once, which is one failure and not many in a row. */
const INCIDENT = 250

/**
 * Fails at once while the store is gone, instead of letting every caller wait for a timeout: after `failures` in a row
 * nothing is sent for `cooldown` ms, then one probe decides.
 */
export function breaker(
  failures: number,
  cooldown: number,
  now: () => number = () => performance.now(),
): Breaker {
  let inARow = 0
  let since = 0
  let openUntil = 0
  let probing = false
  const isOpen = () => inARow >= failures && openUntil - cooldown - since >= INCIDENT
  return {
    admit() {
      if (!isOpen()) return
      if (!probing && now() >= openUntil) {
        probing = true
        return
      }
      throw new CorralError(
        'ERR_UNAVAILABLE',
        `Redis failed ${inARow} times in a row; nothing is sent to it until a probe succeeds, tried every ${cooldown} ms.`,
      )
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
  }
}
