import { andThen, type MaybePromise, native } from '../base/maybe-promise.js'
import { expectNoOptions, expectOneOf } from '../base/options.js'
import type { Freshness, InvalidationMode } from '../ledger/ledger.js'

/**
 * Decides which values of a region an invalidation has reached. A custom one replaces the ledger's part in it.
 * @example
 * ```ts
 * import { makeRegion, type RegionInvalidator } from 'corral'
 * import { memory } from 'corral/backends/memory'
 *
 * // Entries of an earlier release are misses.
 * const release = Date.now()
 * const ofRelease: RegionInvalidator = {
 *   invalidate: () => {},
 *   judge: (startedAt) => (startedAt < release ? 'invalid' : 'fresh'),
 * }
 * const pages = makeRegion<string>({ name: 'pages', backend: memory(), regionInvalidator: ofRelease })
 * ```
 */
export interface RegionInvalidator {
  /** `at`: epoch ms, later than the `startedAt` of everything that this process began before. */
  invalidate(mode: InvalidationMode, at: number): MaybePromise<void>
  /** `startedAt`: epoch ms before the value's creator ran, strictly increasing within a process. Any other answer is `ERR_OPTION`. */
  judge(startedAt: number, key: string): MaybePromise<Freshness>
}

/** The time of the last invalidation of each mode. */
export type InvalidationMarks = Record<InvalidationMode, number>

export function noMarks(): InvalidationMarks {
  return { hard: 0, soft: 0 }
}

/** The marks with the later of each; `former` ones that others hold too are raised. */
export function marksAfter(former: InvalidationMarks | undefined, own: InvalidationMarks): InvalidationMarks {
  if (former === undefined) return own
  former.hard = Math.max(former.hard, own.hard)
  former.soft = Math.max(former.soft, own.soft)
  return former
}

/**
 * The invalidations of this process, for backends without a ledger. A hard mark and a soft one are kept apart: a soft
 * invalidation never revives a hard-invalidated value.
 * @example
 * ```ts
 * import { localInvalidation, makeRegion } from 'corral'
 * import { memory } from 'corral/backends/memory'
 *
 * const region = makeRegion<number>({ backend: memory(), regionInvalidator: localInvalidation() })
 * await region.invalidate('soft') // of this process alone
 * ```
 * @throws CorralError `ERR_OPTION` for an option: it takes none.
 */
export function localInvalidation(...options: readonly []): RegionInvalidator {
  expectNoOptions(options, 'localInvalidation()')
  return invalidationBy(noMarks())
}

/** An invalidator over marks that several regions may share. */
function invalidationBy(marks: InvalidationMarks): RegionInvalidator {
  return {
    invalidate(mode, at) {
      marks[mode] = at
    },
    judge: (startedAt) => (startedAt <= marks.hard ? 'invalid' : startedAt <= marks.soft ? 'stale' : 'fresh'),
  }
}

const VERDICTS: readonly Freshness[] = ['fresh', 'stale', 'invalid']

/** An answer that is no verdict must not pass for 'fresh'. */
function verdict(answer: Freshness): Freshness {
  expectOneOf(answer, 'the answer of `judge` of `regionInvalidator`', VERDICTS)
  return answer
}

/** The invalidator of an application, whose thenables may lack `catch` or return nothing; otherwise one over the marks. */
export function invalidatorOf(
  given: RegionInvalidator | undefined,
  marks: InvalidationMarks | false,
): RegionInvalidator | undefined {
  if (given === undefined) return marks === false ? undefined : invalidationBy(marks)
  return {
    invalidate: (mode, at) => native(given.invalidate(mode, at)),
    judge: (startedAt, key) => andThen(native(given.judge(startedAt, key)), verdict),
  }
}
