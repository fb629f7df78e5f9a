import { types } from 'node:util'
import type { BackendSpec, Outcome, WriteOptions } from '../../src/backend/backend.js'
import type { Bytes } from '../../src/backend/cached-value.js'
import { coarseClock } from '../../src/base/clock.js'
import { expectThat } from '../../src/base/options.js'
import { epochNow } from '../../src/base/timers.js'
import type { Budget } from './client/budget.js'
import type { Plan, ReadRecord, Store } from './client/store.js'
import type { FileWaiters } from './client/waiters.js'
import { clearEntry, putEntry, readEntry, removeEntry } from './entry-records.js'
import {
  absenceKey,
  after,
  carriedKey,
  type EntryHead,
  encodeEntry,
  entryKey,
  keyText,
  newVersion,
  payloadOf,
  rangesOf,
  readHead,
  TAG,
} from './format.js'
import { leaseKey, readLease } from './lease.js'
import { freshnessIn } from './ledger.js'

type Entries = Pick<BackendSpec<Bytes>, 'get' | 'getMulti' | 'set' | 'delete' | 'keys'>

const ENCODE = 'Put an encoding around it, wrap(lmdb(path), msgpack()).'

/** Entries in the file: read at once, written under lease and ledger. */
export function fileEntries(store: Store, waiters: FileWaiters, budget: Budget): Entries {
  const payload = (key: string, now: number): Buffer | undefined => {
    const place = entryKey(key)
    const bytes = store.readInPlace(place)
    if (bytes === undefined) return undefined
    const payload = payloadOf(bytes, place, key, now)
    if (payload !== undefined) budget.recordHit(key)
    return payload
  }

  return {
    get(key) {
      store.beginRead()
      try {
        return payload(key, coarseClock.now())
      } finally {
        store.endRead()
      }
    },
    getMulti(keys) {
      const now = coarseClock.now()
      store.beginRead()
      try {
        return keys.map((key) => payload(key, now))
      } finally {
        store.endRead()
      }
    },
    async set(key, value, options) {
      expectThat(types.isUint8Array(value), value, 'lmdb() to receive bytes', ENCODE)
      budget.expectRoom(key, value.length)
      const outcome = await store.transact(key, (read) => planWrite(read, key, value, options))
      if (outcome === 'lost') return outcome
      waiters.wake(key)
      if (outcome === 'stored') budget.recordWrite(key, value.length)
      return outcome
    },
    async delete(key) {
      const deleted = await store.transact(key, (read) => {
        const former = readEntry(read, entryKey(key))
        return {
          result: former.head !== undefined,
          // Unconditional, so that nothing can keep a deletion from happening. A place in an order that another process
          // adds in between leads to no entry and is swept.
          changes: [[former.record.key], ...removeEntry(former, key), [leaseKey(key)]],
          durably: true,
        }
      })
      waiters.wake(key)
      return deleted
    },
    keys: (prefix) => keysIn(store, prefix),
  }
}

/** Entries that are looked at together when keys are listed. */
const PAGE = 100

async function* keysIn(store: Store, prefix: string): AsyncGenerator<string> {
  for (const [start, end] of rangesOf(TAG.entry))
    for (let from = start; ; ) {
      const rows = store.range(from, end, PAGE)
      for (const { key, record } of rows) {
        const text = keyText(key) ?? carriedKey(record)
        if (text.startsWith(prefix) && readHead(record).expiresAt > coarseClock.now()) yield text
      }
      const last = rows.at(-1)
      if (last === undefined || rows.length < PAGE) break
      from = after(last.key)
    }
}

/** The transaction that stores an entry, or that of its refusal. */
function planWrite(
  read: ReadRecord,
  key: string,
  value: Bytes,
  { ttl = Number.POSITIVE_INFINITY, token, ifCurrent }: WriteOptions,
): Plan<Outcome> {
  const place = entryKey(key)
  const former = readEntry(read, place)
  const absence = read(absenceKey(key))
  const lease = readLease(read, key)
  if (token !== undefined && lease.token !== token) return { result: 'lost' }
  // A fill stands by its lease alone; a writer that revokes the lease has written or removed the entry as well.
  const guards =
    token === undefined ? [former.record, ...(former.head === undefined ? [absence] : [])] : [lease.record]
  const current = ifCurrent && freshnessIn(read, ifCurrent)
  if (current !== undefined && current.freshness !== 'fresh')
    return {
      result: 'refused',
      conditions: guards,
      changes: [[lease.record.key], ...(token === undefined ? removeEntry(former, key) : [])],
      durably: token === undefined,
    }
  const writtenAt = epochNow()
  const head: EntryHead = { version: newVersion(), expiresAt: writtenAt + ttl, writtenAt }
  const record = encodeEntry(head, key, value)
  return {
    result: 'stored',
    conditions: [...guards, ...(current?.records ?? [])],
    changes: [...clearEntry(former), ...putEntry(place, head, record), [lease.record.key]],
  }
}
