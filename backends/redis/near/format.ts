import type { JournalChanges } from '../../../src/ledger/mirror.js'
import { clockKeys, companion, expectClock, stampKey } from '../format.js'

/** The journal of keys, among those of clocks. */
export const KEYS = ''

const JOURNAL: readonly [clock: string, ring: string] = [
  companion('journal', 'keys'),
  companion('journal-ring', 'keys'),
]

/** ms that the registration of a near cache lives without one that renews it. */
export const LIFETIME = 60_000

/** Clock and ring of a journal. */
export function journalKeys(journal: string): readonly [clock: string, ring: string] {
  if (journal === KEYS) return JOURNAL
  const { clock, ring } = clockKeys(journal)
  return [clock, ring]
}

/** Names as the mirror knows them, from the keys under which Redis does. */
export function namesIn(journal: string, keys: readonly string[], prefix: string): readonly string[] {
  const before = prefix.length + (journal === KEYS ? 0 : stampKey(journal, '').length)
  return keys.map((key) => key.slice(before))
}

/** {clock, floor, name, time, …} */
export function parseChanges(journal: string, reply: readonly string[], prefix: string): JournalChanges {
  const [clock, floor, ...changes] = reply
  const names = namesIn(
    journal,
    changes.filter((_, i) => i % 2 === 0),
    prefix,
  )
  const changed = names.map((name, i) => ({ name, at: Number(changes[2 * i + 1]) }))
  return { now: expectClock(clock), floor: Number(floor), changed }
}
