import { randomUUID } from 'node:crypto'
import type { Bytes } from '../../src/backend/cached-value.js'
import type { LeaseOperations } from '../../src/backend/lease.js'
import type { LeaseWaiters } from '../../src/backend/lease-waiters.js'
import { ignoreRejection } from '../../src/base/maybe-promise.js'
import { isUnreachable } from './client/errors.js'
import type { ScriptRunner } from './client/script-runner.js'
import * as scripts from './client/scripts.js'
import { BY_CHANNEL, TOKEN_LENGTH } from './client/scripts.js'
import { companion, valueKey } from './format.js'
import type { WakeSubscriptions } from './wake/subscriptions.js'

export interface RedisLeasesOptions {
  readonly runner: ScriptRunner
  readonly waiters: LeaseWaiters<Buffer>
  readonly subscriptions: WakeSubscriptions
  readonly channel: string
  /** The prefix that the client puts before every key. */
  readonly prefix: string
  /** The bytes of a key, for `held`. */
  readonly get: (key: string) => Promise<Buffer | undefined>
}

export function leaseKey(key: string): string {
  return companion('lease', valueKey(key))
}

/** The fenced lease of a key: a token in a key of its own, in the slot of the value, that expires with its holder. */
export function redisLeases({
  runner,
  waiters,
  subscriptions,
  channel,
  prefix,
  get,
}: RedisLeasesOptions): LeaseOperations<Bytes> {
  const release = async (key: string, token: string): Promise<boolean> =>
    (await runner.run({ script: scripts.release, keys: [leaseKey(key)], args: [token, channel] })) === 1
  /** \`undefined\`: for as long as was known. */
  const stillHeld = async (key: string, holder: string): Promise<undefined | 0> => {
    const held = await get(leaseKey(key))
    return held?.toString('latin1', 0, TOKEN_LENGTH) === holder ? undefined : 0
  }
  return {
    async acquire(key, ms, { steal = false } = {}) {
      const lease = leaseKey(key)
      const token = randomUUID()
      const preparing = subscriptions.prepare()
      if (preparing !== undefined) await preparing
      // Its own mark, since a message that names it was sent after this lease was refused.
      const mark = subscriptions.mark === BY_CHANNEL ? `${BY_CHANNEL}${token.slice(-12)}` : subscriptions.mark
      const waiter = steal ? undefined : waiters.join(prefix + lease, mark)
      let answer: unknown
      try {
        const args = [token, lifetimeArg(ms), steal ? '1' : '0', mark, channel]
        answer = await runner.run({ script: scripts.acquire, keys: [lease], args })
      } catch (error) {
        waiter?.leave()
        // A server that was frozen may grant it yet. What is sent after it is done after it.
        if (isUnreachable(error)) void ignoreRejection(release(key, token))
        throw error
      }
      if (!Array.isArray(answer) || waiter === undefined) {
        waiter?.leave()
        return { token }
      }
      const [remaining, holder] = answer as [number, string]
      const stop = subscriptions.listen(prefix + lease)
      return { remaining, settled: waiter.untilOver(remaining, () => stillHeld(key, holder)).finally(stop) }
    },
    async renew(key, token, ms) {
      return (
        (await runner.run({
          script: scripts.renew,
          keys: [leaseKey(key)],
          args: [token, lifetimeArg(ms)],
        })) === 1
      )
    },
    release,
    held: async (key) => (await get(leaseKey(key))) !== undefined,
  }
}

/** Redis takes whole milliseconds above zero; what is beyond counting is a hundred years. */
export function lifetimeArg(ms: number): string {
  return `${Math.min(Math.max(1, Math.ceil(ms)), 3_153_600_000_000)}`
}
