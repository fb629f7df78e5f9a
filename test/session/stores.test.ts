/** Versions over every store, with two regions of one name as two processes would have them. */
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, inject, it, vi } from 'vitest'
import { lmdb } from '../../backends/lmdb/index.js'
import { memcached } from '../../backends/memcached/index.js'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { json } from '../../proxies/json.js'
import { msgpack } from '../../proxies/msgpack.js'
import { prefix } from '../../proxies/prefix.js'
import {
  type Backend,
  type CachedFunction,
  type CachedValue,
  dep,
  makeRegion,
  NO_VALUE,
  type Region,
  wrap,
} from '../../src/index.js'
import { session, type VersionedFunction, versioned } from '../../src/session/index.js'
import { temporaryFolder } from '../backends/lmdb/support.js'
import { cluster, type Deployment, standalone } from '../backends/redis/deployments.js'
import { LONG } from '../support/long.js'
import { type Server, startMemcached } from '../support/servers.js'
import { gate, sleep } from '../support/waiting.js'
import { table } from './support.js'

interface Store {
  /** Another connection to the same data, as another process has it. */
  open(): Backend<CachedValue>
  stop?(): Promise<unknown> | unknown
}

const overRedis = (deployment: Deployment): Store => ({
  open: () => wrap(deployment.open(), msgpack(), dependencies(), prefix('v:')),
  stop: () => deployment.stop(),
})

const stores: Record<string, { readonly needs?: 'redis' | 'memcached'; start(): Promise<Store> }> = {
  memory: {
    async start() {
      const store = memory()
      return { open: () => wrap(store, dependencies(), prefix('v:')) }
    },
  },
  'memory, encoded': {
    async start() {
      const store = memory({ stores: 'bytes' })
      return { open: () => wrap(store, json(), dependencies(), prefix('v:')) }
    },
  },
  lmdb: {
    async start() {
      const file = join(temporaryFolder(), 'versions.mdb')
      return { open: () => wrap(lmdb(file), msgpack(), dependencies(), prefix('v:')) }
    },
  },
  redis: { needs: 'redis', start: async () => overRedis(await standalone()) },
  'redis cluster': { needs: 'redis', start: async () => overRedis(await cluster()) },
  memcached: {
    needs: 'memcached',
    async start() {
      const server: Server = await startMemcached()
      return {
        open: () => wrap(memcached(`127.0.0.1:${server.port}`), msgpack(), dependencies(), prefix('v:')),
        stop: () => server.stop(),
      }
    },
  },
}

interface Part {
  readonly region: Region<string>
  readonly cached: VersionedFunction<[], string>
  readonly read: CachedFunction<[], string>
}

let unique = 0

