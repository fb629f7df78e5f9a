import { afterEach, describe, expect, it, vi } from 'vitest'
import { delay, MAX_DELAY, withTimeout } from '../../src/base/timers.js'
import { blockFor, deferred } from '../support/waiting.js'

const never = new Promise<never>(() => {})
const late = () => new Error('late')

afterEach(() => void vi.useRealTimers())

describe('a timeout', () => {
  it('rejects once the time is over, and ignores the later outcome', async () => {
    await expect(withTimeout(never, 1, late)).rejects.toThrow('late')
    const failing = delay(5).then(() => Promise.reject(new Error('later')))
    await expect(withTimeout(failing, 1, late)).rejects.toThrow('late')
    await failing.catch(() => {})
  })

  it('passes the outcome of work that is in time', async () => {
    await expect(withTimeout(Promise.resolve(1), 1_000, late)).resolves.toBe(1)
    await expect(withTimeout(Promise.reject(new Error('mine')), 1_000, late)).rejects.toThrow('mine')
  })

  it('is none beyond the longest delay of a timer', async () => {
    expect(withTimeout(never, MAX_DELAY + 1, late)).toBe(never)
    expect(withTimeout(never, Number.POSITIVE_INFINITY, late)).toBe(never)
  })

  it('does not count the time for which the process was busy, but for a part', async () => {
    const { promise, resolve } = deferred<string>()
    const outcome = withTimeout(promise, 2_000, late)
    blockFor(3_000)
    void delay(100).then(() => resolve('in time'))
    expect(await outcome).toBe('in time')
  })

  it('does not keep the process running after the work', async () => {
    const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length
    const before = timers()
    await withTimeout(Promise.resolve(), 60_000, late)
    await withTimeout(Promise.reject(new Error('mine')), 60_000, late).catch(() => {})
    expect(timers()).toBe(before)
  })

  it('runs on real time under fake timers', async () => {
    vi.useFakeTimers()
    await expect(withTimeout(never, 1, late)).rejects.toThrow('late')
    await delay(1)
    expect(vi.getTimerCount()).toBe(0)
  })
})

describe('a delay', () => {
  it('ends after its time', async () => {
    const start = performance.now()
    await delay(20)
    expect(performance.now() - start).toBeGreaterThan(18)
  })

  it('beyond the longest one of a timer does not end at once', async () => {
    const endless = delay(Number.POSITIVE_INFINITY, { ref: false }).then(() => 'over')
    expect(await Promise.race([endless, delay(5).then(() => 'waiting')])).toBe('waiting')
  })
})
