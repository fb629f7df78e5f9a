import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import {
  type Backend,
  type CachedValue,
  delegate,
  intercept,
  makeRegion,
  mapValues,
  NO_VALUE,
  type OperationName,
  type TransparentProxy,
  wrap,
} from '../../src/index.js'
import { counting } from '../support/stage.js'

/** Counts the operations that pass through it. */
function counter() {
  const counts: Partial<Record<OperationName, number>> = {}
  const proxy: TransparentProxy = (next) =>
    delegate(next, {
      get(key) {
        counts.get = (counts.get ?? 0) + 1
        return next.get(key)
      },
      set(key, value, options) {
        counts.set = (counts.set ?? 0) + 1
        return next.set(key, value, options)
      },
    })
  return { counts, proxy }
}

describe('a proxy over values', () => {
  it('sees whole cached values, in both directions', async () => {
    const seen: unknown[] = []
    const region = makeRegion({
      backend: wrap(memory(), (next: Backend<CachedValue>) =>
        delegate(next, {
          get(key) {
            const found = next.get(key)
            seen.push(found)
            return found
          },
          set(key, value, options) {
            seen.push(value)
            return next.set(key, value, options)
          },
        }),
      ),
    })
    await region.set('key', 'value')
    await region.get('key')
    expect(seen).toMatchObject([
      { payload: 'value', metadata: { createdAt: expect.any(Number) as number } },
      { payload: 'value' },
    ])
  })

  it('counts the operations that it overrides; the others work', async () => {
    const inner = counter()
    const outer = counter()
    const region = makeRegion({ backend: wrap(memory(), inner.proxy, outer.proxy) })
    for (let i = 0; i < 10; i++) await region.set('key', i)
    for (let i = 0; i < 10; i++) await region.get('key')
    expect(inner.counts).toEqual({ get: 10, set: 10 })
    expect(outer.counts).toEqual({ get: 10, set: 10 })
    await region.delete('key')
    expect(await region.get('key')).toBe(NO_VALUE)
  })

  it('keeps a state of its own for each', async () => {
    const one = counter()
    const other = counter()
    const first = makeRegion({ backend: wrap(memory(), one.proxy) })
    const second = makeRegion({ backend: wrap(memory(), other.proxy) })
    await first.set('key', 1)
    await second.get('key')
    expect(one.counts).toEqual({ set: 1 })
    expect(other.counts).toEqual({ get: 1 })
  })

  it('may be used for several backends', async () => {
    const { counts, proxy } = counter()
    const first = makeRegion<number>({ backend: wrap(memory(), proxy) })
    const second = makeRegion<number>({ backend: wrap(memory(), proxy) })
    await first.set('key', 1)
    await second.set('key', 2)
    expect(await first.get('key')).toBe(1)
    expect(await second.get('key')).toBe(2)
    expect(counts).toEqual({ get: 2, set: 2 })
  })

  it('may take arguments', async () => {
    const blocking =
      (blocked: string): TransparentProxy =>
      (next) =>
        delegate(next, {
          set: (key, value, options) => (key === blocked ? 'lost' : next.set(key, value, options)),
        })
    const region = makeRegion({ backend: wrap(memory(), blocking('secret')) })
    expect(
      await region.setMulti([
        ['secret', 1],
        ['public', 2],
      ]),
    ).toEqual(['lost', 'stored'])
    expect(await region.getMulti(['secret', 'public'])).toEqual([NO_VALUE, 2])
  })

  it('sees every operation, whichever form a region uses', async () => {
    const { counts, proxy } = counter()
    const region = makeRegion<string>({ backend: wrap(memory(), proxy) })
    await region.setMulti([
      ['a', '1'],
      ['b', '2'],
    ])
    expect(counts).toEqual({ set: 2 })
    await region.getMulti(['a', 'b', 'c'])
    expect(counts).toEqual({ set: 2, get: 3 })
    await region.getOrCreateMulti(['c', 'd'], (keys) => keys)
    expect(counts.set).toBe(4)
    await region.getOrCreate('e', () => '5')
    expect(counts.set).toBe(5)
    const f = region.cacheOnArguments({ namespace: 'f' })(() => 'f')
    await f.refresh()
    expect(counts.set).toBe(6)
    await region.expire('e')
    expect(counts.set).toBe(7)
  })
})

