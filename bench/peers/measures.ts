/** The rows of the table. */
export interface Measure {
  readonly key: string
  readonly title: string
  /** Divides the figure, which is in ns or in bytes. */
  readonly unit: 'ns' | 'µs' | 'ms' | 'B' | 'trips'
  /** Stands in the cell of a library that cannot do it. */
  readonly absent: string
  readonly rounds: number
  readonly warmUp: number
  /** Counted beside another measure, so it has no rounds of its own. */
  readonly counted?: true
}

/** For each measure and each library the figures of its rounds, and the most creators that ran in one stampede. */
export type Results = Record<string, Record<string, { samples: number[]; runs: number }>>

const usual = { rounds: 9, warmUp: 3 }
const redis = { ...usual, absent: 'no Redis' }

export const MEASURES: readonly Measure[] = [
  { key: 'hit', title: 'hit, ns', unit: 'ns', absent: '', ...usual },
  { key: 'miss', title: 'miss, µs', unit: 'µs', absent: '', ...usual },
  { key: 'set', title: '`set`, µs', unit: 'µs', absent: 'no `set`', ...usual },
  { key: 'heap', title: 'heap per entry, bytes', unit: 'B', absent: '', rounds: 3, warmUp: 0 },
  { key: 'stampede', title: '1,000 callers, ms', unit: 'ms', absent: '', ...usual },
  { key: 'redis hit', title: 'Redis hit, µs', unit: 'µs', ...redis },
  { key: 'redis miss', title: 'Redis miss, µs', unit: 'µs', ...redis },
  { key: 'redis hit trips', title: 'Redis hit, round trips', unit: 'trips', counted: true, ...redis },
  { key: 'redis miss trips', title: 'Redis miss, round trips', unit: 'trips', counted: true, ...redis },
  { key: 'redis concurrent', title: '100 Redis gets at once, µs each', unit: 'µs', ...redis },
  { key: 'tag', title: 'tag of 1,000 entries, µs', unit: 'µs', absent: 'no tags', ...usual },
  { key: 'redis tag', title: 'the same on Redis, µs', unit: 'µs', absent: 'no tags', ...usual },
]
