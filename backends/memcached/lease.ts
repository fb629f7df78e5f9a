import { randomBytes } from 'node:crypto'
import type { Bytes } from '../../src/backend/cached-value.js'
import { orGiveBack } from '../../src/backend/delegate.js'
import {
  type Denied,
  isTakenOver,
  type LeaseOperations,
  type StoreAcquired,
} from '../../src/backend/lease.js'
import type { LeaseWaiters } from '../../src/backend/lease-waiters.js'
import { CorralError } from '../../src/base/errors.js'
import { epochNow } from '../../src/base/timers.js'
import type { Version } from './client/commands.js'
import { copiedValue, type EntryItem, type EntryItems, liveLease, liveValue } from './entry-items.js'
import { failedLease, LEASE_ID, type StoredLease } from './format.js'
import type { MemcachedLedger } from './ledger.js'

interface LeaseParts {
  readonly items: EntryItems
  /** For what is no part of an operation whose time runs. */
  readonly beside: Pick<EntryItems, 'get'>
  readonly ledger: MemcachedLedger
  readonly waiters: LeaseWaiters
}

/**
 * The lease of a key is in the key's own item, and every write under it compares the version of that item: a deletion,
 * another value, another lease or the loss of the item has changed the version, and the fill does nothing. For the same
 * reason none of these writes can do harm when a frozen server executes it late.
 */
export function leasesOf(parts: LeaseParts): LeaseOperations<Bytes> {
  const { items, beside, ledger, waiters } = parts
  /** Leases without a holder: a slow server may grant one after its caller saw a failure. */
  const abandoned = new Set<string>()
  const release: LeaseOperations['release'] = async (key, token, failure) => {
    const released = await withLease(items, key, token, async (item) => {
      const { entry, version } = item
      if (failure !== undefined) {
        const now = epochNow()
        return items.put(key, leased(item, failedLease(now, now + failure.failedFor, failure)), version)
      }
      const value = liveValue(entry)
      if (value === undefined) return (await items.delete(key, version)) || undefined
      return items.put(key, { ...entry, value, lease: undefined }, version)
    })
    if (released === undefined) return false
    waiters.wake(key)
    return true
  }
  return {
    async acquire(key, ms, { steal = false, overFailed, question } = {}) {
      const id = randomBytes(LEASE_ID)
      const isHeld = ({ id: holder, failure }: StoredLease) =>
        !steal && !isTakenOver(failure, overFailed) && !abandoned.has(holder.toString('hex'))
      try {
        const acquired = await request(parts, key, { id, ms, isHeld })
        const { token } = acquired
        if (token === undefined || question === undefined) return acquired
        // After the grant, since an invalidation in between would have the fill refused.
        const atGrant = async () => ({ ...acquired, ...(await ledger.atGrant(question)) })
        return await orGiveBack(atGrant, () => release(key, token))
      } catch (error) {
        abandoned.add(id.toString('hex'))
        const [oldest = ''] = abandoned
        if (abandoned.size > MAX_ABANDONED) abandoned.delete(oldest)
        throw error
      }
    },
    async renew(key, token, ms) {
      const { id } = parseToken(token)
      const renewed = await withLease(items, key, token, (item) =>
        items.put(key, leased(item, { id, until: epochNow() + ms }), item.version),
      )
      return renewed !== undefined
    },
    release,
    async held(key) {
      const lease = liveLease(await beside.get(key))
      return lease !== undefined && lease.failure === undefined
    },
  }
}

const MAX_ABANDONED = 1_000
/** After so many writes of others in between an operation is given up. */
const ATTEMPTS = 16

interface LeaseRequest {
  readonly id: Buffer
  readonly ms: number
  isHeld(holder: StoredLease): boolean
}

/** A grant brings the stored value: the item still has the version that was read with it. */
async function request(
  parts: LeaseParts,
  key: string,
  { id, ms, isHeld }: LeaseRequest,
): Promise<StoreAcquired<Bytes>> {
  const { items, waiters } = parts
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const lease: StoredLease = { id, until: epochNow() + ms }
    // Both travel together: a missing key, the usual case, is leased in one round trip.
    const [added, item] = await Promise.all([items.put(key, { lease }, 'absent'), items.get(key)])
    if (added !== undefined) return { token: tokenOf(lease, added), found: undefined }
    if (item === undefined) continue
    const holder = liveLease(item)
    if (holder !== undefined && isHeld(holder)) return waitFor(parts, key, holder)
    const written = await items.put(key, leased(item, lease), item.version)
    if (written === undefined) continue
    waiters.wake(key)
    return { token: tokenOf(lease, written), found: copiedValue(item) }
  }
  throw new CorralError(
    'ERR_UNAVAILABLE',
    `Expected to lease a key in memcached within ${ATTEMPTS} attempts, got other writes of the key each time. Try again.`,
  )
}

function waitFor(
  { beside, waiters }: LeaseParts,
  key: string,
  { id, until, failure }: StoredLease,
): Denied<Bytes> {
  const remaining = Math.max(0, until - epochNow())
  if (failure !== undefined) return { remaining, settled: Promise.resolve(), failure }
  const remainingNow = async () => {
    const lease = liveLease(await beside.get(key))
    return lease?.id.equals(id) ? lease.until - epochNow() : 0
  }
  // While the server is in trouble the lease may stand; the server's own notice reports that.
  const read = () => remainingNow().catch(() => undefined)
  const waiter = waiters.join(key)
  return { remaining, settled: waiter.untilOver(remaining, read), leave: waiter.leave }
}

/** Changes a key's item while the token holds its lease. `undefined`: it holds it no more. */
export async function withLease<R>(
  items: EntryItems,
  key: string,
  token: string,
  change: (item: EntryItem) => Promise<R | undefined>,
): Promise<R | undefined> {
  const { id } = parseToken(token)
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const item = await items.get(key)
    if (item === undefined || !liveLease(item)?.id.equals(id)) return undefined
    const done = await change(item)
    if (done !== undefined) return done
  }
  return undefined
}

/** The same item under another lease. */
function leased({ entry }: EntryItem, lease: StoredLease) {
  return { ...entry, value: liveValue(entry), lease }
}

const TOKEN = /^([\da-f]{32})~([\d.]+|Infinity)~([\da-f]{16})~(\d{1,20})$/

/** The id decides. The rest is the item at the moment of the grant, and spares reading it again. */
function tokenOf({ id, until }: StoredLease, { connection, cas }: Version): string {
  return `${id.toString('hex')}~${until}~${connection}~${cas}`
}

export function parseToken(token: string): StoredLease & { readonly version: Version } {
  const [, id = '', until, connection = '', cas = '0'] = TOKEN.exec(token) ?? []
  return { id: Buffer.from(id, 'hex'), until: Number(until ?? 0), version: { connection, cas: BigInt(cas) } }
}
