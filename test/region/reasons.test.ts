import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { diagnostics, type Messages, NO_VALUE, type RegionOptions } from '../../src/index.js'
import { held, inEveryRegion, open as openMemory } from '../support/stage.js'
import { idle } from '../support/waiting.js'

let reads: Messages['read'][] = []
let creates: Messages['create'][] = []
const onRead = (message: unknown) => void reads.push(message as Messages['read'])
const onCreate = (message: unknown) => void creates.push(message as Messages['create'])
beforeEach(() => {
  reads = []
  creates = []
  diagnostics('read').subscribe(onRead)
  diagnostics('create').subscribe(onCreate)
})
afterEach(() => {
  diagnostics('read').unsubscribe(onRead)
  diagnostics('create').unsubscribe(onCreate)
})
const told = () => reads.map(({ key, result, reason }) => [key, result, reason].filter(Boolean).join(' '))

inEveryRegion('corral:read', (open) => {
  const expired = async (options: RegionOptions = {}) => {
    const stage = open<string>({ expirationTime: 1_000, grace: '1h', ...options })
    await stage.region.set('key', 'old')
    await stage.region.set('other', 'old')
    stage.clock.tick(1_001)
    return stage
  }
  const fail = () => Promise.reject(new Error('away'))

  it('tells a value that had expired when it was renewed, once, and hits and misses without a reason', async () => {
    const { region } = await expired()
    expect(await region.get('key')).toBe(NO_VALUE)
    expect(await region.getOrCreate('key', () => 'new')).toBe('new')
    expect(await region.getOrCreate('key', () => 'new')).toBe('new')
    await region.getOrCreate('none', () => 'new')
    expect(told()).toEqual(['key stale expired', 'key stale expired', 'key hit', 'none miss'])
  })

  it('tells a value that had expired to a call with a lifetime of its own, or with the jitter of its function', async () => {
    const { region, clock } = open<string>({ expirationTime: '1h' })
    await region.set('key', 'old')
    clock.tick(1_001)
    await region.get('key', { expirationTime: 1_000, ignoreExpiration: true })
    const load = region.cacheOnArguments(() => 'v', {
      namespace: 'l',
      expirationTime: 1e6,
      jitter: 1,
      key: 'load',
    })
    const draw = Math.random
    Math.random = () => 0.5
    await load()
    clock.tick(5e5 + 1)
    await load.get()
    await load()
    Math.random = draw
    const key = load.key()
    expect(told()).toEqual([
      'key stale expired',
      `${key} miss`,
      `${key} stale expired`,
      `${key} stale expired`,
    ])
  })

  it('tells a value that no call of its function may have as a miss', async () => {
    const { region, clock } = open<string>({ expirationTime: 1_000 })
    const load = region.cacheOnArguments(() => 'v', { namespace: 'load', grace: 0 })
    await load()
    clock.tick(1_001)
    expect(await load.get()).toBe(NO_VALUE)
    expect(told()).toEqual([`${load.key()} miss`, `${load.key()} miss`])
  })

  it('tells a soft invalidation of a key and of the region', async () => {
    const { region } = open<string>()
    await region.set('key', 'old')
    await region.set('other', 'old')
    await region.expire('key')
    await region.get('key', { ignoreExpiration: true })
    await region.invalidate('soft')
    await region.getOrCreate('other', () => 'new')
    expect(told()).toEqual(['key stale soft', 'other stale soft'])
  })

  it('tells a creator that failed, also to callers that may not try meanwhile', async () => {
    const { region } = await expired()
    for (let i = 0; i < 2; i++) expect(await region.getOrCreate('key', fail)).toBe('old')
    expect(await region.getOrCreateMulti(['key', 'other'], fail)).toEqual(['old', 'old'])
    expect(told()).toEqual(
      Array(4)
        .fill(0)
        .map((_, i) => (i === 3 ? 'other stale error' : 'key stale error')),
    )
  })

  it('tells a deadline', async () => {
    const { region } = await expired({ softTimeout: 5 })
    expect(await region.getOrCreate('key', held<string>().create)).toBe('old')
    expect(told()).toEqual(['key stale timeout'])
  })

  it('tells an open breaker', async () => {
    const { region } = await expired({ breaker: { failures: 1, cooldown: '1h' } })
    await expect(region.getOrCreate('none', fail)).rejects.toThrow('away')
    expect(await region.getOrCreate('key', fail)).toBe('old')
    expect(await region.getOrCreateMulti(['key', 'other'], fail)).toEqual(['old', 'old'])
    expect(told()).toEqual(['none miss', 'key stale error', 'key stale error', 'other stale error'])
  })
})

describe('corral:create', () => {
  it('tells the cost and the end of each creation, once', async () => {
    const { region } = openMemory<string>({ abandonAfter: 50, lease: { ms: 60 } })
    await region.getOrCreate('made', () => 'new')
    await expect(region.getOrCreate('failed', () => Promise.reject(new Error('away')))).rejects.toThrow()
    const hanging = held<string>()
    await expect(region.getOrCreate('abandoned', hanging.create)).rejects.toThrow('ms, got none')
    hanging.resolve('late')
    await idle()
    expect(creates.map(({ keys, outcome }) => `${keys} ${outcome}`)).toEqual([
      'made made',
      'failed failed',
      'abandoned abandoned',
    ])
    expect(creates[2]?.milliseconds).toBeGreaterThanOrEqual(50)
    expect(region.stats()).toMatchObject({ creations: 3, failedCreations: 2 })
  })
})
