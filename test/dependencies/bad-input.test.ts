import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { CorralError, dep, dependsOn, diagnostics, NO_VALUE } from '../../src/index.js'
import { onStores } from './stores.js'

/** Any code units at all, halves of surrogate pairs among them. */
const anyText = fc
  .array(
    fc.oneof(
      fc.integer({ min: 0, max: 0xffff }),
      fc.constantFrom(0, 10, 13, 32, 37, 58, 92, 123, 125, 0xd800, 0xfffd),
    ),
    {
      minLength: 1,
      maxLength: 40,
    },
  )
  .map((units) => String.fromCharCode(...units))

onStores('all', 'names of any kind', (at) => {
  it('invalidate the entries that were made from them, and nothing else', { timeout: 120_000 }, async () => {
    const [region, other] = at().regions<number>()
    await fc.assert(
      fc.asyncProperty(anyText, anyText, async (name, another) => {
        const stored = await region
          .set('k', 1, { dependencies: [name], asOf: await region.asOf() })
          .catch((error: unknown) => error)
        // UTF-8 has no form for half of a surrogate pair: an encoding refuses a name that the invalidation of another one would miss.
        if (CorralError.is(stored, 'ERR_UNENCODABLE')) {
          expect(wellFormed(name)).toBe(false)
          expect(await region.get('k')).toBe(NO_VALUE)
          return
        }
        if (another !== name && wellFormed(another)) {
          await other.invalidateDependencies(another)
          expect(await other.get('k')).toBe(1)
        }
        await other.invalidateDependencies(name)
        expect(await other.get('k')).toBe(NO_VALUE)
        expect(await region.get('k')).toBe(NO_VALUE)
      }),
      { numRuns: 25 },
    )
  })

  it.each([
    ['of a megabyte', 'x'.repeat(2 ** 20)],
    ['of NUL', '\0'],
    ['of line ends', '\r\n\r\n'],
    ['of braces', '{}}{'],
    ['like the bookkeeping', '~clock'],
    ['like a region', 'region:other'],
    ['of the prototype', '__proto__'],
  ])('%s are names like any other', { timeout: 60_000 }, async (_, name) => {
    const [region, other] = at().regions<number>()
    // A name is part of the entry: the store may have a limit for that, and says so.
    const stored = await region
      .set('k', 1, { dependencies: [name], asOf: await region.asOf() })
      .catch((error: unknown) => error)
    if (CorralError.is(stored, 'ERR_VALUE_TOO_LARGE')) expect(name.length).toBeGreaterThan(2 ** 19)
    else {
      expect(await other.get('k')).toBe(1)
      await other.invalidateDependencies(name)
    }
    expect(await region.get('k')).toBe(NO_VALUE)
  })
})

onStores('all', 'names around the lengths at which a store begins to hash them', (at) => {
  it.each([
    ['plain', 'x', [240, 246, 247, 248, 249, 250, 251, 252]],
    ['that have to be escaped', ' ', [80, 81, 82, 83, 84, 247, 248, 250]],
    ['of three bytes a character', '世', [40, 41, 42, 592, 596, 600, 601, 660]],
    ['of pairs', '😀', [41, 297, 299, 301, 303, 331]],
  ])('differ by their last character: %s', { timeout: 60_000 }, async (_, character, lengths) => {
    const [region, other] = at().regions<number>()
    for (const length of lengths) {
      const [name, twin] = ['a', 'b'].map((end) => character.repeat(length - 1) + end) as [string, string]
      await region.set('k', 1, { dependencies: [name], asOf: await region.asOf() })
      await other.invalidateDependencies(twin)
      expect(await other.get('k'), `${length}`).toBe(1)
      await other.invalidateDependencies(name)
      expect(await region.get('k'), `${length}`).toBe(NO_VALUE)
    }
  })
})

function wellFormed(text: string): boolean {
  return (text as string & { isWellFormed(): boolean }).isWellFormed()
}

