/** Every public function that takes options: a misspelt one is refused by its name, and each option is read once. */
import { describe, expect, it } from 'vitest'
import { entries, root } from '../../.ci/entries.mjs'
import { keyv } from '../../backends/keyv.js'
import { lmdb } from '../../backends/lmdb/index.js'
import { memcached } from '../../backends/memcached/index.js'
import { memory } from '../../backends/memory/index.js'
import { nullBackend } from '../../backends/null.js'
import { redis, redisBus } from '../../backends/redis/index.js'
import { unstorage } from '../../backends/unstorage.js'
import { broadcast } from '../../proxies/broadcast.js'
import { compress } from '../../proxies/compress.js'
import { dependencies } from '../../proxies/dependencies.js'
import { json } from '../../proxies/json.js'
import { msgpack } from '../../proxies/msgpack.js'
import { near, tiers } from '../../proxies/near.js'
import { prefix } from '../../proxies/prefix.js'
import { seal } from '../../proxies/seal.js'
import { v8 } from '../../proxies/v8.js'
import { CorralError } from '../../src/base/errors.js'
import { dogpile } from '../../src/dogpile/index.js'
import {
  defineBackend,
  defineCodec,
  delegate,
  dep,
  dependsOn,
  epochLedger,
  inBackground,
  localInvalidation,
  makeRegion,
  mapValues,
  memoryLedger,
  optionsKeyGenerator,
  wrap,
} from '../../src/index.js'
import { bentoDriver } from '../../src/integrations/bento.js'
import { catboxEngine } from '../../src/integrations/catbox.js'
import { drizzleCache, drizzleResultCache } from '../../src/integrations/drizzle.js'
import { keyv5Store, keyv6Store } from '../../src/integrations/keyv.js'
import { kyselyCache } from '../../src/integrations/kysely/index.js'
import { mikroOrm, mikroOrmResultCache } from '../../src/integrations/mikro-orm/index.js'
import { nextIsrHandler, nextUseCacheHandler } from '../../src/integrations/next/index.js'
import { openTelemetry } from '../../src/integrations/otel.js'
import { logTo } from '../../src/integrations/pino.js'
import { prismaCache } from '../../src/integrations/prisma.js'
import { prometheus } from '../../src/integrations/prometheus.js'
import { outbox, sqlCache } from '../../src/integrations/sql.js'
import { typeOrm, typeOrmResultCache } from '../../src/integrations/typeorm/index.js'
import { undiciStore } from '../../src/integrations/undici.js'
import { unstorageDriver } from '../../src/integrations/unstorage.js'
import { versioned } from '../../src/session/index.js'
import {
  beginTransaction,
  broker,
  cacheResults,
  invalidateAfterCommit,
  localBus,
  relay,
} from '../../src/signals/index.js'
import { backendContract, proxyContract } from '../../src/testing/index.js'

type Call = (options: never) => unknown

const region = makeRegion({ name: 'options', backend: wrap(memory(), dependencies()) })
const store = { get() {}, set() {}, delete() {}, add() {}, has() {}, clear() {} }
const storage = { getItem() {}, setItem() {}, removeItem() {}, hasItem() {}, getKeys() {} }
const url = 'redis://localhost:1'
const rows = { regions: region, tables: { article: 'id' } }
const runner = { describe() {}, it() {} }
const value = { payload: 1, metadata: { startedAt: 1, createdAt: 1 } }
const values = [value, { ...value, payload: 2 }] as const
const metrics = { createObservableCounter: () => ({}), createCounter: () => ({}) }
const api = { trace: { getTracer() {} }, metrics: { getMeter: () => metrics }, context: {} }
const manager = { registerSubscriber() {}, dispatchEvent() {}, clone() {} }
const orm = { em: { getEventManager: () => manager } }
const source = { getMetadata() {}, hasMetadata() {}, transaction() {}, subscribers: [] }
const database = { transaction() {}, session: { prepareQuery() {} } }
const logger = { warn() {}, error() {}, info() {}, debug() {} }
const codec = { id: 200, name: 'unknown-options', encode: () => new Uint8Array(1), decode() {} }

