import { CorralError } from '../../../src/base/errors.js'
import { performance } from '../../../src/base/timers.js'

/** ms: one lost connection fails many commands at once, which is one failure and not many in a row. */
const INCIDENT = 250

export type Breaker = ReturnType<typeof breaker>

/**
 * Fails at once while the store is gone, instead of letting every caller wait for a timeout: after `failures` in a row
 * nothing is sent for `cooldown` ms, then one probe decides.
 */
export function breaker({ failures, cooldown }: { readonly failures: number; readonly cooldown: number }) {
  let inARow = 0
  let since = 0
  let openUntil = 0
  let probing = false
  const isOpen = () => inARow >= failures && openUntil - cooldown - since >= INCIDENT
  return {
    /** @throws CorralError `ERR_UNAVAILABLE` while it is open; one call after each `cooldown` is let through, as the probe. */
    admit() {
      if (!isOpen()) return
      if (!probing && performance.now() >= openUntil) {
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
      if (inARow++ === 0) since = performance.now()
      probing = false
      openUntil = performance.now() + cooldown
    },
  }
}
