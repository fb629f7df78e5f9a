import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { json } from '../../proxies/json.js'
import { msgpack } from '../../proxies/msgpack.js'
import { prefix } from '../../proxies/prefix.js'
import {
  type CachedValue,
  CorralError,
  type CorralErrorCode,
  defineBackend,
  delegate,
  dep,
  diagnostics,
  epochLedger,
  intercept,
  type LedgerTime,
  makeRegion,
  mapKeys,
  mapValues,
  memoryLedger,
  NO_VALUE,
  optionsKeyGenerator,
  wrap,
} from '../../src/index.js'
import { cacheResults } from '../../src/signals/index.js'
import { inEveryRegion, open } from '../support/stage.js'
import { idle, turn } from '../support/waiting.js'

const refusal = (code: CorralErrorCode) =>
  expect.objectContaining({
    name: 'CorralError',
    code,
    message: expect.stringMatching(/\S/) as string,
  }) as Error

const region = (options: object) => makeRegion(options as never)

describe('unknown options', () => {
  const calls: Record<string, () => unknown> = {
    makeRegion: () => region({ expiration: 5 }),
    'makeRegion, misspelt': () => region({ expirationtime: 5 }),
    'makeRegion, of configure only': () => region({ replaceExistingBackend: true }),
    configure: () => makeRegion().configure({ backend: memory(), wrap: [] } as never),
    'configure, of makeRegion only': () =>
      makeRegion().configure({ backend: memory(), name: 'late' } as never),
    lease: () => region({ lease: { ttl: 5 } }),
    cacheOnArguments: () => makeRegion().cacheOnArguments({ namespace: 'n', ttl: 5 } as never),
    cacheMultiOnArguments: () =>
      makeRegion().cacheMultiOnArguments({ namespace: 'n', self: 'shared' } as never),
    memory: () => memory({ max: 5 } as never),
    memoryLedger: () => memoryLedger({ maxStamp: 5 } as never),
    epochLedger: () =>
      epochLedger({ get: () => undefined, set: () => {}, add: () => {} }, { sharing: false } as never),
    delegate: () => delegate(memory(), { fetch: () => undefined } as never),
    dependencies: () => dependencies({ leger: memoryLedger() } as never),
    json: () => json({ lossless: true } as never),
    msgpack: () => msgpack({ structured: true } as never),
    defineBackend: () =>
      defineBackend({
        name: 'n',
        get: () => undefined,
        set: () => {},
        delete: () => {},
        clear: () => {},
      } as never),
  }

  it('are errors that name the option and the known ones', () => {
    for (const [name, call] of Object.entries(calls)) {
      expect(call, name).toThrow(refusal('ERR_OPTION'))
      expect(call, name).toThrow(/Unknown option `\w+` of .*It takes: /)
    }
  })

  it('cannot hide in anything but a plain object', async () => {
    const at = makeRegion<number>({ backend: memory() })
    class Options {
      get expirationTime() {
        return 5
      }
    }
    for (const options of [
      Promise.resolve({ expirationTime: 5 }),
      new Map([['expirationTime', 5]]),
      new Options(),
      Object.create({ expirationTime: 5 }),
    ]) {
      expect(() => region(options as object)).toThrow(refusal('ERR_OPTION'))
      expect(() => at.cacheOnArguments(async () => 1, options as never)).toThrow(refusal('ERR_OPTION'))
      await expect(at.set('key', 1, options as never)).rejects.toEqual(refusal('ERR_OPTION'))
    }
    expect(await at.get('key')).toBe(NO_VALUE)
  })

  it('of ledgers are checked like all others', () => {
    const store = { get: () => undefined, set: () => {}, add: () => {} }
    for (const wrong of [
      { maxStamps: '5' },
      { maxStamps: 0 },
      { clock: {} },
      { clock: { now: () => 'now' } },
      null,
    ])
      expect(() => memoryLedger(wrong as never)).toThrow(refusal('ERR_OPTION'))
    for (const wrong of [{ shared: 1 }, null])
      expect(() => epochLedger(store, wrong as never)).toThrow(refusal('ERR_OPTION'))
  })

  it('of backends and of a second configuration are checked like all others', () => {
    for (const clock of [{}, Number.NaN, 'x', { now: async () => 1 }, { now: () => Number.NaN }])
      expect(() => memory({ clock: clock as never })).toThrow(refusal('ERR_OPTION'))
    const replaceExistingBackend = 'false' as never
    expect(() => makeRegion().configure({ backend: memory(), replaceExistingBackend })).toThrow(
      refusal('ERR_OPTION'),
    )
  })

  it('of cached functions are checked like all others', () => {
    const at = makeRegion<number>({ backend: wrap(memory(), dependencies()) })
    for (const group of [[], [() => 1], new Map()])
      for (const cache of [at.cacheOnArguments, at.cacheMultiOnArguments] as ((options: object) => unknown)[])
        expect(() => cache({ namespace: 'n', group })).toThrow(refusal('ERR_OPTION'))
    const options = { region: at, namespace: 'n', onKeyError: null as never }
    expect(() => cacheResults(async () => 1, options)).toThrow(refusal('ERR_OPTION'))
  })

  it('are none where a reason of an invalidation is null', async () => {
    const at = makeRegion<number>({ backend: memory() })
    await at.set('key', 1)
    await expect(at.delete('key', null as never)).rejects.toEqual(refusal('ERR_OPTION'))
    await expect(at.expire('key', null as never)).rejects.toEqual(refusal('ERR_OPTION'))
    expect(await at.get('key')).toBe(1)
  })

  it('of prototypes are not options', () => {
    const polluted: unknown = JSON.parse('{"__proto__": 5, "namespace": "n"}')
    expect(() => makeRegion().cacheOnArguments(polluted as never)).toThrow(refusal('ERR_OPTION'))
    expect(() => region({ constructor: 5 })).toThrow(refusal('ERR_OPTION'))
    expect(() => region({ toString: () => 'x' })).toThrow(refusal('ERR_OPTION'))
  })

  it('are not options that are merely undefined', () => {
    const options = { name: undefined, backend: undefined, expirationTime: undefined, clock: undefined }
    expect(region(options).isConfigured).toBe(false)
    expect(region({ backend: memory(), lease: { ms: undefined, wait: undefined } }).isConfigured).toBe(true)
  })

  it('may be undefined where an application passes its own settings on, to the compiler too', async () => {
    const none: { readonly [name in 'text' | 'ms' | 'count' | 'flag']?: never } = {}
    const { text, ms, count, flag } = none
    const backend = wrap(memory({ maxEntries: count, copy: text }), dependencies())
    const open = makeRegion<number>({ name: text, expirationTime: ms, backend })
    await open.set('key', 1, { dependencies: text, asOf: text, expirationTime: ms })
    expect(await open.get('key', { ignoreExpiration: flag })).toBe(1)
    const load = open.cacheOnArguments(async (id: number) => id, {
      namespace: 'load',
      expirationTime: ms,
      self: text,
      key: text,
      copy: text,
      exactArity: flag,
      shouldCache: flag,
      dependencies: text,
    })
    expect([await load(1), await load.with({ reason: text }).get(1)]).toEqual([1, 1])
    await open.delete('key', { reason: text })
    expect(await open.get('key')).toBe(NO_VALUE)
  })
})

