import { randomUUID } from 'node:crypto'
import { ignoreRejection } from '../../src/base/maybe-promise.js'
import { delay } from '../../src/base/timers.js'
import { type Freshness, freshnessAt } from '../../src/ledger/ledger.js'
import type { DependencySnapshot } from '../../src/ledger/snapshot.js'
import { namesOf } from '../../src/ledger/snapshot.js'
import { inBatches } from './client/batches.js'
import * as scripts from './client/scripts.js'
import { clockKeys, parseStamp, stampKey, stampKeys } from './format.js'
import { expectClock, type RedisLedger, type RedisLedgerOptions } from './ledger.js'
import { ledgerReader } from './reads/ledger-reader.js'

/** ms after which a stamp that somebody else is making is looked at again. */
const PATIENCE = 5

const NONE: readonly string[] = []

export interface ClusterLedger extends RedisLedger {
  /** Whether a snapshot stands, before a write that cannot be checked in the same step; makes and keeps alive its stamps. */
  appraise(clock: string, snapshot: DependencySnapshot, lifetime: string): Promise<Freshness>
}

/**
 * The ledger on Redis Cluster, where clock and stamps lie on different nodes. An invalidation moves the clock, then the
 * stamps. A stamp is made as a placeholder first, before the clock is read: an invalidation that is told a later moment
 * than the one read finds the placeholder and removes it, after which it can no longer become a stamp.
 */
export function clusterLedger({ reads, runner, lifetime }: RedisLedgerOptions): ClusterLedger {
  const read = ledgerReader(reads)

  /** Looks at stamps and keeps them alive; puts a placeholder where there is none. */
  const sight = async (stamps: readonly string[], mark: string, life: string) => {
    const answers = await inBatches(stamps, (stamp) =>
      runner.run({ script: scripts.claimStamp, keys: [stamp], args: [life, mark] }),
    )
    return answers.map((answer) => (typeof answer === 'string' ? answer : mark))
  }
  const consult = async (clock: string, questions: readonly string[]) => {
    const at = clockKeys(clock)
    const answer = await runner.run({
      script: scripts.readClock,
      keys: [at.clock, at.ring],
      args: [randomUUID(), ...questions],
    })
    const [now, ...origins] = Array.isArray(answer) ? (answer as unknown[]).map(String) : []
    return { now: expectClock(now), origins }
  }
  const settle = async (stamp: string, mark: string, moment: string, life: string) =>
    Number(await runner.run({ script: scripts.completeStamp, keys: [stamp], args: [mark, moment, life] })) ===
    1

  const appraise = async (
    clock: string,
    snapshot: DependencySnapshot,
    lifetime: string,
    again = true,
  ): Promise<Freshness> => {
    const asked = snapshot.groups.flatMap(({ asOf, names }) =>
      names.map((name) => ({ asOf, stamp: stampKey(clock, name) })),
    )
    const mark = `p${randomUUID()}`
    const before = ignoreRejection(read(clock, NONE))
    const seen = await sight(
      asked.map(({ stamp }) => stamp),
      mark,
      lifetime,
    )
    const mine = asked.filter((_, i) => seen[i] === mark)
    const { now, origins } =
      mine.length === 0
        ? { now: (await before).now, origins: [] }
        : await consult(
            clock,
            mine.flatMap(({ asOf, stamp }) => [stamp, `${asOf}`]),
          )
    const settled = await inBatches(mine, ({ stamp }, i) =>
      settle(stamp, mark, origins[i] as string, lifetime),
    )
    if (again && (settled.includes(false) || seen.some((text) => text !== mark && text.startsWith('p')))) {
      await delay(PATIENCE)
      return appraise(clock, snapshot, lifetime, false)
    }
    let at = 0
    const stamps = seen.map((text) => {
      if (text !== mark) return parseStamp(Buffer.from(text, 'latin1'))
      const i = at++
      return settled[i] ? { hard: Number(origins[i]), soft: 0 } : undefined
    })
    return freshnessAt(snapshot, { now, stamps })
  }

  return {
    shared: true,
    read,
    async now(clock, names) {
      const mark = `p${randomUUID()}`
      const stamps = stampKeys(clock, names)
      const seen = await sight(stamps, mark, `${lifetime}`)
      const { now } = await consult(clock, [])
      const mine = stamps.filter((_, i) => seen[i] === mark)
      await inBatches(mine, (stamp) => settle(stamp, mark, `${now.at}`, `${lifetime}`))
      return now
    },
    async judge(clock, snapshot) {
      const reading = await read(clock, namesOf(snapshot))
      if (reading.now?.epoch !== snapshot.epoch || !reading.stamps.includes(undefined))
        return freshnessAt(snapshot, reading)
      return appraise(clock, snapshot, `${lifetime}`)
    },
    appraise,
    async invalidate(clock, names, mode) {
      const at = clockKeys(clock)
      const stamps = stampKeys(clock, names)
      const moment = String(
        await runner.runDurably({
          script: scripts.advanceClock,
          keys: [at.clock, at.ring],
          args: [randomUUID(), ...stamps],
        }),
      )
      await inBatches(stamps, (stamp) =>
        runner.runDurably({ script: scripts.moveStamp, keys: [stamp], args: [moment, mode] }),
      )
    },
  }
}
