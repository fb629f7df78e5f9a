import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { json } from '../../proxies/json.js'
import { prefix } from '../../proxies/prefix.js'
import {
  type Backend,
  type CachedValue,
  defineBackend,
  diagnostics,
  type Messages,
  makeRegion,
  NO_VALUE,
  type RegionOptions,
  wrap,
} from '../../src/index.js'
import { threeMethods } from '../support/three-methods.js'

const refusal = (code: string) => expect.objectContaining({ name: 'CorralError', code }) as Error

let notices: Messages['notice'][]
const listener = (message: unknown) => notices.push(message as Messages['notice'])
beforeEach(() => {
  notices = []
  diagnostics('notice').subscribe(listener)
})
afterEach(() => void diagnostics('notice').unsubscribe(listener))

const STORES: Readonly<Record<string, () => Backend<CachedValue>>> = {
  'a chain that tracks dependencies': () => wrap(memory(), dependencies()),
  'a store with a ledger': () => memory(),
  'a store without one': () => defineBackend<CachedValue>(threeMethods()),
  'a store of bytes': () => wrap(memory({ stores: 'bytes' }), json(), dependencies()),
}

for (const [name, store] of Object.entries(STORES))
  describe(`regions of different names over ${name}`, () => {
    const open = () => {
      const backend = store()
      return [
        makeRegion<unknown>({ name: 'users', backend }),
        makeRegion<unknown>({ name: 'products', backend }),
      ] as const
    }

    it('have entries of their own in every operation', async () => {
      const [users, products] = open()
      expect(await users.getOrCreate('5', () => 'Ada')).toBe('Ada')
      expect(await products.get('5')).toBe(NO_VALUE)
      expect(products.peek('5')).toBe(NO_VALUE)
      expect(await products.has('5')).toBe(false)
      expect(await products.getMulti(['5', '6'])).toEqual([NO_VALUE, NO_VALUE])
      expect(await products.getOrCreate('5', () => 'tea')).toBe('tea')
      expect(await products.getOrCreateMulti(['5', '6'], (keys) => keys.map((key) => `tea ${key}`))).toEqual([
        'tea',
        'tea 6',
      ])
      await products.setMulti([['5', 'coffee']])
      expect(await users.getMulti(['5', '6'])).toEqual(['Ada', NO_VALUE])
      await products.delete('5')
      await products.deleteMulti(['5'])
      await products.expire('5')
      expect(await users.get('5')).toBe('Ada')
      await products.invalidate()
      expect(await users.get('5')).toBe('Ada')
    })

    it('lease keys of their own', async () => {
      const [users, products] = open()
      let free = () => {}
      const creating = users.getOrCreate('5', () => new Promise((resolve) => (free = () => resolve('Ada'))))
      await Promise.resolve()
      await expect.poll(() => users.keyIsLocked('5')).toBe(true)
      expect(await products.keyIsLocked('5')).toBe(false)
      expect(await products.getOrCreate('5', () => 'tea')).toBe('tea')
      free()
      expect(await creating).toBe('Ada')
    })

    it('explain, report and announce the keys of their callers', async () => {
      const [users] = open()
      const reads: unknown[] = []
      const onRead = (message: unknown) => reads.push((message as Messages['read']).key)
      const announced: unknown[] = []
      users.on('invalidate', ({ names }) => announced.push(...names))
      diagnostics('read').subscribe(onRead)
      await users.getOrCreate('5', ({ key, keys }) => `${key} of ${keys.join()}`)
      expect(await users.get('5')).toBe('5 of 5')
      diagnostics('read').unsubscribe(onRead)
      expect(reads).toEqual(['5', '5'])
      expect(await users.explain('5')).toMatchObject({ verdict: 'hit' })
      await users.delete('5')
      expect(announced).toEqual(['5'])
      expect(await users.explain('5')).toMatchObject({ verdict: 'miss' })
    })
  })

