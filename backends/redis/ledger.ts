import type { Freshness, InvalidationMode, Ledger, OpenLedger } from '../../src/ledger/ledger.js'
import { type DependencySnapshot, newEpoch } from '../../src/ledger/snapshot.js'
import * as scripts from './client/scripts.js'
import { clockKeys, expectClock, stampKey, stampKeys } from './format.js'
import { cachingLedgerReader } from './reads/ledger-reader.js'
import type { RedisStore } from './store.js'

export interface RedisLedger extends Ledger {
  open(clock: string): OpenRedisLedger
}

export interface OpenRedisLedger extends OpenLedger {
  /** @param lifetime for the stamps that are put back or kept; '' keeps them for ever. */
  restore(snapshot: DependencySnapshot, lifetime?: string): Promise<Freshness>
}

/** The parts of the store that a ledger uses. */
export type LedgerStore = Pick<RedisStore, 'reads' | 'runner' | 'stampLifetime' | 'pendingFor' | 'journal'>

const VERDICTS: readonly Freshness[] = ['fresh', 'stale', 'invalid']

/** A ledger on one primary: every change is one script, hence one step. */
export function standaloneLedger({
  reads,
  runner,
  stampLifetime,
  pendingFor,
  journal,
  connection,
}: LedgerStore & Pick<RedisStore, 'connection'>): RedisLedger {
  const lifetime = `${stampLifetime}`
  return openedOnce((clock) => {
    const { clock: key, ring, pending } = clockKeys(clock)
    /** @param ms - for which the transaction marks the names; '' ends its marks */
    const stamp = (given: readonly string[], mode: InvalidationMode, transaction = '', ms = '') =>
      inSlices(given, async (names) => {
        const keys = [key, ring, journal.keys[0], pending, ...stampKeys(clock, names)]
        const args = [newEpoch(), mode, journal.channel, transaction, ms, lifetime]
        const step = await runner.runDurably({ script: scripts.invalidate, keys, args })
        journal.namesChanged(clock, names, step)
      })
    return {
      storeClock: clock,
      read: cachingLedgerReader(reads, clock),
      async now(names) {
        const stamps = stampKeys(clock, names)
        const args = [newEpoch(), lifetime]
        return expectClock(await runner.run({ script: scripts.now, keys: [key, pending, ...stamps], args }))
      },
      async restore(snapshot, life = lifetime) {
        const { stamps, asOf } = snapshotKeys(clock, snapshot)
        const args = [snapshot.epoch, life, ...asOf]
        const verdict = await runner.run({ script: scripts.validate, keys: [key, ring, ...stamps], args })
        return VERDICTS[Number(verdict)] ?? 'invalid'
      },
      invalidate: (names, mode, transaction) => stamp(names, mode, transaction),
      ...(pendingFor > 0 && {
        pending: async (names: readonly string[], mode: InvalidationMode, transaction: string) => {
          // A commit waits for its marks: an outage may cost one `timeout`, not one for each commit.
          connection.expectThere(key)
          await stamp(names, mode, transaction, `${pendingFor}`)
          return pendingFor
        },
      }),
      tail: () => journal.tail(clock),
    }
  })
}

/** The most names in one script: Redis serves nobody else while a script runs. */
const MAX_NAMES = 10_000

/**
 * Invalidates or marks names, one slice after another. The first slice ends the transaction; its marks on the names of later
 * slices count until those slices run.
 * @throws the first failure: the recovery then repeats the whole invalidation
 */
export async function inSlices(
  names: readonly string[],
  change: (names: readonly string[]) => Promise<void>,
): Promise<void> {
  if (names.length <= MAX_NAMES) return change(names)
  for (let at = 0; at < names.length; at += MAX_NAMES) await change(names.slice(at, at + MAX_NAMES))
}

/** A ledger that opens each clock once, so that all chains over it share its memory of stamps. */
export function openedOnce(open: (clock: string) => OpenRedisLedger): RedisLedger {
  const clocks = new Map<string, OpenRedisLedger>()
  return {
    shared: true,
    open(clock) {
      let found = clocks.get(clock)
      if (found === undefined) clocks.set(clock, (found = open(clock)))
      return found
    },
  }
}

/** The stamps of a snapshot, and for each the time that it must not be newer than. */
export function snapshotKeys(
  clock: string,
  { groups }: DependencySnapshot,
): { readonly stamps: readonly string[]; readonly asOf: readonly string[] } {
  const [stamps, times]: [string[], string[]] = [[], []]
  for (const { asOf, names } of groups)
    for (const name of names) {
      stamps.push(stampKey(clock, name))
      times.push(`${asOf}`)
    }
  return { stamps, asOf: times }
}
