/** The most names that a chain keeps for its keys, and that lists of names are interned for. */
const KEPT = 200_000
const INTERNED = 20_000

/** The names that each key last depended on, so that their stamps are read in the same round trip as the entry. */
export interface KeyNames {
  /** The names to ask for with a key. */
  expected(key: string): readonly string[]
  learn(key: string, names: readonly string[]): void
}

/** Keeps two generations of keys, so that forgetting costs nothing. Names take the memory, so names are counted. */
export function keyNames(): KeyNames {
  let young = new Map<string, readonly string[]>()
  let old = new Map<string, readonly string[]>()
  let weight = 0
  // Equal lists become one list, so that a ledger that caches by list reads it once for many keys.
  const lists = new Map<string, readonly string[]>()
  let listed = 0
  let common: readonly string[] = Object.freeze([])
  const known = (key: string): readonly string[] | undefined => young.get(key) ?? old.get(key)
  const interned = (names: readonly string[]): readonly string[] => {
    const id = names.join('\0')
    const found = lists.get(id)
    if (found !== undefined) return found
    listed += weightOf(names)
    if (listed > INTERNED) {
      lists.clear()
      listed = weightOf(names)
    }
    lists.set(id, names)
    return names
  }
  return {
    expected: (key: string): readonly string[] => known(key) ?? common,
    learn(key: string, names: readonly string[]): void {
      const before = known(key)
      // A key that is not known most likely depends on the names that all keys share, such as its region.
      if (before === undefined && names.length <= 1) {
        if (!sameNames(common, names)) common = interned(names)
        return
      }
      if (before !== undefined && sameNames(before, names)) return
      const former = young.get(key)
      weight += weightOf(names) - (former === undefined ? 0 : weightOf(former))
      if (weight > KEPT / 2) {
        ;[old, young] = [young, new Map()]
        weight = weightOf(names)
      }
      young.set(key, interned(names))
    },
  }
}

/** The weight of a list: its names, and itself. */
function weightOf(names: readonly string[]): number {
  return names.length + 1
}

export function sameNames(asked: readonly string[], names: readonly string[]): boolean {
  if (asked === names) return true
  if (asked.length !== names.length) return false
  for (let i = 0; i < asked.length; i++) if (asked[i] !== names[i]) return false
  return true
}
