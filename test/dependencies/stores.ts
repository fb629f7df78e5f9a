/** The same tests of dependencies on every store that keeps a ledger. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Cluster, Redis } from 'ioredis'
import { afterAll, beforeAll, describe, inject } from 'vitest'
import { lmdb } from '../../backends/lmdb/index.js'
import { memcached } from '../../backends/memcached/index.js'
import { CLOCK, STAMP, wireName } from '../../backends/memcached/keys.js'
import { memory } from '../../backends/memory/index.js'
import { clockKeys, stampKey } from '../../backends/redis/names.js'
import { dependencies } from '../../proxies/dependencies.js'
import { json } from '../../proxies/json.js'
import { prefix } from '../../proxies/prefix.js'
import {
  type Backend,
  type Bytes,
  type CachedValue,
  makeRegion,
  type Region,
  type RegionOptions,
  wrap,
} from '../../src/index.js'
import { say } from '../memcached/start.js'
import { cluster, type Deployment, standalone } from '../redis/deployments.js'
import { startMemcached } from '../support/servers.js'

/** The clock's name in `src/dependencies/track.ts`. */
const THE_CLOCK = '~clock'

interface Running {
  /** The chain as another process would open it. */
  chain(): Backend<CachedValue>
  /** The store under the encoding, where there is one. */
  readonly bytes?: () => Backend<Bytes>
  /** Forgets the stamp of a name, where a store can. */
  readonly lose?: (name: string) => Promise<unknown>
  /** Forgets the clock, where a store can. */
  readonly loseClock?: () => Promise<unknown>
  readonly admin?: Redis | Cluster
  stop(): Promise<void>
}

export interface Site {
  /** Regions of one name, as different processes have them. Keys and the name are the test's own. */
  regions<V>(options?: Pick<RegionOptions, 'clock' | 'asyncCreationRunner'>): readonly [Region<V>, Region<V>]
  /** A region of another name over the same ledger. */
  another<V>(): Region<V>
  /** Leaves bytes of no meaning under a key of `regions()`, where values are bytes. */
  readonly spoil: ((key: string) => Promise<unknown>) | undefined
  readonly lose: Running['lose']
  readonly loseClock: Running['loseClock']
  readonly admin: Running['admin']
}

async function overRedis(start: () => Promise<Deployment>): Promise<Running> {
  const at = await start()
  return {
    chain: () => wrap(at.open(), json(), dependencies()),
    bytes: () => at.open(),
    lose: (name) => at.admin.del(stampKey(name)),
    loseClock: () => at.admin.del(clockKeys(THE_CLOCK).clock),
    admin: at.admin,
    stop: () => at.stop(),
  }
}

const STORES: Readonly<Record<string, () => Promise<Running>>> = {
  memory: async () => {
    const store = memory()
    return { chain: () => wrap(store, dependencies()), stop: async () => {} }
  },
  Redis: () => overRedis(standalone),
  'Redis Cluster': () => overRedis(cluster),
  memcached: async () => {
    const server = await startMemcached()
    const opened: Backend<Bytes>[] = []
    const open = () => {
      // Ten thousand names are more than its second, on a busy machine.
      const backend = memcached({ servers: `127.0.0.1:${server.port}`, timeout: '20s' })
      opened.push(backend)
      return backend
    }
    return {
      chain: () => wrap(open(), json(), dependencies()),
      bytes: open,
      loseClock: () => say(server.port, `delete ${wireName(CLOCK, THE_CLOCK)}`),
      lose: (name) => say(server.port, `delete ${wireName(STAMP, name)}`),
      stop: async () => {
        for (const backend of opened) await backend.close()
        await server.stop()
      },
    }
  },
  LMDB: async () => {
    const folder = mkdtempSync(join(tmpdir(), 'corral-dependencies-'))
    const backend = lmdb(join(folder, 'cache.mdb'))
    return {
      chain: () => wrap(backend, json(), dependencies()),
      bytes: () => backend,
      stop: async () => {
        await backend.close()
        rmSync(folder, { recursive: true, force: true })
      },
    }
  },
}

let serial = 0

/** Runs tests on the stores named, or on all; those whose server was opted out of are reported as skipped. */
export function onStores(
  names: readonly string[] | 'all',
  subject: string,
  tests: (at: () => Site) => void,
): void {
  const { redis, memcached } = inject('servers')
  const missing = (name: string) =>
    name.startsWith('Redis') ? redis === null : name === 'memcached' && memcached === null
  for (const [name, start] of Object.entries(STORES))
    if (names === 'all' || names.includes(name))
      describe.skipIf(missing(name))(`${subject}, on ${name}`, () => {
        let running: Running | undefined
        beforeAll(async () => {
          running = await start()
        }, 120_000)
        afterAll(() => running?.stop())
        tests(() => {
          if (running === undefined) throw new Error('Expected the store to be there by now')
          const { chain, bytes, lose, loseClock, admin } = running
          const name = `r${++serial}`
          const region = <V>(of: string, options: RegionOptions = {}) =>
            makeRegion<V>({
              name: of,
              backend: wrap(chain(), prefix(`${of}:`)),
              expirationTime: '1h',
              ...options,
            })
          return {
            ...{ lose, loseClock, admin },
            regions: <V>(options?: RegionOptions) =>
              [region<V>(name, options), region<V>(name, options)] as const,
            another: <V>() => region<V>(`r${++serial}`),
            spoil: bytes && (async (key) => bytes().set(`${name}:${key}`, Buffer.from('garbage'), {})),
          }
        })
      })
}
