import type { Measured, Measurement } from './measure.js'
import type { Prices } from './usage.js'

/** A measurement with its price. */
export interface Rated extends Measurement {
  /** µs for which a read waits for the store, round trip and transfer, while the event loop serves other requests. */
  readonly waiting: number
  /** µs until a read has its value: waiting and decoding. */
  readonly read: number
  /** µs for which a read and its share of a write keep the event loop busy. */
  readonly busy: number
  /** Cost of the memory of a million entries, a month. */
  readonly memory: number
  /** Cost of the processor time of their reads and writes, a month. */
  readonly processor: number
  /** Memory and processor. */
  readonly cost: number
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
  processor:
    'processor = (decode + encode ÷ reads per write) × reads a second ÷ 1,000,000 × price of a core and month',
  rule: 'Recommended is, among those that keep every value, the smallest memory + processor; a simpler one wins a tie.',
  waiting:
    'Waiting for the store has no price: the event loop serves other requests meanwhile. While it encodes or decodes it serves none.',
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
    const waiting = prices.rtt + ((one.bytes * 8) / prices.bandwidth) * 1e6
    const busy = one.decode.median + one.encode.median / prices.readsPerWrite
    const memory = ((one.bytes * 1e6) / 2 ** 30) * prices.gbPrice
    const processor = ((busy * prices.reads) / 1e6) * prices.corePrice
    return {
      ...one,
      waiting,
      read: waiting + one.decode.median,
      busy,
      memory,
      processor,
      cost: memory + processor,
      ratio: one.bytes / base.bytes,
      faithful: isFaithful(one),
      frontDecode: isFaithful(one) && onFront(one, faithful, 'decode'),
      frontEncode: isFaithful(one) && onFront(one, faithful, 'encode'),
    }
  })
  const able = priced.filter((one) => one.faithful)
  const best = able.reduce<Rated | undefined>(
    (least, one) => (least === undefined || one.cost < least.cost ? one : least),
    undefined,
  )
  const tie = 1 + Math.max(TIE, Math.min(0.05, noise.decode))
  const recommended = best && able.find((one) => one.cost <= best.cost * tie)
  const rated = priced.toSorted(
    (a, b) =>
      Number(b.faithful) - Number(a.faithful) ||
      Number(b === recommended) - Number(a === recommended) ||
      a.cost - b.cost,
  )
  const ratedBase = priced[measurements.indexOf(base)] as Rated
  return {
    rated,
    base: ratedBase,
    recommended,
    reasons: reasonsFor(recommended, best, ratedBase, rated, prices),
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
      `Against ${base.name} it takes ${comparison(recommended.bytes / base.bytes, 'less room', 'more room')} and ` +
        `${comparison(recommended.busy / base.busy, 'less processor time', 'more processor time')}. A million entries cost ` +
        `${money(recommended.cost)} instead of ${money(base.cost)} a month: ${money(recommended.memory)} for memory, ` +
        `${money(recommended.processor)} for the processor.`,
    )
  else reasons.push(`It keeps every value, which ${base.name} does not.`)
  reasons.push(
    `${prices.reads.toLocaleString('en')} reads a second keep ${percent((recommended.busy * prices.reads) / 1e6)} of an event loop busy. ` +
      `The ${Math.round(recommended.waiting).toLocaleString('en')} µs for which a read waits for the store keep none busy.`,
  )
  if (best !== recommended)
    reasons.push(
      `${best.name} is ahead by ${percent(ahead(best, recommended))}, which is a tie: the simpler one was chosen.`,
    )
  else {
    const second = rated.find((one) => one.faithful && one !== recommended)
    if (second !== undefined)
      reasons.push(`Next is ${second.name}, which costs ${percent(ahead(recommended, second))} more.`)
  }
  if (recommended.note !== undefined) reasons.push(recommended.note)
  return reasons
}

function ahead(one: Rated, other: Rated): number {
  return one.cost === 0 ? 0 : other.cost / one.cost - 1
}

function comparison(ratio: number, less: string, more: string): string {
  if (Math.abs(ratio - 1) < 0.005) return `the same ${less.replace('less ', '')}`
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
