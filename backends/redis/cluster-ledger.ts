import { randomUUID } from 'node:crypto'
import { inBatches } from '../../src/base/in-batches.js'
import { ignoreRejection } from '../../src/base/maybe-promise.js'
import { delay } from '../../src/base/timers.js'
import { type Freshness, freshnessAt, type InvalidationMode } from '../../src/ledger/ledger.js'
import { type DependencySnapshot, type LedgerTime, newEpoch } from '../../src/ledger/snapshot.js'
import type { LedgerTail } from '../../src/ledger/tail.js'
import { isOne, type ScriptRunner } from './client/script-runner.js'
import * as scripts from './client/scripts.js'
import { clockKeys, expectClock, parseStamp, stampKeys } from './format.js'
import {
  inSlices,
  type LedgerStore,
  type OpenRedisLedger,
  openedOnce,
  type RedisLedger,
  snapshotKeys,
} from './ledger.js'
import { markerOf, QUIET } from './near/cluster-journals.js'
import type { NearJournal } from './near/journal.js'
import { ledgerReader, type ReadLedger } from './reads/ledger-reader.js'

/** ms after which a stamp that another process is creating is read again. */
const PATIENCE = 5

const NONE: readonly string[] = []

/**
 * The ledger on Redis Cluster, where clock and stamps lie on different nodes. An invalidation moves the clock, then the
 * stamps. A stamp is created as a placeholder, before the clock is read: an invalidation with a later time than the one
 * that was read finds the placeholder and removes it, after which it can no longer become a stamp.
 */
export function clusterLedger(store: LedgerStore): RedisLedger {
  return openedOnce((clock) => new OpenClusterLedger(clock, store))
}

class OpenClusterLedger implements OpenRedisLedger {
  readonly read: ReadLedger
  readonly pending?: NonNullable<OpenRedisLedger['pending']>
  readonly #keys: readonly string[]
  readonly #runner: ScriptRunner
  readonly #journal: NearJournal
  readonly #lifetime: string

  constructor(
    readonly storeClock: string,
    { reads, runner, stampLifetime, pendingFor, journal }: LedgerStore,
  ) {
    this.read = ledgerReader(reads, storeClock)
    const { clock, ring, pending } = clockKeys(storeClock)
    this.#keys = [clock, ring, pending]
    if (pendingFor > 0)
      this.pending = async (names, mode, transaction) => {
        await this.#stamp(names, mode, transaction, `${pendingFor}`)
        return pendingFor
      }
    this.#runner = runner
    this.#journal = journal
    this.#lifetime = `${stampLifetime}`
  }

  async now(names: readonly string[]): Promise<LedgerTime> {
    const placeholder = newPlaceholder()
    const stamps = stampKeys(this.storeClock, names)
    const seen = await this.#claim(stamps, placeholder, this.#lifetime)
    const { now, startsAt } = await this.#readClock([])
    const ours = stamps.filter((_, i) => seen[i] === placeholder)
    await inBatches(ours, (stamp) => this.#complete(stamp, placeholder, `${startsAt}`, this.#lifetime))
    return { epoch: now.epoch, at: startsAt }
  }

  tail(): LedgerTail {
    return this.#journal.tail(this.storeClock)
  }

  invalidate(names: readonly string[], mode: InvalidationMode, transaction?: string): Promise<void> {
    return this.#stamp(names, mode, transaction)
  }

  /** @param ms - for which the transaction marks the names; '' ends its marks */
  #stamp(names: readonly string[], mode: InvalidationMode, transaction = '', ms = ''): Promise<void> {
    return inSlices(names, (slice) => this.#stampSlice(slice, mode, transaction, ms))
  }

  async #stampSlice(
    names: readonly string[],
    mode: InvalidationMode,
    transaction: string,
    ms: string,
  ): Promise<void> {
    const stamps = stampKeys(this.storeClock, names)
    const sentAt = this.#journal.clock.now()
    const advanced = await this.#runner.runDurably({
      script: scripts.advanceClock,
      keys: [...this.#keys, markerOf(this.storeClock)],
      args: [newEpoch(), mode, transaction, ms, ...stamps],
    })
    const [at, ends, marker] = advanced as readonly [at: unknown, ends: unknown, marker: unknown]
    const args = [`${at}`, mode, transaction, `${ends}`, this.#lifetime]
    await inBatches(stamps, (stamp) =>
      this.#runner.runDurably({ script: scripts.moveStamp, keys: [stamp], args }),
    )
    // A near cache may have read the clock and then, from another node, a stamp that had not moved yet.
    if (marker !== null || this.#journal.clock.now() - sentAt >= QUIET)
      await this.#journal.recordNames(this.storeClock, names)
    else this.#journal.namesChanged(this.storeClock, names)
  }

  async restore(snapshot: DependencySnapshot, lifetime = this.#lifetime, again = true): Promise<Freshness> {
    const { stamps: wanted, asOf } = snapshotKeys(this.storeClock, snapshot)
    const placeholder = newPlaceholder()
    const before = ignoreRejection(this.read(NONE))
    const seen = await this.#claim(wanted, placeholder, lifetime)
    const ours = [...wanted.keys()].filter((i) => seen[i] === placeholder)
    const { now, origins } =
      ours.length === 0
        ? { now: (await before).now, origins: [] }
        : await this.#readClock(ours.flatMap((i) => [wanted[i] as string, asOf[i] as string]))
    const stamps = seen.map((text) => parseStamp(Buffer.from(text, 'latin1')))
    let isContended = seen.some((text) => text !== placeholder && text.startsWith('p'))
    await inBatches(ours, async (i, at) => {
      const origin = origins[at] as string
      if (await this.#complete(wanted[i] as string, placeholder, origin, lifetime))
        stamps[i] = { hard: Number(origin), soft: 0 }
      else isContended = true
    })
    if (!again || !isContended) return freshnessAt(snapshot, { now, stamps })
    await delay(PATIENCE)
    return this.restore(snapshot, lifetime, false)
  }

  /** Reads stamps and keeps them alive; puts the placeholder where there is none. */
  async #claim(stamps: readonly string[], placeholder: string, lifetime: string): Promise<string[]> {
    const found = await inBatches(stamps, (stamp) =>
      this.#runner.run({ script: scripts.claimStamp, keys: [stamp], args: [lifetime, placeholder] }),
    )
    return found.map((text) => (typeof text === 'string' ? text : placeholder))
  }

  async #readClock(
    stampsAndTimes: readonly string[],
  ): Promise<{ readonly now: LedgerTime; readonly startsAt: number; readonly origins: readonly string[] }> {
    const args = [newEpoch(), ...stampsAndTimes]
    const reply = await this.#runner.run({ script: scripts.readClock, keys: this.#keys, args })
    const [now, startsAt, ...origins] = Array.isArray(reply) ? (reply as unknown[]).map(String) : []
    return { now: expectClock(now), startsAt: Number(startsAt), origins }
  }

  async #complete(stamp: string, placeholder: string, at: string, lifetime: string): Promise<boolean> {
    const args = [placeholder, at, lifetime]
    return isOne(await this.#runner.run({ script: scripts.completeStamp, keys: [stamp], args }))
  }
}

/** Counts as absent for readers, since no stamp begins with a letter. */
function newPlaceholder(): string {
  return `p${randomUUID()}`
}
