import { CorralError, isError } from '../../../src/base/errors.js'
import { inBatches } from '../../../src/base/in-batches.js'
import type { RedisClient, RedisPipeline } from './client.js'
import type { RedisConnection } from './connection.js'
import { asError, isUnreachable, redisError } from './errors.js'
import type { Script } from './scripts.js'

type Arguments = readonly (string | Buffer)[]

export interface ScriptCall {
  readonly script: Script
  readonly keys: readonly string[]
  /** Or a function of the moment until which the call has to begin, on the clock of `performance`; called at each sending. */
  readonly args: Arguments | ((until: number) => Arguments)
  /** In a pipeline: counts only once the replicas have it. */
  readonly isDurable?: boolean
  /** It waits for a connection that was lost, as every durable call does: it has to get through. */
  readonly isPatient?: boolean
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
  const run = (call: ScriptCall, once = false) =>
    connection.run((client, until) => runOne(client, call, until), {
      once,
      patient: call.isPatient ?? false,
      key: call.keys[0],
    })
  const runDurably = (call: ScriptCall, once = false) =>
    replicas === undefined
      ? run({ ...call, isPatient: true }, once)
      : connection.run(
          async (client, until) => {
            const [result] = await pipeline(client, [{ ...call, isDurable: true }], replicas, until)
            if (result instanceof Error) throw result
            return result
          },
          { once, patient: true, key: call.keys[0] },
        )
  return {
    run,
    runDurably,
    runAll(calls, once = false) {
      if (clustered || calls.length <= 1)
        return inBatches(calls, (call) => (call.isDurable ? runDurably : run)(call, once).catch(asError))
      const patient = calls.some(({ isDurable }) => isDurable)
      return connection.run((client, until) => pipeline(client, calls, replicas, until), { once, patient })
    },
  }
}

async function runOne(client: RedisClient, call: ScriptCall, until: number): Promise<unknown> {
  const { script, keys, repliesBytes } = call
  const args = argsOf(call, until)
  const { evalsha, eval: evaluate } = formsOf(client, repliesBytes)
  try {
    return await evalsha.call(client, script.sha, keys.length, keys, args)
  } catch (error) {
    if (!isUnknownScript(error)) throw error
    return evaluate.call(client, script.lua, keys.length, keys, args)
  }
}

function argsOf({ args }: ScriptCall, until: number): Arguments {
  return typeof args === 'function' ? args(until) : args
}

/** Returns, for each call, its reply or its error. @throws if no server replied to any of them. */
async function pipeline(
  client: RedisClient,
  calls: readonly ScriptCall[],
  replicas: Replicas | undefined,
  until: number,
  byText = false,
): Promise<readonly unknown[]> {
  const pipe = client.pipeline() as RedisPipeline & ListForms
  for (const call of calls) {
    const { script, keys } = call
    const args = argsOf(call, until)
    if (byText) pipe.eval(script.lua, keys.length, keys, args)
    else pipe.evalsha(script.sha, keys.length, keys, args)
  }
  const awaited = calls.some(({ isDurable }) => isDurable) ? replicas : undefined
  if (awaited !== undefined) pipe.wait(awaited.count, awaited.timeout)
  const replies = (await pipe.exec()) ?? []
  const errors = calls.map((_, i) => (replies[i] === undefined ? new Error(LOST) : replies[i][0]))
  // The connection decides whether all of it may be sent again.
  if (errors.every((error) => error !== null && isUnreachable(error))) throw errors[0]
  const missing = awaited && tooFew(replies[calls.length], awaited)
  const unknown = byText ? [] : calls.filter((_, i) => isUnknownScript(errors[i]))
  // If it throws, the other scripts have run nevertheless, so the failure must not repeat them.
  const repeated =
    unknown.length === 0
      ? []
      : await pipeline(client, unknown, replicas, until, true).catch((error) =>
          unknown.map(() => redisError(error)),
        )
  let next = 0
  return calls.map((call, i) => {
    const error = errors[i]
    if (!byText && isUnknownScript(error)) return repeated[next++]
    if (error) return redisError(error)
    return call.isDurable && missing !== undefined ? missing : replies[i]?.[1]
  })
}

/** The error of a write that a failover may lose. The server replied, so the write is not sent again. */
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

/** Whether a script replied 1, which is text for a client with `stringNumbers`. */
export function isOne(reply: unknown): boolean {
  return Number(reply) === 1
}

function isUnknownScript(error: unknown): boolean {
  return isError(error) && error.message.startsWith('NOSCRIPT')
}

/** ioredis takes lists, which its types leave out. A list of many thousand names as parameters would overflow the stack. */
type ListForm = (text: string, count: number, keys: readonly string[], args: Arguments) => Promise<unknown>
type ListForms = { readonly [form in 'evalsha' | 'eval']: ListForm }

/** The forms for a reply of text or of Buffers, which its types leave out as well. */
function formsOf(client: RedisClient, repliesBytes: boolean | undefined): ListForms {
  const forms = client as unknown as ListForms & {
    readonly [form in keyof ListForms as `${form}Buffer`]: ListForm
  }
  return repliesBytes ? { evalsha: forms.evalshaBuffer, eval: forms.evalBuffer } : forms
}
