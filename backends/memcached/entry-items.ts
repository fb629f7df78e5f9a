import { createHash } from 'node:crypto'
import { reportUndecodable } from '../../src/base/diagnostics.js'
import type { Commands, Guard, Version } from './client/commands.js'
import {
  decodeEntry,
  type Entry,
  type EntryParts,
  encodeEntry,
  type StoredLease,
  secondsUntil,
  type WireKey,
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
      const wire = wireKey(key)
      const item = await commands.get(wire.text)
      if (item === undefined) return undefined
      const entry = decodeEntry(item.value, carriedKey(wire, key))
      if (entry === undefined)
        reportUndecodable('memcached', key, 'not an entry that this version wrote for this key')
      return { entry, version: item.version }
    },
    put(key, { value, livesUntil = Number.POSITIVE_INFINITY, lease }, guard) {
      const wire = wireKey(key)
      const now = Date.now()
      // A stub lives as long as its lease, a leased value at least as long.
      const until = value === undefined ? (lease?.until ?? now) : Math.max(livesUntil, lease?.until ?? 0)
      const bytes = encodeEntry({ value, livesUntil, lease, key: carriedKey(wire, key) })
      return commands.set(wire.text, bytes, secondsUntil(until, now), guard)
    },
    delete: (key, guard) => commands.delete(wireKey(key).text, guard),
  }
}

/** The value of an entry that is still alive. */
export function liveValue(entry: Entry | undefined, now = Date.now()): Buffer | undefined {
  return entry !== undefined && now < entry.livesUntil ? entry.value : undefined
}

/** A copy of the live value: a view would keep all bytes alive that arrived together with it. */
export function copiedValue(item: EntryItem | undefined): Buffer | undefined {
  const value = liveValue(item?.entry)
  return value && Buffer.from(value)
}

/** The lease of an item that has not expired. */
export function liveLease(item: EntryItem | undefined): StoredLease | undefined {
  const lease = item?.entry?.lease
  return lease !== undefined && Date.now() < lease.until ? lease : undefined
}

/** Longer keys are not kept in their entries: they would take the room of the value. */
const MAX_CARRIED = 2_000

/** Where the name in memcached is a hash, the entry carries the key, or a hash of another kind. */
function carriedKey({ hashed }: WireKey, key: string): string | undefined {
  if (!hashed) return undefined
  if (key.length <= MAX_CARRIED) return key
  return `${key.length} ${createHash('sha512').update(key, 'utf16le').digest('base64url')}`
}