describe('options of the wrong kind', () => {
  const calls: Record<string, () => unknown> = {
    'a region’s options': () => region(5 as never),
    'no options at all': () => makeRegion(null as never),
    'defaults that are no object': () => optionsKeyGenerator({ defaults: 'id' as never }),
    'defaults that are a list': () => optionsKeyGenerator({ defaults: [] as never }),
    'a name that is none': () => region({ name: '' }),
    'a name that is a number': () => region({ name: 5 }),
    'an expiration time': () => region({ expirationTime: '5 minutes' }),
    'a clock': () => region({ clock: Date.now }),
    'a lease': () => region({ lease: '10s' }),
    'the time of a lease': () => region({ lease: { ms: -1 } }),
    'the wait of a lease': () => region({ lease: { wait: Number.NaN } }),
    'a runner': () => region({ asyncCreationRunner: {} }),
    'an invalidator': () => region({ regionInvalidator: { judge: () => 'fresh' } }),
    'a key generator': () => region({ functionKeyGenerator: 'sha1' }),
    'the limit of a memory backend': () => memory({ maxEntries: 0 }),
    'a limit that is a text': () => memory({ maxBytes: '1MB' as never }),
    'the copy mode': () => memory({ copy: 'deep' as never }),
    'a copy mode of Object.prototype': () => memory({ copy: 'toString' as never }),
    'what a memory backend stores': () => memory({ stores: 'text' as never }),
    'the size of an entry': () => memory({ sizeOf: 5 as never }),
    'a prefix that is none': () => prefix(''),
    'a prefix that is no text': () => prefix(5 as never),
    'a mangler': () => mapKeys('sha1' as never),
    'a key mapper': () => mapKeys(undefined as never),
    'a codec': () => mapValues({ encode: () => 1 } as never),
    'an interceptor': () => intercept({} as never),
    'a ledger': () => dependencies({ ledger: {} as never }),
    'a backend without a name': () =>
      defineBackend({ get: () => {}, set: () => {}, delete: () => {} } as never),
    'a backend without a method': () => defineBackend({ name: 'n', get: () => undefined } as never),
    'a backend with half a lease': () =>
      defineBackend({
        name: 'n',
        get: () => undefined,
        set: () => {},
        delete: () => {},
        acquire: () => ({ token: 't' }),
      }),
    'a backend that is none': () => defineBackend(undefined as never),
    'a backend’s deadline': () =>
      defineBackend({ name: 'n', get: () => undefined, set: () => {}, delete: () => {}, timeout: 0 }),
  }

  it('are errors that name the expected value', () => {
    for (const [name, call] of Object.entries(calls)) {
      expect(call, name).toThrow(refusal('ERR_OPTION'))
      expect(call, name).toThrow(/Expected|only part of a lease/)
    }
  })
})

