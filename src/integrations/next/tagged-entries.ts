/**
 * Entries with the tags of Next.js. Next reads, renders and then writes, so the moment before the rendering is kept from the
 * read to the write. If a tag was invalidated in between, the entry is not stored.
 */
import { NO_VALUE } from '../../backend/cached-value.js'
import { dep } from '../../dependencies/dep.js'
import type { LedgerTime } from '../../ledger/snapshot.js'
import type { Region } from '../../region/types.js'

/** How long Next lets a tag that was revalidated go on as stale. */
export interface TagDurations {
  readonly expire?: number
}

export interface TaggedEntry {
  readonly tags: readonly string[]
  /** The moment before the rendering. */
  readonly asOf: LedgerTime
}

export interface TaggedEntries<E extends TaggedEntry> {
  /** The entry unless one of its tags, or of the others, was invalidated hard. */
  read(key: string, others: readonly string[]): Promise<{ entry: E; isStale: boolean } | undefined>
  /** Keeps the moment before a rendering that may follow. */
  begin(key: string, others: readonly string[]): Promise<void>
  /** Stores an entry, unless its read came too long ago to be known. @param expire - seconds; absent: the region's */
  write(key: string, entry: Omit<E, 'asOf'>, expire: number | undefined): Promise<void>
  delete(key: string): Promise<void>
  invalidate(tags: string | readonly string[], durations?: TagDurations): Promise<void>
}

/** Renderings whose moment is kept. The oldest is forgotten, and its result is not stored. */
const MOST_RENDERINGS = 10_000
/** Seconds. Next's word for a lifetime without an end is a little more. */
const ENDLESS = 0xfffffffe

const namesOf = (tags: readonly string[]): readonly string[] => tags.map((tag) => dep.tag('next', tag))

/** @param kind - tells the keys of one host interface from those of another */
export function taggedEntries<E extends TaggedEntry>(region: Region, kind: string): TaggedEntries<E> {
  const moments = new Map<string, LedgerTime>()
  const keyOf = (key: string) => `${kind}:${key}`
  return {
    async read(key, others) {
      const entry = (await region.get(keyOf(key), { ignoreExpiration: true })) as E | typeof NO_VALUE
      if (entry === NO_VALUE) return undefined
      const freshness = await region.freshnessOf(namesOf([...entry.tags, ...others]), entry.asOf)
      return freshness === 'invalid' ? undefined : { entry, isStale: freshness === 'stale' }
    },
    async begin(key, others) {
      // Of two renderings at once the earlier moment holds for both: a later one would hide a change from the first.
      if (moments.has(key)) return
      const asOf = await region.asOf(namesOf(others))
      if (moments.has(key)) return
      moments.set(key, asOf)
      for (const oldest of moments.keys()) {
        if (moments.size <= MOST_RENDERINGS) break
        moments.delete(oldest)
      }
    },
    async write(key, entry, expire) {
      const asOf = moments.get(key)
      moments.delete(key)
      if (asOf === undefined || expire === 0) return
      const expirationTime = expire === undefined ? undefined : expire >= ENDLESS ? Infinity : expire * 1_000
      const dependencies = namesOf(entry.tags)
      await region.set(keyOf(key), { ...entry, asOf }, { asOf, dependencies, expirationTime })
    },
    async delete(key) {
      await region.delete(keyOf(key))
    },
    async invalidate(given, durations) {
      const tags = typeof given === 'string' ? [given] : given
      if (tags.length === 0) return
      // Without a time to go on, as by `updateTag`, the caller must see its own change in its next read.
      const mode = durations?.expire ? 'soft' : 'hard'
      await region.invalidateDependencies(namesOf(tags), mode)
    },
  }
}
