import { CorralError } from '../../../src/base/errors.js'
import { clockReader, latest, raised } from '../clock-record.js'
import { after, clockOf, rangesOf, TAG } from '../format.js'
import type { Row, Store } from './store.js'

/** Stamps looked at per step. */
const STEP = 256
/** How often a clock that moves under our hands is tried again. */
const TRIES = 50

/**
 * Drops the older half of the stamps, or so. First every clock's floor rises to where they stand, and speaks for them
 * from then on: it can only cost creations.
 */
export async function dropOldStamps(store: Store): Promise<void> {
  const [range] = rangesOf(TAG.stamp)
  if (range === undefined) return
  const sample = store.range(...range, 4 * STEP).map(({ record }) => latest(record))
  const cutoff = sample.sort((one, other) => one - other)[sample.length >> 1]
  if (cutoff === undefined) return
  for (const [start, end] of rangesOf(TAG.clock))
    await eachRow(store, start, end, ({ key }) => raiseFloor(store, key, cutoff))
  for (const [start, end] of rangesOf(TAG.stamp))
    await eachRow(store, start, end, async ({ key, record }) => {
      if (latest(record) <= cutoff) await store.commit([{ key, version: record.readDoubleLE(0) }], [[key]])
    })
}

async function raiseFloor(store: Store, key: Buffer, cutoff: number): Promise<void> {
  const readClock = clockReader()
  for (let tries = 0; tries < TRIES; tries++) {
    const read = store.snapshot((look) => readClock((_, found) => look(key, found), ''))
    const { now, seen } = read
    if (now === undefined) return
    const anchor = { key: clockOf(key, TAG.anchor), version: read.anchor.version }
    // No higher than the clock stands, or what is made from now on were dead at birth.
    const floor = Math.max(read.floor, Math.min(now.at, cutoff))
    if (await store.commit([seen, anchor], raised({ ...read, seen, anchor, now }, floor), true)) return
  }
  throw new CorralError(
    'ERR_BACKEND',
    'A clock of the LMDB file moves too fast for its old stamps to be dropped; the next sweep tries again.',
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