for (const [name, { needs, start }] of Object.entries(stores))
  describe.skipIf(needs !== undefined && inject('servers')[needs] === null)(`versions over ${name}`, () => {
    let store: Store
    beforeAll(async () => {
      store = await start()
    })
    afterAll(() => store.stop?.())

    /** The same functions in two processes: one table, each with a region, a versioned read and a page made from it. */
    function processes(slow = async () => {}) {
      const namespace = `row${++unique}`
      const data = table()
      const load = async (id: string) => {
        const text = data.read(id)
        await slow()
        return text
      }
      const row = dep.version(namespace, async (id: string) => data.version(id))
      const open = () => {
        const region = makeRegion<string>({ name: namespace, backend: store.open() })
        const cached = versioned({ namespace: `${namespace} v`, version: data.version, region })(load)
        const read = region.cacheOnArguments({
          namespace: `${namespace} read`,
          dependencies: (id: string) => row(id),
        })(load)
        const page = region.cacheOnArguments({ namespace: `${namespace} page` })(async (...ids: string[]) =>
          (await Promise.all(ids.map((id) => read(id)))).join(' '),
        )
        return { region, cached, read, page }
      }
      const both = [open(), open()] as const
      return { ...data, both, close: () => Promise.all(both.map(({ region }) => region.close())) }
    }

    it('are seen by the process that did not make the value', async () => {
      const { write, seen, both, close } = processes()
      const [one, other] = both
      write('a', 'one')
      for (const fn of ['cached', 'read', 'page'] as const) {
        expect(await session.run(() => one[fn]('a'))).toBe('one')
        expect(await session.run(() => other[fn]('a'))).toBe('one')
        expect(await session.run(() => other[fn].get('a'))).toBe('one')
      }
      expect(seen.reads).toBe(2)
      const told = () => Promise.all(both.map(({ region, page }) => region.explain(page.key('a'))))
      for (const { verdict } of await told()) expect(verdict).toBe('hit')
      write('a', 'two')
      for (const { verdict, reason, invalidated, dependsOn } of await told()) {
        expect([verdict, invalidated.length]).toEqual(['miss', 1])
        expect(reason).toMatch(/^invalidated: ~version:row\d+:\["a"\]:1$/)
        expect(dependsOn).toContain(invalidated[0])
      }
      for (const fn of ['cached', 'read', 'page'] as const) {
        expect(await session.run(() => other[fn].get('a'))).toBe(NO_VALUE)
        expect(await session.run(() => other[fn]('a'))).toBe('two')
        expect(await session.run(() => one[fn]('a'))).toBe('two')
      }
      expect(seen.reads).toBe(4)
      await close()
    })

    it('make one value for the callers of both processes', async () => {
      const { write, seen, both, close } = processes()
      write('a', 'one')
      const calls = both.flatMap(({ cached }) => [1, 2, 3].map(() => session.run(() => cached('a'))))
      expect(await Promise.all(calls)).toEqual(calls.map(() => 'one'))
      expect(seen.reads).toBe(1)
      await close()
    })

    it('are all reached by an invalidation, from the other process too', async () => {
      const { write, both, seen, close } = processes()
      const [one, other] = both
      write('a', 'one')
      await session.run(async () => {
        await one.cached('a')
        write('a', 'two')
        await session.run(() => one.cached('a'))
        expect(seen.reads).toBe(2)
        await other.cached.invalidate('a')
        expect(await one.cached.get('a')).toBe(NO_VALUE)
        expect(await session.run(() => one.cached.get('a'))).toBe(NO_VALUE)
      })
      await close()
    })

    const nonsense: readonly [string, () => unknown][] = [
      ['an object', () => ({ version: 1 })],
      ['a list', () => [1]],
      ['no number', () => Number.NaN],
      ['no date', () => new Date(Number.NaN)],
      ['a boolean', () => true],
      ['a symbol', () => Symbol('v')],
      ['a function', () => () => 1],
      [
        'an error that it throws',
        () => {
          throw new Error('down')
        },
      ],
      ['a rejection', () => Promise.reject(new Error('down'))],
      ['a promise of an object', async () => ({})],
      ['a promise that never settles', () => new Promise(() => {})],
    ]

    it.each(nonsense)(
      'whose check returns %s are a miss or an error, never the stored value',
      async (_, answer) => {
        const namespace = `nonsense ${++unique}`
        let check: () => unknown = () => 'v1'
        let text = 'one'
        const version = () => check() as string
        const dependency = dep.version(namespace, version, { timeout: 50 })
        const [one, other] = [1, 2].map(() => {
          const region = makeRegion<string>({ name: namespace, backend: store.open() })
          return {
            region,
            cached: versioned({ namespace: `${namespace} v`, version, region, timeout: 50 })(() => text),
            read: region.cacheOnArguments({
              namespace: `${namespace} read`,
              dependencies: () => dependency(),
            })(() => text),
          }
        }) as [Part, Part]
        const both = [one, other] as const
        for (const { cached, read } of both) expect([await cached(), await read()]).toEqual(['one', 'one'])
        text = 'two'
        check = answer
        for (const { cached, read } of both)
          for (const inSession of [<R>(run: () => R) => run(), session.run]) {
            await expect(inSession(() => cached())).rejects.toThrow()
            await expect(inSession(() => cached.get())).rejects.toThrow()
            await expect(inSession(() => read())).rejects.toThrow()
            expect(await inSession(() => read.get())).toBe(NO_VALUE)
          }
        check = () => 'v2'
        for (const { cached, read } of both) expect([await cached(), await read()]).toEqual(['two', 'two'])
        for (const { region } of both) await region.close()
      },
    )

    it.each([undefined, null, ''])('whose check answers %o have the default one', async (nothing) => {
      const namespace = `nothing ${++unique}`
      let answer: unknown = nothing
      const version = () => answer as string
      const dependency = dep.version(namespace, version)
      const region = makeRegion<number>({ name: namespace, backend: store.open() })
      let [runs, reads] = [0, 0]
      const cached = versioned({ namespace: `${namespace} v`, version, region })(() => ++runs)
      const read = region.cacheOnArguments({
        namespace: `${namespace} read`,
        dependencies: () => dependency(),
      })(() => ++reads)
      for (let i = 0; i < 2; i++) expect([await cached(), await read()]).toEqual([1, 1])
      // A version that reads like the default is another one.
      answer = '-1'
      for (let i = 0; i < 2; i++) expect([await cached(), await read()]).toEqual([2, 2])
      await region.close()
    })

    it('of a session that ends while a value is made are those that it knew', async () => {
      const made = gate()
      const { write, seen, both, close } = processes(() => made.opened)
      const [one, other] = both
      write('a', 'one')
      let left: Promise<string[]> | undefined
      session.run(() => {
        left = Promise.all([one.cached('a'), one.read('a'), one.page('a')])
      })
      // The versions were read before the rows, and both rows are there by then.
      await vi.waitUntil(() => seen.reads === 2, { timeout: 20_000 })
      write('a', 'two')
      made.open()
      const [cached, read, page] = await (left as Promise<string[]>)
      expect([cached, read]).toEqual(['one', 'one'])
      // Inside the page's creator the session was over, so it may have asked again.
      expect(['one', 'two']).toContain(page)
      for (const fn of ['cached', 'read', 'page'] as const) {
        for (const found of [await other[fn].get('a'), await session.run(() => one[fn].get('a'))])
          if (fn !== 'cached') expect(['two', NO_VALUE], fn).toContain(found)
          else expect(found).toBe(NO_VALUE)
        expect(await other[fn]('a'), fn).toBe('two')
      }
      await close()
    })

    it('never return a value older than the version that a session knows', async () => {
      const pause = () => sleep(Math.random() * 4)
      const { write, both, close } = processes(pause)
      const ids = ['a', 'b', 'c']
      const written = new Map(ids.map((id) => [id, 0]))
      const until = performance.now() + (LONG ? 20_000 : 1_200)
      const counts = { sessions: 0, reads: 0, writes: 0, during: 0 }
      // On a busy machine it takes longer until enough has happened.
      const goesOn = () => {
        const now = performance.now()
        const enough = counts.sessions > 20 && counts.writes > 20 && counts.during > 5
        return now < until || (!enough && now < until + 20_000)
      }
      let under = 0
      const random = <T>(from: readonly T[]): T => from[Math.floor(Math.random() * from.length)] as T
      for (const id of ids) write(id, '0')
      const writer = async () => {
        while (goesOn()) {
          await pause()
          const id = random(ids)
          const next = (written.get(id) ?? 0) + 1
          write(id, String(next))
          written.set(id, next)
          counts.writes++
          if (under > 0) counts.during++
        }
      }
      const reader = async () => {
        while (goesOn())
          await session.run(async () => {
            counts.sessions++
            // From its first question for a version on, a session may see nothing older than the rows of that moment.
            const least = new Map<string, number>()
            for (let i = 0; i < 4; i++) {
              const id = random(ids)
              const fn = random(['cached', 'read', 'page'] as const)
              const asked = `${fn === 'cached'} ${id}`
              if (!least.has(asked)) least.set(asked, written.get(id) ?? 0)
              under++
              const value = Number(await random(both)[fn](id))
              under--
              counts.reads++
              if (!(value >= (least.get(asked) ?? 0)))
                throw new Error(`${fn}('${id}') answered ${value}, but ${least.get(asked)} was known`)
              if (i === 1) await pause()
            }
          })
      }
      await Promise.all([writer(), ...Array.from({ length: 6 }, reader)])
      console.log(`[versions] ${name}: ${JSON.stringify(counts)}`)
      expect(counts.sessions).toBeGreaterThan(20)
      expect(counts.writes).toBeGreaterThan(20)
      expect(counts.during).toBeGreaterThan(5)
      await close()
    }, 60_000)
  })
