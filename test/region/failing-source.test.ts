import { AsyncLocalStorage } from 'node:async_hooks'
import { afterEach, describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import {
  type CachedValue,
  defineBackend,
  diagnostics,
  type Ledger,
  localInvalidation,
  type Messages,
  makeRegion,
  NO_VALUE,
  type Region,
  type RegionOptions,
  wrap,
} from '../../src/index.js'
import { afterCommit } from '../../src/signals/index.js'
import { held, inEveryRegion, type ManualClock, manualClock, open as openMemory } from '../support/stage.js'
import { threeMethods } from '../support/three-methods.js'
import { gate, idle } from '../support/waiting.js'

const AWAY = new Error('the source is away')

/** A source that fails until it is repaired. */
function source(value = 'new') {
  const state = { runs: 0, fails: true }
  const create = async (): Promise<string> => {
    state.runs++
    if (state.fails) throw AWAY
    return value
  }
  return { state, create }
}

const seen: Messages['failure'][] = []
const record = (message: unknown) => seen.push(message as Messages['failure'])
afterEach(() => {
  diagnostics('failure').unsubscribe(record)
  seen.length = 0
})

inEveryRegion('a source that fails', (open) => {
  /** A region with a value that expired a moment ago. */
  const expired = async (options: RegionOptions = {}) => {
    const stage = open<string>({ expirationTime: 1_000, ...options })
    await stage.region.set('key', 'old')
    stage.clock.tick(1_001)
    return stage
  }

  it('leaves every caller the stale value, and is tried once', async () => {
    const { region } = await expired()
    const { state, create } = source()
    const read = () => region.getOrCreate('key', create)
    expect(await Promise.all([read(), read(), read()])).toEqual(['old', 'old', 'old'])
    for (let i = 0; i < 20; i++) expect(await read()).toBe('old')
    expect(state.runs).toBe(1)
  })

  it('leaves many keys their stale values, and rejects a caller of one that has none', async () => {
    const { region } = await expired()
    const { state, create } = source()
    expect(await region.getOrCreateMulti(['key'], create as never)).toEqual(['old'])
    expect(await region.getOrCreateMulti(['key'], create as never)).toEqual(['old'])
    expect(state.runs).toBe(1)
    await expect(region.getOrCreateMulti(['key', 'none'], create as never)).rejects.toBe(AWAY)
    expect(await region.getOrCreate('key', create)).toBe('old')
  })

  it('rejects those that wait if nothing stands, and the next caller tries', async () => {
    const { region } = open<string>()
    const { state, create } = source()
    const read = () => region.getOrCreate('key', create)
    expect((await Promise.allSettled([read(), read()])).map((one) => Reflect.get(one, 'reason'))).toEqual([
      AWAY,
      AWAY,
    ])
    await expect(read()).rejects.toBe(AWAY)
    expect(state.runs).toBe(2)
    expect(await region.keyIsLocked('key')).toBe(false)
  })

  it.each(['delete', 'deleteMulti', 'invalidate'] as const)(
    'revives nothing that %s() reached while the creator ran',
    async (how) => {
      const { region } = await expired()
      const creator = held<string>()
      const read = region.getOrCreate('key', creator.create)
      const other = region.getOrCreate('key', creator.create)
      await creator.started
      await (how === 'invalidate'
        ? region.invalidate()
        : how === 'delete'
          ? region.delete('key')
          : region.deleteMulti(['key']))
      creator.reject(AWAY)
      await expect(read).rejects.toBe(AWAY)
      expect(await other).toBe('old')
      expect(await region.get('key', { ignoreExpiration: true })).toBe(NO_VALUE)
      await expect(region.getOrCreate('key', () => Promise.reject(AWAY))).rejects.toBe(AWAY)
    },
  )

  it.each(['expire', 'invalidate'] as const)('leaves what %s() marked softly meanwhile', async (how) => {
    const { region } = await expired()
    const creator = held<string>()
    const read = region.getOrCreate('key', creator.create)
    await creator.started
    await (how === 'expire' ? region.expire('key') : region.invalidate('soft'))
    creator.reject(AWAY)
    expect(await read).toBe('old')
  })

  it.each(['expire', 'invalidate softly', 'delete', 'set and expire'])(
    'is tried at once after %s',
    async (how) => {
      const { region, clock } = await expired({ retryAfter: '1h', grace: '1d' })
      const { state, create } = source()
      const read = () => region.getOrCreate('key', create)
      for (let i = 0; i < 3; i++) await read()
      expect(state.runs).toBe(1)
      state.fails = false
      if (how === 'expire') await region.expire('key')
      else if (how === 'delete') await region.delete('key')
      else if (how === 'set and expire') {
        await region.set('key', 'set')
        clock.tick(1_001)
      } else await region.invalidate('soft')
      expect(await read()).toBe('new')
      expect(state.runs).toBe(2)
    },
  )

  it.each([{}, { grace: 0 }])(
    'gets the value that another caller set meanwhile, with %j',
    async (options) => {
      const { region } = await expired()
      const creator = held<string>()
      const read = region.getOrCreate('key', creator.create, options)
      await creator.started
      await region.set('key', 'set')
      creator.reject(AWAY)
      expect(await read).toBe('set')
    },
  )

  it('rejects a refresh, which retryAfter does not hold back', async () => {
    const { region } = await expired()
    const { state, create } = source()
    const load = region.cacheOnArguments(create, { namespace: 'load' })
    await load.set('old')
    await load.invalidate.soft()
    expect(await load()).toBe('old')
    await expect(load.refresh()).rejects.toBe(AWAY)
    await expect(load.refresh()).rejects.toBe(AWAY)
    expect(await load()).toBe('old')
    expect(state.runs).toBe(3)
    state.fails = false
    expect(await load.refresh()).toBe('new')
  })

  it('is one question to the serveStaleIf of each call', async () => {
    const asked: unknown[] = []
    const serveStaleIf = (error: unknown) => asked.push(error) > 0
    const breaker = { failures: 100, cooldown: '1m' } as const
    const { region, clock } = await expired({ serveStaleIf, breaker, retryAfter: 0 })
    const { create } = source()
    expect(await region.getOrCreate('key', create)).toBe('old')
    expect(asked).toEqual([AWAY])
    clock.tick(1)
    expect(await region.getOrCreateMulti(['key'], create as never)).toEqual(['old'])
    expect(asked).toEqual([AWAY, AWAY])
  })

  it.each([undefined, null, 0, ''])('is not hidden where serveStaleIf answers %s', async (answer) => {
    const { region } = await expired({ serveStaleIf: () => answer as never })
    await expect(region.getOrCreate('key', source().create)).rejects.toBe(AWAY)
  })

  it('is not hidden where serveStaleIf says that the failure is an answer', async () => {
    const { region } = await expired({ serveStaleIf: (error) => (error as Error).message !== 'not found' })
    const gone = new Error('not found')
    const read = (error: Error) => region.getOrCreate('key', () => Promise.reject(error))
    await expect(read(gone)).rejects.toBe(gone)
    await expect(read(gone)).rejects.toBe(gone)
    expect(await read(AWAY)).toBe('old')
  })

  it.each([true, false])(
    'is answered as each caller says that waits for it, in its own context: the first says %s',
    async (first) => {
      const { region, clock } = open<string>({ expirationTime: 1_000 })
      const requests = new AsyncLocalStorage<string>()
      const asked = new Set<string>()
      const creator = held<string>()
      const read = (request: string, serves: boolean) => {
        const serveStaleIf = () => {
          asked.add(requests.getStore() ?? 'none')
          return serves
        }
        return requests.run(request, () => region.getOrCreate('key', creator.create, { serveStaleIf }))
      }
      const calls = [read('leads', first), read('serves', true), read('tells', false)]
      await creator.started
      await idle()
      await region.set('key', 'old')
      clock.tick(1_001)
      creator.reject(AWAY)
      const old = { value: 'old' }
      const ends = await Promise.allSettled(calls)
      expect(ends).toMatchObject([first ? old : { reason: AWAY }, old, { reason: AWAY }])
      expect([...asked].sort()).toEqual(['leads', 'serves', 'tells'])
    },
  )

  it('is remembered for errorExpirationTime if nothing stands', async () => {
    const { region, clock } = open<string>({ errorExpirationTime: 1_000 })
    const { state, create } = source()
    const read = () => region.getOrCreate('key', create)
    for (let i = 0; i < 3; i++) await expect(read()).rejects.toBe(AWAY)
    await expect(region.getOrCreateMulti(['other', 'key'], create as never)).rejects.toBe(AWAY)
    expect(state.runs).toBe(1)
    expect(await region.getOrCreate('other', () => 'another')).toBe('another')
    clock.tick(1_000)
    await expect(read()).rejects.toBe(AWAY)
    expect(state.runs).toBe(2)
    // The clock was ahead, and is set back.
    clock.tick(-3_600_000)
    await expect(read()).rejects.toBe(AWAY)
    expect(state.runs).toBe(3)
  })

  it.each(['delete', 'expire', 'set', 'setMulti', 'invalidate', 'refresh'])(
    'is forgotten by %s',
    async (how) => {
      const { region } = open<string>({ errorExpirationTime: '1h' })
      const { state, create } = source()
      const load = region.cacheOnArguments(create, { namespace: 'load' })
      await expect(load()).rejects.toBe(AWAY)
      state.fails = false
      const key = load.key()
      if (how === 'delete') await region.delete(key)
      else if (how === 'expire') await region.expire(key)
      else if (how === 'set') await region.set(key, 'new')
      else if (how === 'setMulti') await region.setMulti([[key, 'new']])
      else if (how === 'refresh') await load.refresh()
      else await region.invalidate()
      expect(await load()).toBe('new')
    },
  )

  it('is not remembered if its key was deleted while the creator ran', async () => {
    const { region } = open<string>({ errorExpirationTime: '1h' })
    const creator = held<string>()
    const read = region.getOrCreate('key', creator.create)
    await creator.started
    await region.delete('key')
    creator.reject(AWAY)
    await expect(read).rejects.toBe(AWAY)
    expect(await region.getOrCreate('key', () => 'new')).toBe('new')
  })
})

describe('retryAfter', () => {
  const expired = async (options: RegionOptions, clock: ManualClock = manualClock()) => {
    const region = makeRegion<string>({
      backend: memory({ clock }),
      clock,
      expirationTime: 1_000,
      ...options,
    })
    await region.set('key', 'old')
    clock.tick(1_001)
    return { region, clock }
  }

  it('is five seconds by default', async () => {
    const { region, clock } = await expired({})
    const { state, create } = source()
    await region.getOrCreate('key', create)
    clock.tick(4_999)
    await region.getOrCreate('key', create)
    expect(state.runs).toBe(1)
    clock.tick(1)
    expect(await region.getOrCreate('key', create)).toBe('old')
    expect(state.runs).toBe(2)
  })

  it('0 lets every caller try that finds the value stale', async () => {
    const { region } = await expired({ retryAfter: 0 })
    const { state, create } = source()
    for (let i = 0; i < 3; i++) expect(await region.getOrCreate('key', create)).toBe('old')
    expect(state.runs).toBe(3)
  })

  it('ends with the grace', async () => {
    const { region, clock } = await expired({ retryAfter: '1h', grace: 2_000 })
    const { state, create } = source()
    expect(await region.getOrCreate('key', create)).toBe('old')
    clock.tick(2_001)
    await expect(region.getOrCreate('key', create)).rejects.toBe(AWAY)
    expect(state.runs).toBe(2)
  })

  it('does not hold back a caller that takes nothing stale', async () => {
    const { region } = await expired({ retryAfter: '1h' })
    const { state, create } = source()
    await region.getOrCreate('key', create)
    await expect(region.getOrCreate('key', create, { grace: 0, retryAfter: 0 })).rejects.toBe(AWAY)
    state.fails = false
    expect(await region.getOrCreate('key', create, { grace: 0, retryAfter: 0 })).toBe('new')
  })

  it('leaves the key unlocked', async () => {
    const { region } = await expired({})
    await region.getOrCreate('key', source().create)
    expect(await region.keyIsLocked('key')).toBe(false)
    expect((await region.explain('key')).locked).toBe(false)
  })

  it('holds for a renewal of a runner', async () => {
    const jobs: Promise<void>[] = []
    const { region, clock } = await expired({ asyncCreationRunner: (job) => void jobs.push(job.run()) })
    const { state, create } = source()
    for (let i = 0; i < 5; i++) {
      expect(await region.getOrCreate('key', create)).toBe('old')
      await Promise.all(jobs)
    }
    expect(state.runs).toBe(1)
    clock.tick(5_000)
    await region.getOrCreate('key', create)
    await Promise.all(jobs)
    expect(state.runs).toBe(2)
  })

  it('does not follow a creation that its callers called off', async () => {
    const { region } = await expired({})
    const stop = new AbortController()
    const read = region.getOrCreate(
      'key',
      ({ signal }) =>
        new Promise<string>((_, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason))
          stop.abort(new Error('enough'))
        }),
      { signal: stop.signal },
    )
    await expect(read).rejects.toThrow('enough')
    expect(await region.getOrCreate('key', () => 'new')).toBe('new')
  })

  it('with grace: 0 is refused; by default it is off then', async () => {
    expect(() => makeRegion({ backend: memory(), retryAfter: '5s', grace: 0 })).toThrow(
      '`retryAfter` with `grace: 0`',
    )
    const { region } = await expired({ retryAfter: '5s' })
    await expect(region.getOrCreate('key', () => 'x', { grace: 0 })).rejects.toThrow(
      '`retryAfter` with `grace: 0`',
    )
    const strict = await expired({ grace: 0 })
    const { state, create } = source()
    for (let i = 0; i < 2; i++) await expect(strict.region.getOrCreate('key', create)).rejects.toBe(AWAY)
    expect(state.runs).toBe(2)
  })
})

