/** Cached functions that change their arguments, hide their source or reject where a value is needed at once. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { nextTurn } from '../../src/base/timers.js'
import {
  type Creation,
  dep,
  diagnostics,
  makeRegion,
  NO_VALUE,
  optionsKeyGenerator,
  wrap,
} from '../../src/index.js'
import { versioned } from '../../src/session/index.js'
import { cacheResults } from '../../src/signals/index.js'

const open = () => makeRegion<unknown>({ backend: wrap(memory(), dependencies()) })

interface Query {
  category: string
}

describe('a function that changes its argument', () => {
  const search = async (query: Query) => {
    query.category = query.category.toUpperCase()
    return `books of ${query.category}`
  }

  it('depends on the names of the arguments of the call', async () => {
    const region = open()
    const seen: string[] = []
    const found = region.cacheOnArguments(search, {
      namespace: 'search',
      resultDependencies: (_, query) => dep.tag('category', query.category),
      expirationTime: { ofResult: (_, query) => void seen.push(query.category) },
    })
    await found({ category: 'poetry' })
    expect(seen).toEqual(['poetry'])
    expect(await found.get({ category: 'poetry' })).toBe('books of POETRY')
    await region.invalidateDependencies(dep.tag('category', 'poetry'))
    expect(await found.get({ category: 'poetry' })).toBe(NO_VALUE)
  })

  it('depends on the names of the ids of the call', async () => {
    const region = open()
    const found = region.cacheMultiOnArguments(
      async (...queries: Query[]) => Promise.all(queries.map((query) => search(query))),
      { namespace: 'search', resultDependencies: (_, query) => dep.tag('category', query.category) },
    )
    await found({ category: 'poetry' })
    expect(await found.get({ category: 'poetry' })).toEqual(['books of POETRY'])
    await region.invalidateDependencies(dep.tag('category', 'poetry'))
    expect(await found.get({ category: 'poetry' })).toEqual([NO_VALUE])
  })

  it('that cannot be copied, is not stored, and this is reported', async () => {
    const reasons: string[] = []
    const listener = (message: { readonly reason: string }) => void reasons.push(message.reason)
    diagnostics('unstored').subscribe(listener as never)
    const found = open().cacheOnArguments(search, {
      namespace: 'search',
      key: (query: Query) => query.category,
      resultDependencies: (_, query) => dep.tag('category', query.category),
    })
    await found({ category: 'poetry' })
    diagnostics('unstored').unsubscribe(listener as never)
    expect(reasons).toEqual(['its arguments were changed while the function ran'])
    expect(await found.get({ category: 'poetry' })).toBe(NO_VALUE)
  })
})

it('a creation refuses dependencies and lifetimes after its end', async () => {
  const late: Creation[] = []
  await open().getOrCreate('page', (creation) => late.push(creation))
  const outside = expect.objectContaining({ code: 'ERR_OUTSIDE_CREATION' })
  expect(() => late[0]?.dependsOn('page', dep.id('book', 1))).toThrow(outside)
  expect(() => late[0]?.expireIn('1m')).toThrow(outside)
})

describe('a function of keys that rejects', () => {
  const unhandled: unknown[] = []
  const listener = (error: unknown) => void unhandled.push(error)
  beforeEach(() => void process.on('unhandledRejection', listener))
  afterEach(() => void process.off('unhandledRejection', listener))
  const no = (async () => {
    throw new Error('rejected')
  }) as never
  const run = async () => 1
  const all = async (...ids: number[]) => ids
  const region = open()
  const FORMS = {
    key: () => region.cacheOnArguments(run, { namespace: 'k', key: no })(),
    self: () => region.cacheOnArguments(run, { namespace: 's', self: no })(),
    functionKeyGenerator: () =>
      region.cacheOnArguments(run, { namespace: 'g', functionKeyGenerator: () => no })(),
    functionMultiKeyGenerator: () =>
      region.cacheMultiOnArguments(all, { namespace: 'm', functionMultiKeyGenerator: () => no })(1),
  }
  for (const [name, call] of Object.entries(FORMS))
    it(`rejects the call and leaves no promise unhandled: ${name}`, async () => {
      await expect(call()).rejects.toMatchObject({ name: 'CorralError' })
      await nextTurn()
      await nextTurn()
      expect(unhandled).toEqual([])
    })
})

describe('a refused list of promises', () => {
  const unhandled: unknown[] = []
  const listener = (error: unknown) => void unhandled.push(error)
  beforeEach(() => void process.on('unhandledRejection', listener))
  afterEach(() => void process.off('unhandledRejection', listener))
  const no = () => Promise.reject(new Error('rejected')) as never
  const region = open()
  const one = region.cacheOnArguments(async (a: unknown, _b?: unknown) => a, { namespace: 'one' })
  const many = region.cacheMultiOnArguments(async (...ids: unknown[]) => ids, { namespace: 'many' })
  const scopes = dep.scopes<object>('item').describes(['a', 'b'], () => ({ a: no(), b: no() }))
  const mapped = region.cacheMultiOnArguments(
    async (...ids: number[]) => new Map(ids.map((id): [number, unknown] => [id, no()])),
    { namespace: 'map', asMap: true },
  )
  const FORMS: Readonly<Record<string, () => unknown>> = {
    'values of a creator': () => region.getOrCreateMulti(['a', 'b'], () => [no(), no()]),
    'too many values': () => region.getOrCreateMulti(['a'], () => [no(), no()]),
    'values of a Map': () => mapped(1, 2),
    'values to set': () => region.setMulti([...['a', 'b'].map((key): [string, unknown] => [key, no()])]),
    'a key and its value': () => region.set(no(), no()),
    keys: () => region.getMulti([no(), no()]),
    'keys of a generator': () =>
      region.cacheMultiOnArguments(async (...ids: number[]) => ids, {
        namespace: 'g',
        functionMultiKeyGenerator: () => () => [no(), no()],
      })(1, 2),
    'too many keys of a generator': () =>
      region.cacheMultiOnArguments(async (...ids: number[]) => ids, {
        namespace: 'h',
        functionMultiKeyGenerator: () => () => [no(), no()],
      })(1),
    arguments: () => one(no(), no()),
    'arguments inside an object': () => one({ a: no(), b: [no()] }),
    ids: () => many(no(), no()),
    'an object of options': () =>
      region.cacheOnArguments(async (_options: object) => 1, {
        namespace: 'o',
        functionKeyGenerator: optionsKeyGenerator(),
      })({ a: no(), b: no() }),
    'the id of an instance': () =>
      region.cacheOnArguments(async () => 1, { namespace: 's', self: () => [no(), no()] })(),
    'parts of a record': () => dep.id('book', no(), no()),
    'parts of a tag': () => dep.tag('book', no(), no()),
    'parts of a version': () => dep.version('of promises', (_a: number, _b: number) => 1)(no(), no()),
    'fields of an extractor': () => scopes.namesFor({}, { created: true }),
    'fields of a condition': () => scopes.condition({ a: no(), b: no() }),
    proxies: () => wrap(memory(), no(), no()),
  }
  for (const [name, refused] of Object.entries(FORMS))
    it(`leaves no rejection unhandled: ${name}`, async () => {
      await expect((async () => refused())()).rejects.toMatchObject({ name: 'CorralError' })
      await nextTurn()
      await nextTurn()
      expect(unhandled.splice(0)).toEqual([])
    })
})

describe('functions without a source under one namespace', () => {
  const refusal = expect.objectContaining({ code: 'ERR_NAMESPACE' })
  const one = async () => 'one'
  const other = async () => 'other'
  const many = async (...ids: number[]) => ids
  const WAYS: Readonly<Record<string, (fn: typeof one) => typeof one>> = {
    bound: (fn) => fn.bind(null),
    'of a proxy': (fn) => new Proxy(fn, {}),
  }
  for (const [way, hide] of Object.entries(WAYS)) {
    it(`are refused: ${way}`, async () => {
      const region = open()
      const options = { namespace: 'x' }
      const declare = (fn: typeof one) => region.cacheOnArguments(fn, options)
      const hidden = hide(one)
      declare(hidden)
      declare(hidden)
      expect(() => declare(hide(other))).toThrow(refusal)
      await nextTurn()
      await nextTurn()
      expect(() => declare(hide(other))).toThrow(refusal)
      void region.cacheMultiOnArguments(hide(one) as unknown as typeof many, { namespace: 'many' })
      expect(() =>
        region.cacheMultiOnArguments(hide(other) as unknown as typeof many, { namespace: 'many' }),
      ).toThrow(refusal)
    })

    it(`are accepted where one of them shares, or with self: ${way}`, () => {
      const region = open()
      region.cacheOnArguments(hide(one), { namespace: 'x' })
      region.cacheOnArguments(hide(one), { namespace: 'x', sharesNamespace: true })
      for (const id of [1, 2]) region.cacheOnArguments(hide(one), { namespace: 'y', self: () => id })
    })
  }
})

it('a function behind its options is refused when it is declared', () => {
  const region = makeRegion<number>({ name: 'r', backend: memory() })
  const options = { namespace: 'x' }
  const declare = [
    region.cacheOnArguments,
    region.cacheMultiOnArguments,
    (...[given, fn]: unknown[]) => cacheResults({ region, ...(given as object) } as never, fn as never),
  ] as ((...given: unknown[]) => unknown)[]
  for (const way of declare) expect(() => way(options, async () => 1)).toThrow(/to get the function first/)
})

it('getOrCreate checks its options on a hit, too', async () => {
  const region = open()
  await region.set('a', 'old')
  const wrong = [{ expirationtime: 1 }, null, 5, 'soft', { hardTimeout: 'x' }, { signal: 5 }]
  for (const options of wrong)
    await expect(region.getOrCreate('a', () => 'new', options as never)).rejects.toMatchObject({
      code: expect.stringMatching(/^ERR_(OPTION|DURATION)/),
    })
})

it.each([
  ['no function', () => 'key'],
  ['a promise', async () => Promise.reject(new Error('not to be seen'))],
])('a key generator that returns %s is refused in words', async (_, given) => {
  const region = open()
  const generator = given as never
  for (const declare of [
    () => region.cacheOnArguments(async () => 1, { namespace: 'one', functionKeyGenerator: generator }),
    () =>
      region.cacheMultiOnArguments(async (...ids: number[]) => ids, {
        namespace: 'many',
        functionMultiKeyGenerator: generator,
      }),
    () =>
      versioned(async () => 1, { namespace: 'versioned', version: () => 1, functionKeyGenerator: generator }),
  ])
    expect(declare).toThrow(
      expect.objectContaining({ code: 'ERR_OPTION', message: expect.stringContaining('key generator') }),
    )
})
