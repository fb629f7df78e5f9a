import { setImmediate as nextTurn } from 'node:timers/promises'
import { report } from '../../../src/base/diagnostics.js'
import { CorralError, formatValue } from '../../../src/base/errors.js'
import { clearEntry, type EntryRecord, putEntry, readEntry, removeEntry } from '../entry-records.js'
import {
  after,
  carriedKey,
  keyText,
  newVersion,
  rangesOf,
  TAG,
  versionInOrder,
  writeHead,
} from '../format.js'
import { leaseExpiry } from '../lease.js'
import { dropOldStamps } from './stamps.js'
import type { Change, Row, Store } from './store.js'

/** Holds the file to its size: sweeps expired entries, evicts the oldest. */
export interface Budget {
  /** Under pressure the key is remembered, and its entry gets a second chance. */
  recordHit(key: string): void
  /** @throws CorralError `ERR_VALUE_TOO_LARGE` for a value that would evict a quarter of all entries. */
  expectRoom(key: string, size: number): void
  /** Counts written bytes, and sweeps after many of them. */
  recordWrite(key: string, size: number): void
  close(): void
}

interface BudgetOptions {
  readonly store: Store
  readonly maxBytes: number
  /** ms */
  readonly sweepEvery: number
}

/** Entries per transaction: a few ms of one thread, with a turn of the event loop in between. */
const STEP = 64
/** Bytes read per step. */
const STEP_BYTES = 2 ** 21
/** Steps of one round; the rest is left to the next round. */
const STEPS = 64
/** The bytes of an entry besides its key and value, about. */
const ENTRY_OVERHEAD = 156

/** A budget of `maxBytes` for the pages of the trees; every process keeps it for itself. */
export function byteBudget({ store, maxBytes, sweepEvery }: BudgetOptions): Budget {
  const chunk = Math.max(4096, maxBytes / 32)
  const hits = recentHits()
  const clearLeases = leaseSweeper(store)
  let written = 0
  let underPressure = false
  let running: Promise<void> | undefined

  const evictOverBudget = async (): Promise<boolean> => {
    const { entries, bookkeeping } = store.size()
    if (bookkeeping > maxBytes / 4) await dropOldStamps(store)
    underPressure = entries + bookkeeping > maxBytes * 0.75
    const over = entries + bookkeeping - maxBytes
    return over > 0 && clearOrder(store, byAge(), over + chunk, hits.take)
  }
  const round = async (): Promise<void> => {
    written = 0
    await clearLeases()
    await repeatInTurns(() => clearOrder(store, byExpiry(Date.now()), Number.POSITIVE_INFINITY))
    await repeatInTurns(evictOverBudget)
    hits.age()
  }
  const sweep = async (): Promise<void> => {
    running ??= round().finally(() => {
      running = undefined
    })
    try {
      await running
    } catch (error) {
      if (!store.closed) report('failure', () => ({ where: 'lmdb sweep', error }))
    }
  }
  const timer = setInterval(() => void sweep(), sweepEvery * (0.75 + Math.random() / 2)).unref()

  return {
    recordHit(key) {
      if (underPressure) hits.add(key)
    },
    expectRoom(key, size) {
      if (size <= maxBytes / 4) return
      throw new CorralError(
        'ERR_VALUE_TOO_LARGE',
        `Expected a value of at most ${Math.floor(maxBytes / 4)} bytes, a quarter of lmdb's \`maxBytes\`, got ${size} bytes for ${formatValue(key)}. Raise \`maxBytes\`, or compress.`,
      )
    },
    recordWrite(key, size) {
      written += key.length + size + ENTRY_OVERHEAD
      if (written >= chunk && running === undefined) void sweep()
    },
    close: () => clearInterval(timer),
  }
}

/** Runs a step until it is done or the round is long enough, each in a turn of the event loop. */
async function repeatInTurns(step: () => Promise<boolean>): Promise<void> {
  for (let i = 0; i < STEPS && (await step()); i++) await nextTurn()
}

/** Hits remembered, in each of two generations. */
const MAX_HITS = 10_000
/** Longer keys are not remembered: they would take the memory. */
const MAX_KEY_LENGTH = 1000

