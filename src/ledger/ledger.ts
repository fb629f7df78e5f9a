import type { CachedValue, DependencyGroup, DependencySnapshot, LedgerTime } from '../backend/cached-value.js'
import type { MaybePromise } from '../base/maybe-promise.js'

/** Hard: every older value is as good as missing. Soft: it may be served while one caller renews it. */
export type InvalidationMode = 'hard' | 'soft'

/** Serve · serve while one caller renews · as good as missing. */
export type Freshness = 'fresh' | 'stale' | 'invalid'

/** When a name was last invalidated, on the ledger's clock; a soft stamp and a hard one never replace each other. */
export interface Stamp {
  readonly hard: number
  readonly soft: number
}

export interface LedgerReading {
  /** `undefined`: the clock is absent, and whatever rests on it is a miss. */
  readonly now: LedgerTime | undefined
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
  read(clock: string, names: readonly string[]): MaybePromise<LedgerReading>
  /** The moment before a creation. Creates the clock and the stamps that are absent. */
  now(clock: string, names: readonly string[]): MaybePromise<LedgerTime>
  /**
   * Whether nothing at all was invalidated since a snapshot, told at once and without looking at its names. A ledger that
   * cannot tell leaves it out.
   */
  unmoved?(clock: string, snapshot: DependencySnapshot): boolean
  /** Whether what was made from a snapshot still stands. */
  judge(clock: string, snapshot: DependencySnapshot): MaybePromise<Freshness>
  /** Stamps the names: one small write however many entries were made from them. */
  invalidate(clock: string, names: readonly string[], mode: InvalidationMode): MaybePromise<void>
}

/** The calls of cached functions by what they declared ahead, so that what was made from a name can be made anew. */
export interface CallRegistry {
  /** `renew` answers whether that is settled; if not, its value could not be stored, and the older one stays. */
  record(key: string, names: readonly string[], repeat: () => Promise<boolean>): void
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
  readonly tracksDependencies: boolean
  readonly shared: boolean
  /** Makes what remembers calls. One for each region: over one chain the same key may be of several, under prefixes. */
  readonly calls?: (() => CallRegistry) | undefined
  /** The moment to take before data is loaded; `names` are expected to be depended on. */
  asOf(names: readonly string[]): MaybePromise<LedgerTime>
  invalidate(names: readonly string[], mode: InvalidationMode): MaybePromise<void>
  judge(snapshot: DependencySnapshot): MaybePromise<Freshness>
  /** The entry of a key whether or not it still stands, and which of its names speak against it: for explanations. */
  inspect(
    key: string,
  ): MaybePromise<{ readonly entry: CachedValue | undefined; readonly invalidatedNames: readonly string[] }>
}

/** Compares a snapshot with a reading of the ledger that answers its names in the order of `namesOf`. */
export function freshnessAt(snapshot: DependencySnapshot, reading: LedgerReading): Freshness {
  const { now, stamps } = reading
  if (now === undefined || now.epoch !== snapshot.epoch) return 'invalid'
  let verdict: Freshness = 'fresh'
  let position = 0
  for (const { asOf, names } of snapshot.groups) {
    // Nothing at all was invalidated since `a` was read, so no stamp can be newer.
    if (now.at <= asOf) {
      position += names.length
      continue
    }
    for (let i = 0; i < names.length; i++) {
      const stamp = stamps[position++]
      if (stamp === undefined || stamp.hard > asOf) return 'invalid'
      if (stamp.soft > asOf) verdict = 'stale'
    }
  }
  return verdict
}

/** The names of a snapshot, in the order in which `compare` expects their stamps. */
export function namesOf(snapshot: DependencySnapshot): readonly string[] {
  const [only, ...more] = snapshot.groups
  if (only === undefined) return []
  return more.length === 0 ? only.names : snapshot.groups.flatMap((group) => group.names)
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
    now: (clock) => {
      const { epoch, at } = account(clock)
      return { epoch, at }
    },
    unmoved: (clock, snapshot) => account(clock).unmoved(snapshot),
    judge: (clock, snapshot) => account(clock).judge(snapshot),
    invalidate: (clock, names, mode) => account(clock).invalidate(names, mode),
  }
}

interface Account {
  readonly epoch: string
  at: number
  stamp(name: string): Stamp
  unmoved(snapshot: DependencySnapshot): boolean
  judge(snapshot: DependencySnapshot): Freshness
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
      for (let i = 0; i < groups.length; i++)
        if ((groups[i] as DependencyGroup).asOf < account.at) return false
      return true
    },
    judge(snapshot) {
      if (snapshot.epoch !== account.epoch) return 'invalid'
      let verdict: Freshness = 'fresh'
      const { groups } = snapshot
      for (let i = 0; i < groups.length; i++) {
        const { asOf, names } = groups[i] as DependencyGroup
        if (account.at <= asOf) continue
        for (const name of names) {
          const stamp = stamps.get(name) ?? floor
          if (stamp.hard > asOf) return 'invalid'
          if (stamp.soft > asOf) verdict = 'stale'
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
