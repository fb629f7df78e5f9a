import type { Basis, CachedValue, Group, Instant } from '../backend/cached-value.js'
import type { MaybePromise } from '../base/maybe-promise.js'

/** Hard: every older value is as good as missing. Soft: it may be served while one caller renews it. */
export type InvalidationMode = 'hard' | 'soft'

/** Serve · serve while one caller renews · as good as missing. */
export type Freshness = 'fresh' | 'stale' | 'dead'

/** When a name was last invalidated, on the ledger's clock; a soft stamp and a hard one never replace each other. */
export interface Stamp {
  readonly hard: number
  readonly soft: number
}

export interface Reading {
  /** `undefined`: the clock is absent, and whatever rests on it is a miss. */
  readonly now: Instant | undefined
  /** In the order of the names asked for. `undefined`: absent, which is a miss too, so that losing bookkeeping is safe. */
  readonly stamps: readonly (Stamp | undefined)[]
}

/**
 * The bookkeeping of invalidations: a clock (the stamp of the latest one) and a stamp per name. Names and clocks pass
 * through `mapKeys` like keys. A backend that offers a ledger honours `ifCurrent` in its `set`.
 */
export interface Ledger {
  /** Whether other processes see the same ledger: then regions need names of their own. */
  readonly shared: boolean
  /**
   * Told once, when a chain is built, under which clock its entries are going to be: a store that has to give up all of
   * them must know it before it is ever asked. A ledger that need not know leaves it out.
   */
  use?(clock: string): void
  /** Clock and stamps, in the same round trip as the reads of the same tick where the store can. */
  read(clock: string, names: readonly string[]): MaybePromise<Reading>
  /** The moment before a creation. Creates the clock and the stamps that are absent. */
  begin(clock: string, names: readonly string[]): MaybePromise<Instant>
  /**
   * Whether nothing at all was invalidated since a basis, told at once and without looking at its names. A ledger that
   * cannot tell leaves it out.
   */
  unmoved?(clock: string, basis: Basis): boolean
  /** Whether what was made from a basis still stands. */
  judge(clock: string, basis: Basis): MaybePromise<Freshness>
  /** Stamps the names: one small write however many entries were made from them. */
  invalidate(clock: string, names: readonly string[], mode: InvalidationMode): MaybePromise<void>
}

/** The calls of cached functions by what they declared ahead, so that what was made from a name can be made anew. */
export interface Remembered {
  /** `renew` answers whether that is settled; if not, its value could not be stored, and the older one stays. */
  note(key: string, names: readonly string[], renew: () => Promise<boolean>): void
  /** The keys of what was made from the names. */
  keys(names: readonly string[]): readonly string[]
  /**
   * Renews what is still among the values; what meanwhile went its way is left alone. Ends when all have, with the first
   * failure.
   */
  renew(
    keys: readonly string[],
    values: {
      getMulti(keys: readonly string[], options: { readonly ignoreExpiration: true }): Promise<unknown[]>
    },
  ): Promise<void>
}

/** What a chain that tracks what its entries were made from offers to its region. */
export interface Tracker {
  /** Whether the chain was asked to track dependencies, and not only its region as a whole. */
  readonly explicit: boolean
  readonly shared: boolean
  /** Makes what remembers calls. One for each region: over one chain the same key may be of several, under prefixes. */
  readonly calls?: (() => Remembered) | undefined
  /** The moment to take before data is loaded; `names` are expected to be depended on. */
  asOf(names: readonly string[]): MaybePromise<Instant>
  invalidate(names: readonly string[], mode: InvalidationMode): MaybePromise<void>
  judge(basis: Basis): MaybePromise<Freshness>
  /** The entry of a key whether or not it still stands, and which of its names speak against it: for explanations. */
  inspect(
    key: string,
  ): MaybePromise<{ readonly entry: CachedValue | undefined; readonly blame: readonly string[] }>
}

