import { afterEach, describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import {
  delegate,
  diagnostics,
  type Messages,
  makeRegion,
  NO_VALUE,
  type RegionOptions,
} from '../../src/index.js'
import { held, manualClock, open } from '../support/stage.js'
import { idle } from '../support/waiting.js'

const endings: (() => void)[] = []
afterEach(() => {
  for (const end of endings.splice(0)) end()
})

function listenTo<K extends keyof Messages>(kind: K): Messages[K][] {
  const messages: Messages[K][] = []
  const listen = (message: unknown) => void messages.push(message as Messages[K])
  diagnostics(kind).subscribe(listen)
  endings.push(() => diagnostics(kind).unsubscribe(listen))
  return messages
}

describe('diagnostics', () => {
  it('report the time of a creation and its keys', async () => {
    const messages = listenTo('create')
    const { region } = open<string>({ name: 'users' })
    await region.getOrCreate('key', () => 'value')
    await region.getOrCreateMulti(['a', 'b'], (keys) => keys)
    expect(messages).toMatchObject([
      { region: 'users', keys: ['key'], outcome: 'made', milliseconds: expect.any(Number) as number },
      { region: 'users', keys: ['a', 'b'], outcome: 'made' },
    ])
  })

  it('tell a creation that failed, with its error', async () => {
    const messages = listenTo('create')
    const { region } = open<string>()
    const error = new Error('boom')
    await region.getOrCreate('key', () => Promise.reject(error)).catch(() => {})
    expect(messages).toMatchObject([{ keys: ['key'], outcome: 'failed', error }])
  })

  it('tell hits, misses and stale reads of every kind', async () => {
    const { region, clock } = open<string>({ name: 'users', expirationTime: 100 })
    const messages = listenTo('read')
    await region.get('key')
    await region.getOrCreate('key', () => 'value')
    await region.getOrCreate('key', () => 'value')
    await region.get('key')
    await region.getMulti(['key', 'absent'])
    clock.tick(101)
    await region.get('key')
    await region.invalidate()
    await region.get('key')
    expect(messages.map(({ key, result }) => `${key} ${result}`)).toEqual([
      'key miss',
      'key miss',
      'key hit',
      'key hit',
      'key hit',
      'absent miss',
      'key stale',
      'key miss',
    ])
    expect(messages[0]?.region).toBe('users')
  })

  it('tell invalidations', async () => {
    const messages = listenTo('invalidate')
    const { region } = open({ name: 'users' })
    await region.delete('key')
    await region.expire('key')
    await region.invalidate('soft')
    await region.invalidate()
    expect(messages).toMatchObject([
      { region: 'users', what: 'key', names: ['key'], mode: 'hard' },
      { region: 'users', what: 'key', names: ['key'], mode: 'soft' },
      { region: 'users', what: 'region', mode: 'soft' },
      { region: 'users', what: 'region', mode: 'hard' },
    ])
  })

  it('tell why a value was not stored', async () => {
    const messages = listenTo('unstored')
    const { region } = open<number>()
    await region.getOrCreate('key', () => 1, { shouldCache: () => false })
    expect(messages).toMatchObject([{ key: 'key', reason: 'shouldCache said no' }])
  })

  it('do not tell of a key that has no value: nothing was kept out', async () => {
    const messages = listenTo('unstored')
    const { region } = open<number>()
    const find = region.cacheMultiOnArguments(async (..._: number[]) => new Map([[1, 1]]), {
      namespace: 'find',
      asMap: true,
    })
    expect(await find(1, 2)).toEqual(new Map([[1, 1]]))
    await find.refresh(1, 2)
    await region.getOrCreateMulti(['other'], () => [NO_VALUE])
    await region.getOrCreate('single', () => NO_VALUE as never)
    expect(messages).toEqual([])
  })

  it('tell a stored thing that is no cached value', async () => {
    const messages = listenTo('undecodable')
    const backend = memory()
    const region = makeRegion<number>({ backend })
    await backend.set('key', 'garbage' as never, {})
    expect(await region.get('key')).toBe(NO_VALUE)
    expect(messages.length).toBeGreaterThan(0)
    expect(messages[0]).toMatchObject({ key: 'key' })
  })

  it('tell how a region was configured', () => {
    const messages = listenTo('configure')
    makeRegion({ name: 'users', backend: memory() })
    expect(messages).toEqual([{ region: 'users', backend: 'memory', limits: [] }])
  })

  it('tell a creation that an invalidation overtook', async () => {
    const messages = listenTo('unstored')
    const { region } = open<string>({ name: 'users' })
    const creator = held<string>()
    const created = region.getOrCreate('key', creator.create)
    await creator.started
    await region.delete('key')
    creator.resolve('value')
    await created
    expect(messages).toMatchObject([{ region: 'users', key: 'key' }])
  })
})

describe('NO_VALUE', () => {
  it('is one symbol, shared between copies of the package, and readable', () => {
    expect(NO_VALUE).toBe(Symbol.for('corral.NO_VALUE'))
    expect(String(NO_VALUE)).toBe('Symbol(corral.NO_VALUE)')
  })
})

describe('messages about a region', () => {
  const away = new Error('away')
  const fail = (): never => {
    throw away
  }
  const origin = { region: 'users', namespace: 'user' }

  /** A region with a value of `user(5)` that has expired, or nearly so. One operation of its store fails. */
  const staged = async (options: RegionOptions = {}, fails?: 'acquire' | 'release' | 'ping') => {
    const clock = manualClock()
    let isAway = false
    const next = memory({ clock })
    const backend = delegate(next, {
      ...(fails === 'acquire' && { acquire: (...given) => (isAway ? fail() : next.acquire(...given)) }),
      ...(fails === 'release' && { release: (...given) => (isAway ? fail() : next.release(...given)) }),
      ...(fails === 'ping' && { ping: fail }),
    })
    const region = makeRegion<unknown>({ name: 'users', backend, clock, expirationTime: 1_000, ...options })
    let source: () => unknown = () => 'old'
    const user = region.cacheOnArguments(async (_id: unknown) => source(), { namespace: 'user' })
    await user(5)
    clock.tick(1_001)
    isAway = true
    source = fail
    return { region, user }
  }

  it.each<[where: string, options: RegionOptions, fails?: 'acquire' | 'release']>([
    ['creator', {}],
    ['serveStaleIf', { serveStaleIf: fail }],
    ['asyncCreationRunner', { asyncCreationRunner: fail }],
    ['release', {}, 'release'],
    ['acquire', { refreshAhead: 0.1, expirationTime: 2_000 }, 'acquire'],
  ])('name it and the namespace of its function: %s', async (where, options, fails) => {
    const messages = listenTo('failure')
    const { user } = await staged(options, fails)
    await user(5).catch(() => {})
    await idle()
    expect(messages.filter((one) => one.where === where)).toMatchObject([{ where, ...origin }])
  })

  it('name it where no function is concerned', async () => {
    const messages = listenTo('failure')
    const { region } = await staged({}, 'ping')
    region.on('invalidate', fail)
    await region.delete('key')
    expect(await region.ready()).toBe(false)
    expect(messages).toMatchObject(
      ["listener of 'invalidate'", 'ready'].map((where) => ({ where, region: 'users' })),
    )
  })

  it('name it where a value is not stored, or not cached', async () => {
    const [unstored, notices] = [listenTo('unstored'), listenTo('notice')]
    const { region, user } = await staged()
    const never = region.cacheOnArguments(async () => 1, { namespace: 'never', shouldCache: () => false })
    await never()
    expect(unstored).toMatchObject([{ region: 'users', namespace: 'never' }])
    const keyless = region.cacheOnArguments(async (_: unknown) => 1, {
      namespace: 'keyless',
      onKeyError: 'bypass',
    })
    await keyless(() => {})
    region.cacheOnArguments(async (_id: unknown) => user(5), { namespace: 'twins' })
    region.cacheOnArguments(async (_id: unknown) => user(5), { namespace: 'twins' })
    expect(notices).toMatchObject(['keyless', 'twins'].map((namespace) => ({ region: 'users', namespace })))
  })
})
