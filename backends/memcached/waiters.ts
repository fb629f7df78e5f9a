import type { StoredLease as Lease } from './format.js'

/** The shortest and the longest pause between two looks, in ms. */
const SHORTEST = 3
const LONGEST = 50

export interface Waiters {
  /** Resolves when the lease is gone, filled, or its time is up. All callers of this process share the looking. */
  watch(key: string, lease: Lease): Promise<void>
  /** Called by whoever ends a lease in this process: its waiters need not look. */
  wake(key: string): void
  close(): void
}

interface Watch {
  readonly id: Buffer
  readonly settled: Promise<void>
  readonly settle: () => void
}

/**
 * memcached pushes nothing, so other processes' leases are looked at again and again: in pauses that are random, grow
 * from the one before (so that processes which began together drift apart), and never outlast the lease.
 */
export function waitersOf(look: (key: string) => Promise<Lease | undefined>): Waiters {
  const watches = new Map<string, Watch>()

  const start = (key: string, { id, until }: Lease): Watch => {
    let settle!: () => void
    let pending: NodeJS.Timeout | undefined
    let over = false
    const settled = new Promise<void>((resolve) => {
      settle = () => {
        over = true
        clearTimeout(pending)
        if (watches.get(key) === watch) watches.delete(key)
        resolve()
      }
    })
    const watch: Watch = { id, settled, settle }
    let end = until
    let pause = SHORTEST
    const next = () => {
      const left = end - Date.now()
      if (left <= 0) return settle()
      pause = Math.min(LONGEST, SHORTEST + Math.random() * (pause * 2 - SHORTEST))
      // A timer may fire a moment before its time: the lease's end is looked at again, never assumed.
      pending = setTimeout(left <= pause ? next : lookAgain, Math.ceil(Math.min(left, pause)))
    }
    const lookAgain = () => {
      // A look that takes too long must not outlast the lease either.
      pending = setTimeout(next, Math.min(Math.ceil(end - Date.now()), 2 ** 31 - 1))
      const found = (lease: Lease | undefined) => {
        if (over) return
        clearTimeout(pending)
        if (lease === undefined || !lease.id.equals(id)) return settle()
        end = lease.until
        next()
      }
      // While the store is in trouble the lease may as well stand.
      look(key).then(found, () => found({ id, until: end }))
    }
    next()
    return watch
  }

  return {
    watch(key, lease) {
      const current = watches.get(key)
      if (current?.id.equals(lease.id)) return current.settled
      current?.settle()
      const watch = start(key, lease)
      // A lease that is over already has settled its watch before it could be listed.
      if (Date.now() < lease.until) watches.set(key, watch)
      return watch.settled
    },
    wake: (key) => watches.get(key)?.settle(),
    close() {
      for (const watch of [...watches.values()]) watch.settle()
    },
  }
}