describe('several proxies', () => {
  it('are passed from the outermost, which is listed last, inwards', async () => {
    const order: string[] = []
    const named = (name: string): TransparentProxy =>
      intercept((operation, proceed) => {
        if (operation.name === 'get') order.push(name)
        return proceed()
      })
    const backend = wrap(memory(), named('first'), named('second'))
    const region = makeRegion({ backend: wrap(backend, named('third')) })
    await region.get('key')
    expect(order).toEqual(['third', 'second', 'first'])
  })
})

describe('an intercepting proxy', () => {
  it('sees names and keys of operations, and may try again', async () => {
    const seen: string[] = []
    let failures = 2
    const region = makeRegion<number>({
      backend: wrap(
        memory(),
        intercept((operation, proceed) => {
          seen.push(`${operation.name} ${operation.keys.join()}`)
          if (operation.name === 'delete' && failures-- > 0) return proceed()
          return proceed()
        }),
      ),
    })
    await region.setMulti([
      ['a', 1],
      ['b', 2],
    ])
    await region.getMulti(['a', 'b'])
    await region.delete('a')
    await region.deleteMulti(['a', 'b'])
    await region.keyIsLocked('a')
    await region.getOrCreate('a', () => 3)
    expect(seen).toEqual([
      'setMulti a,b',
      'getMulti a,b',
      'delete a',
      'deleteMulti a,b',
      'held a',
      'get a',
      'acquire a',
      'get a',
      'set a',
    ])
  })

  it('that retries a deletion hides failures that pass', async () => {
    let attempts = 0
    const flaky: TransparentProxy = (next) =>
      delegate(next, {
        delete(key) {
          if (++attempts < 3) throw new Error('no connection')
          return next.delete(key)
        },
      })
    const retry = intercept((operation, proceed) => {
      if (operation.name !== 'delete') return proceed()
      for (let left = 5; ; left--)
        try {
          return proceed()
        } catch (error) {
          if (left === 0) throw error
        }
    })
    const region = makeRegion({ backend: wrap(memory(), flaky, retry) })
    await region.set('key', 1)
    await region.delete('key')
    expect(attempts).toBe(3)
    expect(await region.get('key')).toBe(NO_VALUE)
  })
})

