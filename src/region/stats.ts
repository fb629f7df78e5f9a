/** Counts the reads and creations of a region. A hit costs one increment. */
import { preciseClock } from '../base/clock.js'
import type { Origin } from '../base/diagnostics.js'

/**
 * Reads and creations since the region was made, in this process. The numbers only grow, so that a monitor can compute
 * rates from them.
 * @example
 * ```ts
 * import type { ReadStats } from 'corral'
 *
 * export const meanMilliseconds = ({ creations, creationMilliseconds }: ReadStats) =>
 *   creationMilliseconds / Math.max(creations, 1)
 * ```
 */
export interface ReadStats {
  /** Reads that found a fresh value. */
  readonly hits: number
  /** Those of the hits that a near cache in the chain served. */
  readonly nearHits: number
  /** Reads that found a stale value: expired, or softly invalidated. */
  readonly stale: number
  /** Reads that found no usable value. */
  readonly misses: number
  /** Those of the misses and stale reads that waited for the creation of another caller of this process. */
  readonly joined: number
  /** Runs of creators, also for a refresh or a renewal. A run for many keys is one creation. */
  readonly creations: number
  /** Those of the creations that threw or rejected. */
  readonly failedCreations: number
  /** The time that all creators took: ms. */
  readonly creationMilliseconds: number
  /** The part of the reads that were hits, from 0 to 1; 0 before the first read. */
  readonly hitRatio: number
}

/**
 * The statistics of a region, and of the namespaces of its cached functions, which are part of them.
 * @example
 * ```ts
 * import type { RegionStats } from 'corral'
 *
 * export const worst = ({ namespaces }: RegionStats) =>
 *   Object.entries(namespaces).sort(([, one], [, other]) => one.hitRatio - other.hitRatio)[0]?.[0]
 * ```
 */
export interface RegionStats extends ReadStats {
  /** When counting began: epoch ms. */
  readonly since: number
  readonly namespaces: Readonly<Record<string, ReadStats>>
}

/** The numbers of one namespace, or of the calls of the region itself. */
export interface Counters {
  /** The namespace of a cached function. */
  readonly namespace: string | undefined
  hits: number
  nearHits: number
  stale: number
  misses: number
  joined: number
  creations: number
  failedCreations: number
  creationMilliseconds: number
  /** The recent share of lookups that found nothing, from 0 to 1. */
  absent: number
  readonly onJoin: () => void
}

export interface StatsKeeper {
  /** The calls of the region itself. */
  readonly own: Counters
  /** The calls of the cached functions of a namespace; without one those of the region itself. */
  of(namespace: unknown): Counters
  stats(): RegionStats
}

export function statsKeeper(): StatsKeeper {
  const since = preciseClock.now()
  const own = newCounters(undefined)
  const namespaces = new Map<string, Counters>()
  return {
    own,
    of(namespace) {
      if (typeof namespace !== 'string' || namespace === '') return own
      let counters = namespaces.get(namespace)
      if (counters === undefined) namespaces.set(namespace, (counters = newCounters(namespace)))
      return counters
    },
    stats: () => ({
      ...sumOf([own, ...namespaces.values()]),
      since,
      namespaces: Object.fromEntries(
        Array.from(namespaces, ([namespace, counters]) => [namespace, sumOf([counters])]),
      ),
    }),
  }
}

function newCounters(namespace: string | undefined): Counters {
  const counters = {
    namespace,
    hits: 0,
    nearHits: 0,
    stale: 0,
    misses: 0,
    joined: 0,
    creations: 0,
    failedCreations: 0,
    creationMilliseconds: 0,
    absent: 0,
    onJoin: () => void counters.joined++,
  }
  return counters
}

function sumOf(all: readonly Counters[]): ReadStats {
  const sum = (field: Exclude<keyof Counters, 'namespace' | 'onJoin' | 'absent'>) =>
    all.reduce((total, counters) => total + counters[field], 0)
  const [hits, stale, misses] = [sum('hits'), sum('stale'), sum('misses')]
  return {
    hits,
    nearHits: sum('nearHits'),
    stale,
    misses,
    joined: sum('joined'),
    creations: sum('creations'),
    failedCreations: sum('failedCreations'),
    creationMilliseconds: sum('creationMilliseconds'),
    hitRatio: hits / Math.max(hits + stale + misses, 1),
  }
}

/** A region, whose calls are counted for itself or for the cached functions of a namespace. */
export interface Counted {
  readonly name: string | undefined
  readonly counters: Counters
}

/** The origin of messages about a region, or about the cached functions of a namespace. */
export function originOf({ name: region, counters: { namespace } }: Counted): Origin {
  return { region, ...(namespace !== undefined && { namespace }) }
}
