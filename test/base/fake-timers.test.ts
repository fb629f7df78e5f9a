import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import * as nodeTimers from 'node:timers'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { coarseClock, preciseClock } from '../../src/base/clock.js'
import { makeRegion, NO_VALUE } from '../../src/index.js'
import { idle, until } from '../support/waiting.js'

const EVERYTHING = [
  'setTimeout',
  'clearTimeout',
  'setInterval',
  'clearInterval',
  'setImmediate',
  'clearImmediate',
  'queueMicrotask',
  'Date',
  'performance',
  'hrtime',
] as const

afterEach(() => {
  vi.useRealTimers()
  vi.doUnmock('node:timers')
  vi.resetModules()
})

describe('fake timers that a test installs after Corral was loaded', () => {
  it('do not stop the clocks, neither while they stand nor afterwards', async () => {
    vi.useFakeTimers({ toFake: [...EVERYTHING] })
    for (const clock of [coarseClock, preciseClock]) {
      const before = clock.now()
      await until(() => clock.now() > before)
    }
    vi.useRealTimers()
    const after = coarseClock.now()
    await until(() => coarseClock.now() > after)
  })

  it('do not keep an entry from expiring', async () => {
    vi.useFakeTimers({ toFake: [...EVERYTHING] })
    const region = makeRegion<string>({ backend: memory(), expirationTime: 1 })
    await region.set('key', 'value')
    await until(async () => (await region.get('key')) === NO_VALUE)
    await region.close()
  })

  it('do not move the clocks', async () => {
    vi.useFakeTimers({ toFake: [...EVERYTHING] })
    const before = coarseClock.now()
    vi.setSystemTime(before + 3_600_000)
    await vi.advanceTimersByTimeAsync(3_600_000)
    await idle(1)
    expect(coarseClock.now()).toBeLessThan(before + 3_600_000)
    expect(preciseClock.now()).toBeLessThan(before + 3_600_000)
  })

  it('do not end the wait for another creation, and do not prolong it', async () => {
    vi.useFakeTimers({ toFake: [...EVERYTHING] })
    const region = makeRegion<string>({ backend: memory() })
    const hanging = region.getOrCreate('key', () => new Promise<string>(() => {}))
    hanging.catch(() => {})
    await idle(1)
    const waiting = region.getOrCreate('key', () => 'mine', { hardTimeout: '1h' })
    await vi.advanceTimersByTimeAsync(7_200_000)
    expect(await Promise.race([waiting, idle(3).then(() => 'still waiting')])).toBe('still waiting')
    const impatient = region.getOrCreate('key', () => 'mine', { hardTimeout: 1 })
    await expect(impatient).rejects.toMatchObject({ code: 'ERR_CREATION_TIMEOUT' })
    waiting.catch(() => {})
  })
})

describe('fake timers that stand when Corral is loaded', () => {
  it('of a faked date: the clocks go on', async () => {
    vi.useFakeTimers({ toFake: [...EVERYTHING], now: 5 })
    vi.resetModules()
    const { coarseClock: coarse, preciseClock: precise } = await import('../../src/base/clock.js')
    for (const clock of [coarse, precise]) {
      const before = clock.now()
      expect(before).toBeGreaterThan(1_700_000_000_000)
      await until(() => clock.now() > before)
    }
  })

  it('of a faked setImmediate: the clock goes on, and a notice says so once', async () => {
    vi.resetModules()
    vi.doMock('node:timers', () => ({ ...nodeTimers, setImmediate: () => ({ unref() {} }) }))
    const { coarseClock: coarse } = await import('../../src/base/clock.js')
    const before = coarse.now()
    await until(() => coarse.now() > before)
    const { makeRegion: make, diagnostics } = await import('../../src/index.js')
    const messages: string[] = []
    const listen = ({ message }: { readonly message: string }) => void messages.push(message)
    diagnostics('notice').subscribe(listen as never)
    make({ backend: memory() })
    make({ backend: memory() })
    diagnostics('notice').unsubscribe(listen as never)
    expect(messages).toEqual([expect.stringMatching(/^Expected the timers of Node, got fake ones\./)])
  })
})

describe('the sources', () => {
  const FORBIDDEN =
    /(?<![\w.#])(?:globalThis\.)?(?:(?:set|clear)(?:Timeout|Interval|Immediate)|queueMicrotask)\(|Date\.now\(\)|process\.(?:nextTick|hrtime)|(?<!\w)performance\.now\(/
  const FROM = /from '[./\w]*base\/timers\.js'|from '\.\/timers\.js'/

  it('take every timer and every time from base/timers.ts', () => {
    const root = join(import.meta.dirname, '../..')
    const wrong: string[] = []
    for (const room of ['src', 'backends', 'proxies'])
      for (const file of readdirSync(join(root, room), { recursive: true, encoding: 'utf8' })) {
        if (!file.endsWith('.ts') || file === join('base', 'timers.ts')) continue
        const text = readFileSync(join(root, room, file), 'utf8')
        const code = text.replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, '')
        if (/node:timers|node:perf_hooks|Date\.now|process\.(?:nextTick|hrtime)/.test(code)) wrong.push(file)
        else if (FORBIDDEN.test(code) && !FROM.test(code)) wrong.push(file)
      }
    expect(wrong).toEqual([])
  })
})
