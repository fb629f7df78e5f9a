import { runInNewContext } from 'node:vm'
import { describe, expect, it } from 'vitest'
import {
  functionKeyGenerator,
  functionMultiKeyGenerator,
  type KeyPart,
  optionsKeyGenerator,
  sha1,
} from '../../src/index.js'
import { counting, open } from '../support/stage.js'

it('optionsKeyGenerator() refuses a misspelt option', () => {
  expect(() => optionsKeyGenerator({ default: { page: 1 } } as never)).toThrow(/Did you mean `defaults`/)
})

const fn = () => {}
const refusal = (code: string) => expect.objectContaining({ name: 'CorralError', code }) as Error

describe('the default key of a call', () => {
  const key = functionKeyGenerator('ns', fn)

  it('is the namespace and the encoded arguments', () => {
    expect(key()).toBe('ns|')
    expect(key(1, 2)).toBe('ns|1,2')
    expect(key('two', null, true)).toBe('ns|"two",null,true')
    expect(key(5n, -0, 0, Number.NaN, Number.POSITIVE_INFINITY)).toBe('ns|5n,-0,0,NaN,Infinity')
    expect(key([1, 'a', []], { b: 1, a: [2] })).toBe('ns|[1,"a",[]],{"a":[2],"b":1}')
    expect(key(new Date(5))).toBe('ns|@5')
  })

  it('is always a string', () => {
    for (const part of ['', 0, null, undefined, false, [], {}] as KeyPart[])
      expect(typeof key(part)).toBe('string')
  })

  it('distinguishes arguments that look alike', () => {
    const calls: readonly KeyPart[][] = [
      [],
      [''],
      [null],
      ['null'],
      ['undefined', 1],
      [undefined, 1],
      [1],
      ['1'],
      [1n],
      [[1]],
      ['a b', 'c'],
      ['a', 'b c'],
      ['a,b'],
      ['a', 'b'],
      ['a","b'],
      [['a'], 'b'],
      [['a', 'b']],
      [{}],
      [[]],
      [[[]]],
      [[undefined]],
      [[null]],
      [new Array(1)],
      [['_']],
      [[undefined, undefined]],
      [Object.assign(new Array<KeyPart>(2), { 0: undefined })],
      [Object.assign(new Array<KeyPart>(2), { 1: undefined })],
      [{ a: 1 }],
      [{ a: '1' }],
      [{ a: undefined }],
      [{ 'a":1,"b': 2 }],
      [{ a: 1, b: 2 }],
      [new Date(0)],
      [0],
      [-0],
      ['1970-01-01T00:00:00.000Z'],
      [Number.NaN],
      ['NaN'],
      [true],
      ['true'],
      ['@0'],
      ['\\'],
      ['\\\\'],
      ['|'],
    ]
    const keys = calls.map((args) => key(...args))
    expect(new Set(keys).size).toBe(keys.length)
  })

  it('does not depend on the order in which names were given', () => {
    expect(key({ a: 1, b: { c: 2, d: 3 } })).toBe(key({ b: { d: 3, c: 2 }, a: 1 }))
  })

  it('counts trailing undefined arguments as absent, as the function does', () => {
    expect(key(1, undefined, undefined)).toBe(key(1))
    expect(key(undefined)).toBe(key())
  })

  it('distinguishes namespaces with any content', () => {
    const spaces = ['a', 'a|', 'a|1', 'a\\', 'a\\|', 'ä', 'a b']
    const keys = spaces.flatMap((space) => [
      functionKeyGenerator(space, fn)(),
      functionKeyGenerator(space, fn)(1),
      functionKeyGenerator(space, fn)('1'),
    ])
    expect(new Set(keys).size).toBe(keys.length)
  })

  it('keeps unicode', () => {
    expect(functionKeyGenerator('méï', fn)('drôle', '鍵')).toBe('méï|"drôle","鍵"')
  })

  it('can be mangled', () => {
    expect(sha1(key('drôle'))).toMatch(/^[0-9a-f]{40}$/)
    expect(sha1(key('some', 'key'))).toBe(sha1(key('some', 'key')))
  })

  it('cannot be made of a value without a certain key, and names the argument', () => {
    class User {
      id = 1
    }
    const self: unknown[] = []
    self.push(self)
    const parts: readonly unknown[] = [
      () => {},
      Symbol('s'),
      new User(),
      new Map(),
      new Set(),
      new Uint8Array(1),
      Promise.resolve(),
      /re/,
      new Date(Number.NaN),
      { [Symbol('s')]: 1 },
      self,
    ]
    for (const part of parts) {
      expect(() => key(part)).toThrow(refusal('ERR_KEY_ARGUMENT'))
      expect(() => key('fine', part)).toThrow('argument 1')
      expect(() => key({ deep: [part] })).toThrow('argument 0 at .deep[0]')
    }
  })

  it('cannot be made of an array with properties beside its elements, which the function would get', () => {
    class Rows extends Array<number> {
      total = 3
    }
    const parts: readonly (readonly unknown[])[] = [
      /(?<letter>a)/.exec('xa') as unknown[],
      Object.assign([1], { total: 3 }),
      Object.assign([], { total: 3 }),
      Object.assign(new Array(1), { total: 3 }),
      Object.assign([1], { [2 ** 32 - 1]: 3 }),
      Rows.from([1]),
      runInNewContext('Object.assign([1], { total: 3 })'),
    ]
    const withOptions = optionsKeyGenerator()('ns', fn)
    for (const part of parts) {
      expect(() => key(part)).toThrow(refusal('ERR_KEY_ARGUMENT'))
      expect(() => key('fine', { deep: [part] })).toThrow('argument 1 at .deep[0]')
      expect(() => withOptions({ deep: part })).toThrow('Pass a plain array of its elements')
      expect(() => functionMultiKeyGenerator('ns', fn)(1, part)).toThrow(refusal('ERR_KEY_ARGUMENT'))
      expect(() => key([...part])).not.toThrow()
    }
    expect(key(runInNewContext('[1]'))).toBe('ns|[1]')
    expect(key(Object.freeze([1]))).toBe('ns|[1]')
  })

  it('needs a namespace', () => {
    for (const namespace of ['', undefined, null, 5] as never[])
      expect(() => functionKeyGenerator(namespace, fn)).toThrow(refusal('ERR_NAMESPACE'))
  })
})

