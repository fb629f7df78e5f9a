import type { MaybePromise } from '../base/maybe-promise.js'
import type { Freshness, InvalidationMode } from '../ledger/ledger.js'

/** Decides which values of a region an invalidation has reached. A custom one replaces the ledger's part in it. */
export interface RegionInvalidator {
  /** `at`: epoch ms, later than the `startedAt` of everything that this process began before. */
  invalidate(mode: InvalidationMode, at: number): MaybePromise<void>
  /** `startedAt`: epoch ms before the value's creator ran, strictly increasing within a process. */
  judge(startedAt: number, key: string): MaybePromise<Freshness>
}

/**
 * The invalidations of this process, for backends without a ledger. A hard mark and a soft one are kept apart: a soft
 * invalidation never revives a hard-invalidated value.
 */
export function localInvalidation(): RegionInvalidator {
  let hard = 0
  let soft = 0
  return {
    invalidate(mode, at) {
      if (mode === 'hard') hard = at
      else soft = at
    },
    judge: (startedAt) => (startedAt <= hard ? 'invalid' : startedAt <= soft ? 'stale' : 'fresh'),
  }
}
