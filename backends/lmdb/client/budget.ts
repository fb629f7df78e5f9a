import { failureLog, report } from '../../../src/base/diagnostics.js'
import { CorralError, formatValue } from '../../../src/base/errors.js'
import { clearInterval, epochNow, nextTurn, setInterval } from '../../../src/base/timers.js'
import { clearEntry, putEntry, readEntry, removeEntry } from '../entry-records.js'
import { carriedKey, keyText, newVersion, TAG, versionInOrder, writeHead } from '../format.js'
import { leaseExpiry } from '../lease.js'
import { dropOldStamps, removeRows } from './stamps.js'
import type { Change, RecordVersion, Row, Store } from './store.js'

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
  const failures = failureLog()
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
    const now = epochNow()
    // Leases of creators that died and whose keys no caller asked for again.
    await removeRows(store, TAG.lease, (record) => leaseExpiry(record) <= now)
    await repeatInTurns(() => clearOrder(store, byExpiry(now), Number.POSITIVE_INFINITY))
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
      if (!store.closed) failures.failed(() => ({ where: 'lmdb sweep', error }))
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
    const { size, removed: key, conditions, changes } = planClearing(store, place, stays)
    read += size
    if (key !== undefined) gone += size
    const committed = store.commit(conditions, changes)
    work.push(
      committed.then((done) => {
        if (done && key !== undefined) report('evict', () => ({ backend: 'lmdb', key, reason }))
      }),
    )
  }
  await Promise.all(work)
  return work.length < places.length || places.length === STEP
}

interface Clearing {
  /** Bytes that were read. */
  readonly size: number
  /** The key whose entry goes; absent: its entry stays, or is gone. */
  readonly removed?: string
  readonly conditions: readonly RecordVersion[]
  readonly changes: readonly Change[]
}

/** Plans the end of a place in an order: its entry goes, or gets a second chance. */
function planClearing(
  store: Store,
  { key: order, record: place }: Row,
  stays: (key: string) => boolean,
): Clearing {
  return store.snapshot((read) => {
    let key = keyText(place) ?? ''
    let size = 0
    let kept: Buffer | undefined
    const entry = readEntry(
      (target, onRecord) =>
        read(target, (bytes) => {
          onRecord?.(bytes)
          if (key === '') key = carriedKey(bytes)
          size = bytes.length
          if (stays(key)) kept = Buffer.from(bytes.subarray(0, size))
        }),
      place,
    )
    const { record, head } = entry
    // The entry was replaced or removed by a process that had not seen this place.
    if (head?.version !== versionInOrder(order)) return { size, conditions: [], changes: [[order]] }
    if (kept === undefined)
      return { size, removed: key, conditions: [record], changes: removeEntry(entry, key) }
    // The entry counts as written now.
    const renewed = { ...head, version: newVersion(), writtenAt: epochNow() }
    writeHead(kept, renewed)
    return { size, conditions: [record], changes: [...clearEntry(entry), ...putEntry(place, renewed, kept)] }
  })
}
