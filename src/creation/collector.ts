import type { Clock } from '../base/clock.js'
import { isVersion } from '../ledger/checked-names.js'
import type { DependencyGroup, DependencySnapshot, LedgerTime } from '../ledger/snapshot.js'

/** Collects the dependencies of a creation: names declared inside it, and the groups of the entries that it read. */
export interface DependencyCollector {
  add(names: readonly string[]): void
  /**
   * Inherits the groups of an entry that the creator read, each with its own `asOf`.
   * @param explicit - the entry's region tracks dependencies, so that losing them would lose an invalidation
   * @param inside - the transaction in which the entry was created. Its data may be older than `asOf`, but not older than
   *   a creation inside which it was begun.
   */
  inherit(snapshot: DependencySnapshot, explicit: boolean, inside?: object): void
  /** An entry that the creator read stays fresh for so many ms; 0: it is stale already. Its region may have another clock. */
  limitLifetime(left: number): void
  /** On the clock of the creation. */
  expiresAt(): number
  /** Keeps the result from being stored: no ledger validates an entry that the creator read. */
  forbidStoring(reason: string): void
  /** The snapshot so far, or the reason why there is none. `more`: names of one value in a batch. */
  snapshot(
    more?: Iterable<string>,
  ):
    | { readonly snapshot: DependencySnapshot; readonly unstorable?: undefined }
    | { readonly unstorable: string; readonly snapshot?: undefined }
}

/** A dependency that keeps its value from being stored: no invalidation would ever reach it. */
export const UNCACHEABLE = 'uncacheable:'

const UNDESCRIBED = 'it is a list by a condition that nobody describes'

/** A collector as of the moment before the creator ran. */
export function collectDependencies(
  asOf: LedgerTime,
  own: readonly string[],
  clock: Clock,
): DependencyCollector {
  return new Collector(asOf, own, clock)
}

/** A class with few fields: most creations depend on nothing but their region. */
class Collector implements DependencyCollector {
  readonly #asOf: LedgerTime
  readonly #own: readonly string[]
  #names: Set<string> | undefined
  #versions: Set<string> | undefined
  /** The smallest `asOf` per name decides; equal moments share a group. */
  #handed: Map<number, Set<string>> | undefined
  #tainted: string | undefined
  #until = Number.POSITIVE_INFINITY

  constructor(
    asOf: LedgerTime,
    own: readonly string[],
    private readonly clock: Clock,
  ) {
    this.#asOf = asOf
    this.#own = own
  }

  add(more: readonly string[]): void {
    for (const name of more)
      if (name === UNCACHEABLE) this.#tainted ??= UNDESCRIBED
      else if (isVersion(name)) (this.#versions ??= new Set()).add(name)
      else (this.#names ??= new Set()).add(name)
  }

  limitLifetime(left: number): void {
    this.#until = Math.min(this.#until, this.clock.now() + left)
  }

  expiresAt(): number {
    return this.#until
  }

  inherit({ epoch, groups, versions }: DependencySnapshot, explicit: boolean, inside?: object): void {
    if (epoch !== this.#asOf.epoch) {
      if (explicit)
        this.#tainted ??=
          'it was made from an entry of another ledger, or of a ledger that was away or lost its clock meanwhile'
      return
    }
    const handed = (this.#handed ??= new Map())
    for (const group of groups) {
      const a = inside ? Math.min(group.asOf, this.#asOf.at) : group.asOf
      let set = handed.get(a)
      if (set === undefined) handed.set(a, (set = new Set()))
      for (const name of group.names) set.add(name)
    }
    for (const version of versions ?? []) (this.#versions ??= new Set()).add(version)
  }

  forbidStoring(reason: string): void {
    this.#tainted ??= reason
  }

  snapshot(more?: Iterable<string>): ReturnType<DependencyCollector['snapshot']> {
    if (this.#tainted !== undefined) return { unstorable: this.#tainted }
    const { epoch, at } = this.#asOf
    if (more === undefined && !this.#names && !this.#versions && !this.#handed)
      return { snapshot: { epoch, groups: [{ asOf: at, names: this.#own }] } }
    const own = [...(more ?? [])]
    const seen = new Set([...(this.#versions ?? []), ...own.filter(isVersion)])
    const plain = own.filter((name) => !isVersion(name))
    const moments = new Map(this.#handed)
    const declared = new Set([...(moments.get(at) ?? []), ...this.#own, ...(this.#names ?? []), ...plain])
    if (declared.has(UNCACHEABLE)) return { unstorable: UNDESCRIBED }
    moments.set(at, declared)
    const groups = groupsOf(moments)
    return { snapshot: seen.size > 0 ? { epoch, groups, versions: [...seen] } : { epoch, groups } }
  }
}

/** The groups in the order of their moments. A name belongs to its earliest one. */
function groupsOf(moments: ReadonlyMap<number, ReadonlySet<string>>): readonly DependencyGroup[] {
  const groups: DependencyGroup[] = []
  const earlier = new Set<string>()
  for (const [asOf, names] of [...moments].sort(([one], [other]) => one - other)) {
    const left = [...names].filter((name) => !earlier.has(name))
    for (const name of left) earlier.add(name)
    if (left.length > 0) groups.push({ asOf, names: Object.freeze(left) })
  }
  return groups
}