describe('an object in place of a name', () => {
  it('is refused, also an empty one, which could be taken for options', () => {
    for (const given of [[{}], [{ id: 5 }], [dep.id('a', 1), { id: 5 }], [new Set([dep.id('a', 1)])]])
      expect(() => dependsOn(...(given as never[]))).toThrow(
        expect.objectContaining({
          code: expect.stringMatching(/ERR_OPTION|ERR_DEPENDENCY/) as string,
        }) as Error,
      )
  })
})

onStores('all', 'great numbers', (at) => {
  it('of names on one entry work, and are noticed once for each key', { timeout: 120_000 }, async () => {
    const [region, other] = at().regions<number>()
    const notices: unknown[] = []
    const listen = (message: unknown) => {
      if ((message as { where: string }).where === 'dependencies') notices.push(message)
    }
    diagnostics('notice').subscribe(listen)
    try {
      const names = Array.from({ length: 10_000 }, (_, i) => dep.id('row', i))
      const make = () => {
        dependsOn(names)
        return 1
      }
      for (let i = 0; i < 3; i++) {
        expect(await region.getOrCreate('k', make)).toBe(1)
        expect(await other.get('k')).toBe(1)
        await other.invalidateDependencies(names[(i * 4_999) % 10_000] as string)
        expect(await region.get('k')).toBe(NO_VALUE)
      }
      expect(notices).toHaveLength(1)
      expect(notices[0]).toMatchObject({
        where: 'dependencies',
        message: expect.stringContaining('10001 names'),
      })
    } finally {
      diagnostics('notice').unsubscribe(listen)
    }
  })

  it('of names work in every way of declaring them, hard and soft', { timeout: 120_000 }, async () => {
    const site = at()
    const [region, other] = site.regions<number>()
    const names = Array.from({ length: 10_000 }, (_, i) => dep.id('row', i))
    const ahead = region.cacheOnArguments({ namespace: 'ahead', dependencies: () => names })(async () => 1)
    const around = site.another<number>().cacheOnArguments({ namespace: 'around' })(
      async () => (await ahead()) + 1,
    )
    await around()
    expect([await ahead.get(), await around.get()]).toEqual([1, 2])
    await other.invalidateDependencies(dep.id('row', 9_999))
    expect([await ahead.get(), await around.get()]).toEqual([NO_VALUE, NO_VALUE])
    expect(await region.set('put', 1, { dependencies: names, asOf: await region.asOf() })).toBe('stored')
    await other.invalidateDependencies(names, 'soft')
    expect(await region.get('put')).toBe(NO_VALUE)
    expect(await region.get('put', { ignoreExpiration: true })).toBe(1)
    expect(await region.explain('put')).toMatchObject({ verdict: 'stale', invalidated: names })
    await other.invalidateDependencies(names)
    expect(await region.get('put', { ignoreExpiration: true })).toBe(NO_VALUE)
  })

  it('of keys on one name fall together', { timeout: 120_000 }, async () => {
    const [region, other] = at().regions<number>()
    const keys = Array.from({ length: 5_000 }, (_, i) => `k${i}`)
    const asOf = await region.asOf()
    await region.setMulti(
      keys.map((key, i) => [key, i] as const),
      { dependencies: [dep.tag('all')], asOf },
    )
    expect((await other.getMulti(keys)).filter((value) => value !== NO_VALUE)).toHaveLength(5_000)
    await other.invalidateDependencies(dep.tag('all'))
    expect((await region.getMulti(keys)).filter((value) => value !== NO_VALUE)).toEqual([])
  })

  it('of names are invalidated at once', { timeout: 120_000 }, async () => {
    const [region, other] = at().regions<number>()
    const names = Array.from({ length: 10_000 }, (_, i) => dep.id('row', i))
    const asOf = await region.asOf()
    for (const i of [0, 5_000, 9_999])
      await region.set(`k${i}`, i, { dependencies: [names[i] as string], asOf })
    await region.set('untouched', 1, { dependencies: [dep.id('row', 'other')], asOf })
    await other.invalidateDependencies(names)
    for (const i of [0, 5_000, 9_999]) expect(await region.get(`k${i}`)).toBe(NO_VALUE)
    expect(await other.get('untouched')).toBe(1)
  })
})

