/** The behaviour of versioned_lru_cache, and each of its defects, which Corral must not have. */
import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { makeRegion, NO_VALUE, wrap } from '../../src/index.js'
import { session, versioned } from '../../src/session/index.js'
import { manualClock } from '../support/stage.js'
import { gate, turn } from '../support/waiting.js'
import { cachedTable } from './support.js'

describe('a function with a version', () => {
  it('remembers the version with the session object that it was given', async () => {
    const g = {}
    let asked = 0
    const cached = versioned({ namespace: 'context', session: () => g, version: () => ++asked })(() => 'v')
    await cached()
    expect(await cached.version()).toBe('1')
    expect(await cached.version()).toBe('1')
    expect(Object.keys(g)).toEqual([])
    const other = versioned({ namespace: 'other', session: () => g, version: () => 'of its own' })(() => 'v')
    expect(await other.version()).toBe('of its own')
    expect(asked).toBe(1)
  })

  it('is executed once by two calls of a session', async () => {
    const { seen, cached } = cachedTable()
    await session.run(async () => [await cached('a'), await cached('a')])
    expect(seen.reads).toBe(1)
  })

  it('is executed once by two sessions that find the same version', async () => {
    const { seen, cached } = cachedTable()
    await session.run(() => cached('a'))
    await session.run(() => cached('a'))
    expect(seen).toEqual({ versions: 2, reads: 1 })
  })

  it('is executed twice by two sessions that find different versions', async () => {
    const { seen, write, cached } = cachedTable()
    await session.run(() => cached('a'))
    write('a', 'changed')
    expect(await session.run(() => cached('a'))).toBe('changed')
    expect(seen.reads).toBe(2)
  })
})

describe('defects that it must not have', () => {
  it('L1: the version that a session knows is that of the arguments', async () => {
    const { seen, write, cached } = cachedTable()
    await session.run(async () => [await cached('a'), await cached('b')])
    write('b', 'changed')
    await session.run(async () => {
      await cached('a')
      expect(await cached('b')).toBe('changed')
    })
    expect(seen.reads).toBe(3)
  })

  it('L2: results of several arguments are kept beside each other', async () => {
    const { seen, cached } = cachedTable()
    for (const id of ['1', '2', '1']) await cached(id)
    expect(seen.reads).toBe(2)
  })

  it('L3: a result gets as old as its expiration time, counted from its making, and not until the next tick of all', async () => {
    const clock = manualClock(1_799)
    const region = makeRegion({ clock, backend: wrap(memory({ clock }), dependencies()) })
    const { seen, cached } = cachedTable({ region, expirationTime: 3_600 })
    await session.run(async () => {
      await cached('a')
      clock.tick(2_000)
      await cached('b')
      clock.tick(1_599)
      await cached('a')
      expect(seen.reads).toBe(2)
      clock.tick(2)
      await cached('a')
      expect(seen.reads).toBe(3)
      await cached('b')
      expect(seen.reads).toBe(3)
    })
    for (const expirationTime of [0, -1, Number.NaN])
      expect(() => cachedTable({ expirationTime })).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }))
  })

  it('L4: arguments of different kinds never share a result, equal ones always do, in any order', async () => {
    const calls: unknown[] = []
    const cached = versioned({ namespace: 'kinds', version: () => 1 })((given?: unknown) => {
      calls.push(given)
      return given
    })
    const different = [1, true, '1', 1n, null, [1], { a: 1 }, new Date(1)]
    // The function receives copies of objects, and returns them.
    for (const given of different) expect(await cached(given)).toStrictEqual(given)
    expect(calls).toEqual(different)
    await cached({ a: 1, b: [2] })
    await cached({ b: [2], a: 1 })
    await cached()
    await cached(undefined)
    expect(calls).toHaveLength(different.length + 2)
    let asked = 0
    const strict = versioned({ namespace: 'strict', version: () => ++asked })((given: unknown) => given)
    await expect(strict(new Map())).rejects.toMatchObject({ code: 'ERR_KEY_ARGUMENT' })
    expect(asked).toBe(0)
  })

  it('L5: callers at the same time share one execution and one check', async () => {
    const made = gate()
    const { seen, cached, version } = cachedTable()
    const slow = versioned({ namespace: 'slow', version })(async (id: string) => {
      await made.opened
      return cached.original(id)
    })
    await session.run(async () => {
      const all = Promise.all(Array.from({ length: 6 }, () => slow('a')))
      made.open()
      await all
    })
    expect(seen).toEqual({ versions: 1, reads: 1 })
  })

  it('L6: the result of an asynchronous function is kept, not its promise', async () => {
    const cached = versioned({ namespace: 'async', version: async () => 'v' })(async () => ({ n: 1 }))
    const [one, two] = [await cached(), await cached()]
    expect([one, two]).toEqual([{ n: 1 }, { n: 1 }])
    const sync = versioned({ namespace: 'sync', version: () => 'v' })(() => 5)
    expect(await sync()).toBe(5)
  })

  it('L7: the number of entries is bounded, versions without callers included', async () => {
    let version = 0
    const seen: number[] = []
    const cached = versioned({ namespace: 'bounded', version: () => version, maxSize: 10 })(() => {
      seen.push(version)
      return version
    })
    for (version = 0; version < 500; version++) await cached()
    for (version = 499; version >= 490; version--) expect(await cached.get()).toBe(version)
    for (version = 0; version < 490; version++) expect(await cached.get()).toBe(NO_VALUE)
    expect(() => cachedTable({ maxSize: Number.POSITIVE_INFINITY })).toThrow(
      expect.objectContaining({ code: 'ERR_OPTION' }),
    )
  })

  it('L7: used entries stay, unused ones go', async () => {
    const { seen, cached } = cachedTable({ maxSize: 2 })
    for (const id of ['a', 'b', 'a', 'c', 'a']) await cached(id)
    expect(seen.reads).toBe(3)
    await cached('b')
    expect(seen.reads).toBe(4)
  })

  it('L8: it can be looked at, refreshed, invalidated, and used by functions without a name', async () => {
    const { seen, cached } = cachedTable()
    await cached('a')
    expect(await cached.get('a')).toBe('')
    await cached.refresh('a')
    await cached.invalidate('a')
    expect(await cached.get('a')).toBe(NO_VALUE)
    await cached('a')
    expect(seen.reads).toBe(3)
    const bound = versioned({ namespace: 'bound', version: () => 1 })(
      String.prototype.toUpperCase.bind('text'),
    )
    expect(await bound()).toBe('TEXT')
  })

  it('L9: a change during a creation leaves the value under the older version', async () => {
    const made = gate()
    let row = { version: 1, text: 'old' }
    const cached = versioned({ namespace: 'order', version: () => row.version })(async () => {
      const { text } = row
      await made.opened
      return text
    })
    const slow = session.run(() => cached())
    await turn()
    row = { version: 2, text: 'new' }
    made.open()
    await slow
    expect(await session.run(() => cached())).toBe('new')
  })
})
