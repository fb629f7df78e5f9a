import { createStorage, type Driver } from 'unstorage'
import { describe, expect, it } from 'vitest'
import { unstorage } from '../../../backends/unstorage.js'
import { json } from '../../../proxies/json.js'
import { makeRegion, NO_VALUE, wrap } from '../../../src/index.js'
import { deferred } from '../../support/waiting.js'

const [one, two] = [new Uint8Array([1]), new Uint8Array([2])]

/** Items by key, and the options of the latest write. */
function driver(without?: 'setItem' | 'removeItem') {
  const items = new Map<string, string>()
  const ttls: unknown[] = []
  const made: Driver = {
    hasItem: (key: string) => items.has(key),
    getItem: (key: string) => items.get(key) ?? null,
    // In another order than that of the keys.
    getItems: (wanted: { key: string }[]) =>
      [...wanted].reverse().map(({ key }) => ({ key, value: items.get(key) ?? null })),
    setItem(key: string, value: string, options: { ttl?: number }) {
      ttls.push(options.ttl)
      items.set(key, value)
    },
    removeItem: (key: string) => void items.delete(key),
    getKeys: () => [...items.keys()],
  }
  if (without !== undefined) delete made[without]
  return { items, ttls, driver: made }
}

describe('unstorage()', () => {
  it('keeps apart the keys that a storage takes for one', async () => {
    const backend = unstorage({ storage: createStorage() })
    const keys = ['a/b', 'a:b', 'a\\b', 'a::b', 'a:b?x', 'A:B', '..:x', '', '$', '\ud800', '\udfff']
    for (const [at, key] of keys.entries()) await backend.set(key, new Uint8Array([at]), {})
    for (const [at, key] of keys.entries()) expect(await backend.get(key)).toEqual(new Uint8Array([at]))
  })

  it('stores keys of at most 181 characters, each a digit of its bytes or of its hash', async () => {
    const { driver: memory, items } = driver()
    const backend = unstorage({ storage: createStorage({ driver: memory }) })
    for (const length of [0, 45, 46, 5_000]) await backend.set('é'.repeat(length), one, {})
    for (const key of items.keys()) expect(key).toMatch(/^[khw][\da-f]{0,180}$/)
    expect(items.size).toBe(4)
  })

  it('matches the items of a batch by their keys, since drivers order them freely', async () => {
    const backend = unstorage({ storage: createStorage({ driver: driver().driver }) })
    await backend.set('a', one, {})
    await backend.set('b', two, {})
    expect(await backend.getMulti(['a', 'none', 'b', 'a'])).toEqual([one, undefined, two, one])
  })

  it('hands lifetimes over in seconds, never shorter, and never longer than a timer can wait', async () => {
    const { driver: memory, ttls } = driver()
    const backend = unstorage({ storage: createStorage({ driver: memory }) })
    for (const ttl of [1, 1_500, 400 * 86_400_000]) await backend.set('k', one, { ttl })
    await backend.set('k', one, {})
    expect(ttls).toEqual([1, 2, 2_147_483, undefined])
  })

  it('keeps the types of values that a storage would parse', async () => {
    const backend = wrap(unstorage({ storage: createStorage() }), json())
    const region = makeRegion<unknown>({ name: 'r', backend })
    for (const value of ['123', 'true', '{"a":1}', 123, null]) {
      await region.set('k', value)
      expect(await region.get('k')).toBe(value)
    }
  })

  it('refuses a driver that would ignore writes or deletions', () => {
    for (const missing of ['setItem', 'removeItem'] as const) {
      const storage = createStorage({ driver: driver(missing).driver })
      expect(() => unstorage({ storage })).toThrow(/not read-only/)
    }
  })

  it('is one backend for each storage, so that a deletion through one call voids a creation through another', async () => {
    const storage = createStorage()
    const open = (name?: string) =>
      makeRegion<string>({
        ...(name !== undefined && { name }),
        backend: wrap(unstorage({ storage }), json()),
      })
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