describe('a chain that cannot work', () => {
  const bytes = () => memory({ stores: 'bytes' })
  const chains: Record<string, () => unknown> = {
    'a proxy that was not called': () => wrap(memory(), prefix as never),
    'a backend of bytes without an encoding': () => region({ backend: bytes() }),
    'the same behind a prefix': () => region({ backend: wrap(bytes(), prefix('p:')) }),
    'the same, configured later': () => makeRegion().configure({ backend: bytes() as never }),
    'two encodings': () => wrap(bytes(), msgpack(), json() as never),
    'an encoding over values': () => wrap(memory(), msgpack() as never),
    'dependencies below the encoding': () => wrap(bytes(), dependencies() as never),
    'dependencies twice': () => wrap(memory(), dependencies(), dependencies()),
    'a backend that was not called': () => region({ backend: memory }),
    'a backend without defineBackend': () => region({ backend: { get: () => undefined, set: () => {} } }),
    'no backend': () => makeRegion().configure({} as never),
    'a proxy that is none': () => wrap(memory(), 'prefix' as never),
    'a proxy that returns nothing': () => wrap(memory(), (() => undefined) as never),
    'something else to start from': () => wrap('memory' as never),
  }

  it('is an error that names the layer, also for callers without types', () => {
    for (const [name, call] of Object.entries(chains)) expect(call, name).toThrow(refusal('ERR_CHAIN'))
    expect(chains['a backend of bytes without an encoding']).toThrow(
      /'memory' stores bytes.*wrap\(memory, msgpack\(\)\)/,
    )
    expect(chains['two encodings']).toThrow(/json works on bytes, but below it are values already/)
    expect(chains['a proxy that is none']).toThrow(/proxy 1 of wrap\(\)/)
  })

  it('has no ledger to track dependencies with', () => {
    const plain = defineBackend<CachedValue>({
      name: 'n',
      get: () => undefined,
      set: () => {},
      delete: () => {},
    })
    expect(() => wrap(plain, dependencies())).toThrow(refusal('ERR_NO_LEDGER'))
  })

  it('shares its ledger with other processes, but the region has no name', () => {
    const shared = delegate(memory(), { ledger: { ...memoryLedger(), shared: true } })
    expect(() => makeRegion({ backend: shared })).toThrow(refusal('ERR_OPTION'))
    expect(makeRegion({ name: 'users', backend: shared }).isConfigured).toBe(true)
  })
})

