import { createHash } from 'node:crypto'
import { frozenCopy } from '../../src/base/frozen.js'
import { settledInBatches } from '../../src/base/in-batches.js'
import { epochNow } from '../../src/base/timers.js'
import type { InvalidationMode } from '../../src/ledger/ledger.js'
import type { Commands, Item } from './client/commands.js'
import { moveClock } from './counter-clock.js'
import { LIFE, STAMP, secondsUntil, wireName } from './format.js'
import { logInvalidation } from './invalidation-log.js'
import type { ChangeItem } from './item-changes.js'
import { marked, markOf, modeAndOwner, outlived, type StampItem } from './stamp-items.js'

const ALIVE = Buffer.from('1')

interface Parts {
  readonly commands: Commands
  readonly changeItem: ChangeItem
  readonly clock: string
}

/** A name may be one under several clocks. The end of a mark moves the clock under which it was set, and no other. */
export function ownerOf(clock: string, transaction: string): string {
  return `${clockMark(clock)}${transaction}`
}

function clockMark(clock: string): string {
  return `${createHash('sha256').update(clock, 'utf16le').digest('base64url').slice(0, 6)}:`
}

/** The items of names as they are now; one that cannot be read counts as absent, so that it keeps no other from being changed. */
export function seenItems(
  commands: Commands,
  keys: readonly string[],
): Promise<readonly (Item | undefined)[]> {
  return Promise.all(keys.map((key) => commands.get(key).catch(() => undefined)))
}

/**
 * Marks names for a transaction. The transaction has an item of its own, which the server drops at the end of the marks' life. The clock
 * moves after the marks are in place: a creation that begins later meets them when it fills, and a reader of an older entry sees that
 * the clock has moved, and reads the stamps.
 */
export async function markNames(
  { commands, changeItem, clock }: Parts,
  given: readonly string[],
  {
    mode,
    transaction,
    ms,
  }: { readonly mode: InvalidationMode; readonly transaction: string; readonly ms: number },
): Promise<void> {
  const names = frozenCopy(given)
  const keys = names.map((name) => wireName(STAMP, name))
  const owner = ownerOf(clock, transaction)
  const now = epochNow()
  const [seen] = await Promise.all([
    seenItems(commands, keys),
    commands.set(wireName(LIFE, owner), ALIVE, secondsUntil(now + ms, now)),
  ])
  const change = marked(markOf(mode, owner))
  await Promise.all(keys.map((key, i) => changeItem(key, change, seen[i])))
  const at = await moveClock(commands, clock, 1n)
  void logInvalidation(commands, clock, at, names)
}

/** Ends the marks in a reading that outlived their transactions. True: there were some, and now they have ended. Never rejects. */
export type EndMarks = (
  clock: string,
  names: readonly string[],
  items: readonly (StampItem | undefined)[],
) => Promise<boolean>

/**
 * A mark counts until a process removes it: a creation that began under it may fill long after. If the server cannot say whether the
 * mark lives, or the removal fails, the mark stays. That costs a creation, and no read is wrong. Readers that meet a mark at the same
 * moment share one removal, because each removal moves the clock.
 */
export function marksEnding(commands: Commands, changeItem: ChangeItem): EndMarks {
  const ending = new Map<string, Promise<boolean>>()
  const end = async (clock: string, mark: string, names: readonly string[]): Promise<boolean> => {
    const [, owner] = modeAndOwner(mark)
    if ((await commands.get(wireName(LIFE, owner))) !== undefined) return false
    const at = await moveClock(commands, clock, 1n)
    const change = outlived(at, mark)
    await Promise.all([
      logInvalidation(commands, clock, at, names),
      ...names.map((name) => changeItem(wireName(STAMP, name), change)),
    ])
    return true
  }
  return async (clock, names, items) => {
    const found = new Map<string, string[]>()
    for (let i = 0; i < items.length; i++)
      for (const mark of items[i]?.marks ?? [])
        if (mark.startsWith(clockMark(clock), 1))
          found.set(mark, [...(found.get(mark) ?? []), names[i] as string])
    const ends = await settledInBatches([...found], ([mark, marked]) => {
      const key = JSON.stringify([mark, marked])
      let one = ending.get(key)
      if (one === undefined) {
        one = end(clock, mark, marked).finally(() => ending.delete(key))
        ending.set(key, one)
      }
      return one
    })
    return ends.some((one) => one.status === 'fulfilled' && one.value)
  }
}
