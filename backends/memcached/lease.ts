import { randomBytes } from 'node:crypto'
import type { Outcome } from '../../src/backend/backend.js'
import type { Acquired, LeaseOperations } from '../../src/backend/lease.js'
import { CorralError } from '../../src/base/errors.js'
import type { Version } from './client/commands.js'
import { LEASE_ID, type Lease } from './entry.js'
import { liveValue, type Slot, type Slots } from './entry-items.js'
import { type Waiters, waitersOf } from './waiters.js'

/** After so many writes of others in between an operation is given up. */
const ATTEMPTS = 16
/** So many leases that were asked for in vain are remembered. */
const VAIN = 1_000

export interface Leases extends LeaseOperations {
  /** Stores a value if the token still holds, in one step of the store. */
  fill(key: string, value: Uint8Array, livesUntil: number, token: string): Promise<Outcome>
  /** Stores a value, voiding whatever lease there is. */
  replace(key: string, value: Uint8Array, livesUntil: number, patience: number): Promise<Outcome>
  /** Removes the entry, and with it the lease. */
  remove(key: string): Promise<void>
  close(): void
}

/**
 * The lease of a key is in the key's own item, and every write under it compares the version of that item: whatever
 * came in between (a deletion, another value, another lease, the loss of the item) has changed the version, and the
 * fill does nothing. For the same reason none of these writes can do harm when a frozen server executes it late.
 */
export function leasesOf(slots: Slots): Leases {
  const waiters: Waiters = waitersOf(async (key) => standing(await slots.get(key)))
  /** Leases of nobody: a server that was only slow may have granted them after their askers had been told that it failed. */
  const vain = new Set<string>()
  const holderOf = (slot: Slot): Lease | undefined => {
    const lease = standing(slot)
    return lease === undefined || vain.has(lease.id.toString('hex')) ? undefined : lease
  }

  /** Does something under a lease that still holds. */
  const under = async <R>(
    key: string,
    id: Buffer,
    act: (slot: Slot, lease: Lease) => Promise<R | undefined>,
  ): Promise<R | undefined> => {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const slot = await slots.get(key)
      const lease = standing(slot)
      if (slot === undefined || !lease?.id.equals(id)) return undefined
      const done = await act(slot, lease)
      if (done !== undefined) return done
    }
    return undefined
  }

  const ask = async (key: string, id: Buffer, ms: number, steal: boolean): Promise<Acquired> => {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const lease: Lease = { id, until: Date.now() + ms }
      // Both travel together: a missing key, the usual case, is leased in one round trip.
      const [added, slot] = await Promise.all([slots.put(key, { lease }, 'absent'), slots.get(key)])
      if (added !== undefined) return { token: tokenOf(lease, added) }
      if (slot === undefined) continue
      const holder = holderOf(slot)
      if (holder !== undefined && !steal)
        return { remaining: Math.max(0, holder.until - Date.now()), settled: waiters.watch(key, holder) }
      const written = await slots.put(
        key,
        { ...slot.entry, value: liveValue(slot.entry), lease },
        slot.version,
      )
      if (written === undefined) continue
      waiters.wake(key)
      return { token: tokenOf(lease, written) }
    }
    throw new CorralError(
      'ERR_UNAVAILABLE',
      `memcached: the lease of a key could not be taken in ${ATTEMPTS} attempts, because others wrote the key each time. Try again.`,
    )
  }

  return {
    async acquire(key, ms, { steal = false } = {}) {
      const id = randomBytes(LEASE_ID)
      try {
        return await ask(key, id, ms, steal)
      } catch (error) {
        vain.add(id.toString('hex'))
        for (const oldest of vain) if (vain.size > VAIN) vain.delete(oldest)
        throw error
      }
    },

    async renew(key, token, ms) {
      const { id } = parse(token)
      const renewed = await under(key, id, ({ entry, version }) =>
        slots.put(key, { ...entry, value: liveValue(entry), lease: { id, until: Date.now() + ms } }, version),
      )
      return renewed !== undefined
    },

    async release(key, token) {
      const { id } = parse(token)
      const released = await under(key, id, async ({ entry, version }) => {
        const value = liveValue(entry)
        if (value === undefined) return (await slots.delete(key, version)) || undefined
        return slots.put(key, { ...entry, value, lease: undefined }, version)
      })
      if (released === undefined) return false
      waiters.wake(key)
      return true
    },

    held: async (key) => standing(await slots.get(key)) !== undefined,

    async fill(key, value, livesUntil, token) {
      const { id, until, version } = parse(token)
      let stored: Version | undefined
      // Nothing was written since the lease was granted if the version still stands: one round trip.
      if (Date.now() < until) stored = await slots.put(key, { value, livesUntil }, version)
      // Or the lease was renewed, or the connection is another one: then the id decides.
      stored ??= await under(key, id, (slot) => slots.put(key, { value, livesUntil }, slot.version))
      if (stored === undefined) return 'lost'
      waiters.wake(key)
      return 'stored'
    },

    async replace(key, value, livesUntil, patience) {
      // A plain write of the value that a frozen server executes late would undo a later deletion. A stub cannot.
      const lease: Lease = { id: randomBytes(LEASE_ID), until: Date.now() + patience }
      const cleared = await slots.put(key, { lease })
      const stored = cleared && (await slots.put(key, { value, livesUntil }, cleared))
      waiters.wake(key)
      return stored === undefined ? 'lost' : 'stored'
    },

    async remove(key) {
      await slots.delete(key)
      waiters.wake(key)
    },

    close: () => waiters.close(),
  }
}

/** The lease of a slot, while its time is not up. */
function standing(slot: Slot | undefined): Lease | undefined {
  const lease = slot?.entry?.lease
  return lease !== undefined && Date.now() < lease.until ? lease : undefined
}

const FORM = /^([\da-f]{32})~([\d.]+|Infinity)~([\da-f]{16})~(\d{1,20})$/

/** The id is what counts. The rest tells how the item looked when the lease was granted, and spares reading it again. */
function tokenOf({ id, until }: Lease, { connection, cas }: Version): string {
  return `${id.toString('hex')}~${until}~${connection}~${cas}`
}

function parse(token: string): {
  readonly id: Buffer
  readonly until: number
  readonly version: Version
} {
  const [, id = '', until, connection = '', cas = '0'] = FORM.exec(token) ?? []
  return { id: Buffer.from(id, 'hex'), until: Number(until ?? 0), version: { connection, cas: BigInt(cas) } }
}
