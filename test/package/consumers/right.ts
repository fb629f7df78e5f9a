// A consumer's code, compiled as ESM and as CJS by every supported TypeScript.
import {
  type Backend,
  type CachedValue,
  defineBackend,
  makeRegion,
  mapKeys,
  mapValues,
  NO_VALUE,
  wrap,
} from 'corral'
import { memory } from 'corral/backends/memory'
import { nullBackend } from 'corral/backends/null'
import { type DogpileDriver, dogpile } from 'corral/dogpile'
import { broadcast } from 'corral/proxies/broadcast'
import { json } from 'corral/proxies/json'
import { msgpack } from 'corral/proxies/msgpack'
import { prefix } from 'corral/proxies/prefix'
import { localBus } from 'corral/signals'

interface User {
  readonly id: number
  readonly name: string
}

export const chains: Backend<CachedValue>[] = [
  memory(),
  nullBackend(),
  wrap(memory(), prefix('users:')),
  wrap(memory(), broadcast(localBus(), { name: 'users' })),
  wrap(memory({ stores: 'bytes' }), msgpack()),
  wrap(
    memory({ stores: 'bytes' }),
    prefix('below:'),
    json(),
    prefix('above:'),
    mapKeys((key) => key.toUpperCase()),
  ),
]

export const upperCase = wrap(
  memory(),
  mapKeys((key) => key.toUpperCase()),
)

export const marked = mapValues<CachedValue, CachedValue>({
  encode: (value) => value,
  decode: (stored) => stored,
})

export const own = defineBackend<CachedValue>({
  name: 'own',
  get: () => undefined,
  set: () => undefined,
  delete: () => undefined,
})

export const users = makeRegion<User>({
  name: 'users',
  expirationTime: '5m',
  backend: wrap(memory(), marked),
})

const driver: DogpileDriver<number> = { read: () => [{ state: 'missing' }], create: () => [1] }
export const one: Promise<number> = dogpile<number>().run('key', driver)

export async function use(): Promise<string> {
  const found = await users.get('5')
  const user: User = found === NO_VALUE ? await users.getOrCreate('5', () => ({ id: 5, name: 'Ada' })) : found
  const getUser = users.cacheOnArguments({ namespace: 'user' })(async (id: number) => ({ ...user, id }))
  const again: User = await getUser(5)
  await getUser.invalidate(5)
  await users.expire('5', { reason: 'renamed' })
  if (users.guarantees.reach === 'store') await users.delete('5')
  return again.name
}