describe('names that a value depends on', () => {
  const opened = async (options: RegionOptions = {}) => {
    const clock = manualClock()
    const backend = wrap(memory({ clock }), dependencies())
    const region = makeRegion<string>({
      backend,
      clock,
      expirationTime: 1_000,
      retryAfter: '1h',
      grace: '1d',
      ...options,
    })
    const state = { runs: 0, fails: false }
    const load = region.cacheOnArguments(
      async (id: number) => {
        state.runs++
        if (state.fails) throw AWAY
        return `run ${state.runs} of ${id}`
      },
      { namespace: 'load', dependencies: (id) => `user:${id}` },
    )
    await load(1)
    clock.tick(1_001)
    state.fails = true
    await load(1)
    await load(1)
    expect(state.runs).toBe(2)
    return { region, clock, state, load }
  }

  it.each(['soft', 'hard'] as const)('invalidated, %s, end the wait for the next try', async (mode) => {
    const { region, state, load } = await opened()
    await region.invalidateDependencies('user:2', mode)
    expect(await load(1)).toBe('run 1 of 1')
    expect(state.runs).toBe(2)
    state.fails = false
    await region.invalidateDependencies('user:1', mode)
    expect(await load(1)).toBe('run 3 of 1')
  })

  it.each(['the name', 'the region'])(
    'invalidated softly, as %s, end the wait also with a strategy of the region',
    async (what) => {
      const { region, clock, state, load } = await opened({ regionInvalidator: localInvalidation() })
      clock.tick(1)
      await (what === 'the name'
        ? region.invalidateDependencies('user:1', 'soft')
        : region.invalidate('soft'))
      clock.tick(1)
      for (let i = 0; i < 3; i++) expect(await load(1)).toBe('run 1 of 1')
      expect(state.runs).toBe(3)
    },
  )

  it('invalidated softly have one try, after which the value stands', async () => {
    const { region, state, load } = await opened()
    await region.invalidateDependencies('user:1', 'soft')
    for (let i = 0; i < 5; i++) expect(await load(1)).toBe('run 1 of 1')
    expect(state.runs).toBe(3)
  })

  it('invalidated hard leave nothing to fall back to', async () => {
    const { region, load } = await opened()
    await region.invalidateDependencies('user:1')
    await expect(load(1)).rejects.toBe(AWAY)
  })
})

