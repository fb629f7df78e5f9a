import { randomUUID } from 'node:crypto'
import type { Clock } from '../../../src/base/clock.js'
import { CorralError } from '../../../src/base/errors.js'
import { performance } from '../../../src/base/timers.js'
import {
  type JournalPosition,
  type JournalReply,
  type JournalStep,
  Mirror,
  mirrorTail,
} from '../../../src/ledger/mirror.js'
import { newEpoch } from '../../../src/ledger/snapshot.js'
import type { LedgerTail } from '../../../src/ledger/tail.js'
import type { RedisClient } from '../client/client.js'
import type { RedisConnection } from '../client/connection.js'
import { isUnreachable } from '../client/errors.js'
import type { ScriptRunner } from '../client/script-runner.js'
import * as scripts from '../client/scripts.js'
import { valueKey } from '../format.js'
import { clusterJournals } from './cluster-journals.js'
import { journalKeys, KEYS, LIFETIME, namesIn, parseChanges } from './format.js'
import { NearSubscription } from './subscription.js'

/** The record of changes that near caches of all processes follow, and this process's mirror of it. */
export interface NearJournal {
  /** Clock and ring of the changed keys. The clock exists while a near cache is registered. */
  readonly keys: readonly [clock: string, ring: string]
  readonly channel: string
  /** The clock of its deadlines. */
  readonly clock: Clock
  /** This process changed keys, or tried to. `step` is the reply of the script; absent if the outcome is unknown. */
  keysChanged(keys: readonly string[], step?: unknown): void
  namesChanged(clock: string, names: readonly string[], step?: unknown): void
  /** On a Cluster: records keys, or names, that were changed on other nodes. */
  recordKeys(keys: readonly string[]): Promise<void>
  recordNames(clock: string, names: readonly string[]): Promise<void>
  tail(clock: string): LedgerTail
  /** A message of a process came. @param server - that passed it on; '': a node of a cluster, which need not be the journal's */
  received(server: string, text: string): void
  close(): void
}

interface NearJournalOptions {
  readonly connection: RedisConnection
  readonly runner: ScriptRunner
  /** The prefix that the client puts before every key. */
  readonly prefix: string
  readonly clustered: boolean
  readonly channel: string
  /** @default `performance` */
  readonly clock?: Clock
}

/** A question is asked again so often if the connection is lost meanwhile. */
const ATTEMPTS = 3
export function nearJournal(options: NearJournalOptions): NearJournal {
  const { connection, runner, prefix, clustered, channel, clock = performance } = options
  const recorded = () => mirror?.catchUp()
  const nodes = clusterJournals({ runner, prefix, channel, recorded, clock })
  const primary = primaryJournals(connection, runner, prefix)
  let subscription: NearSubscription | undefined
  let mirror: Mirror | undefined
  /** The journals that are followed, by their clocks as messages name them. */
  const followed = new Map([[prefix + journalKeys(KEYS)[0], KEYS]])

  const received = (server: string, text: string): void => {
    const message = parseMessage(text)
    // The message of another version counts as lost.
    if (message === undefined) mirror?.catchUp()
    const journal = message && followed.get(message.clock)
    if (message === undefined || journal === undefined) return
    const { epoch, before, at, names } = message
    mirror?.received(journal, names && namesIn(journal, names, prefix), { server, epoch, before, at })
  }
  const listen = (on: boolean): void => {
    subscription?.close()
    subscription = undefined
    if (!on) return
    const up = () => mirror?.catchUp()
    // A node passes on the messages of the others: they tell what changed, and are no proof.
    const behind = clustered ? async () => '' : serverBehind
    const { client } = connection
    subscription = new NearSubscription({ client, channel, serverBehind: behind, received, up })
  }
  const mirrored = (): Mirror => {
    if (mirror === undefined) {
      const created = new Mirror({ pull: clustered ? nodes.pull : primary.pull, listen }, clock)
      mirror = created
      created.follow(KEYS)
      connection.onLost(() => created.disconnected())
    }
    return mirror
  }
  const keysChanged = (keys: readonly string[], step?: unknown) =>
    mirror?.changed(KEYS, keys.map(valueKey), primary.stepOf(step))
  const namesChanged = (clock: string, names: readonly string[], step?: unknown) =>
    mirror?.changed(clock, names, primary.stepOf(step))

  return {
    keys: journalKeys(KEYS),
    channel,
    clock,
    received,
    keysChanged,
    namesChanged,
    async recordKeys(keys) {
      await nodes.recordKeys(keys)
      keysChanged(keys)
    },
    async recordNames(clock, names) {
      await nodes.recordNames(clock, names)
      namesChanged(clock, names)
    },
    tail(clock) {
      followed.set(prefix + journalKeys(clock)[0], clock)
      return mirrorTail(mirrored(), { keys: KEYS, names: clock, nameOf: valueKey, areTold })
    },
    close: () => mirror?.close(),
  }
}

