import { randomUUID } from 'node:crypto'
import type { InvalidationMode, Ledger, LedgerReading, OpenLedger, Stamp } from './ledger.js'
import type { LedgerTime } from './snapshot.js'

const MAX_STAMPS = 100_000

/**
 * A ledger in this process's memory. It is synchronous, hence atomic. Only invalidated names take space.
 * @example
 * ```ts
 * import { memoryLedger } from 'corral'
 * import { dependencies } from 'corral/proxies/dependencies'
 *
 * export const layer = dependencies({ ledger: memoryLedger() })
 * ```
 * @param options.maxStamps - beyond so many names the older half is folded into a floor that stands for every absent
 * name: folding can only cost creations. `@default 100_000`
 */
export function memoryLedger({ maxStamps = MAX_STAMPS }: { readonly maxStamps?: number } = {}): Ledger {
  const clocks = new Map<string, OpenLedger>()
  return {
    shared: false,
    open(clock) {
      let found = clocks.get(clock)
      if (found === undefined) clocks.set(clock, (found = openInMemory(clock, maxStamps)))
      return found
    },
  }
}

function openInMemory(clock: string, maxStamps: number): OpenLedger {
  let stamps = new Map<string, Stamp>()
  let floor: Stamp = { hard: 0, soft: 0 }
  let now: LedgerTime = { epoch: randomUUID(), at: 0 }

  const invalidate = (names: readonly string[], mode: InvalidationMode): void => {
    const at = now.at + 1
    now = { epoch: now.epoch, at }
    for (const name of names) {
      const { hard, soft } = stamps.get(name) ?? floor
      stamps.set(name, mode === 'hard' ? { hard: at, soft } : { hard, soft: at })
    }
    if (stamps.size > maxStamps) fold()
  }
  const fold = (): void => {
    const newest = [...stamps].sort(([, one], [, other]) => latest(other) - latest(one))
    stamps = new Map(newest.splice(0, maxStamps >> 1))
    const hard = newest.reduce((most, [, stamp]) => Math.max(most, stamp.hard), floor.hard)
    const soft = newest.reduce((most, [, stamp]) => Math.max(most, stamp.soft), floor.soft)
    floor = { hard, soft }
  }
  const read = (names: readonly string[]): LedgerReading => ({
    now,
    stamps: names.map((name) => stamps.get(name) ?? floor),
  })
  return { storeClock: clock, time: () => now, now: () => now, read, invalidate }
}

function latest(stamp: Stamp): number {
  return Math.max(stamp.hard, stamp.soft)
}