describe('an encoding written by hand', () => {
  const text = mapValues<CachedValue, string>({
    name: 'text',
    encode: ({ payload, metadata }) => `${JSON.stringify(metadata)}|${JSON.stringify(payload)}`,
    decode(stored) {
      const at = stored.indexOf('|')
      return { metadata: JSON.parse(stored.slice(0, at)), payload: JSON.parse(stored.slice(at + 1)) }
    },
  })
  const store = () => memory() as unknown as Backend<string>

  it('is undone on the way back', async () => {
    const backend = store()
    const region = makeRegion({ backend: wrap(backend, text) })
    const payload = { foo: ['bar', 1, false, null] }
    await region.set('key', payload)
    expect(await region.get('key')).toEqual(payload)
    expect((await backend.get('key'))?.split('|')[1]).toBe(JSON.stringify(payload))
    await region.setMulti([
      ['a', payload],
      ['b', 2],
    ])
    expect(await region.getMulti(['a', 'b', 'c'])).toEqual([payload, 2, NO_VALUE])
  })

  it('makes a miss of a value that it cannot decode, which is then created again', async () => {
    const backend = store()
    const region = makeRegion<string>({ backend: wrap(backend, text) })
    for (const garbage of ['', '|', 'no separator', '{"createdAt":1}|{', 'null|1', '{}|1', '[]|1']) {
      await backend.set('key', garbage, {})
      expect(await region.get('key'), garbage).toBe(NO_VALUE)
      expect(await region.getMulti(['key']), garbage).toEqual([NO_VALUE])
      expect(await region.getValueMetadata('key'), garbage).toBeUndefined()
      expect(await region.getOrCreate('key', () => 'anew'), garbage).toBe('anew')
      expect(await region.get('key'), garbage).toBe('anew')
    }
  })

  it('that refuses a version makes a miss for every kind of read', async () => {
    let version = 1
    const versioned = mapValues<CachedValue, CachedValue>({
      encode: ({ payload, metadata }) => ({ payload: { version, payload }, metadata }),
      decode({ payload, metadata }) {
        const inner = payload as { version: number; payload: unknown }
        return inner.version === version ? { payload: inner.payload, metadata } : undefined
      },
    })
    const region = makeRegion<number>({ backend: wrap(memory(), versioned) })
    const calls = counting()
    await region.getOrCreate('key', calls.next)
    version = 2
    expect(await region.get('key')).toBe(NO_VALUE)
    expect(await region.getMulti(['key'])).toEqual([NO_VALUE])
    expect(await region.has('key')).toBe(false)
    expect(await region.getValueMetadata('key')).toBeUndefined()
    expect(region.peek('key', { ignoreExpiration: true })).toBe(NO_VALUE)
    expect(await region.getOrCreate('key', calls.next)).toBe(2)
    expect(await region.getOrCreateMulti(['key'], () => expect.unreachable())).toEqual([2])
  })

  it('that refuses to encode rejects, and leaves nothing half-done', async () => {
    const picky = mapValues<CachedValue, CachedValue>({
      encode(value) {
        if (value.payload === 'bad') throw new Error('cannot encode')
        return value
      },
      decode: (stored) => stored,
    })
    const region = makeRegion<string>({ backend: wrap(memory(), picky) })
    await region.setMulti([
      ['a', 'old'],
      ['b', 'old'],
    ])
    await expect(region.set('a', 'bad')).rejects.toThrow('cannot encode')
    await expect(
      region.setMulti([
        ['b', 'good'],
        ['a', 'bad'],
      ]),
    ).rejects.toThrow('cannot encode')
    expect(await region.getMulti(['a', 'b'])).toEqual(['old', 'old'])
    await expect(region.getOrCreate('c', () => 'bad')).rejects.toThrow('cannot encode')
    expect(await region.keyIsLocked('c')).toBe(false)
  })
})

describe('the function of intercept()', () => {
  const forgetting = (forgotten: OperationName, answer?: unknown) =>
    intercept(async ({ name }, proceed) => {
      const result = await proceed()
      return name === forgotten ? (answer as typeof result) : result
    })
  const regionOf = (...given: Parameters<typeof forgetting>) =>
    makeRegion<number>({ name: 'r', backend: wrap(memory(), forgetting(...given), dependencies()) })
  const refused = { code: 'ERR_OPTION', message: expect.stringContaining('Return what proceed() returned') }

  it('has to return the result of a write, a batch and a lease', async () => {
    for (const answer of [undefined, null, 'weird', {}]) {
      await expect(regionOf('set', answer).set('k', 1)).rejects.toMatchObject(refused)
      const pairs = [['a', 1] as const, ['b', 2] as const]
      await expect(regionOf('setMulti', answer).setMulti(pairs)).rejects.toMatchObject(refused)
    }
    for (const answer of [undefined, []]) {
      await expect(regionOf('getMulti', answer).getMulti(['a', 'b'])).rejects.toMatchObject(refused)
      const fills = regionOf('setMulti', answer).getOrCreateMulti(['a', 'b'], (keys) => keys.map(() => 1))
      await expect(fills).rejects.toMatchObject(refused)
    }
    await expect(regionOf('acquire').getOrCreate('k', () => 1)).rejects.toMatchObject(refused)
  })
})
