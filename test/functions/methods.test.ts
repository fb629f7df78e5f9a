import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { makeRegion, methodOf, NO_VALUE } from '../../src/index.js'
import { cacheResults } from '../../src/signals/index.js'
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

// biome-ignore-start lint/complexity/noThisInStatic: a static method that looks at its class is the subject
// biome-ignore-start lint/complexity/noStaticOnlyClass: as above
describe('a decorated static method', () => {
  it('that a derived class inherits is refused on it, unless `self` tells the classes apart', async () => {
    const region = open()
    class Model {
      static table = 'models'

      @region.cacheOnArguments({ namespace: 'find' })
      static async find(id: number): Promise<string> {
        return `${this.table} ${id}`
      }

      @region.cacheOnArguments({ namespace: 'apart', self: (of: typeof Model) => of.table })
      static async apart(id: number): Promise<string> {
        return `${this.table} ${id}`
      }

      @region.cacheOnArguments({ namespace: 'shared', self: 'shared' })
      static async shared(id: number): Promise<string> {
        return `shared ${id}`
      }
    }
    class Users extends Model {
      static override table = 'users'
    }
    class Books extends Model {
      static override table = 'books'
    }
    await expect(Users.find(1)).rejects.toThrow(/Expected `self` for the static method 'find'/)
    expect(await Model.find(1)).toBe('models 1')
    await expect(Books.find(1)).rejects.toMatchObject({ code: 'ERR_OPTION' })
    expect([await Users.apart(1), await Books.apart(1), await Model.apart(1)]).toEqual([
      'users 1',
      'books 1',
      'models 1',
    ])
    expect(await methodOf(Users, 'apart').get(1)).toBe('users 1')
    expect([await Users.shared(1), await Books.shared(1)]).toEqual(['shared 1', 'shared 1'])
  })

  it('may be private', async () => {
    const region = open()
    class Model {
      @region.cacheOnArguments({ namespace: 'find' })
      static async #find(id: number): Promise<string> {
        return `${id}`
      }
      static find = (id: number) => Model.#find(id)
    }
    expect(await Model.find(1)).toBe('1')
  })
})

// biome-ignore-end lint/complexity/noStaticOnlyClass: as above
// biome-ignore-end lint/complexity/noThisInStatic: as above

describe('a cached function in a class field', () => {
  it('takes its instance from its closure, in every member', async () => {
    const region = open()
    const calls = counting()
    class Repository {
      constructor(readonly id: number) {}

      readonly find = region.cacheOnArguments(async (name: string) => `${this.id} ${name} ${calls.next()}`, {
        namespace: 'find',
        self: () => this.id,
      })
    }
    const [one, other] = [new Repository(1), new Repository(2)]
    expect(await one.find('a')).toBe('1 a 1')
    expect(await other.find('a')).toBe('2 a 2')
    const { find } = other
    expect(await find('a')).toBe('2 a 2')
    expect(await new Repository(1).find('a')).toBe('1 a 1')
    expect(await one.find.get('a')).toBe('1 a 1')
    expect(await other.find.refresh('a')).toBe('2 a 3')
    await one.find.set('set', 'a')
    expect(await one.find('a')).toBe('set')
    expect(await methodOf(one, 'find').get('a')).toBe('set')
    await one.find.invalidate('a')
    expect([await one.find.get('a'), await other.find.get('a')]).toEqual([NO_VALUE, '2 a 3'])
  })
})

it('an instance whose id lacks a part at any depth is refused', async () => {
  const region = open()
  class Shop {
    constructor(
      readonly tenant: string,
      readonly id?: number,
    ) {}

    readonly ofObject = region.cacheOnArguments(async (name: string) => name, {
      namespace: 'object',
      self: () => ({ tenant: this.tenant, id: this.id }),
    })
    readonly ofList = region.cacheOnArguments(async (name: string) => name, {
      namespace: 'list',
      self: () => [this.tenant, [this.id, new Date(0)]],
    })
  }
  const unsaved = new Shop('acme')
  const saved = new Shop('acme', 1)
  for (const way of ['ofObject', 'ofList'] as const) {
    await expect(unsaved[way]('tea')).rejects.toMatchObject({ code: 'ERR_KEY_ARGUMENT' })
    expect(await saved[way]('tea')).toBe('tea')
  }
})

describe('a cached function that declares `this`', () => {
  it('is a method of every instance that it is called on', async () => {
    const region = open()
    interface Shop {
      readonly id: number
    }
    const price = region.cacheOnArguments(
      async function (this: Shop, article: string) {
        return `${article} in ${this.id}`
      },
      { namespace: 'price', self: (shop) => shop.id },
    )
    const [one, two] = [
      { id: 1, price },
      { id: 2, price },
    ]
    expect([await one.price('tea'), await two.price('tea')]).toEqual(['tea in 1', 'tea in 2'])
    expect(await methodOf(two, 'price').get('tea')).toBe('tea in 2')
    await expect(Reflect.apply(price, undefined, ['tea'])).rejects.toMatchObject({ code: 'ERR_OPTION' })
  })

  it('runs on its caller where instances share its entries, or `self` takes none', async () => {
    const region = open()
    interface Shop {
      readonly id: number
    }
    async function load(this: Shop, article: string) {
      return `${article} by ${this.id}`
    }
    for (const [i, name] of [
      region.cacheOnArguments(load, { namespace: 'shared', self: 'shared' }),
      region.cacheOnArguments({ namespace: 'curried', self: 'shared' })(load),
      region.cacheOnArguments(load, { namespace: 'constant', self: () => 'all' }),
      cacheResults(load, { region, namespace: 'results', self: 'shared' }),
    ].entries()) {
      const [one, two] = [
        { id: 1, name },
        { id: 2, name },
      ]
      expect([await one.name('tea'), await two.name('tea')], `${i}`).toEqual(['tea by 1', 'tea by 1'])
      expect(await methodOf(two, 'name').refresh('tea')).toBe('tea by 2')
      expect(await methodOf(one, 'name').original('tea')).toBe('tea by 1')
      expect(await one.name('tea')).toBe('tea by 2')
      await methodOf(one, 'name').invalidate('tea')
      expect(await name.call({ id: 3 }, 'tea')).toBe('tea by 3')
    }
  })

  it('keeps its own members where it may be called on anything', async () => {
    const region = open()
    const options = { namespace: 'plain', self: 'shared', sharesNamespace: true } as const
    async function load(article: string) {
      return article
    }
    for (const plain of [
      region.cacheOnArguments(load, options),
      region.cacheOnArguments(async (article: string) => article, options),
    ]) {
      const shelf = { plain }
      expect([await shelf.plain('tea'), await shelf.plain.get('tea')]).toEqual(['tea', 'tea'])
      expect(await methodOf(shelf, 'plain').get('tea')).toBe('tea')
      await plain.invalidate('tea')
      expect(await plain.get('tea')).toBe(NO_VALUE)
    }
  })
})
