/**
 * A region as the store of undici's cache interceptor: responses in one cache for all processes, by the rules of HTTP, which
 * undici applies.
 *
 * An unsafe request, such as a POST, invalidates all stored variants of its address by one write. A response to a request
 * that was sent before the invalidation is not stored after it: the moment is taken when undici asks for the address.
 */
import { createHash } from 'node:crypto'
import { Writable } from 'node:stream'
import { NO_VALUE } from '../backend/cached-value.js'
import { report } from '../base/diagnostics.js'
import { checkOptions, expectInteger, expectMethods, ownOptions } from '../base/options.js'
import { epochNow } from '../base/timers.js'
import { dep } from '../dependencies/dep.js'
import type { LedgerTime } from '../ledger/snapshot.js'
import type { Region } from '../region/types.js'

/**
 * The options of `undiciStore()`.
 * @example
 * ```ts
 * import type { UndiciStoreOptions } from 'corral/integrations/undici'
 *
 * export const options: UndiciStoreOptions = { maxEntrySize: 1_000_000 }
 * ```
 */
export interface UndiciStoreOptions {
  /** Bytes of a body above which a response is not stored. @default 5_242_880, as in undici */
  readonly maxEntrySize?: number | undefined
}

type Headers = Record<string, string | string[]>
type Vary = Record<string, string | string[] | null>

interface UndiciKey {
  readonly origin: string
  readonly method: string
  readonly path: string
  readonly headers?: Headers
}

interface UndiciValue {
  statusCode: number
  statusMessage: string
  headers: Headers
  vary?: Vary
  etag?: string
  cacheControlDirectives?: object
  cachedAt: number
  staleAt: number
  deleteAt: number
}

type UndiciResult = UndiciValue & { cacheControlDirectives: object; body: Buffer[] }

/**
 * A cache store of undici.
 * @example
 * ```ts
 * import type { UndiciStore } from 'corral/integrations/undici'
 *
 * export const forget = (store: UndiciStore) =>
 *   store.delete({ origin: 'https://example.com', method: 'GET', path: '/users' })
 * ```
 */
export interface UndiciStore {
  /** Never rejects: a failure is a miss, reported on `corral:failure`. */
  get(key: UndiciKey): Promise<UndiciResult | undefined>
  createWriteStream(key: UndiciKey, value: UndiciValue): Writable | undefined
  /** Never rejects, since undici does not look at it: a failure is reported on `corral:failure`. */
  delete(key: UndiciKey): Promise<void>
}

/** The moment before a request, and the number of deletions before it. */
interface Moment {
  readonly asOf: Promise<LedgerTime | undefined>
  readonly deletions: number
}

/** A response as the region stores it. */
interface Stored extends UndiciValue {
  readonly body: Uint8Array
}

/** Different lists of `vary` headers of one address that are kept apart. */
const MOST_VARIATIONS = 8

/**
 * A store for `interceptors.cache({ store })`. The chain of the region has `dependencies()`, and an encoding that keeps bytes,
 * such as `msgpack()`, where the store needs one.
 * @example
 * ```ts
 * import { makeRegion, wrap } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import { undiciStore } from 'corral/integrations/undici'
 * import { dependencies } from 'corral/proxies/dependencies'
 * import { Agent, interceptors, setGlobalDispatcher } from 'undici'
 *
 * export function cacheRequests() {
 *   const region = makeRegion({ name: 'http', backend: wrap(memory(), dependencies()) })
 *   setGlobalDispatcher(new Agent().compose(interceptors.cache({ store: undiciStore(region) })))
 * }
 * ```
 * @throws CorralError `ERR_OPTION` without a region.
 */
export function undiciStore(region: Region, options: UndiciStoreOptions = {}): UndiciStore {
  options = ownOptions(options)
  expectMethods(region, ['getMulti', 'set', 'invalidateDependencies'], 'undiciStore() to receive a region')
  checkOptions(options, 'undiciStore()', {
    maxEntrySize: (value, subject) => expectInteger(value, subject, 0),
  })
  const { maxEntrySize = 5_242_880 } = options
  /** By the key object that undici also passes to `createWriteStream`: nothing is left behind if it never does. */
  const moments = new WeakMap<UndiciKey, Moment>()
  const pending = pendingResponses()
  const invalidations = invalidationsUnderWay()
  let deletions = 0
  const failed = (error: unknown): undefined => {
    report('failure', () => ({ where: 'undici', region: region.name, error }))
    return undefined
  }
  const momentOf = (key: UndiciKey): Moment => {
    const moment = { asOf: region.asOf().catch(failed), deletions }
    moments.set(key, moment)
    return moment
  }
  const store = async (key: UndiciKey, response: Stored, moment: Moment): Promise<void> => {
    const asOf = await moment.asOf
    // Without the moment an invalidation since then would be unknown.
    if (asOf === undefined) return
    const expirationTime = response.deleteAt - epochNow()
    if (expirationTime <= 0) return
    const set = { dependencies: nameOf(key), asOf, expirationTime }
    const names = Object.keys(response.vary ?? {}).sort()
    const lists = variationsOf(await region.get(indexKey(key)))
    const others = lists.filter((list) => list.join() !== names.join())
    if (names.length > 0) await region.set(indexKey(key), [names, ...others].slice(0, MOST_VARIATIONS), set)
    await region.set(entryKey(key, response.vary), response, set)
  }
  return {
    async get(given) {
      const key = copyOf(given)
      const invalidation = invalidations.of(nameOf(key))
      // Else the caller of a POST that was answered would get the response from before it.
      if (invalidation !== undefined) await invalidation
      const now = epochNow()
      // Also for a fresh response: the request may demand another one. In the turn of the read it is part of its command.
      const moment = momentOf(given)
      const response = pending.find(key, now) ?? (await read(region, key, now).catch(failed))
      await moment.asOf
      return response && resultOf(response)
    },
    createWriteStream(given, value) {
      if (value.deleteAt <= epochNow()) return undefined
      const moment = moments.get(given) ?? momentOf(given)
      // As they are now: undici passes objects of its request, which goes on until the body has ended.
      const key = copyOf(given)
      const head = structuredClone(value)
      return collect(maxEntrySize, (body) => {
        const response = { ...head, body }
        // One that was asked for before a deletion is left to the ledger, which judges by the address.
        const done = moment.deletions === deletions ? pending.add(key, response) : undefined
        void store(key, response, moment).catch(failed).finally(done)
      })
    },
    async delete(key) {
      deletions++
      pending.remove(key)
      const name = nameOf(key)
      await invalidations.add(name, region.invalidateDependencies(name).catch(failed))
    },
  }
}

