import { expectNoOptions } from '../../base/options.js'
import { epochNow } from '../../base/timers.js'
import type { Region } from '../../region/types.js'
import { expectTrackingRegion } from './expect-region.js'
import { type TagDurations, type TaggedEntry, taggedEntries } from './tagged-entries.js'

interface CacheControl {
  readonly revalidate: number | false
  readonly expire: number | undefined
}

/** The members of a value of Next.js that matter here: pages, responses of routes and of `fetch`. */
interface IsrValue {
  readonly kind: string
  readonly headers?: Readonly<Record<string, unknown>> | undefined
  readonly tags?: readonly string[]
  /** Seconds, of a response of `fetch`. */
  readonly revalidate?: number
}

/** The members of Next's context of a read that matter here. */
interface ReadContext {
  readonly tags?: readonly string[]
  readonly softTags?: readonly string[]
}

/** The members of Next's context of a write that matter here. */
interface WriteContext {
  readonly tags?: readonly string[]
  readonly cacheControl?: CacheControl
}

/**
 * An instance of the class that `cacheHandler` in the configuration of Next.js names.
 * @example
 * ```ts
 * import type { NextIsrHandler } from 'corral/integrations/next'
 *
 * export const expire = (handler: NextIsrHandler, tag: string) => handler.revalidateTag(tag)
 * ```
 */
export interface NextIsrHandler {
  // biome-ignore lint/suspicious/noExplicitAny: a union of Next's own kinds of values, which Corral stores as they are
  get(key: string, context: object): Promise<{ value: any; lastModified: number; cacheControl?: any } | null>
  set(key: string, value: object | null, context: object): Promise<void>
  revalidateTag(tags: string | string[], durations?: TagDurations): Promise<void>
  resetRequestCache(): void
}

interface Stored extends TaggedEntry {
  readonly value: IsrValue
  readonly lastModified: number
  readonly cacheControl?: CacheControl
}

/**
 * The class of a handler for pages, routes and `fetch` of Next.js 16 over a region: `cacheHandler` names the file that
 * exports it. Set `cacheMaxMemorySize: 0`, because the memory of Next hears of no invalidation of other processes. The
 * chain of the region has `dependencies()`, and `msgpack()` where the store needs an encoding: values hold a Map and Buffers.
 * @example
 * ```ts
 * import { makeRegion, wrap } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import { nextIsrHandler } from 'corral/integrations/next'
 * import { dependencies } from 'corral/proxies/dependencies'
 *
 * const region = makeRegion({ name: 'next', backend: wrap(memory(), dependencies()) })
 * export default nextIsrHandler(region)
 * ```
 * @throws CorralError `ERR_OPTION` without a region, and for an option: it takes none.
 */
export function nextIsrHandler(
  region: Region,
  ...options: readonly []
): new (
  context?: object,
) => NextIsrHandler {
  expectTrackingRegion(region, 'nextIsrHandler()')
  expectNoOptions(options, 'nextIsrHandler()')
  const entries = taggedEntries<Stored>(region, 'isr')
  // Next calls `new`. All instances stand over one region, so there is nothing for them to keep.
  return class implements NextIsrHandler {
    async get(key: string, { tags = [], softTags = [] }: ReadContext = {}) {
      const others = [...tags, ...softTags]
      const found = await entries.read(key, others)
      if (found === undefined || found.isStale || isPast(found.entry)) await entries.begin(key, others)
      if (found === undefined) return null
      const { value, cacheControl } = found.entry
      const lastModified = found.isStale ? asIfPast(found.entry) : found.entry.lastModified
      return { value, lastModified, ...(cacheControl && { cacheControl }) }
    }

    async set(key: string, value: IsrValue | null, { tags = [], cacheControl }: WriteContext = {}) {
      if (value === null) return entries.delete(key)
      const stored = { value, lastModified: epochNow(), tags: [...new Set([...tags, ...tagsOf(value)])] }
      await entries.write(key, { ...stored, ...(cacheControl && { cacheControl }) }, cacheControl?.expire)
    }

    async revalidateTag(tags: string | string[], durations?: TagDurations) {
      await entries.invalidate(tags, durations)
    }

    resetRequestCache() {}
  }
}

/** After so many seconds Next renders an entry again, behind a visitor that gets it. `false`: never. */
function revalidateOf({ cacheControl, value }: Stored): number | false {
  return cacheControl?.revalidate ?? value.revalidate ?? false
}

function isPast(entry: Stored): boolean {
  const revalidate = revalidateOf(entry)
  return revalidate !== false && epochNow() > entry.lastModified + revalidate * 1_000
}

/** A time by which Next renders an entry again behind its visitor. With -1 the visitor waits, which an entry without such a time has to. */
function asIfPast(entry: Stored): number {
  const revalidate = revalidateOf(entry)
  return revalidate === false ? -1 : Math.min(entry.lastModified, epochNow() - revalidate * 1_000 - 1)
}

/** The tags of a page stand in a header of it, those of a response of `fetch` in the value. */
function tagsOf({ headers, tags = [] }: IsrValue): readonly string[] {
  const listed = headers?.['x-next-cache-tags']
  return typeof listed === 'string' && listed !== '' ? [...tags, ...listed.split(',')] : tags
}
