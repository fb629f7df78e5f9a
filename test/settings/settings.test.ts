import { beforeEach, describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { json } from '../../proxies/json.js'
import { prefix } from '../../proxies/prefix.js'
import {
  type CachedValue,
  defineBackend,
  delegate,
  intercept,
  makeRegion,
  mapKeys,
  NO_VALUE,
  registerBackend,
  registerProxy,
  type Settings,
  sha256,
} from '../../src/index.js'
import { held, manualClock } from '../support/stage.js'
import { turn } from '../support/waiting.js'

const refusal = (code: string) => expect.objectContaining({ name: 'CorralError', code }) as Error

let made: Settings[]

beforeEach(() => {
  made = []
  registerBackend(
    'recorded',
    (options) => {
      made.push(options)
      return memory()
    },
    {
      url: 'string',
      ratio: 'number',
      size: 'integer',
      strict: 'boolean',
      timeout: 'duration',
      hosts: 'list',
    },
  )
  registerProxy('prefix', ({ text }) => prefix(text as string), { text: 'string' })
})

describe('configuration from flat settings', () => {
  it('reads the settings under a prefix, and no others', async () => {
    const clock = manualClock()
    const region = makeRegion<number>({ clock })
    region.configureFromConfig(
      {
        'cache.example.backend': 'recorded',
        'cache.example.expiration_time': '600s',
        'cache.example.backend.url': '127.0.0.1',
        'cache.other.backend': 'nonsense',
        PATH: '/bin',
      },
      'cache.example.',
    )
    expect(region.isConfigured).toBe(true)
    expect(made).toEqual([{ url: '127.0.0.1' }])
    await region.set('key', 1)
    clock.tick(600_000)
    expect(await region.get('key')).toBe(1)
    clock.tick(1)
    expect(await region.get('key')).toBe(NO_VALUE)
  })

  it('reads texts by the kind that the backend declares', () => {
    makeRegion().configureFromConfig(
      {
        'c.backend': ' recorded ',
        'c.backend.url': ' 600 ',
        'c.backend.ratio': '-3.14e-10',
        'c.backend.size': '+01',
        'c.backend.strict': 'False',
        'c.backend.timeout': '1.5s',
        'c.backend.hosts': 'one, two,,three',
      },
      'c.',
    )
    expect(made).toEqual([
      {
        url: '600',
        ratio: -3.14e-10,
        size: 1,
        strict: false,
        timeout: 1_500,
        hosts: ['one', 'two', 'three'],
      },
    ])
  })

  it('takes values that are of the kind already', () => {
    makeRegion().configureFromConfig(
      {
        backend: 'recorded',
        'backend.ratio': 0.1,
        'backend.size': -1,
        'backend.strict': true,
        'backend.hosts': ['a'],
      },
      '',
    )
    expect(made).toEqual([{ ratio: 0.1, size: -1, strict: true, hosts: ['a'] }])
  })

  it('counts undefined and null as absent', () => {
    makeRegion().configureFromConfig(
      { 'c.backend': 'recorded', 'c.backend.url': undefined, 'c.expiration_time': null },
      'c.',
    )
    expect(made).toEqual([{}])
  })

  it('builds the chain from the backend outwards', async () => {
    const backend = memory()
    registerBackend('shared', () => backend)
    registerProxy('outer', () => prefix('outer:'))
    const region = makeRegion<number>().configureFromConfig(
      { 'c.backend': 'shared', 'c.proxies': 'prefix, outer', 'c.proxies.prefix.text': 'inner:' },
      'c.',
    )
    await region.set('key', 1)
    expect(backend.get('inner:outer:key')).toMatchObject({ payload: 1 })
  })

  it('names a proxy for keys as the application registers it', async () => {
    const backend = memory()
    registerBackend('shared', () => backend)
    registerProxy('sha256', () => mapKeys(sha256))
    const region = makeRegion<number>().configureFromConfig(
      { 'c.backend': 'shared', 'c.proxies': 'sha256' },
      'c.',
    )
    await region.set('key', 1)
    expect(backend.get(sha256('key'))).toMatchObject({ payload: 1 })
  })

  it('replaces a backend when the settings say so', () => {
    const region = makeRegion({ backend: memory() })
    const settings = { backend: 'recorded' }
    expect(() => region.configureFromConfig(settings, '')).toThrow(refusal('ERR_ALREADY_CONFIGURED'))
    region.configureFromConfig({ ...settings, replace_existing_backend: 'yes' }, '')
    expect(region.isConfigured).toBe(true)
  })

  it('sets the lease', async () => {
    const region = makeRegion<number>().configureFromConfig(
      { backend: 'recorded', 'lease.ms': '2s', 'lease.wait': '5ms' },
      '',
    )
    const creator = held<number>()
    const leader = region.getOrCreate('key', creator.create)
    await expect(region.getOrCreate('key', () => 2)).rejects.toMatchObject({ code: 'ERR_WAIT_TIMEOUT' })
    creator.resolve(1)
    await leader
  })

  it('leaves the settings as they were', () => {
    const settings = Object.freeze({ 'c.backend': 'recorded', 'c.expiration_time': '5m' })
    makeRegion().configureFromConfig(settings, 'c.')
    expect(settings).toEqual({ 'c.backend': 'recorded', 'c.expiration_time': '5m' })
  })

  it('refuses settings that it cannot read, and creates nothing', () => {
    const wrong: readonly Record<string, unknown>[] = [
      { 'c.expiration_time': '300' },
      { 'c.expiration_time': 300 },
      { 'c.expiration_time': '-1' },
      { 'c.expiration_time': 'None' },
      { 'c.expiration_time': '' },
      { 'c.unknown': '1' },
      { 'c.arguments.url': '1' },
      { 'c.backend.foo': 'barf' },
      { 'c.backend.size': '1.5' },
      { 'c.backend.size': 'ten' },
      { 'c.backend.size': '' },
      { 'c.backend.ratio': 'NaN' },
      { 'c.backend.strict': 'maybe' },
      { 'c.backend.timeout': '10' },
      { 'c.backend.timeout': '0s' },
      { 'c.backend.url': 5 },
      { 'c.backend.hosts': 5 },
      { 'c.backend.hosts': ['a', 5] },
      { 'c.proxies.prefix.text': 'used by no proxy' },
      { 'c.replace_existing_backend': 'perhaps' },
      { 'c.lease.ms': '0ms' },
    ]
    for (const settings of wrong) {
      const region = makeRegion()
      expect(
        () => region.configureFromConfig({ 'c.backend': 'recorded', ...settings }, 'c.'),
        JSON.stringify(settings),
      ).toThrow(refusal('ERR_OPTION'))
      expect(region.isConfigured).toBe(false)
    }
    expect(made).toEqual([])
  })

  it('names the setting in its errors', () => {
    expect(() =>
      makeRegion().configureFromConfig({ 'c.backend': 'recorded', 'c.expiration_time': '300' }, 'c.'),
    ).toThrow("Expected `c.expiration_time` to carry a unit, got '300'. Write '300s' or '300ms'.")
    expect(() => makeRegion().configureFromConfig({}, 'c.')).toThrow(
      'Expected the setting `c.backend` to name a backend',
    )
  })

  it.each([
    ['c.expiraton_time', '5m', 'c.', 'c.expiration_time'],
    ['c.expirationTme', '5m', 'c.', 'c.expiration_time'],
    ['c.lease.wiat', '5s', 'c.', 'c.lease.wait'],
    ['c.backend.hots', 'a,b', 'c.', 'c.backend.hosts'],
    ['c.proxies.prefix.txt', 'a:', 'c.', 'c.proxies.prefix.text'],
    ['CACHE_EXPIRATON_TIME', '5m', 'CACHE_', 'CACHE_EXPIRATION_TIME'],
    ['CACHE_BACKEND__TIMEOT', '5s', 'CACHE_', 'CACHE_BACKEND__TIMEOUT'],
    ['CACHE_REPLACE_EXISTING_BACKND', 'true', 'CACHE_', 'CACHE_REPLACE_EXISTING_BACKEND'],
  ])('asks for %s whether another name was meant', (name, value, start, meant) => {
    const [backend, proxies] =
      start === 'c.' ? ['c.backend', 'c.proxies'] : ['CACHE_BACKEND', 'CACHE_PROXIES']
    const settings = { [backend]: 'recorded', [proxies]: 'prefix', [name]: value }
    if (name !== 'c.proxies.prefix.txt')
      Object.assign(settings, { [`${proxies}${start === 'c.' ? '.prefix.text' : '__PREFIX__TEXT'}`]: 'p:' })
    expect(() => makeRegion().configureFromConfig(settings, start)).toThrow(
      `Unknown setting \`${name}\`. Did you mean \`${meant}\`?`,
    )
    expect(() => makeRegion().configureFromConfig(settings, start)).toThrow('soft_timeout, hard_timeout')
  })

  it('asks for a name that is not registered whether another was meant', () => {
    const region = makeRegion()
    expect(() => region.configureFromConfig({ backend: 'recroded' }, '')).toThrow('Did you mean `recorded`?')
    expect(() => region.configureFromConfig({ backend: 'recorded', proxies: 'prefx' }, '')).toThrow(
      'Did you mean `prefix`?',
    )
    expect(() => region.configureFromConfig({ backend: 'zzz' }, '')).toThrow(
      "No backend is registered as 'zzz'. Known:",
    )
  })

  it('refuses names that were not registered', () => {
    expect(() => makeRegion().configureFromConfig({ backend: 'redist' }, '')).toThrow(
      refusal('ERR_UNKNOWN_NAME'),
    )
    expect(() => makeRegion().configureFromConfig({ backend: 'recorded', proxies: 'zip' }, '')).toThrow(
      refusal('ERR_UNKNOWN_NAME'),
    )
    expect(() => makeRegion().configureFromConfig({ backend: 'toString' }, '')).toThrow(
      refusal('ERR_UNKNOWN_NAME'),
    )
    expect(made).toEqual([])
  })
})

describe('registering', () => {
  it('replaces the former holder of the name', async () => {
    const backend = memory()
    registerBackend('again', () => memory())
    registerBackend('again', () => backend)
    const region = makeRegion<number>().configureFromConfig({ backend: 'again' }, '')
    await region.set('key', 1)
    expect(backend.get('key')).toMatchObject({ payload: 1 })
  })

  it('refuses names that a setting could not hold, and a factory that is no function', () => {
    for (const name of ['', 'a b', 'a,b', 'a.b', 5, undefined] as never[]) {
      expect(() => registerBackend(name, () => memory())).toThrow(refusal('ERR_OPTION'))
      expect(() => registerProxy(name, () => prefix('a'))).toThrow(refusal('ERR_OPTION'))
    }
    expect(() => registerBackend('name', memory() as never)).toThrow(refusal('ERR_OPTION'))
    expect(() => registerProxy('name', 'prefix' as never)).toThrow(refusal('ERR_OPTION'))
  })

  it('refuses settings of a kind that is not known, and two options that are one setting', () => {
    for (const settings of [
      null,
      [],
      'url',
      { url: 'text' },
      { url: null },
      { url: 'toString' },
    ] as never[]) {
      expect(() => registerBackend('kinds', () => memory(), settings)).toThrow(refusal('ERR_OPTION'))
      expect(() => registerProxy('kinds', () => prefix('a'), settings)).toThrow(refusal('ERR_OPTION'))
    }
    const same = { maxEntries: 'integer', max_entries: 'integer' } as const
    expect(() => registerBackend('kinds', () => memory(), same)).toThrow('`maxEntries` and `max_entries`')
    expect(() => makeRegion().configureFromConfig({ backend: 'kinds' }, '')).toThrow(
      refusal('ERR_UNKNOWN_NAME'),
    )
  })

  it('keeps the kinds as they were when the name was registered', () => {
    const kinds: Record<string, 'integer' | 'string'> = { size: 'integer' }
    registerBackend('kept', (options) => (made.push(options), memory()), kinds)
    kinds.size = 'string'
    makeRegion().configureFromConfig({ backend: 'kept', 'backend.size': '5' }, '')
    expect(made).toEqual([{ size: 5 }])
  })
})

describe('a backend of settings', () => {
  let open: number
  let layers: number
  beforeEach(() => {
    open = layers = 0
    const counted = () => {
      open++
      const entries = new Map<string, CachedValue>()
      return defineBackend<CachedValue>({
        name: 'counted',
        stores: 'values',
        get: (key) => entries.get(key),
        set: (key, value) => void entries.set(key, value),
        delete: (key) => void entries.delete(key),
        close: () => void open--,
      })
    }
    registerBackend('counted', counted, { size: 'integer' })
    registerBackend('late', (async () => counted()) as never)
    registerProxy('none', () => undefined as never)
    registerProxy('broken', () => {
      throw new Error('broken')
    })
    registerProxy('json', () => json())
    registerProxy('resource', () => (next) => {
      layers++
      return delegate(next, {
        close: () => {
          layers--
          return next.close()
        },
      })
    })
  })
  const settings = {
    backend: 'counted',
    share_backend: 'true',
    proxies: 'prefix',
    'proxies.prefix.text': 'p:',
  }
  const users = (more: object = {}) =>
    makeRegion<number>({ name: 'users' }).configureFromConfig({ ...settings, ...more }, '')
  const products = (more: object = {}) =>
    makeRegion<number>({ name: 'products' }).configureFromConfig({ ...settings, ...more }, '')

  it.each<[string, object]>([
    ['a proxy refuses its options', { proxies: 'prefix', 'proxies.prefix.text': '' }],
    ['a proxy fails', { proxies: 'broken' }],
    ['a proxy is none', { proxies: 'none' }],
    ['a layer does not fit', { proxies: 'prefix,json', 'proxies.prefix.text': 'p:' }],
    ['the region refuses', { retryAfter: '5s', grace: '0' }],
    ['it comes later', { backend: 'late' }],
  ])('is closed where %s', async (_, more) => {
    for (const share of ['true', 'false']) {
      const configure = () =>
        makeRegion({ name: 'r' }).configureFromConfig(
          { backend: 'counted', share_backend: share, ...more },
          '',
        )
      expect(configure).toThrow()
      await turn()
      expect(open).toBe(0)
    }
  })

  it('stays open where another region uses it', async () => {
    const region = users()
    const { 'proxies.prefix.text': _, proxies: __, ...rest } = settings
    const other = makeRegion({ name: 'other' })
    expect(() => other.configureFromConfig({ ...rest, proxies: 'broken' }, '')).toThrow(/broken/)
    expect(() => products({ retryAfter: '5s', grace: '0' })).toThrow(refusal('ERR_OPTION'))
    await turn()
    expect(open).toBe(1)
    await region.set('key', 1)
    expect(await region.get('key')).toBe(1)
    await region.close()
  })

  it.each<[string, object]>([
    ['a later proxy fails', { proxies: 'resource,broken' }],
    ['a later proxy does not fit', { proxies: 'resource,json' }],
    ['the region refuses', { proxies: 'resource', retryAfter: '5s', grace: '0' }],
  ])('stays open under layers that are closed where %s', async (_, more) => {
    const shared = { backend: 'counted', share_backend: 'true' }
    const region = makeRegion<number>({ name: 'users' }).configureFromConfig(shared, '')
    const configure = (more: object) =>
      makeRegion<number>({ name: 'other' }).configureFromConfig({ ...shared, ...more }, '')
    expect(() => configure(more)).toThrow()
    await turn()
    expect([open, layers]).toEqual([1, 0])
    await region.set('key', 1)
    // What was closed is not shared.
    const other = configure({ proxies: 'resource' })
    expect([open, layers]).toEqual([1, 1])
    await region.close()
    await other.set('key', 2)
    await other.close()
    expect([open, layers]).toEqual([0, 0])
  })

  it('stays open where the application made it once for several regions', async () => {
    const app = memory()
    registerBackend('counted', () => app)
    const region = makeRegion<number>({ name: 'users', backend: app })
    const other = makeRegion({ name: 'other' })
    expect(() => other.configureFromConfig({ backend: 'counted', proxies: 'resource,broken' }, '')).toThrow()
    await turn()
    expect(layers).toBe(0)
    await region.set('key', 1)
    expect(await region.get('key')).toBe(1)
    await region.close()
  })

  it('shares no chain with a proxy whose name stands for another one since', async () => {
    const chain = { backend: 'counted', share_backend: 'true', proxies: 'inner,outer' }
    const configure = (name: string) => makeRegion<number>({ name }).configureFromConfig(chain, '')
    registerProxy('outer', () => prefix('outer:'))
    const sets: string[] = []
    const inner = (version: string) =>
      registerProxy('inner', () =>
        intercept(({ name }, proceed) => {
          if (name === 'set') sets.push(version)
          return proceed()
        }),
      )
    inner('old')
    const one = configure('one')
    inner('new')
    const two = configure('two')
    expect(one.actualBackend).toBe(two.actualBackend)
    await one.set('key', 1)
    await two.set('key', 2)
    expect(sets).toEqual(['old', 'new'])
    await one.close()
    await two.close()
  })

  it('is one for all regions whose settings share it, and is closed by the last', async () => {
    const [one, two] = [users(), products()]
    expect(open).toBe(1)
    expect(one.actualBackend).toBe(two.actualBackend)
    await one.set('key', 1)
    expect(await two.get('key')).toBe(NO_VALUE)
    const unlike = makeRegion({ name: 'r' }).configureFromConfig({ ...settings, 'backend.size': 5 }, '')
    const alone = makeRegion({ name: 'r' }).configureFromConfig({ ...settings, share_backend: 'no' }, '')
    const withOtherProxies = makeRegion({ name: 'r' }).configureFromConfig(
      { backend: 'counted', share_backend: 'true' },
      '',
    )
    expect(open).toBe(3)
    expect(withOtherProxies.actualBackend).toBe(one.actualBackend)
    for (const region of [unlike, alone, withOtherProxies, one]) await region.close()
    expect(open).toBe(1)
    await two.set('key', 2)
    await two.close()
    expect(open).toBe(0)
    const again = users()
    await again.set('key', 3)
    expect(await again.get('key')).toBe(3)
    await again.close()
    expect(open).toBe(0)
  })
})
