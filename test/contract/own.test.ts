import { describe, it } from 'vitest'
import { localLeases } from '../../src/backend/lease.js'
import { type CachedValue, defineBackend } from '../../src/index.js'
import { backendContract, type Skip } from '../../src/testing/index.js'
import { queuedMutex } from '../support/queued-mutex.js'
import { threeMethods } from '../support/three-methods.js'
import { sleep } from '../support/waiting.js'
import { entries } from './values.js'

const runner = { describe, it }

const forgets = 'it does not expire entries, which is the store’s own decision'
const endless: readonly Skip[] = [
  { case: 'a value with a lifetime leaves at its end, and not before', reason: forgets },
  { case: 'values of one batch have their own lifetimes', reason: forgets },
  { case: 'a second write replaces the lifetime, or takes it away', reason: forgets },
  { case: 'a fill keeps its lifetime', reason: forgets },
]

backendContract('a backend of three methods', () => defineBackend<CachedValue>(threeMethods()), {
  values: entries(),
  runner,
  shares: true,
  skip: endless,
})

/** A store that expires entries and answers every operation after another time. */
function slowStore() {
  const map = new Map<string, { readonly value: string; readonly expiresAt: number }>()
  let calls = 0
  const delay = () => sleep((++calls * 7) % 3)
  return {
    async get(key: string): Promise<CachedValue | undefined> {
      await delay()
      const found = map.get(key)
      return found === undefined || found.expiresAt <= Date.now()
        ? undefined
        : (JSON.parse(found.value) as CachedValue)
    },
    async set(key: string, value: CachedValue, { ttl }: { readonly ttl?: number }): Promise<void> {
      const text = JSON.stringify(value)
      await delay()
      map.set(key, {
        value: text,
        expiresAt: ttl === undefined ? Number.POSITIVE_INFINITY : Date.now() + ttl,
      })
    },
    async delete(key: string): Promise<void> {
      await delay()
      map.delete(key)
    },
  }
}

backendContract('a backend that answers later', () => defineBackend({ name: 'slow', ...slowStore() }), {
  values: entries(),
  runner,
})

backendContract(
  'a backend that answers later, with batches',
  () => {
    const store = slowStore()
    return defineBackend<CachedValue>({
      name: 'slow',
      ...store,
      getMulti: (keys) => Promise.all(keys.map((key) => store.get(key))),
      deleteMulti: async (keys) => {
        await Promise.all(keys.map((key) => store.delete(key)))
      },
    })
  },
  { values: entries(), runner },
)

backendContract(
  'a backend with a plain mutex',
  () => defineBackend({ name: 'locked', ...slowStore(), mutex: queuedMutex().mutex }),
  { values: entries(), runner },
)

/** A lease of the store's own that gives back the leases of failed creations. */
function forgetful(batches: boolean) {
  const { get, set, delete: remove } = threeMethods()
  const leases = localLeases()
  const write = (key: string, value: CachedValue, token: string | undefined) => {
    if (token === undefined) leases.revoke(key)
    else if (!leases.release(key, token)) return 'lost'
    set(key, value)
    return 'stored'
  }
  const drop = (key: string) => {
    leases.revoke(key)
    remove(key)
  }
  return defineBackend<CachedValue>({
    name: 'forgetful',
    get,
    set: (key, value, { token }) => write(key, value, token),
    delete: drop,
    acquire: (key, ms, options) => leases.acquire(key, ms, options),
    renew: leases.renew,
    release: (key, token) => leases.release(key, token),
    held: leases.held,
    ...(batches && {
      setMulti: (writes) => writes.map(([key, value, { token }]) => write(key, value, token)),
      deleteMulti: (keys) => keys.forEach(drop),
    }),
  })
}

const forgetfulOptions = { values: entries(), runner, shares: true, skip: endless }
backendContract('a lease that keeps no failures', () => forgetful(false), forgetfulOptions)
backendContract('a lease that keeps no failures, with batches', () => forgetful(true), forgetfulOptions)
