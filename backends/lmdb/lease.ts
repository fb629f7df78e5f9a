import { randomUUID } from 'node:crypto'
import type { LeaseOperations } from '../../src/backend/lease.js'
import type { Look, Seen, Store } from './client/store.js'
import type { Waiters } from './client/waiters.js'
import { newVersion, TAG, taggedKey } from './format.js'

/** A lease as the file has it; `seen` alone, if there is none that lives. */
export interface HeldLease {
  readonly seen: Seen
  readonly token?: string
  readonly expiresAt: number
}

const TOKEN_AT = 16

export function leaseKey(key: string): Buffer {
  return taggedKey(TAG.lease, key)
}

/** Reads the lease of a key within a snapshot; an expired one counts as none. */
export function readLease(
  look: (key: Buffer, found?: Look) => Seen,
  key: string,
  now = Date.now(),
): HeldLease {
  let token: string | undefined
  let expiresAt = 0
  const seen = look(leaseKey(key), (bytes, size) => {
    expiresAt = bytes.readDoubleLE(8)
    if (expiresAt > now) token = bytes.toString('latin1', TOKEN_AT, size)
  })
  return token === undefined ? { seen, expiresAt } : { seen, token, expiresAt }
}

/** When a lease record expires. */
export function leaseExpiry(bytes: Buffer): number {
  return bytes.readDoubleLE(8)
}

function record(token: string, expiresAt: number): Buffer {
  const bytes = Buffer.allocUnsafe(TOKEN_AT + token.length)
  bytes.writeDoubleLE(newVersion(), 0)
  bytes.writeDoubleLE(expiresAt, 8)
  bytes.write(token, TOKEN_AT, 'latin1')
  return bytes
}

/** Leases in the file: taken, extended and given back only if nobody else has touched them meanwhile. */
export function fileLeases(store: Store, waiters: Waiters): LeaseOperations {
  const current = (key: string) => store.snapshot((look) => readLease(look, key))

  return {
    async acquire(key, ms, { steal = false } = {}) {
      const busy = ({ token, expiresAt }: HeldLease) => ({
        remaining: Math.max(0, expiresAt - Date.now()),
        settled: waiters.wait(key, () => {
          const now = current(key)
          return now.token === token ? now.expiresAt : 0
        }),
      })
      const holder = current(key)
      if (holder.token !== undefined && !steal) return busy(holder)
      return store.inTurn(key, async (attempt) => {
        for (;;) {
          attempt()
          const found = current(key)
          if (found.token !== undefined && !steal) return busy(found)
          const token = randomUUID()
          if (!(await store.commit([found.seen], [[found.seen.key, record(token, Date.now() + ms)]])))
            continue
          if (found.token !== undefined) waiters.wake(key)
          return { token }
        }
      })
    },
    renew: (key, token, ms) =>
      store.inTurn(key, async (attempt) => {
        for (;;) {
          attempt()
          const found = current(key)
          if (found.token !== token) return false
          if (await store.commit([found.seen], [[found.seen.key, record(token, Date.now() + ms)]]))
            return true
        }
      }),
    release: (key, token) =>
      store.inTurn(key, async (attempt) => {
        for (;;) {
          attempt()
          const found = current(key)
          if (found.token !== token) return false
          if (!(await store.commit([found.seen], [[found.seen.key]]))) continue
          waiters.wake(key)
          return true
        }
      }),
    held: (key) => current(key).token !== undefined,
  }
}
