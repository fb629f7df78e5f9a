import { describe, expect, it } from 'vitest'
import { dep, functionKeyGenerator, NO_VALUE, optionsKeyGenerator } from '../../src/index.js'
import { session, versioned } from '../../src/session/index.js'
import { inEveryRegion, open as openMemory } from '../support/stage.js'

type Listed = (...parts: unknown[]) => Promise<string>

/** Functions whose result depends on the number of their arguments, as the compilers of old targets write them too. */
const COUNTING: Readonly<Record<string, Listed>> = {
  rest: async (...parts) => JSON.stringify(parts),
  'rest behind others': async (first, ...parts) => JSON.stringify([first, ...parts]),
  'rest behind strings and patterns': (async (first = ')', { a = '(' } = {} as { a?: string }, ...parts) =>
    JSON.stringify([first, a, parts.length])) as Listed,
  'rest behind a regex literal': (async (first: unknown, _ = /[(]/, ...parts: unknown[]) =>
    JSON.stringify([first, parts.length])) as Listed,
  'rest as a pattern': async (...{ length }) => `${length}`,
  'rest before a comment of a file with CRLF': new Function(
    'return async (\r\n  ...parts // all\r\n) => JSON.stringify(parts)',
  )(),
  'rest before comments': new Function(
    'return async (...parts /* all */) /* and */ => JSON.stringify(parts)',
  )(),
  'rest behind a name that is computed': {
    async [`${'a'}`](...parts: unknown[]) {
      return `${parts.length}`
    },
  }.a as Listed,
  async method(...parts: unknown[]) {
    return JSON.stringify(parts)
  },
  arguments: async function () {
    // biome-ignore lint/complexity/noArguments: the subject of the test
    return `${arguments.length}`
  } as Listed,
  ...Object.fromEntries(
    [
      '\\u0061rguments',
      'argum\\u{65}nts',
      'a\\u{00072}guments',
      'argu\\u006Dents',
      `eval('argu' + 'ments')`,
    ].map((word) => [
      word,
      new Function(`return async function () { return String(${word}.length) }`)() as Listed,
    ]),
  ),
}

const NOT_COUNTING: Readonly<Record<string, Listed>> = {
  optional: async (first?, second?) => JSON.stringify([first, second]),
  defaults: async (first = 'a', second = [...'bc']) => JSON.stringify([first, second]),
  pattern: (async (first?: unknown, { a, ...others }: Record<string, unknown> = { a: 1 }) =>
    JSON.stringify([first, a, others])) as Listed,
  'spread in the body': async (first?) => JSON.stringify([...(first === undefined ? [] : [first])]),
  'dots in a string': async (first = '...') => `${first}`,
  'an escape in a string': new Function(`return async (first = '\\u00a0') => String(first)`)() as Listed,
  single: async (first) => JSON.stringify([...[first]]),
}

type Localized = (id: number, language?: string) => Promise<string>

/** The one value that the functions below read. */
const row = { text: '' }
const given = `const run = (self, args, work) => Promise.resolve(work.apply(self, args ?? []).next().value)`
const compiled = (source: string): Localized => new Function('row', `${given}; return ${source}`)(row)

/** Functions that take \`undefined\` for absent, though their source may look as if they counted their arguments. */
const LOOK_ALIKES: Readonly<Record<string, Localized>> = {
  'a comment': compiled(`async (id, language = 'en') => {
    // unlike arguments.length
    return row.text + id + language }`),
  'a string': compiled(
    `async (id, language = 'en') => row.text + id + language + 'arguments[0]'.slice(0, 0)`,
  ),
  'a regex literal': compiled(
    `async (id, language = 'en', re = /[(]/) => row.text + id + language + ('...'.match(re) ?? '')`,
  ),
  'an inner function': compiled(
    `async (id, language = 'en') => { const f = (...xs) => xs; return row.text + f(id) + language }`,
  ),
  'an arrow of TypeScript for ES2016': compiled(
    `(id_1, ...args_1) => run(void 0, [id_1, ...args_1], function* (id, language = 'en') { yield row.text + id + language })`,
  ),
  'a function of TypeScript for ES5': compiled(`function (id_1) { var args_1 = []
    for (var _i = 1; _i < arguments.length; _i++) args_1[_i - 1] = arguments[_i]
    return run(this, [id_1].concat(args_1), function* (id, language) { if (language === void 0) { language = 'en' }
    yield row.text + id + language }) }`),
  'a default of Babel': compiled(`function (id) {
    var language = arguments.length > 1 && arguments[1] !== undefined ? arguments[1] : 'en'
    return Promise.resolve(row.text + id + language) }`),
  'an asynchronous function of Babel': compiled(`(() => {
    const inner = async (id, language = 'en') => row.text + id + language
    return function (_x) { return inner.apply(this, arguments) } })()`),
  'an arrow of esbuild, made small': compiled(
    `(e,...t)=>run(void 0,[e,...t],function*(n,o="en"){yield row.text+n+o})`,
  ),
  'a bound function': compiled(
    `async function (id, language = 'en') { return row.text + id + language }`,
  ).bind(null),
  'a method': compiled(
    `new (class { async load(id, language = 'en') { return row.text + id + language /* arguments */ } })().load`,
  ),
}

inEveryRegion('the forms of a call', (open) => {
  it.each(Object.entries(LOOK_ALIKES))('are all reached by an invalidation, with %s', async (name, fn) => {
    const { region } = open<string>()
    const cached = region.cacheOnArguments(fn, { namespace: name })
    const forms: Parameters<Localized>[] = [[5], [5, undefined], [5, undefined, undefined] as never]
    for (const [i, form] of forms.entries())
      for (const reading of forms) {
        row.text = 'old'
        await cached(...reading)
        row.text = 'new'
        await cached.invalidate(...form)
        expect(await cached(...reading)).toBe('new5en')
        row.text = `newer ${i}`
        expect(await cached.refresh(...form)).toBe(`newer ${i}5en`)
        expect(await cached(...reading)).toBe(`newer ${i}5en`)
        await cached.set('set', ...form)
        expect(['set', `newer ${i}5en`]).toContain(await cached(...reading))
        await cached.invalidate.soft(...form)
        expect(await cached.get(...reading)).toBe(NO_VALUE)
      }
  })
})

inEveryRegion('the number of arguments', (open) => {
  it.each(Object.entries(COUNTING))('counts for a function with %s', async (name, fn) => {
    const { region } = open<string>()
    const cached = region.cacheOnArguments(fn, { namespace: name })
    expect(await cached(1)).toBe(await fn(1))
    expect(await cached(1, undefined)).toBe(await fn(1, undefined))
    expect(await cached(1, undefined, undefined)).toBe(await fn(1, undefined, undefined))
    await cached.invalidate(1)
    for (const args of [[1], [1, undefined], [1, undefined, undefined]])
      expect(await cached.get(...args)).toBe(NO_VALUE)
  })

  it.each(Object.entries(NOT_COUNTING))('does not count for a function with %s', async (name, fn) => {
    const { region } = open<string>()
    const cached = region.cacheOnArguments({ namespace: name })(fn)
    await cached()
    expect(await cached.get(undefined, undefined)).toBe(await fn())
    expect(cached.key(1, undefined)).toBe(cached.key(1))
    await cached.invalidate(undefined)
    expect(await cached.get()).toBe(NO_VALUE)
  })
})

describe('the number of arguments', () => {
  it('counts as exactArity says, for invalidations too', async () => {
    const { region } = openMemory<string>()
    const rest = region.cacheOnArguments(COUNTING.rest as Listed, { namespace: 'rest', exactArity: false })
    expect(rest.key(undefined)).toBe(rest.key())
    const optional = region.cacheOnArguments(NOT_COUNTING.optional as Listed, {
      namespace: 'optional',
      exactArity: true,
    })
    expect(optional.key(undefined)).not.toBe(optional.key())
    await optional(undefined)
    await optional.invalidate()
    expect(await optional.get(undefined)).not.toBe(NO_VALUE)
    expect(() =>
      region.cacheOnArguments(async () => '', { namespace: 'n', exactArity: 'yes' as never }),
    ).toThrow(/`exactArity`/)
  })

  it('counts for methods with rest parameters, each on its instance', async () => {
    const { region } = openMemory<string>()
    class Shop {
      readonly id = 1
      @region.cacheOnArguments({ namespace: 'count', self: (shop: Shop) => shop.id })
      async count(...parts: unknown[]): Promise<string> {
        return `${parts.length}`
      }
    }
    const shop = new Shop()
    expect([await shop.count(), await shop.count(undefined)]).toEqual(['0', '1'])
  })

  it('counts for versioned functions', async () => {
    const count = versioned({ namespace: 'arity', version: () => 1 })(
      async (...parts: unknown[]) => parts.length,
    )
    expect([await count(), await count(undefined)]).toEqual([0, 1])
  })

  it('does not save versioned functions from an invalidation of another form, in their session too', async () => {
    let version = 1
    const load = versioned({ namespace: 'forms', version: () => version })(
      LOOK_ALIKES['a comment'] as Localized,
    )
    await session.run(async () => {
      row.text = 'old'
      await load(5, undefined)
      row.text = 'new'
      version++
      await load.invalidate(5)
      expect(await load(5, undefined)).toBe('new5en')
      expect(await load.version(5, undefined)).toBe('2')
    })
  })

  it('does not bother a key generator that takes so many arguments and no more', async () => {
    const { region } = openMemory<string>()
    const options = { namespace: 'named', functionKeyGenerator: optionsKeyGenerator() }
    const named = region.cacheOnArguments(async (...[{ id }]: [{ id: number }]) => `${id}`, options)
    await named({ id: 1 })
    await named.invalidate({ id: 1 })
    expect(await named.get({ id: 1 })).toBe(NO_VALUE)
  })

  it('leaves the keys of many ids, of functions without rest parameters and of other generators as they were', () => {
    expect(functionKeyGenerator('n', (_?: unknown) => 1)(1, undefined)).toBe('n|1')
    expect(functionKeyGenerator('n', (...args: never[]) => args)(1, undefined)).toBe('n|1,undefined')
    expect(functionKeyGenerator('n', Math.max.bind(null))(1, undefined)).toBe('n|1,undefined')
    expect(optionsKeyGenerator()('n', (..._: never[]) => 1)({ id: 1 })).toBe('n|{"id":1}')
    const { region } = openMemory<number>()
    const many = region.cacheMultiOnArguments(async (...ids: (number | undefined)[]) => ids.map(() => 1), {
      namespace: 'many',
    })
    expect(many.keys(1, undefined)).toEqual(['many|1', 'many|'])
    expect(dep.id('user', 1)).toBe('id:user:1')
  })
})
