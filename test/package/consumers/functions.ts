// Cached functions: their options are inferred from the function, and checked against it.
import {
  type CachedFunction,
  type CachedMapFunction,
  type CachedMultiFunction,
  type CacheMultiOptions,
  type CacheOptions,
  dep,
  makeRegion,
  type SetOutcome,
} from 'corral'
import { type VersionedFunction, versioned } from 'corral/session'
import { cacheResults } from 'corral/signals'

type Equal<X, Y> = (<T>() => T extends X ? 1 : 2) extends <T>() => T extends Y ? 1 : 2 ? true : false
const is = <T extends true>(): T => true as T

interface User {
  readonly id: number
  readonly name: string
}
const region = makeRegion()
const users = makeRegion<User>()
const load = async (id: number, deep?: boolean): Promise<User> => ({ id, name: String(deep) })
const text = async (): Promise<string> => ''

// The function first: every parameter of every option is inferred.
export const user = region.cacheOnArguments(load, {
  namespace: 'user',
  dependencies: (id, deep) => {
    is<Equal<[typeof id, typeof deep], [number, boolean | undefined]>>()
    return dep.id('user', id)
  },
  group: {
    user: ([id]) => {
      is<Equal<typeof id, number>>()
      return id
    },
  },
  resultDependencies: (found, id) => {
    is<Equal<[typeof found, typeof id], [User, number]>>()
    return dep.tag(found.name)
  },
  shouldCache: (found, key) => {
    is<Equal<[typeof found, typeof key], [User, string]>>()
    return true
  },
  expirationTime: (id) => (id.toFixed() === '1' ? '5m' : undefined),
  key: (id) => id.toFixed(),
})
is<Equal<typeof user, CachedFunction<[id: number, deep?: boolean], User>>>()
export const lasting = region.cacheOnArguments(load, {
  namespace: 'lasting',
  expirationTime: {
    ofResult: (found, id) => {
      is<Equal<[typeof found, typeof id], [User, number]>>()
      return found.id
    },
  },
})
export const method = region.cacheOnArguments(
  async function (this: { readonly no: number }, id: number) {
    return this.no + id
  },
  {
    namespace: 'method',
    self: (instance) => {
      is<Equal<typeof instance, { readonly no: number }>>()
      return instance.no
    },
  },
)
is<Equal<typeof method, (this: { readonly no: number }, id: number) => Promise<number>>>()
export const first = cacheResults(load, { region, namespace: 'first', dependencies: (id) => id.toFixed() })
is<Equal<typeof first, typeof user>>()
export const page = versioned(load, {
  namespace: 'page',
  version: (id) => id.toFixed(),
  shouldCache: (found) => found.id > 1,
  expirationTime: { ofResult: (found, id) => found.id + id },
  region: users,
})
is<Equal<typeof page, VersionedFunction<[id: number, deep?: boolean], User>>>()

// Many ids: as rest parameters or as one array, with values or a Map.
const rows = async (...ids: number[]): Promise<User[]> => ids.map((id) => ({ id, name: '' }))
const list = async (ids: readonly number[]): Promise<User[]> => rows(...ids)
const names = async (...ids: number[]): Promise<Map<number, string>> => new Map(ids.map((id) => [id, '']))
const lengths = async (ids: string[]): Promise<Map<string, number>> => new Map(ids.map((id) => [id, 1]))
export const many = region.cacheMultiOnArguments(rows, {
  namespace: 'many',
  dependencies: (id) => id.toFixed(),
  group: { user: (id) => id },
  resultDependencies: (found, id) => found.name + id.toFixed(),
  shouldCache: (found) => found.id > 1,
  expirationTime: { ofResult: (found, id) => found.id + id },
})
is<Equal<typeof many, CachedMultiFunction<number, User>>>()
export const array = region.cacheMultiOnArguments(list, {
  namespace: 'array',
  ids: 'array',
  dependencies: (id) => id.toFixed(),
  expirationTime: (id) => id,
})
is<Equal<typeof array, CachedMultiFunction<number, User, [ids: readonly number[]]>>>()
export const map = region.cacheMultiOnArguments(names, {
  namespace: 'map',
  asMap: true,
  shouldCache: (name) => name.length > 1,
})
is<Equal<typeof map, CachedMapFunction<number, string>>>()
export const arrayMap = region.cacheMultiOnArguments(lengths, {
  namespace: 'array map',
  asMap: true,
  ids: 'array',
  shouldCache: (length, _key) => length > 1,
})
is<Equal<typeof arrayMap, CachedMapFunction<string, number, [ids: readonly string[]]>>>()

