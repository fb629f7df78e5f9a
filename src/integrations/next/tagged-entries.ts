/**
 * Entries with the tags of Next.js. Next reads, renders and then writes, so the handlers keep the moment before the rendering
 * from the read to the write. If a tag was invalidated in between, the entry is not stored.
 */
import { NO_VALUE } from '../../backend/cached-value.js'
import { report } from '../../base/diagnostics.js'
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
  /** The moment before a rendering that may follow. */
  begin(others: readonly string[]): Promise<LedgerTime>
  /**
   * Stores an entry as of the moment before its rendering. Whatever it does not store leaves nothing older behind either:
   * Next may have rendered it on demand, and then its caller knows that the old one is over.
   * @param asOf - absent: unknown, so that no invalidation could be noticed, and the entry is not stored
   * @param expire - seconds; absent: the region's
   */
  write(key: string, entry: Omit<E, 'asOf'>, asOf: LedgerTime | undefined, expire?: number): Promise<void>
  delete(key: string): Promise<void>
  invalidate(tags: string | readonly string[], durations?: TagDurations): Promise<void>
}

/** Seconds. Next's word for a lifetime without an end is a little more. */
const ENDLESS = 0xfffffffe

const namesOf = (tags: readonly string[]): readonly string[] => tags.map((tag) => dep.tag('next', tag))

/** @param kind - tells the keys of one host interface from those of another */
export function taggedEntries<E extends TaggedEntry>(region: Region, kind: string): TaggedEntries<E> {
  const keyOf = (key: string) => `${kind}:${key}`
  return {
    async read(key, others) {
      const entry = (await region.get(keyOf(key), { ignoreExpiration: true })) as E | typeof NO_VALUE
      if (entry === NO_VALUE) return undefined
      const freshness = await region.freshnessOf(namesOf([...entry.tags, ...others]), entry.asOf)
      return freshness === 'invalid' ? undefined : { entry, isStale: freshness === 'stale' }
    },
    begin: (others) => region.asOf(namesOf(others)),
    async write(key, entry, asOf, expire) {
      if (asOf === undefined || expire === 0) {
        await region.delete(keyOf(key))
        if (expire !== 0) tellUnstored(region, keyOf(key), 'the moment before its rendering is not known')
        return
      }
      const expirationTime = expire === undefined ? undefined : expire >= ENDLESS ? Infinity : expire * 1_000
      const dependencies = namesOf(entry.tags)
      const outcome = await region.set(keyOf(key), { ...entry, asOf }, { asOf, dependencies, expirationTime })
      if (outcome !== 'stored')
        tellUnstored(region, keyOf(key), 'one of its tags was revalidated after its rendering began')
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

function tellUnstored(region: Region, key: string, reason: string): void {
  report('unstored', () => ({ region: region.name, key, reason }))
}
