import { preciseClock, stamp } from './clock.js'
import type { Freshness, InvalidationMode } from './ledger.js'
import type { MaybePromise } from './maybe-promise.js'

/** Decides which values of a region an invalidation has reached. A custom one replaces the ledger's part in it. */
export interface RegionInvalidator {
  invalidate(mode: InvalidationMode): MaybePromise<void>
  /** `startedAt`: epoch ms before the value's creator ran, strictly increasing within a process. */
  judge(startedAt: number, key: string): MaybePromise<Freshness>
}

/**
 * The invalidations of this process, for backends without a ledger. A hard mark and a soft one are kept apart: a soft
 * invalidation never revives what a hard one buried.
 */
export function localInvalidation(): RegionInvalidator {
  let hard = 0
  let soft = 0
  return {
    invalidate(mode) {
      const now = stamp(preciseClock.now())
      if (mode === 'hard') hard = now
      else soft = now
    },
    judge: (startedAt) => (startedAt <= hard ? 'dead' : startedAt <= soft ? 'stale' : 'fresh'),
  }
}
