import { types } from 'node:util'
import type { Outcome, Write } from '../../src/backend/backend.js'
import type { Bytes } from '../../src/backend/cached-value.js'
import { CorralError, formatValue } from '../../src/base/errors.js'
import { inBatches } from '../../src/base/in-batches.js'
import { asError } from './client/errors.js'
import { isOne, type ScriptCall } from './client/script-runner.js'
import * as scripts from './client/scripts.js'
import { clockKeys, valueKey } from './format.js'
import { leaseKey, lifetimeArg, releaseCall } from './lease.js'
import { type RedisLedger, snapshotKeys } from './ledger.js'
import type { RedisStore } from './store.js'

export interface EntryWrites {
  /** @throws CorralError for a key or a value that cannot be stored, before anything is sent. */
  check(key: string, value: Bytes): void
  /** A failed write is an Error. */
  set(write: Write<Bytes>): Promise<Outcome | Error>
  /** A failed write is an Error in its place. */
  setMulti(writes: readonly Write<Bytes>[]): Promise<readonly (Outcome | Error)[]>
  /** Whether there was a value. A failed deletion is an Error. */
  delete(key: string): Promise<boolean | Error>
  /** Returns, for each key, its failure. */
  deleteMulti(keys: readonly string[]): Promise<readonly (Error | undefined)[]>
}

const OUTCOMES: readonly Outcome[] = ['stored', 'lost', 'refused']

/** Keys removed by one script: enough to be cheap, few enough not to hold up the server. */
const TOGETHER = 500

/** The writes of values, each of which also ends the lease of its key. */
export function entryWrites(store: RedisStore, ledger: RedisLedger): EntryWrites {
  return {
    check(key, value) {
      valueKey(key)
      bytes(key, value, store.maxValueBytes)
    },
    async set(write) {
      try {
        const call = writeCall(store, write)
        const refusal = store.clustered ? await refusalOf(store, ledger, write) : undefined
        if (refusal !== undefined) return refusal
        const { run, runDurably } = store.runner
        const reply = await (call.isDurable ? runDurably(call, true) : run(call))
        return await outcomeOf(store, write, reply)
      } catch (error) {
        return asError(error)
      }
    },
    async setMulti(all) {
      try {
        const calls = all.map((write) => writeCall(store, write))
        const refusals = await inBatches(all, (write) => refusalOf(store, ledger, write).catch(asError))
        const sent = calls.filter((_, i) => refusals[i] === undefined)
        // A write that no token fences must not be sent again later: its key may be invalidated by then.
        const once = calls.some(({ isDurable }) => isDurable)
        const replies = await store.runner.runAll(sent, once)
        let next = 0
        return await Promise.all(
          all.map((write, i) => refusals[i] ?? outcomeOf(store, write, replies[next++]).catch(asError)),
        )
      } catch (error) {
        return all.map(() => asError(error))
      }
    },
    delete: (key) => store.runner.runDurably(removal(store, [key])).then(isOne, asError),
    deleteMulti: (keys) => deleteAll(store, keys),
  }
}

function writeCall(store: RedisStore, [key, value, { token, ttl, ifCurrent }]: Write<Bytes>): ScriptCall {
  const isDurable = token === undefined
  const keys = [valueKey(key), leaseKey(key)]
  const args = [token ?? '', store.channel, bytes(key, value, store.maxValueBytes), lifeOf(ttl)]
  const condition: string[] = []
  if (ifCurrent !== undefined && !store.clustered) {
    const { clock, ring } = clockKeys(ifCurrent.clock)
    const { stamps, asOf } = snapshotKeys(ifCurrent.clock, ifCurrent.snapshot)
    keys.push(clock, ring, ...stamps)
    condition.push(ifCurrent.snapshot.epoch, lifeOf(ttl, store.stampLifetime), ...asOf)
  }
  // A token fences a fill for ever. Any other write is fenced by the time until which it may begin: thousands at once wait
  // for their turn, and their time begins with it.
  const deadline = (until: number) => (isDurable ? store.connection.writeDeadline(until) : '')
  return { script: scripts.write, keys, args: (until) => [...args, deadline(until), ...condition], isDurable }
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
  write: Write<Bytes>,
  reply: unknown,
  again = true,
): Promise<Outcome | Error> {
  if (reply instanceof Error) return reply
  // With `stringNumbers` ioredis returns the number of an outcome as text.
  const outcome = typeof reply === 'number' || typeof reply === 'string' ? OUTCOMES[Number(reply)] : undefined
  if (outcome === undefined && typeof reply === 'string' && again) {
    // The server took the write for late. Its clock is not as we thought, since the caller still waits.
    store.connection.setServerTime(Number(reply))
    return outcomeOf(store, write, await store.runner.runDurably(writeCall(store, write), true), false)
  }
  if (outcome === undefined)
    throw new CorralError('ERR_BACKEND', `Expected the outcome of a write, got ${formatValue(reply)}.`)
  return outcome
}

function removal({ channel }: RedisStore, keys: readonly string[]): ScriptCall {
  const pairs = keys.flatMap((key) => [valueKey(key), leaseKey(key)])
  return { script: scripts.remove, keys: pairs, args: [channel] }
}

async function deleteAll(
  store: RedisStore,
  keys: readonly string[],
): Promise<readonly (Error | undefined)[]> {
  const size = store.clustered ? 1 : TOGETHER
  const parts = Array.from({ length: Math.ceil(keys.length / size) }, (_, i) =>
    keys.slice(i * size, (i + 1) * size),
  )
  const errors = await inBatches(parts, (part) =>
    store.runner.runDurably(removal(store, part)).then(() => undefined, asError),
  )
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
