/**
 * The counts of a monitor. Reads and creations come from `region.stats()` when the monitor asks, rarer events from the
 * channels. No key and no name of a dependency is a label.
 */
import { diagnostics, type Messages } from '../../base/diagnostics.js'
import type { ReadStats } from '../../region/stats.js'
import type { Region } from '../../region/types.js'

export type Labels = Record<string, string>

export interface Statistic {
  readonly name: string
  readonly help: string
  readonly labels: readonly string[]
  readonly counts: (stats: ReadStats) => readonly (readonly [labels: Labels, count: number])[]
}

export const STATISTICS: readonly Statistic[] = [
  {
    name: 'reads',
    help: 'Reads of a region by their result',
    labels: ['result'],
    counts: ({ hits, stale, misses }) => [
      [{ result: 'hit' }, hits],
      [{ result: 'stale' }, stale],
      [{ result: 'miss' }, misses],
    ],
  },
  {
    name: 'near_hits',
    help: 'Hits that a near cache served',
    labels: [],
    counts: ({ nearHits }) => [[{}, nearHits]],
  },
  {
    name: 'joined',
    help: 'Reads that waited for the creation of another caller',
    labels: [],
    counts: ({ joined }) => [[{}, joined]],
  },
  {
    name: 'creations',
    help: 'Runs of creators',
    labels: ['outcome'],
    counts: ({ creations, failedCreations }) => [
      [{ outcome: 'created' }, creations - failedCreations],
      [{ outcome: 'failed' }, failedCreations],
    ],
  },
]

/** The labels of each channel, as members of its messages. */
export const EVENTS: Partial<
  Record<keyof Messages, { name: string; help: string; labels: Record<string, string> }>
> = {
  invalidate: {
    name: 'invalidations',
    help: 'Acknowledged invalidations',
    labels: { region: 'region', what: 'what', mode: 'mode' },
  },
  unstored: { name: 'unstored', help: 'Values created but not stored', labels: { region: 'region' } },
  evict: {
    name: 'evictions',
    help: 'Entries that left a bounded backend',
    labels: { backend: 'backend', reason: 'reason' },
  },
  failure: { name: 'failures', help: 'Failures that no caller received', labels: { where: 'where' } },
  undecodable: { name: 'undecodable', help: 'Stored values of no use', labels: { layer: 'layer' } },
}

/** The counts of every region: those of each namespace, and under the empty one those of the region's own calls. */
export function countsOf(
  regions: readonly Region[],
  { counts }: Statistic,
): readonly (readonly [labels: Labels, count: number])[] {
  return regions.flatMap((region) => {
    const stats = region.stats()
    const found: [Labels, number][] = []
    const own = new Map<string, [Labels, number]>()
    const add = (namespace: string, part: ReadStats, sign: 1 | -1) => {
      for (const [labels, count] of counts(part)) {
        const key = Object.values(labels).join()
        own.set(key, [labels, (own.get(key)?.[1] ?? 0) + sign * count])
        if (namespace !== '') found.push([{ region: region.name ?? '', namespace, ...labels }, count])
      }
    }
    add('', stats, 1)
    for (const [namespace, part] of Object.entries(stats.namespaces)) add(namespace, part, -1)
    for (const [labels, count] of own.values())
      found.push([{ region: region.name ?? '', namespace: '', ...labels }, count])
    return found
  })
}

/** Listens to a channel. Returns a function that ends it. */
export function on<K extends keyof Messages>(kind: K, listener: (message: Messages[K]) => void): () => void {
  const channel = diagnostics(kind)
  const received = (message: unknown) => listener(message as Messages[K])
  channel.subscribe(received)
  return () => void channel.unsubscribe(received)
}

export function outcomeOf({ region = '', namespace = '', outcome }: Messages['create']): Labels {
  return { region, namespace, outcome: outcome === 'made' ? 'created' : 'failed' }
}

export function labelsOf(message: object, labels: Record<string, string>): Labels {
  const members = message as Readonly<Record<string, unknown>>
  return Object.fromEntries(
    Object.entries(labels).map(([label, member]) => [label, String(members[member] ?? '')]),
  )
}

/** An outage is one message with a count. */
export const countOf = (message: object): number => (message as { count?: number }).count ?? 1
