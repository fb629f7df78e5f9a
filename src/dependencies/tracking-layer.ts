import type { Backend, Write, WriteOptions } from '../backend/backend.js'
import { type CachedValue, isCachedValue, type Metadata } from '../backend/cached-value.js'
import { layerOver, type Overrides } from '../backend/delegate.js'
import { mapAcquired } from '../backend/lease.js'
import { discard, isCopy, type NearCache } from '../backend/near-cache.js'
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
import { keyLayerOf, withKeys } from '../chain/map-keys.js'
import { outdated } from '../ledger/checked-names.js'
import {
  bindLedger,
  CHAIN_CLOCK,
  conditionOf,
  type Freshness,
  freshnessAt,
  inStore,
  isUnmoved,
  type Ledger,
  type LedgerReading,
  type OpenLedger,
} from '../ledger/ledger.js'
import { type DependencySnapshot, type LedgerTime, namesOf } from '../ledger/snapshot.js'
import { type CopyMark, LEAST_PUSHED } from '../ledger/tail.js'
import { validate } from '../ledger/validate.js'
import { type KeyNames, keyNames, sameNames } from './key-names.js'

/** More names than this on one entry are reported: every read asks for the stamp of each of them. */
const MANY = 1_000
/** The most keys that one chain reports. */
const REPORTED = 1_000

export interface TrackingOptions {
  /** The ledger is not the store's own. Validating and writing are then two steps; the next read catches a change between. */
  readonly lent?: boolean | undefined
  readonly calls?: (() => CallRegistry) | undefined
}

/**
 * Makes entries die with their dependencies. An entry carries a snapshot; a read compares it with the ledger, a write is
 * checked against it.
 */
export function track(
  next: Backend<CachedValue>,
  ledger: Ledger,
  options: TrackingOptions = {},
): Backend<CachedValue> {
  // Tracking reads no keys, so a layer that only maps keys may as well stand above it, where the region's keyspace joins it.
  const keyed = keyLayerOf(next)
  return keyed === undefined
    ? trackingLayer(next, ledger, options)
    : withKeys(trackingLayer(keyed.below, ledger, options), keyed.map)
}

function trackingLayer(
  next: Backend<CachedValue>,
  ledger: Ledger,
  { lent = false, calls }: TrackingOptions,
): Backend<CachedValue> {
  const opened = bindLedger(ledger.open(CHAIN_CLOCK))
  const keys = keyNames()
  const learn = learning(keys)
  const judge = judging(opened, keys, next.near?.keep)
  const reads = trackedReads({ next, opened, keys, judge, lent })
  /**
   * The options of a write, which the store checks against the ledger if the ledger is its own. A mark is no value: refused because a
   * name of the entry is invalidated, it would leave other values of the key unmarked, which other caches have.
   */
  const conditional = (key: string, { metadata }: CachedValue, options: WriteOptions): WriteOptions => {
    const { snapshot } = metadata
    if (snapshot === undefined || options.mark === true) return options
    learn(key, snapshot, reads.comeLater())
    if (lent) return options
    const { ttl, token } = options
    const ifCurrent = conditionOf(opened, snapshot)
    // Not by a spread, which costs as much as the rest.
    if (token === undefined) return ttl === undefined ? { ifCurrent } : { ttl, ifCurrent }
    return ttl === undefined ? { token, ifCurrent } : { ttl, token, ifCurrent }
  }

  const layer: Overrides<CachedValue> = {
    get: reads.get,
    getMulti: reads.getMulti,
    set(key, value, options) {
      const checked = conditional(key, value, options)
      return lent ? validateThenSet(next, opened, [key, value, checked]) : next.set(key, value, checked)
    },
    ...(!lent && {
      setMulti: (writes) =>
        next.setMulti(
          Object.freeze(
            writes.map(([key, value, options]) => [key, value, conditional(key, value, options)] as const),
          ),
        ),
    }),
    acquire(key, ms, { names, steal = false, overFailed, ifAbsent } = {}) {
      const asked = keys.expected(key)
      const question =
        names === undefined || lent
          ? undefined
          : { clock: opened.storeClock, names: inStore(opened, names), expected: inStore(opened, asked) }
      return andThen(next.acquire(key, ms, { steal, overFailed, ifAbsent, question }), (acquired) =>
        mapAcquired(
          acquired,
          ({ found, asOf: now, stamps }) =>
            now && stamps ? judge.by(key, found, { now, stamps }, asked) : judge.alone(found),
          // The ledger judged a value that wakes waiters in the step that stored it, if the ledger is the store's own.
          (found) => {
            const snapshot = snapshotOf(found)
            if (lent || snapshot === undefined) return undefined
            learn(key, snapshot, reads.comeLater())
            return ifVersionsStand(found, snapshot)
          },
        ),
      )
    },
    // No value is served without the ledger: a lent one has to answer as well.
    ...(lent && { ping: () => andThen(next.ping(), () => andThen(opened.read([]), () => undefined)) }),
    ledger: undefined,
    tracker: trackerOf(next, opened, { shared: ledger.shared, calls }),
  }
  return layerOver(next, layer, true)
}

