/**
 * Hit ratios and cost of the bounded store beside lru-cache. `--json file` saves the figures.
 * The traces are made here from fixed seeds, so that the hit ratios are the same on every machine.
 */
import { LRUCache } from 'lru-cache'
import { bounded } from '../../backends/memory/s3fifo.js'
import { seeded } from '../../test/support/seeded.js'
import { budget, machine, ratio, rounds, saveJson, shown, spread, table } from '../support.js'

const LENGTH = 400_000
const SIZES = [0.01, 0.05, 0.1, 0.25]

/** The key of each access, as a number. */
type Next = (access: number) => number

/** Ranks from 0, the share of each falling with its power. */
function zipf(random: () => number, count: number, power: number): () => number {
  const sums = new Float64Array(count)
  let total = 0
  for (let rank = 0; rank < count; rank++) sums[rank] = total += (rank + 1) ** -power
  return () => {
    const wanted = random() * total
    let low = 0
    let high = count - 1
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((sums[middle] as number) < wanted) low = middle + 1
      else high = middle
    }
    return low
  }
}

/** Keys that are read `reads` times in all, each time `gap` accesses after the last, and then never again. */
function visits(reads: () => number, gap: () => number): Next {
  const due = new Map<number, [key: number, left: number][]>()
  let keys = 0
  const plan = (access: number, ...visit: [key: number, left: number][]): void => {
    const others = due.get(access)
    if (others === undefined) due.set(access, visit)
    else others.push(...visit)
  }
  return (access) => {
    const waiting = due.get(access) ?? []
    due.delete(access)
    const [key, left] = waiting.pop() ?? [keys++, reads()]
    if (waiting.length > 0) plan(access + 1, ...waiting)
    if (left > 1) plan(access + 1 + Math.floor(gap()), [key, left - 1])
    return key
  }
}

/** Another part of the keys, apart from those that a generator numbers from 0. */
const APART = 10_000_000

const traces: Readonly<Record<string, (random: () => number) => Next>> = {
  'zipf 0.9': (random) => zipf(random, 50_000, 0.9),
  'zipf 0.9 + scans': (random) => {
    const popular = zipf(random, 50_000, 0.9)
    let scanned = 0
    return (access) => (access % 20_000 < 4_000 ? APART + scanned++ : popular())
  },
  'zipf 0.9 + loop': (random) => {
    const popular = zipf(random, 20_000, 0.9)
    let looped = 0
    return () => (random() < 0.5 ? APART + (looped++ % 10_000) : popular())
  },
  // Of 20,000 keys: each loop is a tenth larger than one of the cache sizes and fits into the next; then one scan.
  'loops just too large': () => (access) => {
    const phase = Math.floor(access / (LENGTH / 10)) % 5
    return phase * APART + (access % ([220, 1_100, 2_200, 5_500, 10_980][phase] as number))
  },
  'drifting window': (random) => {
    const popular = zipf(random, 5_000, 0.7)
    return (access) => ((popular() * 7_919) % 5_000) + Math.floor(access / 10)
  },
  'changing popularity': (random) => {
    const popular = zipf(random, 10_000, 0.9)
    return (access) => (popular() * 7_919 + Math.floor(access / 40_000) * 3_000) % 30_000
  },
  'news, fading': (random) => {
    const age = (): number => -Math.log(1 - random()) * (random() < 0.2 ? 8_000 : 800)
    return (access) => Math.max(0, Math.floor(access / 15 - age()))
  },
  'sessions of ten reads': (random) =>
    visits(
      () => 1 + Math.floor(random() * 19),
      () => -Math.log(1 - random()) * 2_000,
    ),
  'sessions + zipf 0.9': (random) => {
    const popular = zipf(random, 20_000, 0.9)
    const session = visits(
      () => 1 + Math.floor(random() * 9),
      () => -Math.log(1 - random()) * 2_000,
    )
    let access = 0
    return () => (random() < 0.5 ? APART + session(access++) : popular())
  },
  'pairs of reads': (random) =>
    visits(
      () => 2,
      () => 30 * 300 ** random(),
    ),
  // The key read so many accesses ago, near ones as likely as the far ones of ten times the distance.
  'recently read': (random) => {
    const read: number[] = []
    let keys = 0
    return () => {
      const back = Math.floor(30_000 ** random())
      const key = random() < 0.1 ? keys++ : (read[read.length - back] ?? keys++)
      read.push(key)
      return key
    }
  },
  'two pools': (random) => (access) =>
    access % 2 === 0 ? Math.floor(random() * 200) : 1_000 + Math.floor(random() * 10_000),
  uniform: (random) => () => Math.floor(random() * 20_000),
}

