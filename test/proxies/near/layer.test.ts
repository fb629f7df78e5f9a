import { expect, it, vi } from 'vitest'
import { memcached } from '../../../backends/memcached/index.js'
import { memory } from '../../../backends/memory/index.js'
import { nullBackend } from '../../../backends/null.js'
import { redis } from '../../../backends/redis/index.js'
import { dependencies } from '../../../proxies/dependencies.js'
import { json } from '../../../proxies/json.js'
import { near, tiers } from '../../../proxies/near.js'
import { track } from '../../../src/dependencies/tracking-layer.js'
import {
  type Backend,
  type CachedValue,
  defineBackend,
  delegate,
  dep,
  dependsOn,
  type LedgerTime,
  makeRegion,
  memoryLedger,
  NO_VALUE,
  wrap,
} from '../../../src/index.js'
import { Mirror } from '../../../src/ledger/mirror.js'
import { type Deferred, deferred, idle, until } from '../../support/waiting.js'

const far = () => memory()
const overMemory = () => wrap(far(), near(memory(), { maxStaleness: '1s' }), dependencies())

const ledgerOf = ({ ledger }: Backend<CachedValue>) => ledger as NonNullable<typeof ledger>

/** A store whose reads are answered by hand. */
function byHand() {
  const reads: Deferred<CachedValue | undefined>[] = []
  const backend = delegate(
    memory(),
    {
      get() {
        const read = deferred<CachedValue | undefined>()
        reads.push(read)
        return read.promise
      },
    },
    true,
  )
  const ledger = ledgerOf(backend)
  const { epoch } = ledger.open('~clock').now([]) as LedgerTime
  /** An entry that depends on nothing, so that it is fresh. */
  const entry = (payload: unknown): CachedValue => ({
    payload,
    metadata: { startedAt: 1, createdAt: 1, snapshot: { epoch, groups: [] } },
  })
  const layer = wrap(backend, near(memory(), { maxStaleness: '1s' }))
  return { reads, entry, layer, chain: track(layer, ledger) }
}

it('keeps no copy of reads that end in another order than they began: which value is newer is unknown', async () => {
  const { reads, entry, chain } = byHand()
  const [first, second] = [chain.get('key'), chain.get('key')]
  reads[1]?.resolve(entry('one'))
  await second
  reads[0]?.resolve(entry('other'))
  expect(await first).toMatchObject({ payload: 'other' })
  void chain.get('key')
  expect(reads).toHaveLength(3)
})

it('keeps the copy of the read that began last, in whichever order they are judged', async () => {
  const { reads, entry, layer } = byHand()
  const [older, newer] = [entry('older'), entry('newer')]
  const both = Promise.all([layer.get('key'), layer.get('key')])
  reads[0]?.resolve(older)
  reads[1]?.resolve(newer)
  await both
  layer.near?.keep(newer)
  layer.near?.keep(older)
  expect(await layer.get('key')).toMatchObject({ payload: 'newer' })
})

it('makes no copy of a value that is judged only after an older read ended after it', async () => {
  const { reads, entry, layer } = byHand()
  const both = [layer.get('key'), layer.get('key')]
  const sentLast = entry('sent last')
  reads[1]?.resolve(sentLast)
  await both[1]
  reads[0]?.resolve(entry('answered last'))
  await both[0]
  layer.near?.keep(sentLast)
  void layer.get('key')
  expect(reads).toHaveLength(3)
})

it.each<[string, readonly number[]]>([
  ['ended before the older one', [1, 0]],
  ['ended after the older one, which is judged only then', [0, 1]],
])('makes no copy of an older value if a newer one became none, whose read %s', async (_, order) => {
  const { reads, entry, layer } = byHand()
  const both = [layer.get('key'), layer.get('key')]
  const older = entry('older')
  for (const i of order) {
    reads[i]?.resolve(i === 0 ? older : entry('newer'))
    await both[i]
  }
  layer.near?.keep(older)
  void layer.get('key')
  expect(reads).toHaveLength(3)
})

