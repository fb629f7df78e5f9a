import { transformSync } from 'esbuild'
import ts from 'typescript'
import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { makeRegion, methodOf, NO_VALUE, type Region } from '../../src/index.js'
import { cacheResults } from '../../src/signals/index.js'

const SOURCE = `
class Model {
  constructor(readonly id: number) {}
  runs = 0

  @region.cacheOnArguments({ namespace: 'find', self: (of: Model) => of.id })
  async find(name: string): Promise<string> {
    return this.id + ' ' + name + ' ' + ++this.runs
  }

  @cacheResults({ region, namespace: 'results', self: 'shared' })
  async results(name: string): Promise<string> {
    return 'results of ' + name
  }

  static table = 'models'
  @region.cacheOnArguments({ namespace: 'count' })
  static async count(more: number): Promise<string> {
    return this.table + ' ' + more
  }
}
class Users extends Model {
  static table = 'users'
}
return { Model, Users }
`

interface Instance {
  find(name: string): Promise<string>
  results(name: string): Promise<string>
}
interface Class {
  new (id: number): Instance
  count(more: number): Promise<string>
}

const COMPILERS: Readonly<Record<string, (source: string) => string>> = {
  TypeScript: (source) =>
    ts.transpileModule(source, {
      compilerOptions: { experimentalDecorators: true, target: ts.ScriptTarget.ES2022 },
    }).outputText,
  'TypeScript for an old target': (source) =>
    ts.transpileModule(source, {
      compilerOptions: { experimentalDecorators: true, target: ts.ScriptTarget.ES2015 },
    }).outputText,
  // Without the function around it esbuild refuses the `return`.
  esbuild: (source) =>
    `${
      transformSync(`export const run = () => {${source}}`, {
        loader: 'ts',
        format: 'cjs',
        tsconfigRaw: { compilerOptions: { experimentalDecorators: true } },
      }).code
    }; return run()`,
}

function load(compile: (source: string) => string, source: string, region: Region): unknown {
  const run = new Function('region', 'cacheResults', 'module', compile(source))
  return run(region, cacheResults, {})
}

describe.each(Object.entries(COMPILERS))('a legacy decorator, compiled by %s', (_, compile) => {
  const open = () => {
    const region = makeRegion({ backend: memory() })
    return { region, ...(load(compile, SOURCE, region) as { Model: Class; Users: Class }) }
  }

  it('caches methods for each instance, with all members', async () => {
    const { Model } = open()
    const [one, two] = [new Model(1), new Model(2)]
    expect([await one.find('a'), await one.find('a'), await two.find('a')]).toEqual([
      '1 a 1',
      '1 a 1',
      '2 a 1',
    ])
    await methodOf(one, 'find').invalidate('a')
    expect(await methodOf(one, 'find').get('a')).toBe(NO_VALUE)
    expect(await methodOf(two, 'find').get('a')).toBe('2 a 1')
    expect(await two.results('b')).toBe('results of b')
    expect([one.find.name, one.find.length]).toEqual(['find', 1])
    expect(Object.keys(Model.prototype)).toEqual([])
  })

  it('caches static methods, and refuses them on a derived class', async () => {
    const { Model, Users } = open()
    expect(await Model.count(1)).toBe('models 1')
    await expect(Users.count(1)).rejects.toMatchObject({ code: 'ERR_OPTION' })
  })

  it.each([
    [
      'a property',
      `class Wrong { @region.cacheOnArguments({ namespace: 'n' }) field = 1 }`,
      /decorate a method/,
    ],
    [
      'an accessor',
      `class Wrong { @region.cacheOnArguments({ namespace: 'n' }) get part() { return 1 } }`,
      /decorate a method/,
    ],
    [
      'a class',
      `@region.cacheOnArguments({ namespace: 'n', self: 'shared' }) class Wrong {}; return Wrong`,
      /decorate a method/,
    ],
    [
      'a method without self',
      `class Wrong { @region.cacheOnArguments({ namespace: 'n' }) async find() {} }`,
      /Expected `self`/,
    ],
  ])('refuses %s', (_name, source, message) => {
    const region = makeRegion({ backend: memory() })
    expect(() => load(compile, source, region)).toThrow(message)
  })
})
