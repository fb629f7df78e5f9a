/**
 * The item of a name: its stamp, and the marks of the transactions that are about to change the name. Both are in one item,
 * because memcached compares and swaps one item at a time:
 *
 *     epoch hard soft[ mark …]
 *
 * The epoch is `-` where the item has no stamp: a placeholder, or marks alone.
 */
import type { InvalidationMode, Stamp } from '../../src/ledger/ledger.js'
import type { LedgerTime } from '../../src/ledger/snapshot.js'

export interface StampItem {
  /** `undefined`: none, or one of another epoch, which proves nothing about this one. */
  readonly stamp: Stamp | undefined
  /** As `markOf` writes them. */
  readonly marks: readonly string[]
}

/** @param owner - the transaction, and the clock under which it marks names: a text without spaces */
export function markOf(mode: InvalidationMode, owner: string): string {
  return (mode === 'hard' ? 'h' : 's') + owner
}

export function modeAndOwner(mark: string): readonly [mode: InvalidationMode, owner: string] {
  return [mark.startsWith('h') ? 'hard' : 'soft', mark.slice(1)]
}

interface Parts extends Stamp {
  readonly epoch: string
  readonly marks: readonly string[]
}

const NOTHING: Parts = { epoch: '-', hard: 0, soft: 0, marks: [] }

function encode({ epoch, hard, soft, marks }: Parts): Buffer {
  return Buffer.from([epoch, hard, soft, ...marks].join(' '))
}

function partsOf(value: Buffer | undefined): Parts {
  if (value === undefined) return NOTHING
  const [epoch = '', hard = '', soft = '', ...marks] = value.toString().split(' ')
  const isOurs = /^\d+$/.test(hard) && /^\d+$/.test(soft) && marks.every((mark) => /^[hs]/.test(mark))
  return isOurs ? { epoch, hard: Number(hard), soft: Number(soft), marks } : NOTHING
}

/** A stamp before the clock was read for it: it counts as absent. */
export const PLACEHOLDER = encode(NOTHING)

export function encodeStampItem(epoch: string, stamp: Stamp, marks: readonly string[] = []): Uint8Array {
  return encode({ ...stamp, epoch, marks })
}

export function parseStampItem(value: Buffer, epochNow: string | undefined): StampItem {
  const { epoch, hard, soft, marks } = partsOf(value)
  return { stamp: epoch === epochNow ? { hard, soft } : undefined, marks }
}

const NEVER_OVER: Stamp = { hard: Number.POSITIVE_INFINITY, soft: Number.POSITIVE_INFINITY }

/**
 * The stamp by which entries are judged: a mark is an invalidation that is never over. A marked name is never without one: an
 * absent stamp is no obstacle to an entry that was created at the clock's own time.
 */
export function judgedStamp({ stamp, marks }: StampItem): Stamp | undefined {
  if (marks.length === 0) return stamp
  if (stamp === undefined) return NEVER_OVER
  const isMarked = (mode: InvalidationMode) => marks.some((mark) => mark.startsWith(markOf(mode, '')))
  return {
    hard: isMarked('hard') ? Number.POSITIVE_INFINITY : stamp.hard,
    soft: isMarked('soft') ? Number.POSITIVE_INFINITY : stamp.soft,
  }
}

/** What an item becomes. `undefined`: none, before or after. The same bytes: it stays as it is. */
export type Change = (value: Buffer | undefined) => Buffer | undefined

/** The item with another mark. */
export function marked(mark: string): Change {
  return (value) => {
    const parts = partsOf(value)
    return parts.marks.includes(mark) ? value : encode({ ...parts, marks: [...parts.marks, mark] })
  }
}

/**
 * The item after an invalidation, without the mark that this ends. A hard invalidation removes the item; if marks of other transactions
 * stay, it writes a stamp instead. Both give the item another version, so a creator that read the clock earlier cannot put its older
 * stamp there.
 */
export function invalidated({ epoch, at }: LedgerTime, mode: InvalidationMode, mark: string): Change {
  return (value) => {
    // An entry that depends on an absent stamp is a miss already.
    if (value === undefined) return undefined
    const { marks, ...found } = partsOf(value)
    const left = marks.filter((one) => one !== mark)
    const { hard, soft } = found.epoch === epoch ? found : NOTHING
    // Another one, or the stamp itself, is newer.
    if (left.length === marks.length && Math.max(hard, mode === 'soft' ? soft : 0) >= at) return value
    const isHard = mode === 'hard' || found.epoch !== epoch
    if (isHard && left.length === 0) return undefined
    const stamp = isHard ? { hard: Math.max(hard, at), soft } : { hard, soft: Math.max(soft, at) }
    return encode({ ...stamp, epoch, marks: left })
  }
}

/** Removes the mark of a transaction that is over. If another process has removed it, the item stays as it is. */
export function outlived(at: LedgerTime, mark: string): Change {
  const [mode] = modeAndOwner(mark)
  const end = invalidated(at, mode, mark)
  return (value) => (partsOf(value).marks.includes(mark) ? end(value) : value)
}
