import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import {
  type CachedValue,
  defineBackend,
  diagnostics,
  inBackground,
  type Messages,
  makeRegion,
  NO_VALUE,
  type RegionOptions,
  registerBackend,
  wrap,
} from '../../src/index.js'
import { afterCommit } from '../../src/signals/index.js'
import { held, inEveryRegion, later, manualClock, open as openMemory } from '../support/stage.js'
import { threeMethods } from '../support/three-methods.js'
import { deferred, isPending, until } from '../support/waiting.js'

const LATE = { code: 'ERR_CREATION_TIMEOUT' }
const hang = () => new Promise<never>(() => {})

inEveryRegion('a slow source', (open) => {
  const expired = async (options: RegionOptions = {}) => {
    const stage = open<string>({ expirationTime: 1_000, ...options })
    await stage.region.set('key', 'old')
    stage.clock.tick(1_001)
    return stage
  }

  it('leaves a caller with a softTimeout the stale value, and is stored when it returns', async () => {
    const { region } = await expired({ softTimeout: 5 })
    const creator = held<string>()
    expect(await region.getOrCreate('key', creator.create)).toBe('old')
    expect(await region.getOrCreate('key', () => expect.unreachable())).toBe('old')
    creator.resolve('new')
    await until(async () => (await region.get('key')) === 'new')
    expect(creator.runs).toBe(1)
  })

  it('leaves the stale values of many keys', async () => {
    const { region } = await expired({ softTimeout: 5 })
    const creator = held<string[]>()
    expect(await region.getOrCreateMulti(['key'], creator.create)).toEqual(['old'])
    creator.resolve(['new'])
    await until(async () => (await region.get('key')) === 'new')
  })

  it('is waited for by other callers for lease.wait, also with a softTimeout', async () => {
    const { region } = open<string>({ softTimeout: 5, lease: { wait: 50 } })
    const creator = held<string>()
    const leader = region.getOrCreate('key', creator.create)
    await until(() => creator.runs === 1)
    await expect(region.getOrCreate('key', () => expect.unreachable())).rejects.toMatchObject({
      code: 'ERR_WAIT_TIMEOUT',
    })
    creator.resolve('new')
    expect(await leader).toBe('new')
  })

  it('is waited for beyond the softTimeout if nothing stands', async () => {
    const { region } = open<string>({ softTimeout: 1 })
    const creator = held<string>()
    const read = region.getOrCreate('key', creator.create)
    await creator.started
    await new Promise((resolve) => setTimeout(resolve, 20))
    creator.resolve('new')
    expect(await read).toBe('new')
  })

  it.each(['delete', 'invalidate'] as const)(
    'revives nothing that %s() reached before the timeout',
    async (how) => {
      const { region } = await expired({ softTimeout: 30, hardTimeout: 60 })
      const creator = held<string>()
      const read = region.getOrCreate('key', creator.create)
      read.catch(() => {})
      await creator.started
      await (how === 'delete' ? region.delete('key') : region.invalidate())
      await expect(read).rejects.toMatchObject(LATE)
    },
  )

  it.each(['delete', 'invalidate'] as const)('is not stored if %s() came after the timeout', async (how) => {
    const { region } = await expired({ softTimeout: 5 })
    const creator = held<string>()
    expect(await region.getOrCreate('key', creator.create)).toBe('old')
    await (how === 'delete' ? region.delete('key') : region.invalidate())
    creator.resolve('void')
    expect(await region.getOrCreate('key', () => 'new')).toBe('new')
    expect(await region.get('key')).toBe('new')
  })

  it('rejects a caller at its hardTimeout if nothing stands', async () => {
    const { region } = open<string>({ hardTimeout: 5 })
    await expect(region.getOrCreate('key', hang)).rejects.toMatchObject(LATE)
    await expect(region.getOrCreateMulti(['a', 'b'], hang)).rejects.toMatchObject(LATE)
  })

  it('leaves a caller the stale value at its hardTimeout', async () => {
    const { region } = await expired({ hardTimeout: 5 })
    expect(await region.getOrCreate('key', hang)).toBe('old')
    expect(await region.getOrCreateMulti(['key'], hang)).toEqual(['old'])
  })

  it('rejects a caller to which nothing may be stale', async () => {
    const { region } = await expired({ hardTimeout: 5 })
    await expect(region.getOrCreate('key', hang, { grace: 0 })).rejects.toMatchObject(LATE)
  })

  it('rejects callers each at their own deadline, and goes on for the others', async () => {
    const { region } = open<string>()
    const creator = held<string>()
    // Long enough for a busy machine to begin the creation within it.
    const leader = region.getOrCreate('key', creator.create, { hardTimeout: 150 })
    await creator.started
    const patient = region.getOrCreate('key', () => expect.unreachable())
    const hasty = region.getOrCreate('key', () => expect.unreachable(), { hardTimeout: 200 })
    await expect(leader).rejects.toMatchObject(LATE)
    await expect(hasty).rejects.toMatchObject(LATE)
    creator.resolve('new')
    expect(await patient).toBe('new')
  })

  it('has its signal aborted when its last caller gave up at its deadline, and not when a caller took a stale value', async () => {
    const { region } = await expired()
    const signals: AbortSignal[] = []
    const create = ({ signal }: { readonly signal: AbortSignal }) => {
      signals.push(signal)
      return hang()
    }
    await expect(region.getOrCreate('none', create, { hardTimeout: 5 })).rejects.toMatchObject(LATE)
    expect(await region.getOrCreate('key', create, { softTimeout: 5 })).toBe('old')
    expect(signals.map(({ aborted }) => aborted)).toEqual([true, false])
  })

  it('rejects a refresh at its hardTimeout, whatever stands', async () => {
    const { region } = await expired({ softTimeout: 1, hardTimeout: 10 })
    const load = region.cacheOnArguments(hang, { namespace: 'load' })
    await load.set('old' as never)
    await expect(load.refresh()).rejects.toMatchObject(LATE)
  })
})

