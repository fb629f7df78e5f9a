import { frozenCopy } from '../../src/base/frozen.js'
import { inBatches } from '../../src/base/in-batches.js'
import { epochNow } from '../../src/base/timers.js'
import type { InvalidationMode } from '../../src/ledger/ledger.js'
import type { Commands } from './client/commands.js'
import { moveClock } from './counter-clock.js'
import { LIFE, STAMP, secondsUntil, wireName } from './format.js'
import { logInvalidation } from './invalidation-log.js'
import { changeItem, marked, markOf, modeAndTransaction, PLACEHOLDER, type StampItem } from './stamp-items.js'

const ALIVE = Buffer.from('1')

/**
 * Marks names for a transaction. An item of its own tells, by the server's clock, how long the transaction's marks live. The clock moves
 * last. So a creation that begins after that finds the marks when it fills, and an entry from before is not taken unread for
 * what the clock proves.
 */
export async function markNames(
  commands: Commands,
  clock: string,
  given: readonly string[],
  {
    mode,
    transaction,
    ms,
  }: { readonly mode: InvalidationMode; readonly transaction: string; readonly ms: number },
): Promise<void> {
  const names = frozenCopy(given)
  const now = epochNow()
  await commands.set(wireName(LIFE, transaction), ALIVE, secondsUntil(now + ms, now))
  const change = marked(markOf(mode, transaction))
  await Promise.all(
    names.map((name) => changeItem(commands, wireName(STAMP, name), change, { absent: PLACEHOLDER })),
  )
  const at = await moveClock(commands, clock, 1n)
  await logInvalidation(commands, clock, at, names)
}

/** Marks that outlived their transactions. */
export interface DeadMarks {
  readonly mode: InvalidationMode
  readonly transaction: string
  readonly names: readonly string[]
}

/**
 * The marks of transactions whose lives are over. Until somebody ends them they count: a creation that began under one may fill
 * long after.
 */
export async function deadMarks(
  commands: Commands,
  names: readonly string[],
  items: readonly (StampItem | undefined)[],
): Promise<readonly DeadMarks[]> {
  if (!items.some((item) => item !== undefined && item.marks.length > 0)) return []
  const found = new Map<string, string[]>()
  for (const [i, item] of items.entries())
    for (const mark of item?.marks ?? []) found.set(mark, [...(found.get(mark) ?? []), names[i] as string])
  const all = await inBatches([...found], async ([mark, marked]) => {
    const [mode, transaction] = modeAndTransaction(mark)
    const isAlive = (await commands.get(wireName(LIFE, transaction))) !== undefined
    return isAlive ? [] : [{ mode, transaction, names: marked }]
  })
  return all.flat()
}
