// Decorated methods, compiled with standard decorators and with `experimentalDecorators`.
import { type CachedFunction, dep, makeRegion, methodOf } from 'corral'
import { cacheResults } from 'corral/signals'

interface User {
  readonly id: number
}
const region = makeRegion()
const users = makeRegion<User>()

export class Repository {
  readonly id: number = 5

  @region.cacheOnArguments({
    namespace: 'find',
    self: (of: Repository) => of.id,
    dependencies: (id: number) => dep.id('user', id),
  })
  async find(id: number, _deep?: boolean): Promise<User> {
    return { id }
  }

  @users.cacheOnArguments({ namespace: 'all', self: 'shared', shouldCache: (found: User) => found.id > 1 })
  async all(): Promise<User> {
    return { id: 1 }
  }

  @cacheResults({ region, namespace: 'results', self: (of: Repository) => of.id })
  async results(name: string): Promise<string> {
    return name
  }

  @region.cacheOnArguments({ namespace: 'count' })
  static async count(more: number): Promise<number> {
    return more
  }

  @region.cacheOnArguments({ namespace: 'same', self: 'shared' })
  async same<T extends string>(of: T): Promise<T> {
    return of
  }

  @cacheResults({ region, namespace: 'list', self: (of: Repository) => of.id })
  async list<T>(...of: readonly T[]): Promise<readonly T[]> {
    return of
  }

  async either(of: string): Promise<string>
  async either(of: number): Promise<number>
  @region.cacheOnArguments({ namespace: 'either', self: 'shared' })
  async either(of: unknown): Promise<unknown> {
    return of
  }

  // @ts-expect-error the instance of another class
  @region.cacheOnArguments({ namespace: 'n', self: (of: { readonly nope: number }) => of.nope })
  async wrongSelf(id: number): Promise<User> {
    return { id }
  }

  // @ts-expect-error a condition on another result
  @region.cacheOnArguments({ namespace: 'n', self: 'shared', shouldCache: (found: string) => found === '' })
  async wrongResult(id: number): Promise<User> {
    return { id }
  }

  // @ts-expect-error the dependencies of other arguments
  @region.cacheOnArguments({ namespace: 'n', self: 'shared', dependencies: (name: string) => name })
  async wrongArguments(id: number): Promise<User> {
    return { id }
  }

  // @ts-expect-error a result that the region does not hold
  @users.cacheOnArguments({ namespace: 'n', self: 'shared' })
  async wrongRegion(): Promise<string> {
    return ''
  }

  // @ts-expect-error a method that returns no promise
  @region.cacheOnArguments({ namespace: 'n', self: 'shared' })
  notAsync(): number {
    return 1
  }

  // @ts-expect-error no method
  @region.cacheOnArguments({ namespace: 'n', self: 'shared' })
  field = 1
}

export const bound: CachedFunction<[id: number, _deep?: boolean], User> = methodOf(new Repository(), 'find')
export const kept: Promise<'a'> = new Repository().same('a')
export const counted: Promise<number> = methodOf(Repository, 'count').with({ hardTimeout: '1s' })(1)
