import { describe, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { json } from '../../proxies/json.js'
import { msgpack } from '../../proxies/msgpack.js'
import { prefix } from '../../proxies/prefix.js'
import { type Backend, type Bytes, wrap } from '../../src/index.js'
import { proxyContract } from '../../src/testing/index.js'
import { later } from '../support/stage.js'
import { entries } from './values.js'

const runner = { describe, it }
const values = entries()
const over = () => memory({ stores: 'bytes' })

proxyContract('json()', json(), { over, values, runner, synchronous: true })
proxyContract('msgpack()', msgpack(), { over, values, runner, synchronous: true })
proxyContract('msgpack() over a store that answers later', msgpack(), {
  over: () => wrap(memory({ stores: 'bytes' }), later),
  values,
  runner,
})
proxyContract(
  'a whole chain over bytes',
  (next: Backend<Bytes>) => wrap(next, prefix('app:'), msgpack(), prefix('users:')),
  { over, values, runner, synchronous: true },
)
proxyContract(
  'a whole chain over bytes that tracks dependencies',
  (next: Backend<Bytes>) => wrap(next, json(), dependencies(), prefix('users:')),
  {
    over,
    async values(chain) {
      const asOf = await chain.tracker?.asOf(['name'])
      const snapshot = { epoch: asOf?.epoch ?? '', groups: [{ asOf: asOf?.at ?? 0, names: ['name'] }] }
      const metadata = { startedAt: 5, createdAt: 6, snapshot }
      return [
        { payload: 'one', metadata },
        { payload: [2], metadata },
      ]
    },
    runner,
    synchronous: true,
  },
)
