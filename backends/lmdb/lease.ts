import { randomUUID } from 'node:crypto'
import {
  type AcquireOptions,
  isTakenOver,
  type LeaseFailure,
  type LeaseOperations,
} from '../../src/backend/lease.js'
import { ignoreRejection } from '../../src/base/maybe-promise.js'
import { epochNow } from '../../src/base/timers.js'
import type { Change, Plan, ReadRecord, RecordVersion, Store } from './client/store.js'
import type { FileWaiters } from './client/waiters.js'
import { encodeNumbers, newVersion, SMALL_STEP, TAG, type TreeKey, taggedKey } from './format.js'

/** A lease in a snapshot; without `token` none is alive. */
export interface LeaseRecord {
  readonly record: RecordVersion
  readonly token?: string
  /** Epoch ms. */
  readonly expiresAt: number
  /** Kept after a failure: `token` is of no holder. */
  readonly failure?: LeaseFailure
  /** It was granted while the clock was ahead, which has been set back: from now on it is due for so many ms. */
  readonly renewFor?: number
}

const TOKEN_AT = 16
/** The first letter of a lease that was kept after a failure; then the ledger's time, or nothing; then `/` and when it was kept. */
const FAILED = '-'

/** Leases in the file: taken, extended and released only if no other process has changed them meanwhile. */
export function fileLeases(store: Store, waiters: FileWaiters): LeaseOperations {
  const current = (key: string) => store.snapshot((read) => readLease(read, key))
  const isTaken = ({ token, failure }: LeaseRecord, { steal, overFailed }: AcquireOptions) =>
    token !== undefined && steal !== true && !isTakenOver(failure, overFailed)
  const busy = (key: string, { token, expiresAt, failure }: LeaseRecord) => {
    const remaining = Math.max(0, expiresAt - epochNow())
    if (failure !== undefined) return { failure, remaining, settled: Promise.resolve() }
    const end = () => {
      const now = current(key)
      if (now.renewFor !== undefined) void ignoreRejection(countAnew(key))
      return now.token === token ? now.expiresAt : 0
    }
    return { remaining, ...waiters.wait(key, end) }
  }
  /** A holder that died while the clock was ahead would keep its lease for that much longer. One that lives renews it. */
  const countAnew = (key: string): Promise<LeaseRecord> =>
    store.transact(key, (read): Plan<LeaseRecord> => {
      const found = readLease(read, key)
      const { record, token = '', renewFor: ms } = found
      if (ms === undefined) return { result: found }
      return {
        result: { record, token, expiresAt: epochNow() + ms },
        conditions: [record],
        changes: [[record.key, encodeHeld(token, ms)]],
      }
    })
  /** Writes or removes the lease's record if the token still holds it. */
  const whileHeld = (key: string, token: string, change: (at: TreeKey) => Change): Promise<boolean> =>
    store.transact(key, (read): Plan<boolean> => {
      const { record, token: holder } = readLease(read, key)
      if (holder !== token) return { result: false }
      return { result: true, conditions: [record], changes: [change(record.key)] }
    })

  return {
    async acquire(key, ms, how = {}) {
      const found = current(key)
      const holder = found.renewFor === undefined ? found : await countAnew(key)
      if (isTaken(holder, how)) return busy(key, holder)
      const token = randomUUID()
      const former = await store.transact(key, (read): Plan<LeaseRecord> => {
        const former = readLease(read, key)
        const { record } = former
        if (isTaken(former, how)) return { result: former }
        return {
          result: former,
          conditions: [record],
          changes: [[record.key, encodeHeld(token, ms)]],
        }
      })
      if (isTaken(former, how)) return busy(key, former)
      if (former.token !== undefined) waiters.wake(key)
      return { token }
    },
    renew: (key, token, ms) => whileHeld(key, token, (at) => [at, encodeHeld(token, ms)]),
    async release(key, token, failure) {
      const released = await whileHeld(key, token, (at) => {
        if (failure === undefined) return [at]
        const now = epochNow()
        const kept = `${FAILED}${failure.failedAsOf ?? ''}/${now}`
        return [at, encodeLease(kept, now + failure.failedFor)]
      })
      if (released) waiters.wake(key)
      return released
    },
    held(key) {
      const { token, failure } = current(key)
      return token !== undefined && failure === undefined
    },
  }
}

/** Reads the lease of a key; an expired one counts as none. */
export function readLease(read: ReadRecord, key: string, now = epochNow()): LeaseRecord {
  let text: string | undefined
  let expiresAt = 0
  const record = read(leaseKey(key), (bytes) => {
    expiresAt = leaseExpiry(bytes)
    if (expiresAt > now) text = bytes.toString('latin1', TOKEN_AT, bytes.length)
  })
  if (text === undefined) return { record, expiresAt }
  if (!text.startsWith(FAILED)) {
    const [token, ms] = text.split('/')
    // Records of former versions have no length.
    const isAhead = ms !== undefined && expiresAt - Number(ms) > now + SMALL_STEP
    return { record, token: token as string, expiresAt, ...(isAhead && { renewFor: Number(ms) }) }
  }
  const [asOf, since] = text.slice(FAILED.length).split('/')
  // The clock was ahead then, and has been set back: the failure would deny the lease for that much longer.
  if (Number(since) > now) return { record, expiresAt: 0 }
  return { record, token: text, expiresAt, failure: { failedAsOf: asOf === '' ? undefined : Number(asOf) } }
}

export function leaseKey(key: string): Buffer {
  return taggedKey(TAG.lease, key)
}

export function leaseExpiry(bytes: Buffer): number {
  return bytes.readDoubleLE(8)
}

/** A lease that a holder has: with its length, which tells when it was granted. */
function encodeHeld(token: string, ms: number): Buffer {
  return encodeLease(`${token}/${ms}`, epochNow() + ms)
}

function encodeLease(token: string, expiresAt: number): Buffer {
  return Buffer.concat([encodeNumbers(newVersion(), expiresAt), Buffer.from(token, 'latin1')])
}
