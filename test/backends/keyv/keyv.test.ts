import { EventEmitter } from 'node:events'
import KeyvRedis from '@keyv/redis'
import Keyv from 'keyv'
import type { KeyvStorageAdapter } from 'keyv6'
import { afterEach, describe, expect, inject, it } from 'vitest'
import { type KeyvStorage, keyv } from '../../../backends/keyv.js'
import { json } from '../../../proxies/json.js'
import { makeRegion, NO_VALUE, wrap } from '../../../src/index.js'
import { type Server, startRedis } from '../../support/servers.js'
import { deferred } from '../../support/waiting.js'

const some = new Uint8Array([1, 2, 3])

function recording(capabilities?: { expires: boolean }) {
  const expiries: (number | undefined)[] = []
  const store: KeyvStorage = {
    get: () => undefined,
    set: (_key, _value, expiry) => void expiries.push(expiry),
    delete: () => false,
    ...(capabilities && { capabilities }),
  }
  return { expiries, store }
}

describe('keyv()', () => {
  it('takes stores of both majors, by their types', () => {
    const five = (store: KeyvRedis<unknown>) => keyv({ store })
    const six = (store: KeyvStorageAdapter) => keyv({ store })
    expect([five, six]).toHaveLength(2)
  })

  it('hands a lifetime in ms to a store of Keyv 5, and an epoch time to one of Keyv 6', async () => {
    const before = Date.now()
    const [old, recent] = [recording(), recording({ expires: true })]
    for (const { store } of [old, recent]) await keyv({ store }).set('k', some, { ttl: 60_000.5 })
    expect(old.expiries).toEqual([60_001])
    expect(recent.expiries[0]).toBeGreaterThanOrEqual(before + 60_001)
    for (const { store } of [old, recent]) await keyv({ store }).set('k', some, {})
    expect(old.expiries[1]).toBeUndefined()
    expect(recent.expiries[1]).toBeUndefined()
  })

  it('refuses a Keyv, which swallows failed deletions', () => {
    expect(() => keyv({ store: new Keyv() as never })).toThrow(/keyv\(\{ store: yours\.store \}\)/)
  })

  it('refuses a store without `delete`', () => {
    expect(() => keyv({ store: { get: () => undefined, set: () => true } as never })).toThrow(
      /a store of Keyv/,
    )
  })

  it('rejects a write that the store answers with false', async () => {
    const { store } = recording()
    const backend = keyv({ store: { ...store, set: () => Promise.resolve(false) } })
    await expect(backend.set('k', some, {})).rejects.toMatchObject({ code: 'ERR_BACKEND' })
  })

  it('rejects a deletion during which the store emits an error and throws nothing', async () => {
    const events = new EventEmitter()
    const cause = new Error('READONLY')
    const store = {
      ...recording().store,
      on: (event: 'error', listener: (error: unknown) => void) => events.on(event, listener),
      async delete() {
        events.emit('error', cause)
        return false
      },
    }
    const backend = keyv({ store })
    await expect(backend.delete('k')).rejects.toMatchObject({ code: 'ERR_BACKEND', cause })
    expect(await backend.get('k')).toBeUndefined()
  })

  it('takes a value of another writer for a miss', async () => {
    const backend = keyv({
      store: new Map<string, unknown>([
        ['k', '{"value":1}'],
        ['n', 1],
      ]),
    })
    expect(await backend.getMulti(['k', 'n', 'none'])).toEqual([undefined, undefined, undefined])
  })

  it('says how far its promises reach', () => {
    const region = makeRegion({ name: 'r', backend: wrap(keyv({ store: new Map() }), json()) })
    expect(region.guarantees.reach).toBe('process')
    expect(region.guarantees.limits.join('\n')).toMatch(/has no lease[\s\S]*has no ledger/)
  })

  it('is one backend for each store, so that a deletion through one call voids a creation through another', async () => {
    const store = new Map<string, unknown>()
    const open = (name?: string) =>
      makeRegion<string>({ ...(name !== undefined && { name }), backend: wrap(keyv({ store }), json()) })
    const [one, other] = [open('users'), open('users')]
    const [began, release] = [deferred(), deferred()]
    const creating = one.getOrCreate('row', async () => {
      began.resolve()
      await release.promise
      return 'old'
    })
    await began.promise
    await other.delete('row')
    release.resolve()
    await creating
    expect(await other.get('row')).toBe(NO_VALUE)
    expect(() => open()).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }))
  })
})

describe.skipIf(inject('servers').redis === null)('keyv() over @keyv/redis', () => {
  let server: Server | undefined
  const stores: KeyvRedis<unknown>[] = []
  afterEach(async () => {
    for (const store of stores.splice(0)) await store.disconnect(true).catch(() => undefined)
    await server?.stop()
  })

  it('rejects a deletion that Redis refuses, which the store answers with false', async () => {
    server = await startRedis()
    const store = new KeyvRedis(`redis://127.0.0.1:${server.port}`)
    stores.push(store)
    const region = makeRegion<string>({ name: 'r', backend: wrap(keyv({ store }), json()) })
    await region.set('k', 'old')
    const client = (await store.getClient()) as { sendCommand(words: string[]): Promise<unknown> }
    await client.sendCommand(['CONFIG', 'SET', 'min-replicas-to-write', '1'])
    // The store emits an event and returns false, as for a key that is not there.
    await expect(region.delete('k')).rejects.toMatchObject({ code: 'ERR_BACKEND' })
    await client.sendCommand(['CONFIG', 'SET', 'min-replicas-to-write', '0'])
    expect(await region.get('k')).toBe('old')
    await region.delete('k')
    expect(await region.has('k')).toBe(false)
  })
})
