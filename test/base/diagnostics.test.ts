import { afterEach, describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { diagnostics, type Messages, makeRegion, NO_VALUE } from '../../src/index.js'
import { held, open } from '../support/stage.js'

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
