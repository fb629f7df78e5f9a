import { CorralError } from '../../../src/base/errors.js'
import { inSlices } from './batches.js'
import type { RedisClient } from './client.js'
import type { Gateway } from './connection.js'
import { asError, kindOf, typed } from './errors.js'
import type { Script } from './scripts.js'

export interface Call {
  readonly script: Script
  readonly keys: readonly string[]
  readonly args: readonly (string | Buffer)[]
  /** In a pipeline: counts only once the replicas have it. */
  readonly durable?: boolean
}

/** Copies of a write that must have arrived before it counts as done. */
export interface Replicas {
  readonly count: number
  readonly timeout: number
}

export interface Runner {
  run(call: Call, once?: boolean): Promise<unknown>
  /** The same, and then waits for the replicas that the options ask for. */
  durable(call: Call, once?: boolean): Promise<unknown>
  /** All in one round trip; what failed is an Error in its place. */
  pipeline(calls: readonly Call[], once?: boolean): Promise<readonly unknown[]>
}

const LOST = 'Connection is closed.'

/** Runs scripts by their hash, and sends the text to a server that does not know it (any more). */
export function runner(gate: Gateway, replicas: Replicas | undefined, clustered: boolean): Runner {
  const plain = async (client: RedisClient, { script, keys, args }: Call): Promise<unknown> => {
    try {
      return await client.evalsha(script.sha, keys.length, ...keys, ...args)
    } catch (error) {
      if (!isUnknown(error)) throw error
      return client.eval(script.lua, keys.length, ...keys, ...args)
    }
  }
  const waited = async (
    client: RedisClient,
    { script, keys, args }: Call,
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
    if (isUnknown(answer?.[0])) [answer, copies] = await answers(true)
    const error = answer?.[0] ?? copies?.[0]
    if (error !== null && error !== undefined) throw error
    const missing = tooFew(copies, { count, timeout })
    if (missing !== undefined) throw missing
    return answer?.[1]
  }
  const run = (call: Call, once?: boolean) => gate.run((client) => plain(client, call), once)
  const durable = (call: Call, once?: boolean) =>
    replicas === undefined ? run(call, once) : gate.run((client) => waited(client, call, replicas), once)
  return {
    run,
    durable,
    async pipeline(calls, once) {
      if (clustered)
        return inSlices(calls, (call) => (call.durable === true ? durable : run)(call, once).catch(asError))
      return gate.run(async (client) => {
        const pipe = client.pipeline()
        for (const { script, keys, args } of calls) pipe.evalsha(script.sha, keys.length, ...keys, ...args)
        const awaited = replicas !== undefined && calls.some(({ durable }) => durable === true)
        if (awaited) pipe.wait(replicas.count, replicas.timeout)
        const answers = (await pipe.exec()) ?? []
        const missing = awaited ? tooFew(answers[calls.length], replicas) : undefined
        const lost = calls.map(
          (_, i) => answers[i]?.[0] ?? (answers[i] === undefined ? new Error(LOST) : undefined),
        )
        // Nothing has answered: the gate decides whether all of it may be sent again.
        if (lost.every((error) => error !== undefined && kindOf(error) === 'absence')) throw lost[0]
        return Promise.all(
          calls.map((call, i) => {
            const error = lost[i]
            const again = call.durable === true && replicas !== undefined
            if (isUnknown(error))
              return (again ? waited(client, call, replicas) : plain(client, call)).catch(typed)
            if (error !== undefined) return typed(error)
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
  if (error !== null) return typed(error)
  if (Number(reached) >= count) return undefined
  return new CorralError(
    'ERR_BACKEND',
    `Expected ${count} replicas to have the write within ${timeout} ms, ${Number(reached)} had it. It may be lost if the primary fails now: see \`replicas\`.`,
  )
}

function isUnknown(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith('NOSCRIPT')
}