it('drops the copy if a read finds nothing', async () => {
  const { reads, entry, chain } = byHand()
  const first = chain.get('key')
  reads[0]?.resolve(entry('value'))
  await first
  const past = chain.near?.beyond(() => chain.get('key'))
  reads[1]?.resolve(undefined)
  expect(await past).toBeUndefined()
  void chain.get('key')
  expect(reads).toHaveLength(3)
})

it('refuses the near store of a chain that another copy of the package built', async () => {
  vi.resetModules()
  const copy = await import('../../../proxies/near.js')
  expect(copy.near).not.toBe(near)
  const copies = memory()
  wrap(memory(), copy.near(copies, { maxStaleness: 1 }))
  expect(() => wrap(memory(), near(copies, { maxStaleness: 1 }))).toThrowError(
    expect.objectContaining({ code: 'ERR_CHAIN', message: expect.stringContaining('of its own') }),
  )
})

it('makes no copy of a read that was under way while a value was stored here', async () => {
  const { reads, entry, chain } = byHand()
  const first = chain.get('key')
  const { token = '' } = await chain.acquire('key', 1_000)
  expect(await chain.set('key', entry('new'), { token })).toBe('stored')
  reads[0]?.resolve(entry('old'))
  await first
  void chain.get('key')
  expect(reads.length).toBeGreaterThan(1)
})

it('serves its value to the caller if the near store fails', async () => {
  const failing = memory({
    maxBytes: 1_000,
    sizeOf: () => {
      throw new Error('no size')
    },
  })
  const region = makeRegion<string>({ backend: wrap(far(), near(failing, { maxStaleness: '1s' })) })
  await region.set('key', 'value')
  expect(await region.get('key')).toBe('value')
  expect(await region.get('key')).toBe('value')
})

it('may have a near store that returns later', async () => {
  const { get, set, delete: remove } = memory()
  const later = defineBackend<CachedValue>({
    name: 'later',
    get: async (key) => get(key),
    set: async (...write) => set(...write),
    delete: async (key) => remove(key),
  })
  const region = makeRegion<string>({
    backend: wrap(far(), near(later, { maxStaleness: '1s' }), dependencies()),
  })
  await region.set('key', 'value')
  for (let i = 0; i < 3; i++) {
    expect(await region.get('key')).toBe('value')
    await idle()
  }
  await region.delete('key')
  expect(await region.get('key')).toBe(NO_VALUE)
})

it('is strong over memory(), also for changes past the near cache', async () => {
  const store = far()
  const [direct, copied] = [
    makeRegion<string>({ name: 'one', backend: wrap(store, dependencies()) }),
    makeRegion<string>({
      name: 'one',
      backend: wrap(store, near(memory(), { maxStaleness: '1h' }), dependencies()),
    }),
  ]
  const create = () => {
    dependsOn(dep.id('user', 1))
    return 'old'
  }
  for (const change of [
    () => direct.delete('key'),
    () => direct.set('key', 'new'),
    () => direct.invalidate(),
    () => direct.invalidateDependencies(dep.id('user', 1)),
    () => copied.delete('key'),
  ]) {
    await copied.delete('key')
    await copied.getOrCreate('key', create)
    expect(copied.peek('key')).toBe('old')
    expect(copied.peek('key')).toBe('old')
    await change()
    expect(copied.peek('key')).not.toBe('old')
  }
})

it('returns at once what the store returns at once, also if copies are served while the store is away', async () => {
  const copies = near(memory(), { maxStaleness: '1s', staleWhileAway: '10m' })
  const region = makeRegion<string>({ backend: wrap(far(), copies, dependencies()) })
  await region.set('key', 'value')
  expect(region.peek('key')).toBe('value')
})

