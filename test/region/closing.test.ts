import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { lmdb } from '../../backends/lmdb/index.js'
import { memcached } from '../../backends/memcached/index.js'
import { memory } from '../../backends/memory/index.js'
import { redis } from '../../backends/redis/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { json } from '../../proxies/json.js'
import { type Backend, type CachedValue, dep, makeRegion, wrap } from '../../src/index.js'
import { bundleProgram, type Program } from '../support/programs.js'
import { type Server, startMemcached, startRedis } from '../support/servers.js'
import { later } from '../support/stage.js'
import { deferred, idle, turn } from '../support/waiting.js'

const folder = mkdtempSync(join(tmpdir(), 'corral-closing-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
let files = 0
let server: Server | undefined
const STORES: Readonly<
  Record<string, { readonly start?: () => Promise<Server>; readonly open: () => Backend<CachedValue> }>
> = {
  memory: { open: () => wrap(memory(), dependencies()) },
  'a store that answers later': { open: () => wrap(memory(), later, dependencies()) },
  lmdb: { open: () => wrap(lmdb(join(folder, `${++files}.mdb`)), json(), dependencies()) },
  redis: {
    start: startRedis,
    open: () =>
      wrap(redis({ url: `redis://127.0.0.1:${server?.port}`, timeout: '20s' }), json(), dependencies()),
  },
  memcached: {
    start: startMemcached,
    open: () =>
      wrap(memcached({ servers: `127.0.0.1:${server?.port}`, timeout: '20s' }), json(), dependencies()),
  },
}

for (const [kind, { start, open }] of Object.entries(STORES))
  describe.skipIf(start !== undefined && inject('servers').redis === null)(
    `closing a region over ${kind}`,
    () => {
      beforeAll(async () => {
        server = await start?.()
      })
      afterAll(async () => {
        await server?.stop()
        server = undefined
      })

      it.each([0, 1, 5])('lets calls end that began %i turns earlier, with their results', async (turns) => {
        const region = makeRegion<unknown>({ name: `r${turns}`, backend: open() })
        if (turns > 0) await region.get('warm')
        const asOf = await region.asOf()
        const release = deferred()
        const calls = {
          getOrCreate: region.getOrCreate('key', async () => (await release.promise, 'created')),
          joined: region.getOrCreate('key', () => expect.unreachable()),
          getOrCreateMulti: region.getOrCreateMulti(
            ['x', 'y'],
            async (keys) => (await release.promise, keys),
          ),
          set: region.set('set', 1),
          setMulti: region.setMulti([['a', 1]], { dependencies: dep.tag('t'), asOf }),
          get: region.get('missing'),
          getMulti: region.getMulti(['missing']),
          has: region.has('missing'),
          delete: region.delete('deleted'),
          expire: region.expire('expired'),
          invalidate: region.invalidateDependencies(dep.tag('u')),
        }
        for (let i = 0; i < turns; i++) await turn()
        const closed = region.close()
        await idle(3)
        release.resolve()
        const results = await Promise.allSettled(Object.values(calls))
        expect(results.filter(({ status }) => status === 'rejected')).toEqual([])
        expect(await calls.getOrCreate).toBe('created')
        expect(await calls.joined).toBe('created')
        expect(await calls.getOrCreateMulti).toEqual(['x', 'y'])
        expect(await calls.set).toBe('stored')
        await closed
        await expect(region.get('key')).rejects.toMatchObject({ code: 'ERR_CLOSED' })
      })

      it('lets calls end of a region that was closed before the last one', async () => {
        const backend = open()
        const [one, other] = [
          makeRegion<string>({ name: 'one', backend }),
          makeRegion({ name: 'other', backend }),
        ]
        const release = deferred()
        const created = one.getOrCreate('key', async () => (await release.promise, 'created'))
        const closed = [one.close(), other.close()]
        await idle(3)
        release.resolve()
        expect(await created).toBe('created')
        await Promise.all(closed)
      })

      it('waits for a creation that hangs for as long as a lease', async () => {
        const region = makeRegion<string>({ name: 'hangs', backend: open(), lease: { ms: 50 } })
        region.getOrCreate('key', () => new Promise<string>(() => {})).catch(() => {})
        await idle(3)
        await region.close()
      })
    },
  )

describe('a process', () => {
  let program: Program
  beforeAll(async () => {
    program = await bundleProgram('test/region/peer-ending.ts')
  })
  afterAll(() => program.end())

  it.each(['hanging', 'joined', 'abandoned', 'two regions'])(
    'ends although a creation never does: %s',
    async (kind) => {
      const child = await program.start(kind)
      const ended = new Promise<number | null>((resolve) => child.once('exit', resolve))
      expect(await ended).toBe(0)
    },
  )

  it('waits for the lease of another process, and so stays until that is over', async () => {
    const child = await program.start('another process', join(folder, 'shared.mdb'))
    const message = new Promise<unknown>((resolve) => child.once('message', resolve))
    const ended = new Promise<number | null>((resolve) => child.once('exit', resolve))
    expect(await message).toBe('created after the lease')
    expect(await ended).toBe(0)
  })
})

describe('a duration beyond the longest timer', () => {
  it('is none of 1 ms anywhere', async () => {
    const warnings: string[] = []
    const listen = (warning: Error) => void warnings.push(warning.name)
    process.on('warning', listen)
    const lease = { ms: '100d', wait: '100d' } as const
    const options = { name: 'shared', keyspace: 'shared', backend: memory(), lease }
    const [one, other] = [makeRegion<string>(options), makeRegion<string>(options)]
    const release = deferred()
    const created = one.getOrCreate('key', async () => (await release.promise, 'created'))
    await idle(3)
    let settled = false
    const waiting = other.getOrCreate('key', () => 'alone').finally(() => (settled = true))
    const joined = one.getOrCreate('key', () => 'alone', { hardTimeout: '1000d' })
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(settled).toBe(false)
    release.resolve()
    expect(await Promise.all([created, waiting, joined])).toEqual(['created', 'created', 'created'])
    await Promise.all([one.close(), other.close()])
    await idle(2)
    process.off('warning', listen)
    expect(warnings).toEqual([])
  })
})

it('lets refreshDependencies() end that began before, with new values', async () => {
  const backend = wrap(memory(), dependencies())
  const region = makeRegion<number>({ name: 'closed', backend })
  // A second region keeps the backend open.
  const other = makeRegion<number>({ name: 'other', backend })
  let runs = 0
  const cached = region.cacheOnArguments(async () => ++runs, {
    namespace: 'n',
    dependencies: () => dep.tag('t'),
  })
  await cached()
  const refreshed = region.refreshDependencies(dep.tag('t'))
  await region.close()
  await refreshed
  expect(runs).toBe(2)
  await expect(cached()).rejects.toMatchObject({ code: 'ERR_CLOSED' })
  await other.close()
})