describe('the default keys of many ids', () => {
  it('are those of calls with each id alone', () => {
    const keys = functionMultiKeyGenerator('ns', fn)
    expect(keys()).toEqual([])
    expect(keys(1, 'drôle', [2])).toEqual(['ns|1', 'ns|"drôle"', 'ns|[2]'])
    expect(keys(7)[0]).toBe(functionKeyGenerator('ns', fn)(7))
  })
})

describe('the key of a call with options', () => {
  const key = optionsKeyGenerator({ defaults: { page: 1, order: 'name' } })('ns', fn)

  it('is the same however the options are given', () => {
    const same = key({ id: 5, page: 1, order: 'name' })
    expect(key({ id: 5 })).toBe(same)
    expect(key({ order: 'name', id: 5 })).toBe(same)
    expect(key({ id: 5, page: undefined })).toBe(same)
    expect(key({ id: 5, page: 2 })).not.toBe(same)
  })

  it('is that of no options when all are at their defaults', () => {
    expect(key({ page: 1, order: 'name' })).toBe(key())
    expect(key({})).toBe(key())
  })

  it('tells apart options of the same value and another name', () => {
    expect(key({ a: 1, y: 3 })).not.toBe(key({ a: 1, z: 3 }))
    expect(key({ page: '1' })).not.toBe(key({ page: 1 }))
  })

  it('keeps unicode', () => {
    expect(key({ mélange: 'drôle' })).toBe('ns|{"mélange":"drôle"}')
  })

  it('is refused for anything but one object', () => {
    for (const args of [[5], ['a'], [null], [[]], [{}, {}], [new Date()]])
      expect(() => key(...args)).toThrow(refusal('ERR_KEY_ARGUMENT'))
    expect(() => key({ f: () => {} })).toThrow(refusal('ERR_KEY_ARGUMENT'))
  })
})