interface TrackedReadsOptions {
  readonly next: Backend<CachedValue>
  readonly opened: OpenLedger
  readonly keys: KeyNames
  readonly judge: ReturnType<typeof judging>
  readonly lent: boolean
}

/** Reads of entries, each judged by the ledger, or by a near cache's knowledge of it. */
function trackedReads({ next, opened, keys, judge, lent }: TrackedReadsOptions) {
  const { near } = next
  /** Whether reads return later. Entries that are read at once are judged without asking for names together with them. */
  let readsLater = true
  const judgeCopy = near === undefined ? judge.alone : judgingCopies(opened, judge, lent, (key) => read(key))

  /** Asks for the names that a key is expected to depend on: the question by which `judgeLater` judges its entry. */
  const ask = (key: string): Question => {
    const asked = keys.expected(key)
    return { key, asked, reading: ignoreRejection(opened.read(asked)), entry: undefined }
  }
  const judgeBy = (reading: LedgerReading, { key, entry, asked }: Question) =>
    judge.by(key, entry, reading, asked)
  const judgeLater = (entry: CachedValue | undefined, question: Question): Judged => {
    if (entry === undefined) return undefined
    if (near !== undefined && isCopy(entry)) return judgeCopy(entry, question.key)
    question.entry = entry
    return mapLazily(question.reading, judgeBy, question)
  }
  const judgeNow = (found: CachedValue | undefined, key: string): Judged => {
    if (near === undefined) readsLater = false
    else if (isCopy(found)) return judgeCopy(found, key)
    return judge.alone(found)
  }
  const read = (key: string): Judged => {
    const found = next.get(key)
    if (!isPromise(found)) return judgeNow(found, key)
    readsLater = true
    return mapLazily(found, judgeLater, ask(key))
  }
  const readMulti = (wanted: readonly string[]): MaybePromise<(CachedValue | undefined)[]> => {
    const found = next.getMulti(wanted)
    if (!isPromise(found)) return all(found.map((entry, i) => judgeNow(entry, wanted[i] as string)))
    readsLater = true
    const questions = wanted.map(ask)
    return found.then((entries) =>
      Promise.all(entries.map((entry, i) => judgeLater(entry, questions[i] as Question))),
    )
  }
  const isStrong = near !== undefined && near.maxStaleness < LEAST_PUSHED
  return {
    comeLater: () => readsLater,
    get: isStrong ? (key: string) => near.proved([key], () => read(key)) : read,
    getMulti: isStrong
      ? (wanted: readonly string[]) => near.proved(wanted, () => readMulti(wanted))
      : readMulti,
  }
}

/** A copy that does not stand is no miss: the store may have a newer value. */
function judgingCopies(
  opened: OpenLedger,
  judge: ReturnType<typeof judging>,
  lent: boolean,
  read: (key: string) => Judged,
): (copy: CachedValue | undefined, key: string) => Judged {
  // A ledger that is lent is not the one whose changes the near cache follows.
  const namesStand = lent ? undefined : opened.tail?.().namesStand
  const readAgain = (copy: CachedValue, key: string): Judged => {
    discard(copy)
    return read(key)
  }
  return (copy, key) => {
    const snapshot = snapshotOf(copy)
    if (copy !== undefined && snapshot !== undefined && namesStand !== undefined)
      return namesStand(namesOf(snapshot), copy.metadata.near as CopyMark)
        ? ifVersionsStand(copy, snapshot)
        : readAgain(copy, key)
    return andThen(judge.alone(copy), (entry) =>
      copy !== undefined && (entry === undefined || entry.metadata.stale === true)
        ? readAgain(copy, key)
        : entry,
    )
  }
}