/** The keys of recent hits. */
function recentHits() {
  let young = new Set<string>()
  let old = new Set<string>()
  const age = () => {
    if (young.size > MAX_HITS) [old, young] = [young, new Set()]
  }
  return {
    add(key: string): void {
      if (key.length > MAX_KEY_LENGTH) return
      young.add(key)
      age()
    },
    /** Whether a key was hit; the hit counts once only. */
    take(key: string): boolean {
      const known = young.delete(key)
      return old.delete(key) || known
    },
    age,
  }
}

/** Removes leases of creators that died and whose keys no caller asked for again, a step of the range at a time. */
function leaseSweeper(store: Store): () => Promise<void> {
  const ranges = rangesOf(TAG.lease)
  let cursor: { readonly range: number; readonly from?: Buffer } = { range: 0 }
  return async () => {
    const now = Date.now()
    const [start, end] = ranges[cursor.range % ranges.length] as (typeof ranges)[number]
    const found = store.range(cursor.from ?? start, end, STEP)
    const last = found.at(-1)
    cursor =
      found.length < STEP || last === undefined
        ? { range: cursor.range + 1 }
        : { range: cursor.range, from: after(last.key) }
    const expired = found.filter(({ record }) => leaseExpiry(record) <= now)
    await Promise.all(
      expired.map(({ key, record }) => store.commit([{ key, version: record.readDoubleLE(0) }], [[key]])),
    )
  }
}

/** One of the two orders, from the start to where entries may stay. */
interface Order {
  readonly start: Buffer
  readonly end: Buffer
  readonly reason: 'expired' | 'evicted'
}

function byAge(): Order {
  return { start: Buffer.of(TAG.byAge), end: Buffer.of(TAG.byAge + 1), reason: 'evicted' }
}

function byExpiry(now: number): Order {
  const end = Buffer.alloc(9)
  end[0] = TAG.byExpiry
  end.writeDoubleBE(now, 1)
  return { start: Buffer.of(TAG.byExpiry), end, reason: 'expired' }
}

/** Clears the first places of an order, until so many bytes are gone. True: there may be more to clear. */
async function clearOrder(
  store: Store,
  { start, end, reason }: Order,
  bytes: number,
  stays: (key: string) => boolean = () => false,
): Promise<boolean> {
  const places = store.range(start, end, STEP)
  const work: Promise<unknown>[] = []
  let read = 0
  let gone = 0
  for (const place of places) {
    if (read > STEP_BYTES || gone >= bytes) break
    const found = findEntry(store, place, stays)
    read += found.size
    if (found.isCurrent && found.kept === undefined) gone += found.size
    work.push(clearPlace(store, place, found, reason))
  }
  await Promise.all(work)
  return work.length < places.length || places.length === STEP
}

interface PlacedEntry {
  readonly entry: EntryRecord
  readonly key: string
  readonly size: number
  /** Whether the entry is still the one that was written with this place. */
  readonly isCurrent: boolean
  /** A copy of the record, if it is to stay. */
  readonly kept: Buffer | undefined
}

function findEntry(
  store: Store,
  { key: order, record: place }: Row,
  stays: (key: string) => boolean,
): PlacedEntry {
  return store.snapshot((read) => {
    let key = keyText(place) ?? ''
    let size = 0
    let kept: Buffer | undefined
    const entry = readEntry(
      (target, onRecord) =>
        read(target, (bytes, length) => {
          onRecord?.(bytes, length)
          if (key === '') key = carriedKey(bytes)
          size = length
          if (stays(key)) kept = Buffer.from(bytes.subarray(0, length))
        }),
      place,
    )
    return { entry, key, size, isCurrent: entry.head?.version === versionInOrder(order), kept }
  })
}

async function clearPlace(
  store: Store,
  { key: order, record: place }: Row,
  { entry, key, isCurrent, kept }: PlacedEntry,
  reason: Order['reason'],
): Promise<void> {
  // The entry was replaced or removed by a process that had not seen this place.
  if (!isCurrent) return void (await store.commit([], [[order]]))
  if (kept !== undefined) return void (await store.commit([entry.record], renewPlaces(entry, place, kept)))
  if (await store.commit([entry.record], removeEntry(entry, key)))
    report('evict', () => ({ backend: 'lmdb', key, reason }))
}

/** The second chance: the entry counts as written now. */
function renewPlaces(entry: EntryRecord, place: Buffer, record: Buffer): readonly Change[] {
  if (entry.head === undefined) return []
  const head = { ...entry.head, version: newVersion(), writtenAt: Date.now() }
  writeHead(record, head)
  return [...clearEntry(entry), ...putEntry(place, head, record)]
}
