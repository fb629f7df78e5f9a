import type { Outcome, Write, WriteOptions } from '../../src/backend/backend.js'
import type { Bytes } from '../../src/backend/cached-value.js'
import { CorralError, formatValue } from '../../src/base/errors.js'
import { inBatches } from './client/batches.js'
import type { RedisConnection } from './client/connection.js'
import { asError } from './client/errors.js'
import type { ScriptCall, ScriptRunner } from './client/script-runner.js'
import * as scripts from './client/scripts.js'
import { valueKey } from './format.js'
import { leaseKey, lifetimeArg } from './lease.js'
import { type RedisLedger, snapshotKeys } from './ledger.js'

export interface EntryWritesOptions {
  readonly connection: RedisConnection
  readonly runner: ScriptRunner
  readonly channel: string
  /** ms that a stamp lives at least. */
  readonly lifetime: number
  readonly maxValueBytes: number
  /** Where check and write cannot be one step. */
  readonly clustered: RedisLedger | undefined
}

export interface EntryWrites {
  /** @throws CorralError for a key or a value that cannot be stored, before anything is sent. */
  check(key: string, value: Bytes): void
  set(key: string, value: Bytes, options: WriteOptions): Promise<Outcome>
  /** A failed write is an Error in its place. */
  setMulti(writes: readonly Write<Bytes>[]): Promise<readonly (Outcome | Error)[]>
  /** Returns, for each key, its failure. */
  deleteMulti(keys: readonly string[]): Promise<readonly (Error | undefined)[]>
}

const OUTCOMES: readonly Outcome[] = ['stored', 'lost', 'refused']

/** Keys removed by one script: enough to be cheap, few enough not to hold up the server. */
const TOGETHER = 500

/** The writes of values, each of which also ends the lease of its key. */
export function entryWrites({
  connection,
  runner,
  channel,
  lifetime,
  maxValueBytes,
  clustered,
}: EntryWritesOptions): EntryWrites {
  const lifeOfStamps = (ttl: number | undefined) =>
    ttl === undefined || ttl === Number.POSITIVE_INFINITY ? '' : lifetimeArg(Math.max(ttl, lifetime))

  const callOf = (key: string, value: Bytes, { token = '', ttl, ifCurrent }: WriteOptions): ScriptCall => {
    const own = [valueKey(key), leaseKey(key)]
    const life = ttl === undefined || ttl === Number.POSITIVE_INFINITY ? '' : lifetimeArg(ttl)
    // A token fences a fill for ever; any other write is fenced by the time until which it may begin.
    const args = [
      token,
      channel,
      bytes(key, value, maxValueBytes),
      life,
      token === '' ? connection.writeDeadline() : '',
    ]
    const isDurable = token === ''
    if (ifCurrent === undefined || clustered !== undefined)
      return { script: scripts.write, keys: own, args, isDurable }
    const { keys, asOf } = snapshotKeys(ifCurrent.clock, ifCurrent.snapshot)
    return {
      script: scripts.write,
      keys: [...own, ...keys],
      args: [...args, ifCurrent.snapshot.epoch, lifeOfStamps(ttl), ...asOf],
      isDurable,
    }
  }
  /** The server took the write for late: its clock is not as we thought, since we still wait. */
  const again = async (
    answer: unknown,
    key: string,
    value: Bytes,
    options: WriteOptions,
  ): Promise<unknown> => {
    if (typeof answer !== 'string') return answer
    connection.setServerTime(Number(answer))
    return runner.runDurably(callOf(key, value, options), true)
  }
  const outcome = (answer: unknown): Outcome => {
    const found = typeof answer === 'number' ? OUTCOMES[answer] : undefined
    if (found === undefined)
      throw new CorralError('ERR_BACKEND', `Expected the outcome of a write, got ${formatValue(answer)}.`)
    return found
  }

  /** On a cluster: judge, then write. What is invalidated in between is stored, and found dead by every read. */
  const refused = async (
    key: string,
    { token, ttl, ifCurrent }: WriteOptions,
  ): Promise<Outcome | undefined> => {
    if (clustered === undefined || ifCurrent === undefined) return undefined
    if ((await clustered.open(ifCurrent.clock).restore(ifCurrent.snapshot, lifeOfStamps(ttl))) === 'fresh')
      return undefined
    if (token === undefined) {
      const [error] = await deleteMulti([key])
      if (error !== undefined) throw error
      return 'refused'
    }
    const given = await runner.run({ script: scripts.release, keys: [leaseKey(key)], args: [token, channel] })
    return given === 1 ? 'refused' : 'lost'
  }

  const removed = (keys: readonly string[]): Promise<Error | undefined> =>
    runner
      .runDurably({
        script: scripts.remove,
        keys: keys.flatMap((key) => [valueKey(key), leaseKey(key)]),
        args: [channel],
      })
      .then(() => undefined, asError)
  const deleteMulti = async (keys: readonly string[]): Promise<readonly (Error | undefined)[]> => {
    if (clustered !== undefined) return inBatches(keys, (key) => removed([key]))
    const scripted = Array.from({ length: Math.ceil(keys.length / TOGETHER) }, (_, i) =>
      keys.slice(i * TOGETHER, (i + 1) * TOGETHER),
    )
    const answers = await Promise.all(scripted.map(removed))
    return scripted.flatMap((some, i) => some.map(() => answers[i]))
  }

  return {
    check(key, value) {
      valueKey(key)
      bytes(key, value, maxValueBytes)
    },
    deleteMulti,
    async set(key, value, options) {
      const call = callOf(key, value, options)
      // A write that no token fences must not be done again later: somebody may have invalidated it by then.
      const once = options.token === undefined
      const verdict = await refused(key, options)
      if (verdict !== undefined) return verdict
      return outcome(
        await (once ? again(await runner.runDurably(call, true), key, value, options) : runner.run(call)),
      )
    },
    async setMulti(all) {
      const calls = all.map(([key, value, options]) => callOf(key, value, options))
      const verdicts = await inBatches(all, ([key, , options]) =>
        refused(key, options).catch((error: Error) => error),
      )
      const left = calls.filter((_, i) => verdicts[i] === undefined)
      const once = all.some(([, , options]) => options.token === undefined)
      const answers = left.length === 0 ? [] : await runner.runAll(left, once)
      let at = 0
      return Promise.all(
        verdicts.map(async (verdict, i) => {
          if (verdict !== undefined) return verdict
          const answer = answers[at++]
          if (answer instanceof Error) return answer
          return again(answer, ...(all[i] as Write<Bytes>))
            .then(outcome)
            .catch(asError)
        }),
      )
    },
  }
}

/** ioredis writes any other array of bytes as a list of numbers. */
function bytes(key: string, value: Bytes, limit: number): Buffer {
  if (!(value instanceof Uint8Array))
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
