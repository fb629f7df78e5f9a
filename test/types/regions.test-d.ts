import { describe, expectTypeOf, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import {
  type CachedFunction,
  type CachedMultiFunction,
  type CachedValue,
  type Creation,
  currentCreation,
  makeRegion,
  methodOf,
  NO_VALUE,
  type NoValue,
  type Outcome,
  type Region,
  type SetOutcome,
  type ValueMetadata,
} from '../../src/index.js'
import { versioned } from '../../src/session/index.js'
import { cacheResults } from '../../src/signals/index.js'

interface User {
  readonly id: number
  readonly name: string
}

const users = makeRegion<User>({ backend: memory() })
const user: User = { id: 1, name: 'one' }

describe('a region', () => {
  it('answers its values, or NO_VALUE, which must be handled', async () => {
    const found = await users.get('key')
    expectTypeOf(found).toEqualTypeOf<User | NoValue>()
    // @ts-expect-error NO_VALUE has no name
    found.name
    if (found !== NO_VALUE) expectTypeOf(found).toEqualTypeOf<User>()
    expectTypeOf(users.peek('key')).toEqualTypeOf<User | NoValue>()
    expectTypeOf(await users.getMulti(['a'])).toEqualTypeOf<(User | NoValue)[]>()
    expectTypeOf(await users.has('a')).toEqualTypeOf<boolean>()
    expectTypeOf(await users.getValueMetadata('a')).toEqualTypeOf<ValueMetadata<User> | undefined>()
  })

  it('takes its values only', async () => {
    expectTypeOf(await users.set('key', user)).toEqualTypeOf<Outcome>()
    expectTypeOf(await users.setMulti([['key', user]])).toEqualTypeOf<readonly Outcome[]>()
    expectTypeOf(await users.setMulti(new Map([['key', user]]))).toEqualTypeOf<readonly Outcome[]>()
    // @ts-expect-error no user
    await users.set('key', 'text')
    // @ts-expect-error nor is this
    await users.set('key', NO_VALUE)
    // @ts-expect-error a key is a string
    await users.set(5, user)
  })

  it('creates values of the creator’s type', async () => {
    interface Admin extends User {
      readonly rights: readonly string[]
    }
    const admin = await users.getOrCreate('key', (creation): Admin => {
      expectTypeOf(creation).toEqualTypeOf<Creation>()
      return { ...user, rights: [] }
    })
    expectTypeOf(admin).toEqualTypeOf<Admin>()
    expectTypeOf(await users.getOrCreate('key', async () => user)).toEqualTypeOf<User>()
    // @ts-expect-error no user
    await users.getOrCreate('key', () => 'text')
    // @ts-expect-error a creator is a function
    await users.getOrCreate('key', user)
    await users.getOrCreate('key', () => user, {
      shouldCache(value, key) {
        expectTypeOf(value).toEqualTypeOf<User>()
        expectTypeOf(key).toEqualTypeOf<string>()
        return true
      },
    })
  })

  it('creates many values, of which some may be none', async () => {
    const many = await users.getOrCreateMulti(['a', 'b'], (keys) => {
      expectTypeOf(keys).toEqualTypeOf<readonly string[]>()
      return [user, NO_VALUE]
    })
    expectTypeOf(many).toEqualTypeOf<(User | NoValue)[]>()
    // @ts-expect-error one value is not many
    await users.getOrCreateMulti(['a'], () => user)
  })

  it('takes durations in known units', () => {
    makeRegion({ expirationTime: '5m' })
    makeRegion({ expirationTime: 300_000 })
    makeRegion({ expirationTime: Number.POSITIVE_INFINITY })
    // @ts-expect-error no such unit
    makeRegion({ expirationTime: '5 minutes' })
    // @ts-expect-error no unit
    makeRegion({ expirationTime: '300' })
    // @ts-expect-error dogpile's name for it
    makeRegion({ expiration_time: 300 })
    // @ts-expect-error no such mode
    void users.invalidate('medium')
  })

  it('of anything holds anything', async () => {
    const any = makeRegion()
    expectTypeOf(any).toEqualTypeOf<Region<unknown>>()
    expectTypeOf(await any.getOrCreate('key', () => 5)).toEqualTypeOf<number>()
  })
})

describe('a cached function', () => {
  const cached = users.cacheOnArguments({ namespace: 'user' })

  it('keeps its arguments and answers a promise', async () => {
    const find = cached((id: number, fresh?: boolean): User => ({ ...user, id, name: String(fresh) }))
    expectTypeOf<Parameters<typeof find>>().toEqualTypeOf<[id: number, fresh?: boolean | undefined]>()
    expectTypeOf(await find(1)).toMatchTypeOf<User>()
    expectTypeOf(find.key).toEqualTypeOf<(id: number, fresh?: boolean) => string>()
    // @ts-expect-error an id is a number
    await find('1')
    // @ts-expect-error an id is needed
    await find()
    // @ts-expect-error an id is needed to invalidate, too
    await find.invalidate()
    // @ts-expect-error and to do so softly
    await find.invalidate.soft()
  })

  it('has members of the same types', async () => {
    const find = cached(async (_: number) => user)
    expectTypeOf(find).toEqualTypeOf<CachedFunction<[_: number], User>>()
    expectTypeOf(await find.get(1)).toEqualTypeOf<User | NoValue>()
    expectTypeOf(await find.refresh(1)).toEqualTypeOf<User>()
    expectTypeOf(find.set(user, 1)).toEqualTypeOf<Promise<SetOutcome>>()
    expectTypeOf(find.original(1)).toEqualTypeOf<User | Promise<User>>()
    // @ts-expect-error no user
    await find.set('text', 1)
  })

  it('must fit the region', () => {
    // @ts-expect-error no user
    void cached(() => 'text')
    // @ts-expect-error no function
    void cached(user)
    // @ts-expect-error no options
    users.cacheOnArguments()
    // @ts-expect-error dogpile's name for it
    users.cacheOnArguments({ namespace: 'n', expiration_time: 5 })
  })
})

describe('a cached function of many ids', () => {
  it('keeps the type of its ids and values', async () => {
    const find = users.cacheMultiOnArguments({ namespace: 'user' })((...ids: number[]): User[] =>
      ids.map((id) => ({ ...user, id })),
    )
    expectTypeOf(find).toEqualTypeOf<CachedMultiFunction<number, User>>()
    expectTypeOf(await find(1, 2)).toEqualTypeOf<User[]>()
    expectTypeOf(await find.get(1)).toEqualTypeOf<(User | NoValue)[]>()
    expectTypeOf(find.keys(1)).toEqualTypeOf<readonly string[]>()
    expectTypeOf(find.set(new Map([[1, user]]))).toEqualTypeOf<Promise<readonly SetOutcome[]>>()
    // @ts-expect-error ids are numbers
    await find('1')
  })

  it('that answers a map answers a map', async () => {
    const find = users.cacheMultiOnArguments({ namespace: 'user', asMap: true })(
      (...ids: number[]) => new Map(ids.map((id) => [id, user])),
    )
    expectTypeOf(await find(1)).toEqualTypeOf<Map<number, User>>()
    expectTypeOf(await find.refresh(1)).toEqualTypeOf<Map<number, User>>()
    expectTypeOf(await find.get(1)).toEqualTypeOf<(User | NoValue)[]>()
  })
})

describe('a readonly rest parameter', () => {
  const names = makeRegion<unknown>({ backend: memory() })

  it('is that of a cached function', async () => {
    const find = names.cacheOnArguments(async (...ids: readonly number[]) => ids.length, {
      namespace: 'count',
      dependencies: (...ids) => ids.map((id) => id.toFixed()),
    })
    expectTypeOf(await find(1, 2)).toEqualTypeOf<number>()
    // @ts-expect-error ids are numbers
    await find('1')
    await names.cacheOnArguments({ namespace: 'n' })(async (...ids: readonly number[]) => ids)(1, 2)
    await cacheResults(async (...ids: readonly number[]) => ids, { region: names, namespace: 'r' })(1, 2)
  })

  it('is many ids', async () => {
    const find = names.cacheMultiOnArguments(async (...ids: readonly number[]) => ids.map(String), {
      namespace: 'texts',
      dependencies: (id) => id.toFixed(),
    })
    expectTypeOf(find).toEqualTypeOf<CachedMultiFunction<number, string>>()
    names.cacheMultiOnArguments(async (...ids: readonly number[]) => ids.map(String), {
      namespace: 'texts',
      // @ts-expect-error its ids are no array
      ids: 'array',
    })
    await names.cacheMultiOnArguments({ namespace: 'n' })(async (...ids: readonly number[]) => ids)(1, 2)
  })

  it('may stand behind a first id', async () => {
    const find = names.cacheMultiOnArguments(
      async (first: number, ...ids: readonly number[]) => [first, ...ids],
      {
        namespace: 'first',
      },
    )
    expectTypeOf(find).toEqualTypeOf<CachedMultiFunction<number, number>>()
  })
})

describe('a generic or overloaded function', () => {
  const any = makeRegion<unknown>({ backend: memory() })
  const list = async <T>(of: T): Promise<T[]> => [of]
  function load(id: number): Promise<{ id: number }>
  function load(name: string): Promise<{ name: string }>
  async function load(of: unknown): Promise<unknown> {
    return of
  }
  const many = async <T extends string>(...ids: T[]): Promise<T[]> => ids

  it('keeps its type for calls and as `original`', () => {
    const options = { namespace: 'list' }
    const first = any.cacheOnArguments(list, options)
    expectTypeOf(first(1)).toEqualTypeOf<Promise<number[]>>()
    expectTypeOf(first.original('a')).toEqualTypeOf<Promise<string[]>>()
    expectTypeOf(first.with({ reason: 'r' })('a')).toEqualTypeOf<Promise<string[]>>()
    expectTypeOf(any.cacheOnArguments(options)(list)(1)).toEqualTypeOf<Promise<number[]>>()
    expectTypeOf(versioned(list, { ...options, version: () => 1 })('a')).toEqualTypeOf<Promise<string[]>>()
    const loaded = any.cacheOnArguments(load, { namespace: 'load' })
    expectTypeOf(loaded(1)).toEqualTypeOf<Promise<{ id: number }>>()
    expectTypeOf(loaded('a')).toEqualTypeOf<Promise<{ name: string }>>()
    const original: typeof load = loaded.original
    void [original, loaded.get('a'), loaded.invalidate('a')]
    expectTypeOf(any.cacheMultiOnArguments(many, { namespace: 'many' })('a')).toEqualTypeOf<Promise<'a'[]>>()
    // @ts-expect-error the function takes no boolean
    void loaded(true)
  })

  it('has to return what the region takes', () => {
    const texts = makeRegion<string>({ name: 'texts', backend: memory() })
    const field = async <K extends 'id' | 'name'>(key: K) => ({ id: 5, name: 'Ada' })[key]
    const same = async <T>(of: T): Promise<T> => of
    const all = async <T>(...of: T[]): Promise<T[]> => of
    // @ts-expect-error a number, too
    texts.cacheOnArguments(field, { namespace: 'field' })
    // @ts-expect-error anything
    texts.cacheOnArguments(same, { namespace: 'same' })
    // @ts-expect-error anything
    texts.cacheMultiOnArguments(all, { namespace: 'all' })
    // @ts-expect-error anything
    versioned(same, { namespace: 'same', version: () => 1, region: texts })
    const short = async <T extends string>(of: T): Promise<T> => of
    expectTypeOf(texts.cacheOnArguments(short, { namespace: 'short' })('a')).toEqualTypeOf<Promise<'a'>>()
    expectTypeOf(texts.cacheOnArguments({ namespace: 'short' })(short)('a')).toEqualTypeOf<Promise<'a'>>()
  })

  it('and no other function: the cached one has no members of it', () => {
    const named = Object.assign(async (id: number) => id, { label: 'own' })
    const cached = any.cacheOnArguments(named, { namespace: 'named' })
    expectTypeOf(cached).toEqualTypeOf<CachedFunction<[id: number], number>>()
    expectTypeOf(
      any.cacheOnArguments(async (a: number, b?: string, ...c: boolean[]) => `${a}${b}${c}`, {
        namespace: 'plain',
        key: (a, b, ...c) => `${a.toFixed()}${b?.length}${c.length}`,
      }),
    ).toEqualTypeOf<CachedFunction<[a: number, b?: string, ...c: boolean[]], string>>()
  })
})

describe('a function that declares `this`', () => {
  const any = makeRegion<unknown>({ backend: memory() })
  interface Shop {
    readonly id: number
  }
  async function price(this: Shop, article: string): Promise<string> {
    return `${article} ${this.id}`
  }
  async function prices(this: Shop, ...articles: string[]): Promise<string[]> {
    return articles.map((article) => `${article} ${this.id}`)
  }
  const versions = { namespace: 'versions', version: () => 1 }

  it('is a method, whose instances `self` tells apart or shares', () => {
    const cached = any.cacheOnArguments(price, { namespace: 'price', self: 'shared' })
    expectTypeOf(cached).toEqualTypeOf<(this: Shop, article: string) => Promise<string>>()
    expectTypeOf(any.cacheOnArguments({ namespace: 'two', self: 'shared' })(price)).toEqualTypeOf(cached)
    // @ts-expect-error without `self`
    any.cacheOnArguments(price, { namespace: 'none' })
    // @ts-expect-error without `self`
    void any.cacheOnArguments({ namespace: 'none' })(price)
    // @ts-expect-error without `self`
    cacheResults(price, { region: any, namespace: 'none' })
    // @ts-expect-error without `self`
    cacheResults({ region: any, namespace: 'none' })(price)
  })

  it('is refused where there is no `self`', () => {
    // @ts-expect-error its `this` would be lost
    any.cacheMultiOnArguments(prices, { namespace: 'many' })
    // @ts-expect-error its `this` would be lost
    any.cacheMultiOnArguments({ namespace: 'many' })(prices)
    // @ts-expect-error its `this` would be lost
    versioned(price, versions)
    // @ts-expect-error its `this` would be lost
    versioned(versions)(price)
  })

  it('is a function where it wants none, or is of any kind', () => {
    async function free(this: void, article: string): Promise<string> {
      return article
    }
    expectTypeOf(any.cacheOnArguments(free, { namespace: 'free' })).toEqualTypeOf<
      CachedFunction<[article: string], string>
    >()
    const cachedAny = <F extends (...args: never[]) => Promise<unknown>>(fn: F) =>
      any.cacheOnArguments(fn, { namespace: 'any' })
    void cachedAny(free)
  })
})

describe('a decorated method', () => {
  it('keeps its type parameters and overloads', () => {
    const any = makeRegion<unknown>({ backend: memory() })
    class Repository {
      readonly id = 1

      @any.cacheOnArguments({ namespace: 'same', self: (of: Repository) => of.id })
      async same<T extends string>(of: T): Promise<T> {
        return of
      }

      @cacheResults({ region: any, namespace: 'list', self: 'shared' })
      async list<T>(...of: readonly T[]): Promise<readonly T[]> {
        return of
      }

      async either(of: string): Promise<string>
      async either(of: number): Promise<number>
      @any.cacheOnArguments({ namespace: 'either', self: 'shared' })
      async either(of: unknown): Promise<unknown> {
        return of
      }
    }
    expectTypeOf(new Repository().same('a')).toEqualTypeOf<Promise<'a'>>()
    expectTypeOf(new Repository().list(1)).toEqualTypeOf<Promise<readonly number[]>>()
    expectTypeOf(new Repository().either(1)).toEqualTypeOf<Promise<number>>()
    void methodOf(new Repository(), 'list').invalidate(1, 2)
  })

  it('keeps its type, and must answer a promise', () => {
    class Repository {
      readonly id = 1

      @users.cacheOnArguments({ namespace: 'find', self: (of: Repository) => of.id })
      async find(id: number): Promise<User> {
        return { ...user, id }
      }

      // @ts-expect-error a method that answers at once cannot be replaced by one that does not
      @users.cacheOnArguments({ namespace: 'sync', self: 'shared' })
      sync(): User {
        return user
      }

      // @ts-expect-error no user
      @users.cacheOnArguments({ namespace: 'text', self: 'shared' })
      async text(): Promise<string> {
        return ''
      }
    }
    expectTypeOf(new Repository().find).toEqualTypeOf<(id: number) => Promise<User>>()
    expectTypeOf(methodOf(new Repository(), 'find')).toEqualTypeOf<CachedFunction<[id: number], User>>()
    // @ts-expect-error no such method
    methodOf(new Repository(), 'absent')
  })
})

describe('serving options', () => {
  it('are those of regions, cached functions and calls', async () => {
    makeRegion<User>({ backend: memory(), grace: '1h', jitter: 0.1 })
    // @ts-expect-error a duration
    makeRegion({ grace: 'long' })
    // @ts-expect-error a number
    makeRegion({ jitter: '0.1' })
    users.cacheOnArguments(async (id: number) => ({ ...user, id }), { namespace: 'user', grace: 0 })
    users.cacheMultiOnArguments(async (...ids: number[]) => ids.map((id) => ({ ...user, id })), {
      namespace: 'users',
      grace: '1m',
      jitter: 0.5,
    })
    await users.getOrCreate('key', () => user, { grace: '1m', jitter: 0, hardTimeout: '1s' })
    // @ts-expect-error it is hardTimeout
    await users.getOrCreate('key', () => user, { wait: '1s' })
    // @ts-expect-error a function that returns true or false
    makeRegion({ serveStaleIf: () => 'yes' })
    expectTypeOf(currentCreation()).toEqualTypeOf<Creation>()
    await users.getOrCreate('key', (creation) => creation.unchanged())
    await users.getOrCreate('key', ({ unchanged }) => unchanged<User>())
    expectTypeOf<Creation['previous']>().toEqualTypeOf<CachedValue | undefined>()
  })
})
