import { describe, expect, it } from 'vitest'
import { type Backend, type CachedValue, defineBackend, makeRegion, NO_VALUE } from '../../src/index.js'
import { queuedMutex } from '../support/queued-mutex.js'
import { counting, held } from '../support/stage.js'
import { threeMethods } from '../support/three-methods.js'
import { deferred, idle, isPending } from '../support/waiting.js'

/** A store that processes share: its entries, and its locks with their queues. */
function sharedStore() {
  const entries = new Map<string, CachedValue>()
  const { locked, mutex } = queuedMutex()
  /** A backend of one process. */
  const connect = (): Backend<CachedValue> =>
    defineBackend<CachedValue>({
      ...threeMethods(entries),
      mutex,
    })
  return { entries, locked, connect }
}

describe('a backend with a plain mutex', () => {
  it('is refused when it is no function', () => {
    const spec = { name: 'own', get: () => undefined, set: () => {}, delete: () => {} }
    for (const mutex of [5, 'foo', class {}.prototype, {}])
      expect(() => defineBackend({ ...spec, mutex: mutex as never })).toThrow(
        expect.objectContaining({ code: 'ERR_OPTION' }) as Error,
      )
  })

  it('may answer a mutex that cannot tell whether it is locked', async () => {
    const region = makeRegion<number>({
      backend: defineBackend<CachedValue>({
        name: 'own',
        get: () => undefined,
        set: () => {},
        delete: () => {},
        mutex: () => ({ acquire: () => true, release: () => {} }),
      }),
    })
    expect(await region.keyIsLocked('key')).toBe(false)
    expect(await region.getOrCreate('key', () => 1)).toBe(1)
  })

  it('is locked while a creator runs, and free afterwards', async () => {
    const store = sharedStore()
    const region = makeRegion<string>({ backend: store.connect() })
    const creator = held<string>()
    const created = region.getOrCreate('key', creator.create)
    await creator.started
    expect([...store.locked]).toEqual(['key'])
    expect(await region.keyIsLocked('key')).toBe(true)
    creator.resolve('value')
    expect(await created).toBe('value')
    expect(store.locked.size).toBe(0)
    expect(await region.keyIsLocked('key')).toBe(false)
  })

  it('is asked whether it is locked without being locked', async () => {
    const store = sharedStore()
    const backend = store.connect()
    const region = makeRegion({ backend })
    expect(await region.keyIsLocked('key')).toBe(false)
    expect(await region.keyIsLocked('key')).toBe(false)
    store.locked.add('key')
    expect(await region.keyIsLocked('key')).toBe(true)
    store.locked.delete('key')
    expect(await region.keyIsLocked('key')).toBe(false)
  })

  it('lets one creator run for several processes; the others read its value', async () => {
    const store = sharedStore()
    const regions = Array.from({ length: 4 }, () => makeRegion<string>({ backend: store.connect() }))
    const creator = held<string>()
    const callers = regions.map((region) => region.getOrCreate('key', creator.create))
    await creator.started
    await idle()
    creator.resolve('value')
    expect(await Promise.all(callers)).toEqual(Array(4).fill('value'))
    expect(creator.runs).toBe(1)
    expect(store.locked.size).toBe(0)
  })

  it('lets one creator run for several processes that ask for several keys', async () => {
    const store = sharedStore()
    const regions = Array.from({ length: 3 }, () => makeRegion<string>({ backend: store.connect() }))
    const made: string[] = []
    const results = await Promise.all(
      regions.map((region, i) =>
        region.getOrCreateMulti(i % 2 === 0 ? ['a', 'b', 'c'] : ['c', 'b', 'a'], async (keys) => {
          await idle(3)
          made.push(...keys)
          return keys
        }),
      ),
    )
    expect(results).toEqual([
      ['a', 'b', 'c'],
      ['c', 'b', 'a'],
      ['a', 'b', 'c'],
    ])
    expect(made.sort()).toEqual(['a', 'b', 'c'])
    expect(store.locked.size).toBe(0)
  })

  it('is released when a creator fails, for one key and for several', async () => {
    const store = sharedStore()
    const region = makeRegion<string>({ backend: store.connect() })
    await expect(region.getOrCreate('key', () => Promise.reject(new Error('boom')))).rejects.toThrow('boom')
    await expect(
      region.getOrCreateMulti(['a', 'b'], () => Promise.reject(new Error('boom'))),
    ).rejects.toThrow('boom')
    await idle()
    expect(store.locked.size).toBe(0)
  })

  it('is released after an invalidation overtook the creation, whose value is not stored', async () => {
    const store = sharedStore()
    const region = makeRegion<string>({ backend: store.connect() })
    const creator = held<string>()
    const created = region.getOrCreate('key', creator.create)
    await creator.started
    await region.delete('key')
    creator.resolve('made before')
    await created
    expect(await region.get('key')).toBe(NO_VALUE)
    expect(await region.getOrCreate('key', () => 'made after')).toBe('made after')
    await idle()
    expect(store.locked.size).toBe(0)
  })

  it('serves the stale value while another process holds it', async () => {
    const store = sharedStore()
    const one = makeRegion<string>({ backend: store.connect() })
    const other = makeRegion<string>({ backend: store.connect() })
    await one.set('key', 'old')
    await one.expire('key')
    const creator = held<string>()
    const leader = one.getOrCreate('key', creator.create)
    await creator.started
    expect(await other.getOrCreate('key', () => expect.unreachable())).toBe('old')
    creator.resolve('new')
    expect(await leader).toBe('new')
    expect(await other.getOrCreate('key', () => expect.unreachable())).toBe('new')
  })

  it('is taken over by a refresh, and released once', async () => {
    const store = sharedStore()
    const region = makeRegion<string>({ backend: store.connect() })
    const slow = held<string>()
    const fetch = region.cacheOnArguments({ namespace: 'f' })(slow.create)
    const first = fetch()
    await slow.started
    slow.resolve('slow')
    await first
    expect(await fetch.refresh()).toBe('slow')
    await idle()
    expect(store.locked.size).toBe(0)
  })

  it('is not held while waiting for another key', async () => {
    const store = sharedStore()
    const one = makeRegion<string>({ backend: store.connect() })
    const other = makeRegion<string>({ backend: store.connect() })
    const creator = held<string>()
    const leader = one.getOrCreate('b', creator.create)
    await creator.started
    const many = other.getOrCreateMulti(['a', 'b', 'c'], (keys) => keys)
    expect(await isPending(many)).toBe(true)
    expect([...store.locked]).toEqual(['b'])
    creator.resolve('made by one')
    expect(await many).toEqual(['a', 'made by one', 'c'])
    await leader
  })

  it('whose release fails does not cost the value', async () => {
    const region = makeRegion<string>({
      backend: defineBackend<CachedValue>({
        name: 'own',
        get: () => undefined,
        set: () => {},
        delete: () => {},
        mutex: () => ({ acquire: () => true, release: () => Promise.reject(new Error('not the owner')) }),
      }),
    })
    expect(await region.getOrCreate('key', () => 'value')).toBe('value')
  })

  it('that cannot be taken rejects, and leaves nothing locked in this process', async () => {
    let broken = true
    const region = makeRegion<string>({
      backend: defineBackend<CachedValue>({
        name: 'own',
        get: () => undefined,
        set: () => {},
        delete: () => {},
        mutex: () => ({
          acquire() {
            if (broken) throw new Error('no connection')
            return true
          },
          release: () => {},
        }),
      }),
    })
    await expect(region.getOrCreate('key', () => expect.unreachable())).rejects.toMatchObject({
      code: 'ERR_BACKEND',
    })
    broken = false
    expect(await region.getOrCreate('key', () => 'value', { hardTimeout: 5_000 })).toBe('value')
  })

  it('that fails while it is waited for rejects with a typed error', async () => {
    const region = makeRegion<string>({
      backend: defineBackend<CachedValue>({
        name: 'own',
        get: () => undefined,
        set: () => {},
        delete: () => {},
        mutex: () => ({
          acquire: (wait) => (wait ? Promise.reject(new Error('no connection')) : false),
          release: () => {},
        }),
      }),
    })
    await expect(region.getOrCreate('key', () => expect.unreachable())).rejects.toMatchObject({
      code: 'ERR_BACKEND',
    })
  })

  it('keeps creators of one key apart under load', async () => {
    const store = sharedStore()
    const calls = counting()
    let inside = 0
    let overlapped = false
    await Promise.all(
      Array.from({ length: 5 }, async () => {
        const region = makeRegion<number>({ backend: store.connect() })
        for (let round = 0; round < 5; round++) {
          await region.getOrCreate(
            'key',
            async () => {
              if (++inside > 1) overlapped = true
              await idle(2)
              inside--
              return calls.next()
            },
            { shouldCache: () => false },
          )
        }
      }),
    )
    expect(overlapped).toBe(false)
    expect(calls.runs).toBeGreaterThan(4)
    expect(store.locked.size).toBe(0)
  })
})

describe('a mutex of this process', () => {
  it('is given to another as soon as it is free', async () => {
    const store = sharedStore()
    const backend = store.connect()
    const first = await backend.acquire('key', 10_000)
    expect(first.token).toBeDefined()
    const second = await backend.acquire('key', 10_000)
    expect(second.token).toBeUndefined()
    const woken = deferred()
    if (second.token === undefined) second.settled.then(() => woken.resolve(), woken.reject)
    await backend.release('key', first.token as string)
    await woken.promise
    expect((await backend.acquire('key', 10_000)).token).toBeDefined()
  })
})
