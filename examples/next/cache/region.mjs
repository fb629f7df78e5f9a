import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makeRegion, wrap } from 'corral'
import { lmdb } from 'corral/backends/lmdb'
import { redis } from 'corral/backends/redis'
import { dependencies } from 'corral/proxies/dependencies'
import { msgpack } from 'corral/proxies/msgpack'
import { prefix } from 'corral/proxies/prefix'

const { REDIS_URL, LMDB_PATH = join(tmpdir(), 'corral-example-next') } = process.env

// One for all handlers of a server: one connection. Without Redis all servers of this machine share a file.
const store = REDIS_URL === undefined ? lmdb(LMDB_PATH) : redis({ url: REDIS_URL, failOpen: true })

export const region = makeRegion({
  name: 'next',
  backend: wrap(store, msgpack(), prefix('example:'), dependencies()),
})
