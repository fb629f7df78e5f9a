import { types } from 'node:util'
import type { Outcome, Write } from '../../src/backend/backend.js'
import type { Bytes } from '../../src/backend/cached-value.js'
import { CorralError, formatValue } from '../../src/base/errors.js'
import { inBatches } from '../../src/base/in-batches.js'
import { asError, isUnreachable } from './client/errors.js'
import { isOne, type ScriptCall } from './client/script-runner.js'
import * as scripts from './client/scripts.js'
import { clockKeys, lifetimeArg, valueKey } from './format.js'
import { leaseKey, releaseCall } from './lease.js'
import { type RedisLedger, snapshotKeys } from './ledger.js'
import type { RedisStore } from './store.js'

export interface EntryWrites {
  /** @throws CorralError for a key or a value that cannot be stored, before anything is sent. */
  check(key: string, value: Bytes): void
  /** A failed write is an Error. */
  set(write: Write<Bytes>, isInvalidation: boolean): Promise<Outcome | Error>
  /** A failed write is an Error in its place. */
  setMulti(
    writes: readonly Write<Bytes>[],
    areInvalidations: readonly boolean[],
  ): Promise<readonly (Outcome | Error)[]>
  /** Whether there was a value. A failed deletion is an Error. */
  delete(key: string): Promise<boolean | Error>
  /** Returns, for each key, its failure. */
  deleteMulti(keys: readonly string[]): Promise<readonly (Error | undefined)[]>
}

const OUTCOMES: readonly Outcome[] = ['stored', 'lost', 'refused']

/** Keys removed by one script: enough to be cheap, few enough not to hold up the server. */
const TOGETHER = 500

/** Writes that are sent together and have one deadline: more of them follow, so that each begins in time. */
const IN_ONE_GO = 1_000

/** The writes of values, each of which also ends the lease of its key. */
export function entryWrites(store: RedisStore, ledger: RedisLedger): EntryWrites {
  return {
    check(key, value) {
      valueKey(key)
      bytes(key, value, store.maxValueBytes)
    },
    async set(write, isInvalidation) {
      const sent = { write, isInvalidation }
      try {
        const call = writeCall(store, sent)
        const refusal = store.clustered ? await refusalOf(store, ledger, write) : undefined
        if (refusal !== undefined) return refusal
        const { run, runDurably } = store.runner
        const reply = await (call.isDurable ? runDurably(call, true) : run(call))
        return await outcomeOf(store, sent, reply)
      } catch (error) {
        return asError(error)
      }
    },
    async setMulti(writes, areInvalidations) {
      const all = writes.map((write, i) => ({ write, isInvalidation: areInvalidations[i] === true }))
      const outcomes: (Outcome | Error)[] = []
      let away: Error | undefined
      for (let at = 0; at < all.length; at += IN_ONE_GO) {
        const slice = all.slice(at, at + IN_ONE_GO)
        const written =
          away === undefined ? await writeAll(store, ledger, slice) : slice.map(() => away as Error)
        // Each slice has a deadline of its own: a server that is away must not be waited for once more by each.
        if (written.every(isUnreachable)) away ??= written[0] as Error
        outcomes.push(...written)
      }
      return outcomes
    },
    delete: (key) => remove(store, [key]).then((deleted) => deleted === 1, asError),
    deleteMulti: (keys) => deleteAll(store, keys),
  }
}

async function writeAll(
  store: RedisStore,
  ledger: RedisLedger,
  all: readonly SentWrite[],
): Promise<readonly (Outcome | Error)[]> {
  try {
    const calls = all.map((one) => writeCall(store, one))
    const refusals = await inBatches(all, ({ write }) => refusalOf(store, ledger, write).catch(asError))
    const sent = calls.filter((_, i) => refusals[i] === undefined)
    // A write that no token fences must not be sent again later: its key may be invalidated by then.
    const once = calls.some(({ isDurable }) => isDurable)
    const replies = await store.runner.runAll(sent, once)
    let next = 0
    return await Promise.all(
      all.map((one, i) => refusals[i] ?? outcomeOf(store, one, replies[next++]).catch(asError)),
    )
  } catch (error) {
    return all.map(() => asError(error))
  }
}

/** A write, and whether copies of the older value become wrong by it. */
interface SentWrite {
  readonly write: Write<Bytes>
  readonly isInvalidation: boolean
}

function writeCall(store: RedisStore, { write, isInvalidation }: SentWrite): ScriptCall {
  const [key, value, { token, ttl, ifCurrent }] = write
  const isDurable = token === undefined
  const args = [token ?? '', store.channel, bytes(key, value, store.maxValueBytes), lifeOf(ttl)]
  let keys = [valueKey(key), leaseKey(key)]
  let condition: readonly string[] = []
  if (ifCurrent !== undefined && !store.clustered) {
    const { clock, ring } = clockKeys(ifCurrent.clock)
    const { stamps, asOf } = snapshotKeys(ifCurrent.clock, ifCurrent.snapshot)
    keys = [...keys, clock, ring, ...stamps]
    condition = [ifCurrent.snapshot.epoch, lifeOf(ttl, store.stampLifetime), ...asOf]
  }
  // On a Cluster the change is recorded in a step of its own.
  const journal = isInvalidation && !store.clustered ? store.journal : undefined
  if (journal !== undefined) keys = [...keys, ...journal.keys]
  // A token fences a fill for ever. Any other write is fenced by the time until which it may begin: thousands at once wait
  // for their turn, and their time begins with it.
  const deadline = (until: number) => (isDurable ? store.connection.writeDeadline(until) : '')
  return {
    script: scripts.write,
    keys,
    args: (until) => [...args, deadline(until), journal?.channel ?? '', ...condition],
    isDurable,
  }
}