it('closes the near store and the store', async () => {
  const closed: string[] = []
  const closing = (name: string): Backend<CachedValue> => {
    const { get, set, delete: remove, ledger } = memory()
    const close = () => void closed.push(name)
    return defineBackend<CachedValue>({ name, get, set, delete: remove, ledger, close })
  }
  await makeRegion({ backend: tiers(closing('near'), closing('far'), { maxStaleness: '1s' }) }).close()
  expect(closed).toEqual(['near', 'far'])
})

it('refuses options that cannot be right', () => {
  for (const maxStaleness of [
    -1,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    1e18,
    '25d',
    'Infinity',
    '5 minutes',
    null,
    undefined,
    {},
  ])
    expect(() => near(memory(), { maxStaleness } as never)).toThrowError(
      expect.objectContaining({ code: 'ERR_OPTION' }),
    )
  for (const [maxStaleness, staleWhileAway, named] of [
    [0, '10m', /`maxStaleness` of near\(\) to be at least 100 ms/],
    ['99ms', '10m', /`maxStaleness` of near\(\) to be at least 100 ms/],
    ['1s', '1s', /`staleWhileAway` of near\(\).*longer/],
    ['1s', Number.POSITIVE_INFINITY, /`staleWhileAway` of near\(\).*at most 24 days/],
    ['1s', 1e18, /`staleWhileAway` of near\(\).*at most 24 days/],
    ['1s', 0, /staleWhileAway/],
  ] as const)
    expect(() => near(memory(), { maxStaleness, staleWhileAway })).toThrow(named)
  expect(() => near(memory(), { maxStaleness: '1s', copies: 5 } as never)).toThrow('copies')
  expect(() => near(undefined as never, { maxStaleness: '1s' })).toThrow('memory()')
  expect(() => near(memory(), undefined as never)).toThrowError(
    expect.objectContaining({ code: 'ERR_OPTION' }),
  )
})

it('refuses the option of a call that cannot be right', async () => {
  const region = makeRegion<string>({ backend: overMemory() })
  for (const maxStaleness of [-1, Number.POSITIVE_INFINITY, 1e18, 'soon'] as never[]) {
    await expect(region.get('key', { maxStaleness })).rejects.toMatchObject({ code: 'ERR_OPTION' })
    await expect(region.getOrCreate('key', () => 'v', { maxStaleness })).rejects.toMatchObject({
      code: 'ERR_OPTION',
    })
    const load = region.cacheOnArguments(async () => 'v', { namespace: `load ${String(maxStaleness)}` })
    expect(() => load.with({ maxStaleness })).toThrowError(expect.objectContaining({ code: 'ERR_OPTION' }))
  }
  expect(await region.get('key', { maxStaleness: 0 })).toBe(NO_VALUE)
  expect(await makeRegion<string>({ backend: memory() }).get('key', { maxStaleness: 0 })).toBe(NO_VALUE)
})

