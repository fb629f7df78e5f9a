import { randomUUID } from 'node:crypto'
import type { Basis, Instant } from '../../src/cached-value.js'
import { CorralError } from '../../src/errors.js'
import {
  compare,
  type Freshness,
  type InvalidationMode,
  type Ledger,
  namesOf,
  type Stamp,
} from '../../src/ledger.js'
import { after, newVersion, rangesOf, retagged, stampKey, TAG, taggedKey } from './layout.js'
import type { Change, Look, Row, Seen, Store } from './store.js'

/** What an entry was made from, judged, with the records that the judgement rests on. */
export interface Verdict {
  readonly freshness: Freshness
  readonly seen: readonly Seen[]
}

export interface FileLedger extends Ledger {
  /** Judges within a snapshot, so that a write can depend on the verdict. */
  examine(look: (key: Buffer, found?: Look) => Seen, clock: string, basis: Basis): Verdict
}

interface Account {
  readonly seen: Seen
  readonly epoch: string
  /** What an absent stamp stands for. */
  readonly floor: number
}

type Reader = (key: Buffer, found?: Look) => Seen

const EPOCH_AT = 16

/**
 * A clock and stamps in the file. Only names that were invalidated have a stamp; all others stand at the clock's floor,
 * which rises when stamps are dropped. The clock is hybrid: microseconds of the day, never backwards.
 */
export function fileLedger(store: Store): FileLedger {
  const readNow = (look: Reader, clock: string) => {
    let at: number | undefined
    const seen = look(taggedKey(TAG.now, clock), (bytes) => {
      at = bytes.readDoubleLE(8)
    })
    return { seen, at }
  }
  const readAccount = (look: Reader, clock: string): Account => {
    let epoch = ''
    let floor = 0
    const seen = look(taggedKey(TAG.account, clock), (bytes, size) => {
      floor = bytes.readDoubleLE(8)
      epoch = bytes.toString('latin1', EPOCH_AT, size)
    })
    return { seen, epoch, floor }
  }
  const readStamp = (look: Reader, clock: string, name: string, floor: number) => {
    let stamp: Stamp | undefined
    const seen = look(stampKey(clock, name), (bytes) => {
      stamp = { hard: Math.max(floor, bytes.readDoubleLE(8)), soft: Math.max(floor, bytes.readDoubleLE(16)) }
    })
    return { seen, stamp: stamp ?? { hard: floor, soft: floor } }
  }
  const instant = (look: Reader, clock: string): Instant | undefined => {
    const { epoch } = readAccount(look, clock)
    const { at } = readNow(look, clock)
    return at === undefined || epoch === '' ? undefined : { epoch, at }
  }

  const judge = (look: Reader, clock: string, basis: Basis): Freshness => {
    const now = instant(look, clock)
    if (now === undefined || now.epoch !== basis.epoch) return 'dead'
    if (basis.groups.every(({ a }) => now.at <= a)) return 'fresh'
    const { floor } = readAccount(look, clock)
    return compare(basis, {
      now,
      stamps: namesOf(basis).map((name) => readStamp(look, clock, name, floor).stamp),
    })
  }

  /** Invalidations that came while one was being written go together into the next. */
  interface Order {
    readonly names: readonly string[]
    readonly mode: InvalidationMode
    readonly done: () => void
    readonly failed: (error: unknown) => void
  }
  const orders = new Map<string, Order[]>()

  const stampAll = (clock: string, batch: readonly Order[]): Promise<void> =>
    store.inTurn(`clock ${clock}`, async (attempt) => {
      for (;;) {
        attempt()
        const { seen, changes } = store.snapshot((look) => {
          const account = readAccount(look, clock)
          const now = readNow(look, clock)
          const at = Math.max((now.at ?? 0) + 1, Date.now() * 1000)
          const stamps = new Map<string, Stamp>()
          for (const { names, mode } of batch)
            for (const name of names) {
              const { hard, soft } = stamps.get(name) ?? readStamp(look, clock, name, account.floor).stamp
              stamps.set(name, mode === 'hard' ? { hard: at, soft } : { hard, soft: at })
            }
          const changes: Change[] = [[now.seen.key, numbers(at)]]
          if (account.epoch === '') changes.push([account.seen.key, accountRecord(randomUUID(), 0)])
          for (const [name, { hard, soft }] of stamps)
            changes.push([stampKey(clock, name), numbers(hard, soft)])
          // Every stamp is written together with the clock, so the clock's version stands for all of them.
          return { seen: [now.seen, account.seen], changes }
        })
        if (await store.commit(seen, changes, true)) return
      }
    })
  const work = async (clock: string): Promise<void> => {
    for (;;) {
      const batch = orders.get(clock)
      if (batch === undefined) return
      if (batch.length === 0) {
        orders.delete(clock)
        return
      }
      orders.set(clock, [])
      try {
        await stampAll(clock, batch)
        for (const { done } of batch) done()
      } catch (error) {
        for (const { failed } of batch) failed(error)
      }
    }
  }

  return {
    shared: true,
    read: (clock, names) =>
      store.snapshot((look) => {
        const now = instant(look, clock)
        if (now === undefined) return { now, stamps: names.map(() => undefined) }
        const { floor } = readAccount(look, clock)
        return { now, stamps: names.map((name) => readStamp(look, clock, name, floor).stamp) }
      }),
    begin(clock) {
      const now = store.snapshot((look) => instant(look, clock))
      if (now !== undefined) return now
      const create = store.inTurn(`clock ${clock}`, async (attempt) => {
        for (;;) {
          attempt()
          const made = store.snapshot((look) => {
            const present = instant(look, clock)
            if (present !== undefined) return { present }
            const account = readAccount(look, clock)
            const before = readNow(look, clock)
            const begun = { epoch: randomUUID(), at: Math.max((before.at ?? 0) + 1, Date.now() * 1000) }
            return { account, before, begun }
          })
          if (made.present !== undefined) return made.present
          const { account, before, begun } = made
          const changes: Change[] = [
            [account.seen.key, accountRecord(begun.epoch, 0)],
            [before.seen.key, numbers(begun.at)],
          ]
          if (await store.commit([account.seen, before.seen], changes)) return begun
        }
      })
      return store.timely(create)
    },
    judge: (clock, basis) => store.snapshot((look) => judge(look, clock, basis)),
    examine(look, clock, basis) {
      const freshness = judge(look, clock, basis)
      if (freshness !== 'fresh') return { freshness, seen: [] }
      const { seen, floor } = readAccount(look, clock)
      // Not the clock itself: it moves with every invalidation of anything.
      return {
        freshness,
        seen: [seen, ...namesOf(basis).map((name) => readStamp(look, clock, name, floor).seen)],
      }
    },
    invalidate(clock, names, mode) {
      const invalidated = new Promise<void>((done, failed) => {
        const waiting = orders.get(clock)
        const order = { names, mode, done, failed }
        if (waiting !== undefined) {
          waiting.push(order)
          return
        }
        orders.set(clock, [order])
        void work(clock)
      })
      return store.timely(invalidated)
    },
  }
}

