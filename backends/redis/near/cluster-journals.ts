import { randomUUID } from 'node:crypto'
import type { Clock } from '../../../src/base/clock.js'
import { report } from '../../../src/base/diagnostics.js'
import { clearTimeout, setTimeout } from '../../../src/base/timers.js'
import type { JournalPosition, JournalReply } from '../../../src/ledger/mirror.js'
import { newEpoch } from '../../../src/ledger/snapshot.js'
import type { ScriptCall, ScriptRunner } from '../client/script-runner.js'
import * as scripts from '../client/scripts.js'
import { companion, stampKeys, valueKey } from '../format.js'
import { journalKeys, KEYS, LIFETIME, parseChanges } from './format.js'

/**
 * ms. A process that finds no near cache does not record its changes for so long, counted from the sending
 * of the question.
 */
export const QUIET = 900
/** ms, longer than that: changes may go unrecorded for so long after a near cache saw its marker for the first time. */
const UNRECORDED = 1_000

/** The mark of a registered near cache, in the slot of the journal's clock. */
export function markerOf(journal: string): string {
  const [clock] = journalKeys(journal)
  return companion('near', clock)
}

interface ClusterJournalsOptions {
  readonly runner: ScriptRunner
  readonly prefix: string
  readonly channel: string
  /** Called once the changes of a new journal are recorded. */
  readonly recorded: () => void
  /** One that never steps. */
  readonly clock: Clock
}

/**
 * The journals on Redis Cluster, where a key or a stamp lies on another node than the record of its change. The change is
 * recorded after it was made and before it is acknowledged: a copy of the older value was then read before the record, whichever
 * came first at the reader.
 */
export function clusterJournals({ runner, prefix, channel, recorded, clock }: ClusterJournalsOptions) {
  /** The markers that replies had, and when they came for the first time. */
  const markers = new Map<string, { readonly marker: string; readonly seenAt: number }>()
  let quietUntil = Number.NEGATIVE_INFINITY
  let timer: NodeJS.Timeout | undefined
  let isTold = false
  const tellOfInfo = () => {
    if (isTold) return
    isTold = true
    report('notice', () => ({
      where: 'redis near cache',
      message:
        'This user may not ask a node of the Cluster for INFO, so that a failover would go unnoticed: no copies are kept. Grant +info.',
    }))
  }

  const pullOne = async ({ journal, since }: JournalPosition) => {
    const reply = await runner.run({
      script: scripts.pullOne,
      keys: [...journalKeys(journal), markerOf(journal)],
      args: [
        ...[newEpoch(), randomUUID(), `${LIFETIME}`, journal === KEYS ? `${LIFETIME}` : ''],
        since === undefined ? '' : `${since.at}`,
      ],
    })
    const [server, marker, changes] = reply as readonly [string, string, readonly string[]]
    let known = markers.get(journal)
    if (known?.marker !== marker) markers.set(journal, (known = { marker, seenAt: clock.now() }))
    const left = known.seenAt + UNRECORDED - clock.now()
    if (left <= 0) return { server, changes: parseChanges(journal, changes, prefix) }
    clearTimeout(timer)
    timer = setTimeout(recorded, left).unref()
    return { server, changes: undefined }
  }
  const callFor = (journal: string, names: readonly string[]): ScriptCall => ({
    script: scripts.recordChanges,
    keys: [...journalKeys(journal), markerOf(journal)],
    args: [newEpoch(), channel, ...names],
  })

  return {
    async pull(positions: readonly JournalPosition[]): Promise<JournalReply> {
      const replies = await Promise.all(positions.map(pullOne))
      // Where the ACL forbids to ask for the server, each reply counts as one of another.
      if (replies.some((one) => one.server === '')) tellOfInfo()
      const server = replies.map((one) => one.server || randomUUID()).join(' ')
      return { server, journals: replies.map(({ changes }) => changes) }
    },
    async recordKeys(keys: readonly string[]): Promise<void> {
      // They were changed by now, and no near cache can have a copy from before.
      if (clock.now() < quietUntil) return
      const sentAt = clock.now()
      const step = await runner.runDurably(callFor(KEYS, keys.map(valueKey)))
      if (step === null) quietUntil = sentAt + QUIET
    },
    async recordNames(journal: string, names: readonly string[]): Promise<void> {
      await runner.runDurably(callFor(journal, stampKeys(journal, names)))
    },
  }
}
