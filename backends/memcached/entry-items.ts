import { createHash } from 'node:crypto'
import { reportUndecodable } from '../../src/base/diagnostics.js'
import type { Commands, Guard, Version } from './client/commands.js'
import { type Entry, type EntryParts, packEntry, unpackEntry } from './entry.js'
import { type WireKey, wireKey } from './format.js'
import { secondsUntil } from './seconds.js'

/** Keys of more characters are not kept in their entries: they would take the room of the value. */
const LONGEST_KEPT = 2_000

/** What is under a key: its entry, if it is one of ours, and its version either way. */
export interface Slot {
  readonly entry: Entry | undefined
  readonly version: Version
}

/** Entries under keys of any length and content. */
export interface Slots {
  get(key: string): Promise<Slot | undefined>
  /** Answers the version written; `undefined` when the guard did not hold. */
  put(key: string, entry: Partial<EntryParts>, guard?: Guard): Promise<Version | undefined>
  delete(key: string, guard?: Version): Promise<boolean>
}

export function slotsOf(commands: Commands): Slots {
  return {
    async get(key) {
      const wire = wireKey(key)
      const item = await commands.get(wire.text)
      if (item === undefined) return undefined
      const entry = unpackEntry(item.value, original(wire, key))
      if (entry === undefined)
        reportUndecodable('memcached', key, 'not an entry that this version wrote for this key')
      return { entry, version: item.version }
    },
    put(key, { value, livesUntil = Number.POSITIVE_INFINITY, lease }, guard) {
      const wire = wireKey(key)
      const now = Date.now()
      // A stub lives as long as its lease, a leased value at least as long.
      const until = value === undefined ? (lease?.until ?? now) : Math.max(livesUntil, lease?.until ?? 0)
      const bytes = packEntry({ value, livesUntil, lease, key: original(wire, key) })
      return commands.set(wire.text, bytes, secondsUntil(until, now), guard)
    },
    delete: (key, guard) => commands.delete(wireKey(key).text, guard),
  }
}

/** The value of an entry that is still alive. */
export function liveValue(entry: Entry | undefined, now = Date.now()): Buffer | undefined {
  return entry !== undefined && now < entry.livesUntil ? entry.value : undefined
}

/** What an entry carries to be told from another key's, where its name is a hash: the key, or a hash of another kind. */
function original({ hashed }: WireKey, key: string): string | undefined {
  if (!hashed) return undefined
  if (key.length <= LONGEST_KEPT) return key
  return `${key.length} ${createHash('sha512').update(key, 'utf16le').digest('base64url')}`
}
