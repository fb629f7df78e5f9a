import { report } from '../../src/diagnostics.js'
import type { InvalidationMode } from '../../src/ledger.js'

/** What is done again once the store answers. */
export interface Replay {
  remove(keys: readonly string[]): Promise<void>
  invalidate(clock: string, names: readonly string[], mode: InvalidationMode): Promise<void>
  /** Loses a clock on purpose: everything made before is a miss, for all processes. */
  forget(clock: string): Promise<void>
}

export interface Recovery {
  /** Reads of the key are misses: an invalidation of it, or of anything at all, has not reached the store. */
  hides(key: string): boolean
  /** Every read is a miss. */
  readonly blind: boolean
  readonly size: number
  failedKey(key: string): void
  failedNames(clock: string, names: readonly string[], mode: InvalidationMode): void
  /** A moment to remember before an invalidation is tried. */
  now(): number
  /** An attempt that began at `since` got through: it makes up for what had failed before it began. */
  reached(key: string, since: number): void
  /** Tries now. Resolves when it was done or has failed. */
  replay(): Promise<void>
  close(): void
}

const RETRY = 1_000

/**
 * Invalidations that failed, until they can be done. The oldest are kept when there are too many: what does not fit is
 * made good for by losing the clocks, after which nothing made before is served to anybody.
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
  let closed = false

  const later = () => {
    if (closed || timer !== undefined) return
    timer = setTimeout(() => {
      timer = undefined
      void replay()
    }, RETRY)
    timer.unref()
  }
  const empty = () => keys.size === 0 && names.length === 0 && overflowed === 0
  const replay = (): Promise<void> => {
    if (empty()) return Promise.resolve()
    replaying ??= again().finally(() => {
      replaying = undefined
      if (!empty()) later()
    })
    return replaying
  }
  const again = async (): Promise<void> => {
    try {
      while (keys.size > 0) {
        const some = [...keys.keys()].slice(0, 500)
        const since = failures
        await redo.remove(some)
        for (const key of some) reached(key, since)
      }
      while (names.length > 0) {
        const [oldest] = names
        if (oldest === undefined) break
        await redo.invalidate(oldest.clock, oldest.names, oldest.mode)
        names = names.filter((one) => one !== oldest)
      }
      while (overflowed > 0) {
        const since = failures
        for (const clock of clocks) await redo.forget(clock)
        if (overflowed <= since) overflowed = 0
      }
      report('notice', () => ({
        where: 'redis recovery',
        message: 'invalidations that had failed were done again',
      }))
    } catch (error) {
      report('failure', () => ({ where: 'redis recovery', error }))
    }
  }
  const reached = (key: string, since: number) => {
    if ((keys.get(key) ?? Number.POSITIVE_INFINITY) <= since) keys.delete(key)
  }
  const room = () => {
    later()
    if (keys.size + names.length < max) return true
    if (overflowed === 0)
      report('notice', () => ({
        where: 'redis recovery',
        message: `more than ${max} invalidations failed: all reads are misses until they are done`,
      }))
    overflowed = failures
    return false
  }

  return {
    hides: (key) => overflowed > 0 || names.length > 0 || keys.has(key),
    get blind() {
      return overflowed > 0 || names.length > 0
    },
    get size() {
      return keys.size + names.length + (overflowed > 0 ? 1 : 0)
    },
    failedKey(key) {
      failures++
      if (keys.has(key) || room()) keys.set(key, failures)
    },
    failedNames(clock, list, mode) {
      failures++
      if (room()) names.push({ clock, names: list, mode })
    },
    now: () => failures,
    reached,
    replay,
    close() {
      closed = true
      clearTimeout(timer)
    },
  }
}
