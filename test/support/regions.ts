/** Regions that track dependencies, over every kind of store, for the tests of integrations. */
import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { lmdb } from '../../backends/lmdb/index.js'
import { memory } from '../../backends/memory/index.js'
import { redis } from '../../backends/redis/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { msgpack } from '../../proxies/msgpack.js'
import { makeRegion, type Region, wrap } from '../../src/index.js'
import { startRedis } from './servers.js'

export interface Place {
  readonly region: Region
  end(): Promise<void>
}

export const places = {
  memory: async () => placed(makeRegion({ name: 'r', backend: wrap(memory(), dependencies()) })),
  'msgpack bytes': async () =>
    placed(makeRegion({ name: 'r', backend: wrap(memory({ stores: 'bytes' }), msgpack(), dependencies()) })),
  LMDB: async () => {
    const folder = mkdtempSync(join(tmpdir(), 'corral-place-'))
    const backend = wrap(lmdb(join(folder, 'data')), msgpack(), dependencies())
    return placed(makeRegion({ name: 'r', backend }), () => rmSync(folder, { recursive: true, force: true }))
  },
  Redis: async () => {
    const server = await startRedis()
    // A busy machine is no outage: the default timeout would turn its pauses into misses.
    const backend = wrap(
      redis({ url: `redis://127.0.0.1:${server.port}`, timeout: '20s' }),
      msgpack(),
      dependencies(),
    )
    return placed(makeRegion({ name: randomUUID(), backend }), server.stop)
  },
} satisfies Readonly<Record<string, () => Promise<Place>>>

function placed(region: Region, cleanUp?: () => unknown): Place {
  return {
    region,
    async end() {
      await region.close()
      await cleanUp?.()
    },
  }
}
