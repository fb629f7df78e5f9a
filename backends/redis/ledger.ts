import { randomUUID } from 'node:crypto'
import { CorralError } from '../../src/base/errors.js'
import type { Freshness, Ledger, OpenLedger } from '../../src/ledger/ledger.js'
import type { DependencySnapshot, LedgerTime } from '../../src/ledger/snapshot.js'
import type { ScriptRunner } from './client/script-runner.js'
import * as scripts from './client/scripts.js'
import { clockKeys, parseClock, stampKey, stampKeys } from './format.js'
import { cachingLedgerReader } from './reads/ledger-reader.js'
import type { Reads } from './reads/read-batcher.js'

export interface RedisLedger extends Ledger {
  open(clock: string): OpenRedisLedger
}

export interface OpenRedisLedger extends OpenLedger {
  /** @param lifetime for the stamps that are put back or kept; '' keeps them for ever. */
  restore(snapshot: DependencySnapshot, lifetime?: string): Promise<Freshness>
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
  return openedOnce((clock) => {
    const keys = clockKeys(clock)
    return {
      storeClock: clock,
      read: cachingLedgerReader(reads, clock),
      async now(names) {
        const call = {
          script: scripts.now,
          keys: [keys.clock, ...stampKeys(clock, names)],
          args: [randomUUID(), `${lifetime}`],
        }
        return expectClock(await runner.run(call))
      },
      async restore(snapshot, life = `${lifetime}`) {
        const { keys, asOf } = snapshotKeys(clock, snapshot)
        const args = [snapshot.epoch, life, ...asOf]
        const verdict = await runner.run({ script: scripts.validate, keys, args })
        return VERDICTS[Number(verdict)] ?? 'invalid'
      },
      async invalidate(names, mode) {
        await runner.runDurably({
          script: scripts.invalidate,
          keys: [keys.clock, keys.ring, ...stampKeys(clock, names)],
          args: [randomUUID(), mode],
        })
      },
    }
  })
}

/** A ledger that opens each clock once, so that all who open it share its memory of stamps. */
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

/** The keys of a snapshot, and for each of its stamps the time that the stamp must not be newer than. */
export function snapshotKeys(
  name: string,
  snapshot: DependencySnapshot,
): { readonly keys: readonly string[]; readonly asOf: readonly string[] } {
  const { clock, ring } = clockKeys(name)
  const pairs = snapshot.groups.flatMap(({ asOf, names }) =>
    names.map((dependency) => [stampKey(name, dependency), `${asOf}`] as const),
  )
  return { keys: [clock, ring, ...pairs.map(([key]) => key)], asOf: pairs.map(([, asOf]) => asOf) }
}

export function expectClock(reply: unknown): LedgerTime {
  const found = parseClock(typeof reply === 'string' || Buffer.isBuffer(reply) ? reply : undefined)
  if (found === undefined)
    throw new CorralError(
      'ERR_BACKEND',
      'Expected the clock of the ledger, got a value of another form: another program writes to its key. Give the backend keys of its own.',
    )
  return found
}
