import { report } from '../../src/base/diagnostics.js'
import type { InvalidationMode } from '../../src/ledger/ledger.js'
import { asError, isUnreachable } from './client/errors.js'

/** What is done again once the store answers. */
export interface Replay {
  /** Answers, for each key, what went wrong with it. */
  remove(keys: readonly string[]): Promise<readonly (Error | undefined)[]>
  invalidate(clock: string, names: readonly string[], mode: InvalidationMode): Promise<void>
  /** Loses a clock on purpose: everything made before is a miss, for all processes. */
  forget(clock: string): Promise<void>
}

export interface Recovery {
  /** Reads of the key are misses: an invalidation of it, or of anything at all, has not reached the store. */
  hides(key: string): boolean
  /** An invalidation of this very key has not reached the store. */
  hasFailed(key: string): boolean
  /** Every read is a miss. */
  readonly blind: boolean
  readonly size: number
  failedKey(key: string): void
  failedNames(clock: string, names: readonly string[], mode: InvalidationMode): void
  /** A moment to remember before an invalidation is tried. */
  failureCount(): number
  /** An attempt that began at `since` got through: it makes up for what had failed before it began. */
  succeeded(key: string, since: number): void
  /** Tries now. Resolves when it was done or has failed. */
  replay(): Promise<void>
  close(): void
}

const RETRY = 1_000
/** Between attempts when only keys are left that Redis refuses, which it will until somebody changes its mind. */
const MAX_RETRY = 30_000
const TOGETHER = 500

/**
 * Invalidations that failed, until they can be done. The oldest are kept when there are too many: what does not fit is
 * made good for by losing the clocks, after which nothing made before is served to anybody. Without a clock nothing could
 * make good for it, so that all are kept.
 * @param clocks of all chains over the store.
 */
export function recovery(max: number, clocks: ReadonlySet<string>, redo: Replay): Recovery {
  // Each with the number of its latest failure: what fails again while it is being done must be done again.
  const keys = new Map<string, number>()
  let failures = 0
  let names: {
    readonly clock: string
    readonly names: readonly string[]
    readonly mode: InvalidationMode
  }[] = []
  let overflowed = 0
  let replaying: Promise<void> | undefined
  let timer: NodeJS.Timeout | undefined
  let pause = RETRY
  let closed = false

  const later = () => {
    if (closed || timer !== undefined) return
    timer = setTimeout(() => {
      timer = undefined
      void replay()
    }, pause)
    timer.unref()
  }
  const blind = () => overflowed > 0 || names.length > 0
  const empty = () => keys.size === 0 && !blind()
  const replay = (): Promise<void> => {
    if (empty()) return Promise.resolve()
    replaying ??= again()
      .then(
        (refused) => {
          pause = refused !== undefined && !blind() ? Math.min(pause * 2, MAX_RETRY) : RETRY
          if (refused !== undefined) report('failure', () => ({ where: 'redis recovery', error: refused }))
          else
            report('notice', () => ({
              where: 'redis recovery',
              message: 'invalidations that had failed were done again',
            }))
        },
        (error: unknown) => report('failure', () => ({ where: 'redis recovery', error })),
      )
      .finally(() => {
        replaying = undefined
        if (!empty()) later()
      })
    return replaying
  }
  /** Redis does all of a script or nothing: one key that it refuses must not hold up those beside it. */
  const remove = async (some: readonly string[]): Promise<Error | undefined> => {
    const since = failures
    const errors = await redo.remove(some)
    let refused: Error | undefined
    let absent: Error | undefined
    for (const [i, key] of some.entries()) {
      const error = errors[i]
      if (error === undefined) succeeded(key, since)
      else if (isUnreachable(error)) absent = error
      else if (absent === undefined) refused = some.length === 1 ? error : ((await remove([key])) ?? refused)
    }
    if (absent !== undefined) throw absent
    return refused
  }
  /** Answers what Redis refused, if anything; rejects when there is no Redis. */
  const again = async (): Promise<Error | undefined> => {
    let refused: Error | undefined
    const done = async (work: Promise<void>): Promise<boolean> => {
      try {
        await work
        return true
      } catch (error) {
        if (isUnreachable(error)) throw error
        refused = asError(error)
        return false
      }
    }
    const all = [...keys.keys()]
    for (let i = 0; i < all.length; i += TOGETHER)
      refused = (await remove(all.slice(i, i + TOGETHER))) ?? refused
    for (const one of [...names])
      if (await done(redo.invalidate(one.clock, one.names, one.mode)))
        names = names.filter((other) => other !== one)
    if (overflowed > 0) {
      const since = failures
      let lost = true
      for (const clock of clocks) lost = (await done(redo.forget(clock))) && lost
      if (lost && overflowed <= since) overflowed = 0
    }
    return refused
  }
  const succeeded = (key: string, since: number) => {
    if ((keys.get(key) ?? Number.POSITIVE_INFINITY) <= since) keys.delete(key)
  }
  const failed = () => {
    failures++
    if (pause > RETRY) {
      // This one may only have to be tried again.
      clearTimeout(timer)
      timer = undefined
      pause = RETRY
    }
    later()
  }
  const room = () => {
    if (keys.size + names.length < max || clocks.size === 0) return true
    if (overflowed === 0)
      report('notice', () => ({
        where: 'redis recovery',
        message: `more than ${max} invalidations failed: all reads are misses until they are done`,
      }))
    overflowed = failures
    return false
  }

  return {
    hides: (key) => blind() || keys.has(key),
    hasFailed: (key) => keys.has(key),
    get blind() {
      return blind()
    },
    get size() {
      return keys.size + names.length + (overflowed > 0 ? 1 : 0)
    },
    failedKey(key) {
      failed()
      if (keys.has(key) || room()) keys.set(key, failures)
    },
    failedNames(clock, list, mode) {
      failed()
      if (room()) names.push({ clock, names: list, mode })
    },
    failureCount: () => failures,
    succeeded,
    replay,
    close() {
      closed = true
      clearTimeout(timer)
    },
  }
}
