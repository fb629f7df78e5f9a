import type { Backend } from '../backend/backend.js'
import { type CachedValue, type DependencySnapshot, isCachedValue } from '../backend/cached-value.js'
import { arriving } from '../backend/lease.js'
import { report } from '../base/diagnostics.js'
import { andThen, ignoreRejection, isPromise, type MaybePromise, mapLazily } from '../base/maybe-promise.js'
import { delegate, type Overrides } from '../chain/proxy.js'
import { outdated } from '../ledger/checked-names.js'
import {
  type CallRegistry,
  type Freshness,
  freshnessAt,
  type Ledger,
  type LedgerReading,
  namesOf,
} from '../ledger/ledger.js'

/** The clock of a ledger, under the prefix of the layers below. */
const CLOCK = '~clock'

/** How many names of keys a process remembers, to ask for their stamps in the same round trip as for the entry. */
const REMEMBERED = 200_000
const LISTED = 20_000

/** More names than this on one entry are reported: every read asks for the stamp of each of them. */
const MANY = 1_000
/** Keys that are reported by one chain at most. */
const TOLD = 1_000

/**
 * Makes entries die with what they were made from. An entry carries its snapshot; a read compares it with the ledger, a
 * write is checked against it. With a `lent` ledger, which is not the store's own, checking and writing are two steps:
 * what slips in between is caught by the next read.
 */
export function track(
  next: Backend<CachedValue>,
  ledger: Ledger,
  { lent = false, calls }: { readonly lent?: boolean; readonly calls?: () => CallRegistry } = {},
): Backend<CachedValue> {
  ledger.use?.(CLOCK)
  const remembered = memory()
  /** Whether reads answer later; what answers at once is judged without asking for anything together. */
  let later = true
  const told = crowds()
  const learn = (key: string, snapshot: DependencySnapshot): void => {
    const names = namesOf(snapshot)
    if (later) remembered.learn(key, names)
    if (names.length > MANY) told(key, names.length)
  }
  const judged = (found: CachedValue | undefined, freshness: Freshness): CachedValue | undefined => {
    if (freshness === 'fresh' || found === undefined) return found
    return freshness === 'invalid'
      ? undefined
      : { payload: found.payload, metadata: { ...found.metadata, stale: true } }
  }
  /** What the ledger lets pass may rest on versions, of which no ledger knows. */
  const current = (
    found: CachedValue | undefined,
    snapshot: DependencySnapshot,
  ): MaybePromise<CachedValue | undefined> =>
    snapshot.versions === undefined || found === undefined
      ? found
      : andThen(outdated(snapshot.versions), ({ length }) => (length === 0 ? found : undefined))
  /** Judges what is here already against a ledger that answers whenever it does. */
  const judge = (found: CachedValue | undefined): MaybePromise<CachedValue | undefined> => {
    if (found === undefined) return undefined
    const snapshot = snapshotOf(found)
    if (snapshot === undefined) return unvouched(found)
    // What nearly every hit comes down to, where names need not even be mapped.
    if (ledger.unmoved?.(CLOCK, snapshot)) return current(found, snapshot)
    const freshness = ledger.judge(CLOCK, snapshot)
    if (freshness === 'fresh') return current(found, snapshot)
    return isPromise(freshness)
      ? freshness.then((later) => current(judged(found, later), snapshot))
      : current(judged(found, freshness), snapshot)
  }
  /** Judges an entry by a reading that was asked for together with it, if that covers its names. */
  const judgeBy = (
    key: string,
    found: CachedValue | undefined,
    reading: LedgerReading,
    asked: readonly string[],
  ) => {
    if (found === undefined) return undefined
    const snapshot = snapshotOf(found)
    if (snapshot === undefined) return unvouched(found)
    const names = namesOf(snapshot)
    if (names !== asked) remembered.learn(key, names)
    if (
      reading.now?.epoch === snapshot.epoch &&
      snapshot.groups.every(({ asOf }) => (reading.now?.at ?? 0) <= asOf)
    )
      return current(found, snapshot)
    return covers(asked, names)
      ? current(judged(found, freshnessAt(snapshot, reading)), snapshot)
      : andThen(ledger.read(CLOCK, names), (later) =>
          current(judged(found, freshnessAt(snapshot, later)), snapshot),
        )
  }

  /** What a fill told its waiters was judged by the ledger in the step that stored it, if the ledger is the store's own. */
  const vouched = (key: string, found: CachedValue): MaybePromise<CachedValue | undefined> => {
    const snapshot = snapshotOf(found)
    if (lent || snapshot === undefined) return undefined
    learn(key, snapshot)
    return current(found, snapshot)
  }

  const layer: Overrides<CachedValue> = {
    get(key) {
      const found = next.get(key)
      later = isPromise(found)
      if (!isPromise(found)) return judge(found)
      const asked = remembered.expected(key)
      const reading = ignoreRejection(ledger.read(CLOCK, asked))
      return mapLazily(found, (entry) =>
        entry === undefined ? undefined : mapLazily(reading, (read) => judgeBy(key, entry, read, asked)),
      )
    },
    getMulti(keys) {
      const found = next.getMulti(keys)
      later = isPromise(found)
      if (!isPromise(found)) {
        const judgements = found.map(judge)
        return judgements.some(isPromise)
          ? Promise.all(judgements)
          : (judgements as (CachedValue | undefined)[])
      }
      const asked = keys.map((key) => remembered.expected(key))
      const readings = asked.map((names) => ignoreRejection(ledger.read(CLOCK, names)))
      return found.then((entries) =>
        Promise.all(
          entries.map((entry, i) =>
            andThen(readings[i] as LedgerReading, (read) =>
              judgeBy(keys[i] as string, entry, read, asked[i] as readonly string[]),
            ),
          ),
        ),
      )
    },
    set(key, value, options) {
      const { snapshot } = value.metadata
      if (snapshot !== undefined) learn(key, snapshot)
      if (snapshot === undefined) return next.set(key, value, options)
      if (!lent) return next.set(key, value, { ...options, ifCurrent: { clock: CLOCK, snapshot } })
      return andThen(ledger.judge(CLOCK, snapshot), (freshness) => {
        if (freshness === 'fresh') return next.set(key, value, options)
        // A refused fill gives its lease back; a refused write leaves nothing older behind.
        const { token } = options
        const cleared = token === undefined ? next.delete(key) : next.release(key, token)
        return andThen<unknown, 'refused'>(cleared, () => 'refused')
      })
    },
    ...(lent
      ? {}
      : {
          setMulti: (writes) =>
            next.setMulti(
              writes.map(([key, value, options]) => {
                const { snapshot } = value.metadata
                if (snapshot !== undefined) learn(key, snapshot)
                return [
                  key,
                  value,
                  snapshot === undefined ? options : { ...options, ifCurrent: { clock: CLOCK, snapshot } },
                ]
              }),
            ),
        }),
    acquire: (key, ms, options) =>
      andThen(next.acquire(key, ms, options), (acquired) =>
        arriving(acquired, (found) => vouched(key, found)),
      ),
    ledger: undefined,
    tracker: {
      tracksDependencies: calls !== undefined,
      shared: ledger.shared,
      calls,
      judge: (snapshot) => ledger.judge(CLOCK, snapshot),
      asOf: (names) => ledger.now(CLOCK, names),
      invalidate: (names, mode) => ledger.invalidate(CLOCK, names, mode),
      inspect: (key) =>
        andThen(next.get(key), (entry) => {
          const snapshot = entry === undefined ? undefined : snapshotOf(entry)
          if (snapshot === undefined) return { entry, invalidatedNames: [] }
          return andThen(ledger.read(CLOCK, namesOf(snapshot)), (reading) =>
            andThen(outdated(snapshot.versions ?? []), (versions) => ({
              entry,
              invalidatedNames: [...against(snapshot, reading), ...versions],
            })),
          )
        }),
    },
  }
  return delegate(next, layer, true)
}