onStores('all', 'scopes that are given nonsense', (at) => {
  interface Book {
    readonly category?: unknown
  }
  const site = () => at().regions<number>()[0]
  const scopesOf = (mode: 'strict' | 'lenient', extract: (book: Book) => unknown) =>
    dep.scopes<Book>('book', { mode }).describes(['category'], extract as never)

  it.each<[string, (book: Book) => unknown]>([
    ['answers fields that it does not describe', () => ({ category: 'a', shelf: 1 })],
    ['answers none of its fields', () => ({})],
    ['answers an object for a value', () => ({ category: { $ne: 1 } })],
    ['answers a list for a value', () => ({ category: ['a'] })],
    ['answers a symbol for a value', () => ({ category: Symbol('a') })],
    ['answers a date for a value', () => ({ category: new Date() })],
    ['answers undefined for a value', () => ({ category: undefined })],
    ['answers no number', () => ({ category: Number.NaN })],
    ['answers later', async () => ({ category: 'a' })],
    [
      'throws',
      () => {
        throw new Error('no such column')
      },
    ],
    ['throws nothing', () => Promise.reject],
  ])(
    'whose extractor %s: an error where they are strict, the whole kind where they are lenient',
    async (_, extract) => {
      await expect(scopesOf('strict', extract).invalidateFor({}, site(), { created: true })).rejects.toThrow()
      const region = site()
      const lenient = scopesOf('lenient', extract)
      const list = region.cacheOnArguments({
        namespace: 'list',
        dependencies: (category: string) => lenient.condition({ category }),
      })(async (_category: string) => 1)
      await Promise.all([list('a'), list('b')])
      await lenient.invalidateFor({ category: 'a' }, region, { created: true })
      expect([await list.get('a'), await list.get('b')]).toEqual([NO_VALUE, NO_VALUE])
    },
  )

  it.each([
    ['undefined', undefined],
    ['null', null],
  ])('whose extractor skips an item by %s leave all lists alone', async (_, skipped) => {
    const region = site()
    const scopes = scopesOf('strict', () => skipped)
    const list = region.cacheOnArguments({
      namespace: 'list',
      dependencies: (category: string) => scopes.condition({ category }),
    })(async (_category: string) => 1)
    await list('a')
    await scopes.invalidateFor({ category: 'a' }, region, { created: true })
    expect(await list.get('a')).toBe(1)
  })

  it.each([
    [{}],
    [Object.create(null)],
    [['a']],
    [() => 1],
    [Symbol('s')],
    [new Date(0)],
    [Object(1)],
    [Number.NaN],
    [Number.POSITIVE_INFINITY],
    [undefined],
  ])('refuse a condition with the value %s', (value) => {
    const scopes = scopesOf('strict', () => undefined)
    expect(() => scopes.condition({ category: value as never })).toThrow(CorralError)
  })

  it('take for one value the types of JavaScript that are one in the database', async () => {
    const region = site()
    const values = [0, -0, 0n, '0', 1e21, 10n ** 21n, '1e+21', true, 'true', null, 'null', '', "'", "'0"]
    const scopes = scopesOf('strict', ({ category }) => ({ category }))
    const list = region.cacheOnArguments({
      namespace: 'list',
      functionKeyGenerator: () => (i) => `${i}`,
      dependencies: (i: number) => scopes.condition({ category: values[i] as never }),
    })(async (i: number) => i)
    const same = [[0, 1, 2, 3], [4, 6], [5], [7], [8], [9], [10], [11], [12], [13]]
    const all = values.map((_, i) => i)
    for (const few of same)
      for (const one of few) {
        await Promise.all(all.map((i) => list(i)))
        await scopes.invalidateFor({ category: values[one] }, region, { created: true })
        const gone = await Promise.all(all.map(async (i) => (await list.get(i)) === NO_VALUE))
        expect(all.filter((i) => gone[i])).toEqual(few)
      }
  })
})
