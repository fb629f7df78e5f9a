import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { memory } from '../../../backends/memory/index.js'
import { dependencies } from '../../../proxies/dependencies.js'
import { json } from '../../../proxies/json.js'
import { near } from '../../../proxies/near.js'
import {
  type Backend,
  type Bytes,
  CorralError,
  type Duration,
  dep,
  dependsOn,
  type Messages,
  makeRegion,
  type Region,
  type TransparentProxy,
  wrap,
} from '../../../src/index.js'
import { until } from '../../support/waiting.js'

/** A region over a near cache in front of a backend. */
export function nearRegion(
  backend: Backend<Bytes>,
  maxStaleness: Duration = '10m',
  name = 'users',
  expirationTime: Duration = '1h',
): Region<string> {
  const chain = wrap(backend, json(), near(memory(), { maxStaleness }), dependencies())
  return makeRegion<string>({ name, expirationTime, backend: chain })
}

/** The same with layers between the near cache and the store, or above it. */
export function layeredRegion(
  backend: Backend<Bytes>,
  maxStaleness: Duration,
  { below = (next) => next, above = (next) => next }: { below?: TransparentProxy; above?: TransparentProxy },
): Region<string> {
  const chain = wrap(backend, json(), below, near(memory(), { maxStaleness }), above, dependencies())
  return makeRegion<string>({ name: 'users', expirationTime: '1h', backend: chain })
}

/** What `corral:notice` tells of near caches while some work runs. */
export async function noticesOf(work: () => Promise<unknown>): Promise<readonly string[]> {
  const told: string[] = []
  const listen = ({ where, message }: Messages['notice']) => {
    if (where.includes('near')) told.push(message)
  }
  subscribe('corral:notice', listen as never)
  await work().finally(() => unsubscribe('corral:notice', listen as never))
  return told
}

/** The value that a copy in this process serves; `undefined` if a read would go to the store. */
export function copyOf(region: Region<string>, key: string): unknown {
  try {
    return region.peek(key)
  } catch (error) {
    if (CorralError.is(error, 'ERR_ASYNC_BACKEND')) return undefined
    throw error
  }
}

/** Reads a key until a copy of it is here. */
export async function warm(region: Region<string>, key: string, value = 'old'): Promise<void> {
  await until(async () => {
    await region.getOrCreate(key, () => {
      dependsOn(dep.id('user', key))
      return value
    })
    return copyOf(region, key) === value
  })
}