/** A lifetime as an argument of scripts; '' is for ever. */
function lifeOf(ttl = Number.POSITIVE_INFINITY, least = 0): string {
  return ttl === Number.POSITIVE_INFINITY ? '' : lifetimeArg(Math.max(ttl, least))
}

/** On a cluster: judge, then write. An entry that is invalidated in between is stored, and every read finds it invalid. */
async function refusalOf(
  store: RedisStore,
  ledger: RedisLedger,
  [key, , { token, ttl, ifCurrent }]: Write<Bytes>,
): Promise<Outcome | undefined> {
  if (!store.clustered || ifCurrent === undefined) return undefined
  const opened = ledger.open(ifCurrent.clock)
  if ((await opened.restore(ifCurrent.snapshot, lifeOf(ttl, store.stampLifetime))) === 'fresh')
    return undefined
  if (token !== undefined)
    return isOne(await store.runner.run(releaseCall(store, key, token))) ? 'refused' : 'lost'
  const [error] = await deleteAll(store, [key])
  if (error !== undefined) throw error
  return 'refused'
}

async function outcomeOf(
  store: RedisStore,
  sent: SentWrite,
  replied: unknown,
  again = true,
): Promise<Outcome | Error> {
  if (replied instanceof Error) return replied
  const [reply, step] = partsOf(replied)
  // With `stringNumbers` ioredis returns the number of an outcome as text.
  const outcome = typeof reply === 'number' || typeof reply === 'string' ? OUTCOMES[Number(reply)] : undefined
  if (outcome === undefined && typeof reply === 'string') {
    if (!again)
      throw new CorralError(
        'ERR_TIMEOUT',
        `Expected Redis to begin a write of '${sent.write[0]}' in time, got it later twice. This process or the server is busy: write less at once, or raise \`timeout\`.`,
      )
    // The server took the write for late. Its clock is not as we thought, since the caller still waits.
    store.connection.setServerTime(Number(reply))
    return outcomeOf(store, sent, await store.runner.runDurably(writeCall(store, sent), true), false)
  }
  if (outcome === undefined)
    throw new CorralError('ERR_BACKEND', `Expected the outcome of a write, got ${formatValue(reply)}.`)
  if (sent.isInvalidation) await recordChanges(store, [sent.write[0]], step)
  return outcome
}

/** Records changed keys for near caches, unless the script that changed them did. */
async function recordChanges(
  { journal, clustered }: RedisStore,
  keys: readonly string[],
  step: unknown,
): Promise<void> {
  if (clustered) await journal.recordKeys(keys)
  else journal.keysChanged(keys, step)
}

/** Removes keys in one step. Resolves with the number of values that there were. */
async function remove(store: RedisStore, keys: readonly string[]): Promise<number> {
  const { channel, clustered, journal, runner } = store
  const pairs = keys.flatMap((key) => [valueKey(key), leaseKey(key)])
  const removal = {
    script: scripts.remove,
    keys: clustered ? pairs : [...pairs, ...journal.keys],
    args: [channel, clustered ? '' : journal.channel],
  }
  const [deleted, step] = partsOf(await runner.runDurably(removal))
  await recordChanges(store, keys, step)
  return Number(deleted)
}

/** The reply of a script, which comes with the step of the journal if a near cache is registered. */
function partsOf(reply: unknown): readonly [reply: unknown, step?: unknown] {
  return Array.isArray(reply) ? (reply as unknown as [unknown, unknown]) : [reply]
}

async function deleteAll(
  store: RedisStore,
  keys: readonly string[],
): Promise<readonly (Error | undefined)[]> {
  const size = store.clustered ? 1 : TOGETHER
  const parts = Array.from({ length: Math.ceil(keys.length / size) }, (_, i) =>
    keys.slice(i * size, (i + 1) * size),
  )
  const errors = await inBatches(parts, (part) => remove(store, part).then(() => undefined, asError))
  return parts.flatMap((part, i) => part.map(() => errors[i]))
}

/** ioredis writes any other array of bytes as a list of numbers. */
function bytes(key: string, value: Bytes, limit: number): Buffer {
  if (!types.isUint8Array(value))
    throw new CorralError(
      'ERR_CHAIN',
      `Expected bytes for '${key}', got ${formatValue(value)}. Put an encoding around redis(): wrap(redis(url), msgpack()).`,
    )
  if (value.byteLength > limit)
    throw new CorralError(
      'ERR_VALUE_TOO_LARGE',
      `Expected at most ${limit} bytes for '${key}', got ${value.byteLength}: see \`maxValueBytes\`.`,
    )
  return Buffer.isBuffer(value) ? value : Buffer.from(value.buffer, value.byteOffset, value.byteLength)
}
