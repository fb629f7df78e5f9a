/**
 * Transactions of three processes over one database and one Redis or memcached. Processes are killed between their commit and the
 * invalidation. A read that begins after a commit must not return an older row, whether or not the process of the commit lived to
 * acknowledge it.
 */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import Libsql from 'libsql'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { memcached } from '../../backends/memcached/index.js'
import { redis } from '../../backends/redis/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { msgpack } from '../../proxies/msgpack.js'
import { makeRegion, NO_VALUE, wrap } from '../../src/index.js'
import { LONG } from '../support/long.js'
import { bundleProgram, type Program } from '../support/programs.js'
import { type Server, startMemcached, startRedis } from '../support/servers.js'
import type { TransactionsPart, TransactionsReport } from './transactions-peer.js'

const ROWS = 150
const PROCESSES = 3
/** ms after which a history ends that has not shown enough: a machine may be busy. */
const PATIENCE = LONG ? 1_800_000 : 120_000
const FLOOR = LONG ? { reads: 200_000, hits: 50_000, killed: 200 } : { reads: 1_500, hits: 300, killed: 5 }

/** What all processes have done. `deaths`: between a commit and its invalidation; `killed`: these, and those before a commit. */
interface Totals {
  reads: number
  hits: number
  commits: number
  rollbacks: number
  deaths: number
  killed: number
  readonly stale: string[]
}

const { redis: redisServer, memcached: memcachedServer } = inject('servers')

/** One that has just been killed is past stopping. */
const stop = (child: ChildProcess) => child.send('stop', () => {})

describe.skipIf(redisServer === null || memcachedServer === null)(
  'the history of transactions over one database',
  () => {
    let program: Program
    let redisAt: Server
    let memcachedAt: Server
    let folder: string
    beforeAll(async () => {
      program = await bundleProgram('test/histories/transactions-peer.ts')
      ;[redisAt, memcachedAt] = await Promise.all([startRedis(), startMemcached()])
      folder = mkdtempSync(join(tmpdir(), 'corral-history-'))
    }, 120_000)
    afterAll(async () => {
      program.end()
      await Promise.all([redisAt.stop(), memcachedAt.stop()])
      rmSync(folder, { recursive: true, force: true })
    })

    /** Plays a history until it has shown enough. */
    async function play(
      url: string,
      pendingFor: number,
      isEnough: (totals: Totals) => boolean,
    ): Promise<Totals> {
      const file = join(folder, `${url.replaceAll(/\W+/g, '-')}.db`)
      const database = new Libsql(file)
      database.exec('PRAGMA journal_mode = WAL')
      database.exec('CREATE TABLE row (id INTEGER PRIMARY KEY, version INTEGER)')
      database.exec('CREATE TABLE death (id INTEGER PRIMARY KEY)')
      for (let id = 0; id < ROWS; id++) database.exec(`INSERT INTO row VALUES (${id}, 0)`)
      const totals: Totals = { reads: 0, hits: 0, commits: 0, rollbacks: 0, deaths: 0, killed: 0, stale: [] }
      let over = false
      let seed = 0
      const children = new Set<ChildProcess>()
      const live = async () => {
        while (!over) {
          const part: TransactionsPart = { file, url, seed: ++seed, rows: ROWS, pendingFor, deaths: 25 }
          const child = await program.start(JSON.stringify(part))
          children.add(child)
          child.on('message', ({ reads, hits, commits, rollbacks, stale }: TransactionsReport) => {
            totals.reads += reads
            totals.hits += hits
            totals.commits += commits
            totals.rollbacks += rollbacks
            totals.stale.push(...stale)
          })
          const exit = once(child, 'exit')
          if (over) stop(child)
          const [, signal] = (await exit) as [number | null, string | null]
          children.delete(child)
          if (signal === 'SIGKILL') totals.killed++
        }
      }
      const lives = Promise.all(Array.from({ length: PROCESSES }, live))
      const end = performance.now() + PATIENCE
      while (!isEnough(totals) && performance.now() < end) await sleep(50)
      over = true
      for (const child of children) stop(child)
      await lives
      totals.deaths = (
        database.prepare('SELECT COUNT(*) AS count FROM death').get() as { count: number }
      ).count
      totals.stale.push(...(await left(url, database)))
      database.close()
      const { stale, ...rest } = totals
      console.log(
        `transactions over ${url.split(':')[0]} ${pendingFor === 0 ? 'without marks' : 'with marks'}: ${JSON.stringify(rest)}, ${stale.length} stale`,
      )
      return totals
    }

    /** Values that are stale for good. */
    async function left(url: string, database: Libsql.Database): Promise<string[]> {
      const { protocol, host } = new URL(url)
      const store =
        protocol === 'memcached:'
          ? memcached({ servers: host, timeout: '20s' })
          : redis({ url, timeout: '20s' })
      const backend = wrap(store, msgpack(), dependencies())
      const region = makeRegion<number>({ name: 'rows', expirationTime: '1h', backend })
      const rows = database.prepare('SELECT id, version FROM row').all() as { id: number; version: number }[]
      const found = await region.getMulti(rows.map(({ id }) => `row ${id}`))
      await region.close()
      return rows.flatMap(({ id, version }, i) =>
        found[i] === NO_VALUE || found[i] === version
          ? []
          : [`row ${id}: ${String(found[i])} stays, ${version} is committed`],
      )
    }

    it.each(['redis', 'memcached'] as const)(
      'has no stale read, also of rows whose transaction died before it could invalidate: %s',
      async (store) => {
        const { stale, reads, hits, killed, deaths } = await play(
          store === 'redis'
            ? `redis://127.0.0.1:${redisAt.port}/0`
            : `memcached://127.0.0.1:${memcachedAt.port}`,
          4_000,
          (so) => so.reads >= FLOOR.reads && so.hits >= FLOOR.hits && so.killed >= FLOOR.killed,
        )
        expect(stale).toEqual([])
        expect(reads).toBeGreaterThanOrEqual(FLOOR.reads)
        expect(hits).toBeGreaterThanOrEqual(FLOOR.hits)
        expect(killed).toBeGreaterThanOrEqual(FLOOR.killed)
        expect(deaths).toBeGreaterThan(0)
      },
      PATIENCE + 60_000,
    )

    it(
      'has stale reads once the names are not marked before the commit',
      async () => {
        const { stale } = await play(`redis://127.0.0.1:${redisAt.port}/1`, 0, (so) => so.stale.length > 0)
        expect(stale.length).toBeGreaterThan(0)
      },
      PATIENCE + 60_000,
    )
  },
)
