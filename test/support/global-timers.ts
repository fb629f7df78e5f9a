import type * as timers from '../../src/base/timers.js'

/**
 * Lets fake timers reach the library, which otherwise takes its timers from Node when it is loaded:
 * `vi.mock(import('../../src/base/timers.js'), async (original) => globalTimers(await original()))`.
 */
export function globalTimers(original: typeof timers): typeof timers {
  const setTimeout: typeof timers.setTimeout = (work, ms) => globalThis.setTimeout(work, ms)
  return {
    ...original,
    setTimeout,
    setInterval: (work, ms) => globalThis.setInterval(work, ms),
    clearTimeout: (timer) => globalThis.clearTimeout(timer),
    clearInterval: (timer) => globalThis.clearInterval(timer),
    performance: { now: () => globalThis.performance.now() },
    epochNow: () => Date.now(),
    delay: (ms) => new Promise((resolve) => void setTimeout(resolve, ms)),
  }
}
