/** Corral over timers of its own, for tests about time: no test waits, and none fails on a busy machine. */
import { AsyncResource } from 'node:async_hooks'
import * as perfHooks from 'node:perf_hooks'
import * as nodeTimers from 'node:timers'
import { vi } from 'vitest'
import { turn } from './waiting.js'

interface VirtualTimer {
  at: number
  readonly every: number | undefined
  readonly work: () => void
  isRef: boolean
  ref(): VirtualTimer
  unref(): VirtualTimer
  hasRef(): boolean
}

interface VirtualTime {
  /** ms since the start. */
  now(): number
  /** Resolves in a later turn, after so many virtual ms. */
  pause(ms: number): Promise<void>
  /** Lets time pass. Each timer fires at its time, after everything that the former ones caused. */
  advance(ms: number): Promise<void>
  /** Lets time pass in which the process is busy: all timers fire late, one after another. */
  block(ms: number): void
  /** Forgets all timers: those of a test that is over. */
  reset(): void
  /** The timers that keep the process running. */
  refs(): number
  /** All timers. */
  timers(): number
}

/** Turns in which all that needs no timer comes to its end. */
const TURNS = 25

/** Loads Corral anew over virtual timers. Call `vi.resetModules` and `vi.doUnmock` of both modules afterwards. */
export async function inVirtualTime() {
  let now = 0
  const timers = new Set<VirtualTimer>()
  const start = (given: () => void, ms = 0, every?: number): VirtualTimer => {
    // As Node's timers do: a timer runs in the asynchronous context that set it.
    const work = AsyncResource.bind(given)
    const timer: VirtualTimer = {
      at: now + Math.max(ms, 1),
      every,
      work,
      isRef: true,
      ref() {
        timer.isRef = true
        return timer
      },
      unref() {
        timer.isRef = false
        return timer
      },
      hasRef: () => timer.isRef,
    }
    timers.add(timer)
    return timer
  }
  const stop = (timer?: VirtualTimer): void => void (timer && timers.delete(timer))
  const fire = (timer: VirtualTimer): void => {
    if (timer.every === undefined) timers.delete(timer)
    else timer.at = now + timer.every
    timer.work()
  }
  const due = (until: number): VirtualTimer | undefined =>
    [...timers].filter(({ at }) => at <= until).sort((one, other) => one.at - other.at)[0]
  const settle = async (): Promise<void> => {
    for (let i = 0; i < TURNS; i++) await turn()
  }
  vi.resetModules()
  const fakes = {
    setTimeout: (work: () => void, ms?: number) => start(work, ms),
    setInterval: (work: () => void, ms: number) => start(work, ms, ms),
    clearTimeout: stop,
    clearInterval: stop,
  }
  vi.doMock('node:timers', () => ({ ...nodeTimers, ...fakes }))
  vi.doMock('node:perf_hooks', () => ({ ...perfHooks, performance: { now: () => now, timeOrigin: 0 } }))
  const time: VirtualTime = {
    now: () => now,
    pause: (ms) => new Promise((resolve) => start(resolve, ms)),
    async advance(ms) {
      const until = now + ms
      for (;;) {
        await settle()
        const timer = due(until)
        if (timer === undefined) break
        now = Math.max(now, timer.at)
        fire(timer)
      }
      now = until
      await settle()
    },
    block(ms) {
      now += ms
      for (let timer = due(now); timer !== undefined; timer = due(now)) fire(timer)
    },
    reset: () => timers.clear(),
    timers: () => timers.size,
    refs: () => [...timers].filter(({ isRef }) => isRef).length,
  }
  // Alone: imports at the same time may get their modules before the mocks of these two are there.
  const corral = await import('../../src/index.js')
  const [{ memory }, { versioned }, { afterCommit }] = await Promise.all([
    import('../../backends/memory/index.js'),
    import('../../src/session/index.js'),
    import('../../src/signals/index.js'),
  ])
  return { time, corral, memory, versioned, afterCommit }
}

/** Ends `inVirtualTime`. */
export function inRealTime(): void {
  vi.doUnmock('node:timers')
  vi.doUnmock('node:perf_hooks')
  vi.resetModules()
}
