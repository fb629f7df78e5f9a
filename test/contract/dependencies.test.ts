import { describe, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { prefix } from '../../proxies/prefix.js'
import { type Backend, type CachedValue, mapKeys, sha256, wrap } from '../../src/index.js'
import { proxyContract } from '../../src/testing/index.js'
import { later } from '../support/stage.js'
import { entries } from './values.js'

const runner = { describe, it }
const over = () => memory({ copy: 'clone' })

/** Entries that rest on the chain's own ledger: without that dependencies() answers no value. */
async function tracked(chain: Backend<CachedValue>): Promise<[CachedValue, CachedValue, ...CachedValue[]]> {
  const asOf = await chain.tracker?.asOf(['name'])
  const snapshot = { epoch: asOf?.epoch ?? '', groups: [{ asOf: asOf?.at ?? 0, names: ['name'] }] }
  const track = ({ payload, metadata }: CachedValue): CachedValue => ({
    payload,
    metadata: { ...metadata, stale: false, snapshot },
  })
  const [one, other, ...more] = entries()
  return [track(one), track(other), ...more.map(track)]
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
  (next: Backend<CachedValue>) =>
    wrap(next, prefix('inner:'), dependencies(), prefix('outer:'), mapKeys(sha256)),
  { over, values: tracked, runner, synchronous: true },
)