describe('keys', () => {
  it('that are no strings are refused by every operation, before anything is done', async () => {
    const { region: at } = open<number>()
    await at.set('key', 1)
    const never = (): never => expect.unreachable()
    const wrong: readonly unknown[] = [
      undefined,
      null,
      5,
      5n,
      Symbol('key'),
      {},
      [],
      ['key'],
      true,
      new Date(),
    ]
    for (const key of wrong as never[]) {
      const operations: Record<string, () => Promise<unknown>> = {
        get: () => at.get(key),
        getMulti: () => at.getMulti(['key', key]),
        has: () => at.has(key),
        getValueMetadata: () => at.getValueMetadata(key),
        getOrCreate: () => at.getOrCreate(key, never),
        getOrCreateMulti: () => at.getOrCreateMulti(['key', key], never),
        set: () => at.set(key, 2),
        setMulti: () =>
          at.setMulti([
            ['key', 2],
            [key, 2],
          ]),
        delete: () => at.delete(key),
        deleteMulti: () => at.deleteMulti(['key', key]),
        expire: () => at.expire(key),
        keyIsLocked: () => at.keyIsLocked(key),
      }
      for (const [name, run] of Object.entries(operations))
        await expect(run(), `${name} ${String(key)}`).rejects.toEqual(refusal('ERR_KEY'))
      expect(() => at.peek(key)).toThrow(refusal('ERR_KEY'))
    }
    expect(await at.get('key')).toBe(1)
  })

  it('and values that come in no pairs are refused', async () => {
    const { region: at } = open<number>()
    for (const values of [['ab'], [['key']], [['key', 1, 2]], [5], [null], { key: 1 }, 'ab'] as never[])
      await expect(at.setMulti(values), JSON.stringify(values)).rejects.toEqual(refusal('ERR_OPTION'))
    expect(await at.get('key')).toBe(NO_VALUE)
  })

  it('that come in no list are refused', async () => {
    const { region: at } = open<number>()
    for (const keys of [undefined, null, 5, {}] as never[])
      for (const run of [
        () => at.getMulti(keys),
        () => at.getOrCreateMulti(keys, () => []),
        () => at.setMulti(keys),
        () => at.deleteMulti(keys),
      ]) {
        const result = run()
        expect(result).toBeInstanceOf(Promise)
        await expect(result, String(keys)).rejects.toSatisfy((error) => CorralError.is(error))
      }
  })
})

describe('creators', () => {
  it('that are no functions are refused', async () => {
    const { region: at } = open<number>()
    for (const creator of [undefined, null, 5, 'f', {}, Promise.resolve(1)] as never[]) {
      await expect(at.getOrCreate('key', creator)).rejects.toEqual(refusal('ERR_CREATOR'))
      await expect(at.getOrCreateMulti(['key'], creator)).rejects.toEqual(refusal('ERR_CREATOR'))
    }
    expect(await at.keyIsLocked('key')).toBe(false)
  })

  it('of many keys that answer another number of values are refused, and nothing is stored', async () => {
    const { region: at } = open<number>()
    for (const answer of [
      [],
      [1],
      [1, 2, 3],
      undefined,
      null,
      5,
      'ab',
      { 0: 1, 1: 2, length: 2 },
      new Map(),
    ]) {
      await expect(at.getOrCreateMulti(['a', 'b'], () => answer as never)).rejects.toEqual(
        refusal('ERR_BATCH_LENGTH'),
      )
      expect(await at.getMulti(['a', 'b'])).toEqual([NO_VALUE, NO_VALUE])
      expect(await at.keyIsLocked('a')).toBe(false)
      expect(await at.keyIsLocked('b')).toBe(false)
    }
  })

  it('that throw a value that is no error reject with that value', async () => {
    const { region: at } = open<number>()
    for (const thrown of [undefined, null, 0, '', 'text', { code: 5 }]) {
      const result = await at
        .getOrCreate('key', () => {
          throw thrown
        })
        .then(
          () => ({ resolved: true }),
          (error: unknown) => ({ error }),
        )
      expect(result).toEqual({ error: thrown })
    }
    expect(await at.keyIsLocked('key')).toBe(false)
  })

  it('that answer a thenable are awaited', async () => {
    const { region: at } = open<number>()
    const thenable = {
      // biome-ignore lint/suspicious/noThenProperty: the test needs a thenable
      then(resolve: (value: number) => void) {
        resolve(5)
      },
    }
    expect(await at.getOrCreate('key', () => thenable as never)).toBe(5)
    expect(await at.get('key')).toBe(5)
  })
})