describe('a call', () => {
  it('whose arguments cannot be encoded rejects, and calls nothing', async () => {
    const { region } = open<number>()
    const f = region.cacheOnArguments({ namespace: 'f' })((_: unknown) => expect.unreachable() as number)
    for (const run of [
      () => f(() => {}),
      () => f.get(() => {}),
      () => f.set(1, () => {}),
      () => f.refresh(() => {}),
      () => f.invalidate(() => {}),
      () => f.invalidate.soft(() => {}),
    ]) {
      const result = run()
      expect(result).toBeInstanceOf(Promise)
      await expect(result).rejects.toEqual(refusal('ERR_KEY_ARGUMENT'))
    }
    expect(() => f.key(() => {})).toThrow(refusal('ERR_KEY_ARGUMENT'))
  })

  it('takes its key from a generator of its own, in every form', async () => {
    const { region, backend } = open<number>()
    const calls = counting()
    const f = region.cacheOnArguments({
      namespace: 'f',
      functionKeyGenerator:
        (namespace, of) =>
        (...args) =>
          `${namespace}:${of.name}:${args.join('+')}`,
    })(function add(a: number, b: number) {
      return a + b + calls.next()
    })
    expect(f.key(1, 2)).toBe('f:add:1+2')
    expect(await f(1, 2)).toBe(4)
    expect(backend.get('f:add:1+2')).toMatchObject({ payload: 4 })
    await f.set(9, 1, 2)
    expect(await f.get(1, 2)).toBe(9)
    await f.invalidate(1, 2)
    expect(backend.get('f:add:1+2')).toBeUndefined()
    expect(await f.refresh(1, 2)).toBe(5)
  })

  it('takes its key from the region’s generator otherwise', async () => {
    const { region } = open<number>({
      functionKeyGenerator:
        () =>
        (...args) =>
          `regional ${args.join()}`,
      functionMultiKeyGenerator:
        () =>
        (...ids) =>
          ids.map((id) => `regional ${String(id)}`),
    })
    expect(
      region
        .cacheOnArguments({})((a: number) => a)
        .key(1),
    ).toBe('regional 1')
    expect(
      region
        .cacheMultiOnArguments({})((...ids: number[]) => ids)
        .keys(1, 2),
    ).toEqual(['regional 1', 'regional 2'])
    expect(
      region
        .cacheOnArguments({ namespace: 'n', functionKeyGenerator })((a: number) => a)
        .key(1),
    ).toBe('n|1')
  })

  it('with options takes its key from them', async () => {
    const { region } = open<string>()
    const f = region.cacheOnArguments({
      namespace: 'f',
      functionKeyGenerator: optionsKeyGenerator({ defaults: { page: 1 } }),
    })(({ id, page = 1 }: { id: number; page?: number }) => `${id} on ${page}`)
    expect(await f({ id: 5 })).toBe('5 on 1')
    expect(await f.get({ page: 1, id: 5 })).toBe('5 on 1')
    expect(await f({ id: 5, page: 2 })).toBe('5 on 2')
  })

  it('rejects when its generator makes no string', async () => {
    const { region } = open<number>()
    const f = region.cacheOnArguments({ functionKeyGenerator: () => () => 5 as never })(() => 1)
    await expect(f()).rejects.toEqual(refusal('ERR_KEY'))
    await expect(f.get()).rejects.toEqual(refusal('ERR_KEY'))
    await expect(f.refresh()).rejects.toEqual(refusal('ERR_KEY'))
  })
})

describe('related keys', () => {
  it('can be found again by a generator that notes them', async () => {
    const { region } = open<string>()
    const made = new Set<string>()
    const noted = region.cacheOnArguments({
      namespace: 'user',
      functionKeyGenerator: (namespace, of) => {
        const key = functionKeyGenerator(`${namespace}.${of.name}`, of)
        return (...args) => {
          const text = key(...args)
          if (args[0] === 7) made.add(text)
          return text
        }
      },
    })
    const name = noted(function name(id: number) {
      return `name of ${id}`
    })
    const mail = noted(function mail(id: number, kind: string) {
      return `${kind} mail of ${id}`
    })
    await Promise.all([name(7), mail(7, 'work'), name(8)])
    await region.deleteMulti([...made])
    expect(await name.get(7)).not.toBe('name of 7')
    expect(await name.get(8)).toBe('name of 8')
    expect(made).toEqual(new Set(['user.name|7', 'user.mail|7,"work"']))
  })
})