describe('a failure whose callers got a stale value', () => {
  it('is reported once for the caller that tried', async () => {
    const { region, clock } = openMemory<string>({ expirationTime: 1_000 })
    await region.set('key', 'old')
    clock.tick(1_001)
    diagnostics('failure').subscribe(record)
    const { create } = source()
    await Promise.all([region.getOrCreate('key', create), region.getOrCreate('key', create)])
    expect(seen).toEqual([{ where: 'creator', key: 'key', error: AWAY }])
  })

  it('rejects a caller whose serveStaleIf throws or returns no boolean, and reports it', async () => {
    const { region, clock } = openMemory<string>({ expirationTime: 1_000 })
    await region.set('key', 'old')
    clock.tick(1_001)
    diagnostics('failure').subscribe(record)
    const broken = (() => {
      throw new Error('broken')
    }) as never
    const late = (async () => true) as never
    for (const serveStaleIf of [broken, late])
      await expect(region.getOrCreate('key', source().create, { serveStaleIf })).rejects.toBe(AWAY)
    expect(seen.map(({ where }) => where)).toContain('serveStaleIf')
  })
})

describe('inside of a transaction', () => {
  it('a failure rejects, also while a value stands, and holds back no other caller', async () => {
    const { region, clock } = openMemory<string>({ expirationTime: 1_000 })
    await region.set('key', 'old')
    clock.tick(1_001)
    const { state, create } = source()
    await expect(afterCommit(async () => region.getOrCreate('key', create))).rejects.toBe(AWAY)
    state.fails = false
    expect(await region.getOrCreate('key', create)).toBe('new')
  })
})

