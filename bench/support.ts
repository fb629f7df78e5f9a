import { writeFileSync } from 'node:fs'
import { cpus } from 'node:os'

/** Does an operation so many times; its waiting is part of the time. */
export type Work = (times: number) => unknown

export interface RoundsOptions {
  /** How many rounds are measured. @default 15 */
  readonly rounds?: number
  /** How many rounds are run before, unmeasured. @default 2 */
  readonly warmUp?: number
  /** How many operations a work does in a round. */
  readonly perRound: number
  /** Measure the processor time of this process: other programs disturb it less than the clock. @default false */
  readonly processor?: boolean
}

/** ns per operation, one figure for each round. */
export type Samples = readonly number[]

export interface Spread {
  readonly median: number
  readonly lower: number
  readonly upper: number
}

/**
 * Measures works against each other in interleaved rounds, so that noise that lasts meets all of them. The order turns
 * from round to round: none always runs after the same other.
 */
export async function rounds<Name extends string>(
  works: Readonly<Record<Name, Work>>,
  { rounds: measured = 15, warmUp = 2, perRound, processor = false }: RoundsOptions,
): Promise<Record<Name, Samples>> {
  const names = Object.keys(works) as Name[]
  const samples = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Name, number[]>
  for (let round = -warmUp; round < measured; round++) {
    for (let turn = 0; turn < names.length; turn++) {
      const name = names[(turn + round + warmUp) % names.length] as Name
      const now = processor ? processorTime : () => Number(process.hrtime.bigint())
      const start = now()
      const pending = works[name](perRound)
      if (pending instanceof Promise) await pending
      const nanoseconds = now() - start
      if (round >= 0) samples[name].push(nanoseconds / perRound)
    }
  }
  return samples
}

/** ns that this process has computed. */
function processorTime(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) * 1e3
}

/** The median and the quartiles. */
export function spread(samples: Samples): Spread {
  const sorted = [...samples].sort((one, other) => one - other)
  const at = (part: number): number => {
    const position = (sorted.length - 1) * part
    const below = sorted[Math.floor(position)] ?? Number.NaN
    const above = sorted[Math.ceil(position)] ?? Number.NaN
    return below + (above - below) * (position % 1)
  }
  return { median: at(0.5), lower: at(0.25), upper: at(0.75) }
}

/** How many times as long `one` takes as `other`: the spread of the ratios within each round. */
export function ratio(one: Samples, other: Samples): Spread {
  return spread(one.map((sample, round) => sample / (other[round] ?? Number.NaN)))
}

/**
 * How many times as long `one` takes as `other` in the fastest round of each: on a busy machine other programs lengthen every
 * round, and the fastest ones least.
 */
export function fastest(one: Samples, other: Samples): number {
  return Math.min(...one) / Math.min(...other)
}

/** `1.12 (1.07–1.18)`: median and quartiles. */
export function shown({ median, lower, upper }: Spread, digits = 2): string {
  return `${median.toFixed(digits)} (${lower.toFixed(digits)}–${upper.toFixed(digits)})`
}

/** Lines up rows under the names of their columns; numbers stand to the right. */
export function table(rows: readonly Readonly<Record<string, string | number>>[]): string {
  const columns = Object.keys(rows[0] ?? {})
  const lines = [columns, ...rows.map((row) => columns.map((column) => String(row[column] ?? '')))]
  const widths = columns.map((_, i) => Math.max(...lines.map((line) => line[i]?.length ?? 0)))
  const right = columns.map((column) => rows.every((row) => /^[-+]?[\d.]/.test(String(row[column] ?? '0'))))
  return lines
    .map((line) =>
      line
        .map((cell, i) => (right[i] ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)))
        .join('  '),
    )
    .map((line) => line.trimEnd())
    .join('\n')
}

/** A line that says whether a figure keeps within its budget. */
export function budget(what: string, figure: string, limit: string, met: boolean): string {
  return `${met ? 'met   ' : 'MISSED'}  ${what}: ${figure}, budget ${limit}`
}

/** The machine that the figures were seen on. */
export function machine(): string {
  const cores = cpus()
  return `node ${process.version}, ${process.platform} ${process.arch}, ${cores.length} × ${cores[0]?.model ?? 'unknown'}`
}

/** Writes the figures to the file that `--json file` names, if any. */
export function saveJson(figures: unknown): void {
  const option = process.argv.indexOf('--json')
  if (option === -1) return
  const file = process.argv[option + 1]
  if (file === undefined) throw new Error('Expected a file name after `--json`')
  writeFileSync(file, `${JSON.stringify(figures, null, 2)}\n`)
}
