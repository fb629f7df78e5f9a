/** The same tests of dependencies on every store that keeps a ledger. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Cluster, Redis } from 'ioredis'
import { afterAll, beforeAll, describe, inject } from 'vitest'
import { openPath } from '../../backends/lmdb/client/open-file.js'
import { clockOf, rangesOf, TAG } from '../../backends/lmdb/format.js'
import { lmdb } from '../../backends/lmdb/index.js'
import { CLOCK, STAMP, wireName } from '../../backends/memcached/format.js'
import { memcached } from '../../backends/memcached/index.js'
import { memory } from '../../backends/memory/index.js'
import { clockKeys, stampKey } from '../../backends/redis/format.js'
import { dependencies } from '../../proxies/dependencies.js'
import { json } from '../../proxies/json.js'
import { prefix } from '../../proxies/prefix.js'
import {
  type Backend,
  type BackendProxy,
  type Bytes,
  type CachedValue,
  makeRegion,
  type Region,
  type RegionOptions,
  wrap,
} from '../../src/index.js'
import { say } from '../backends/memcached/start.js'
import { cluster, type Deployment, standalone } from '../backends/redis/deployments.js'
import { startMemcached } from '../support/servers.js'

/** The clock's name in `src/dependencies/tracking-layer.ts`. */
const THE_CLOCK = '~clock'

interface Running {
  /** The store with its encoding, as another process would open it. */
  values(): Backend<CachedValue>
  /** The store under the encoding, where there is one. */
  readonly bytes?: () => Backend<Bytes>
  /** Forgets the stamp of a name, where a store can; `below`: the prefix of clock and names. */
  readonly lose?: (name: string, below?: string) => Promise<unknown>
  /** Forgets the clock, where a store can. */
  readonly loseClock?: () => Promise<unknown>
  /** How many records there are, entries and bookkeeping, where that can be told. */
  readonly records?: () => Promise<number>
  /** How many commands the store was ever sent, where there is a server that counts them. */
  readonly commands?: () => Promise<number>
  readonly admin?: Redis | Cluster
  stop(): Promise<void>
}

export interface Site {
  /** Regions of one name, as different processes have them. Keys and the name are the test's own. */
  regions<V>(options?: Pick<RegionOptions, 'clock' | 'asyncCreationRunner'>): readonly [Region<V>, Region<V>]
  /** A region of another name over the same ledger. */
  another<V>(): Region<V>
  /** Begins all keys of the test's own, and the prefixes of `under`. */
  readonly name: string
  /** A region of another name, all of whose bookkeeping has a prefix, its clock included. */
  under<V>(below: string): Region<V>
  /** A region with a layer between the encoding and `dependencies()`. */
  through<V>(layer: BackendProxy<CachedValue>): Region<V>
  /** Leaves bytes of no meaning under a key of `regions()`, where values are bytes. */
  readonly spoil: ((key: string) => Promise<unknown>) | undefined
  readonly lose: Running['lose']
  readonly loseClock: Running['loseClock']
  readonly records: Running['records']
  readonly commands: Running['commands']
  readonly admin: Running['admin']
}

function nodesOf(admin: Redis | Cluster): readonly Redis[] {
  return 'nodes' in admin ? admin.nodes('master') : [admin]
}

/** Commands that a Redis has carried out, but for those that ask for the number. */
async function carriedOut(node: Redis): Promise<number> {
  const stats = await node.info('commandstats')
  return [...stats.matchAll(/^cmdstat_(\S+?):calls=(\d+)/gm)]
    .filter(([, name]) => !/^(?:info|cluster|ping|dbsize)/.test(name ?? ''))
    .reduce((sum, [, , calls]) => sum + Number(calls), 0)
}

async function total(counts: readonly Promise<number>[]): Promise<number> {
  return (await Promise.all(counts)).reduce((sum, count) => sum + count, 0)
}

