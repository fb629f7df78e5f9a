import { describe, expect, it } from 'vitest'
import { dep, functionKeyGenerator, NO_VALUE, optionsKeyGenerator } from '../../src/index.js'
import { versioned } from '../../src/session/index.js'
import { inEveryRegion, open as openMemory } from '../support/stage.js'

type Listed = (...parts: unknown[]) => Promise<string>

/** Functions whose result depends on the number of their arguments, as the compilers of old targets write them too. */
const COUNTING: Readonly<Record<string, Listed>> = {
  rest: async (...parts) => JSON.stringify(parts),
  'rest behind others': async (first, ...parts) => JSON.stringify([first, ...parts]),
  'rest behind strings and patterns': (async (first = ')', { a = '(' } = {} as { a?: string }, ...parts) =>
    JSON.stringify([first, a, parts.length])) as Listed,
  async method(...parts: unknown[]) {
    return JSON.stringify(parts)
  },
  arguments: async function () {
    // biome-ignore lint/complexity/noArguments: the subject of the test
    return `${arguments.length}`
  } as Listed,
}

const NOT_COUNTING: Readonly<Record<string, Listed>> = {
  optional: async (first?, second?) => JSON.stringify([first, second]),
  defaults: async (first = 'a', second = [...'bc']) => JSON.stringify([first, second]),
  pattern: (async (first?: unknown, { a, ...others }: Record<string, unknown> = { a: 1 }) =>
    JSON.stringify([first, a, others])) as Listed,
  'spread in the body': async (first?) => JSON.stringify([...(first === undefined ? [] : [first])]),
  'dots in a string': async (first = '...') => `${first}`,
  single: async (first) => JSON.stringify([...[first]]),
}

inEveryRegion('the number of arguments', (open) => {
  it.each(Object.entries(COUNTING))('counts for a function with %s', async (name, fn) => {
    const { region } = open<string>()
    const cached = region.cacheOnArguments(fn, { namespace: name })
    expect(await cached(1)).toBe(await fn(1))
    expect(await cached(1, undefined)).toBe(await fn(1, undefined))
    expect(await cached(1, undefined, undefined)).toBe(await fn(1, undefined, undefined))
    await cached.invalidate(1)
    expect(await cached.get(1)).toBe(NO_VALUE)
    expect(await cached.get(1, undefined)).not.toBe(NO_VALUE)
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
  it('counts as exactArity says', () => {
    const { region } = openMemory<string>()
    const rest = region.cacheOnArguments(COUNTING.rest as Listed, { namespace: 'rest', exactArity: false })
    expect(rest.key(undefined)).toBe(rest.key())
    const optional = region.cacheOnArguments(NOT_COUNTING.optional as Listed, {
      namespace: 'optional',
      exactArity: true,
    })
    expect(optional.key(undefined)).not.toBe(optional.key())
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

  it('leaves the keys of many ids, of functions without rest parameters and of other generators as they were', () => {
    expect(functionKeyGenerator('n', (_?: unknown) => 1)(1, undefined)).toBe('n|1')
    expect(functionKeyGenerator('n', (...args: never[]) => args)(1, undefined)).toBe('n|1,undefined')
    expect(functionKeyGenerator('n', Math.max.bind(null))(1, undefined)).toBe('n|1')
    expect(optionsKeyGenerator()('n', (..._: never[]) => 1)({ id: 1 })).toBe('n|{"id":1}')
    const { region } = openMemory<number>()
    const many = region.cacheMultiOnArguments(async (...ids: (number | undefined)[]) => ids.map(() => 1), {
      namespace: 'many',
    })
    expect(many.keys(1, undefined)).toEqual(['many|1', 'many|'])
    expect(dep.id('user', 1)).toBe('id:user:1')
  })
})
