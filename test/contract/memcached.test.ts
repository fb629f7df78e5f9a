import { it } from 'vitest'
import { prefix } from '../../proxies/prefix.js'
import { wrap } from '../../src/index.js'
import { backendContract } from '../../src/testing/index.js'
import { say, withMemcached } from '../backends/memcached/start.js'
import { bytes } from './values.js'

let serial = 0

withMemcached('memcached', (bench) => {
  const runner = { describe: (_: string, body: () => void) => body(), it }

  backendContract(
    'memcached',
    async () => {
      await say(bench().server.port, 'flush_all')
      return bench().open()
    },
    { values: bytes(), runner },
  )
})

withMemcached('memcached that is shared', (bench) => {
  const runner = { describe: (_: string, body: () => void) => body(), it }

  backendContract(
    'memcached under a prefix, with marks of transactions',
    () => wrap(bench().open({ pendingFor: '30s' }), prefix(`${++serial}:`)),
    {
      values: bytes(),
      runner,
    },
  )
})
