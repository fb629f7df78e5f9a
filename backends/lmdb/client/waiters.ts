import { type FSWatcher, watch } from 'node:fs'
import { report } from '../../../src/base/diagnostics.js'

/** Wakes those who wait for another's lease. */
export interface Waiters {
  /** Resolves when `ends`, which is asked again whenever something may have changed, is not in the future (epoch ms). */
  wait(key: string, ends: () => number): Promise<void>
  /** A lease of this process ended: whoever waits for it here looks at once. */
  wake(key: string): void
  close(): void
}

interface Waiter {
  readonly key: string
  readonly ends: () => number
  until: number
  readonly settled: Promise<void>
  readonly resolve: () => void
}

/** A change is announced when its bytes are written, a moment before it can be read. */
const SETTLE_MS = 2
/** With the watch there is hardly anything to find; it is for what a file system does not tell. */
const CALM_POLL_MS = 250
/** Without the watch. */
const POLL_MS = 10
/** A watch is kept for the next waiter so long. */
const LINGER_MS = 1000

/**
 * Every commit writes to the data file, and the kernel tells whoever watches it: a wake-up that no notifier can die
 * before sending. Leases are then looked at, which costs a read each. Where nothing can be watched, a jittered poll.
 */
export function fileWaiters(file: string): Waiters {
  const waiters = new Map<string, Waiter>()
  let watcher: FSWatcher | undefined
  let watchable = true
  let closed = false
  let poll: NodeJS.Timeout | undefined
  let settle: NodeJS.Timeout | undefined
  let linger: NodeJS.Timeout | undefined
  let looking = false

  const leave = (waiter: Waiter) => {
    if (waiters.get(waiter.key) === waiter) waiters.delete(waiter.key)
    waiter.resolve()
    if (waiters.size === 0) rest()
  }
  const examine = (waiter: Waiter) => {
    try {
      waiter.until = closed ? 0 : waiter.ends()
      if (waiter.until <= Date.now()) leave(waiter)
    } catch (error) {
      // Whoever waited finds out for himself what is wrong.
      report('failure', () => ({ where: 'lmdb waiters', key: waiter.key, error }))
      leave(waiter)
    }
  }
  const look = () => {
    for (const waiter of [...waiters.values()]) examine(waiter)
  }
  const noticed = () => {
    if (waiters.size === 0 || looking) return
    looking = true
    setImmediate(() => {
      looking = false
      look()
    })
    settle ??= setTimeout(() => {
      settle = undefined
      look()
    }, SETTLE_MS)
  }
  const stopWatching = () => {
    watcher?.close()
    watcher = undefined
  }
  const startWatching = () => {
    clearTimeout(linger)
    linger = undefined
    if (watcher !== undefined || !watchable) return
    const unwatchable = (error: unknown) => {
      watchable = false
      stopWatching()
      report('notice', () => ({
        where: 'lmdb waiters',
        message: `${file} cannot be watched (${String(error)}); waiters of other processes poll every ${POLL_MS} ms or so`,
      }))
    }
    try {
      watcher = watch(file, { persistent: false }, noticed)
      watcher.on('error', unwatchable)
    } catch (error) {
      unwatchable(error)
    }
  }
  const keepPolling = () => {
    const pause = (watchable ? CALM_POLL_MS : POLL_MS) * (0.5 + Math.random())
    let next = pause
    for (const { until } of waiters.values()) next = Math.min(next, until - Date.now())
    poll = setTimeout(
      () => {
        look()
        if (waiters.size > 0) keepPolling()
      },
      Math.max(1, next),
    )
  }
  const rest = () => {
    clearTimeout(poll)
    clearTimeout(settle)
    poll = settle = undefined
    linger ??= setTimeout(stopWatching, LINGER_MS).unref()
  }

  return {
    wait(key, ends) {
      const present = waiters.get(key)
      if (present !== undefined) {
        examine(present)
        if (waiters.get(key) === present) return present.settled
      }
      let resolve!: () => void
      const settled = new Promise<void>((settle) => {
        resolve = settle
      })
      const waiter: Waiter = { key, ends, until: ends(), settled, resolve }
      const first = waiters.size === 0
      waiters.set(key, waiter)
      startWatching()
      if (first) {
        clearTimeout(poll)
        keepPolling()
      }
      // What ended between the answer and the watch is not announced any more.
      examine(waiter)
      return settled
    },
    wake(key) {
      const waiter = waiters.get(key)
      if (waiter !== undefined) leave(waiter)
    },
    close() {
      closed = true
      look()
      clearTimeout(linger)
      stopWatching()
      rest()
      clearTimeout(linger)
    },
  }
}
