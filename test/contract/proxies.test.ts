import { describe, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { prefix } from '../../proxies/prefix.js'
import {
  type Backend,
  type CachedValue,
  delegate,
  intercept,
  mapKeys,
  mapValues,
  sha256,
  whenLongerThan,
  wrap,
} from '../../src/index.js'
import { proxyContract } from '../../src/testing/index.js'
import { later } from '../support/stage.js'
import { bytes, entries } from './values.js'

const runner = { describe, it }
const values = entries()
const over = () => memory({ copy: 'clone' })

proxyContract('prefix()', prefix('users:'), { over, values, runner, synchronous: true })
proxyContract('mapKeys()', mapKeys(sha256), { over, values, runner, synchronous: true })
proxyContract('mapKeys() of long keys', mapKeys(whenLongerThan(20, sha256)), {
  over,
  values,
  runner,
  synchronous: true,
})
proxyContract('prefix() over bytes', prefix('users:'), {
  over: () => memory({ stores: 'bytes', copy: 'clone' }) as Backend<Uint8Array>,
  values: bytes(),
  runner,
  synchronous: true,
})
proxyContract('prefix() over a store that answers later', prefix('users:'), {
  over: () => wrap(memory({ copy: 'clone' }), later),
  values,
  runner,
})
proxyContract(
  'mapKeys()',
  mapKeys((key) => [...key].reverse().join('')) as (next: Backend<CachedValue>) => Backend<CachedValue>,
  {
    over,
    values,
    runner,
    synchronous: true,
  },
)
proxyContract(
  'intercept() that does nothing',
  intercept((_, proceed) => proceed()) as (next: Backend<CachedValue>) => Backend<CachedValue>,
  {
    over,
    values,
    runner,
    synchronous: true,
  },
)
proxyContract('delegate() of nothing', (next: Backend<CachedValue>) => delegate(next, {}), {
  over,
  values,
  runner,
  synchronous: true,
})
proxyContract(
  'mapValues()',
  mapValues<CachedValue, string>({
    encode: (value) => JSON.stringify(value),
    decode: (stored) => JSON.parse(stored) as CachedValue,
  }),
  { over: () => memory() as unknown as Backend<string>, values, runner, synchronous: true },
)
proxyContract(
  'mapValues() that encodes later',
  mapValues<CachedValue, string>({
    encode: async (value) => JSON.stringify(value),
    decode: async (stored) => JSON.parse(stored) as CachedValue,
  }),
  { over: () => memory() as unknown as Backend<string>, values, runner },
)
