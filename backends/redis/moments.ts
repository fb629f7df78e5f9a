import type { LedgerTime } from '../../src/backend/cached-value.js'
import type { Stamp } from '../../src/ledger/ledger.js'

let lastText = ''
let lastInstant: LedgerTime | undefined

/** A clock as it is stored: `epoch:microseconds`. Anything else is no clock, and what rests on it is a miss. */
export function parseClock(stored: Buffer | string | null | undefined): LedgerTime | undefined {
  if (stored === null || stored === undefined) return undefined
  const text = typeof stored === 'string' ? stored : stored.toString('latin1')
  // The clock seldom moves between two reads.
  if (text === lastText) return lastInstant
  const colon = text.lastIndexOf(':')
  const at = colon > 0 ? number(text.slice(colon + 1)) : undefined
  if (at === undefined) return undefined
  lastText = text
  lastInstant = { epoch: text.slice(0, colon), at }
  return lastInstant
}

/** A stamp as it is stored: `hard` or `hard soft`. A placeholder is none yet. */
export function parseStamp(stored: Buffer | null | undefined): Stamp | undefined {
  if (stored === null || stored === undefined) return undefined
  const text = stored.toString('latin1')
  const space = text.indexOf(' ')
  const hard = number(space < 0 ? text : text.slice(0, space))
  const soft = space < 0 ? 0 : number(text.slice(space + 1))
  return hard === undefined || soft === undefined ? undefined : { hard, soft }
}

function number(text: string): number | undefined {
  return /^\d{1,16}$/.test(text) ? Number(text) : undefined
}