/** Options that are right, and the call that takes them. */
const TAKES: Readonly<Record<string, readonly [options: object, call: Call]>> = {
  backendContract: [{ values, runner }, (options) => backendContract('own', () => memory(), options)],
  beginTransaction: [{ prepared: true }, beginTransaction],
  bentoDriver: [{ closesRegion: false }, (options) => bentoDriver(region, options)],
  broadcast: [{ name: 'options', timeout: '1s' }, (options) => broadcast(localBus(), options)],
  broker: [{ regions: [region], id: () => 1 }, (options) => broker('user', options)],
  cacheResults: [
    { namespace: 'results' },
    (options: object) => cacheResults(async () => 1, { region, ...options } as never),
  ],
  catboxEngine: [{ closesRegion: false }, (options) => catboxEngine(region, options)],
  compress: [{ algorithm: 'gzip', level: 1, threshold: 1, maxBytes: 1 }, compress],
  defineBackend: [{ name: 'own', get() {}, set() {}, delete() {} }, defineBackend],
  defineCodec: [codec, defineCodec],
  delegate: [{ get: () => undefined }, (options) => delegate(memory(), options)],
  dependencies: [{ ledger: memoryLedger() }, dependencies],
  dependsOn: [{ outside: 'ignore' }, (options) => dependsOn('name', options)],
  'dep.scopes': [{ mode: 'lenient' }, (options) => dep.scopes('book', options)],
  'dep.version': [{ replace: true }, (options) => dep.version('options', () => 1, options)],
  dogpile: [{ wait: 1 }, dogpile],
  drizzleCache: [rows, (options) => drizzleCache(database as never, options)],
  drizzleResultCache: [{ strategy: 'all', hold: 5 }, (options) => drizzleResultCache(region, options)],
  epochLedger: [{ shared: false }, (options) => epochLedger(store as never, options)],
  inBackground: [{ concurrency: 2 }, inBackground],
  invalidateAfterCommit: [{ mode: 'soft' }, (options) => invalidateAfterCommit(region, 'name', options)],
  json: [{ lossy: true, maxBytes: 5, maxDepth: 5 }, json],
  keyv: [{ store }, keyv],
  keyv5Store: [{ closesRegion: false }, (options) => keyv5Store(region, options)],
  keyv6Store: [{ closesRegion: false }, (options) => keyv6Store(region, options)],
  kyselyCache: [rows, kyselyCache],
  lmdb: [{ maxBytes: 65_536, timeout: 5 }, (options) => lmdb('/tmp/never-opened', options)],
  localBus: [{}, localBus as Call],
  localInvalidation: [{}, localInvalidation as Call],
  logTo: [{ keys: true }, (options) => logTo(logger as never, options)],
  makeRegion: [
    { name: 'own', expirationTime: 5, lease: { ms: 5 }, breaker: { failures: 1, cooldown: 5 } },
    makeRegion,
  ],
  mapValues: [{ name: 'own', inner: 'bytes', outer: 'values', encode() {}, decode() {} }, mapValues],
  memcached: [{ servers: 'localhost:1', timeout: 5, maxWaiting: 5, pendingFor: 5 }, memcached],
  memory: [
    { maxEntries: 5, copy: 'clone', stores: 'values', sizeOf: () => 1, clock: { now: () => 1 } },
    memory,
  ],
  memoryLedger: [{ maxStamps: 5 }, memoryLedger],
  mikroOrm: [{ regions: region, trackReads: false }, (options) => mikroOrm(orm as never, options)],
  mikroOrmResultCache: [{ hold: 5 }, (options) => mikroOrmResultCache(region, () => orm as never, options)],
  msgpack: [{ profile: 'bundled', lossy: true }, msgpack],
  near: [{ maxStaleness: 5 }, (options) => near(memory(), options)],
  nextIsrHandler: [
    {},
    (...options) => (nextIsrHandler as (...given: unknown[]) => unknown)(region, ...options),
  ],
  nextUseCacheHandler: [
    {},
    (...options) => (nextUseCacheHandler as (...given: unknown[]) => unknown)(region, ...options),
  ],
  nullBackend: [{}, nullBackend as Call],
  openTelemetry: [{ api, regions: [region] }, openTelemetry],
  optionsKeyGenerator: [{ defaults: { size: 1 } }, optionsKeyGenerator],
  outbox: [{ regions: region, table: 'shop', claimFor: 5 }, outbox],
  prefix: [{}, (...options) => (prefix as (...given: unknown[]) => unknown)('text:', ...options)],
  prismaCache: [rows, prismaCache],
  prometheus: [{ client: {}, regions: [region] }, prometheus],
  proxyContract: [
    { over: () => memory(), values, runner },
    (options) => proxyContract('own', (next) => next, options),
  ],
  'region.configure': [
    { backend: memory(), expirationTime: 5 },
    (options) => makeRegion().configure(options),
  ],
  redis: [{ url, timeout: 5 }, redis],
  redisBus: [{ channel: 'options', timeout: 5, maxDelay: 5 }, (options) => redisBus(url, options)],
  relay: [{ timeout: 5, maxMeta: 5 }, (options) => relay(localBus(), [region], options)],
  seal: [{ keys: [{ id: 1, secret: 'x'.repeat(32) }], context: 'options', mode: 'sign' }, seal],
  sqlCache: [rows, sqlCache],
  tiers: [{ maxStaleness: 0 }, (options) => tiers(memory(), memory(), options)],
  typeOrm: [{ regions: region, trackReads: false }, (options) => typeOrm(source as never, options)],
  typeOrmResultCache: [{ hold: 5 }, (options) => typeOrmResultCache(region, options)],
  undiciStore: [{ maxEntrySize: 5 }, (options) => undiciStore(region, options)],
  unstorage: [{ storage }, unstorage],
  unstorageDriver: [{ base: 'base', closesRegion: false }, (options) => unstorageDriver(region, options)],
  v8: [{ maxBytes: 5 }, v8],
  versioned: [
    { namespace: 'options', version: () => 1, maxSize: 5 },
    (options) => versioned(async () => 1, options),
  ],
}