function numbers(...values: readonly number[]): Buffer {
  const bytes = Buffer.allocUnsafe(8 + values.length * 8)
  bytes.writeDoubleLE(newVersion(), 0)
  values.forEach((value, i) => bytes.writeDoubleLE(value, 8 + i * 8))
  return bytes
}

/** Stamps looked at per step. */
const STEP = 256

/**
 * Drops the older half of the stamps, or so. First every clock's floor rises to what they say, and stands for them from
 * then on: it can only cost creations.
 */
export async function dropOldStamps(store: Store): Promise<void> {
  const [sample] = rangesOf(TAG.stamp).map(([start, end]) => store.range(start, end, 4 * STEP))
  const ages = (sample ?? []).map(({ record }) => latest(record)).sort((one, other) => one - other)
  const cutoff = ages[ages.length >> 1]
  if (cutoff === undefined) return
  for (const [start, end] of rangesOf(TAG.account))
    await eachRow(store, start, end, (row) => raiseFloor(store, row, cutoff))
  for (const [start, end] of rangesOf(TAG.stamp))
    await eachRow(store, start, end, async ({ key, record }) => {
      if (latest(record) <= cutoff) await store.commit([{ key, version: record.readDoubleLE(0) }], [[key]])
    })
}

async function raiseFloor(store: Store, { key, record }: Row, cutoff: number): Promise<void> {
  // No higher than the clock stands, or what is made from now on were dead at birth.
  let at = 0
  store.snapshot((look) =>
    look(retagged(key, TAG.now), (bytes) => {
      at = bytes.readDoubleLE(8)
    }),
  )
  const floor = Math.max(record.readDoubleLE(8), Math.min(at, cutoff))
  const raised = await store.commit(
    [{ key, version: record.readDoubleLE(0) }],
    [[key, accountRecord(record.toString('latin1', EPOCH_AT), floor)]],
    true,
  )
  if (!raised)
    throw new CorralError(
      'ERR_BACKEND',
      'Another process is dropping old stamps of the LMDB file at the same time.',
    )
}

/** Goes through a range in steps that leave the event loop its turns. */
async function eachRow(
  store: Store,
  start: Buffer,
  end: Buffer,
  visit: (row: Row) => Promise<void>,
): Promise<void> {
  for (let from = start; ; ) {
    const rows = store.range(from, end, STEP)
    await Promise.all(rows.map(visit))
    const last = rows.at(-1)
    if (last === undefined || rows.length < STEP) return
    from = after(last.key)
  }
}

function latest(stamp: Buffer): number {
  return Math.max(stamp.readDoubleLE(8), stamp.readDoubleLE(16))
}

function accountRecord(epoch: string, floor: number): Buffer {
  const bytes = Buffer.allocUnsafe(EPOCH_AT + epoch.length)
  bytes.writeDoubleLE(newVersion(), 0)
  bytes.writeDoubleLE(floor, 8)
  bytes.write(epoch, EPOCH_AT, 'latin1')
  return bytes
}