/** The response for the key: one without `vary`, or one whose `vary` headers have the values of the request. */
async function read(region: Region, key: UndiciKey, now: number): Promise<Stored | undefined> {
  const [index, plain] = await region.getMulti([indexKey(key), entryKey(key)])
  const candidates = [plain]
  const lists = variationsOf(index)
  if (lists.length > 0) {
    const varied = lists.map((names) => Object.fromEntries(names.map((name) => [name, headerOf(key, name)])))
    candidates.push(...(await region.getMulti(varied.map((vary) => entryKey(key, vary)))))
  }
  const fitting = (candidates as (Stored | typeof NO_VALUE)[]).filter(
    (one): one is Stored => one !== NO_VALUE && fits(key, one, now),
  )
  return fitting.sort((one, other) => other.cachedAt - one.cachedAt)[0]
}

/** By name. undici waits for none of them, and nor does the caller of the request that made it. */
function invalidationsUnderWay() {
  const running = new Map<string, Promise<unknown>>()
  return {
    of: (name: string) => running.get(name),
    async add(name: string, work: Promise<unknown>): Promise<void> {
      // undici deletes an address once for each method.
      const all = Promise.all([running.get(name), work])
      running.set(name, all)
      await all
      if (running.get(name) === all) running.delete(name)
    },
  }
}

/** Responses on their way into the region, so that a request in the same turn finds them. */
function pendingResponses() {
  const responses = new Map<string, Set<Stored>>()
  return {
    find: (key: UndiciKey, now: number) =>
      [...(responses.get(addressOf(key)) ?? [])].reverse().find((one) => fits(key, one, now)),
    remove(key: UndiciKey) {
      for (const method of CACHED_METHODS) responses.delete(addressOf({ ...key, method }))
    },
    add(key: UndiciKey, response: Stored) {
      const address = addressOf(key)
      const own = responses.get(address) ?? new Set()
      responses.set(address, own.add(response))
      return () => {
        own.delete(response)
        if (own.size === 0 && responses.get(address) === own) responses.delete(address)
      }
    },
  }
}

const CACHED_METHODS = ['GET', 'HEAD', 'OPTIONS', 'TRACE']

/** Collects a body. A stream that is destroyed, or becomes too large, has no end and stores nothing. */
function collect(most: number, complete: (body: Uint8Array) => void): Writable {
  const chunks: Buffer[] = []
  let size = 0
  return new Writable({
    write(chunk: Buffer | string, encoding, callback) {
      // A copy: the memory of a chunk may be used again for the next one.
      const bytes = typeof chunk === 'string' ? Buffer.from(chunk, encoding) : Buffer.from(chunk)
      size += bytes.byteLength
      if (size > most) this.destroy()
      else chunks.push(bytes)
      callback(null)
    },
    final(callback) {
      complete(new Uint8Array(Buffer.concat(chunks)))
      callback(null)
    },
  })
}

/** Chunks, because undici iterates over a body: the elements of a single Buffer are numbers. */
function resultOf({ body, ...value }: Stored): UndiciResult {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength)
  return { cacheControlDirectives: {}, ...value, body: bytes.length === 0 ? [] : [bytes] }
}

function fits(key: UndiciKey, { deleteAt, vary = {} }: Stored, now: number): boolean {
  return (
    deleteAt > now &&
    Object.entries(vary).every(([name, value]) => textOf(headerOf(key, name)) === textOf(value))
  )
}

/** Names of headers have no case. */
function headerOf({ headers = {} }: UndiciKey, name: string): string | string[] | null {
  const found = Object.entries(headers).find(([own]) => own.toLowerCase() === name.toLowerCase())
  return found?.[1] ?? null
}

/** The parts of the key that are used, with lists of their own. */
const copyOf = ({ origin, method, path, headers = {} }: UndiciKey): UndiciKey => ({
  ...{ origin, method, path },
  headers: structuredClone(headers),
})

const textOf = (value: string | string[] | null | undefined) => JSON.stringify(value ?? null)

function variationsOf(index: unknown): string[][] {
  return Array.isArray(index) ? (index as string[][]) : []
}

const addressOf = ({ method, origin, path }: UndiciKey) => `${method} ${origin} ${path}`
const indexKey = (key: UndiciKey) => `vary ${addressOf(key)}`

function entryKey(key: UndiciKey, vary: Vary = {}): string {
  const values = Object.entries(vary)
    .map(([name, value]) => [name.toLowerCase(), textOf(value)])
    .sort(([one = ''], [other = '']) => (one < other ? -1 : 1))
  if (values.length === 0) return `plain ${addressOf(key)}`
  return `${createHash('sha256').update(JSON.stringify(values)).digest('base64url')} ${addressOf(key)}`
}

/** The name of an address: all methods, all variants. */
const nameOf = ({ origin, path }: UndiciKey) => dep.tag('undici', origin, path)
