import { circuitBreaker } from '../../../src/base/breaker.js'
import { CorralError } from '../../../src/base/errors.js'

/** ms: one lost connection fails many commands at once, which is one failure and not many in a row. */
const INCIDENT = 250

export type Breaker = ReturnType<typeof breaker>

/** Fails at once while the store is gone, instead of letting every caller wait for a timeout. */
export function breaker({ failures, cooldown }: { readonly failures: number; readonly cooldown: number }) {
  const circuit = circuitBreaker({ failures, cooldown, incident: INCIDENT })
  return {
    /** @throws CorralError `ERR_UNAVAILABLE` while it is open; one call after each `cooldown` is let through, as the probe. */
    admit() {
      if (circuit.admits()) return
      throw new CorralError(
        'ERR_UNAVAILABLE',
        `Redis failed ${circuit.inARow} times in a row; nothing is sent to it until a probe succeeds, tried every ${cooldown} ms.`,
      )
    },
    succeeded: circuit.succeeded,
    failed: circuit.failed,
  }
}