describe('other arguments', () => {
  it('that cannot be are refused', async () => {
    const at = makeRegion<number>({ backend: wrap(memory(), dependencies()) })
    await at.set('key', 1)
    const calls: Record<string, readonly [CorralErrorCode, () => Promise<unknown>]> = {
      'a mode': ['ERR_OPTION', () => at.invalidate('medium' as never)],
      'a mode that is true': ['ERR_OPTION', () => at.invalidate(true as never)],
      'a mode that is empty': ['ERR_OPTION', () => at.invalidate('' as never)],
      'no dependencies': ['ERR_OPTION', () => at.invalidateDependencies([])],
      'an empty name': ['ERR_OPTION', () => at.invalidateDependencies('')],
      'names that are none': ['ERR_OPTION', () => at.invalidateDependencies([5] as never)],
      'undefined names': ['ERR_OPTION', () => at.invalidateDependencies(undefined as never)],
      'dependencies without a moment': ['ERR_AS_OF_MISSING', () => at.set('key', 2, { dependencies: ['d'] })],
      'a deadline': ['ERR_OPTION', () => at.getOrCreate('other', () => 1, { hardTimeout: 0 })],
      'a deadline of many': [
        'ERR_OPTION',
        () => at.getOrCreateMulti(['other'], () => [1], { hardTimeout: -1 }),
      ],
    }
    for (const [name, [code, run]] of Object.entries(calls)) {
      const result = run()
      expect(result, name).toBeInstanceOf(Promise)
      await expect(result, name).rejects.toEqual(refusal(code))
    }
    expect(await at.get('key')).toBe(1)
  })

  it.each<[string, (moment: LedgerTime) => unknown]>([
    ['nothing', () => null],
    ['a number', ({ at }) => at],
    ['a moment of no ledger', ({ at }) => ({ at })],
    ['a moment without a time', ({ epoch }) => ({ epoch })],
    ['a time as text', (moment) => ({ ...moment, at: '1' })],
    ['no number', (moment) => ({ ...moment, at: Number.NaN })],
    ['a time after all others', (moment) => ({ ...moment, at: Number.POSITIVE_INFINITY })],
  ])('of which %s says as of when they were loaded are refused', async (_, wrong) => {
    const at = makeRegion<number>({ name: 'r', backend: wrap(memory(), dependencies()) })
    const asOf = wrong(await at.asOf())
    for (const names of [{ dependencies: ['d'] }, {}]) {
      const set = at.set('key', 1, { ...names, asOf } as never)
      await expect(set).rejects.toEqual(refusal('ERR_AS_OF_MISSING'))
      expect(await at.get('key')).toBe(NO_VALUE)
    }
  })

  it.each([[null], [''], [5], [{}], [new Set(['d'])], [['']], [[undefined]]])(
    'that are no list of names are refused as dependencies: %o',
    async (names) => {
      const at = makeRegion<number>({ name: 'r', backend: wrap(memory(), dependencies()) })
      const asOf = await at.asOf()
      const set = at.set('key', 1, { dependencies: names as never, asOf })
      await expect(set).rejects.toEqual(refusal('ERR_OPTION'))
      expect(await at.get('key')).toBe(NO_VALUE)
    },
  )

  const later = () => Promise.reject(new Error('later'))
  const answers: Record<string, () => unknown> = {
    later,
    'lists of what comes later': () => ['name', later(), later()],
  }
  it.each(
    ['dependencies', 'resultDependencies', 'group'].flatMap((option) =>
      Object.entries(answers).map(([answer, of]) => ({ option, answer, of })),
    ),
  )(
    'that answer $answer are refused as `$option`, and nothing of theirs is left unhandled',
    async ({ option, of }) => {
      const unhandled: unknown[] = []
      const listen = (error: unknown) => unhandled.push(error)
      process.on('unhandledRejection', listen)
      const at = makeRegion<number>({ name: 'r', backend: wrap(memory(), dependencies()) })
      const options: { readonly namespace: string } = Object.assign(
        { namespace: 'n' },
        { [option]: option === 'group' ? { user: of } : of },
      )
      const one = at.cacheOnArguments(options)((_id: number) => 1)
      const many = at.cacheMultiOnArguments({ ...options, namespace: 'many' })(
        async (...ids: number[]) => ids,
      )
      await expect(one(1)).rejects.toEqual(refusal('ERR_OPTION'))
      await expect(many(1, 2)).rejects.toEqual(refusal('ERR_OPTION'))
      await expect(at.invalidateDependencies(of() as string)).rejects.toEqual(refusal('ERR_OPTION'))
      expect(() => dep.tag(later() as never)).toThrow(refusal('ERR_OPTION'))
      for (let i = 0; i < 3; i++) await turn()
      process.off('unhandledRejection', listen)
      expect(unhandled).toEqual([])
      expect(await at.keyIsLocked(one.key(1))).toBe(false)
    },
  )

  it('about dependencies are refused where nothing tracks them', async () => {
    const { region: at } = open<number>()
    for (const run of [
      () => at.invalidateDependencies('name'),
      () => at.asOf(),
      () => at.set('key', 1, { dependencies: ['name'], asOf: { epoch: 'e', at: 1 } }),
    ])
      await expect(run()).rejects.toEqual(refusal('ERR_NO_LEDGER'))
    expect(await at.get('key')).toBe(NO_VALUE)
  })
})

