import { cpuUsage } from 'node:process'
import { isPromise } from '../../../src/base/maybe-promise.js'
import { entryOf, type Fidelity, judge, keyOf } from './fidelity.js'
import type { Subject } from './subjects.js'

/** A median with its spread: half the distance between the quartiles, as a part of the median. */
export interface Timing {
  readonly median: number
  readonly spread: number
}

export interface Measurement {
  readonly name: string
  readonly encoding: string
  readonly compression: string
  readonly note: string | undefined
  /** Mean, median and 95th percentile of the bytes that one value takes in the store. */
  readonly bytes: number
  readonly bytesMedian: number
  readonly bytes95: number
  /** Bytes that stand in the store once for all values, such as the field names of records. */
  readonly sharedBytes: number
  /** µs of processor time for one value, compression included. */
  readonly encode: Timing
  readonly decode: Timing
  readonly fidelity: Fidelity
}

export interface Measured {
  readonly measurements: readonly Measurement[]
  /** How many rounds it took. */
  readonly rounds: number
  /** How far the base line, measured twice like two different subjects, is from itself: the noise of this run. */
  readonly noise: { readonly encode: number; readonly decode: number }
}

interface Runner {
  readonly subject: Subject
  readonly fidelity: Fidelity
  readonly usable: readonly number[]
  readonly encodes: number[]
  readonly decodes: number[]
  repeats: number
}

/** On a noisy machine there are up to so many times the rounds that were asked for. */
const PATIENCE = 3
/** Noise that is not worth waiting for: of the base line against itself, and the median spread. */
const QUIET = { apart: 0.02, spread: 0.12 }

/**
 * Measures all subjects in rounds, in each of which every one takes its turn, starting with another one each time:
 * a disturbance of the machine meets all of them.
 * @param least - rounds; there are more while the figures are noisy
 * @param turn - how long a turn should take, in ms: long enough that the clock's grain and a lone pause matter little
 * @param progress - told the part that is done, from 0 to 1
 */
export async function measure(
  subjects: readonly Subject[],
  values: readonly unknown[],
  least: number,
  turn: number,
  progress: (done: number, doing: string) => void,
): Promise<Measured> {
  const runners: Runner[] = []
  for (const [i, subject] of subjects.entries()) {
    progress((i / subjects.length) * 0.1, `checking ${subject.name}`)
    runners.push({ subject, ...(await judge(subject, values)), encodes: [], decodes: [], repeats: 1 })
  }
  const [base] = runners
  if (base === undefined) throw new Error('Expected something to measure, got nothing.')
  // The base line once more, as if it were another subject: the difference of the two is noise.
  const control: Runner = { ...base, encodes: [], decodes: [] }
  const measurable = [...runners, control].filter(({ usable }) => usable.length > 0)
  for (const [i, runner] of measurable.entries()) {
    progress(0.1 + (i / measurable.length) * 0.1, `warming up ${runner.subject.name}`)
    runner.repeats = await warmUp(runner.subject, values, runner.usable, turn)
  }
  let rounds = 0
  for (let planned = least; rounds < planned; rounds++) {
    for (let i = 0; i < measurable.length; i++) {
      const runner = measurable[(i + rounds * 7) % measurable.length] as Runner
      progress(
        0.2 + ((rounds + i / measurable.length) / planned) * 0.8,
        `round ${rounds + 1} of ${planned}: ${runner.subject.name}`,
      )
      await takeTurn(runner, values)
    }
    if (rounds + 1 === planned && planned < least * PATIENCE && isNoisy(base, control, measurable))
      planned += least
  }
  return {
    rounds,
    noise: noiseOf(base, control),
    measurements: runners.map((one) => result(one, values.length)),
  }
}

async function takeTurn(
  { subject: { chain }, usable, repeats, encodes, decodes }: Runner,
  values: readonly unknown[],
): Promise<void> {
  encodes.push(await time(repeats, usable, (at) => chain.set(keyOf(at), entryOf(values[at]), {})))
  decodes.push(await time(repeats, usable, (at) => chain.get(keyOf(at))))
}

function noiseOf(base: Runner, control: Runner): Measured['noise'] {
  const apart = (one: readonly number[], other: readonly number[]) =>
    Math.abs(1 - timing(one).median / (timing(other).median || 1))
  return { encode: apart(control.encodes, base.encodes), decode: apart(control.decodes, base.decodes) }
}

function isNoisy(base: Runner, control: Runner, all: readonly Runner[]): boolean {
  const { encode, decode } = noiseOf(base, control)
  const spreads = all.flatMap(({ encodes, decodes }) => [timing(encodes).spread, timing(decodes).spread])
  return Math.max(encode, decode) > QUIET.apart || timing(spreads).median > QUIET.spread
}

function result({ subject, fidelity, encodes, decodes }: Runner, count: number): Measurement {
  const { name, encoding, compression, note } = subject
  return {
    name,
    encoding,
    compression,
    note,
    ...sizes(subject, count),
    encode: timing(encodes),
    decode: timing(decodes),
    fidelity,
  }
}

/** Runs until the compiler had its chance, and tells how many passes over the values make one turn. */
async function warmUp(
  subject: Subject,
  values: readonly unknown[],
  usable: readonly number[],
  turn: number,
): Promise<number> {
  let fastest = Number.POSITIVE_INFINITY
  const end = performance.now() + turn * 6
  do {
    const start = performance.now()
    await time(1, usable, (at) => subject.chain.set(keyOf(at), entryOf(values[at]), {}))
    await time(1, usable, (at) => subject.chain.get(keyOf(at)))
    fastest = Math.min(fastest, performance.now() - start)
  } while (performance.now() < end)
  return Math.max(1, Math.min(10_000, Math.round(turn / fastest)))
}

/**
 * µs of processor time for one value, in any thread: other programs on the machine do not count, as they would
 * by the clock. On two cores with a dozen other processes the clock's spread was ten times as large.
 */
async function time(
  repeats: number,
  indexes: readonly number[],
  work: (index: number) => unknown,
): Promise<number> {
  const start = cpuUsage()
  for (let i = 0; i < repeats; i++)
    for (const index of indexes) {
      const pending = work(index)
      if (isPromise(pending)) await pending
    }
  const { user, system } = cpuUsage(start)
  return (user + system) / (repeats * indexes.length)
}

function timing(rounds: readonly number[]): Timing {
  const sorted = rounds.toSorted((a, b) => a - b)
  const median = quantile(sorted, 0.5)
  return { median, spread: median === 0 ? 0 : (quantile(sorted, 0.75) - quantile(sorted, 0.25)) / 2 / median }
}

function sizes({ stored }: Subject, count: number) {
  const lengths = Array.from({ length: count }, (_, i) => stored.get(keyOf(i))?.length).filter(
    (length) => length !== undefined,
  )
  const sorted = lengths.toSorted((a, b) => a - b)
  const sum = lengths.reduce((total, length) => total + length, 0)
  const all = [...stored.values()].reduce((total, { length }) => total + length, 0)
  return {
    bytes: sum / Math.max(1, lengths.length),
    sharedBytes: all - sum,
    bytesMedian: quantile(sorted, 0.5),
    bytes95: quantile(sorted, 0.95),
  }
}

function quantile(sorted: readonly number[], part: number): number {
  const at = (sorted.length - 1) * part
  const [low, high] = [sorted[Math.floor(at)] ?? 0, sorted[Math.ceil(at)] ?? 0]
  return low + (high - low) * (at - Math.floor(at))
}
