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
  makeRegion,
  mapKeys,
  mapValues,
  wrap,
} from '../../src/index.js'

const FACTORIES = { broadcast, compress, dependencies, json, mapKeys, mapValues, msgpack, prefix, seal, v8 }

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