/** Compares a basis with a reading of the ledger that answers its names in the order of `namesOf`. */
export function compare(basis: Basis, reading: Reading): Freshness {
  const { now, stamps } = reading
  if (now === undefined || now.epoch !== basis.epoch) return 'dead'
  let verdict: Freshness = 'fresh'
  let position = 0
  for (const { a, names } of basis.groups) {
    // Nothing at all was invalidated since `a` was read, so no stamp can be newer.
    if (now.at <= a) {
      position += names.length
      continue
    }
    for (let i = 0; i < names.length; i++) {
      const stamp = stamps[position++]
      if (stamp === undefined || stamp.hard > a) return 'dead'
      if (stamp.soft > a) verdict = 'stale'
    }
  }
  return verdict
}

/** The names of a basis, in the order in which `compare` expects their stamps. */
export function namesOf(basis: Basis): readonly string[] {
  const [only, ...more] = basis.groups
  if (only === undefined) return []
  return more.length === 0 ? only.names : basis.groups.flatMap((group) => group.names)
}

const MAX_STAMPS = 100_000

/**
 * A ledger in this process's memory. Synchronous, hence atomic. Only invalidated names take space; beyond `maxStamps`
 * the older half is folded into a floor that stands for every absent name.
 */
export function memoryLedger({ maxStamps = MAX_STAMPS }: { readonly maxStamps?: number } = {}): Ledger {
  const clocks = new Map<string, Account>()
  let recent = ''
  let last = openAccount(maxStamps)
  clocks.set(recent, last)
  // A chain asks for the same clock on every hit.
  const account = (clock: string): Account => {
    if (clock === recent) return last
    let found = clocks.get(clock)
    if (found === undefined) clocks.set(clock, (found = openAccount(maxStamps)))
    recent = clock
    last = found
    return found
  }
  return {
    shared: false,
    read: (clock, names) => {
      const of = account(clock)
      return { now: { epoch: of.epoch, at: of.at }, stamps: names.map((name) => of.stamp(name)) }
    },
    begin: (clock) => {
      const { epoch, at } = account(clock)
      return { epoch, at }
    },
    unmoved: (clock, basis) => account(clock).unmoved(basis),
    judge: (clock, basis) => account(clock).judge(basis),
    invalidate: (clock, names, mode) => account(clock).invalidate(names, mode),
  }
}

interface Account {
  readonly epoch: string
  at: number
  stamp(name: string): Stamp
  unmoved(basis: Basis): boolean
  judge(basis: Basis): Freshness
  invalidate(names: readonly string[], mode: InvalidationMode): void
}

function openAccount(maxStamps: number): Account {
  let stamps = new Map<string, Stamp>()
  let floor: Stamp = { hard: 0, soft: 0 }
  const account: Account = {
    epoch: crypto.randomUUID(),
    at: 0,
    stamp: (name) => stamps.get(name) ?? floor,
    unmoved({ epoch, groups }) {
      if (epoch !== account.epoch) return false
      for (let i = 0; i < groups.length; i++) if ((groups[i] as Group).a < account.at) return false
      return true
    },
    judge(basis) {
      if (basis.epoch !== account.epoch) return 'dead'
      let verdict: Freshness = 'fresh'
      const { groups } = basis
      for (let i = 0; i < groups.length; i++) {
        const { a, names } = groups[i] as Group
        if (account.at <= a) continue
        for (const name of names) {
          const stamp = stamps.get(name) ?? floor
          if (stamp.hard > a) return 'dead'
          if (stamp.soft > a) verdict = 'stale'
        }
      }
      return verdict
    },
    invalidate(names, mode) {
      const at = ++account.at
      for (const name of names) {
        const { hard, soft } = stamps.get(name) ?? floor
        stamps.set(name, mode === 'hard' ? { hard: at, soft } : { hard, soft: at })
      }
      if (stamps.size > maxStamps) fold()
    },
  }
  /** An absent name counts as invalidated at the floor: dropping a stamp can only cost a creation. */
  const fold = () => {
    const newest = [...stamps].sort(([, one], [, other]) => latest(other) - latest(one))
    stamps = new Map(newest.splice(0, maxStamps >> 1))
    const hard = newest.reduce((most, [, stamp]) => Math.max(most, stamp.hard), floor.hard)
    const soft = newest.reduce((most, [, stamp]) => Math.max(most, stamp.soft), floor.soft)
    floor = { hard, soft }
  }
  return account
}

function latest(stamp: Stamp): number {
  return Math.max(stamp.hard, stamp.soft)
}
