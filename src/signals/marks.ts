/** The marks that a transaction leaves at names before its commit, so that their invalidation is not lost with its process. */
import { randomUUID } from 'node:crypto'
import { report } from '../base/diagnostics.js'
import { performance } from '../base/timers.js'
import { ledgerOf } from '../events/event-source.js'
import type { InvalidationMode } from '../ledger/ledger.js'

/** Names that a transaction is about to change, in all their regions. */
export interface Marked {
  readonly regions: readonly object[]
  readonly names: readonly string[]
  readonly mode: InvalidationMode
}

/** A region that was closed meanwhile keeps none: that must not undo the transaction, whose invalidation fails and tells. */
function keepsMarks(region: object): boolean {
  try {
    return ledgerOf(region)?.pending !== undefined
  } catch (error) {
    report('failure', () => ({ where: 'marks of a transaction', error }))
    return false
  }
}

/**
 * The marks of one transaction, or of one savepoint. They go with the invalidation of their names: those of a region that has
 * been invalidated are forgotten here, and `end` takes away what is left, as after a rollback.
 */
export class Marks {
  readonly #id = randomUUID()
  readonly #left = new Map<object, Map<InvalidationMode, Set<string>>>()
  /** When the first mark was sent. */
  #since = 0
  #hasFailed = false
  /** ms. The shortest life of a mark. */
  #life = Number.POSITIVE_INFINITY

  /**
   * Marks names in all their regions whose ledger keeps marks, side by side. A failure is reported: an outage of the cache must
   * not keep a database from being written, and the invalidation after the commit tells of it, too.
   */
  async mark(all: readonly Marked[]): Promise<void> {
    const sent = new Map<Set<string>, { region: object; mode: InvalidationMode; names: string[] }>()
    for (const { regions, names, mode } of all)
      for (const region of regions) {
        if (this.#hasFailed || !keepsMarks(region)) continue
        const known = this.#names(region, mode)
        const one = sent.get(known) ?? { region, mode, names: [] }
        sent.set(known, one)
        for (const name of names) {
          if (known.has(name)) continue
          one.names.push(name)
          // Before the outcome is known: it may be marked though its reply was lost.
          known.add(name)
        }
      }
    const work = [...sent.values()].filter(({ names }) => names.length > 0)
    if (work.length > 0 && this.#since === 0) this.#since = performance.now()
    await Promise.all(work.map(({ region, names, mode }) => this.#mark(region, names, mode)))
  }

  /** The transaction whose marks an invalidation ends; `undefined`: it has none at these names. */
  endedBy(region: object, names: readonly string[], mode: InvalidationMode): string | undefined {
    const known = this.#left.get(region)?.get(mode)
    return known !== undefined && names.some((name) => known.has(name)) ? this.#id : undefined
  }

  /** Whether all these names are marked in a region, and no mark of the transaction has ended by itself. */
  hold(region: object, names: readonly string[], mode: InvalidationMode): boolean {
    const known = this.#left.get(region)?.get(mode)
    const isLive = !this.#hasFailed && performance.now() - this.#since < this.#life
    return isLive && known !== undefined && names.every((name) => known.has(name))
  }

  /** The names are invalidated, and their marks have gone with it. */
  forget(region: object, names: readonly string[], mode: InvalidationMode): void {
    for (const name of names) this.#left.get(region)?.get(mode)?.delete(name)
  }

  /** Called once the transaction is committed. Tells if a mark may have ended before that. */
  committed(): void {
    const ms = Math.round(performance.now() - this.#since)
    if (this.#since === 0 || ms <= this.#life) return
    report('notice', () => ({
      where: 'transaction',
      message: `names were marked for ${this.#life} ms, and the transaction took ${ms} ms: had its process died, a value of before the commit could have been stored. Shorten it, or raise \`pendingFor\` of the backend.`,
    }))
  }

  /** Takes the marks that are left away, which invalidates their names. What cannot be reached expires. */
  async end(): Promise<void> {
    const work: Promise<void>[] = []
    for (const [region, modes] of this.#left)
      for (const [mode, names] of modes) {
        if (names.size > 0) work.push(this.#end(region, [...names], mode))
        names.clear()
      }
    await Promise.all(work)
  }

  async #mark(region: object, names: readonly string[], mode: InvalidationMode): Promise<void> {
    try {
      const life = (await ledgerOf(region)?.pending?.(names, mode, this.#id)) ?? 0
      this.#life = Math.min(this.#life, life)
    } catch (error) {
      // Each further try would hold the transaction up as long again.
      this.#hasFailed = true
      report('failure', () => ({ where: 'marks of a transaction', error }))
    }
  }

  async #end(region: object, names: readonly string[], mode: InvalidationMode): Promise<void> {
    try {
      await ledgerOf(region)?.invalidate(names, mode, this.#id)
    } catch (error) {
      // One message for each transaction: in an outage there are many.
      if (!this.#hasFailed) report('failure', () => ({ where: 'marks of a transaction', error }))
    }
  }

  #names(region: object, mode: InvalidationMode): Set<string> {
    const modes = this.#left.get(region) ?? new Map<InvalidationMode, Set<string>>()
    this.#left.set(region, modes)
    const names = modes.get(mode) ?? new Set<string>()
    modes.set(mode, names)
    return names
  }
}