describe('a value that was created from a stale one', () => {
  it('is stale also where only the strategy of its region says that the part is', async () => {
    const backend = wrap(memory(), dependencies())
    const parts = makeRegion<string>({ name: 'parts', backend, regionInvalidator: localInvalidation() })
    const region = makeRegion<string>({ name: 'wholes', backend })
    const whole = () =>
      region.getOrCreate('whole', async () => `whole of ${await parts.getOrCreate('part', source().create)}`)
    await parts.set('part', 'old')
    await parts.invalidate('soft')
    expect(await whole()).toBe('whole of old')
    expect(await region.get('whole')).toBe(NO_VALUE)
  })

  it('is stale, and so is tried again', async () => {
    const clock = manualClock()
    const region = makeRegion<string>({
      backend: wrap(memory({ clock }), dependencies()),
      clock,
      expirationTime: 1_000,
    })
    await region.set('part', 'old')
    clock.tick(1_001)
    const whole = () =>
      region.getOrCreate('whole', async () => `whole of ${await region.getOrCreate('part', source().create)}`)
    expect(await whole()).toBe('whole of old')
    expect(await region.get('whole')).toBe(NO_VALUE)
  })
})

describe('guarantees', () => {
  const limitsOf = (backend: ReturnType<typeof defineBackend<CachedValue>>) =>
    makeRegion({ backend }).guarantees.limits.join(' ')

  it('tell of a store or a mutex that does not keep the lease of a failed creation', () => {
    const mutex = () => ({ acquire: () => true, release: () => {} })
    expect(limitsOf(defineBackend<CachedValue>({ ...threeMethods(), mutex }))).toContain('failed creation')
    expect(limitsOf(memory())).not.toContain('failed creation')
  })

  it.each([1, 'yes'] as never[])('keepsFailures: %s is refused', (keepsFailures) => {
    expect(() => defineBackend({ ...threeMethods(), keepsFailures })).toThrow('keepsFailures')
  })
})

