import type { Backend } from '../backend/backend.js'
import { type Basis, type CachedValue, isCachedValue } from '../backend/cached-value.js'
import { arriving } from '../backend/lease.js'
import { report } from '../base/diagnostics.js'
import { andThen, changed, handled, isPromise, type MaybePromise } from '../base/maybe-promise.js'
import { delegate, type Overrides } from '../chain/proxy.js'
import { outdated } from '../ledger/checked-names.js'
import {
  compare,
  type Freshness,
  type Ledger,
  namesOf,
  type Reading,
  type Remembered,
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
 * Makes entries die with what they were made from. An entry carries its basis; a read compares it with the ledger, a
 * write is checked against it. With a `lent` ledger, which is not the store's own, checking and writing are two steps:
 * what slips in between is caught by the next read.
 */
export function track(
  next: Backend<CachedValue>,
  ledger: Ledger,
  { lent = false, calls }: { readonly lent?: boolean; readonly calls?: () => Remembered } = {},
): Backend<CachedValue> {
  ledger.use?.(CLOCK)
  const remembered = memory()
  /** Whether reads answer later; what answers at once is judged without asking for anything together. */
  let later = true
  const told = crowds()
  const learn = (key: string, basis: Basis): void => {
    const names = namesOf(basis)
    if (later) remembered.learn(key, names)
    if (names.length > MANY) told(key, names.length)
  }
  const judged = (found: CachedValue | undefined, freshness: Freshness): CachedValue | undefined => {
    if (freshness === 'fresh' || found === undefined) return found
    return freshness === 'dead'
      ? undefined
      : { payload: found.payload, metadata: { ...found.metadata, stale: true } }
  }
  /** What the ledger lets pass may rest on versions, of which no ledger knows. */
  const current = (found: CachedValue | undefined, basis: Basis): MaybePromise<CachedValue | undefined> =>
    basis.versions === undefined || found === undefined
      ? found
      : andThen(outdated(basis.versions), ({ length }) => (length === 0 ? found : undefined))
  /** Judges what is here already against a ledger that answers whenever it does. */
  const judge = (found: CachedValue | undefined): MaybePromise<CachedValue | undefined> => {
    if (found === undefined) return undefined
    const basis = basisOf(found)
    if (basis === undefined) return unvouched(found)
    // What nearly every hit comes down to, where names need not even be mapped.
    if (ledger.unmoved?.(CLOCK, basis)) return current(found, basis)
    const freshness = ledger.judge(CLOCK, basis)
    if (freshness === 'fresh') return current(found, basis)
    return isPromise(freshness)
      ? freshness.then((later) => current(judged(found, later), basis))
      : current(judged(found, freshness), basis)
  }
  /** Judges an entry by a reading that was asked for together with it, if that covers its names. */
  const judgeBy = (
    key: string,
    found: CachedValue | undefined,
    reading: Reading,
    asked: readonly string[],
  ) => {
    if (found === undefined) return undefined
    const basis = basisOf(found)
    if (basis === undefined) return unvouched(found)
    const names = namesOf(basis)
    if (names !== asked) remembered.learn(key, names)
    if (reading.now?.epoch === basis.epoch && basis.groups.every(({ a }) => (reading.now?.at ?? 0) <= a))
      return current(found, basis)
    return covers(asked, names)
      ? current(judged(found, compare(basis, reading)), basis)
      : andThen(ledger.read(CLOCK, names), (later) => current(judged(found, compare(basis, later)), basis))
  }

  /** What a fill told its waiters was judged by the ledger in the step that stored it, if the ledger is the store's own. */
  const vouched = (key: string, found: CachedValue): MaybePromise<CachedValue | undefined> => {
    const basis = basisOf(found)
    if (lent || basis === undefined) return undefined
    learn(key, basis)
    return current(found, basis)
  }

  const layer: Overrides<CachedValue> = {
    get(key) {
      const found = next.get(key)
      later = isPromise(found)
      if (!isPromise(found)) return judge(found)
      const asked = remembered.expected(key)
      const reading = handled(ledger.read(CLOCK, asked))
      return changed(found, (entry) =>
        entry === undefined ? undefined : changed(reading, (read) => judgeBy(key, entry, read, asked)),
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
      const readings = asked.map((names) => handled(ledger.read(CLOCK, names)))
      return found.then((entries) =>
        Promise.all(
          entries.map((entry, i) =>
            andThen(readings[i] as Reading, (read) =>
              judgeBy(keys[i] as string, entry, read, asked[i] as readonly string[]),
            ),
          ),
        ),
      )
    },
    set(key, value, options) {
      const { basis } = value.metadata
      if (basis !== undefined) learn(key, basis)
      if (basis === undefined) return next.set(key, value, options)
      if (!lent) return next.set(key, value, { ...options, ifCurrent: { clock: CLOCK, basis } })
      return andThen(ledger.judge(CLOCK, basis), (freshness) => {
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
                const { basis } = value.metadata
                if (basis !== undefined) learn(key, basis)
                return [
                  key,
                  value,
                  basis === undefined ? options : { ...options, ifCurrent: { clock: CLOCK, basis } },
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
      explicit: calls !== undefined,
      shared: ledger.shared,
      calls,
      judge: (basis) => ledger.judge(CLOCK, basis),
      asOf: (names) => ledger.begin(CLOCK, names),
      invalidate: (names, mode) => ledger.invalidate(CLOCK, names, mode),
      inspect: (key) =>
        andThen(next.get(key), (entry) => {
          const basis = entry === undefined ? undefined : basisOf(entry)
          if (basis === undefined) return { entry, blame: [] }
          return andThen(ledger.read(CLOCK, namesOf(basis)), (reading) =>
            andThen(outdated(basis.versions ?? []), (versions) => ({
              entry,
              blame: [...against(basis, reading), ...versions],
            })),
          )
        }),
    },
  }
  return delegate(next, layer, true)
}

function basisOf(found: CachedValue | null): Basis | undefined {
  const basis = (found as Partial<CachedValue> | null)?.metadata?.basis
  // A foreign writer may have left anything there; what is no basis vouches for nothing.
  return Array.isArray(basis?.groups) && (basis.versions === undefined || Array.isArray(basis.versions))
    ? basis
    : undefined
}

/** What was written without a ledger cannot be vouched for. What is no cached value at all is the reader's to report. */
function unvouched(found: CachedValue): CachedValue | undefined {
  return isCachedValue(found) ? undefined : found
}

/** The names of a basis whose stamps speak against it. */
function against(basis: Basis, { now, stamps }: Reading): readonly string[] {
  if (now === undefined || now.epoch !== basis.epoch) return ['the clock itself, which was lost']
  let position = 0
  return basis.groups.flatMap(({ a, names }) =>
    names.filter(() => {
      const stamp = stamps[position++]
      return now.at > a && (stamp === undefined || stamp.hard > a || stamp.soft > a)
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
