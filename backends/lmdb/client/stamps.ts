import { epochNow, nextTurn } from '../../../src/base/timers.js'
import { anchorClock, keysOf, latestInvalidation, listedMarks, readClock } from '../clock-records.js'
import { after, rangesOf, TAG } from '../format.js'
import type { Row, Store } from './store.js'

/** Records per step. */
const STEP = 256

/**
 * Drops about the older half of the stamps. First the floor of every clock rises to the latest of them and stands in
 * for them: that can only cost creations.
 */
export async function dropOldStamps(store: Store): Promise<void> {
  const [range] = rangesOf(TAG.stamp)
  if (range === undefined) return
  const sample = store.range(...range, 4 * STEP).map(({ record }) => latestInvalidation(record))
  const middle = sample.sort((one, other) => one - other)[sample.length >> 1]
  if (middle === undefined) return
  // The stamp of a marked name is of the time at which its mark ends: it stays until then.
  let end = epochNow() * 1000
  await eachRow(store, TAG.marks, async ({ record }) => {
    for (const mark of listedMarks(record)) end = Math.min(end, mark.end - 1)
  })
  const cutoff = Math.min(middle, end)
  await eachRow(store, TAG.clock, ({ key }) => raiseFloor(store, key, cutoff))
  await removeRows(store, TAG.stamp, (record) => latestInvalidation(record) <= cutoff)
}

/** Removes the records of a tag that are over. */
export function removeRows(store: Store, tag: number, isOver: (record: Buffer) => boolean): Promise<void> {
  return eachRow(store, tag, async ({ key, record }) => {
    if (isOver(record)) await store.commit([{ key, version: record.readDoubleLE(0) }], [[key]])
  })
}

/** Goes through the records of a tag in steps that leave the event loop its turns. */
async function eachRow(store: Store, tag: number, visit: (row: Row) => Promise<void>): Promise<void> {
  for (const [start, end] of rangesOf(tag))
    for (let from: Buffer | undefined = start; from !== undefined; ) {
      const rows = store.range(from, end, STEP)
      await Promise.all(rows.map(visit))
      // Rows that stay commit nothing, and so would give the event loop no turn.
      await nextTurn()
      const last = rows.at(-1)
      from = last && rows.length === STEP ? after(last.key) : undefined
    }
}

function raiseFloor(store: Store, key: Buffer, cutoff: number): Promise<void> {
  return store.transact(`floor ${key.toString('latin1')}`, (read) => {
    const { record, anchor, now, floor } = readClock(read, keysOf(key))
    if (now === undefined) return { result: undefined }
    // A floor above the clock would invalidate values from the moment of their creation.
    const raised = Math.max(floor, Math.min(now.at, cutoff))
    return {
      result: undefined,
      conditions: [record, anchor],
      changes: anchorClock(record, anchor, now, raised),
      durably: true,
    }
  })
}