it.each([-1, 'soon', Number.NaN] as never[])('retryAfter: %s is refused', (value) => {
  expect(() => makeRegion({ retryAfter: value })).toThrow('retryAfter')
  expect(() => makeRegion({ errorExpirationTime: value })).toThrow('errorExpirationTime')
  expect(() => makeRegion({ serveStaleIf: value })).toThrow('serveStaleIf')
})

describe('a remembered failure', () => {
  it('is forgotten by an invalidation that was under way when the creator failed', async () => {
    const acknowledged = gate()
    const ledger: Ledger = {
      shared: false,
      open: () => ({
        storeClock: 'slow',
        read: (names) => ({ now: { epoch: 'e', at: 1 }, stamps: names.map(() => ({ hard: 0, soft: 0 })) }),
        now: () => ({ epoch: 'e', at: 1 }),
        invalidate: () => acknowledged.opened,
      }),
    }
    const region = makeRegion<string>({
      name: 'slow',
      ...{ backend: wrap(memory(), dependencies({ ledger })), errorExpirationTime: '1h' },
    })
    const { state, create } = source()
    const invalidated = region.invalidateDependencies('n')
    await expect(region.getOrCreate('key', create)).rejects.toBe(AWAY)
    acknowledged.open()
    await invalidated
    state.fails = false
    expect(await region.getOrCreate('key', create)).toBe('new')
  })

  it('of one key of a batch is not the answer to another, whose value stood', async () => {
    const clock = manualClock()
    const region = makeRegion<string>({
      ...{ backend: memory({ clock }), clock, expirationTime: 1_000, grace: 5_000 },
      ...{ errorExpirationTime: '1h', retryAfter: 1_000 },
    })
    await region.set('stands', 'old')
    clock.tick(1_001)
    const fail = () => Promise.reject(AWAY)
    await expect(region.getOrCreateMulti(['missing', 'stands'], fail)).rejects.toBe(AWAY)
    clock.tick(10_000)
    expect(await region.getOrCreate('stands', () => 'new')).toBe('new')
    await expect(region.getOrCreate('missing', () => 'new')).rejects.toBe(AWAY)
  })
})

