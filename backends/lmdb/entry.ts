import type { Change, Look, Seen } from './client/store.js'
import {
  absenceKey,
  type EntryHead,
  newVersion,
  orderKeys,
  readHead,
  TAG,
  type TreeKey,
  taggedKey,
} from './format.js'

/** An entry as a snapshot shows it. */
export interface FoundEntry {
  readonly seen: Seen
  readonly head?: EntryHead
}

export function readEntry(look: (key: TreeKey, found?: Look) => Seen, key: TreeKey): FoundEntry {
  let head: EntryHead | undefined
  const seen = look(key, (bytes) => {
    head = readHead(bytes)
  })
  return head === undefined ? { seen } : { seen, head }
}

/** What takes an entry away, its places in the orders included, for another one to come in the same transaction. */
export function withdrawal({ seen, head }: FoundEntry): readonly Change[] {
  if (head === undefined) return []
  return [[seen.key], ...orderKeys(head).map((order): Change => [order])]
}

/** What removes an entry for good. */
export function removal(entry: FoundEntry, key: string): readonly Change[] {
  const record = Buffer.allocUnsafe(8)
  record.writeDoubleLE(newVersion())
  return [...withdrawal(entry), [absenceKey(key), record]]
}

/** What writes an entry and its places in the orders. */
export function addition(key: TreeKey, head: EntryHead, record: Buffer): readonly Change[] {
  const target = typeof key === 'string' ? taggedKey(TAG.entry, key) : key
  return [[key, record], ...orderKeys(head).map((order): Change => [order, target])]
}
