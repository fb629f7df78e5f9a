import type { Backend, WriteOptions } from '../backend/backend.js'
import { type CachedValue, isCachedValue } from '../backend/cached-value.js'
import { delegate, type Overrides } from '../backend/delegate.js'
import { type Granted, mapAcquired } from '../backend/lease.js'
import type { CallRegistry, Tracker } from '../backend/tracker.js'
import { report } from '../base/diagnostics.js'
import {
  all,
  andThen,
  ignoreRejection,
  isPromise,
  type MaybePromise,
  mapLazily,
} from '../base/maybe-promise.js'
import { outdated } from '../ledger/checked-names.js'
import {
  conditionOf,
  type Freshness,
  freshnessAt,
  inStore,
  isUnmoved,
  type Ledger,
  type LedgerReading,
  type OpenLedger,
} from '../ledger/ledger.js'
import { type DependencySnapshot, namesOf } from '../ledger/snapshot.js'
import { validate } from '../ledger/validate.js'
import { type KeyNames, keyNames, sameNames } from './key-names.js'

/** The clock of a chain's ledger, under the prefixes of the layers below. */
const CLOCK = '~clock'

/** More names than this on one entry are reported: every read asks for the stamp of each of them. */
const MANY = 1_000
/** The most keys that one chain reports. */
const REPORTED = 1_000

export interface TrackingOptions {
  /** The ledger is not the store's own. Validating and writing are then two steps; the next read catches a change between. */
  readonly lent?: boolean
  readonly calls?: () => CallRegistry
}

/**
 * Makes entries die with their dependencies. An entry carries a snapshot; a read compares it with the ledger, a write is
 * checked against it.
 */
export function track(
  next: Backend<CachedValue>,
  ledger: Ledger,
  { lent = false, calls }: TrackingOptions = {},
): Backend<CachedValue> {
  const opened = ledger.open(CLOCK)
  const keys = keyNames()
  const learn = learning(keys)
  const judge = judging(opened, keys)
  /** Whether reads return later. Entries that are read at once are judged without asking for names together with them. */
  let readsLater = true

  const readings = (asked: readonly (readonly string[])[]) =>
    asked.map((names) => ignoreRejection(opened.read(names)))

  const layer: Overrides<CachedValue> = {
    get(key) {
      const found = next.get(key)
      readsLater = isPromise(found)
      if (!isPromise(found)) return judge.present(found)
      const asked = keys.expected(key)
      const reading = ignoreRejection(opened.read(asked))
      return mapLazily(found, (entry) =>
        entry === undefined ? undefined : mapLazily(reading, (read) => judge.by(key, entry, read, asked)),
      )
    },
    getMulti(wanted) {
      const found = next.getMulti(wanted)
      readsLater = isPromise(found)
      if (!isPromise(found)) return all(found.map(judge.present))
      const asked = wanted.map((key) => keys.expected(key))
      const read = readings(asked)
      return found.then((entries) =>
        Promise.all(
          entries.map((entry, i) =>
            andThen(read[i] as LedgerReading, (reading) =>
              judge.by(wanted[i] as string, entry, reading, asked[i] as readonly string[]),
            ),
          ),
        ),
      )
    },
    set(key, value, options) {
      const { snapshot } = value.metadata
      if (snapshot === undefined) return next.set(key, value, options)
      learn(key, snapshot, readsLater)
      return lent
        ? validateThenSet(next, opened, [key, value, options])
        : next.set(key, value, { ...options, ifCurrent: conditionOf(opened, snapshot) })
    },
    ...(!lent && {
      setMulti: (writes) =>
        next.setMulti(
          writes.map(([key, value, options]) => {
            const { snapshot } = value.metadata
            if (snapshot === undefined) return [key, value, options]
            learn(key, snapshot, readsLater)
            return [key, value, { ...options, ifCurrent: conditionOf(opened, snapshot) }]
          }),
        ),
    }),
    acquire(key, ms, { names, ...options } = {}) {
      const expected = keys.expected(key)
      const question =
        names === undefined || lent
          ? undefined
          : { clock: opened.storeClock, names: inStore(opened, names), expected: inStore(opened, expected) }
      return andThen(next.acquire(key, ms, { ...options, question }), (acquired) =>
        mapAcquired(
          acquired,
          (granted) => judge.granted(key, granted, expected),
          // The ledger judged a value that wakes waiters in the step that stored it, if the ledger is the store's own.
          (found) => {
            const snapshot = snapshotOf(found)
            if (lent || snapshot === undefined) return undefined
            learn(key, snapshot, readsLater)
            return ifVersionsStand(found, snapshot)
          },
        ),
      )
    },
    ledger: undefined,
    tracker: trackerOf(next, opened, { shared: ledger.shared, calls }),
  }
  return delegate(next, layer, true)
}

function trackerOf(
  next: Backend<CachedValue>,
  opened: OpenLedger,
  { shared, calls }: Pick<Tracker, 'shared' | 'calls'>,
): Tracker {
  return {
    tracksDependencies: calls !== undefined,
    shared,
    calls,
    validate: (snapshot) => validate(opened, snapshot),
    asOf: (names) => opened.now(names),
    invalidate: (names, mode) => opened.invalidate(names, mode),
    inspect: (key) =>
      andThen(next.get(key), (entry) => {
        const snapshot = entry === undefined ? undefined : snapshotOf(entry)
        if (snapshot === undefined) return { entry, invalidatedNames: [] }
        return andThen(opened.read(namesOf(snapshot)), (reading) =>
          andThen(outdated(snapshot.versions ?? []), (versions) => ({
            entry,
            invalidatedNames: [...invalidatedNames(snapshot, reading), ...versions],
          })),
        )
      }),
  }
}

