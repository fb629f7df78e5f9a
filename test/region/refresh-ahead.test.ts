import { AsyncLocalStorage } from 'node:async_hooks'
import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { currentScope } from '../../src/creation/scope.js'
import { currentTransaction } from '../../src/creation/transaction.js'
import { isDue } from '../../src/freshness/freshness.js'
import {
  type Backend,
  type CachedValue,
  delegate,
  diagnostics,
  inBackground,
  makeRegion,
  type RegionOptions,
  registerBackend,
  wrap,
} from '../../src/index.js'
import { afterCommit } from '../../src/signals/index.js'
import { held, inEveryRegion, type ManualClock, manualClock, open as openMemory } from '../support/stage.js'
import { idle, until } from '../support/waiting.js'

inEveryRegion('refreshAhead', (open) => {
  /** A region whose value of 'key' has so much of its life behind it. */
  const aged = async (age: number, options: RegionOptions = {}) => {
    const stage = open<string>({ expirationTime: 1_000, refreshAhead: 0.8, ...options })
    await stage.region.set('key', 'old')
    stage.clock.tick(age)
    return stage
  }

  it('renews a value behind the back of a caller that finds it near its end', async () => {
    const { region, clock } = await aged(799)
    expect(await region.getOrCreate('key', () => expect.unreachable())).toBe('old')
    await idle()
    clock.tick(1)
    const creator = held<string>()
    expect(await region.getOrCreate('key', creator.create)).toBe('old')
    await creator.started
    expect(await region.getOrCreate('key', () => expect.unreachable())).toBe('old')
    creator.resolve('new')
    await until(async () => (await region.get('key')) === 'new')
    clock.tick(799)
    expect(await region.getOrCreate('key', () => expect.unreachable())).toBe('new')
  })

  it('tries again if the clock was ahead at the attempt that failed', async () => {
    const life = { expirationTime: 1_000_000, refreshAhead: 0.5, retryAfter: 0 }
    const { region, clock } = await aged(990_000, life)
    let runs = 0
    const failing = () => {
      runs++
      throw new Error('the source is away')
    }
    const attempt = async () => {
      expect(await region.getOrCreate('key', failing)).toBe('old')
      await idle()
      return runs
    }
    expect([await attempt(), await attempt()]).toEqual([1, 1])
    clock.tick(-300_000)
    expect([await attempt(), await attempt()]).toEqual([2, 2])
  })

  it('renews the values of many keys, in one creation', async () => {
    const { region } = await aged(900)
    await region.set('fresh', 'fresh')
    await region.set('other', 'old')
    const seen: (readonly string[])[] = []
    const create = (keys: readonly string[]) => {
      seen.push(keys)
      return keys.map(() => 'new')
    }
    expect(await region.getOrCreateMulti(['fresh', 'key'], create)).toEqual(['fresh', 'old'])
    await until(async () => (await region.get('key')) === 'new')
    expect(seen).toEqual([['key']])
  })

  it('renews once for a thousand hits', async () => {
    const { region } = await aged(900)
    let runs = 0
    const create = async () => {
      await idle(3)
      return `new ${++runs}`
    }
    const all = await Promise.all(Array.from({ length: 1_000 }, () => region.getOrCreate('key', create)))
    expect(new Set(all)).toEqual(new Set(['old']))
    await until(async () => (await region.get('key')) === 'new 1')
    expect(runs).toBe(1)
  })

  it('tries again after retryAfter if the creation failed, and leaves the value', async () => {
    const { region, clock } = await aged(800, { retryAfter: 50 })
    let runs = 0
    const read = async () => {
      const value = await region.getOrCreate('key', () => {
        runs++
        return Promise.reject(new Error('away'))
      })
      await idle()
      return value
    }
    for (let i = 0; i < 5; i++) expect(await read()).toBe('old')
    expect(runs).toBe(1)
    clock.tick(50)
    // A lease of this process ends by the process's own time.
    await until(async () => {
      clock.tick(1)
      expect(await read()).toBe('old')
      return runs === 2
    })
  })

  it('stores nothing that was invalidated meanwhile', async () => {
    for (const how of ['delete', 'invalidate', 'set'] as const) {
      const { region } = await aged(900)
      const creator = held<string>()
      await region.getOrCreate('key', creator.create)
      await creator.started
      if (how === 'delete') await region.delete('key')
      else if (how === 'set') await region.set('key', 'set')
      else await region.invalidate()
      creator.resolve('void')
      await idle()
      expect(await region.getOrCreate('key', () => 'new')).toBe(how === 'set' ? 'set' : 'new')
    }
  })
})

