import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import {
  CorralError,
  dependsOn,
  diagnostics,
  makeRegion,
  optionsKeyGenerator,
  functionKeyGenerator as ownGenerator,
  type Region,
  wrap,
} from '../../src/index.js'
import { versioned } from '../../src/session/index.js'
import { cacheResults } from '../../src/signals/index.js'
import { sleep } from '../support/waiting.js'

const refusal = expect.objectContaining({ name: 'CorralError', code: 'ERR_NAMESPACE' }) as Error
const open = () => makeRegion<string>({ backend: wrap(memory(), dependencies()) })
const one = async (id: number) => `one ${id}`
const other = async (id: number) => `other ${id}`
const third = async (id: number) => `third ${id}`
const many = async (...ids: number[]) => ids.map((id) => `one ${id}`)

type Declare = (region: Region<string>, fn: typeof one, more?: object) => unknown
const FORMS: Readonly<Record<string, Declare>> = {
  'a cached function': (region, fn, more) => region.cacheOnArguments({ namespace: 'x', ...more })(fn),
  'a cached function with one key': (region, fn, more) =>
    void region.cacheOnArguments({ namespace: 'x', key: 'k', ...more })(fn),
  'a decorated method': (region, fn, more) => {
    const context = {
      kind: 'method',
      name: 'm',
      static: true,
      addInitializer() {},
    } as unknown as ClassMethodDecoratorContext
    return region.cacheOnArguments({ namespace: 'x', ...more })(fn as never, context as never)
  },
  'cacheResults()': (region, fn, more) => cacheResults({ region, namespace: 'x', ...more })(fn),
  'a versioned function': (region, fn, more) =>
    versioned({ region, namespace: 'x', version: () => 1, ...more } as never)(fn as never),
}

