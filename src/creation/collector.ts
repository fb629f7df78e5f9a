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
  /** An entry that the creator read expires at this time (epoch ms); 0: it is stale already. */
  limitLifetime(at: number): void
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

/** A collector as of the moment before the creator ran. */
export function collectDependencies(asOf: LedgerTime, own: readonly string[]): DependencyCollector {
  const names = new Set(own)
  const versions = new Set<string>()
  // The smallest `asOf` per name decides; equal moments share a group.
  const handed = new Map<number, Set<string>>()
  let tainted: string | undefined
  const undescribed = 'it is a list by a condition that nobody describes'
  let until = Number.POSITIVE_INFINITY
  return {
    add(more) {
      for (const name of more)
        if (name === UNCACHEABLE) tainted ??= undescribed
        else if (isVersion(name)) versions.add(name)
        else names.add(name)
    },
    limitLifetime(at) {
      until = Math.min(until, at)
    },
    expiresAt: () => until,
    inherit({ epoch, groups, versions: seen }, explicit, inside) {
      if (epoch !== asOf.epoch) {
        if (explicit)
          tainted ??=
            'it was made from an entry of another ledger, or of a ledger whose clock was lost meanwhile'
        return
      }
      for (const group of groups) {
        const a = inside ? Math.min(group.asOf, asOf.at) : group.asOf
        let set = handed.get(a)
        if (set === undefined) handed.set(a, (set = new Set()))
        for (const name of group.names) set.add(name)
      }
      if (seen !== undefined) for (const version of seen) versions.add(version)
    },
    forbidStoring(reason) {
      tainted ??= reason
    },
    snapshot(more = []) {
      if (tainted !== undefined) return { unstorable: tainted }
      const groups: DependencyGroup[] = []
      const earlier = new Set<string>()
      const at = new Map(handed)
      const own = [...more]
      const seen = new Set([...versions, ...own.filter(isVersion)])
      const plain = own.filter((name) => !isVersion(name))
      const declared = new Set([...(at.get(asOf.at) ?? []), ...names, ...plain])
      if (declared.has(UNCACHEABLE)) return { unstorable: undescribed }
      at.set(asOf.at, declared)
      for (const [a, set] of [...at].sort(([one], [other]) => one - other)) {
        const left = [...set].filter((name) => !earlier.has(name))
        for (const name of left) earlier.add(name)
        if (left.length > 0) groups.push({ asOf: a, names: left })
      }
      const { epoch } = asOf
      return { snapshot: seen.size > 0 ? { epoch, groups, versions: [...seen] } : { epoch, groups } }
    },
  }
}
