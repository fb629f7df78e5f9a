import { type Spread, spread } from '../support.js'
import { MEASURES, type Measure, type Results } from './measures.js'

const UNITS = { ns: 1, µs: 1e3, ms: 1e6, B: 1, trips: 1 }

/** The rows of the table: a measure each, with a column for each library. */
export function tableOf(results: Results, names: readonly string[]): Record<string, string>[] {
  return MEASURES.map((measure) => ({
    '': measure.title,
    ...Object.fromEntries(names.map((name) => [titleOf(name), cell(measure, results[measure.key]?.[name])])),
  }))
}

/** A line for each measure in which others are faster, the fastest first. Spreads that overlap do not count. */
export function slower(results: Results, names: readonly string[]): string {
  return MEASURES.filter(({ counted }) => counted === undefined)
    .flatMap(({ key, title }) => {
      const row = results[key] ?? {}
      const own = spread(row.corral?.samples ?? [])
      const faster = names
        .map((name) => ({ name, other: spread(row[name]?.samples ?? []) }))
        .filter(({ name, other }) => name !== 'corral' && other.upper < own.lower)
        .sort((one, another) => one.other.median - another.other.median)
        .map(({ name, other }) => `${titleOf(name)} ${(own.median / other.median).toFixed(1)}×`)
      return faster.length === 0 ? [] : [`- ${title.replace(/, .*/, '')}: ${faster.join(', ')}`]
    })
    .join('\n')
}

const titleOf = (name: string): string =>
  ({ corral: 'Corral', bentocache: 'BentoCache', 'by-hand': 'by hand' })[name] ?? name

function cell({ absent, unit }: Measure, found: Results[string][string] | undefined): string {
  if (found === undefined || found.samples.length === 0) return absent
  const seen = spread(found.samples)
  if (unit === 'trips') return seen.median.toFixed(1)
  const runs = found.runs > 1 ? `, ${found.runs} runs` : ''
  return `${digits(seen.median / UNITS[unit])} ±${percent(seen)} %${runs}`
}

const percent = ({ median, lower, upper }: Spread): string =>
  Math.abs((100 * (upper - lower)) / 2 / median).toFixed(0)

/** Three digits that count. */
const digits = (figure: number): string =>
  Math.abs(figure) >= 100 ? figure.toFixed(0) : String(Number(figure.toPrecision(3)))