describe('a namespace that another function of the region has', () => {
  for (const [name, declare] of Object.entries(FORMS)) {
    it(`is refused for ${name}`, () => {
      const region = open()
      declare(region, one)
      expect(() => declare(region, other)).toThrow(refusal)
    })

    it(`is accepted for ${name} where one of them says so`, () => {
      for (const [first, second] of [
        [{ sharesNamespace: true }, {}],
        [{}, { sharesNamespace: true }],
      ]) {
        const region = open()
        declare(region, one, first)
        declare(region, other, second)
      }
    })

    it(`is refused for ${name} where only a third one says so`, () => {
      const region = open()
      declare(region, one)
      declare(region, third, { sharesNamespace: true })
      expect(() => declare(region, other)).toThrow(refusal)
    })

    it(`is no other for ${name} that is declared again, nor in another region`, () => {
      const region = open()
      declare(region, one)
      declare(region, one)
      declare(open(), other)
    })
  }

  it('is refused for a function of one id and one of many', () => {
    const region = open()
    void region.cacheOnArguments({ namespace: 'x' })(one)
    expect(() => region.cacheMultiOnArguments({ namespace: 'x' })(many)).toThrow(refusal)
    void region.cacheMultiOnArguments({ namespace: 'x', sharesNamespace: true })(many)
  })

  it('is refused in a later turn too', async () => {
    const region = open()
    void region.cacheOnArguments({ namespace: 'x' })(one)
    await sleep(20)
    expect(() => region.cacheOnArguments({ namespace: 'x' })(other)).toThrow(refusal)
  })

  it('is another one with another single key, and none where the keys are made without it', () => {
    const region = open()
    void region.cacheOnArguments({ namespace: 'x', key: 'a' })(one)
    void region.cacheOnArguments({ namespace: 'x', key: 'b' })(other)
    for (const fn of [one, other])
      void region.cacheOnArguments({ functionKeyGenerator: () => () => fn.name })(fn)
  })

  it('is refused beside a single key, which may be that of an argument', () => {
    const text = async (name: string) => `text ${name}`
    const constant = async () => 'constant'
    const declarations = [
      (region: Region<string>) => region.cacheOnArguments({ namespace: 'x' })(text),
      (region: Region<string>) => void region.cacheOnArguments({ namespace: 'x', key: 'k' })(constant),
    ]
    for (const [first, second] of [declarations, declarations.toReversed()]) {
      const region = open()
      first?.(region)
      expect(() => second?.(region)).toThrow(refusal)
      void region.cacheOnArguments({ namespace: 'x', key: 'k', sharesNamespace: true })(constant)
    }
  })

  it('is another one where namespace and single key only look alike side by side', () => {
    const region = open()
    void region.cacheOnArguments({ namespace: 'x y', key: 'z' })(one)
    void region.cacheOnArguments({ namespace: 'x', key: 'y z' })(other)
    void region.cacheOnArguments({ namespace: 'x y z' })(other)
  })

  it('is refused for optionsKeyGenerator(), of a function or of the region', () => {
    const page = async ({ id }: { readonly id: number }) => `page ${id}`
    const title = async ({ id }: { readonly id: number }) => `title ${id}`
    const functionKeyGenerator = optionsKeyGenerator()
    const region = open()
    void region.cacheOnArguments({ namespace: 'x', functionKeyGenerator })(page)
    expect(() => region.cacheOnArguments({ namespace: 'x', functionKeyGenerator })(title)).toThrow(refusal)
    expect(() =>
      region.cacheOnArguments({ namespace: 'x', functionKeyGenerator: optionsKeyGenerator() })(title),
    ).toThrow(refusal)
    const regional = makeRegion<string>({ backend: memory(), functionKeyGenerator })
    void regional.cacheOnArguments({ namespace: 'x' })(page)
    expect(() => regional.cacheOnArguments({ namespace: 'x' })(title)).toThrow(refusal)
  })

  it('is refused for the key generators of another copy of the package', async () => {
    vi.resetModules()
    const copy = await import('../../src/index.js')
    const region = open()
    const { functionKeyGenerator, functionMultiKeyGenerator } = copy
    expect(functionKeyGenerator).not.toBe(ownGenerator)
    void region.cacheOnArguments({ namespace: 'x', functionKeyGenerator })(one)
    expect(() => region.cacheOnArguments({ namespace: 'x', functionKeyGenerator })(other)).toThrow(refusal)
    expect(() => region.cacheMultiOnArguments({ namespace: 'x', functionMultiKeyGenerator })(many)).toThrow(
      refusal,
    )
  })

  it('outlives a new backend, which changes no function', () => {
    const region = open()
    void region.cacheOnArguments({ namespace: 'x' })(one)
    region.configure({ backend: memory(), replaceExistingBackend: true })
    void region.cacheOnArguments({ namespace: 'x' })(one)
    expect(() => region.cacheOnArguments({ namespace: 'x' })(other)).toThrow(refusal)
  })

  it('is refused among regions that share a keyspace', () => {
    const backend = wrap(memory(), dependencies())
    for (const [kind, declare] of Object.entries(FORMS)) {
      const keyspace = `shared by ${kind}`
      const [first, second] = ['a', 'b'].map((name) =>
        makeRegion<string>({ name: `${name} of ${kind}`, keyspace, backend }),
      ) as [Region<string>, Region<string>]
      declare(first, one)
      expect(() => declare(second, other), kind).toThrow(refusal)
      declare(second, one)
      declare(second, other, { sharesNamespace: true })
    }
  })

  it('is refused for a second instance whose class field holds an arrow function that reads `this`', () => {
    const forms = {
      one: (region: Region<string>) =>
        class {
          readonly id = 'one'
          readonly find = region.cacheOnArguments(async (name: string) => `${this.id} ${name}`, {
            namespace: 'x',
          })
        },
      many: (region: Region<string>) =>
        class {
          readonly id = 'many'
          readonly find = region.cacheMultiOnArguments(
            async (...names: string[]) => names.map((name) => `${this.id} ${name}`),
            { namespace: 'x' },
          )
        },
      versioned: (region: Region<string>) =>
        class {
          readonly id = 'versioned'
          readonly find = versioned(async (name: string) => `${this.id} ${name}`, {
            namespace: 'x',
            region,
            version: () => 1,
          })
        },
    }
    for (const [kind, define] of Object.entries(forms)) {
      const Repository = define(open())
      new Repository()
      expect(() => new Repository(), kind).toThrow(refusal)
    }
  })

  it('is accepted for the instances of a class that say how they share entries', () => {
    for (const options of [{ self: 'shared' as const }, { sharesNamespace: true }]) {
      const region = open()
      class Repository {
        readonly id = 1
        readonly find = region.cacheOnArguments(async (name: string) => `${this.id} ${name}`, {
          namespace: 'x',
          ...options,
        })
      }
      new Repository()
      new Repository()
    }
  })

  it('must be a boolean where it is said', () => {
    expect(() => open().cacheOnArguments({ namespace: 'x', sharesNamespace: 'yes' as never })).toThrow(
      expect.objectContaining({ code: 'ERR_OPTION' }),
    )
  })
})