/** The journals on one primary, where scripts record changes in the step that makes them. */
function primaryJournals(connection: RedisConnection, runner: ScriptRunner, prefix: string) {
  /** The server behind the present connection. */
  let known: { readonly link: number; readonly server: string } | undefined
  return {
    async pull(positions: readonly JournalPosition[]): Promise<JournalReply> {
      for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
        const { link } = connection
        const server = known?.link === link ? known.server : await connection.run(serverBehind)
        const reply = await runner.run(pullCall(positions))
        // Both replies are of one server only if the connection is the same as before.
        if (connection.link !== link) continue
        known = { link, server }
        const lists = reply as readonly (readonly string[])[]
        return {
          server,
          journals: positions.map(({ journal }, i) => parseChanges(journal, lists[i] ?? [], prefix)),
        }
      }
      throw new CorralError(
        'ERR_UNAVAILABLE',
        'The connection to Redis was lost while a near cache asked for the latest changes.',
      )
    },
    stepOf: (step: unknown): JournalStep | undefined =>
      typeof step === 'string' && known?.link === connection.link ? parseStep(step, known.server) : undefined,
  }
}

const told = new WeakMap<readonly string[], boolean>()

/** Two ill-formed names may be one to Redis, which would tell the other one. A list of names recurs: it is looked at once. */
function areTold(names: readonly string[]): boolean {
  let found = told.get(names)
  if (found === undefined) told.set(names, (found = names.every(isWellFormed)))
  return found
}

/** Node 20 has the method; the types of ES2023 do not yet. */
function isWellFormed(name: string): boolean {
  return (name as unknown as { isWellFormed(): boolean }).isWellFormed()
}

/** Tells servers apart. Where the ACL forbids to ask, every connection counts as one to another server. */
async function serverBehind(client: RedisClient): Promise<string> {
  try {
    const [, id] = /^run_id:(\S+)/m.exec(await client.info('server')) ?? []
    if (id !== undefined) return id
  } catch (error) {
    if (isUnreachable(error)) throw error
  }
  return randomUUID()
}

function pullCall(positions: readonly JournalPosition[]) {
  return {
    script: scripts.pull,
    keys: positions.flatMap(({ journal }) => journalKeys(journal)),
    args: [
      newEpoch(),
      `${LIFETIME}`,
      ...positions.map(({ since }) => (since === undefined ? '' : `${since.at}`)),
    ],
  }
}

/** `<epoch> <time before> <time after>` */
function parseStep(text: string, server: string): JournalStep | undefined {
  const [epoch, before, at] = text.split(' ')
  return epoch === undefined || at === undefined
    ? undefined
    : { server, epoch, before: Number(before), at: Number(at) }
}

interface Message {
  readonly clock: string
  readonly epoch: string
  readonly before: number
  readonly at: number
  readonly names: readonly string[] | undefined
}

/** `undefined` for the message of another version, which counts as lost. */
function parseMessage(text: string): Message | undefined {
  let parts: unknown
  try {
    parts = JSON.parse(text)
  } catch {
    return undefined
  }
  if (!Array.isArray(parts)) return undefined
  const [clock, epoch, before, at, names] = parts as readonly unknown[]
  if (typeof clock !== 'string' || typeof epoch !== 'string') return undefined
  if (!Number.isFinite(Number(before)) || !Number.isFinite(Number(at))) return undefined
  const isList = Array.isArray(names) && names.every((name) => typeof name === 'string')
  return {
    clock,
    epoch,
    before: Number(before),
    at: Number(at),
    names: isList ? (names as string[]) : undefined,
  }
}