inEveryRegion('falsy and odd payloads', (opened) => {
  const payloads: readonly unknown[] = [
    0,
    -0,
    '',
    false,
    null,
    undefined,
    Number.NaN,
    0n,
    [],
    {},
    'null',
    Symbol.for('payload'),
    Object.create(null),
    // biome-ignore lint/suspicious/noThenProperty: the test needs a thenable
    { then: 5 },
    { payload: 1, metadata: { createdAt: 1, startedAt: 1 } },
  ]

  it('are values like any other', async () => {
    for (const payload of payloads) {
      const { region: at, clock } = opened<unknown>({ expirationTime: 1_000 })
      await at.set('set', payload)
      expect(await at.get('set')).toBe(payload)
      expect(await at.has('set')).toBe(true)
      expect(await at.getOrCreate('set', () => expect.unreachable())).toBe(payload)
      expect(await at.getOrCreate('created', () => payload)).toBe(payload)
      expect(await at.getOrCreate('created', () => expect.unreachable())).toBe(payload)
      expect(await at.getOrCreateMulti(['set', 'many'], () => [payload])).toEqual([payload, payload])
      expect(await at.getMulti(['set', 'created', 'many'])).toEqual([payload, payload, payload])
      expect((await at.getValueMetadata('many'))?.payload).toBe(payload)
      clock.tick(1_001)
      expect(await at.get('set')).toBe(NO_VALUE)
      expect(await at.get('set', { ignoreExpiration: true })).toBe(payload)
    }
  })

  it('are values of decorated functions like any other', async () => {
    for (const payload of payloads) {
      const { region: at } = opened<unknown>()
      let calls = 0
      const f = at.cacheOnArguments({ namespace: 'f' })(() => {
        calls++
        return payload
      })
      expect(await f()).toBe(payload)
      expect(await f()).toBe(payload)
      expect(calls).toBe(1)
      await f.set(payload)
      expect(await f.get()).toBe(payload)
      expect(await f.refresh()).toBe(payload)
    }
  })
})

describe('NO_VALUE as a value', () => {
  it('cannot be set', async () => {
    const { region: at } = open<unknown>()
    await expect(at.set('key', NO_VALUE)).rejects.toEqual(refusal('ERR_OPTION'))
    await expect(
      at.setMulti([
        ['key', 1],
        ['other', NO_VALUE],
      ]),
    ).rejects.toEqual(refusal('ERR_OPTION'))
    expect(await at.getMulti(['key', 'other'])).toEqual([NO_VALUE, NO_VALUE])
  })
})

describe('errors', () => {
  it('are told apart by their code, also those of another copy of the package', () => {
    const error = new CorralError('ERR_KEY', 'message', { cause: 5 })
    expect(error).toBeInstanceOf(Error)
    expect(error).toMatchObject({ name: 'CorralError', code: 'ERR_KEY', cause: 5 })
    expect(CorralError.is(error)).toBe(true)
    expect(CorralError.is(error, 'ERR_KEY')).toBe(true)
    expect(CorralError.is(error, 'ERR_OPTION')).toBe(false)
    const copy = Object.assign(new Error('message'), { code: 'ERR_KEY', [Symbol.for('corral.error')]: true })
    expect(CorralError.is(copy, 'ERR_KEY')).toBe(true)
    for (const other of [
      undefined,
      null,
      5,
      'ERR_KEY',
      {},
      new Error('x'),
      Object.assign(new Error('x'), { code: 'ERR_KEY' }),
    ])
      expect(CorralError.is(other)).toBe(false)
  })
})

describe('a failing listener', () => {
  it('of a diagnostics channel does not reach the caller', async () => {
    const { region: at } = open<number>()
    const uncaught: unknown[] = []
    const listeners = process.listeners('uncaughtException')
    process.removeAllListeners('uncaughtException')
    process.once('uncaughtException', (error) => uncaught.push(error))
    const listen = () => {
      throw new Error('listener')
    }
    diagnostics('create').subscribe(listen)
    try {
      expect(await at.getOrCreate('key', () => 1)).toBe(1)
      await idle()
    } finally {
      diagnostics('create').unsubscribe(listen)
      process.removeAllListeners('uncaughtException')
      for (const listener of listeners) process.on('uncaughtException', listener)
    }
    expect(uncaught).toHaveLength(1)
  })
})
