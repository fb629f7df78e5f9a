import { randomUUID } from 'node:crypto'
import type { Basis, Instant } from '../../src/cached-value.js'
import { CorralError } from '../../src/errors.js'
import { compare, type Freshness, type Ledger, namesOf, type Reading } from '../../src/ledger.js'
import { changed } from '../../src/maybe-promise.js'
import type { Reads } from './coalescer.js'
import { parseClock } from './moments.js'
import { clockKeys, stampKey } from './names.js'
import type { Runner } from './runner.js'
import * as scripts from './scripts.js'

/** What writes need of a ledger beside its public face. */
export interface RedisLedger extends Ledger {
  /** Reads clock and stamps by the tick's `MGET`. */
  readonly read: (clock: string, names: readonly string[]) => ReturnType<Reads['reading']>
}

export interface LedgerParts {
  readonly reads: Reads
  readonly runner: Runner
  /** ms that a stamp lives after it was last needed. */
  readonly lifetime: number
}

const VERDICTS: readonly Freshness[] = ['fresh', 'stale', 'dead']

/** A ledger on one primary: every change is one script, hence one step. */
export function ledger({ reads, runner, lifetime }: LedgerParts): RedisLedger {
  const read = rememberingReader(reads)
  return {
    shared: true,
    read,
    async begin(clock, names) {
      const call = {
        script: scripts.begin,
        keys: [clockKeys(clock).clock, ...names.map(stampKey)],
        args: [randomUUID(), `${lifetime}`],
      }
      return instant(await runner.run(call))
    },
    async judge(clock, basis) {
      const reading = await read(clock, namesOf(basis))
      // Only a missing stamp is worth the script, which makes it, and may find its name provably unharmed.
      if (reading.now?.epoch !== basis.epoch || !reading.stamps.includes(undefined))
        return compare(basis, reading)
      const { keys, as } = basisKeys(clock, basis)
      const answer = await runner.run({
        script: scripts.judge,
        keys,
        args: [basis.epoch, `${lifetime}`, ...as],
      })
      return VERDICTS[Number(answer)] ?? 'dead'
    },
    async invalidate(clock, names, mode) {
      const { clock: at, ring } = clockKeys(clock)
      await runner.durable({
        script: scripts.invalidate,
        keys: [at, ring, ...names.map(stampKey)],
        args: [randomUUID(), mode],
      })
    },
  }
}

/** Reads joined with those of entries. Name lists are mapped once, by identity: they come again and again. */
export function readingOf(reads: Reads): RedisLedger['read'] {
  const stamps = new WeakMap<readonly string[], readonly string[]>()
  const keyOf = clockKeyOf()
  return (clock, names) => {
    let keys = stamps.get(names)
    if (keys === undefined) stamps.set(names, (keys = names.map(stampKey)))
    return reads.reading(keyOf(clock), keys)
  }
}

/** A chain asks for the same clock on every hit. */
function clockKeyOf(): (clock: string) => string {
  let last: string | undefined
  let key = ''
  return (clock) => {
    if (clock !== last) {
      key = clockKeys(clock).clock
      last = clock
    }
    return key
  }
}

const NONE: readonly string[] = []

/** Batches in which the clock must have stood still before stamps are left out. */
const STILL = 32

interface Pace {
  /** Where the clock was seen last. */
  now: Instant | undefined
  /** Batches that asked for it since it was seen to move. */
  batches: number
  latest: Promise<Reading> | undefined
}

/**
 * Reads that leave out the stamps which are known already. Every invalidation moves the clock in the same step, and a
 * clock and its stamps are read in one: while the clock is where it was, so are the stamps. The first read after it moved
 * asks for them in a second round trip; where it moves often they are asked for at once.
 */
export function rememberingReader(reads: Reads): RedisLedger['read'] {
  const lists = new WeakMap<
    readonly string[],
    { readonly keys: readonly string[]; seen: Reading | undefined }
  >()
  const paces = new Map<string, Pace>()
  const keyOf = clockKeyOf()
  let lastKey: string | undefined
  let pace: Pace = { now: undefined, batches: 0, latest: undefined }

  return (clock, names) => {
    const key = keyOf(clock)
    if (key !== lastKey) {
      pace = paces.get(key) ?? { now: undefined, batches: 0, latest: undefined }
      paces.set(key, pace)
      lastKey = key
    }
    let list = lists.get(names)
    if (list === undefined) lists.set(names, (list = { keys: names.map(stampKey), seen: undefined }))
    const [at, known] = [pace, list]
    const ticking = reads.reading(key, NONE)
    if (ticking !== at.latest) {
      at.latest = ticking
      at.batches++
    }
    const look = () =>
      changed(reads.reading(key, known.keys), (reading) => {
        see(at, reading.now)
        // An absent stamp may be put back without moving the clock.
        known.seen = reading.now === undefined || reading.stamps.includes(undefined) ? undefined : reading
        return reading
      })
    const { seen } = known
    if (seen === undefined || at.batches < STILL || !same(seen.now, at.now)) return look() as Promise<Reading>
    return changed(ticking, ({ now }) => {
      see(at, now)
      return same(seen.now, now) ? seen : look()
    }) as Promise<Reading>
  }
}

function see(pace: Pace, now: Instant | undefined): void {
  if (same(pace.now, now)) return
  pace.now = now
  pace.batches = 0
}

function same(one: Instant | undefined, other: Instant | undefined): boolean {
  return one === other || (one?.at === other?.at && one?.epoch === other?.epoch)
}

/** The keys of a basis, and the moment that each of its stamps must not be newer than. */
export function basisKeys(
  clock: string,
  basis: Basis,
): { readonly keys: readonly string[]; readonly as: readonly string[] } {
  const { clock: at, ring } = clockKeys(clock)
  const keys = [at, ring]
  const as: string[] = []
  for (const { a, names } of basis.groups)
    for (const name of names) {
      keys.push(stampKey(name))
      as.push(`${a}`)
    }
  return { keys, as }
}

export function instant(answer: unknown): Instant {
  const found = parseClock(typeof answer === 'string' ? answer : undefined)
  if (found === undefined)
    throw new CorralError(
      'ERR_BACKEND',
      'Expected the clock of the ledger, got something else: another program writes to its key.',
    )
  return found
}