function snapshotOf(found: CachedValue | null): DependencySnapshot | undefined {
  const snapshot = (found as Partial<CachedValue> | null)?.metadata?.snapshot
  // A foreign writer may have left anything there; what is no snapshot vouches for nothing.
  return Array.isArray(snapshot?.groups) &&
    (snapshot.versions === undefined || Array.isArray(snapshot.versions))
    ? snapshot
    : undefined
}

/** What was written without a ledger cannot be vouched for. What is no cached value at all is the reader's to report. */
function unvouched(found: CachedValue): CachedValue | undefined {
  return isCachedValue(found) ? undefined : found
}

/** The names of a snapshot whose stamps speak against it. */
function against(snapshot: DependencySnapshot, { now, stamps }: LedgerReading): readonly string[] {
  if (now === undefined || now.epoch !== snapshot.epoch) return ['the clock itself, which was lost']
  let position = 0
  return snapshot.groups.flatMap(({ asOf, names }) =>
    names.filter(() => {
      const stamp = stamps[position++]
      return now.at > asOf && (stamp === undefined || stamp.hard > asOf || stamp.soft > asOf)
    }),
  )
}

function covers(asked: readonly string[], names: readonly string[]): boolean {
  return asked === names || (asked.length === names.length && asked.every((name, i) => name === names[i]))
}

/** Tells of a key once; of so many at most that a thousand lists of a thousand rows don't fill memory, or a log. */
function crowds(): (key: string, count: number) => void {
  const told = new Set<string>()
  return (key, count) => {
    if (told.has(key) || told.size >= TOLD) return
    told.add(key)
    report('notice', () => ({
      where: 'dependencies',
      key,
      message: `The entry depends on ${count} names, more than ${MANY}: each is asked for on every read. Name what they have in common, such as dep.tag() of the whole list.`,
    }))
  }
}

/** What each key was last made from; two generations, so that forgetting costs nothing. Names are what takes the memory. */
function memory() {
  let young = new Map<string, readonly string[]>()
  let old = new Map<string, readonly string[]>()
  let weight = 0
  // Equal lists are one list: a ledger answers a list that it was just asked for once for all.
  const lists = new Map<string, readonly string[]>()
  let listed = 0
  let common: readonly string[] = []
  const known = (key: string): readonly string[] | undefined => young.get(key) ?? old.get(key)
  const interned = (names: readonly string[]): readonly string[] => {
    const id = names.join('\0')
    const found = lists.get(id)
    if (found !== undefined) return found
    listed += weightOf(names)
    if (listed > LISTED) {
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
      // An unknown key is most likely made from what all are made from, such as its region.
      if (before === undefined && names.length <= 1) {
        if (!covers(common, names)) common = interned(names)
        return
      }
      if (before !== undefined && covers(before, names)) return
      const former = young.get(key)
      weight += weightOf(names) - (former === undefined ? 0 : weightOf(former))
      if (weight > REMEMBERED / 2) {
        ;[old, young] = [young, new Map()]
        weight = weightOf(names)
      }
      young.set(key, interned(names))
    },
  }
}

/** What a list takes: its names, and itself. */
function weightOf(names: readonly string[]): number {
  return names.length + 1
}