describe('refreshAhead', () => {
  const aged = async (options: RegionOptions = {}, clock?: ManualClock) => {
    const stage = openMemory<string>({ expirationTime: 1_000, refreshAhead: 0.5, ...options })
    await stage.region.set('key', 'old')
    ;(clock ?? stage.clock).tick(600)
    return stage
  }

  it('never delays its hit: the creator runs in a later turn', async () => {
    const { region } = await aged()
    let ran = false
    const read = region.getOrCreate('key', () => {
      ran = true
      return 'new'
    })
    await read
    for (let i = 0; i < 50; i++) await Promise.resolve()
    expect(ran).toBe(false)
    await until(() => ran)
  })

  it('is a job of the runner', async () => {
    const runner = inBackground()
    const { region } = await aged({ asyncCreationRunner: runner })
    expect(await region.getOrCreate('key', () => 'new')).toBe('old')
    await idle(2)
    await runner.drain()
    expect(await region.get('key')).toBe('new')
  })

  it('runs outside of the creation and the transaction of its caller, and not for one inside of a transaction', async () => {
    const { region } = await aged()
    const outer = makeRegion<string>({ backend: memory() })
    const seen: unknown[] = []
    const create = () => {
      seen.push(currentTransaction(), currentScope()?.parent)
      return 'new'
    }
    await afterCommit(async () => region.getOrCreate('key', create))
    await idle()
    expect(seen).toEqual([])
    await outer.getOrCreate('outer', () => region.getOrCreate('key', create))
    await until(async () => (await region.get('key')) === 'new')
    expect(seen).toEqual([undefined, undefined])
  })

  it('sees the values that its caller has in an AsyncLocalStorage, as every job does', async () => {
    const tenant = new AsyncLocalStorage<string>()
    const { region } = await aged()
    const create = () => `of ${tenant.getStore()}`
    await tenant.run('a', () => region.getOrCreate('key', create))
    await until(async () => (await region.get('key')) === 'of a')
  })

  it('is awaited by close(), which calls it off', async () => {
    const { region } = await aged()
    let runs = 0
    await region.getOrCreate('key', () => `${++runs}`)
    await region.close()
    await idle()
    expect(runs).toBe(0)
  })

  it('of a function counts for its hits', async () => {
    const { region, clock } = openMemory<number>({ expirationTime: 1_000 })
    let runs = 0
    const load = region.cacheOnArguments(async () => ++runs, { namespace: 'load', refreshAhead: 0.5 })
    await load()
    clock.tick(500)
    expect(await load()).toBe(1)
    await until(() => runs === 2)
    const never = region.cacheOnArguments(async () => ++runs, { namespace: 'never' })
    const at = await never()
    clock.tick(999)
    expect(await never()).toBe(at)
    await idle()
    expect(runs).toBe(at)
  })

  it('xfetch renews the earlier, the longer a creation took, and hardly ever a young value', () => {
    const life = 60_000
    const part = (took: number, age: number) => {
      let due = 0
      for (let i = 0; i < 1_000; i++) {
        const random = () => (i + 0.5) / 1_000
        if (isDue({ startedAt: -took, createdAt: 0 }, life, 'xfetch', age, random)) due++
      }
      return due / 1_000
    }
    expect(part(100, 30_000)).toBe(0)
    expect(part(5_000, 55_000)).toBeCloseTo(Math.exp(-1), 2)
    expect(part(1_000, 55_000)).toBeCloseTo(Math.exp(-5), 2)
    expect(part(1_000, 60_000)).toBe(1)
    expect(isDue({ startedAt: 0, createdAt: 0 }, Number.POSITIVE_INFINITY, 'xfetch', 1e9)).toBe(false)
  })

  it('xfetch renews a value before its end', async () => {
    const { region, clock } = openMemory<number>({ expirationTime: 60_000, refreshAhead: 'xfetch' })
    let runs = 0
    const read = () => region.getOrCreate('key', () => ++runs)
    await read()
    for (let i = 0; i < 100 && runs === 1; i++) {
      clock.tick(i < 59 ? 1_000 : 100)
      await read()
      await idle(3)
    }
    expect(runs).toBe(2)
  })

  /** A region whose requests for leases go through a function. */
  const asking = (acquire: (next: Backend<CachedValue>) => Backend<CachedValue>['acquire']) => {
    const clock = manualClock()
    const layer = (next: Backend<CachedValue>) => delegate(next, { acquire: acquire(next) })
    return aged({ backend: wrap(memory({ clock }), layer), clock }, clock)
  }

  it('asks for the lease once, however many hits there are until it ends', async () => {
    let asked = 0
    const { region } = await asking((next) => (key, ms, options) => {
      asked++
      return next.acquire(key, ms, options)
    })
    const creator = held<string>()
    for (let i = 0; i < 10; i++) {
      await region.getOrCreate('key', creator.create)
      await idle(3)
    }
    expect(asked).toBe(1)
    creator.resolve('new')
  })

  it('costs its hit nothing where the store fails, which is told', async () => {
    const seen: unknown[] = []
    const record = (message: unknown) => void seen.push(message)
    diagnostics('failure').subscribe(record)
    const { region } = await asking(() => () => Promise.reject(new Error('down')))
    expect(await region.getOrCreate('key', () => 'new')).toBe('old')
    await idle()
    diagnostics('failure').unsubscribe(record)
    expect(seen).toEqual([expect.objectContaining({ where: 'acquire', key: 'key' })])
  })

  it.each([0, 1, -0.1, Number.NaN, 'always', true] as never[])('%s is refused', (refreshAhead) => {
    expect(() => makeRegion({ refreshAhead })).toThrow("between 0 and 1, or 'xfetch'")
  })

  it('is a flat setting', () => {
    registerBackend('memory', () => memory())
    const configured = (value: string | number) => () =>
      makeRegion().configureFromConfig({ backend: 'memory', refresh_ahead: value }, '')
    for (const value of ['0.8', 0.8, 'xfetch']) expect(configured(value)).not.toThrow()
    for (const value of ['1', 'often', '']) expect(configured(value)).toThrow('refresh')
  })
})
