/**
 * A storage of `unstorage`, as a backend: thirty drivers, from a folder to Cloudflare KV.
 *
 * A driver reads, writes and removes. There is no lease and no ledger, so a region over it has one creator at a time in
 * this process only, and `region.invalidate()` reaches this process only: `region.guarantees.limits` says so.
 */
import { createHash } from 'node:crypto'
import type { Backend } from '../src/backend/backend.js'
import { fromBase64Text, toBase64Text } from '../src/backend/base64-text.js'
import type { Bytes } from '../src/backend/cached-value.js'
import { defineBackend } from '../src/backend/define-backend.js'
import { expectMethods, expectThat, ownOptions, rejectUnknownOptions } from '../src/base/options.js'
import { onePerObject } from '../src/base/process-global.js'

/**
 * The members of a storage that are used: those of `createStorage()`, and of `prefixStorage()`.
 * @example
 * ```ts
 * import { unstorage, type UnstorageStorage } from 'corral/backends/unstorage'
 * import { createStorage } from 'unstorage'
 *
 * const storage: UnstorageStorage = createStorage()
 * export const backend = unstorage({ storage })
 * ```
 */
export interface UnstorageStorage {
  getItem(key: string): Promise<unknown>
  getItems(keys: string[]): Promise<readonly { readonly key: string; readonly value: unknown }[]>
  setItem(key: string, value: string, options?: { readonly ttl?: number }): Promise<void>
  removeItem(key: string): Promise<void>
  /** Finds the driver, to refuse one that cannot write. */
  getMount?(key: string): { readonly driver: object }
}

/**
 * The options of `unstorage()`.
 * @example
 * ```ts
 * import type { UnstorageBackendOptions } from 'corral/backends/unstorage'
 * import { createStorage, prefixStorage } from 'unstorage'
 *
 * export const options: UnstorageBackendOptions = { storage: prefixStorage(createStorage(), 'cache') }
 * ```
 */
export interface UnstorageBackendOptions {
  /** It is never disposed of here. */
  readonly storage: UnstorageStorage
}

/** Timers of Node end at once if they are longer. A driver that sets one would lose the entry immediately. */
const LONGEST_TTL = Math.floor((2 ** 31 - 1) / 1_000)
/** Bytes of a key up to which it is stored as it is. In hexadecimal a name of a file holds 255 digits. */
const LONGEST_KEY = 90

/** By storage: the lease of a key is the backend's own, so a second backend would not see that a deletion voided a creation. */
const backendOf = onePerObject('unstorage', backendOver)

/**
 * A backend of bytes over a storage of `unstorage`. Put an encoding around it.
 *
 * Keys are stored in hexadecimal, long ones as a hash, because a storage takes `a/b` and `a:b` for one key, and a file system
 * may take `a` and `A` for one. Few drivers know lifetimes: over the others an expired entry stays until it is replaced.
 * Every call with the same storage returns the same backend.
 * @example
 * ```ts
 * import { makeRegion, wrap } from 'corral'
 * import { unstorage } from 'corral/backends/unstorage'
 * import { msgpack } from 'corral/proxies/msgpack'
 * import { createStorage } from 'unstorage'
 *
 * const backend = wrap(unstorage({ storage: createStorage() }), msgpack())
 * const users = makeRegion<string>({ name: 'users', expirationTime: '5m', backend })
 * console.log(await users.getOrCreate('5', () => 'Ada'))
 * ```
 * @throws CorralError `ERR_OPTION` when `storage` lacks a method, or its driver cannot write or remove.
 */
export function unstorage(options: UnstorageBackendOptions): Backend<Bytes> {
  return backendOf(expectStorage(options))
}

function backendOver(storage: UnstorageStorage): Backend<Bytes> {
  const read = (key: string, stored: unknown) => fromBase64Text('unstorage', key, stored)
  return defineBackend<Bytes>({
    name: 'unstorage',
    stores: 'bytes',
    get: async (key) => read(key, await storage.getItem(safeKey(key))),
    async getMulti(keys) {
      const names = keys.map(safeKey)
      const items = await storage.getItems([...new Set(names)])
      // Drivers return the items in an order of their own.
      const found = new Map(items.map(({ key, value }) => [key, value]))
      return keys.map((key, at) => read(key, found.get(names[at] as string)))
    },
    set: (key, value, { ttl }) =>
      storage.setItem(
        safeKey(key),
        toBase64Text(value),
        ttl === undefined ? {} : { ttl: Math.min(Math.ceil(ttl / 1_000), LONGEST_TTL) },
      ),
    delete: (key) => storage.removeItem(safeKey(key)),
  })
}

function expectStorage(options: UnstorageBackendOptions): UnstorageStorage {
  options = ownOptions(options)
  rejectUnknownOptions(options, ['storage'], 'unstorage()')
  const { storage } = options
  const methods = ['getItem', 'getItems', 'setItem', 'removeItem']
  expectMethods(
    storage,
    methods,
    '`storage` of unstorage() to be a storage',
    'Pass createStorage({ driver }).',
  )
  const driver = storage.getMount?.(safeKey('')).driver as
    | { setItem?: unknown; removeItem?: unknown; options?: { readOnly?: unknown } }
    | undefined
  // The storage would ignore writes and deletions without a word.
  expectThat(
    driver === undefined ||
      (driver.setItem !== undefined && driver.removeItem !== undefined && !driver.options?.readOnly),
    driver,
    'the driver of `storage` to write and remove items',
    'Take a driver that is not read-only.',
  )
  return storage
}

/** Well-formed text as UTF-8, other text as UTF-16, which keeps single surrogates apart. */
function safeKey(key: string): string {
  const wellFormed = !/\p{Surrogate}/u.test(key)
  const bytes = Buffer.from(key, wellFormed ? 'utf8' : 'utf16le')
  return bytes.length > LONGEST_KEY
    ? `h${createHash('sha256')
        .update(wellFormed ? 'utf8' : 'utf16')
        .update(bytes)
        .digest('hex')}`
    : `${wellFormed ? 'k' : 'w'}${bytes.toString('hex')}`
}
