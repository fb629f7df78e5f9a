import { reportUndecodable } from '../../src/base/diagnostics.js'
import { epochNow } from '../../src/base/timers.js'
import type { Commands, Guard, Version } from './client/commands.js'
import {
  decodeEntry,
  type Entry,
  type EntryParts,
  encodeEntry,
  type StoredLease,
  secondsUntil,
  wireKey,
} from './format.js'

/** The item of a key: its entry, if it is one of ours, and its version either way. */
export interface EntryItem {
  readonly entry: Entry | undefined
  readonly version: Version
}

/** Entries under keys of any length and content. */
export interface EntryItems {
  get(key: string): Promise<EntryItem | undefined>
  /** Returns the version written; `undefined` if the guard did not hold. */
  put(key: string, entry: Partial<EntryParts>, guard?: Guard): Promise<Version | undefined>
  delete(key: string, guard?: Version): Promise<boolean>
}

export function entryItemsOf(commands: Commands): EntryItems {
  return {
    async get(key) {
      const { text, carried } = wireKey(key)
      const item = await commands.get(text)
      if (item === undefined) return undefined
      const entry = decodeEntry(item.value, carried)
      if (entry === undefined)
        reportUndecodable('memcached', key, 'not an entry that this version wrote for this key')
      return { entry, version: item.version }
    },
    put(key, { value, livesUntil = Number.POSITIVE_INFINITY, lease }, guard) {
      const { text, carried } = wireKey(key)
      const now = epochNow()
      // A stub lives as long as its lease, a leased value at least as long.
      const until = value === undefined ? (lease?.until ?? now) : Math.max(livesUntil, lease?.until ?? 0)
      const bytes = encodeEntry({ value, livesUntil, lease, key: carried })
      return commands.set(text, bytes, secondsUntil(until, now), guard)
    },
    delete: (key, guard) => commands.delete(wireKey(key).text, guard),
  }
}

/** The value of an entry that is still alive. */
export function liveValue(entry: Entry | undefined, now = epochNow()): Buffer | undefined {
  return entry !== undefined && now < entry.livesUntil ? entry.value : undefined
}

/** A copy of the live value: a view would keep all bytes alive that arrived together with it. */
export function copiedValue(item: EntryItem | undefined): Buffer | undefined {
  const value = liveValue(item?.entry)
  return value && Buffer.from(value)
}

/** ms by which the clocks of processes may differ. */
const SKEW = 1_000

/**
 * The lease of an item that has not expired. A failure that is kept since a later time was kept while the clock was ahead: it
 * would deny the lease for that much longer.
 */
export function liveLease(item: EntryItem | undefined): StoredLease | undefined {
  const lease = item?.entry?.lease
  if (lease === undefined) return undefined
  const now = epochNow()
  return now < lease.until && !((lease.since ?? 0) > now + SKEW) ? lease : undefined
}
