import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { memory } from '../../../backends/memory/index.js'
import type { Backend, Bytes } from '../../../src/index.js'
import { turn } from '../../support/waiting.js'

vi.mock(import('../../../src/base/timers.js'), async (original) => {
  const { globalTimers } = await import('../../support/global-timers.js')
  return globalTimers(await original())
})

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

/** Writes values that nothing else refers to, and tells how many are still held. */
async function filled(store: Backend<Bytes>, count: number, ttl?: number): Promise<() => Promise<number>> {
  const written: WeakRef<object>[] = []
  for (let i = 0; i < count; i++) {
    const value = Buffer.alloc(8)
    written.push(new WeakRef(value))
    await store.set(`${ttl} ${i}`, value, ttl === undefined ? {} : { ttl })
  }
  return async () => {
    // A weak reference that was read or made stays strong until the job is over.
    await turn()
    collectGarbage()
    return written.filter((one) => one.deref() !== undefined).length
  }
}

describe('an entry that no caller asks the memory backend for any more', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  it('leaves when it has expired, with all of its records, also without a write', async () => {
    let now = 0
    const store = memory({ stores: 'bytes', clock: { now: () => now } })
    const timed = await filled(store, 1_000, 5_000)
    const untimed = await filled(store, 10)
    expect(await timed()).toBe(1_000)
    now = 5_000
    vi.advanceTimersByTime(30_000)
    await vi.waitFor(async () => expect(await timed()).toBe(0), { timeout: 20_000 })
    expect(await untimed()).toBe(10)
    await store.close()
  })

  it('is looked for only while there is something, and not after the store was closed', async () => {
    let now = 0
    const store = memory({ stores: 'bytes', clock: { now: () => now } })
    await filled(store, 1)
    expect(vi.getTimerCount()).toBe(0)
    await store.delete('undefined 0')
    await filled(store, 1, 5_000)
    expect(vi.getTimerCount()).toBe(1)
    now = 5_000
    vi.advanceTimersByTime(30_000)
    expect(vi.getTimerCount()).toBe(0)
    await filled(store, 1, 5_000)
    expect(vi.getTimerCount()).toBe(1)
    await store.close()
    expect(vi.getTimerCount()).toBe(0)
  })

  it('goes with a store that was dropped without having been closed, and so do its sweeps', async () => {
    const held = await (async () => filled(memory({ stores: 'bytes' }), 100, 3_600_000))()
    expect(vi.getTimerCount()).toBe(1)
    expect(await held()).toBe(0)
    vi.advanceTimersByTime(30_000)
    expect(vi.getTimerCount()).toBe(0)
  })
})
