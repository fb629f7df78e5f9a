import { type Clock, isPausing, type Pause } from '../base/clock.js'
import type { HandUp } from '../creation/scope.js'

/** The failures of creators that this process answers again for a while, because nothing stands. */
export interface RememberedErrors {
  remember(key: string, failure: Failure, ms: number): void
  /** @throws the remembered failure of the key, if there is one. */
  throwRemembered(key: string, onFailed?: (error: unknown, handUp: HandUp | undefined) => void): void
  has(key: string): boolean
  /** A new value, or an invalidation of the key. */
  forget(key: string): void
  /** An invalidation of names: nothing tells which failure depends on which name. */
  forgetAll(): void
  /** Counts the calls of `forgetAll`. */
  readonly generation: number
}

/** Invalidations of names, shared by the regions over a store: each of them may be about any failure. */
export interface InvalidationCount {
  count: number
}

/** The failure of a creation, and the way to pass on what that creation had learnt. */
export interface Failure {
  readonly error: unknown
  readonly handUp: HandUp | undefined
}

interface RememberedError extends Pause, Failure {
  /** Counts the invalidations that came before. */
  readonly of: number
}

/** A source that fails for ever new keys must not fill memory. */
const MOST = 1_000

export function rememberedErrors(clock: Clock, invalidated: InvalidationCount): RememberedErrors {
  const errors = new Map<string, RememberedError>()
  return {
    remember(key, failure, ms) {
      errors.delete(key)
      errors.set(key, { ...failure, since: clock.now(), ms, of: invalidated.count })
      const [oldest = key] = errors.keys()
      if (errors.size > MOST) errors.delete(oldest)
    },
    throwRemembered(key, onFailed) {
      const found = errors.get(key)
      if (found && isPausing(found, clock.now()) && found.of === invalidated.count) {
        onFailed?.(found.error, found.handUp)
        throw found.error
      }
      errors.delete(key)
    },
    has: (key) => errors.has(key),
    forget(key) {
      errors.delete(key)
    },
    forgetAll() {
      errors.clear()
      invalidated.count++
    },
    get generation() {
      return invalidated.count
    },
  }
}