describe('a source that hangs', () => {
  /** Leases of 60 ms are looked at every 10 ms. */
  const lease = { ms: 60 }

  it('loses its lease after abandonAfter, and its late value is not stored', async () => {
    const notices: Messages['notice'][] = []
    const record = (message: unknown) => notices.push(message as Messages['notice'])
    diagnostics('notice').subscribe(record)
    const { region } = openMemory<string>({ lease, abandonAfter: 100 })
    const creator = held<string>()
    await expect(region.getOrCreate('key', creator.create)).rejects.toMatchObject(LATE)
    diagnostics('notice').unsubscribe(record)
    expect(notices.map(({ message }) => message).join()).toContain('given up')
    expect(await region.keyIsLocked('key')).toBe(false)
    expect(await region.getOrCreate('key', () => 'new')).toBe('new')
    creator.resolve('late')
    await isPending(Promise.resolve())
    expect(await region.get('key')).toBe('new')
  })

  it('has its signal aborted after abandonAfter', async () => {
    const { region } = openMemory<string>({ lease, abandonAfter: 100 })
    const aborted = deferred()
    const create = ({ signal }: { readonly signal: AbortSignal }) => {
      signal.addEventListener('abort', () => aborted.resolve())
      return hang()
    }
    region.getOrCreate('key', create).catch(() => {})
    await aborted.promise
  })

  it('leaves its caller the stale value after abandonAfter, and is not tried again for a while', async () => {
    const { region, clock } = openMemory<string>({ lease, abandonAfter: 100, expirationTime: 1_000 })
    await region.set('key', 'old')
    clock.tick(1_001)
    expect(await region.getOrCreate('key', hang)).toBe('old')
    expect(await region.getOrCreate('key', () => expect.unreachable())).toBe('old')
    clock.tick(5_000)
    expect(await region.getOrCreate('key', () => 'new')).toBe('new')
  })

  it('loses its lease one lease after its last caller gave up', async () => {
    const { region } = openMemory<string>({ lease })
    await expect(region.getOrCreate('key', hang, { hardTimeout: 5 })).rejects.toMatchObject(LATE)
    expect(await region.getOrCreate('key', () => 'new')).toBe('new')
  })

  it('counts as waited for while a caller has taken the stale value', async () => {
    const { region, clock } = openMemory<string>({ lease, expirationTime: 1_000, softTimeout: 5 })
    await region.set('key', 'old')
    clock.tick(1_001)
    const creator = held<string>()
    expect(await region.getOrCreate('key', creator.create)).toBe('old')
    // Several times the time after which a creation without callers is given up.
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(await region.keyIsLocked('key')).toBe(true)
    creator.resolve('new')
    await until(async () => (await region.get('key')) === 'new')
  })

  it('ends a job of a runner, so that it can be drained, and a region that is closed', async () => {
    const runner = inBackground()
    const { region, clock } = openMemory<string>({
      lease,
      abandonAfter: 100,
      expirationTime: 1_000,
      asyncCreationRunner: runner,
    })
    await region.set('key', 'old')
    clock.tick(1_001)
    expect(await region.getOrCreate('key', hang)).toBe('old')
    await runner.drain()
    await region.close()
  })
})

