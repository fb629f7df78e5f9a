import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { broadcast } from '../../proxies/broadcast.js'
import { compress } from '../../proxies/compress.js'
import { dependencies } from '../../proxies/dependencies.js'
import { json } from '../../proxies/json.js'
import { msgpack } from '../../proxies/msgpack.js'
import { prefix } from '../../proxies/prefix.js'
import { seal } from '../../proxies/seal.js'
import { v8 } from '../../proxies/v8.js'
import {
  type CachedValue,
  CorralError,
  defineBackend,
  delegate,
  dep,
  inBackground,
  localInvalidation,
  makeRegion,
  mapKeys,
  mapValues,
  optionsKeyGenerator,
  sha1,
  whenLongerThan,
  wrap,
} from '../../src/index.js'
import { logTo } from '../../src/integrations/pino.js'
import { unstorageDriver } from '../../src/integrations/unstorage.js'
import { broker, localBus, relay } from '../../src/signals/index.js'
import { manualClock } from '../support/stage.js'

const FACTORIES = {
  broadcast,
  compress,
  delegate,
  dependencies,
  json,
  mapKeys,
  mapValues,
  msgpack,
  prefix,
  seal,
  v8,
}

describe('wrap()', () => {
  it.each(Object.entries(FACTORIES))('given %s without () says to call it', (name, factory) => {
    const call = () => wrap(memory({ stores: 'bytes' }) as never, factory as never)
    expect(call).toThrow(expect.objectContaining({ code: 'ERR_CHAIN' }) as Error)
    expect(call).toThrow(
      new RegExp(`^Expected proxy 1 of wrap\\(\\) .*'${name}'.*call it: ${name}\\(…\\)\\.$`),
    )
  })

  it('given a proxy in place of the backend says where it belongs', () => {
    expect(() => wrap(json() as never, memory() as never)).toThrow('put proxies behind the backend')
    expect(() => wrap({} as never)).toThrow('Complete your own with defineBackend().')
  })

  it('given a proxy that fails for reasons of its own passes its error on', () => {
    const boom = new Error('boom')
    const failing = () => {
      throw boom
    }
    expect(() => wrap(memory(), failing as never)).toThrow(boom)
    const chained = () => wrap(memory({ stores: 'bytes' }) as never, dependencies() as never, 5 as never)
    expect(chained).toThrow(CorralError)
  })

  it('given what defineBackend() received, instead of what it returned, says to complete it', () => {
    const spec = {
      name: 'own',
      get: () => undefined,
      set: () => {},
      delete: () => {},
      acquire: () => ({ token: 'token' }),
      renew: () => true,
      release: () => true,
      held: () => false,
    }
    const { actualBackend } = makeRegion<string>({ backend: defineBackend<CachedValue>(spec) })
    for (const half of [spec, actualBackend])
      for (const call of [() => wrap(half as never), () => makeRegion({ backend: half as never })])
        expect(call).toThrow(
          expect.objectContaining({
            code: 'ERR_CHAIN',
            message: expect.stringContaining('defineBackend()') as string,
          }) as Error,
        )
  })

  it('given a factory of backends without () says to call it, as a region does', () => {
    for (const call of [() => wrap(memory as never), () => makeRegion({ backend: memory as never })])
      expect(call).toThrow(/memory\(\)/)
  })
})

describe('an option that expects the result of a factory', () => {
  const region = () => makeRegion<string>({ name: 'made', backend: wrap(memory(), dependencies()) })
  const cached = (functionKeyGenerator: unknown) =>
    region().cacheOnArguments(async () => '', { namespace: 'n', functionKeyGenerator } as never)
  const CALLS: [name: string, call: () => unknown][] = [
    ['inBackground', () => makeRegion({ asyncCreationRunner: inBackground as never })],
    ['optionsKeyGenerator', () => makeRegion({ functionKeyGenerator: optionsKeyGenerator as never })],
    ['optionsKeyGenerator', () => cached(optionsKeyGenerator)],
    ['whenLongerThan', () => mapKeys(whenLongerThan as never)],
    ['whenLongerThan', () => whenLongerThan(5, whenLongerThan as never)],
    ['localInvalidation', () => makeRegion({ regionInvalidator: localInvalidation as never })],
    ['manualClock', () => makeRegion({ clock: manualClock as never })],
    ['localBus', () => relay(localBus as never, [region()])],
    ['localBus', () => broadcast(localBus as never, { name: 'made' })],
    ['region', () => relay(localBus(), [region as never])],
    ['region', () => broker('made', { regions: [region as never], id: () => 1 })],
    ['scopes', () => broker('made', { regions: [region()], scopes: dep.scopes as never })],
    ['region', () => unstorageDriver(region as never)],
    ['pino', () => logTo(function pino() {} as never)],
    ['options', () => makeRegion(function options() {} as never)],
  ]

  it.each(CALLS)('and is handed %s without () says to call it (%#)', (name, call) => {
    expect(call).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }) as Error)
    expect(call).toThrow(`If it makes one, call it: ${name}(…).`)
  })

  it('takes its result', () => {
    const options = { asyncCreationRunner: inBackground(), functionKeyGenerator: optionsKeyGenerator() }
    expect(() => makeRegion({ ...options, regionInvalidator: localInvalidation() })).not.toThrow()
    expect(() => mapKeys(whenLongerThan(5, sha1))).not.toThrow()
  })
})
