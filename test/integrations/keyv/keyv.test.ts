import { createCache } from 'cache-manager'
import Keyv, { type KeyvStoreAdapter } from 'keyv'
import type { KeyvStorageAdapter } from 'keyv6'
import { describe, expect, it } from 'vitest'
import { memory } from '../../../backends/memory/index.js'
import { dependencies } from '../../../proxies/dependencies.js'
import { diagnostics, makeRegion, NO_VALUE, wrap } from '../../../src/index.js'
import { keyv5Store, keyv6Store } from '../../../src/integrations/keyv.js'

const tracked = () => makeRegion({ name: 'r', backend: wrap(memory(), dependencies()) })

/** A region whose store can be switched off. */
function breakable() {
  const state = { away: false }
  const store = memory()
  const check = () => {
    if (state.away) throw new Error('away')
  }
  const backend = {
    ...store,
    get: (key: string) => (check(), store.get(key)),
    getMulti: (keys: readonly string[]) => (check(), store.getMulti(keys)),
    delete: (key: string) => (check(), store.delete(key)),
    deleteMulti: (keys: readonly string[]) => (check(), store.deleteMulti(keys)),
  }
  return { state, region: makeRegion({ name: 'r', backend: wrap(backend, dependencies()) }) }
}

function failures(): { readonly seen: unknown[]; stop(): void } {
  const seen: unknown[] = []
  const note = (message: unknown) => void seen.push(message)
  diagnostics('failure').subscribe(note)
  return { seen, stop: () => diagnostics('failure').unsubscribe(note) }
}

describe('keyv5Store()', () => {
  it('is a store by the types of Keyv 5', () => {
    expect(keyv5Store(tracked()) satisfies KeyvStoreAdapter).not.toHaveProperty('iterator')
  })

  it('clears one namespace of a shared region, where every Keyv has a store of its own', async () => {
    const region = tracked()
    const [users, books] = ['users', 'books'].map(
      (namespace) => new Keyv({ store: keyv5Store(region), namespace }),
    )
    for (const one of [users, books]) await one?.set('5', 'value')
    await users?.clear()
    expect(await users?.get('5')).toBeUndefined()
    expect(await books?.get('5')).toBe('value')
  })

  it('clears the whole region without a namespace', async () => {
    const region = tracked()
    const store = keyv5Store(region)
    await store.set('a', 1)
    await store.clear()
    expect(await region.get('a')).toBe(NO_VALUE)
  })

  it('keeps a value without a lifetime as long as the region does, and deletes for one that has passed', async () => {
    const region = tracked()
    const store = keyv5Store(region)
    for (const ttl of [undefined, 0, 60_000]) expect(await store.set('a', 1, ttl)).toBe(true)
    expect((await region.explain('a')).expiresIn).toBe(60_000)
    expect(await store.set('a', 1, -5)).toBe(true)
    expect(await store.has('a')).toBe(false)
  })

  it('hands out no expired value', async () => {
    let now = 1_000
    const region = makeRegion({
      name: 'r',
      backend: wrap(memory(), dependencies()),
      clock: { now: () => now },
    })
    const store = keyv5Store(region)
    await store.set('a', 1, 1_000)
    now += 1_001
    expect(await store.getMany(['a'])).toEqual([undefined])
    // The store still holds it, for callers that take stale values.
    expect([await store.delete('a'), await store.delete('a')]).toEqual([true, false])
  })

  it('takes a failing read for a miss and reports it; a failing deletion rejects, and is reported', async () => {
    const { region, state } = breakable()
    const store = keyv5Store(region)
    const keyv = new Keyv({ store, throwOnErrors: true })
    await keyv.set('a', 1)
    const { seen, stop } = failures()
    state.away = true
    expect(await store.get('a')).toBeUndefined()
    await expect(store.delete('a')).rejects.toThrow('away')
    await expect(keyv.delete('a')).rejects.toThrow('away')
    stop()
    expect(seen.length).toBeGreaterThanOrEqual(3)
    expect(seen[0]).toMatchObject({ where: 'keyv', key: 'a' })
    state.away = false
    expect(await keyv.get('a')).toBe(1)
  })

  it('closes the region only where it is told so', async () => {
    const [kept, closed] = [tracked(), tracked()]
    await keyv5Store(kept).disconnect()
    await keyv5Store(closed, { closesRegion: true }).disconnect()
    expect([kept.isConfigured, closed.isConfigured]).toEqual([true, false])
  })

  it('refuses a misspelt option, and something that is no region', () => {
    expect(() => keyv5Store(tracked(), { closeRegion: true } as never)).toThrow(/closesRegion/)
    expect(() => keyv5Store(new Map() as never)).toThrow(/keyv5Store\(\) to receive a region/)
  })
})

