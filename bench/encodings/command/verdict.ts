import type { Measured, Measurement } from './measure.js'
import type { Prices } from './usage.js'

/** A measurement with its price. */
export interface Rated extends Measurement {
  /** µs for the bytes on the wire. */
  readonly transfer: number
  /** µs until a read has its value: round trip, transfer, decoding. */
  readonly read: number
  /** µs: the read, and its share of the writes. */
  readonly share: number
  /** Cost of the memory of a million entries, a month. */
  readonly memory: number
  /** Size in the store against the base line's. */
  readonly ratio: number
  readonly faithful: boolean
  /** No other faithful combination is both smaller and faster to decode, or to encode. */
  readonly frontDecode: boolean
  readonly frontEncode: boolean
}

export interface Verdict {
  /** Best first: combinations that keep every value, by cost; then the rest. */
  readonly rated: readonly Rated[]
  readonly base: Rated
  readonly recommended: Rated | undefined
  readonly reasons: readonly string[]
}

export const formula = {
  read: 'read = round trip + bytes × 8 ÷ bandwidth + decode',
  memory: 'memory = bytes × 1,000,000 ÷ 2^30 × price of a GB and month',
  rule: 'Recommended is, among those that keep every value, the smallest (read + encode ÷ reads per write) × bytes; a simpler one wins a tie.',
}

/** A difference below this is not worth a package or a layer more; noise counts as a tie as well. */
const TIE = 0.03

/** Prices the measurements, and chooses. The order of the measurements is from simple to elaborate. */
export function conclude({ measurements, noise }: Measured, prices: Prices): Verdict {
  // A combination that takes only some of the values does not show the size of all of them.
  const base =
    measurements.find(({ fidelity }) => fidelity.refused + fidelity.missed === 0) ?? measurements[0]
  if (base === undefined) throw new Error('Expected something that was measured, got nothing.')
  const faithful = measurements.filter(isFaithful)
  const priced = measurements.map((one): Rated => {
    const transfer = ((one.bytes * 8) / prices.bandwidth) * 1e6
    const read = prices.rtt + transfer + one.decode.median
    return {
      ...one,
      transfer,
      read,
      share: read + one.encode.median / prices.readsPerWrite,
      memory: ((one.bytes * 1e6) / 2 ** 30) * prices.gbPrice,
      ratio: one.bytes / base.bytes,
      faithful: isFaithful(one),
      frontDecode: isFaithful(one) && onFront(one, faithful, 'decode'),
      frontEncode: isFaithful(one) && onFront(one, faithful, 'encode'),
    }
  })
  const score = (one: Rated) => one.share * one.bytes
  const able = priced.filter((one) => one.faithful)
  const best = able.reduce<Rated | undefined>(
    (least, one) => (least === undefined || score(one) < score(least) ? one : least),
    undefined,
  )
  const tie = 1 + Math.max(TIE, Math.min(0.05, noise.decode))
  const recommended = best && able.find((one) => score(one) <= score(best) * tie)
  const rated = priced.toSorted(
    (a, b) =>
      Number(b.faithful) - Number(a.faithful) ||
      Number(b === recommended) - Number(a === recommended) ||
      score(a) - score(b),
  )
  const ratedBase = priced[measurements.indexOf(base)] as Rated
  return {
    rated,
    base: ratedBase,
    recommended,
    reasons: reasonsFor(recommended, best, ratedBase, rated, prices, score),
  }
}

function isFaithful({ fidelity, bytes }: Measurement): boolean {
  return bytes > 0 && fidelity.changed + fidelity.refused + fidelity.missed === 0
}

function onFront(one: Measurement, all: readonly Measurement[], time: 'decode' | 'encode'): boolean {
  return !all.some(
    (other) =>
      other.bytes <= one.bytes &&
      other[time].median <= one[time].median &&
      (other.bytes < one.bytes || other[time].median < one[time].median),
  )
}

function reasonsFor(
  recommended: Rated | undefined,
  best: Rated | undefined,
  base: Rated,
  rated: readonly Rated[],
  prices: Prices,
  score: (one: Rated) => number,
): readonly string[] {
  if (recommended === undefined || best === undefined)
    return [
      'No combination keeps every value. The table shows the losses. Change the values, or add your own codec with --codec.',
    ]
  const reasons: string[] = []
  if (recommended === base)
    reasons.push(`Nothing is enough better than plain ${base.name} to be worth another layer.`)
  else if (base.faithful)
    reasons.push(
      `Against ${base.name} it takes ${comparison(recommended.bytes / base.bytes, 'less room', 'more room')}, a read ` +
        `${comparison(recommended.read / base.read, 'less time', 'more time')}${prices.rtt > 0 ? ' (round trip included)' : ''}, and a million ` +
        `entries cost ${money(recommended.memory)} instead of ${money(base.memory)} a month.`,
    )
  else reasons.push(`It keeps every value, which ${base.name} does not.`)
  if (best !== recommended)
    reasons.push(
      `${best.name} is ahead by ${percent(score(recommended) / score(best) - 1)}, which is a tie: the simpler one was chosen.`,
    )
  else {
    const second = rated.find((one) => one.faithful && one !== recommended)
    if (second !== undefined)
      reasons.push(
        `Next is ${second.name}, by ${percent(score(second) / score(recommended) - 1)} (read and write time × size).`,
      )
  }
  if (recommended.note !== undefined) reasons.push(recommended.note)
  return reasons
}

function comparison(ratio: number, less: string, more: string): string {
  if (Math.abs(ratio - 1) < 0.005) return `the same ${less.split(' ')[1]}`
  return ratio < 1 ? `${percent(1 - ratio)} ${less}` : `${percent(ratio - 1)} ${more}`
}

export function percent(part: number): string {
  return `${part < 0.0995 ? (part * 100).toFixed(1).replace(/\.0$/, '') : Math.round(part * 100)} %`
}

export function money(amount: number): string {
  return amount.toLocaleString('en', {
    minimumFractionDigits: 2,
    maximumFractionDigits: amount < 0.1 ? 4 : 2,
  })
}
