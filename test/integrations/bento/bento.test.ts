import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { BentoCache, bentostore } from 'bentocache'
import type { CacheDriver } from 'bentocache/types'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { bentoDriver } from '../../../src/integrations/bento.js'
import { bundleProgram, type Program } from '../../support/programs.js'
import { type Place, places } from '../../support/regions.js'

let place: Place
let program: Program
beforeAll(async () => {
  place = await places.memory()
  program = await bundleProgram('test/integrations/bento/suite-peer.ts')
})
afterAll(async () => {
  program.end()
  await place.end()
})

describe('bentoDriver()', () => {
  it.skipIf(inject('servers').redis === null)(
    'passes the suite that the package of BentoCache brings, over memory, Redis and LMDB',
    async () => {
      const { stdout } = await promisify(execFile)(process.execPath, [program.path], {
        env: { ...process.env, NO_COLOR: '1', FORCE_COLOR: '0' },
      })
      expect(stdout).toMatch(/63 passed/)
      expect(stdout).not.toMatch(/\d failed/)
    },
    120_000,
  )

  it('is the second layer of a real BentoCache, cleared by namespace', async () => {
    const driver = bentoDriver(place.region)
    const stores = { main: bentostore().useL2Layer(driver) }
    const bento = new BentoCache({ default: 'main', stores })
    const users = bento.namespace('users')
    expect(await users.getOrSet({ key: '5', factory: () => 'Ada', ttl: '1m' })).toBe('Ada')
    expect(await users.getOrSet({ key: '5', factory: () => 'Bob', ttl: '1m' })).toBe('Ada')
    await bento.set({ key: '5', value: 'root' })
    await users.clear()
    expect(await users.get({ key: '5' })).toBeUndefined()
    expect(await bento.get({ key: '5' })).toBe('root')
    await bento.disconnect()
    expect(place.region.isConfigured).toBe(true)
  })

  it('is a driver by the types of BentoCache, and clears a key that was written through its parent', async () => {
    const driver = bentoDriver(place.region).factory({ prefix: 'p' }) satisfies CacheDriver
    await driver.set('users:posts:1', 'text')
    await driver.namespace('users').clear()
    expect(await driver.get('users:posts:1')).toBeUndefined()
  })

  it('deletes for a lifetime that has passed', async () => {
    const driver = bentoDriver(place.region).factory()
    await driver.set('k', 'old')
    expect(await driver.set('k', 'new', 0)).toBe(true)
    expect(await driver.get('k')).toBeUndefined()
  })
})