describe.each([keyv5Store, keyv6Store])('%o', (storeOf) => {
  it('deletes the keys that the list holds at the call', async () => {
    const store = storeOf(tracked())
    for (const key of ['a', 'b', 'c']) await store.set(key, key)
    const keys = ['a', 'b']
    const deleted = store.deleteMany(keys)
    keys.splice(0, 2, 'c')
    await deleted
    expect(await store.hasMany(['a', 'b', 'c'])).toEqual([false, false, true])
  })
})

describe('cache-manager over keyv5Store()', () => {
  const cache = (region = tracked()) =>
    createCache({ stores: [new Keyv({ store: keyv5Store(region), namespace: 'n' })], ttl: 60_000 })

  it('reads, writes, deletes and clears, one key and many', async () => {
    const one = cache()
    await one.set('a', { n: 1 })
    await one.mset([
      { key: 'b', value: 2 },
      { key: 'c', value: 3, ttl: 30_000 },
    ])
    expect(await one.mget(['a', 'b', 'none', 'c'])).toEqual([{ n: 1 }, 2, undefined, 3])
    expect(await one.ttl('c')).toBeLessThanOrEqual(Date.now() + 30_000)
    await one.del('a')
    await one.mdel(['b'])
    expect(await one.mget(['a', 'b', 'c'])).toEqual([undefined, undefined, 3])
    await one.clear()
    expect(await one.get('c')).toBeUndefined()
  })

  it('wraps a function, also a failing one', async () => {
    const one = cache()
    let runs = 0
    const load = () => one.wrap('k', async () => ++runs)
    expect([await load(), await load()]).toEqual([1, 1])
    await expect(one.wrap('bad', () => Promise.reject(new Error('no')))).rejects.toThrow('no')
    expect(await one.get('bad')).toBeUndefined()
  })

  it('shares its entries with another cache over the region, and its clear()', async () => {
    const region = tracked()
    const [here, there] = [cache(region), cache(region)]
    await here.set('k', 'v')
    expect(await there.get('k')).toBe('v')
    await there.clear()
    expect(await here.get('k')).toBeUndefined()
  })
})

describe('keyv6Store()', () => {
  it('is a store by the types of Keyv 6', () => {
    const store = keyv6Store(tracked()) satisfies KeyvStorageAdapter
    expect(store.capabilities).toMatchObject({ expires: true, methods: { iterator: { exists: false } } })
  })

  it('takes epoch times as lifetimes', async () => {
    const region = tracked()
    const store = keyv6Store(region)
    await store.set('a', 1, Date.now() + 60_000)
    expect((await region.explain(':a')).expiresIn).toBeGreaterThan(30_000)
    expect(await store.setMany([{ key: 'a', value: 1, expires: Date.now() - 1 }])).toEqual([true])
    expect(await store.deleteMany(['a'])).toEqual([false])
  })

  it('keeps namespaces apart that would meet in their keys', async () => {
    const region = tracked()
    const store = keyv6Store(region)
    const names = [undefined, 'a', 'a:b', 'a\\', '']
    for (const namespace of names) {
      store.namespace = namespace
      await store.set('b:c', namespace ?? 'none')
    }
    store.namespace = 'a:b'
    expect(await store.get('c')).toBeUndefined()
    await store.clear()
    expect(await store.has('b:c')).toBe(false)
    store.namespace = 'a'
    expect(await store.get('b:c')).toBe('a')
  })
})
