import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import {
  type Backend,
  type BackendSpec,
  type CachedValue,
  defineBackend,
  delegate,
  intercept,
  type LeaseOperations,
  mapKeys,
  mapValues,
  memoryLedger,
  wrap,
} from '../../src/index.js'
import { deferred } from '../support/waiting.js'

const value: CachedValue = { payload: 'stored', metadata: { startedAt: 1, createdAt: 2 } }

/** A store whose lease brings nothing but a token, and the tokens that it was given back. */
function tokensOnly(change: Partial<BackendSpec<CachedValue>> = {}) {
  const store = memory()
  const released: string[] = []
  const lease: LeaseOperations<CachedValue> = {
    acquire: async (key, ms, options) => {
      const acquired = await store.acquire(key, ms, options)
      return acquired.token === undefined ? acquired : { token: acquired.token }
    },
    renew: store.renew,
    release: (key, token) => {
      released.push(token)
      return store.release(key, token)
    },
    held: store.held,
  }
  const backend = defineBackend<CachedValue>({
    name: 'own',
    get: store.get,
    set: store.set,
    delete: store.delete,
    ledger: memoryLedger(),
    ...lease,
    ...change,
  })
  return { backend, store, released }
}

describe('a lease that is granted', () => {
  it('brings the stored value and the ledger’s time of a store that can read them in the same step', async () => {
    const store = memory()
    await store.set('key', value, {})
    const ledger = store.ledger?.open('clock')
    await ledger?.invalidate(['name'], 'hard')
    const question = { clock: 'clock', names: ['name'], expected: [] }
    const granted = await store.acquire('key', 1_000, { question })
    expect(granted).toMatchObject({ token: expect.any(String) as string, found: value })
    const other = tokensOnly().backend
    const time = await other.ledger?.open('clock').now(['name'])
    expect(await other.acquire('key', 1_000, { question })).toMatchObject({ found: undefined, asOf: time })
  })

  it('is given back if the read after the grant fails, and the caller gets that failure', async () => {
    const boom = new Error('boom')
    const { backend, released } = tokensOnly({ get: () => Promise.reject(boom) })
    await expect(backend.acquire('key', 1_000)).rejects.toBe(boom)
    expect(released).toHaveLength(1)
    expect(await backend.held('key')).toBe(false)
  })

  it('is given back if it is granted after the deadline', async () => {
    const late = deferred()
    const released: string[] = []
    const store = memory()
    const { backend } = tokensOnly({
      timeout: 10,
      acquire: async (key, ms) => {
        await late.promise
        return store.acquire(key, ms)
      },
      release: (key, token) => {
        released.push(token)
        return store.release(key, token)
      },
    })
    await expect(backend.acquire('key', 1_000)).rejects.toMatchObject({ code: 'ERR_TIMEOUT' })
    expect(released).toHaveLength(0)
    late.resolve()
    await expect.poll(() => released.length).toBe(1)
    expect(await store.held('key')).toBe(false)
  })

  it('brings a value through every layer as that layer reads it', async () => {
    const store = memory()
    await store.set('app:key', value, {})
    const shout = mapValues<CachedValue, CachedValue>({
      encode: (outer) => outer,
      decode: ({ payload, metadata }) => ({ payload: `${payload as string}!`, metadata }),
    })
    const chain = wrap(
      store,
      mapKeys((key) => `app:${key}`),
      shout,
      shout,
    )
    expect((await chain.acquire('key', 1_000)) as object).toMatchObject({ found: { payload: 'stored!!' } })
  })

  it.each([
    ['delegate', (next: Backend<CachedValue>) => delegate(next, { get: () => undefined })],
    ['a spread by hand', (next: Backend<CachedValue>) => ({ ...next, get: () => undefined })],
    ['intercept', intercept(({ name }, proceed) => (name === 'get' ? (undefined as never) : proceed()))],
  ])('brings no value past a layer that replaces get: %s', async (_, layer) => {
    const store = memory()
    await store.set('key', value, {})
    expect(await wrap(store, layer).acquire('key', 1_000)).toMatchObject({ found: undefined })
  })
})
