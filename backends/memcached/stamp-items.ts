/**
 * The item of a name: its stamp, and the marks of the transactions that are about to change the name. Both are in one item,
 * because memcached compares and swaps one item at a time:
 *
 *     epoch hard soft[ mark …]
 *
 * The epoch is `-` where the item has no stamp: a placeholder, or marks alone.
 */
import { CorralError } from '../../src/base/errors.js'
import type { InvalidationMode, Stamp } from '../../src/ledger/ledger.js'
import type { LedgerTime } from '../../src/ledger/snapshot.js'
import type { Commands, Item } from './client/commands.js'

export interface StampItem {
  /** `undefined`: none, or one of another epoch, which proves nothing about this one. */
  readonly stamp: Stamp | undefined
  /** As `markOf` writes them. */
  readonly marks: readonly string[]
}

export function markOf(mode: InvalidationMode, transaction: string): string {
  return (mode === 'hard' ? 'h' : 's') + transaction
}

export function modeAndTransaction(mark: string): readonly [mode: InvalidationMode, transaction: string] {
  return [mark.startsWith('h') ? 'hard' : 'soft', mark.slice(1)]
}

const NO_STAMP = '- 0 0'

/** A stamp before the clock was read for it: it counts as absent. */
export const PLACEHOLDER = Buffer.from(NO_STAMP)

export function encodeStampItem(
  epoch: string,
  { hard, soft }: Stamp,
  marks: readonly string[] = [],
): Uint8Array {
  return Buffer.from([epoch, hard, soft, ...marks].join(' '))
}

function isMark(text: string): boolean {
  return /^[hs]./.test(text)
}

const NONE: readonly string[] = []

export function parseStampItem(value: Buffer, epoch: string | undefined): StampItem {
  const [of, hard = '', soft = '', ...marks] = value.toString().split(' ')
  if (!/^\d+$/.test(hard) || !/^\d+$/.test(soft) || !marks.every(isMark))
    return { stamp: undefined, marks: NONE }
  return { stamp: of === epoch ? { hard: Number(hard), soft: Number(soft) } : undefined, marks }
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

/** What is to become of an item, if it still is as it was read. */
type Change = (value: Buffer) => Uint8Array | 'removed' | 'kept'

/** The item with another mark. */
export function marked(mark: string): Change {
  return (value) => {
    const text = value.toString()
    const isItem = /^\S+ \d+ \d+( [hs]\S+)*$/.test(text)
    if (isItem && text.split(' ').includes(mark, 3)) return 'kept'
    return Buffer.from(`${isItem ? text : NO_STAMP} ${mark}`)
  }
}

/**
 * The item after an invalidation, without the mark that this ends. A hard one removes the stamp. Where marks of others stay, it is
 * written all the same: whoever is about to put a stamp there has read the clock before it moved, and must not succeed.
 */
export function invalidated({ epoch, at }: LedgerTime, mode: InvalidationMode, mark: string): Change {
  return (value) => {
    const { stamp, marks } = parseStampItem(value, epoch)
    const left = marks.filter((one) => one !== mark)
    // Another one, or the stamp itself, is newer.
    if (stamp !== undefined && stamp[mode] >= at && left.length === marks.length) return 'kept'
    if (mode === 'soft' && stamp !== undefined)
      return encodeStampItem(epoch, { hard: stamp.hard, soft: Math.max(stamp.soft, at) }, left)
    return left.length === 0 ? 'removed' : Buffer.from([NO_STAMP, ...left].join(' '))
  }
}

/** Writers of one item succeed one after the other, each in a round trip. */
const ATTEMPTS = 1_000

/**
 * Changes an item by compare-and-swap.
 * @param absent - what the item counts as if there is none; none: there is nothing to change
 * @param seen - the item as it was read before, which spares a round trip unless it has changed since
 * @throws CorralError `ERR_UNAVAILABLE`
 */
export async function changeItem(
  commands: Commands,
  key: string,
  change: Change,
  { absent, seen }: { readonly absent?: Buffer; readonly seen?: Item | undefined } = {},
): Promise<void> {
  let item = seen
  let hasFailed = false
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    item ??= await commands.get(key)
    const value = item?.value ?? absent
    if (value === undefined) return
    const next = change(value)
    if (next === 'kept') return
    try {
      const written =
        next !== 'removed'
          ? await commands.set(key, next, 0, item?.version ?? 'absent')
          : item === undefined || (await commands.delete(key, item.version))
      if (written) return
    } catch (error) {
      // With the connection its reply is lost, not the knowledge: the item itself tells whether it was written.
      if (hasFailed || !CorralError.is(error, 'ERR_UNAVAILABLE')) throw error
      hasFailed = true
    }
    item = undefined
  }
  throw new CorralError(
    'ERR_UNAVAILABLE',
    `Expected to write the stamp of a name in memcached within ${ATTEMPTS} attempts, got other writes of it each time. Try again.`,
  )
}
