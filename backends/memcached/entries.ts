import { randomBytes } from 'node:crypto'
import type { BackendSpec, Outcome } from '../../src/backend/backend.js'
import type { Bytes } from '../../src/backend/cached-value.js'
import type { LeaseOperations } from '../../src/backend/lease.js'
import type { LeaseWaiters } from '../../src/backend/lease-waiters.js'
import { epochNow } from '../../src/base/timers.js'
import type { Version } from './client/commands.js'
import { copiedValue, type EntryItems } from './entry-items.js'
import { type EntryParts, LEASE_ID, type StoredLease } from './format.js'
import { parseToken, withLease } from './lease.js'
import type { MemcachedLedger } from './ledger.js'

interface Parts {
  readonly items: EntryItems
  /** For operations of one command. */
  readonly beside: Pick<EntryItems, 'get' | 'delete'>
  readonly leases: Pick<LeaseOperations, 'release'>
  readonly ledger: MemcachedLedger
  readonly waiters: LeaseWaiters
  /** ms */
  readonly timeout: number
}

/** Entries in memcached: read with one command, written under lease and ledger. */
export function entriesOf(parts: Parts): Pick<BackendSpec<Bytes>, 'get' | 'set' | 'delete'> {
  const { items, beside, leases, ledger, waiters } = parts
  const remove = async (key: string, from: Pick<EntryItems, 'delete'> = items): Promise<void> => {
    await from.delete(key)
    waiters.wake(key)
  }
  return {
    get: async (key) => copiedValue(await beside.get(key)),
    async set(key, value, { ttl = Number.POSITIVE_INFINITY, token, ifCurrent }) {
      if (ifCurrent !== undefined && (await ledger.validate(ifCurrent)) !== 'fresh') {
        await (token === undefined ? remove(key) : leases.release(key, token))
        return 'refused'
      }
      const entry = { value, livesUntil: epochNow() + ttl }
      return token === undefined ? replace(parts, key, entry) : fill(parts, key, entry, token)
    },
    delete: (key) => remove(key, beside),
  }
}

/** Stores a value if the token still holds the lease, in one step of the store. */
async function fill(
  { items, waiters }: Parts,
  key: string,
  entry: EntryParts,
  token: string,
): Promise<Outcome> {
  const { until, version } = parseToken(token)
  let stored: Version | undefined
  // If the version still stands, the item was not written since the lease was granted: one round trip.
  if (epochNow() < until) stored = await items.put(key, entry, version)
  // Or the lease was renewed, or the connection is another one: then the id decides.
  stored ??= await withLease(items, key, token, (item) => items.put(key, entry, item.version))
  if (stored === undefined) return 'lost'
  waiters.wake(key)
  return 'stored'
}

/** Stores a value and revokes the lease. */
async function replace({ items, waiters, timeout }: Parts, key: string, entry: EntryParts): Promise<Outcome> {
  // A plain write of the value that a frozen server executes late would undo a later deletion. A stub cannot.
  const lease: StoredLease = { id: randomBytes(LEASE_ID), until: epochNow() + timeout }
  const cleared = await items.put(key, { lease })
  const stored = cleared && (await items.put(key, entry, cleared))
  waiters.wake(key)
  return stored === undefined ? 'lost' : 'stored'
}
