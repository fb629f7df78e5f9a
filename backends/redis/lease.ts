import { randomUUID } from 'node:crypto'
import type { Bytes } from '../../src/backend/cached-value.js'
import type {
  AcquireOptions,
  FailureOptions,
  LeaseFailure,
  LeaseOperations,
  StoreAcquired,
} from '../../src/backend/lease.js'
import type { LeaseWaiters } from '../../src/backend/lease-waiters.js'
import { ignoreRejection } from '../../src/base/maybe-promise.js'
import { newEpoch } from '../../src/ledger/snapshot.js'
import { mayRunLater } from './client/errors.js'
import { isOne, type ScriptCall } from './client/script-runner.js'
import * as scripts from './client/scripts.js'
import { BY_CHANNEL, FAILED, IF_ABSENT, PRESENT, TOKEN_LENGTH } from './client/scripts.js'
import { clockKeys, companion, expectClock, lifetimeArg, parseStamp, stampKeys, valueKey } from './format.js'
import type { RedisStore } from './store.js'
import type { WakeSubscriptions } from './wake/subscriptions.js'

export interface RedisLeasesOptions {
  readonly store: RedisStore
  readonly waiters: LeaseWaiters<Buffer>
  readonly subscriptions: WakeSubscriptions
}

export function leaseKey(key: string): string {
  return companion('lease', valueKey(key))
}

/** The fenced lease of a key: a token in a key of its own, in the slot of the value, that expires with its holder. */
export function redisLeases(options: RedisLeasesOptions): LeaseOperations<Bytes> {
  const { store } = options
  const { runner, reads } = store
  return {
    acquire: (key, ms, how = {}) => acquire(options, key, ms, how),
    async renew(key, token, ms) {
      const args = [token, lifetimeArg(ms)]
      return isOne(await runner.run({ script: scripts.renew, keys: [leaseKey(key)], args }))
    },
    release: async (key, token, failure) => isOne(await runner.run(releaseCall(store, key, token, failure))),
    async held(key) {
      const lease = await reads.get(leaseKey(key))
      return lease !== undefined && !isFailed(lease)
    },
  }
}

async function acquire(
  { store, waiters, subscriptions }: RedisLeasesOptions,
  key: string,
  ms: number,
  how: AcquireOptions,
): Promise<StoreAcquired<Bytes>> {
  const { runner, prefix, reads } = store
  const lease = leaseKey(key)
  const token = randomUUID()
  const preparing = subscriptions.prepare()
  if (preparing !== undefined) await preparing
  // A mark that no other request leaves, since a message that names it was sent after this one was denied.
  const mark = subscriptions.mark === BY_CHANNEL ? `${BY_CHANNEL}${token.slice(-12)}` : subscriptions.mark
  const waiter = how.steal ? undefined : waiters.join(prefix + lease, mark)
  let reply: unknown
  try {
    reply = await runner.run(acquireCall(store, key, token, ms, mark, how))
  } catch (error) {
    waiter?.leave()
    // A frozen server may grant it later. It executes the release after that.
    if (mayRunLater(error))
      void ignoreRejection(runner.run({ ...releaseCall(store, key, token), isPatient: true }))
    throw error
  }
  const [left, holder] = reply as [number | string | Buffer, Buffer]
  const remaining = Number(left)
  if (remaining < 0 || waiter === undefined) {
    waiter?.leave()
    return parseGrant(reply as readonly (Buffer | null)[], remaining === PRESENT ? '' : token)
  }
  if (isFailed(holder)) {
    waiter.leave()
    return { remaining, settled: Promise.resolve(), failure: failureIn(holder) }
  }
  /** `undefined`: for as long as was known. */
  const stillHeld = async (): Promise<undefined | 0> =>
    (await reads.get(lease))?.subarray(0, TOKEN_LENGTH).equals(holder) ? undefined : 0
  const stop = subscriptions.listen(prefix + lease)
  const settled = waiter.untilOver(remaining, stillHeld).finally(stop)
  return { remaining, settled, leave: waiter.leave }
}

/** The question about the ledger goes along where one script may touch the keys of both, which a Cluster refuses. */
function acquireCall(
  { channel, clustered, stampLifetime }: RedisStore,
  key: string,
  token: string,
  ms: number,
  mark: string,
  { steal = false, overFailed, ifAbsent = false, question }: AcquireOptions,
): ScriptCall {
  let keys = [leaseKey(key), valueKey(key)]
  const args = [
    token,
    lifetimeArg(ms),
    `${ifAbsent ? IF_ABSENT : ''}${steal ? '1' : overText(overFailed)}`,
    mark,
    channel,
  ]
  if (question !== undefined && !clustered) {
    const { clock, names, expected } = question
    const { clock: key, pending } = clockKeys(clock)
    keys = [...keys, key, pending, ...stampKeys(clock, names), ...stampKeys(clock, expected)]
    args.push(newEpoch(), `${stampLifetime}`, `${names.length}`)
  }
  // A stolen lease is an invalidation.
  return { script: scripts.acquire, keys, args, repliesBytes: true, isPatient: steal }
}

function parseGrant(reply: readonly (Buffer | null)[], token: string): StoreAcquired<Bytes> {
  const found = reply[1] ?? undefined
  const clock = reply[2]
  if (clock === null) return { token, found }
  // Spread objects and lists here cost more than the rest of a grant.
  return clock === undefined
    ? { token, found }
    : { token, found, asOf: expectClock(clock), stamps: reply.slice(3).map(parseStamp) }
}

export function releaseCall(
  { channel }: RedisStore,
  key: string,
  token: string,
  failure?: FailureOptions,
): ScriptCall {
  const kept = failure === undefined ? [] : [lifetimeArg(failure.failedFor), `${failure.failedAsOf ?? ''}`]
  return { script: scripts.release, keys: [leaseKey(key)], args: [token, channel, ...kept] }
}

/** Infinity is `inf` in Lua. */
function overText(overFailed: number | undefined): string {
  if (overFailed === undefined) return '0'
  return overFailed === Number.POSITIVE_INFINITY ? '<1e999' : `<${overFailed}`
}

function failureIn(lease: Buffer): LeaseFailure {
  const asOf = lease.toString('latin1', FAILED.length)
  return { failedAsOf: asOf === '' ? undefined : Number(asOf) }
}

function isFailed(lease: Buffer): boolean {
  return lease[0] === FAILED.charCodeAt(0)
}
