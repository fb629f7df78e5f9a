import { CorralError } from '../../../src/base/errors.js'
import { inBatches } from './batches.js'
import type { RedisClient } from './client.js'
import type { RedisConnection } from './connection.js'
import { asError, isUnreachable, redisError } from './errors.js'
import type { Script } from './scripts.js'

export interface ScriptCall {
  readonly script: Script
  readonly keys: readonly string[]
  readonly args: readonly (string | Buffer)[]
  /** In a pipeline: counts only once the replicas have it. */
  readonly isDurable?: boolean
  /** The reply brings bytes, which as text would be damaged. For `run` alone. */
  readonly repliesBytes?: boolean
}

/** Copies of a write that must have arrived before it counts as done. */
export interface Replicas {
  readonly count: number
  readonly timeout: number
}

export interface ScriptRunner {
  run(call: ScriptCall, once?: boolean): Promise<unknown>
  /** The same, and then waits for the replicas that the options ask for. */
  runDurably(call: ScriptCall, once?: boolean): Promise<unknown>
  /** All in one round trip; a failed script is an Error in its place. */
  runAll(calls: readonly ScriptCall[], once?: boolean): Promise<readonly unknown[]>
}

const LOST = 'Connection is closed.'

/** Runs scripts by their hash, and sends the text to a server that does not know it (any more). */
export function scriptRunner(
  connection: RedisConnection,
  replicas: Replicas | undefined,
  clustered: boolean,
): ScriptRunner {
  const plain = async (client: RedisClient, call: ScriptCall): Promise<unknown> => {
    const { script, keys, args, repliesBytes } = call
    const { evalsha, eval: evaluate } = repliesBytes ? bytesForms(client) : client
    try {
      return await evalsha.call(client, script.sha, keys.length, ...keys, ...args)
    } catch (error) {
      if (!isUnknownScript(error)) throw error
      return evaluate.call(client, script.lua, keys.length, ...keys, ...args)
    }
  }
  const waited = async (
    client: RedisClient,
    { script, keys, args }: ScriptCall,
    { count, timeout }: Replicas,
  ): Promise<unknown> => {
    const answers = async (byText: boolean) => {
      const pipe = client.pipeline()
      if (byText) pipe.eval(script.lua, keys.length, ...keys, ...args)
      else pipe.evalsha(script.sha, keys.length, ...keys, ...args)
      pipe.wait(count, timeout)
      return (await pipe.exec()) ?? []
    }
    let [answer, copies] = await answers(false)
    if (isUnknownScript(answer?.[0])) [answer, copies] = await answers(true)
    const error = answer?.[0] ?? copies?.[0]
    if (error !== null && error !== undefined) throw error
    const missing = tooFew(copies, { count, timeout })
    if (missing !== undefined) throw missing
    return answer?.[1]
  }
  const run = (call: ScriptCall, once?: boolean) => connection.run((client) => plain(client, call), once)
  const runDurably = (call: ScriptCall, once?: boolean) =>
    replicas === undefined
      ? run(call, once)
      : connection.run((client) => waited(client, call, replicas), once)
  return {
    run,
    runDurably,
    async runAll(calls, once) {
      if (clustered)
        return inBatches(calls, (call) =>
          (call.isDurable === true ? runDurably : run)(call, once).catch(asError),
        )
      return connection.run(async (client) => {
        const pipe = client.pipeline()
        for (const { script, keys, args } of calls) pipe.evalsha(script.sha, keys.length, ...keys, ...args)
        const awaited = replicas !== undefined && calls.some(({ isDurable }) => isDurable === true)
        if (awaited) pipe.wait(replicas.count, replicas.timeout)
        const answers = (await pipe.exec()) ?? []
        const missing = awaited ? tooFew(answers[calls.length], replicas) : undefined
        const lost = calls.map(
          (_, i) => answers[i]?.[0] ?? (answers[i] === undefined ? new Error(LOST) : undefined),
        )
        // Nothing has answered: the connection decides whether all of it may be sent again.
        if (lost.every((error) => error !== undefined && isUnreachable(error))) throw lost[0]
        return Promise.all(
          calls.map((call, i) => {
            const error = lost[i]
            const again = call.isDurable === true && replicas !== undefined
            if (isUnknownScript(error))
              return (again ? waited(client, call, replicas) : plain(client, call)).catch(redisError)
            if (error !== undefined) return redisError(error)
            return again && missing !== undefined ? missing : answers[i]?.[1]
          }),
        )
      }, once)
    },
  }
}

/** There was an answer, so that nothing is sent again: it says that a failover may lose the write. */
function tooFew(
  copies: readonly [Error | null, unknown] | undefined,
  { count, timeout }: Replicas,
): Error | undefined {
  const [error, reached] = copies ?? [new Error(LOST), 0]
  if (error !== null) return redisError(error)
  if (Number(reached) >= count) return undefined
  return new CorralError(
    'ERR_BACKEND',
    `Expected ${count} replicas to have the write within ${timeout} ms, ${Number(reached)} had it. It may be lost if the primary fails now: see \`replicas\`.`,
  )
}

function isUnknownScript(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith('NOSCRIPT')
}

/** The forms that return Buffers. ioredis has them, and its types leave them out. */
function bytesForms(client: RedisClient): Pick<RedisClient, 'evalsha' | 'eval'> {
  const forms = client as unknown as Record<'evalshaBuffer', RedisClient['evalsha']> &
    Record<'evalBuffer', RedisClient['eval']>
  return { evalsha: forms.evalshaBuffer, eval: forms.evalBuffer }
}