it.each<[string, () => unknown, string]>([
  [
    'over bytes',
    () => wrap(memory({ stores: 'bytes' }) as never, near(memory(), { maxStaleness: 1 }) as never),
    'msgpack()',
  ],
  [
    'with a near store of bytes',
    () => near(memory({ stores: 'bytes' }) as never, { maxStaleness: 1 }),
    'msgpack()',
  ],
  [
    'above dependencies()',
    () => wrap(memory(), dependencies(), near(memory(), { maxStaleness: 1 })),
    'below',
  ],
  [
    'over another near()',
    () => wrap(memory(), near(memory(), { maxStaleness: 1 }), near(memory(), { maxStaleness: 1 })),
    'Drop one',
  ],
  ['over a store without a ledger', () => wrap(nullBackend(), near(memory(), { maxStaleness: 1 })), "'null'"],
  [
    'over memcached, which cannot record a change of a key in the step that makes it',
    () => wrap(memcached('127.0.0.1:1'), json(), near(memory(), { maxStaleness: 1 })),
    'memcached',
  ],
  [
    'over a store that cannot tell its changes',
    () =>
      wrap(
        defineBackend<CachedValue>({
          name: 'mine',
          get: () => undefined,
          set: () => {},
          delete: () => {},
          ledger: memoryLedger(),
        }),
        near(memory(), { maxStaleness: 1 }),
      ),
    "'mine'",
  ],
  [
    'with a near store that processes share',
    () => wrap(memory(), near(wrap(redis('redis://127.0.0.1:1'), json()), { maxStaleness: 1 })),
    'share',
  ],
  [
    'with a near store that encodes',
    () => wrap(memory(), near(wrap(memory({ stores: 'bytes' }), json()), { maxStaleness: 1 })),
    'decode',
  ],
  [
    'with the near store of another chain',
    () => {
      const layer = near(memory(), { maxStaleness: 1 })
      return [wrap(memory(), layer), wrap(memory(), layer)]
    },
    'of its own',
  ],
])('refuses a chain %s', (_, build, remedy) => {
  expect(build).toThrowError(
    expect.objectContaining({ code: 'ERR_CHAIN', message: expect.stringContaining(remedy) }),
  )
})

it('makes no copy of a read that was under way while the connection was lost', async () => {
  const time = { epoch: 'e', at: 1 }
  const mirror = new Mirror({
    pull: async () => ({ server: 's', journals: [{ now: time, floor: 1, changed: [] }] }),
  })
  const keys = mirror.follow('keys')
  await mirror.prove()
  const before = mirror.place()
  expect(mirror.admits(keys, 'key', before)).toBe(true)
  mirror.disconnected()
  expect(mirror.admits(keys, 'key', before)).toBe(false)
  expect(mirror.stands(keys, 'key', before)).toBe(true)
  expect(mirror.admits(keys, 'key', mirror.place())).toBe(true)
})

it('forgets the oldest of very many changes, and the copies that are older than they', async () => {
  const mirror = new Mirror()
  const keys = mirror.follow('keys')
  const before = mirror.place()
  for (let i = 0; i < 20_000; i++) mirror.changed('keys', [`key ${i}`])
  expect(mirror.stands(keys, 'another', before)).toBe(false)
  const after = mirror.place()
  expect(mirror.stands(keys, 'another', after)).toBe(true)
  await until(() => true)
})

it('drops every copy if another server replies, though its clock has gone on', async () => {
  let [server, at] = ['primary', 10]
  const mirror = new Mirror({
    pull: async () => ({ server, journals: [{ now: { epoch: 'e', at }, floor: 1, changed: [] }] }),
  })
  const keys = mirror.follow('keys')
  await mirror.prove()
  const copy = mirror.place()
  at = 11
  await mirror.prove()
  expect(mirror.stands(keys, 'key', copy)).toBe(true)
  ;[server, at] = ['replica', 12]
  await mirror.prove()
  expect(mirror.stands(keys, 'key', copy)).toBe(false)
  expect(mirror.stands(keys, 'key', mirror.place())).toBe(true)
})

it('makes copies of all values that one call reads, however many they are', async () => {
  const entry = (): CachedValue => ({
    payload: 'value',
    metadata: { startedAt: 1, createdAt: 1, snapshot: { epoch, groups: [] } },
  })
  const backend = delegate(memory(), { getMulti: async (keys) => keys.map(entry) }, true)
  const ledger = ledgerOf(backend)
  const { epoch } = ledger.open('~clock').now([]) as LedgerTime
  const chain = track(wrap(backend, near(memory(), { maxStaleness: '1s' })), ledger)
  const keys = Array.from({ length: 10_000 }, (_, i) => `${i}`)
  // Reads before it take none of their room.
  await chain.getMulti(keys.slice(0, 5_000).map((key) => `other ${key}`))
  await chain.getMulti(keys)
  const found = await chain.getMulti(keys)
  expect(found.filter((one) => one?.metadata.near === undefined)).toHaveLength(0)
})
