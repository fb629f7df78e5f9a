import { Client, type ClientApi, Policy } from '@hapi/catbox'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { catboxEngine } from '../../src/integrations/catbox.js'
import { type Place, places } from '../support/regions.js'

const id = (key: string) => ({ segment: 's', id: key })

for (const [name, open] of Object.entries(places))
  describe.skipIf(name === 'Redis' && inject('servers').redis === null)(`catboxEngine() over ${name}`, () => {
    let place: Place
    let client: Client<unknown>
    beforeAll(async () => {
      place = await open()
      client = new Client<unknown>(catboxEngine(place.region) satisfies ClientApi<unknown>)
      await client.start()
    })
    afterAll(async () => {
      await client.stop()
      await place.end()
    })

    it('keeps items with their instant and lifetime, and drops them', async () => {
      const before = Date.now()
      await client.set(id('a'), { n: 1 }, 60_000)
      const cached = await client.get(id('a'))
      expect(cached?.item).toEqual({ n: 1 })
      expect(cached?.stored).toBeGreaterThanOrEqual(before - 1)
      expect(cached?.ttl).toBeLessThanOrEqual(60_000)
      await client.drop(id('a'))
      expect(await client.get(id('a'))).toBeNull()
    })

    it('keeps segments apart that would meet in their keys', async () => {
      await client.set({ segment: 'a', id: 'b:c' }, 1, 60_000)
      expect(await client.get({ segment: 'a:b', id: 'c' })).toBeNull()
    })

    it('stores neither null nor a passed lifetime', async () => {
      await client.set(id('null'), null, 60_000)
      expect(await client.get(id('null'))).toBeNull()
      await client.set(id('past'), 1, 0)
      expect(await client.get(id('past'))).toBeNull()
    })

    it('serves a policy that generates', async () => {
      let runs = 0
      const policy = new Policy(
        { expiresIn: 60_000, generateTimeout: false, generateFunc: async () => ++runs },
        client,
        'p',
      )
      expect([await policy.get('k'), await policy.get('k')]).toEqual([1, 1])
      await policy.drop('k')
      expect(await policy.get('k')).toBe(2)
    })
  })

describe('catboxEngine()', () => {
  it('throws before it is started and after it was stopped', async () => {
    const place = await places.memory()
    const engine = catboxEngine(place.region, { closesRegion: true })
    await expect(engine.get(id('a'))).rejects.toThrow(/start\(\)/)
    await expect(new Client(engine).get(id('a'))).rejects.toThrow('Disconnected')
    await engine.start()
    expect(engine.isReady()).toBe(true)
    await engine.stop()
    expect([engine.isReady(), place.region.isConfigured]).toEqual([false, false])
    await place.end()
  })

  it('refuses names of segments that catbox has no use for', async () => {
    const engine = catboxEngine((await places.memory()).region)
    expect(engine.validateSegmentName('')).toBeInstanceOf(Error)
    expect(engine.validateSegmentName('a\0b')).toBeInstanceOf(Error)
    expect(engine.validateSegmentName('users')).toBeNull()
  })
})
