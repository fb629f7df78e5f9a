import { describe, expectTypeOf, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { nullBackend } from '../../backends/null.js'
import { dependencies } from '../../proxies/dependencies.js'
import { json } from '../../proxies/json.js'
import { msgpack } from '../../proxies/msgpack.js'
import { near, tiers } from '../../proxies/near.js'
import { prefix } from '../../proxies/prefix.js'
import {
  type Backend,
  type BackendProxy,
  type Bytes,
  type CachedValue,
  defineBackend,
  delegate,
  intercept,
  makeRegion,
  mapKeys,
  mapValues,
  sha256,
  wrap,
} from '../../src/index.js'

const bytes = () => memory({ stores: 'bytes' })
const compress: BackendProxy<Bytes, Bytes> = (next) => delegate(next, {})

describe('right chains', () => {
  it('have the representation of their outermost layer', () => {
    expectTypeOf(memory()).toEqualTypeOf<Backend<CachedValue>>()
    expectTypeOf(memory({ maxEntries: 5 })).toEqualTypeOf<Backend<CachedValue>>()
    expectTypeOf(bytes()).toEqualTypeOf<Backend<Bytes>>()
    expectTypeOf(nullBackend()).toEqualTypeOf<Backend<CachedValue>>()
    expectTypeOf(wrap(memory())).toEqualTypeOf<Backend<CachedValue>>()
    expectTypeOf(wrap(bytes(), prefix('p'))).toEqualTypeOf<Backend<Bytes>>()
    expectTypeOf(wrap(bytes(), msgpack())).toEqualTypeOf<Backend<CachedValue>>()
    expectTypeOf(wrap(bytes(), prefix('p'), json(), mapKeys(sha256), dependencies())).toEqualTypeOf<
      Backend<CachedValue>
    >()
    expectTypeOf(wrap(bytes(), compress, prefix('p'), msgpack())).toEqualTypeOf<Backend<CachedValue>>()
    expectTypeOf(
      wrap(
        memory(),
        intercept((_, proceed) => proceed()),
        mapKeys((key) => key),
        dependencies(),
      ),
    ).toEqualTypeOf<Backend<CachedValue>>()
  })

  it('may be of any number of layers, and nested', () => {
    const nine = wrap(
      bytes(),
      prefix('1'),
      compress,
      prefix('3'),
      msgpack(),
      prefix('5'),
      dependencies(),
      prefix('7'),
      prefix('8'),
      prefix('9'),
    )
    expectTypeOf(nine).toEqualTypeOf<Backend<CachedValue>>()
    expectTypeOf(wrap(nine, prefix('10'))).toEqualTypeOf<Backend<CachedValue>>()
  })

  it('may have codecs and backends of one’s own', () => {
    const text = mapValues<CachedValue, string>({
      encode: (value) => JSON.stringify(value),
      decode: (stored) => JSON.parse(stored) as CachedValue,
    })
    const texts = defineBackend<string>({
      name: 'text',
      get: () => undefined,
      set: () => {},
      delete: () => {},
    })
    expectTypeOf(wrap(texts, prefix('p'), text)).toEqualTypeOf<Backend<CachedValue>>()
    makeRegion({ backend: wrap(texts, text) })
    // @ts-expect-error a store of texts needs its codec
    makeRegion({ backend: texts })
  })
})

describe('near caches', () => {
  it('stand around an encoding, with copies of values', () => {
    const layer = near(memory(), { maxStaleness: '1s' })
    expectTypeOf(wrap(bytes(), json(), layer, dependencies())).toEqualTypeOf<Backend<CachedValue>>()
    expectTypeOf(tiers(memory(), wrap(bytes(), json()), { maxStaleness: 0 })).toEqualTypeOf<
      Backend<CachedValue>
    >()
    // @ts-expect-error around bytes
    wrap(bytes(), layer, json())
    // @ts-expect-error bytes without an encoding
    tiers(memory(), bytes(), { maxStaleness: 0 })
    // @ts-expect-error copies of bytes
    near(bytes(), { maxStaleness: '1s' })
    // @ts-expect-error without a bound
    near(memory(), {})
    // @ts-expect-error a bound without a unit
    near(memory(), { maxStaleness: '5' })
  })

  it('take a bound for one call', () => {
    const region = makeRegion<string>()
    const load = region.cacheOnArguments(async (id: number) => `${id}`, { namespace: 'load' })
    expectTypeOf(region.get('key', { maxStaleness: 0 })).toEqualTypeOf<ReturnType<typeof region.get>>()
    expectTypeOf(load.with({ maxStaleness: '1s' })).toEqualTypeOf<typeof load>()
    // @ts-expect-error a flag is no bound
    void region.get('key', { maxStaleness: true })
  })
})

describe('wrong chains', () => {
  it('do not compile in a region', () => {
    // @ts-expect-error bytes without an encoding
    makeRegion({ backend: bytes() })
    // @ts-expect-error a prefix encodes nothing
    makeRegion({ backend: wrap(bytes(), prefix('p')) })
    // @ts-expect-error neither does compression
    makeRegion({ backend: wrap(bytes(), compress) })
    // @ts-expect-error nor when configured later
    makeRegion().configure({ backend: bytes() })
    // @ts-expect-error a factory that was not called
    makeRegion({ backend: memory })
    // @ts-expect-error no backend
    makeRegion().configure({})
  })

  it('do not compile at the layer that is wrong', () => {
    // @ts-expect-error two encodings
    wrap(bytes(), msgpack(), json())
    // @ts-expect-error an encoding over values
    wrap(memory(), msgpack())
    // @ts-expect-error dependencies below the encoding
    wrap(bytes(), dependencies())
    // @ts-expect-error compression above the encoding
    wrap(bytes(), msgpack(), compress)
    // @ts-expect-error compression over values
    wrap(memory(), compress)
    // @ts-expect-error a proxy that was not called
    wrap(memory(), prefix)
    // @ts-expect-error something that is no proxy
    wrap(memory(), 'prefix')
    // @ts-expect-error something that is no backend
    wrap('memory', prefix('p'))
  })
})

describe('proxies of one’s own', () => {
  it('that are transparent fit everywhere', () => {
    const logged = intercept((operation, proceed) => {
      expectTypeOf(operation.keys).toEqualTypeOf<readonly string[]>()
      return proceed()
    })
    expectTypeOf(wrap(bytes(), logged, msgpack(), logged)).toEqualTypeOf<Backend<CachedValue>>()
  })

  it('must keep the result type of an operation', () => {
    delegate(memory(), {
      // @ts-expect-error a write answers an outcome
      set: () => {},
    })
    delegate(memory(), {
      // @ts-expect-error another value than the chain's
      get: () => 'text',
    })
    delegate(memory(), {
      // @ts-expect-error no such operation
      clear: () => {},
    })
  })
})
