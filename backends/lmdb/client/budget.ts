import { setImmediate as nextTurn } from 'node:timers/promises'
import { report } from '../../../src/base/diagnostics.js'
import { CorralError, formatValue } from '../../../src/base/errors.js'
import { addition, type FoundEntry, readEntry, removal, withdrawal } from '../entry.js'
import {
  after,
  carriedKey,
  type EntryHead,
  keyText,
  newVersion,
  rangesOf,
  TAG,
  versionInOrder,
  writeHead,
} from '../format.js'
import { leaseExpiry } from '../lease.js'
import { dropOldStamps } from './stamps.js'
import type { Change, Seen, Store } from './store.js'

/** Holds the file to its size: sweeps what has expired, evicts what has not. */
export interface Budget {
  /** A hit: under pressure it is remembered, and the entry gets a second chance. */
  read(key: string): void
  /** @throws CorralError `ERR_VALUE_TOO_LARGE` for what would push out a quarter of everything. */
  admit(key: string, size: number): void
  wrote(size: number): void
  /** One round of sweeping and, if need be, evicting. Resolves with the number of entries that left. */
  sweep(): Promise<number>
  close(): void
}

/** Entries per transaction: a few ms of one thread, and the event loop gets its turn in between. */
const STEP = 64
/** Bytes looked at per step. */
const STEP_BYTES = 2 ** 21
/** Steps of one round; what is left is the next round's. */
const STEPS = 64
/** Hits remembered, in each of two generations. */
const REMEMBERED = 10_000
/** Longer keys are not remembered: the memory would be theirs. */
const LONGEST = 1000

interface Parts {
  readonly store: Store
  readonly maxBytes: number
  readonly sweepEvery: number
}

interface Left {
  count: number
}

/** A budget of `maxBytes` for what the tree's pages hold, looked after by every process for itself. */
export function byteBudget({ store, maxBytes, sweepEvery }: Parts): Budget {
  const chunk = Math.max(4096, maxBytes / 32)
  let written = 0
  let pressed = false
  let young = new Set<string>()
  let old = new Set<string>()
  let running: Promise<number> | undefined
  let hand: { readonly range: number; readonly from?: Buffer } = { range: 0 }

  /** An entry with its key and size, and a copy of its record if it is to stay. */
  const find = (place: Buffer, stays: (key: string) => boolean) =>
    store.snapshot((look) => {
      let key = keyText(place) ?? ''
      let size = 0
      let record: Buffer | undefined
      const entry = readEntry(
        (target, found) =>
          look(target, (bytes, length) => {
            found?.(bytes, length)
            if (key === '') key = carriedKey(bytes)
            size = length
            if (stays(key)) record = Buffer.from(bytes.subarray(0, length))
          }),
        place,
      )
      return { entry, key, size, record }
    })

  /** Clears the first places of an order, until so many bytes are gone. True: there may be more to clear. */
  const clear = async (
    start: Buffer,
    end: Buffer,
    reason: 'expired' | 'evicted',
    bytes: number,
    left: Left,
  ): Promise<boolean> => {
    const places = store.range(start, end, STEP)
    const work: Promise<unknown>[] = []
    let seen = 0
    let gone = 0
    let looked = 0
    for (const { key: order, record: place } of places) {
      if (seen > STEP_BYTES || gone >= bytes) break
      looked++
      const { entry, key, size, record } = find(place, (text) => reason === 'evicted' && recently(text))
      seen += size
      if (entry.head === undefined || entry.head.version !== versionInOrder(order)) {
        // Its entry was replaced or removed by somebody who had not seen this place.
        work.push(store.commit([], [[order]]))
      } else if (record !== undefined)
        work.push(store.commit([entry.seen], secondChance(entry.head, entry, place, record)))
      else {
        gone += size
        const remove = async (): Promise<void> => {
          if (!(await store.commit([entry.seen], removal(entry, key)))) return
          left.count++
          report('evict', () => ({ backend: 'lmdb', key, reason }))
        }
        work.push(remove())
      }
    }
    await Promise.all(work)
    return looked < places.length || places.length === STEP
  }
  const recently = (key: string): boolean => {
    // Once only: whoever is not read again goes next time.
    const known = young.delete(key)
    return old.delete(key) || known
  }
  const secondChance = (
    former: EntryHead,
    entry: FoundEntry,
    place: Buffer,
    record: Buffer,
  ): readonly Change[] => {
    const head = { ...former, version: newVersion(), writtenAt: Date.now() }
    writeHead(record, head)
    return [...withdrawal(entry), ...addition(place, head, record)]
  }
  /** Leases of creators that died and were never asked for again. */
  const clearLeases = async (): Promise<void> => {
    const now = Date.now()
    const ranges = rangesOf(TAG.lease)
    const [start, end] = ranges[hand.range % ranges.length] as (typeof ranges)[number]
    const found = store.range(hand.from ?? start, end, STEP)
    const last = found.at(-1)
    hand =
      found.length < STEP || last === undefined
        ? { range: hand.range + 1 }
        : { range: hand.range, from: after(last.key) }
    const expired = found.filter(({ record }) => leaseExpiry(record) <= now)
    await Promise.all(
      expired.map(({ key, record }) => {
        const seen: Seen = { key, version: record.readDoubleLE(0) }
        return store.commit([seen], [[key]])
      }),
    )
  }
  const round = async (): Promise<number> => {
    const left: Left = { count: 0 }
    written = 0
    await clearLeases()
    for (let step = 0; step < STEPS; step++) {
      const end = Buffer.alloc(9)
      end[0] = TAG.byExpiry
      end.writeDoubleBE(Date.now(), 1)
      if (!(await clear(Buffer.of(TAG.byExpiry), end, 'expired', Number.POSITIVE_INFINITY, left))) break
      await nextTurn()
    }
    const oldest = Buffer.of(TAG.byAge)
    const newest = Buffer.of(TAG.byAge + 1)
    for (let step = 0; step < STEPS; step++) {
      const { entries, bookkeeping } = store.size()
      if (bookkeeping > maxBytes / 4) await dropOldStamps(store)
      pressed = entries + bookkeeping > maxBytes * 0.75
      const over = entries + bookkeeping - maxBytes
      if (over <= 0 || !(await clear(oldest, newest, 'evicted', over + chunk, left))) break
      await nextTurn()
    }
    if (young.size > REMEMBERED) [old, young] = [young, new Set()]
    return left.count
  }
  const sweep = (): Promise<number> => {
    running ??= round().finally(() => {
      running = undefined
    })
    return running
  }
  const sweepQuietly = async (): Promise<void> => {
    try {
      await sweep()
    } catch (error) {
      if (!store.closed) report('failure', () => ({ where: 'lmdb sweep', error }))
    }
  }
  const timer = setInterval(() => void sweepQuietly(), sweepEvery * (0.75 + Math.random() / 2)).unref()

  return {
    read(key) {
      if (!pressed || key.length > LONGEST) return
      young.add(key)
      if (young.size > REMEMBERED) [old, young] = [young, new Set()]
    },
    admit(key, size) {
      if (size <= maxBytes / 4) return
      throw new CorralError(
        'ERR_VALUE_TOO_LARGE',
        `Expected a value of at most ${Math.floor(maxBytes / 4)} bytes, a quarter of lmdb's \`maxBytes\`, got ${size} bytes for ${formatValue(key)}. Raise \`maxBytes\`, or compress.`,
      )
    },
    wrote(size) {
      written += size + 128
      if (written >= chunk && running === undefined) void sweepQuietly()
    },
    sweep,
    close: () => clearInterval(timer),
  }
}
