import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { makeRegion, type RegionOptions, registerBackend } from '../../src/index.js'
import { afterCommit } from '../../src/signals/index.js'
import { held, inEveryRegion, open as openMemory } from '../support/stage.js'

const AWAY = new Error('the source is away')
const OPEN = { code: 'ERR_UNAVAILABLE' }

inEveryRegion('a breaker', (open) => {
  /** A region over a source that fails until it is repaired. */
  const failing = (options: RegionOptions = {}) => {
    const stage = open<string>({ breaker: { failures: 3, cooldown: 1_000 }, ...options })
    const source = { runs: 0, error: AWAY as Error | undefined }
    const read = (key: string) =>
      stage.region.getOrCreate(key, async () => {
        source.runs++
        if (source.error !== undefined) throw source.error
        return `new ${key}`
      })
    return { ...stage, source, read }
  }

  it('stops the creators of all keys after so many failures, until a probe succeeds', async () => {
    const { source, read, clock } = failing()
    for (const key of ['a', 'b', 'c']) await expect(read(key)).rejects.toBe(AWAY)
    for (const key of ['a', 'd']) await expect(read(key)).rejects.toMatchObject(OPEN)
    expect(source.runs).toBe(3)
    clock.tick(1_000)
    await expect(read('a')).rejects.toBe(AWAY)
    await expect(read('b')).rejects.toMatchObject(OPEN)
    expect(source.runs).toBe(4)
    clock.tick(1_000)
    source.error = undefined
    expect(await read('a')).toBe('new a')
    expect(await read('b')).toBe('new b')
  })

  it('is over if it opened while the clock was ahead', async () => {
    const { source, read, clock } = failing()
    await expect(read('a')).rejects.toBe(AWAY)
    clock.tick(3_600_000)
    for (const key of ['b', 'c']) await expect(read(key)).rejects.toBe(AWAY)
    await expect(read('d')).rejects.toMatchObject(OPEN)
    clock.tick(-3_600_000)
    await expect(read('a')).rejects.toBe(AWAY)
    await expect(read('b')).rejects.toMatchObject(OPEN)
    clock.tick(1_000)
    source.error = undefined
    expect(await read('a')).toBe('new a')
  })

  it('admits one probe at a time', async () => {
    const { region, read, clock } = failing()
    for (const key of ['a', 'b', 'c']) await expect(read(key)).rejects.toBe(AWAY)
    clock.tick(1_000)
    const probe = held<string>()
    const probing = region.getOrCreate('a', probe.create)
    await probe.started
    await expect(read('b')).rejects.toMatchObject(OPEN)
    probe.resolve('new')
    expect(await probing).toBe('new')
  })

  it('leaves the next call the probe if the probe was called off', async () => {
    const { region, read, clock, source } = failing()
    for (const key of ['a', 'b', 'c']) await expect(read(key)).rejects.toBe(AWAY)
    clock.tick(1_000)
    source.error = undefined
    const stop = new AbortController()
    const probing = region.getOrCreate(
      'a',
      ({ signal }) =>
        new Promise<string>((_, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason))
          stop.abort(new Error('enough'))
        }),
      { signal: stop.signal },
    )
    await expect(probing).rejects.toThrow('enough')
    expect(await read('b')).toBe('new b')
  })

  it('serves what is stale without asking the source, or the store for a lease', async () => {
    const { region, read, clock, source } = failing({ expirationTime: 1_000, grace: '1h', retryAfter: 1 })
    await region.setMulti([
      ['x', 'old x'],
      ['y', 'old y'],
    ])
    clock.tick(1_001)
    for (const key of ['a', 'b', 'c']) await expect(read(key)).rejects.toBe(AWAY)
    for (let i = 0; i < 3; i++) expect(await read('x')).toBe('old x')
    expect(await region.getOrCreateMulti(['x', 'y'], () => expect.unreachable())).toEqual(['old x', 'old y'])
    expect(source.runs).toBe(3)
    expect(await region.keyIsLocked('x')).toBe(false)
    clock.tick(1_001)
    source.error = undefined
    expect(await read('x')).toBe('new x')
  })

  it('revives nothing', async () => {
    const { region, read, clock } = failing({ expirationTime: 1_000, grace: '1h' })
    await region.set('x', 'old x')
    clock.tick(1_001)
    for (const key of ['a', 'b', 'c']) await expect(read(key)).rejects.toBe(AWAY)
    await region.delete('x')
    await expect(read('x')).rejects.toMatchObject(OPEN)
  })

  it('does not count a failure that is an answer, nor what lies between successes', async () => {
    const gone = new Error('not found')
    const { read, source } = failing({ serveStaleIf: (error) => error !== gone })
    source.error = gone
    for (const key of ['a', 'b', 'c', 'd']) await expect(read(key)).rejects.toBe(gone)
    for (let i = 0; i < 3; i++) {
      source.error = AWAY
      for (const key of ['a', 'b']) await expect(read(key)).rejects.toBe(AWAY)
      source.error = undefined
      expect(await read(`${i}`)).toBe(`new ${i}`)
    }
  })
})

