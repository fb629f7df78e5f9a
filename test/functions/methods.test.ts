import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { makeRegion, methodOf, NO_VALUE } from '../../src/index.js'
import { counting } from '../support/stage.js'

const open = () => makeRegion<string>({ backend: memory() })

describe('a decorated method', () => {
  it('is called with its instance, once for each key', async () => {
    const region = open()
    const calls = counting()
    class Repository {
      constructor(readonly id: number) {}

      @region.cacheOnArguments({ namespace: 'find', self: (of: Repository) => of.id })
      async find(name: string): Promise<string> {
        return `${this.id} ${name} ${calls.next()}`
      }
    }
    const one = new Repository(1)
    const other = new Repository(2)
    expect(await one.find('a')).toBe('1 a 1')
    expect(await one.find('a')).toBe('1 a 1')
    expect(await other.find('a')).toBe('2 a 2')
    expect(await new Repository(1).find('a')).toBe('1 a 1')
    expect(calls.runs).toBe(2)
  })

  it('keeps its name and length', () => {
    const region = open()
    class Repository {
      @region.cacheOnArguments({ namespace: 'find', self: 'shared' })
      async find(a: string, b: string): Promise<string> {
        return a + b
      }
    }
    expect(Repository.prototype.find.name).toBe('find')
    expect(Repository.prototype.find.length).toBe(2)
  })

  it('shares its entries between instances when told so', async () => {
    const region = open()
    const calls = counting()
    class Repository {
      @region.cacheOnArguments({ namespace: 'all', self: 'shared' })
      async all(): Promise<string> {
        return `call ${calls.next()}`
      }
    }
    expect(await new Repository().all()).toBe('call 1')
    expect(await new Repository().all()).toBe('call 1')
  })

  it('must say how instances are told apart', () => {
    const region = open()
    expect(() => {
      class Repository {
        @region.cacheOnArguments({ namespace: 'find' })
        async find(): Promise<string> {
          return ''
        }
      }
      return Repository
    }).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }) as Error)
  })

  it('may be static, and call another static one', async () => {
    const region = open()
    const calls = counting()
    class Repository {
      readonly id = 1

      @region.cacheOnArguments({ namespace: 'outer' })
      static async outer(a: string): Promise<string> {
        return `outer ${await Repository.inner(a)} ${calls.next()}`
      }

      @region.cacheOnArguments({ namespace: 'inner' })
      static async inner(a: string): Promise<string> {
        return `inner ${a} ${calls.next()}`
      }
    }
    expect(await Repository.outer('x')).toBe('outer inner x 1 2')
    expect(await Repository.outer('x')).toBe('outer inner x 1 2')
    expect(await Repository.inner('x')).toBe('inner x 1')
  })

  it('offers the members of a cached function, bound to an instance', async () => {
    const region = open()
    const calls = counting()
    class Repository {
      constructor(readonly id: number) {}

      @region.cacheOnArguments({ namespace: 'find', self: (of: Repository) => of.id })
      async find(name: string): Promise<string> {
        return `${this.id} ${name} ${calls.next()}`
      }
    }
    const one = new Repository(1)
    const find = methodOf(one, 'find')
    expect(find.key('a')).toBe('find\\|1|"a"')
    expect(await one.find('a')).toBe('1 a 1')
    expect(await find.get('a')).toBe('1 a 1')
    expect(await find.refresh('a')).toBe('1 a 2')
    expect(await one.find('a')).toBe('1 a 2')
    await find.set('set', 'a')
    expect(await one.find('a')).toBe('set')
    await find.invalidate('a')
    expect(await find.get('a')).toBe(NO_VALUE)
    expect(await find.original('b')).toBe('1 b 3')
    expect(await methodOf(new Repository(2), 'find').get('a')).toBe(NO_VALUE)
  })

  it('is found in no other method', () => {
    class Plain {
      async find(): Promise<string> {
        return ''
      }
    }
    expect(() => methodOf(new Plain(), 'find')).toThrow(
      expect.objectContaining({ code: 'ERR_OPTION' }) as Error,
    )
  })

  it('is inherited, and may be overridden', async () => {
    const region = open()
    class Base {
      constructor(readonly id: number) {}

      @region.cacheOnArguments({ namespace: 'find', self: (of: Base) => of.id })
      async find(name: string): Promise<string> {
        return `base ${this.id} ${name}`
      }
    }
    class Derived extends Base {}
    class Overriding extends Base {
      override async find(name: string): Promise<string> {
        return `over ${await super.find(name)}`
      }
    }
    expect(await new Derived(1).find('a')).toBe('base 1 a')
    expect(await new Overriding(1).find('a')).toBe('over base 1 a')
  })
})
