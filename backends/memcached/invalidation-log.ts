import { createHash } from 'node:crypto'
import type { LedgerTime } from '../../src/ledger/snapshot.js'
import type { Commands, Item } from './client/commands.js'
import { LOG, wireName } from './format.js'

/** Invalidations that are looked up in the log for one fill. */
const MAX_LOGGED = 256
/** Names of one invalidation in the log; one of more is not logged. */
const MAX_LOGGED_NAMES = 512
/** Seconds for which an invalidation stays in the log. */
const LOG_LIFETIME = 120

/**
 * Tells whether a name may have been invalidated after a time, up to `at`. Each invalidation leaves an item under its own
 * time of the clock. If one is missing, it was not written yet, or is lost: then every name counts as invalidated.
 */
export async function invalidatedSince(
  commands: Commands,
  clock: string,
  { epoch, at }: LedgerTime,
  since: number,
): Promise<(name: string, since: number) => boolean> {
  const count = at - since
  if (!(count > 0 && count <= MAX_LOGGED)) return (_, from) => from !== at
  const times = Array.from({ length: count }, (_, i) => since + 1 + i)
  // One that cannot be read proves as little as one that is lost.
  const read = (time: number) => commands.get(logKey(clock, time)).catch(() => undefined)
  const items = await Promise.all(times.map(read))
  const isMentioned = (item: Item | undefined, name: Buffer) =>
    item === undefined ||
    !item.value.subarray(0, DIGEST).equals(digestOf(epoch)) ||
    item.value.includes(name, DIGEST)
  return (name, from) => {
    const digest = digestOf(name)
    return items.some((item, i) => (times[i] as number) > from && isMentioned(item, digest))
  }
}

/** Bytes for a name in the log. Two names of the same digest cost a fill, and never let an invalidated value through. */
const DIGEST = 8

function digestOf(text: string): Buffer {
  return createHash('sha256').update(text, 'utf16le').digest().subarray(0, DIGEST)
}

/** Without the epoch, which the item has: an item of an earlier epoch proves nothing. */
function logKey(clock: string, time: number): string {
  return wireName(LOG, `${time}:${clock}`)
}

/** A part of the proof that other names were not invalidated. Without it a fill is refused, so its failure harms nothing. */
export async function logInvalidation(
  commands: Commands,
  clock: string,
  { epoch, at }: LedgerTime,
  names: readonly string[],
): Promise<void> {
  if (names.length > MAX_LOGGED_NAMES) return
  const value = Buffer.concat([epoch, ...names].map(digestOf))
  await commands.set(logKey(clock, at), value, LOG_LIFETIME).catch(() => undefined)
}