function hits(trace: readonly string[], read: (key: string) => boolean): number {
  let count = 0
  for (const key of trace) if (read(key)) count++
  return (100 * count) / trace.length
}

function readLru(max: number): (key: string) => boolean {
  const cache = new LRUCache<string, true>({ max })
  return (key) => {
    if (cache.get(key) !== undefined) return true
    cache.set(key, true)
    return false
  }
}

function readBounded(maxEntries: number): (key: string) => boolean {
  const store = bounded<true>({ maxEntries, maxWeight: Infinity })
  return (key) => {
    if (store.get(key) !== undefined) return true
    store.set(key, true, Infinity, 1)
    return false
  }
}

interface Cell {
  readonly trace: string
  readonly entries: number
  readonly lru: number
  readonly corral: number
  readonly difference: number
}

function compareHits(): Cell[] {
  return Object.entries(traces).flatMap(([name, make], seed) => {
    const next = make(seeded(seed + 1))
    const trace = Array.from({ length: LENGTH }, (_, access) => `key:${next(access)}`)
    const unique = new Set(trace).size
    return SIZES.map((size) => {
      const entries = Math.round(unique * size)
      const lru = hits(trace, readLru(entries))
      const corral = hits(trace, readBounded(entries))
      return { trace: name, entries, lru, corral, difference: corral - lru }
    })
  })
}

/** Get, and on a miss set: the two stores, and lru-cache once more, which shows the noise. */
function compareTimes() {
  const random = seeded(99)
  const popular = zipf(random, 100_000, 0.9)
  const keys = Array.from({ length: 100_000 }, (_, i) => `user:${i}:profile`)
  const trace = Array.from({ length: 1 << 20 }, () => keys[popular()] as string)
  const value = { name: 'a value' }
  const CAPACITY = 20_000

  const mixedLru = () => {
    const cache = new LRUCache<string, object>({ max: CAPACITY })
    let at = 0
    return (times: number) => {
      for (let i = 0; i < times; i++) {
        const key = trace[at++ & (trace.length - 1)] as string
        if (cache.get(key) === undefined) cache.set(key, value)
      }
    }
  }
  const mixedBounded = () => {
    const store = bounded<object>({ maxEntries: CAPACITY, maxWeight: Infinity })
    let at = 0
    return (times: number) => {
      for (let i = 0; i < times; i++) {
        const key = trace[at++ & (trace.length - 1)] as string
        if (store.get(key)?.value === undefined) store.set(key, value, Infinity, 1)
      }
    }
  }
  return rounds(
    { 'lru-cache': mixedLru(), corral: mixedBounded(), 'lru-cache again': mixedLru() },
    { rounds: 31, warmUp: 4, perRound: 200_000 },
  )
}

console.log(`${machine()}\n`)

const cells = compareHits()
const signed = (points: number): string => (points < 0 ? '' : '+') + points.toFixed(1)
console.log('Hit ratio in % at cache sizes of 1, 5, 10 and 25 % of the unique keys')
console.log(
  table(
    cells.map(({ trace, entries, lru, corral, difference }) => ({
      trace,
      entries,
      'lru-cache': lru.toFixed(1),
      corral: corral.toFixed(1),
      difference: signed(difference),
    })),
  ),
)
const mean = cells.reduce((sum, { difference }) => sum + difference, 0) / cells.length
const worst = cells.reduce((one, other) => (other.difference < one.difference ? other : one))

const times = await compareTimes()
const cost = ratio(times.corral, times['lru-cache'])
console.log('\nGet, and set on a miss: 20,000 entries, 100,000 keys, Zipf 0.9; ns, median and quartiles')
console.log(
  table(
    Object.entries(times).map(([store, samples]) => ({
      store,
      'ns per operation': shown(spread(samples), 0),
      '÷ lru-cache': shown(ratio(samples, times['lru-cache'])),
    })),
  ),
)

console.log()
console.log(budget('mixed operation ÷ lru-cache', shown(cost), 'at most 1.2', cost.median <= 1.2))
console.log(budget('mean hit ratio − LRU', `${signed(mean)} points`, 'at least +3', mean >= 3))
console.log(
  budget(
    'worst hit ratio − LRU',
    `${signed(worst.difference)} points (${worst.trace}, ${worst.entries} entries)`,
    'at least -1',
    worst.difference >= -1,
  ),
)
saveJson({ machine: machine(), cells, mean, worst, times, cost })