describe('a store that is slow', () => {
  it('does not hold up a caller beyond its hardTimeout', async () => {
    const store = threeMethods()
    const region = makeRegion<string>({
      backend: defineBackend<CachedValue>({ ...store, get: hang }),
      hardTimeout: 20,
    })
    await expect(region.getOrCreate('key', () => 'value')).rejects.toMatchObject(LATE)
    await expect(region.getOrCreateMulti(['key'], () => ['value'])).rejects.toMatchObject(LATE)
  })

  it('is waited for as long as an option says, and answers a caller in time', async () => {
    const clock = manualClock()
    const region = makeRegion<string>({
      backend: wrap(memory({ clock }), later),
      clock,
      hardTimeout: '1m',
      softTimeout: '30s',
    })
    expect(await region.getOrCreate('key', () => 'value')).toBe('value')
    expect(await region.get('key')).toBe('value')
  })
})

describe('inside of a transaction', () => {
  it('a softTimeout has no effect, and a hardTimeout rejects also while a value stands', async () => {
    const { region, clock } = openMemory<string>({ expirationTime: 1_000 })
    await region.set('key', 'old')
    clock.tick(1_001)
    const creator = held<string>()
    const read = afterCommit(async () => region.getOrCreate('key', creator.create, { softTimeout: 1 }))
    await creator.started
    await new Promise((resolve) => setTimeout(resolve, 20))
    creator.resolve('own')
    expect(await read).toBe('own')
    await expect(
      afterCommit(async () => region.getOrCreate('key', hang, { hardTimeout: 5 })),
    ).rejects.toMatchObject(LATE)
    expect(await region.get('key')).toBe(NO_VALUE)
  })
})

describe('options of time', () => {
  it.each([
    [{ softTimeout: 10, hardTimeout: 10 }, '`softTimeout` to be shorter than `hardTimeout`'],
    [{ abandonAfter: '1s', hardTimeout: '2s' }, '`abandonAfter` to be at least `hardTimeout`'],
    [{ softTimeout: 0 }, '`softTimeout`'],
    [{ hardTimeout: -1 }, '`hardTimeout`'],
    [{ abandonAfter: 'soon' }, '`abandonAfter`'],
  ] as [RegionOptions, string][])('%j are refused', async (options, message) => {
    expect(() => makeRegion({ backend: memory(), ...options })).toThrow(message)
    const { region } = openMemory()
    await expect(region.getOrCreate('key', () => 1, options)).rejects.toThrow(message)
  })

  it('contradict each other also if a region has one and a call the other', async () => {
    const { region } = openMemory({ hardTimeout: '1s' })
    await expect(region.getOrCreate('key', () => 1, { softTimeout: '2s' })).rejects.toThrow('shorter')
    expect(await region.getOrCreate('key', () => 1, { softTimeout: '2s', hardTimeout: '3s' })).toBe(1)
  })

  it('are flat settings, too', async () => {
    registerBackend('memory', () => memory())
    const settings = { backend: 'memory', hard_timeout: '5ms', soft_timeout: '1ms', abandon_after: '1m' }
    const region = makeRegion<string>().configureFromConfig(settings, '')
    await expect(region.getOrCreate('key', hang)).rejects.toMatchObject(LATE)
    expect(() => makeRegion().configureFromConfig({ ...settings, soft_timeout: '1s' }, '')).toThrow('shorter')
  })

  it('of a call that was `wait` before is unknown', async () => {
    const { region } = openMemory()
    await expect(region.getOrCreate('key', () => 1, { wait: 5 } as never)).rejects.toThrow(
      'Unknown option `wait`',
    )
  })
})