/** Functions without options. */
const TAKE_NONE = [
  ...[
    'CorralError',
    'currentCreation',
    'diagnostics',
    'duration',
    'functionKeyGenerator',
    'functionMultiKeyGenerator',
  ],
  ...['intercept', 'mapKeys', 'methodOf', 'registerBackend', 'registerProxy', 'sha1', 'sha256'],
  ...[
    'whenLongerThan',
    'wrap',
    'afterCommit',
    'drainRefreshes',
    'insideTransaction',
    'isNotInvalidated',
    'refreshAfterCommit',
  ],
]

/** They take methods, which keep the object as their `this`. */
const SPECS = ['defineBackend', 'defineCodec', 'delegate', 'mapValues']

async function errorOf(call: () => unknown): Promise<unknown> {
  try {
    await call()
  } catch (error) {
    return error
  }
}

describe('an option of a public function', () => {
  it.each(Object.entries(TAKES))(
    'is refused by its name if %s() does not take it',
    async (_, [options, call]) => {
      const names = Object.keys(options)
      for (const name of names.length > 0 ? names : ['option']) {
        const error = await errorOf(() => call({ ...options, [`${name}s`]: 1 } as never))
        expect(error).toBeInstanceOf(CorralError)
        expect(error).toMatchObject({ code: 'ERR_OPTION' })
        const remedy = names.length > 0 ? `Did you mean \`${name}\`?` : 'It takes none.'
        expect((error as Error).message).toContain(remedy)
      }
    },
  )

  it('is in this list, whatever function takes it', async () => {
    const functions = new Set<string>()
    for (const { source } of entries())
      for (const [name, member] of Object.entries((await import(root + source)) as object))
        if (typeof member === 'function') functions.add(name)
    const listed = [...Object.keys(TAKES).filter((name) => !name.includes('.')), ...TAKE_NONE]
    expect([...functions].sort()).toEqual(listed.sort())
  })
})

describe('the options of a function', () => {
  it.each(Object.entries(TAKES).filter(([name]) => !SPECS.includes(name)))(
    'are read once by %s(), also where they are getters',
    async (_, [options, call]) => {
      const reads: Record<string, number> = {}
      const given = Object.defineProperties(
        {},
        Object.fromEntries(
          Object.entries(options).map(([name, value]) => [
            name,
            { enumerable: true, get: () => ((reads[name] = (reads[name] ?? 0) + 1), value) },
          ]),
        ),
      )
      await errorOf(() => call(given as never))
      expect(reads).toEqual(Object.fromEntries(Object.keys(options).map((name) => [name, 1])))
    },
  )
})

it.each([null, undefined, 5, 'text', { get: 5 }, { set: null }])(
  'the members of a layer are an object of functions: delegate() refuses %j',
  (members) => {
    expect(() => delegate(memory(), members as never)).toThrow(
      expect.objectContaining({ code: 'ERR_OPTION' }),
    )
  },
)

it.each([
  ['region', { regoin: region, namespace: 'n' }],
  ['namespace', { region, namspace: 'n' }],
])('a misspelt `%s` of cacheResults() is found, though it is needed', (name, options) => {
  expect(() => cacheResults(async () => 1, options as never)).toThrow(`Did you mean \`${name}\`?`)
})
