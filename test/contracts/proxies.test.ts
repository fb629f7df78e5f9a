import { describe, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { mangle } from '../../proxies/mangle.js'
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

proxyContract('prefix()', prefix<CachedValue>('users:'), { over, values, runner, synchronous: true })
proxyContract('mangle()', mangle<CachedValue>(sha256), { over, values, runner, synchronous: true })
proxyContract('mangle() of long keys', mangle<CachedValue>(whenLongerThan(20, sha256)), {
  over,
  values,
  runner,
  synchronous: true,
})
proxyContract('prefix() over bytes', prefix<Uint8Array>('users:'), {
  over: () => memory({ stores: 'bytes', copy: 'clone' }) as Backend<Uint8Array>,
  values: bytes(),
  runner,
  synchronous: true,
})
proxyContract('prefix() over a store that answers later', prefix<CachedValue>('users:'), {
  over: () => wrap(memory({ copy: 'clone' }), later),
  values,
  runner,
})
proxyContract('mapKeys()', mapKeys((key) => [...key].reverse().join('')) as (next: Backend<CachedValue>) => Backend<CachedValue>, {
  over,
  values,
  runner,
  synchronous: true,
  skip: [
    {
      case: 'keys in unicode, which nothing normalises: like any other',
      reason: 'turning a key round joins a lone mark to another letter',
    },
  ],
})
proxyContract('intercept() that does nothing', intercept((_, proceed) => proceed()) as (next: Backend<CachedValue>) => Backend<CachedValue>, {
  over,
  values,
  runner,
  synchronous: true,
})
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

/** Entries that rest on the chain's own ledger: without that dependencies() answers no value. */
async function tracked(chain: Backend<CachedValue>): Promise<[CachedValue, CachedValue, ...CachedValue[]]> {
  const asOf = await chain.tracker?.asOf(['name'])
  const basis = { epoch: asOf?.epoch ?? '', groups: [{ a: asOf?.at ?? 0, names: ['name'] }] }
  return entries().map(({ payload, metadata }) => ({ payload, metadata: { ...metadata, stale: false, basis } })) as [
    CachedValue,
    CachedValue,
    ...CachedValue[],
  ]
}

proxyContract('dependencies()', dependencies(), { over, values: tracked, runner, synchronous: true })
proxyContract('dependencies() over a store that answers later', dependencies(), {
  over: () => wrap(memory({ copy: 'clone' }), later),
  values: tracked,
  runner,
})
const lender = memory()
proxyContract('dependencies() with a lent ledger', dependencies({ ledger: lender.ledger as never }), {
  over,
  values: tracked,
  runner,
  synchronous: true,
})
proxyContract(
  'a chain of several',
  (next: Backend<CachedValue>) => wrap(next, prefix('inner:'), dependencies(), prefix('outer:'), mangle(sha256)),
  { over, values: tracked, runner, synchronous: true },
)
