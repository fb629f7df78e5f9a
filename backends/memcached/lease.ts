import { randomBytes } from 'node:crypto'
import type { LeaseOperations, StoreAcquired } from '../../src/backend/lease.js'
import { leaseWaiters } from '../../src/backend/lease-waiters.js'
import { CorralError } from '../../src/base/errors.js'
import { orElse } from '../../src/base/maybe-promise.js'
import type { Version } from './client/commands.js'
import { type EntryItem, type EntryItems, liveLease, liveValue } from './entry-items.js'
import { LEASE_ID, type StoredLease } from './format.js'

export interface Leases extends LeaseOperations {
  /** Changes a key's item while the token holds its lease. `undefined`: it holds it no more. */
  withLease<R>(
    key: string,
    token: string,
    change: (item: EntryItem) => Promise<R | undefined>,
  ): Promise<R | undefined>
  /** A lease is over: its waiters of this process need not read. */
  wake(key: string): void
  close(): void
}

/** After so many writes of others in between an operation is given up. */
const ATTEMPTS = 16

/** memcached pushes nothing. ms */
const POLL = { from: 3, to: 50, growth: 2 }

/**
 * The lease of a key is in the key's own item, and every write under it compares the version of that item: a deletion,
 * another value, another lease or the loss of the item has changed the version, and the fill does nothing. For the same
 * reason none of these writes can do harm when a frozen server executes it late.
 */
export function leasesOf(items: EntryItems): Leases {
  const waiters = leaseWaiters({ store: 'memcached', poll: POLL })
  const abandoned = abandonedLeases()

  const busy = (key: string, { id, until }: StoredLease): StoreAcquired => {
    const remaining = Math.max(0, until - Date.now())
    const remainingNow = async () => {
      const lease = liveLease(await items.get(key))
      return lease?.id.equals(id) ? lease.until - Date.now() : 0
    }
    const settled = waiters.join(key).untilOver(remaining, () => orElse(remainingNow, unknown))
    return { remaining, settled }
  }

  const withLease: Leases['withLease'] = async (key, token, change) => {
    const { id } = parseToken(token)
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const item = await items.get(key)
      if (item === undefined || !liveLease(item)?.id.equals(id)) return undefined
      const done = await change(item)
      if (done !== undefined) return done
    }
    return undefined
  }

  const request = async (key: string, id: Buffer, ms: number, steal: boolean): Promise<StoreAcquired> => {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const lease: StoredLease = { id, until: Date.now() + ms }
      // Both travel together: a missing key, the usual case, is leased in one round trip.
      const [added, item] = await Promise.all([items.put(key, { lease }, 'absent'), items.get(key)])
      if (added !== undefined) return { token: tokenOf(lease, added) }
      if (item === undefined) continue
      const holder = liveLease(item)
      if (holder !== undefined && !abandoned.has(holder) && !steal) return busy(key, holder)
      const written = await items.put(key, leased(item, lease), item.version)
      if (written === undefined) continue
      waiters.wake(key)
      return { token: tokenOf(lease, written) }
    }
    throw new CorralError(
      'ERR_UNAVAILABLE',
      `Expected to lease a key in memcached within ${ATTEMPTS} attempts, got other writes of the key each time. Try again.`,
    )
  }

  return {
    withLease,
    wake: (key) => waiters.wake(key),
    async acquire(key, ms, { steal = false } = {}) {
      const id = randomBytes(LEASE_ID)
      try {
        return await request(key, id, ms, steal)
      } catch (error) {
        abandoned.add(id)
        throw error
      }
    },
    async renew(key, token, ms) {
      const { id } = parseToken(token)
      const renewed = await withLease(key, token, (item) =>
        items.put(key, leased(item, { id, until: Date.now() + ms }), item.version),
      )
      return renewed !== undefined
    },
    async release(key, token) {
      const released = await withLease(key, token, async ({ entry, version }) => {
        const value = liveValue(entry)
        if (value === undefined) return (await items.delete(key, version)) || undefined
        return items.put(key, { ...entry, value, lease: undefined }, version)
      })
      if (released === undefined) return false
      waiters.wake(key)
      return true
    },
    held: async (key) => liveLease(await items.get(key)) !== undefined,
    close: () => waiters.close(),
  }
}

/** While the server is in trouble the lease may stand; the server's own notice reports that. */
function unknown(): undefined {}

/** The same item under another lease. */
function leased({ entry }: EntryItem, lease: StoredLease) {
  return { ...entry, value: liveValue(entry), lease }
}

const MAX_ABANDONED = 1_000

/** Leases without a holder: a slow server may grant one after its caller saw a failure. */
function abandonedLeases() {
  const ids = new Set<string>()
  return {
    add(id: Buffer): void {
      ids.add(id.toString('hex'))
      for (const oldest of ids) if (ids.size > MAX_ABANDONED) ids.delete(oldest)
    },
    has: ({ id }: StoredLease): boolean => ids.has(id.toString('hex')),
  }
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
