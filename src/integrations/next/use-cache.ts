import { report } from '../../base/diagnostics.js'
import { expectNoOptions } from '../../base/options.js'
import { epochNow, preciseEpochNow } from '../../base/timers.js'
import type { LedgerTime } from '../../ledger/snapshot.js'
import type { Region } from '../../region/types.js'
import { expectTrackingRegion } from './expect-region.js'
import { type TagDurations, type TaggedEntry, taggedEntries } from './tagged-entries.js'

/** What Next.js stores for a function with `'use cache'`. */
interface UseCacheEntry {
  value: ReadableStream<Uint8Array>
  tags: string[]
  stale: number
  /** Epoch ms at which its rendering began. */
  timestamp: number
  expire: number
  revalidate: number
}

/**
 * A handler of `cacheHandlers` in the configuration of Next.js.
 * @example
 * ```ts
 * import type { NextUseCacheHandler } from 'corral/integrations/next'
 *
 * export const expire = (handler: NextUseCacheHandler, tag: string) => handler.updateTags([tag])
 * ```
 */
export interface NextUseCacheHandler {
  get(cacheKey: string, softTags: string[]): Promise<UseCacheEntry | undefined>
  set(cacheKey: string, pendingEntry: Promise<UseCacheEntry>): Promise<void>
  refreshTags(): Promise<void>
  getExpiration(tags: string[]): Promise<number>
  updateTags(tags: string[], durations?: TagDurations): Promise<void>
}

interface Stored extends TaggedEntry, Omit<UseCacheEntry, 'value' | 'tags'> {
  readonly body: Uint8Array
}

/**
 * A handler for `'use cache'` of Next.js 16 over a region: `cacheHandlers: { default: … }` names the file that exports it. The
 * chain of the region has `dependencies()`, and an encoding that keeps bytes, such as `msgpack()`.
 * @example
 * ```ts
 * import { makeRegion, wrap } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import { nextUseCacheHandler } from 'corral/integrations/next'
 * import { dependencies } from 'corral/proxies/dependencies'
 *
 * const region = makeRegion({ name: 'next', backend: wrap(memory(), dependencies()) })
 * export default nextUseCacheHandler(region)
 * ```
 * @throws CorralError `ERR_OPTION` without a region, and for an option: it takes none.
 */
export function nextUseCacheHandler(region: Region, ...options: readonly []): NextUseCacheHandler {
  expectTrackingRegion(region, 'nextUseCacheHandler()')
  expectNoOptions(options, 'nextUseCacheHandler()')
  const entries = taggedEntries<Stored>(region, 'use-cache')
  const moments = momentsBeforeRenderings()
  /** Reads wait for the entry that is being rendered. */
  const pending = new Map<string, Promise<void>>()
  return {
    async get(key, given) {
      const softTags = [...given]
      await pending.get(key)
      const found = await entries.read(key, softTags)
      const isRenewed = found === undefined || found.isStale || isPast(found.entry)
      if (isRenewed) moments.keep(await entries.begin(softTags))
      if (found === undefined) return undefined
      const { body, asOf: _, tags, ...rest } = found.entry
      const value = new Blob([body as Uint8Array<ArrayBuffer>]).stream()
      return { ...rest, tags: [...tags], value, ...(found.isStale && { revalidate: -1 }) }
    },
    async set(key, pendingEntry) {
      const stored = storeWhenRendered(pendingEntry)
      pending.set(key, stored)
      await stored
      if (pending.get(key) === stored) pending.delete(key)

      async function storeWhenRendered(entry: Promise<UseCacheEntry>): Promise<void> {
        try {
          const { value, ...rest } = await entry
          // The list as it is now: Next may change it while the stream is read.
          const tags = [...rest.tags]
          // A stream that breaks off rejects here: a part of a page is not stored.
          const body = new Uint8Array(await new Response(value).arrayBuffer())
          await entries.write(key, { ...rest, tags, body }, moments.before(rest.timestamp), rest.expire)
        } catch (error) {
          // Next has shown the error of the rendering. A store that fails must not fail the page.
          report('failure', () => ({ where: 'next', region: region.name, key, error }))
        }
      }
    },
    refreshTags: async () => {},
    // Next then passes the soft tags to get(), where the ledger judges them.
    getExpiration: async () => Number.POSITIVE_INFINITY,
    updateTags: (tags, durations) => entries.invalidate(tags, durations),
  }
}

/** Next renders again behind such an entry. */
function isPast({ timestamp, revalidate }: Stored): boolean {
  return epochNow() > timestamp + revalidate * 1_000
}

/** Moments that are kept. A rendering that began before all of them is not stored. */
const MOST_MOMENTS = 10_000

/**
 * The moments that reads took, each with the time by which it was known. Next writes under keys that it did not read, as on
 * demand and for functions that read root parameters. So a rendering is given a moment by the time at which it began: no
 * later one, which would hide a change from it.
 */
function momentsBeforeRenderings() {
  const moments: { readonly asOf: LedgerTime; readonly at: number }[] = []
  return {
    keep(asOf: LedgerTime): void {
      moments.push({ asOf, at: preciseEpochNow() })
      if (moments.length > MOST_MOMENTS) moments.shift()
    },
    /** The latest one. An older one of the key itself would have the rendering refused for changes that came before it. */
    before: (began: number): LedgerTime | undefined => moments.findLast(({ at }) => at <= began)?.asOf,
  }
}