describe('a module that is edited and loaded again', () => {
  const folder = mkdtempSync(join(tmpdir(), 'corral-'))
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  it('declares its functions again', async () => {
    const file = join(folder, 'users.cjs')
    const require = createRequire(import.meta.url)
    const notices: unknown[] = []
    const listen = (message: unknown) => void notices.push(message)
    diagnostics('notice').subscribe(listen)
    const region = open()
    const load = (text: string) => {
      writeFileSync(file, text)
      delete require.cache[file]
      ;(require(file) as (region: unknown) => void)(region)
    }
    load(`module.exports = (region) => region.cacheOnArguments({ namespace: 'x' })(async (id) => 'a' + id)`)
    await sleep(20)
    load(
      `module.exports = (region) => region.cacheOnArguments({ namespace: 'x' })(async (id) => 'edited' + id)`,
    )
    load(
      `// moved\nmodule.exports = (region) => region.cacheOnArguments({ namespace: 'x' })(async (id) => 'edited' + id)`,
    )
    diagnostics('notice').unsubscribe(listen)
    // It may be another function too, which a timer declares at the same place.
    expect(notices).toEqual([expect.objectContaining({ namespace: 'x' })])
  })
})

describe('closures of one text', () => {
  it('are told once, with the namespace, unless they say that they share it', async () => {
    const messages: string[] = []
    const listen = (message: unknown) => void messages.push((message as { where: string }).where)
    diagnostics('notice').subscribe(listen)
    const of = (region: Region<string>, tenant: string, more: object = {}) =>
      region.cacheOnArguments(async (id: number) => `${tenant} ${id}`, { namespace: 'closure', ...more })
    const region = open()
    for (const tenant of ['a', 'b', 'c']) of(region, tenant)
    const sharing = open()
    for (const tenant of ['a', 'b']) of(sharing, tenant, { sharesNamespace: true })
    const same = open()
    for (let i = 0; i < 2; i++) void same.cacheOnArguments(one, { namespace: 'closure' })
    diagnostics('notice').unsubscribe(listen)
    expect(messages).toEqual(['namespace: closure'])
  })
})

