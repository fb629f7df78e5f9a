import { randomUUID } from 'node:crypto'
import { CorralError } from '../../src/base/errors.js'
import type { ClockedLedger } from '../../src/ledger/clocked-ledger.js'
import { type Freshness, freshnessAt } from '../../src/ledger/ledger.js'
import type { DependencySnapshot, LedgerTime } from '../../src/ledger/snapshot.js'
import { namesOf } from '../../src/ledger/snapshot.js'
import type { ScriptRunner } from './client/script-runner.js'
import * as scripts from './client/scripts.js'
import { clockKeys, parseClock, stampKey, stampKeys } from './format.js'
import { cachingLedgerReader, type ReadLedger } from './reads/ledger-reader.js'
import type { Reads } from './reads/read-batcher.js'

/** The part of a ledger that only writes need. */
export interface RedisLedger extends ClockedLedger {
  readonly read: ReadLedger
}

export interface RedisLedgerOptions {
  readonly reads: Reads
  readonly runner: ScriptRunner
  /** ms that a stamp lives after it was last needed. */
  readonly lifetime: number
}

const VERDICTS: readonly Freshness[] = ['fresh', 'stale', 'invalid']

/** A ledger on one primary: every change is one script, hence one step. */
export function standaloneLedger({ reads, runner, lifetime }: RedisLedgerOptions): RedisLedger {
  const read = cachingLedgerReader(reads)
  return {
    shared: true,
    read,
    async now(clock, names) {
      const call = {
        script: scripts.now,
        keys: [clockKeys(clock).clock, ...stampKeys(clock, names)],
        args: [randomUUID(), `${lifetime}`],
      }
      return expectClock(await runner.run(call))
    },
    async judge(clock, snapshot) {
      const reading = await read(clock, namesOf(snapshot))
      // Only a missing stamp is worth the script, which makes it, and may find its name provably unharmed.
      if (reading.now?.epoch !== snapshot.epoch || !reading.stamps.includes(undefined))
        return freshnessAt(snapshot, reading)
      const { keys, as } = snapshotKeys(clock, snapshot)
      const answer = await runner.run({
        script: scripts.validate,
        keys,
        args: [snapshot.epoch, `${lifetime}`, ...as],
      })
      return VERDICTS[Number(answer)] ?? 'invalid'
    },
    async invalidate(clock, names, mode) {
      const { clock: at, ring } = clockKeys(clock)
      await runner.runDurably({
        script: scripts.invalidate,
        keys: [at, ring, ...stampKeys(clock, names)],
        args: [randomUUID(), mode],
      })
    },
  }
}

/** The keys of a snapshot, and the moment that each of its stamps must not be newer than. */
export function snapshotKeys(
  clock: string,
  snapshot: DependencySnapshot,
): { readonly keys: readonly string[]; readonly as: readonly string[] } {
  const { clock: at, ring } = clockKeys(clock)
  const keys = [at, ring]
  const as: string[] = []
  for (const { asOf, names } of snapshot.groups)
    for (const name of names) {
      keys.push(stampKey(clock, name))
      as.push(`${asOf}`)
    }
  return { keys, as }
}

export function expectClock(answer: unknown): LedgerTime {
  const found = parseClock(typeof answer === 'string' ? answer : undefined)
  if (found === undefined)
    throw new CorralError(
      'ERR_BACKEND',
      'Expected the clock of the ledger, got something else: another program writes to its key.',
    )
  return found
}
