import type { Change, ReadRecord, RecordVersion } from './client/store.js'
import {
  absenceKey,
  type EntryHead,
  encodeNumbers,
  newVersion,
  orderKeys,
  readHead,
  TAG,
  type TreeKey,
  taggedKey,
} from './format.js'

/** An entry in a snapshot; without `head` there is none. */
export interface EntryRecord {
  readonly record: RecordVersion
  readonly head?: EntryHead
}

export function readEntry(read: ReadRecord, key: TreeKey): EntryRecord {
  let head: EntryHead | undefined
  const record = read(key, (bytes) => {
    head = readHead(bytes)
  })
  return head === undefined ? { record } : { record, head }
}

/** Removes an entry for good. */
export function removeEntry(entry: EntryRecord, key: string): readonly Change[] {
  return [...clearEntry(entry), [absenceKey(key), encodeNumbers(newVersion())]]
}

/** Clears an entry and its places in the orders, for another entry to come in the same transaction. */
export function clearEntry({ record, head }: EntryRecord): readonly Change[] {
  if (head === undefined) return []
  return [[record.key], ...orderKeys(head).map((order): Change => [order])]
}

/** Writes an entry and its places in the orders. */
export function putEntry(key: TreeKey, head: EntryHead, record: Buffer): readonly Change[] {
  const target = typeof key === 'string' ? taggedKey(TAG.entry, key) : key
  return [[key, record], ...orderKeys(head).map((order): Change => [order, target])]
}
