import { randomInt } from 'node:crypto'
import type { LedgerTime } from '../../src/ledger/snapshot.js'
import type { Commands } from './client/commands.js'
import { CLOCK, wireName } from './format.js'

/**
 * The lower 34 bits of the clock's counter are its time, the upper 29 its epoch, drawn at random; an overflow begins a new
 * epoch. The highest bit stays zero: memcached (1.6.18) does not take a counter from 2^63 for a number if a minus sign
 * happens to stand behind it in memory.
 */
const EPOCHS = 2 ** 29
const TIME_BITS = 34n
const TIME = (1n << TIME_BITS) - 1n

/** Moves the clock, or starts it in a new epoch. */
export async function moveClock(commands: Commands, clock: string, by: bigint): Promise<LedgerTime> {
  const start = (BigInt(randomInt(EPOCHS)) << TIME_BITS) | 1n
  return timeOf(await commands.increment(wireName(CLOCK, clock), start, by))
}

function timeOf(counter: bigint): LedgerTime {
  return { epoch: (counter >> TIME_BITS).toString(36), at: Number(counter & TIME) }
}

/** The counter that was parsed last, as its text: most readings find the clock unmoved. */
let lastText = ''
let lastTime: LedgerTime | undefined

/** memcached keeps counters as decimal text, and pads one that has become shorter with spaces. */
export function parseClock(bytes: Buffer): LedgerTime | undefined {
  const text = bytes.toString('latin1')
  if (text === lastText) return lastTime
  if (!/^\d{1,20} *$/.test(text)) return undefined
  lastText = text
  lastTime = timeOf(BigInt(text.trim()))
  return lastTime
}