/** The ledger's time, at which no copy is served any more that was invalidated before: a caller may read copies and then store. */
function provenAsOf(
  { near }: Backend<CachedValue>,
  opened: OpenLedger,
  names: readonly string[],
): MaybePromise<LedgerTime> {
  const now = opened.now(names)
  // The near cache knows its own record, which is not that of a lent ledger.
  return near === undefined ? now : andThen(now, (at) => near.proved([], () => at, 0))
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
    asOf: (names) => provenAsOf(next, opened, names),
    invalidate: (names, ...rest) => opened.invalidate(names, ...rest),
    pending: opened.pending && ((names, ...rest) => opened.pending?.(names, ...rest) ?? 0),
    inspect: (key) =>
      andThen(next.get(key), (entry) => {
        const snapshot = snapshotOf(entry)
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

/** A read of the ledger that goes along with the read of a key, whose entry comes later. */
interface Question {
  readonly key: string
  readonly asked: readonly string[]
  readonly reading: MaybePromise<LedgerReading>
  entry: CachedValue | undefined
}

type Judged = ReturnType<Backend<CachedValue>['get']>

/**
 * The two ways to judge an entry: with or without a reading of the ledger that came with it.
 * @param keep - receives each entry that is fresh, if the chain has a near cache
 */
function judging(opened: OpenLedger, keys: KeyNames, keep: NearCache['keep'] | undefined) {
  return {
    alone(found: CachedValue | undefined): Judged {
      const snapshot = snapshotOf(found)
      if (found === undefined || snapshot === undefined) return withoutSnapshot(found)
      // Nearly every hit ends here, where names need not even be mapped.
      if (opened.time !== undefined && isUnmoved(snapshot, opened.time())) {
        keep?.(found)
        return ifVersionsStand(found, snapshot)
      }
      return andThen(validate(opened, snapshot), (freshness) => served(found, snapshot, freshness, keep))
    },
    /** @param asked - the names that `reading` covers, in its order */
    by(
      key: string,
      found: CachedValue | undefined,
      reading: LedgerReading,
      asked: readonly string[],
    ): Judged {
      const snapshot = snapshotOf(found)
      if (found === undefined || snapshot === undefined) return withoutSnapshot(found)
      const names = namesOf(snapshot)
      if (names !== asked) keys.learn(key, names)
      if (isUnmoved(snapshot, reading.now)) {
        keep?.(found)
        return ifVersionsStand(found, snapshot)
      }
      // The entry may have been stored after that reading.
      const later = snapshot.groups.some(({ asOf }) => asOf > (reading.now?.at ?? 0))
      const covering = sameNames(asked, names) && !later ? reading : opened.read(names)
      return andThen(covering, (read) => served(found, snapshot, freshnessAt(snapshot, read), keep, read))
    },
  }
}

/** No ledger vouches for an entry that was written without one. The region reports data that is no cached value. */
function withoutSnapshot(found: CachedValue | undefined): CachedValue | undefined {
  return isCachedValue(found) ? undefined : found
}

/** The times of soft invalidations, of metadata that were read as stale. They are stored nowhere. */
const softTimes = new WeakMap<Metadata, number>()

/** The latest soft invalidation of a name of an entry that a read returned, if that read knows it. */
export function softInvalidatedAt(metadata: Metadata): number | undefined {
  return softTimes.get(metadata)
}

function served(
  found: CachedValue,
  snapshot: DependencySnapshot,
  freshness: Freshness,
  keep: NearCache['keep'] | undefined,
  reading?: LedgerReading,
): Judged {
  if (freshness === 'invalid') return undefined
  if (freshness === 'fresh') {
    keep?.(found)
    return ifVersionsStand(found, snapshot)
  }
  const { payload, metadata } = found
  const stale = { ...metadata, stale: true }
  if (reading !== undefined)
    softTimes.set(
      stale,
      reading.stamps.reduce((latest, stamp) => Math.max(latest, stamp?.soft ?? 0), 0),
    )
  return ifVersionsStand({ payload, metadata: stale }, snapshot)
}

/** An entry that its ledger lets pass may depend on versions, of which no ledger knows. */
function ifVersionsStand(found: CachedValue, { versions }: DependencySnapshot): Judged {
  return versions === undefined
    ? found
    : andThen(outdated(versions), ({ length }) => (length === 0 ? found : undefined))
}

function snapshotOf(found: Partial<CachedValue> | null | undefined): DependencySnapshot | undefined {
  const snapshot = found?.metadata?.snapshot
  // A foreign writer may have left any value there.
  return Array.isArray(snapshot?.groups) &&
    (snapshot.versions === undefined || Array.isArray(snapshot.versions))
    ? snapshot
    : undefined
}

function validateThenSet(
  next: Backend<CachedValue>,
  opened: OpenLedger,
  [key, value, options]: Write<CachedValue>,
): ReturnType<Backend<CachedValue>['set']> {
  const { snapshot } = value.metadata
  if (snapshot === undefined || options.mark === true) return next.set(key, value, options)
  return andThen(validate(opened, snapshot), (freshness) => {
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
      if (asOf >= now.at) return asOf > now.at
      return stamp === undefined || stamp.hard > asOf || stamp.soft > asOf
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