describe('a breaker', () => {
  it('stops a refresh too, and not the host of a reservation', async () => {
    const { region } = openMemory<string>({ breaker: { failures: 1, cooldown: '1h' } })
    const load = region.cacheOnArguments(() => Promise.reject<string>(AWAY), { namespace: 'load' })
    await expect(load.refresh()).rejects.toBe(AWAY)
    await expect(load.refresh()).rejects.toMatchObject(OPEN)
    const reserved = await region.reserve('key')
    if ('value' in reserved) throw new Error('no reservation')
    expect(await reserved.fill('value')).toBe('stored')
  })

  it('counts a creation that was given up', async () => {
    const { region } = openMemory<string>({
      ...{ breaker: { failures: 1, cooldown: '1h' }, abandonAfter: 50, lease: { ms: 60 } },
    })
    const hanging = region.getOrCreate('key', () => new Promise<string>(() => {}))
    await expect(hanging).rejects.toMatchObject({ code: 'ERR_CREATION_TIMEOUT' })
    await expect(region.getOrCreate('other', () => 'new')).rejects.toMatchObject(OPEN)
  })

  it('serves nothing stale inside of a transaction', async () => {
    const { region, clock } = openMemory<string>({
      ...{ breaker: { failures: 1, cooldown: '1h' }, expirationTime: 1_000 },
    })
    await region.set('key', 'old')
    clock.tick(1_001)
    await expect(region.getOrCreate('other', () => Promise.reject(AWAY))).rejects.toBe(AWAY)
    expect(await region.getOrCreate('key', () => 'new')).toBe('old')
    await expect(afterCommit(async () => region.getOrCreate('key', () => 'new'))).rejects.toMatchObject(OPEN)
  })

  it.each([
    [{ failures: 0, cooldown: '1s' }, 'failures'],
    [{ failures: 1.5, cooldown: '1s' }, 'failures'],
    [{ failures: 1, cooldown: 0 }, 'cooldown'],
    [{ failures: 1 }, 'cooldown'],
    [{ cooldown: '1s' }, 'failures'],
    [{ failures: 1, cooldown: '1s', more: 1 }, 'more'],
    [true, 'breaker'],
  ] as never[])('%j is refused', (breaker, message) => {
    expect(() => makeRegion({ breaker })).toThrow(message)
  })

  it('is two flat settings', async () => {
    registerBackend('memory', () => memory())
    const settings = { backend: 'memory', 'breaker.failures': '1', BREAKER__COOLDOWN: '1h' }
    const region = makeRegion<string>().configureFromConfig(settings, '')
    await expect(region.getOrCreate('key', () => Promise.reject(AWAY))).rejects.toBe(AWAY)
    await expect(region.getOrCreate('key', () => 'new')).rejects.toMatchObject(OPEN)
    const half = { backend: 'memory', 'breaker.failures': 1 }
    expect(() => makeRegion().configureFromConfig(half, '')).toThrow('cooldown')
  })
})
