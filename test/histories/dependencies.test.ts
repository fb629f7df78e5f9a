import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inject } from 'vitest'
import { openPath } from '../../backends/lmdb/client/open-file.js'
import { clockOf, rangesOf, TAG } from '../../backends/lmdb/format.js'
import { CLOCK, STAMP, wireName } from '../../backends/memcached/format.js'
import { clockKeys, stampKey } from '../../backends/redis/format.js'
import { dep } from '../../src/index.js'
import { say } from '../backends/memcached/start.js'
import { cluster, type Deployment, standalone } from '../backends/redis/deployments.js'
import { LONG } from '../support/long.js'
import { startMemcached } from '../support/servers.js'
import { BY_NAMES, ROWS } from './generator.js'
import { histories, type World } from './history.js'

/** The clock's name in `src/dependencies/tracking-layer.ts`. */
const THE_CLOCK = '~clock'
const NAMES = [
  'region:history',
  ...Array.from({ length: ROWS }, (_, row) => [dep.id('row', row), dep.group('list', row)]).flat(),
]
const oneOf = <T>(list: readonly T[]): T => list[Math.floor(Math.random() * list.length)] as T

/** A world that loses a record of its bookkeeping every 15 ms, on average. */
const losing = (lose: () => unknown, world: Pick<World, 'place' | 'stop'>): World => ({
  ...world,
  ways: BY_NAMES,
  every: () => Math.random() * 30,
  async trouble() {
    await lose()
    return 'lost'
  },
  failing: 0.02,
})

async function overRedis(start: () => Promise<Deployment>): Promise<World> {
  const at = await start()
  const { clock, ring } = clockKeys(THE_CLOCK)
  const lose = () =>
    at.admin.del(Math.random() < 0.1 ? oneOf([clock, ring]) : stampKey(THE_CLOCK, oneOf(NAMES)))
  return losing(lose, { place: () => ({ redis: at.where }), stop: () => at.stop() })
}

async function overMemcached(): Promise<World> {
  const server = await startMemcached()
  const lose = () =>
    say(
      server.port,
      `delete ${Math.random() < 0.1 ? wireName(CLOCK, THE_CLOCK) : wireName(STAMP, oneOf(NAMES))}`,
    )
  const servers = `127.0.0.1:${server.port}`
  return losing(lose, { place: () => ({ memcached: { servers } }), stop: () => server.stop() })
}

async function overLmdb(): Promise<World> {
  const folder = mkdtempSync(join(tmpdir(), 'corral-dependencies-'))
  const path = join(folder, 'cache.mdb')
  const { bookkeeping, close } = openPath(path, { timeout: 10_000 })
  const keysOf = (tag: number) =>
    rangesOf(tag).flatMap(([start, end]) => [...bookkeeping.getKeys({ start, end })] as Buffer[])
  // LMDB loses no single stamp: the clock can go, with or without the records that hang on it.
  const lose = async () => {
    if (Math.random() > 0.1) return
    for (const clock of keysOf(TAG.clock))
      await bookkeeping.transaction(() => {
        void bookkeeping.remove(clock)
        if (Math.random() < 0.5) return
        for (const key of [clockOf(clock, TAG.anchor), ...keysOf(TAG.stamp)]) void bookkeeping.remove(key)
      })
  }
  return losing(lose, {
    place: () => ({ lmdb: path }),
    async stop() {
      await close()
      rmSync(folder, { recursive: true, force: true })
    },
  })
}

const { redis, memcached } = inject('servers')

histories('the history of dependencies whose bookkeeping is lost at random', {
  // A read of a list counts as one of each of its rows.
  floor: LONG
    ? { reads: 600_000, changes: 5_000, landed: 500, lost: 5_000 }
    : { reads: 800, changes: 60, landed: 8, lost: 50 },
  ms: LONG ? 30_000 : 2_500,
  patience: LONG ? 1_800_000 : 40_000,
  missing: (world) =>
    (world.startsWith('Redis') && redis === null) || (world === 'memcached' && memcached === null),
  worlds: {
    Redis: () => overRedis(standalone),
    'Redis Cluster': () => overRedis(cluster),
    memcached: overMemcached,
    LMDB: overLmdb,
  },
})
