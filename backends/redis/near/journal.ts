import { randomUUID } from 'node:crypto'
import { CorralError } from '../../../src/base/errors.js'
import {
  type JournalChange,
  type JournalChanges,
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
import { clockKeys, companion, expectClock, stampKey, valueKey } from '../format.js'
import { NearSubscription } from './subscription.js'

/** The record of changes that near caches of all processes follow, and this process's mirror of it. */
export interface NearJournal {
  /** Clock and ring of the changed keys. The clock exists while a near cache is registered. */
  readonly keys: readonly [clock: string, ring: string]
  readonly channel: string
  /** This process changed keys, or tried to. `step` is the reply of the script; absent if the outcome is unknown. */
  keysChanged(keys: readonly string[], step?: unknown): void
  namesChanged(clock: string, names: readonly string[], step?: unknown): void
  tail(clock: string): LedgerTail
  close(): void
}

interface NearJournalOptions {
  readonly connection: RedisConnection
  readonly runner: ScriptRunner
  /** The prefix that the client puts before every key. */
  readonly prefix: string
  readonly channel: string
}

/** ms that the journal lives without a near cache that renews it. */
const LIFETIME = 60_000
/** A question is asked again so often if the connection is lost meanwhile. */
const ATTEMPTS = 3
/** The journal of keys, among those of clocks. */
const KEYS = ''

const JOURNAL: readonly [clock: string, ring: string] = [
  companion('journal', 'keys'),
  companion('journal-ring', 'keys'),
]

export function nearJournal({ connection, runner, prefix, channel }: NearJournalOptions): NearJournal {
  /** The server behind the present connection. */
  let known: { readonly link: number; readonly server: string } | undefined
  let subscription: NearSubscription | undefined
  let mirror: Mirror | undefined
  /** The journals that are followed, by their clocks as messages name them. */
  const followed = new Map([[prefix + JOURNAL[0], KEYS]])

  const pull = async (positions: readonly JournalPosition[]): Promise<JournalReply> => {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const { link } = connection
      const server = known?.link === link ? known.server : await connection.run(serverBehind)
      const reply = await runner.run(pullCall(positions))
      // Both replies are of one server only if the connection is the same as before.
      if (connection.link !== link) continue
      known = { link, server }
      return { server, journals: parsePull(reply, positions, prefix) }
    }
    throw new CorralError(
      'ERR_UNAVAILABLE',
      'The connection to Redis was lost while a near cache asked for the latest changes.',
    )
  }
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
    subscription = new NearSubscription({ client: connection.client, channel, serverBehind, received, up })
  }
  const mirrored = (): Mirror => {
    if (mirror === undefined) {
      const created = new Mirror({ pull, listen })
      mirror = created
      created.follow(KEYS)
      connection.onLost(() => created.disconnected())
    }
    return mirror
  }
  const stepOf = (step: unknown): JournalStep | undefined =>
    typeof step === 'string' && known?.link === connection.link ? parseStep(step, known.server) : undefined

  return {
    keys: JOURNAL,
    channel,
    keysChanged: (keys, step) => mirror?.changed(KEYS, keys.map(valueKey), stepOf(step)),
    namesChanged: (clock, names, step) => mirror?.changed(clock, names, stepOf(step)),
    tail(clock) {
      followed.set(prefix + keysOf(clock)[0], clock)
      return mirrorTail(mirrored(), { keys: KEYS, names: clock, nameOf: valueKey, areTold })
    },
    close: () => mirror?.close(),
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

function keysOf(journal: string): readonly [clock: string, ring: string] {
  if (journal === KEYS) return JOURNAL
  const { clock, ring } = clockKeys(journal)
  return [clock, ring]
}

function pullCall(positions: readonly JournalPosition[]) {
  return {
    script: scripts.pull,
    keys: positions.flatMap(({ journal }) => keysOf(journal)),
    args: [
      newEpoch(),
      `${LIFETIME}`,
      ...positions.map(({ since }) => (since === undefined ? '' : `${since.at}`)),
    ],
  }
}

function parsePull(
  reply: unknown,
  positions: readonly JournalPosition[],
  prefix: string,
): readonly JournalChanges[] {
  const lists = reply as readonly (readonly [clock: string, floor: string, ...changes: string[]])[]
  return positions.map(({ journal }, i) => {
    const [clock, floor, ...changes] = lists[i] ?? []
    const changed: JournalChange[] = []
    for (let at = 0; at < changes.length; at += 2)
      for (const name of namesIn(journal, [changes[at] as string], prefix))
        changed.push({ name, at: Number(changes[at + 1]) })
    return { now: expectClock(clock), floor: Number(floor), changed }
  })
}

/** Names as the mirror knows them, from the keys under which Redis does. */
function namesIn(journal: string, keys: readonly string[], prefix: string): readonly string[] {
  const before = prefix.length + (journal === KEYS ? 0 : stampKey(journal, '').length)
  return keys.map((key) => key.slice(before))
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
