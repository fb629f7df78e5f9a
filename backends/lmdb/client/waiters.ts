import { type FSWatcher, watch } from 'node:fs'
import { leaseWaiters } from '../../../src/backend/lease-waiters.js'
import { report } from '../../../src/base/diagnostics.js'
import { clearTimeout, epochNow, setTimeout } from '../../../src/base/timers.js'

export interface FileWaiters {
  /** `settled` resolves when the lease is over. `end` returns the time (epoch ms) to which it stands now, 0 if it is over. */
  wait(key: string, end: () => number): { readonly settled: Promise<void>; leave(): void }
  /** A lease is over in this process: its waiters need not read. */
  wake(key: string): void
  close(): void
}

/** ms. Almost every end is reported by the watch; this is for a file system that loses a report. */
const CHECK_EVERY = 250
/** ms, without the watch. */
const POLL = { from: 5, to: 15, growth: 3 }

/**
 * Every commit writes to the data file, and the kernel notifies each process that watches it: no notifier can die before
 * it sends. The leases are read then, at a microsecond each. Where nothing can be watched, they are polled.
 */
export function fileWaiters(file: string): FileWaiters {
  const waiters = leaseWaiters({
    store: 'lmdb',
    poll: POLL,
    push: { isLive: () => watched.isLive(), checkEvery: CHECK_EVERY },
  })
  const watched = fileWatch(file, () => waiters.recheck())
  return {
    wait(key, end) {
      const remaining = () => end() - epochNow()
      const known = remaining()
      watched.retain()
      const waiter = waiters.join(key)
      // A commit between the caller's read and the watch is not reported any more.
      waiters.recheck(key)
      const settled = waiter.untilOver(known, remaining).finally(watched.release)
      return { settled, leave: waiter.leave }
    },
    wake: (key) => waiters.wake(key),
    close() {
      waiters.close()
      watched.close()
    },
  }
}

/** ms. A change is reported when its bytes are written, a moment before it can be read. */
const READABLE_AFTER = 2
/** ms for which the watch is kept for the next waiter. */
const LINGER = 1000

/** Reports changes of a file while the watch is retained. */
function fileWatch(file: string, onChange: () => void) {
  let watcher: FSWatcher | undefined
  let watchable = true
  let retained = 0
  let now: NodeJS.Immediate | undefined
  let soon: NodeJS.Timeout | undefined
  let linger: NodeJS.Timeout | undefined

  const changed = () => {
    if (retained === 0) return
    // A busy file reports many changes in a turn, and each check reads a lease for every waiter.
    now ??= setImmediate(() => {
      now = undefined
      onChange()
    })
    soon ??= setTimeout(() => {
      soon = undefined
      onChange()
    }, READABLE_AFTER)
  }
  const stop = () => {
    watcher?.close()
    watcher = undefined
  }
  const failed = (error: unknown) => {
    watchable = false
    stop()
    report('notice', () => ({
      where: 'lmdb waiters',
      message: `${file} cannot be watched (${String(error)}); waiters of other processes poll every ${POLL.to} ms or so`,
    }))
    onChange()
  }
  return {
    isLive: () => watcher !== undefined,
    retain() {
      retained++
      clearTimeout(linger)
      if (watcher !== undefined || !watchable) return
      try {
        watcher = watch(file, { persistent: false }, changed)
        watcher.on('error', failed)
      } catch (error) {
        failed(error)
      }
    },
    release() {
      if (--retained === 0) linger = setTimeout(stop, LINGER).unref()
    },
    close() {
      watchable = false
      clearTimeout(linger)
      clearTimeout(soon)
      clearImmediate(now)
      stop()
    },
  }
}
