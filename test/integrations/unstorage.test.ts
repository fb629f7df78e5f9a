import { createStorage, type Driver, prefixStorage, type Storage } from 'unstorage'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { diagnostics, makeRegion, mapKeys, NO_VALUE, sha256, wrap } from '../../src/index.js'
import { unstorageDriver } from '../../src/integrations/unstorage.js'
import { type Place, places } from '../support/regions.js'

for (const [name, open] of Object.entries(places))
  describe.skipIf(name === 'Redis' && inject('servers').redis === null)(
    `unstorageDriver() over ${name}`,
    () => {
      let place: Place
      let storage: Storage
      beforeAll(async () => {
        place = await open()
        storage = createStorage({ driver: unstorageDriver(place.region) satisfies Driver })
      })
      afterAll(() => place.end())

      it('reads, writes, has and removes items', async () => {
        expect(await storage.getItem('a')).toBeNull()
        expect(await storage.hasItem('a')).toBe(false)
        for (const value of ['text', 1, true, { deep: [null] }, ['list']]) {
          await storage.setItem('a', value)
          expect(await storage.getItem('a')).toEqual(value)
        }
        await storage.removeItem('a')
        expect(await storage.hasItem('a')).toBe(false)
      })

      it('keeps raw values, bytes included', async () => {
        await storage.setItemRaw('raw', new Uint8Array([1, 0, 255]))
        expect([...((await storage.getItemRaw<Uint8Array>('raw')) ?? [])]).toEqual([1, 0, 255])
      })

      it('writes and reads many, and those that are missing as null', async () => {
        await storage.setItems([
          { key: 'm:1', value: 'one' },
          { key: 'm:2', value: 'two', options: { ttl: 60 } },
        ])
        const items = await storage.getItems(['m:2', 'm:none', 'm:1'])
        expect(items.map(({ value }) => value)).toEqual(['two', null, 'one'])
      })

      it('takes lifetimes in seconds, and tells their rest', async () => {
        await storage.setItem('ttl', 'v', { ttl: 60 })
        expect((await place.region.explain('ttl')).expiresIn).toBe(60_000)
        const { mtime, ttl } = await storage.getMeta('ttl')
        expect(mtime).toBeInstanceOf(Date)
        expect(ttl).toBeGreaterThan(0)
        await storage.setItem('ttl', 'v', { ttl: -1 })
        expect(await place.region.get('ttl')).toBe(NO_VALUE)
        for (const none of [0, null]) {
          await storage.setItem('ttl', `v${none}`, { ttl: none })
          expect(await storage.getItem('ttl')).toBe(`v${none}`)
          expect(await storage.getMeta('ttl')).not.toHaveProperty('ttl')
        }
      })

      it('clears a mount by one write, and leaves the others', async () => {
        const mounted = createStorage()
        for (const base of ['cache', 'session']) mounted.mount(base, unstorageDriver(place.region, { base }))
        await mounted.setItem('cache:a:b', 1)
        await mounted.setItem('session:a:b', 2)
        await mounted.clear('cache')
        expect(await mounted.getItem('cache:a:b')).toBeNull()
        expect(await mounted.getItem('session:a:b')).toBe(2)
      })

      it('clears a base within it, where the driver is asked to', async () => {
        const driver = unstorageDriver(place.region)
        for (const key of ['x:y:1', 'x:z', 'xy']) await driver.setItem(key, 'v')
        await driver.clear('x:y:')
        expect(await driver.getItem('x:y:1')).toBeNull()
        await driver.clear('x')
        expect([await driver.getItem('x:z'), await driver.getItem('xy')]).toEqual([null, 'v'])
        await driver.clear()
        expect(await driver.getItem('xy')).toBeNull()
      })

      it('works below prefixStorage', async () => {
        const prefixed = prefixStorage(storage, 'p')
        await prefixed.setItem('k', 'v')
        expect(await storage.getItem('p:k')).toBe('v')
      })
    },
  )

describe('unstorageDriver()', () => {
  it('reads the list of items at the call', async () => {
    const region = makeRegion({ name: 'r', backend: wrap(memory(), dependencies()) })
    const driver = unstorageDriver(region)
    await driver.setItem('a', 'A')
    const items = [{ key: 'a' }]
    const reading = driver.getItems(items)
    items.splice(0, 1, { key: 'q' }, { key: 'r' })
    expect(await reading).toEqual([{ key: 'a', value: 'A' }])
  })

  it('lists the keys of its values, by base and below its own', async () => {
    const region = makeRegion({ name: 'r', backend: wrap(memory(), dependencies()) })
    const storage = createStorage({ driver: unstorageDriver(region, { base: 'cache' }) })
    await region.set('other', 1)
    for (const key of ['a:b', 'a:c', 'ab', 'x']) await storage.setItem(key, 'v')
    expect((await storage.getKeys()).sort()).toEqual(['a:b', 'a:c', 'ab', 'x'])
    expect((await storage.getKeys('a')).sort()).toEqual(['a:b', 'a:c'])
    await unstorageDriver(region, { base: 'cache' }).clear('a')
    expect((await storage.getKeys()).sort()).toEqual(['ab', 'x'])
  })

  it('lists no keys over a store that cannot, and a notice tells of it once', async () => {
    const place = {
      region: makeRegion({ name: 'r', backend: wrap(memory(), mapKeys(sha256), dependencies()) }),
    }
    const seen: unknown[] = []
    const note = (message: unknown) => void seen.push(message)
    diagnostics('notice').subscribe(note)
    const storage = createStorage({ driver: unstorageDriver(place.region, { closesRegion: true }) })
    await storage.setItem('k', 'v')
    for (let i = 0; i < 2; i++) expect(await storage.getKeys()).toEqual([])
    diagnostics('notice').unsubscribe(note)
    expect(seen).toMatchObject([{ where: 'unstorage' }])
    await storage.dispose()
    expect(place.region.isConfigured).toBe(false)
  })
})
