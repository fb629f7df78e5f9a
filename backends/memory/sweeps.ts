import type { Clock } from '../../src/base/clock.js'
import { clearInterval, setImmediate, setInterval } from '../../src/base/timers.js'
import type { Bounded } from './s3fifo.js'

/** As many expired entries are freed at once at most: a store full of them must not hold up the event loop. */
export const SWEEP_LIMIT = 128
/** The interval in ms at which the sweep looks for expired entries that are not read or written. */
const SWEEP_INTERVAL = 30_000

/** Sweeps that go on until the store is empty or stopped. */
export interface Sweeps {
  readonly running: boolean
  stop(): void
}

export const NO_SWEEPS: Sweeps = { running: false, stop() {} }

/**
 * Frees expired entries while no caller writes. The store is held weakly, so that one that was dropped without having
 * been closed goes at once, and not when its last entry expires.
 */
export function startSweeps(store: Pick<Bounded<unknown>, 'sweep' | 'size'>, clock: Clock): Sweeps {
  const held = new WeakRef(store)
  const sweeps = { running: true, stop }
  const timer = setInterval(sweep, SWEEP_INTERVAL)
  timer.unref()
  function sweep(): void {
    const left = held.deref()
    const freed = left?.sweep(clock.now(), SWEEP_LIMIT) ?? 0
    if (left === undefined || left.size === 0) stop()
    else if (freed > 0) setImmediate(sweep).unref()
  }
  function stop(): void {
    clearInterval(timer)
    sweeps.running = false
  }
  return sweeps
}