// The other way round: options whose types are written down.
const byId: CacheOptions = { namespace: 'loose', dependencies: (id: number) => dep.id('user', id) }
const byIds: CacheMultiOptions = { namespace: 'loose', dependencies: (id: number) => dep.id('user', id) }
export const curried = region.cacheOnArguments({
  namespace: 'curried',
  dependencies: (id: number) => dep.id('user', id),
  shouldCache: (found: { id: number }) => found.id > 1,
})(load)
is<Equal<typeof curried, typeof user>>()
is<Equal<ReturnType<typeof byLoose>, Promise<User>>>()
const byLoose = region.cacheOnArguments(byId)(load)
export const loose = region.cacheMultiOnArguments(byIds)(rows)
export const curriedMany = region.cacheMultiOnArguments({
  namespace: 'm',
  dependencies: (id: number) => `${id}`,
})(rows)
is<Equal<typeof curriedMany, typeof many>>()
is<Equal<typeof curriedArray, typeof array>>()
const curriedArray = region.cacheMultiOnArguments({ namespace: 'm', ids: 'array' })(list)
is<Equal<typeof curriedMap, typeof map>>()
const curriedMap = region.cacheMultiOnArguments({ namespace: 'm', asMap: true })(names)

export async function use(): Promise<void> {
  const outcome: SetOutcome = await user.set({ id: 1, name: '' }, 1)
  const outcomes: readonly SetOutcome[] = await array.set(new Map([[1, { id: 1, name: '' }]]))
  const found: User = await user.with({ signal: AbortSignal.timeout(1), reason: 'x' })(1, true)
  const [one]: User[] = await array.with({ hardTimeout: '1s', shouldCache: (value) => value.id > 1 })([1])
  const more: Map<number, string> = await map.with({ expirationTime: 5 })(1, 2)
  const again: User = await page.with({ reason: 'x' })(1)
  void [outcome, outcomes, found, one, more, again]
  // @ts-expect-error a misspelt option of a call
  user.with({ sginal: AbortSignal.timeout(1) })
  // @ts-expect-error the ids are one array
  void array(1, 2)
  // @ts-expect-error the ids are no array
  void many([1, 2])
}

// Options that cannot work do not compile.
// @ts-expect-error the dependencies of another argument
region.cacheOnArguments(load, { namespace: 'n', dependencies: (of: { id: number }) => dep.id('user', of.id) })
// @ts-expect-error an unknown option
region.cacheOnArguments(load, { namespace: 'n', expiration_time: 5 })
// @ts-expect-error a result that the region does not hold
users.cacheOnArguments(text, { namespace: 'n' })
// @ts-expect-error a result that the region does not hold
cacheResults(text, { region: users, namespace: 'n' })
// @ts-expect-error a result that the region does not hold
versioned(text, { namespace: 'n', version: () => 1, region: users })
// @ts-expect-error a version of other arguments
versioned(load, { namespace: 'n', version: (id: string) => id })
// @ts-expect-error the dependencies of another argument
void region.cacheOnArguments({ namespace: 'n', dependencies: (of: User) => dep.id('user', of.id) })(load)
// @ts-expect-error parameters without a type
void region.cacheOnArguments({ namespace: 'n', dependencies: (id) => dep.id('user', id) })(load)
// @ts-expect-error the group of other arguments
void region.cacheOnArguments({ namespace: 'n', group: { user: ([, id]: [string, number]) => id } })(load)
// @ts-expect-error the dependencies of another result
void region.cacheOnArguments({ namespace: 'n', resultDependencies: (all: User[]) => `${all.length}` })(load)
// @ts-expect-error a condition on another result
void region.cacheOnArguments({ namespace: 'n', shouldCache: (found: string) => found.length > 0 })(load)
// @ts-expect-error the lifetime of another result
void region.cacheOnArguments({ namespace: 'n', expirationTime: { ofResult: (_: string) => 5 } })(load)
// @ts-expect-error a condition on another result
cacheResults({ region, namespace: 'n', shouldCache: (found: string) => found.length > 0 })(load)
// @ts-expect-error a condition on another result
versioned({ namespace: 'n', version: (id: number) => id, shouldCache: (found: string) => found === '' })(load)
// @ts-expect-error one array, which `ids` has to say
region.cacheMultiOnArguments(list, { namespace: 'n' })
// @ts-expect-error rest parameters are no array
region.cacheMultiOnArguments(rows, { namespace: 'n', ids: 'array' })
// @ts-expect-error no Map
region.cacheMultiOnArguments(rows, { namespace: 'n', asMap: true })
// @ts-expect-error a Map, which `asMap` has to say
region.cacheMultiOnArguments(names, { namespace: 'n' })
// @ts-expect-error one id
region.cacheMultiOnArguments(async (id: number) => [id], { namespace: 'n' })
// @ts-expect-error an unknown option
region.cacheMultiOnArguments(rows, { namespace: 'n', expiration_time: 5 })
// @ts-expect-error values that the region does not hold
users.cacheMultiOnArguments(async (...ids: number[]) => ids, { namespace: 'n' })
// @ts-expect-error one array, which `ids` has to say
region.cacheMultiOnArguments({ namespace: 'n' })(list)
// @ts-expect-error rest parameters are no array
region.cacheMultiOnArguments({ namespace: 'n', ids: 'array' })(rows)
// @ts-expect-error no Map
region.cacheMultiOnArguments({ namespace: 'n', asMap: true })(rows)
// @ts-expect-error the dependencies of another id
region.cacheMultiOnArguments({ namespace: 'n', dependencies: (id: string) => id })(rows)
// @ts-expect-error an unknown option
region.cacheMultiOnArguments({ namespace: 'n', expiration_time: 5 })