describe('methods of classes out of one factory', () => {
  type Options = { readonly self?: 'shared' | ((of: unknown) => number); readonly sharesNamespace?: boolean }
  type Factory = (table: string) => unknown
  const standard = (region: Region<string>, options: Options) => (table: string) => {
    class Repository {
      @region.cacheOnArguments({ namespace: 'method', ...options })
      async find(id: number): Promise<string> {
        return `${table} ${id}`
      }
    }
    return Repository
  }
  const statics = (region: Region<string>, options: Options) => (table: string) => {
    class Repository {
      readonly table = table
      @region.cacheOnArguments({ namespace: 'method', ...options })
      static async find(id: number): Promise<string> {
        return `${table} ${id}`
      }
    }
    return Repository
  }
  const legacy = (region: Region<string>, options: Options) => {
    const decorate = region.cacheOnArguments({ namespace: 'method', ...options }) as (
      ...of: unknown[]
    ) => unknown
    return (table: string) => {
      const value = async (id: number) => `${table} ${id}`
      decorate({}, 'find', { value })
    }
  }
  const noticesOf = (act: () => void): string[] => {
    const messages: string[] = []
    const listen = (message: unknown) => void messages.push((message as { message: string }).message)
    diagnostics('notice').subscribe(listen)
    act()
    diagnostics('notice').unsubscribe(listen)
    return messages
  }

  it.each<[string, (region: Region<string>) => Factory]>([
    ['shared by instances', (region) => standard(region, { self: 'shared' })],
    ['by the id of an instance', (region) => standard(region, { self: () => 1 })],
    ['legacy ones', (region) => legacy(region, { self: 'shared' })],
    ['static ones', (region) => statics(region, {})],
    ['static ones, shared', (region) => statics(region, { self: 'shared' })],
  ])('are told once: %s', (_, factoryOf) => {
    const messages = noticesOf(() => {
      const factory = factoryOf(open())
      for (const table of ['users', 'books', 'orders']) factory(table)
    })
    expect(messages).toEqual([expect.stringContaining('also if `self` tells their classes apart')])
  })

  it('are not told where they say that they share it, nor for the instances of one class', () => {
    const messages = noticesOf(() => {
      const sharing = standard(open(), { self: () => 1, sharesNamespace: true })
      for (const table of ['users', 'books']) sharing(table)
      const Repository = standard(open(), { self: 'shared' })('users')
      for (const repository of [new Repository(), new Repository()]) void repository.find(1)
    })
    expect(messages).toEqual([])
  })
})

describe('a helper that declares the functions of others', () => {
  it('is refused for a second one, also in a later turn', async () => {
    const region = open()
    const cached = (fn: (id: number) => Promise<string>) =>
      region.cacheOnArguments(fn, { namespace: 'by a helper' })
    cached(async (id) => `user ${id}`)
    await sleep(20)
    expect(() => cached(async (id) => `order ${id}`)).toThrow(refusal)
  })
})

describe('a function that wraps functions', () => {
  it('is refused as a decorator, of either kind', () => {
    const region = open()
    const many = region.cacheMultiOnArguments({ namespace: 'm' }) as (...given: unknown[]) => unknown
    const ofVersion = versioned({ namespace: 'v', version: () => 1 }) as (...given: unknown[]) => unknown
    const context = { kind: 'method', name: 'find', static: false }
    for (const declare of [many, ofVersion]) {
      const expected = expect.objectContaining({ code: 'ERR_OPTION' }) as Error
      expect(() => declare(one, context)).toThrow(expected)
      expect(() => declare({}, 'find', { value: one })).toThrow(expected)
      expect(() => declare(class {}, 'find', { value: one })).toThrow(expected)
    }
  })
})

describe('a decorator without its options', () => {
  const region = open()
  const ENTRIES: [name: string, entry: unknown, message: string][] = [
    ['cacheOnArguments', region.cacheOnArguments, 'Call it: @cacheOnArguments(options)'],
    ['cacheResults', cacheResults, 'Call it: @cacheResults(options)'],
    ['cacheMultiOnArguments', region.cacheMultiOnArguments, 'cacheMultiOnArguments() to wrap a function'],
    ['versioned', versioned, 'versioned() to wrap a function'],
    ['dependsOn', dependsOn, 'name'],
  ]
  it.each(ENTRIES)('is refused: %s', (_, entry, message) => {
    const decorate = entry as (...given: unknown[]) => unknown
    const context = { kind: 'method', name: 'find', static: false }
    for (const given of [
      [one, context],
      [{}, 'find', { value: one }],
      [class {}, 'find', { value: one }],
    ]) {
      expect(() => decorate(...given)).toThrow(CorralError)
      expect(() => decorate(...given)).toThrow(message)
    }
  })
})
