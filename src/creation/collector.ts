import { isVersion } from '../ledger/checked-names.js'
import type { DependencyGroup, DependencySnapshot, LedgerTime } from '../ledger/snapshot.js'

/** Collects what a creation is made from: names declared inside it, and the groups of what it read from a cache. */
export interface DependencyCollector {
  add(names: readonly string[]): void
  /**
   * A cached value went into the creation: it hands up its groups, each with its own `a`. `explicit`: its region was
   * asked to track dependencies, so that losing them would lose an invalidation. `inside`: the transaction that it was made in,
   * whose snapshot may be older than its `a`, but not than the creation, if the transaction was begun inside of that.
   */
  inherit(snapshot: DependencySnapshot, explicit: boolean, inside?: object): void
  /** A part expires then (epoch ms); 0: it was stale already. */
  limitLifetime(at: number): void
  expiresAt(): number
  /** A part that no ledger vouches for; the reason keeps the result from being stored. */
  forbidStoring(reason: string): void
  /** The snapshot so far, or why there is none; `more`: names of one of several values that are made together. */
  snapshot(
    more?: Iterable<string>,
  ):
    | { readonly snapshot: DependencySnapshot; readonly unstorable?: undefined }
    | { readonly unstorable: string }
}

/** A dependency that keeps what has it from being stored: nothing would ever invalidate it. */
export const UNCACHEABLE = 'uncacheable:'

/** Starts a collector as of the moment before the creator ran. */
export function collectDependencies(asOf: LedgerTime, own: readonly string[]): DependencyCollector {
  const names = new Set(own)
  const versions = new Set<string>()
  // The smallest `a` per name decides; equal moments share a group.
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
      return {
        snapshot: { epoch: asOf.epoch, groups, ...(seen.size > 0 && { versions: [...seen] }) },
      }
    },
  }
}
