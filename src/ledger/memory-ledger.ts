import { randomUUID } from 'node:crypto'
import { type Clock, expectClock } from '../base/clock.js'
import { checkOptions, expectInteger, ownOptions } from '../base/options.js'
import { performance } from '../base/timers.js'
import type { InvalidationMode, Ledger, LedgerReading, OpenLedger, Stamp } from './ledger.js'
import type { LedgerTime } from './snapshot.js'

const MAX_STAMPS = 100_000

/** ms for which the mark of a transaction stays whose owner never ends it. */
const MARK_LIFETIME = 30_000

/** The names that a transaction marked, each with its mode. */
interface Mark {
  readonly names: Map<string, Set<InvalidationMode>>
  until: number
}

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
 * @param options.clock - of the lives of marks. `@default` one that never steps
 * @throws CorralError `ERR_OPTION` on an unknown or invalid option.
 */
export function memoryLedger(options: { readonly maxStamps?: number; readonly clock?: Clock } = {}): Ledger {
  options = ownOptions(options)
  checkOptions(options, 'memoryLedger()', {
    maxStamps: (value, subject) => expectInteger(value, subject, 1, Number.POSITIVE_INFINITY),
    clock: expectClock,
  })
  const { maxStamps = MAX_STAMPS, clock: time = performance } = options
  const clocks = new Map<string, OpenLedger>()
  return {
    shared: false,
    open(clock) {
      let found = clocks.get(clock)
      if (found === undefined) clocks.set(clock, (found = openInMemory(clock, maxStamps, time)))
      return found
    },
  }
}

function openInMemory(clock: string, maxStamps: number, time: Clock): OpenLedger {
  let stamps = new Map<string, Stamp>()
  let floor: Stamp = { hard: 0, soft: 0 }
  let now: LedgerTime = { epoch: randomUUID(), at: 0 }

  /** By transaction, the one that expires first in front: all marks live as long. */
  const marks = new Map<string, Mark>()
  /** By name and mode, the number of transactions that mark it. */
  const counts = { hard: new Map<string, number>(), soft: new Map<string, number>() }
  const count = (name: string, mode: InvalidationMode, more: number): void => {
    const sum = (counts[mode].get(name) ?? 0) + more
    if (sum > 0) counts[mode].set(name, sum)
    else counts[mode].delete(name)
  }

  const stamp = (names: Iterable<string>, mode: InvalidationMode): void => {
    // The clock is one ahead of the stamps, so that there is a time between: of creations that begin while a mark lives.
    const at = now.at + 1
    now = { epoch: now.epoch, at: at + 1 }
    for (const name of names) {
      const { hard, soft } = stamps.get(name) ?? floor
      stamps.set(name, mode === 'hard' ? { hard: at, soft } : { hard, soft: at })
    }
    if (stamps.size > maxStamps) fold()
  }
  const invalidate = (names: readonly string[], mode: InvalidationMode, transaction = ''): void => {
    stamp(names, mode)
    const mark = marks.get(transaction)
    if (mark === undefined) return
    for (const name of names) {
      const modes = mark.names.get(name)
      if (!modes?.delete(mode)) continue
      count(name, mode, -1)
      if (modes.size === 0) mark.names.delete(name)
    }
    if (mark.names.size === 0) marks.delete(transaction)
  }
  const pending = (names: readonly string[], mode: InvalidationMode, transaction: string): number => {
    stamp(names, mode)
    const mark = marks.get(transaction) ?? { names: new Map(), until: 0 }
    mark.until = time.now() + MARK_LIFETIME
    for (const name of names) {
      const modes = mark.names.get(name) ?? new Set()
      if (!modes.has(mode)) count(name, mode, 1)
      mark.names.set(name, modes.add(mode))
    }
    marks.delete(transaction)
    marks.set(transaction, mark)
    return MARK_LIFETIME
  }
  /** The time before a creation. A mark that has expired ends here, as its transaction would have ended it. */
  const begin = (): LedgerTime => {
    for (const [transaction, { names, until }] of marks) {
      if (until > time.now()) break
      marks.delete(transaction)
      for (const [name, modes] of names)
        for (const mode of modes) {
          count(name, mode, -1)
          stamp([name], mode)
        }
    }
    return marks.size === 0 ? now : { epoch: now.epoch, at: now.at - 1 }
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
    stamps: names.map((name) => marked(name, stamps.get(name) ?? floor)),
  })
  const marked = (name: string, stamp: Stamp): Stamp => {
    if (marks.size === 0) return stamp
    const hard = counts.hard.has(name) ? Number.POSITIVE_INFINITY : stamp.hard
    const soft = counts.soft.has(name) ? Number.POSITIVE_INFINITY : stamp.soft
    return { hard, soft }
  }
  return { storeClock: clock, time: () => now, now: begin, read, invalidate, pending }
}

function latest(stamp: Stamp): number {
  return Math.max(stamp.hard, stamp.soft)
}
