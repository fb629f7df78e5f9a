import type { ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import type { Place } from '../histories/places.js'
import { order } from '../support/orders.js'
import { bundleProgram, type Program } from '../support/programs.js'
import { type Server, startMemcached, startRedis } from '../support/servers.js'
import { idle, until } from '../support/waiting.js'
import type { Served, ServingOrder, Source } from './peer-serving.js'

const PROCESSES = 5
const AWAY: Source = { fails: 'away' }
const BACK: Source = { returns: 'new' }

interface Opened {
  readonly place: Place
  end(): unknown
}

const served = async (server: Server, placed: (server: Server) => Place): Promise<Opened> => ({
  place: placed(server),
  end: server.stop,
})

const STORES: Readonly<Record<string, () => Promise<Opened>>> = {
  Redis: async () =>
    served(await startRedis(), ({ port }) => ({
      redis: { url: `redis://127.0.0.1:${port}`, timeout: '20s' },
    })),
  memcached: async () =>
    served(await startMemcached(), ({ port }) => ({
      memcached: { servers: `127.0.0.1:${port}`, timeout: '20s' },
    })),
  LMDB: async () => {
    const folder = mkdtempSync(join(tmpdir(), 'corral-serving-'))
    const end = () => rmSync(folder, { recursive: true, force: true })
    return { place: { lmdb: join(folder, 'data') }, end }
  },
}

let program: Program
let peers: readonly ChildProcess[]
beforeAll(async () => {
  program = await bundleProgram('test/region/peer-serving.ts')
  peers = await Promise.all(Array.from({ length: PROCESSES }, () => program.start()))
}, 60_000)
afterAll(() => program?.end())

describe.each(Object.keys(STORES))('processes that share a source, over %s', (name) => {
  const off =
    name === 'Redis'
      ? inject('servers').redis === null
      : name === 'memcached' && inject('servers').memcached === null
  let opened: Opened
  let regions = 0
  beforeAll(async () => {
    if (!off) opened = await (STORES[name] as () => Promise<Opened>)()
  }, 60_000)
  afterAll(() => opened?.end())

  /** A new region with a stale value, for orders to the peers. */
  const stage = async (options: ServingOrder['options'] = {}) => {
    const region = `${name} ${regions++}`
    const tell = (at: number, work: ServingOrder['do'], more: Partial<ServingOrder> = {}) =>
      order<Served>(peers[at] as ChildProcess, {
        place: opened.place,
        region,
        options,
        key: 'key',
        do: work,
        ...more,
      })
    const readAll = async (source: Source, callers = 20) => {
      const all = await Promise.all(peers.map((_, at) => tell(at, 'read', { source, callers })))
      return {
        runs: all.reduce((sum, { runs }) => sum + runs, 0),
        results: [...new Set(all.flatMap(({ results }) => results))],
      }
    }
    const count = async () => {
      const all = await Promise.all(peers.map((_, at) => tell(at, 'count')))
      return {
        runs: all.reduce((sum, { runs }) => sum + runs, 0),
        aborted: all.reduce((sum, { aborted }) => sum + aborted, 0),
      }
    }
    await tell(0, 'set', { source: { returns: 'old' } })
    return { tell, readAll, count }
  }

  it.skipIf(off)('try it once while it fails, and all callers get the stale value', async () => {
    const { readAll } = await stage({ retryAfter: '1h' })
    expect(await readAll(AWAY)).toEqual({ runs: 1, results: ['old'] })
    expect(await readAll(AWAY)).toEqual({ runs: 0, results: ['old'] })
    expect(await readAll(BACK)).toEqual({ runs: 0, results: ['old'] })
  })

  it.skipIf(off).each(['expire', 'soft name', 'invalidate softly'] as const)(
    'try it at once after %s in one of them',
    async (how) => {
      const { readAll, tell } = await stage({ retryAfter: '1h' })
      await readAll(AWAY)
      await tell(1, how)
      expect(await readAll(AWAY)).toEqual({ runs: 1, results: ['old'] })
      expect(await readAll(BACK)).toEqual({ runs: 0, results: ['old'] })
      await tell(2, how)
      // It may still take another process for the one that renews: where nothing is pushed, for one pause between two looks at the lease.
      await until(async () => (await tell(3, 'read', { source: BACK })).results[0] === 'new')
      expect((await tell(1, 'read', { source: AWAY })).results).toEqual(['new'])
    },
  )

  it.skipIf(off).each(['delete', 'hard name', 'invalidate'] as const)(
    'have nothing to fall back to after %s in one of them',
    async (how) => {
      const { readAll, tell } = await stage({ retryAfter: '1h' })
      await readAll(AWAY)
      await tell(1, how)
      expect((await readAll(AWAY)).results).toEqual(['away'])
      expect((await readAll(BACK)).results).toEqual(['new'])
    },
  )

  it.skipIf(off)('serve the stale value in time while another process creates', async () => {
    const { tell, count } = await stage({ softTimeout: 20 })
    expect((await tell(0, 'read')).results).toEqual(['old'])
    for (const at of [1, 2]) expect((await tell(at, 'read', { source: BACK })).results).toEqual(['old'])
    // One run for the set.
    await until(async () => (await count()).runs === 2)
    await idle()
    expect(await count()).toEqual({ runs: 2, aborted: 0 })
  })

  it.skipIf(off)('have the new value once a creation has ended whose caller took the stale one', async () => {
    const { tell, count } = await stage({ softTimeout: 20, expirationTime: '1h' })
    await tell(1, 'expire')
    expect((await tell(0, 'read')).results).toEqual(['old'])
    await until(async () => (await count()).runs === 2)
    await tell(0, 'release', { source: BACK })
    await until(async () => (await tell(2, 'read', { source: AWAY })).results[0] === 'new')
    expect(await count()).toEqual({ runs: 2, aborted: 0 })
  })

  it.skipIf(off).each(['delete', 'hard name', 'invalidate'] as const)(
    'do not store a value whose creation was invalidated, by %s, after its caller took the stale one',
    async (how) => {
      const { tell, count } = await stage({ softTimeout: 20, expirationTime: '1h' })
      await tell(1, 'expire')
      expect((await tell(0, 'read')).results).toEqual(['old'])
      // A busy machine may reach the deadline before the creator starts.
      await until(async () => (await count()).runs === 2)
      await tell(1, how)
      await tell(0, 'release', { source: { returns: 'void' } })
      expect((await tell(0, 'read', { source: AWAY })).results).toEqual(['away'])
      expect((await tell(2, 'read', { source: BACK })).results).toEqual(['new'])
    },
  )

  it.skipIf(off)(
    'call off a creation whose only caller is at its deadline, with nothing to serve',
    async () => {
      const { tell, count } = await stage({ lease: { ms: 300 }, expirationTime: '1h' })
      await tell(0, 'delete')
      const late = await tell(0, 'read', { hardTimeout: 2_000 })
      expect(late.results).toEqual(['ERR_CREATION_TIMEOUT'])
      expect(await count()).toEqual({ runs: 2, aborted: 1 })
      await tell(1, 'set', { source: BACK })
      expect((await tell(2, 'read')).results).toEqual(['new'])
    },
  )

  it.skipIf(off)(
    'create after another one gave a creation up that hangs, whose late value is not stored',
    async () => {
      const { tell } = await stage({ abandonAfter: 200, lease: { ms: 300 }, expirationTime: '1h' })
      await tell(0, 'delete')
      const hanging = tell(0, 'read')
      expect((await tell(1, 'read', { source: BACK })).results).toEqual(['new'])
      // Its reads may have been the first or the last to come.
      expect(['ERR_CREATION_TIMEOUT', 'new']).toContain((await hanging).results[0])
      await tell(0, 'release', { source: { returns: 'late' } })
      for (const at of [0, 2]) expect((await tell(at, 'read', { source: AWAY })).results).toEqual(['new'])
    },
  )

  it.skipIf(off)('renew a value ahead of its end once, also if that fails', async () => {
    const { readAll, count } = await stage({ expirationTime: '1h', refreshAhead: 1e-9, retryAfter: '1h' })
    for (let i = 0; i < 3; i++) expect((await readAll(AWAY, 200)).results).toEqual(['old'])
    await until(async () => (await count()).runs === 2)
    for (let i = 0; i < 3; i++) expect((await readAll(BACK)).results).toEqual(['old'])
    expect(await count()).toEqual({ runs: 2, aborted: 0 })
  })

  it.skipIf(off)('agree on the lifetime of a value, which is no longer than it was asked for', async () => {
    const { tell } = await stage({ expirationTime: 1_000_000, jitter: 1 })
    const lives = (await Promise.all(peers.map((_, at) => tell(at, 'lifetime')))).map(
      ({ results }) => results[0],
    )
    expect(new Set(lives).size).toBe(1)
    expect(Number(lives[0])).toBeLessThanOrEqual(1_000_000)
    expect(lives[0]).not.toBe('1000000')
  })

  it.skipIf(off).each(['delete', 'hard name', 'invalidate'] as const)(
    'do not revive what %s reached in one of them while another tried',
    async (how) => {
      const { tell } = await stage()
      const trying = tell(0, 'read', { source: AWAY })
      await tell(1, how)
      const { results } = await trying
      // The invalidation may come before the call, or after its end; in between nothing may be served.
      expect(['old', 'away']).toContain(results[0])
      expect((await tell(0, 'read', { source: AWAY })).results).toEqual(['away'])
      expect((await tell(2, 'read', { source: AWAY })).results).toEqual(['away'])
    },
  )
})
