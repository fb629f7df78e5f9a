import { afterEach, describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { emitter } from '../../src/events/emitter.js'
import {
  delegate,
  dep,
  diagnostics,
  type Invalidation,
  makeRegion,
  NO_VALUE,
  type RegionEvents,
  wrap,
} from '../../src/index.js'
import { localBus, relay } from '../../src/signals/index.js'
import { open } from '../support/stage.js'
import { idle, isPending, sleep } from '../support/waiting.js'

const unhandled: unknown[] = []
process.on('unhandledRejection', (error) => unhandled.push(error))

const endings: (() => void)[] = []
afterEach(async () => {
  for (const end of endings.splice(0)) end()
  await idle()
  expect(unhandled).toEqual([])
})

function failures(): { readonly where: string; readonly error: unknown }[] {
  const messages: { where: string; error: unknown }[] = []
  const listen = (message: unknown) => void messages.push(message as never)
  diagnostics('failure').subscribe(listen)
  endings.push(() => diagnostics('failure').unsubscribe(listen))
  return messages
}

const tracked = () => makeRegion<string>({ name: 'users', backend: wrap(memory(), dependencies()) })

/** Everything that a region tells, in order. */
function told(region: ReturnType<typeof tracked>): [keyof RegionEvents, unknown][] {
  const events: [keyof RegionEvents, unknown][] = []
  for (const event of ['invalidating', 'invalidate', 'invalidate-failed', 'missed'] as const)
    endings.push(region.on(event, (detail) => void events.push([event, detail])))
  return events
}

describe('the events of a region', () => {
  const cause = { reason: 'a form was sent', meta: { by: 7 } }
  it.each<[string, (region: ReturnType<typeof tracked>) => Promise<unknown>, Partial<Invalidation>]>([
    ['delete', (r) => r.delete('a', cause), { what: 'key', names: ['a'], mode: 'hard' }],
    [
      'deleteMulti',
      (r) => r.deleteMulti(['a', 'b'], cause),
      { what: 'key', names: ['a', 'b'], mode: 'hard' },
    ],
    ['expire', (r) => r.expire('a', cause), { what: 'key', names: ['a'], mode: 'soft' }],
    [
      'invalidate',
      (r) => r.invalidate('hard', cause),
      { what: 'region', names: ['region:users'], mode: 'hard' },
    ],
    [
      'invalidate, soft',
      (r) => r.invalidate('soft', cause),
      { what: 'region', names: ['region:users'], mode: 'soft' },
    ],
    [
      'invalidateDependencies',
      (r) => r.invalidateDependencies(dep.id('user', 5), 'hard', cause),
      { what: 'dependencies', names: ['id:user:5'], mode: 'hard' },
    ],
    [
      'invalidateDependencies, soft',
      (r) => r.invalidateDependencies(['x', 'y'], 'soft', cause),
      { what: 'dependencies', names: ['x', 'y'], mode: 'soft' },
    ],
  ])('tell of %s before and after it, with reason and metadata', async (_, work, expected) => {
    const region = tracked()
    const events = told(region)
    await work(region)
    const detail = { region: 'users', origin: 'local', ...cause, ...expected }
    expect(events).toEqual([
      ['invalidating', detail],
      ['invalidate', detail],
    ])
  })

  it('come when the invalidation holds, and the one before it while it does not', async () => {
    const region = tracked()
    await region.set('key', 'old')
    const seen: unknown[] = []
    region.on('invalidating', () => seen.push(region.peek('key')))
    region.on('invalidate', () => seen.push(region.peek('key') === 'old'))
    await region.delete('key')
    expect(seen).toEqual(['old', false])
  })

  it('tell of a cached function that is invalidated, by its key', async () => {
    const region = tracked()
    const get = region.cacheOnArguments({ namespace: 'get' })(async (id: number) => `user ${id}`)
    const events = told(region)
    await get.invalidate(5)
    await get.invalidate.soft(5)
    expect(events.filter(([event]) => event === 'invalidate')).toMatchObject([
      ['invalidate', { names: [get.key(5)], mode: 'hard' }],
      ['invalidate', { names: [get.key(5)], mode: 'soft' }],
    ])
  })

  it('say nothing of values that are set, and of nothing', async () => {
    const region = tracked()
    const events = told(region)
    await region.set('key', 'value')
    await region.getOrCreate('other', () => 'value')
    await region.deleteMulti([])
    expect(events).toEqual([])
  })

  it('tell that an invalidation failed, and not that it was done', async () => {
    const boom = new Error('boom')
    const region = makeRegion<string>({
      name: 'users',
      backend: wrap(memory(), (next) => delegate(next, { delete: () => Promise.reject(boom) })),
    })
    const events = told(region)
    await expect(region.delete('key')).rejects.toMatchObject({ code: 'ERR_BACKEND', cause: boom })
    expect(events).toMatchObject([
      ['invalidating', { names: ['key'] }],
      ['invalidate-failed', { names: ['key'], error: { code: 'ERR_BACKEND' } }],
    ])
  })

  it('are not called for a refused invalidation', async () => {
    const region = makeRegion<string>({ backend: memory() })
    const events = told(region as never)
    await expect(region.invalidateDependencies('x')).rejects.toMatchObject({ code: 'ERR_NO_LEDGER' })
    await expect(region.invalidate('firm' as never)).rejects.toMatchObject({ code: 'ERR_OPTION' })
    await expect(region.delete('key', { reason: 5 } as never)).rejects.toThrow(/`reason`/)
    await expect(region.delete('key', { resaon: 'x' } as never)).rejects.toThrow(/Unknown option `resaon`/)
    expect(events).toEqual([])
  })

  it('keep the names of an invalidation from changes by a listener', async () => {
    const region = tracked()
    const reported = failures()
    await region.setMulti([
      ['a', 'value'],
      ['b', 'value'],
    ])
    region.on('invalidating', ({ names }) => ((names as string[]).length = 0))
    const keys = ['a', 'b']
    await region.deleteMulti(keys)
    expect(await region.getMulti(['a', 'b'])).toEqual([NO_VALUE, NO_VALUE])
    expect(keys).toEqual(['a', 'b'])
    // No other listener is told something else.
    expect(reported).toMatchObject([
      { where: "listener of 'invalidating'", error: expect.any(TypeError) as unknown },
    ])
  })

  it('keep a single name from a listener that empties the list', async () => {
    const region = tracked()
    failures()
    await region.set('a', 'value', { dependencies: ['row'], asOf: await region.asOf() })
    region.on('invalidating', ({ names }) => ((names as string[]).length = 0))
    await region.invalidateDependencies('row')
    expect(await region.get('a')).toBe(NO_VALUE)
  })

  it('cost nothing any more without a listener', () => {
    const { on, emit, ...rest } = emitter<{ a: object; b: object }>('an event', ['a', 'b'])
    expect(rest).toEqual({ busy: false })
    const events = emitter<{ a: object; b: object }>('an event', ['a', 'b'])
    const ends = [events.on('a', () => {}), events.on('a', () => {}), events.on('b', () => {})]
    for (const end of ends) {
      expect(events.busy).toBe(true)
      end()
      end()
    }
    expect(events.busy).toBe(false)
  })

  it('go to every listener, though others fail', async () => {
    const region = tracked()
    const reported = failures()
    const heard: string[] = []
    const thrown = new Error('thrown')
    const rejected = new Error('rejected')
    region.on('invalidating', () => {
      throw thrown
    })
    region.on('invalidate', async () => {
      await sleep(1)
      throw rejected
    })
    region.on('invalidate', () => new Promise(() => {}))
    const thenable = Object.defineProperty({}, 'then', {
      get() {
        throw thrown
      },
    })
    region.on('invalidate', () => thenable)
    region.on('invalidate', () => heard.push('last'))
    expect(await isPending(region.delete('key'))).toBe(false)
    expect(heard).toEqual(['last'])
    await sleep(5)
    await idle()
    expect(reported.map(({ error }) => error)).toEqual([thrown, thrown, rejected])
    expect(reported[0]?.where).toBe("listener of 'invalidating'")
  })

  it('end when told to, once and for that listener only', async () => {
    const region = tracked()
    const heard: number[] = []
    const listen = () => heard.push(1)
    const [end, other] = [region.on('invalidate', listen), region.on('invalidate', listen)]
    end()
    end()
    await region.delete('key')
    expect(heard).toEqual([1])
    other()
    await region.delete('key')
    expect(heard).toEqual([1])
    region.on('invalidate', listen)
    await region.delete('key')
    expect(heard).toEqual([1, 1])
  })

  it('go to the listeners of that moment, also if one of them ends another', async () => {
    const region = tracked()
    const heard: string[] = []
    const ends: (() => void)[] = []
    region.on('invalidate', () => {
      for (const end of ends) end()
      region.on('invalidate', () => heard.push('newcomer'))
    })
    ends.push(region.on('invalidate', () => heard.push('second')))
    await region.delete('key')
    expect(heard).toEqual(['second'])
  })

  it('may be listened to before the region is configured, and after it was configured again', async () => {
    const region = makeRegion<string>({ name: 'users' })
    const events = told(region as never)
    region.configure({ backend: memory() })
    await region.delete('a')
    region.configure({ backend: memory(), replaceExistingBackend: true })
    await region.delete('b')
    await region.close()
    region.configure({ backend: memory() })
    await region.delete('c')
    expect(events.filter(([event]) => event === 'invalidate')).toMatchObject([
      ['invalidate', { names: ['a'] }],
      ['invalidate', { names: ['b'] }],
      ['invalidate', { names: ['c'] }],
    ])
  })

  it('refuse invalid arguments', () => {
    const region = tracked()
    expect(() => region.on('invalidated' as never, () => {})).toThrow(/'invalidating', 'invalidate'/)
    expect(() => region.on('invalidate', 'x' as never)).toThrow(/to be a function/)
    for (const wrong of [
      () => region.on('toString' as never, () => {}),
      () => region.on('invalidate', null as never),
    ])
      expect(wrong).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }))
  })

  it('are no part of a creation that invalidates', async () => {
    const region = tracked()
    const reads: Promise<unknown>[] = []
    const other = tracked()
    await other.set('inner', 'value')
    region.on('invalidate', () => reads.push(other.get('inner')))
    await region.getOrCreate('key', async () => {
      await region.delete('else')
      return 'value'
    })
    await Promise.all(reads)
    // Had the read been part of the creation, the other region's ledger would have kept the value from being stored.
    expect(await region.get('key')).toBe('value')
    expect(reads).toHaveLength(1)
  })

  it('give the reason to the channel too', async () => {
    const messages: unknown[] = []
    const listen = (message: unknown) => void messages.push(message)
    diagnostics('invalidate').subscribe(listen)
    endings.push(() => diagnostics('invalidate').unsubscribe(listen))
    const { region } = open<string>({ name: 'r' })
    await region.delete('key', { reason: 'why not', meta: { secret: true } })
    await region.delete('key')
    expect(messages).toEqual([
      { region: 'r', what: 'key', names: ['key'], mode: 'hard', reason: 'why not' },
      { region: 'r', what: 'key', names: ['key'], mode: 'hard' },
    ])
  })

  it.each<[string, (region: ReturnType<typeof tracked>) => Promise<unknown>, string]>([
    ['delete', (r) => r.delete('a'), 'a'],
    ['expire', (r) => r.expire('a'), 'a'],
    ['invalidate', (r) => r.invalidate(), 'region:users'],
    ['invalidateDependencies', (r) => r.invalidateDependencies(['x']), 'x'],
  ])('keep the names of %s from a subscriber of the channel that empties the list', async (_, work, name) => {
    const region = tracked()
    const heard: unknown[] = []
    const take = (message: unknown) => {
      expect(() => (message as { names: string[] }).names.shift()).toThrow(TypeError)
      // One that comes late has the same list.
      region.on('invalidate', ({ names }) => heard.push(Object.isFrozen(names) && [...names]))
    }
    diagnostics('invalidate').subscribe(take)
    endings.push(() => diagnostics('invalidate').unsubscribe(take))
    await work(region)
    expect(heard).toEqual([[name]])
  })
})

it('the names of a relayed event are kept from a listener that empties the list', async () => {
  const bus = localBus()
  const [here, there] = [tracked(), tracked()]
  const relays = [relay(bus, [here]), relay(bus, [there])]
  endings.push(() => void Promise.all(relays.map((one) => one.close())))
  failures()
  const heard: unknown[] = []
  there.on('invalidate', ({ names }) => void (names as string[]).shift())
  there.on('invalidate', ({ names }) => heard.push([...names]))
  await here.delete('a')
  await idle()
  expect(heard).toEqual([['a']])
})