describe('the keyspace of a region', () => {
  const raw = async (options: RegionOptions) => {
    const store = memory()
    await makeRegion({ ...options, backend: store }).set('5', 1)
    const candidates = ['5', 'users:5', 'a%3ab:5', 'a:5', 'a:b:5', '%7ecorral%3a:5', '%7bx%7d:5', 'a%253ab:5']
    const found = await store.getMulti(candidates)
    return candidates.filter((_, i) => found[i] !== undefined)
  }

  it('is its name, in front of every key', async () => {
    expect(await raw({ name: 'users' })).toEqual(['users:5'])
    expect(await raw({ name: 'products', keyspace: 'users' })).toEqual(['users:5'])
    expect(await raw({ keyspace: 'users' })).toEqual(['users:5'])
  })

  it('is absent without a name', async () => {
    expect(await raw({})).toEqual(['5'])
  })

  it('ends where it ends, opens no hash tag, and does not look like bookkeeping', async () => {
    expect(await raw({ name: 'a:b' })).toEqual(['a%3ab:5'])
    expect(await raw({ name: 'a%3ab' })).toEqual(['a%253ab:5'])
    expect(await raw({ name: '{x}' })).toEqual(['%7bx%7d:5'])
    expect(await raw({ name: '~corral:' })).toEqual(['%7ecorral%3a:5'])
    const backend = memory()
    await makeRegion({ name: 'a', backend }).set('b:5', 1)
    expect(await makeRegion({ name: 'a:b', backend }).get('5')).toBe(NO_VALUE)
  })

  it('must be a text with something in it', () => {
    for (const keyspace of ['', 5, null])
      expect(() => makeRegion({ keyspace } as never)).toThrow(refusal('ERR_OPTION'))
  })

  for (const [name, store] of Object.entries(STORES))
    it(`shares entries and invalidations of regions that say the same one, over ${name}`, async () => {
      const backend = store()
      const here = makeRegion<number>({ name: 'here', keyspace: 'both', backend })
      const there = makeRegion<number>({ name: 'there', keyspace: 'both', backend })
      await here.set('5', 1)
      expect(await there.get('5')).toBe(1)
      await there.invalidate()
      expect(await here.get('5')).toBe(NO_VALUE)
      expect(await there.get('5')).toBe(NO_VALUE)
      await there.set('5', 2)
      await here.invalidate('soft')
      expect(await there.get('5')).toBe(NO_VALUE)
      expect(await there.get('5', { ignoreExpiration: true })).toBe(2)
      expect(notices).toEqual([])
    })
})

describe('a region without a name', () => {
  it('is alone over its store, whichever is configured first and through which chain', () => {
    const configured = (backend: Backend<CachedValue>, name?: string) => () =>
      makeRegion({ ...(name !== undefined && { name }), backend })
    for (const [first, second] of [[], ['users'], [undefined, 'users']] as (string | undefined)[][]) {
      const store = memory()
      configured(store, first)()
      if (first === undefined || second === undefined) {
        expect(configured(store, second)).toThrow(refusal('ERR_OPTION'))
        expect(configured(wrap(store, prefix('a:')), second)).toThrow(refusal('ERR_OPTION'))
        expect(configured(store, second)).toThrow(/makeRegion\({ name: 'users' }\)/)
      }
    }
  })

  it('may take the place of one that was closed, and of itself', async () => {
    const backend = memory()
    const first = makeRegion({ backend })
    first.configure({ backend, replaceExistingBackend: true })
    first.configure({ backend: wrap(backend, dependencies()), replaceExistingBackend: true })
    await first.close()
    const store = memory()
    makeRegion({ backend: store }).configure({ backend: memory(), replaceExistingBackend: true })
    makeRegion({ name: 'users', backend: store })
  })

  it('leaves a refused region as it was', async () => {
    const store = memory()
    makeRegion({ name: 'users', backend: store })
    const region = makeRegion({ backend: memory() })
    await region.set('5', 1)
    expect(() => region.configure({ backend: store, replaceExistingBackend: true })).toThrow(
      refusal('ERR_OPTION'),
    )
    expect(await region.get('5')).toBe(1)
  })
})

describe('two regions of one name', () => {
  const twins = (name: string, chains: (store: Backend<CachedValue>) => readonly Backend<CachedValue>[]) =>
    chains(memory()).map((backend) => makeRegion<number>({ name, backend }))

  it('over one store are reported once', () => {
    const regions = twins('twin', (store) => [store, wrap(store, dependencies()), store])
    expect(regions).toHaveLength(3)
    expect(notices).toEqual([expect.objectContaining({ where: 'region twin' })])
  })

  it('are no twins if both say a keyspace, though it is the name', () => {
    const backend = memory()
    for (let i = 0; i < 2; i++) makeRegion({ name: 'said', keyspace: 'said', backend })
    expect(notices).toEqual([])
    makeRegion({ name: 'said', backend })
    expect(notices).toHaveLength(1)
  })

  it('are no twins under different prefixes, nor over different stores, nor once the first is closed', async () => {
    twins('apart', (store) => [
      wrap(store, prefix('a:'), dependencies()),
      wrap(store, prefix('b:'), dependencies()),
    ])
    twins('apart', (store) => [store])
    const backend = memory()
    const first = makeRegion({ name: 'apart', backend })
    first.configure({ backend, replaceExistingBackend: true })
    makeRegion({ name: 'other', backend })
    await first.close()
    makeRegion({ name: 'apart', backend })
    expect(notices).toEqual([])
  })

  it('keep an invalidation that came before the second was configured, over a store without a ledger', async () => {
    const backend = defineBackend<CachedValue>(threeMethods())
    const first = makeRegion<number>({ name: 'late', backend })
    await first.set('5', 1)
    await first.invalidate()
    expect(await makeRegion<number>({ name: 'late', backend }).get('5')).toBe(NO_VALUE)
  })
})