async function overRedis(start: () => Promise<Deployment>): Promise<Running> {
  const at = await start()
  return {
    values: () => wrap(at.open(), json()),
    bytes: () => at.open(),
    lose: (name, below = '') => at.admin.del(stampKey(below + THE_CLOCK, below + name)),
    loseClock: () => at.admin.del(clockKeys(THE_CLOCK).clock),
    records: () => total(nodesOf(at.admin).map((node) => node.dbsize())),
    commands: () => total(nodesOf(at.admin).map(carriedOut)),
    admin: at.admin,
    stop: () => at.stop(),
  }
}

const STORES: Readonly<Record<string, () => Promise<Running>>> = {
  memory: async () => {
    const store = memory()
    return { values: () => store, stop: async () => {} }
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
    const stats = async (...names: readonly string[]) => {
      const said = await say(server.port, 'stats')
      return names.reduce((sum, name) => {
        const found = new RegExp(`STAT ${name} (\\d+)`).exec(said)
        if (found === null) throw new Error(`Expected memcached to count ${name}, got ${said}`)
        return sum + Number(found[1])
      }, 0)
    }
    return {
      values: () => wrap(open(), json()),
      bytes: open,
      records: () => stats('curr_items'),
      commands: () => stats('cmd_get', 'cmd_set', 'incr_hits', 'incr_misses', 'delete_hits', 'delete_misses'),
      loseClock: () => say(server.port, `delete ${wireName(CLOCK, THE_CLOCK)}`),
      lose: (name, below = '') => say(server.port, `delete ${wireName(STAMP, below + name)}`),
      stop: async () => {
        for (const backend of opened) await backend.close()
        await server.stop()
      },
    }
  },
  LMDB: async () => {
    const folder = mkdtempSync(join(tmpdir(), 'corral-dependencies-'))
    const path = join(folder, 'cache.mdb')
    const backend = lmdb(path)
    const { bookkeeping, entries, close } = openPath(path, { timeout: 10_000 })
    const clocks = () =>
      rangesOf(TAG.clock).flatMap(([start, end]) => [...bookkeeping.getKeys({ start, end })] as Buffer[])
    return {
      values: () => wrap(backend, json()),
      bytes: () => backend,
      // LMDB loses no single stamp: only the clock can go.
      loseClock: () =>
        bookkeeping.transaction(() => {
          for (const clock of clocks())
            for (const key of [clock, clockOf(clock, TAG.anchor)]) void bookkeeping.remove(key)
        }),
      records: async () =>
        bookkeeping.getKeysCount() +
        rangesOf(TAG.entry).reduce((sum, [start, end]) => sum + entries.getKeysCount({ start, end }), 0),
      stop: async () => {
        await close()
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
          const { values, bytes, ...behind } = running
          const name = `r${++serial}`
          const region = <V>(of: string, options: RegionOptions = {}) =>
            makeRegion<V>({
              name: of,
              backend: wrap(values(), dependencies(), prefix(`${of}:`)),
              expirationTime: '1h',
              ...options,
            })
          return {
            ...{ lose: behind.lose, loseClock: behind.loseClock, admin: behind.admin },
            ...{ records: behind.records, commands: behind.commands },
            regions: <V>(options?: RegionOptions) =>
              [region<V>(name, options), region<V>(name, options)] as const,
            name,
            under: <V>(below: string) =>
              makeRegion<V>({
                name: `r${++serial}`,
                backend: wrap(values(), prefix(`${name}:${below}`), dependencies()),
              }),
            through: <V>(layer: BackendProxy<CachedValue>) =>
              makeRegion<V>({ name: `r${++serial}`, backend: wrap(values(), layer, dependencies()) }),
            another: <V>() => region<V>(`r${++serial}`),
            spoil: bytes && (async (key) => bytes().set(`${name}:${key}`, Buffer.from('garbage'), {})),
          }
        })
      })
}