/** The three ways to judge an entry, by how much of the ledger was read together with it. */
function judging(opened: OpenLedger, keys: KeyNames) {
  /** Judges an entry that is here already; the ledger answers whenever it does. */
  const present = (found: CachedValue | undefined): MaybePromise<CachedValue | undefined> => {
    if (found === undefined) return undefined
    const snapshot = snapshotOf(found)
    if (snapshot === undefined) return withoutSnapshot(found)
    // Nearly every hit ends here, where names need not even be mapped.
    if (opened.time !== undefined && isUnmoved(snapshot, opened.time()))
      return ifVersionsStand(found, snapshot)
    return andThen(validate(opened, snapshot), (freshness) => served(found, snapshot, freshness))
  }
  /** Judges an entry by a reading that was asked for together with it, if the reading covers its names. */
  const by = (
    key: string,
    found: CachedValue | undefined,
    reading: LedgerReading,
    asked: readonly string[],
  ): MaybePromise<CachedValue | undefined> => {
    if (found === undefined) return undefined
    const snapshot = snapshotOf(found)
    if (snapshot === undefined) return withoutSnapshot(found)
    const names = namesOf(snapshot)
    if (names !== asked) keys.learn(key, names)
    if (isUnmoved(snapshot, reading.now)) return ifVersionsStand(found, snapshot)
    return sameNames(asked, names)
      ? served(found, snapshot, freshnessAt(snapshot, reading))
      : andThen(opened.read(names), (later) => served(found, snapshot, freshnessAt(snapshot, later)))
  }
  /** Judges the entry that came with a lease. */
  const granted = (
    key: string,
    { found, asOf, stamps }: Granted<CachedValue>,
    expected: readonly string[],
  ): MaybePromise<CachedValue | undefined> =>
    asOf !== undefined && stamps !== undefined
      ? by(key, found, { now: asOf, stamps }, expected)
      : present(found)
  return { present, by, granted }
}

function served(
  found: CachedValue,
  snapshot: DependencySnapshot,
  freshness: Freshness,
): MaybePromise<CachedValue | undefined> {
  if (freshness === 'invalid') return undefined
  return ifVersionsStand(
    freshness === 'fresh' ? found : { payload: found.payload, metadata: { ...found.metadata, stale: true } },
    snapshot,
  )
}

/** An entry that its ledger lets pass may depend on versions, of which no ledger knows. */
function ifVersionsStand(
  found: CachedValue,
  { versions }: DependencySnapshot,
): MaybePromise<CachedValue | undefined> {
  return versions === undefined
    ? found
    : andThen(outdated(versions), ({ length }) => (length === 0 ? found : undefined))
}

function snapshotOf(found: CachedValue | null): DependencySnapshot | undefined {
  const snapshot = (found as Partial<CachedValue> | null)?.metadata?.snapshot
  // A foreign writer may have left any value there.
  return Array.isArray(snapshot?.groups) &&
    (snapshot.versions === undefined || Array.isArray(snapshot.versions))
    ? snapshot
    : undefined
}

/** No ledger vouches for an entry that was written without one. The region reports data that is no cached value. */
function withoutSnapshot(found: CachedValue): CachedValue | undefined {
  return isCachedValue(found) ? undefined : found
}

function validateThenSet(
  next: Backend<CachedValue>,
  opened: OpenLedger,
  [key, value, options]: readonly [string, CachedValue, WriteOptions],
): ReturnType<Backend<CachedValue>['set']> {
  return andThen(validate(opened, value.metadata.snapshot as DependencySnapshot), (freshness) => {
    if (freshness === 'fresh') return next.set(key, value, options)
    // A refused fill gives its lease back; a refused write leaves nothing older behind.
    const { token } = options
    const cleared = token === undefined ? next.delete(key) : next.release(key, token)
    return andThen<unknown, 'refused'>(cleared, () => 'refused')
  })
}

/** The names of a snapshot that were invalidated since it was taken. */
function invalidatedNames(snapshot: DependencySnapshot, { now, stamps }: LedgerReading): readonly string[] {
  if (now === undefined || now.epoch !== snapshot.epoch) return ['the clock itself, which was lost']
  let position = 0
  return snapshot.groups.flatMap(({ asOf, names }) =>
    names.filter(() => {
      const stamp = stamps[position++]
      return now.at > asOf && (stamp === undefined || stamp.hard > asOf || stamp.soft > asOf)
    }),
  )
}

/** Learns the names of keys, and reports each key with very many names once. */
function learning(keys: KeyNames): (key: string, snapshot: DependencySnapshot, readsLater: boolean) => void {
  const reported = new Set<string>()
  return (key, snapshot, readsLater) => {
    const names = namesOf(snapshot)
    if (readsLater) keys.learn(key, names)
    if (names.length <= MANY || reported.has(key) || reported.size >= REPORTED) return
    reported.add(key)
    report('notice', () => ({
      where: 'dependencies',
      key,
      message: `The entry depends on ${names.length} names, more than ${MANY}: each is asked for on every read. Name what they have in common, such as dep.tag() of the whole list.`,
    }))
  }
}