describe('options that contradict those of the region', () => {
  const declare = (region: Region<string>, options: object) =>
    region.cacheOnArguments(async () => 'v', { namespace: 'f', ...options })

  it('are refused at the declaration of a function, as far as they are known then', () => {
    const contradiction = { softTimeout: 900, hardTimeout: 100 }
    expect(() => declare(makeRegion<string>(), contradiction)).toThrow('shorter')
    expect(() => declare(makeRegion<string>({ hardTimeout: 100 }), { softTimeout: 900 })).toThrow('shorter')
    const configured = makeRegion<string>().configure({ backend: memory(), hardTimeout: 100 })
    expect(() => declare(configured, { softTimeout: 900 })).toThrow('shorter')
  })

  it('are refused by configure() for functions that were declared before, and leave the region as it was', async () => {
    const region = makeRegion<string>()
    const load = declare(region, { softTimeout: 900 })
    expect(() => region.configure({ backend: memory(), hardTimeout: 100 })).toThrow('shorter')
    expect(region.isConfigured).toBe(false)
    region.configure({ backend: memory(), hardTimeout: 1_000 })
    expect(await load()).toBe('v')
  })

  it('are refused without a rejection that nobody handles, over a store that fails', async () => {
    const away = defineBackend<CachedValue>({
      name: 'away',
      get: () => Promise.reject(AWAY),
      set: async () => {},
      delete: async () => {},
    })
    const region = makeRegion<string>({ backend: away, hardTimeout: 100 })
    const unhandled: unknown[] = []
    const note = (error: unknown) => void unhandled.push(error)
    process.on('unhandledRejection', note)
    await expect(region.getOrCreate('k', () => 'v', { softTimeout: 900 })).rejects.toMatchObject({
      code: 'ERR_OPTION',
    })
    await idle()
    process.off('unhandledRejection', note)
    expect(unhandled).toEqual([])
  })
})
