import { expectNoOptions } from '../../base/options.js'
import { epochNow } from '../../base/timers.js'
import type { LedgerTime } from '../../ledger/snapshot.js'
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
  /** Seconds, of a reader of a response of `fetch`. */
  readonly revalidate?: number | false
}

/** The member of Next's context of an instance that matters here. */
interface InstanceContext {
  readonly _requestHeaders?: Readonly<Record<string, unknown>>
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

/** The header of a request by which Next renders a page on demand, as at `res.revalidate()`: then each read is followed by a rendering. */
const ON_DEMAND = 'x-prerender-revalidate'

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
  // Next calls `new` for each request. So the moment of a read is not taken for that of another request's rendering.
  return class implements NextIsrHandler {
    readonly #moments = momentsOfRenderings()
    readonly #isOnDemand: boolean

    constructor({ _requestHeaders: headers }: InstanceContext = {}) {
      this.#isOnDemand = headers?.[ON_DEMAND] !== undefined
    }

    async get(key: string, { tags = [], softTags = [], revalidate: wanted }: ReadContext = {}) {
      const others = [...tags, ...softTags]
      const found = await entries.read(key, others)
      const revalidate = found && (wanted || revalidateOf(found.entry))
      if (this.#isOnDemand || found === undefined || found.isStale || isPast(found.entry, revalidate))
        this.#moments.keep(key, await entries.begin(others))
      if (found === undefined) return null
      const { value, cacheControl } = found.entry
      const lastModified = found.isStale ? asIfPast(found.entry, revalidate) : found.entry.lastModified
      return { value, lastModified, ...(cacheControl && { cacheControl }) }
    }

    async set(key: string, value: IsrValue | null, { tags = [], cacheControl }: WriteContext = {}) {
      const asOf = this.#moments.use(key)
      if (value === null) return entries.delete(key)
      const stored = { value, lastModified: epochNow(), tags: [...new Set([...tags, ...tagsOf(value)])] }
      const entry = { ...stored, ...(cacheControl && { cacheControl }) }
      await entries.write(key, entry, asOf, cacheControl?.expire)
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

function isPast({ lastModified }: Stored, revalidate: number | false | undefined): boolean {
  return typeof revalidate === 'number' && epochNow() > lastModified + revalidate * 1_000
}

/** A time by which Next renders an entry again behind its visitor. With -1 the visitor waits, which an entry without such a time has to. */
function asIfPast({ lastModified }: Stored, revalidate: number | false | undefined): number {
  return typeof revalidate === 'number' ? Math.min(lastModified, epochNow() - revalidate * 1_000 - 1) : -1
}

/** The moments before the renderings of one request. A rendering that fails leaves its moment, which ends with the instance. */
function momentsOfRenderings() {
  const moments = new Map<string, { readonly asOf: LedgerTime; renderings: number }>()
  return {
    /** Of renderings at once the earliest moment holds for all: a later one would hide a change from the first. */
    keep(key: string, asOf: LedgerTime): void {
      const kept = moments.get(key)
      if (kept !== undefined) kept.renderings++
      else moments.set(key, { asOf, renderings: 1 })
    },
    /** The moment for a rendering that has ended. */
    use(key: string): LedgerTime | undefined {
      const kept = moments.get(key)
      if (kept !== undefined && --kept.renderings === 0) moments.delete(key)
      return kept?.asOf
    },
  }
}

/** The tags of a page stand in a header of it, those of a response of `fetch` in the value. */
function tagsOf({ headers, tags = [] }: IsrValue): readonly string[] {
  const listed = headers?.['x-next-cache-tags']
  return typeof listed === 'string' && listed !== '' ? [...tags, ...listed.split(',')] : tags
}
