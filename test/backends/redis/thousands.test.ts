import { AsyncLocalStorage } from 'node:async_hooks'
import { expect, it, vi } from 'vitest'
import { clockKeys } from '../../../backends/redis/format.js'
import { dependencies } from '../../../proxies/dependencies.js'
import { json } from '../../../proxies/json.js'
import { performance as clock } from '../../../src/base/timers.js'
import { dependsOn, makeRegion, NO_VALUE, wrap } from '../../../src/index.js'
import { judge } from '../../support/ledgers.js'
import { turn, until } from '../../support/waiting.js'
import { cluster, standalone } from './deployments.js'
import { bytes, freshKey, withRedis } from './suite.js'

// Thousands of commands take their time on a busy machine.
vi.setConfig({ testTimeout: 240_000 })

/** More than one call may have under way, and more than one batch of leases. */
const MANY = 1_200

for (const [where, start] of Object.entries({ 'a standalone Redis': standalone, 'a Cluster': cluster }))
  withRedis(`thousands of keys at once, on ${where}`, start, (at) => {
    const open = (maxPending: number, maxWaiting: number) =>
      makeRegion<number>({
        name: freshKey('thousands'),
        expirationTime: '1h',
        // Longer than any machine takes for all of them.
        lease: { ms: 600_000 },
        backend: wrap(at().open({ maxPending, maxWaiting, timeout: '60s' }), json()),
      })
    const keys = Array.from({ length: MANY }, (_, i) => `k${i}`)

    it('single calls wait for their turn', async () => {
      const region = open(50, 8 * MANY)
      const all = <R>(work: (i: number) => Promise<R>) => Promise.all(keys.map((_, i) => work(i)))
      expect(await all((i) => region.getOrCreate(`k${i}`, async () => i))).toEqual([...keys.keys()])
      expect(await all((i) => region.get(`k${i}`))).toEqual([...keys.keys()])
      expect(new Set(await all((i) => region.set(`k${i}`, -i)))).toEqual(new Set(['stored']))
      await all((i) => region.expire(`k${i}`))
      await all((i) => region.delete(`k${i}`))
      expect(new Set(await all((i) => region.get(`k${i}`)))).toEqual(new Set([NO_VALUE]))
      await region.close()
    })

    it('one call asks for them in slices that fit', async () => {
      const region = open(20, where === 'a Cluster' ? 8 * MANY : 1_000)
      const keys = Array.from({ length: MANY }, (_, i) => `m${i}`)
      const create = (missing: readonly string[]) => missing.map(() => 1)
      expect(await region.getMulti(keys)).toEqual(keys.map(() => NO_VALUE))
      expect(await region.getOrCreateMulti(keys, create)).toEqual(keys.map(() => 1))
      expect(await region.getMulti(keys)).toEqual(keys.map(() => 1))
      await region.setMulti(keys.map((key) => [key, 2]))
      await region.deleteMulti(keys)
      expect(await region.getMulti(keys)).toEqual(keys.map(() => NO_VALUE))
      await expect(
        region.getOrCreateMulti(keys, () => {
          throw new Error('no')
        }),
      ).rejects.toThrow('no')
      await region.close()
    })
  })

for (const [where, start, count] of [
  // More than one call of a function can take as parameters.
  ['a standalone Redis', standalone, 150_000],
  // Each name of a Cluster is a command of its own.
  ['a Cluster', cluster, 10_001],
] as const)
  withRedis(`thousands of names at once, on ${where}`, start, (at) => {
    const open = () =>
      makeRegion<number>({
        name: freshKey('names'),
        backend: wrap(at().open({ timeout: '60s' }), json(), dependencies()),
      })

    it('are invalidated in slices, the first and the last of each', async () => {
      const region = open()
      const names = Array.from({ length: count }, (_, i) => `row:${i}`)
      const bounds = [0, 9_999, 10_000, count - 1]
      for (const mode of ['hard', 'soft'] as const) {
        for (const i of bounds) await region.set(`of ${i}`, i, { dependencies: [`row:${i}`], asOf: 'now' })
        await region.set('another', 1, { dependencies: ['another'], asOf: 'now' })
        await region.invalidateDependencies(names, mode)
        expect(await region.getMulti(bounds.map((i) => `of ${i}`)), mode).toEqual(bounds.map(() => NO_VALUE))
        expect(await region.get('another'), mode).toBe(1)
      }
      await region.close()
    })

    it('are marked by a transaction until it ends', async () => {
      const { ledger } = at().open({ timeout: '60s', pendingFor: '1h' })
      const clock = freshKey('clock')
      const on = ledger?.open(clock)
      if (ledger === undefined || on === undefined) throw new Error('Expected a ledger')
      const names = Array.from({ length: count }, (_, i) => `marked:${i}`)
      const verdicts = (): Promise<string[]> =>
        Promise.all(
          ['marked:0', `marked:${count - 1}`].map(async (name) => {
            const { epoch, at: asOf } = await on.now([name])
            return judge(ledger, clock, { epoch, groups: [{ asOf, names: [name] }] })
          }),
        )
      expect(await on.pending?.(names, 'hard', 'one')).toBe(3_600_000)
      expect(await verdicts()).toEqual(['invalid', 'invalid'])
      await on.invalidate(names, 'hard', 'one')
      expect(await verdicts()).toEqual(['fresh', 'fresh'])
      expect(await at().admin.exists(clockKeys(clock).pending)).toBe(0)
    })

    it('are those of one value', async () => {
      const region = open()
      const names = Array.from({ length: count }, (_, i) => `part:${i}`)
      expect(await region.set('whole', 1, { dependencies: names, asOf: 'now' })).toBe('stored')
      expect(await region.getOrCreate('made', () => (dependsOn(names), 2))).toBe(2)
      expect(await region.getMulti(['whole', 'made'])).toEqual([1, 2])
      await region.invalidateDependencies(`part:${count - 1}`)
      expect(await region.getMulti(['whole', 'made'])).toEqual([NO_VALUE, NO_VALUE])
      await region.close()
    })
  })

withRedis('an invalidation of thousands of names', standalone, (at) => {
  it('is repeated whole if the server freezes between two slices', async () => {
    const { admin } = at()
    const [server] = at().servers
    const client = admin as unknown as { evalsha(...given: unknown[]): Promise<unknown> }
    const evalsha = client.evalsha.bind(client)
    let slices = 0
    client.evalsha = async (...given) => {
      if (given.flat().length > 10_000 && ++slices === 2) await server?.kill('SIGSTOP')
      return evalsha(...given)
    }
    const { redis } = await import('../../../backends/redis/index.js')
    const region = makeRegion<number>({
      name: freshKey('frozen'),
      backend: wrap(redis({ client: admin as never, timeout: '1s', breaker: false }), json(), dependencies()),
    })
    try {
      const names = Array.from({ length: 20_001 }, (_, i) => `row:${i}`)
      for (const i of [0, 10_000, 20_000])
        await region.set(`of ${i}`, i, { dependencies: [`row:${i}`], asOf: 'now' })
      await region.set('another', 1, { dependencies: ['another'], asOf: 'now' })
      await expect(region.invalidateDependencies(names)).rejects.toMatchObject({ code: 'ERR_TIMEOUT' })
      await server?.kill('SIGCONT')
      // Until the repetition is through, every read is a miss.
      await until(async () => (await region.get('another')) === 1)
      expect(slices).toBe(4)
      expect(await region.getMulti(['of 0', 'of 10000', 'of 20000'])).toEqual([NO_VALUE, NO_VALUE, NO_VALUE])
    } finally {
      await server?.kill('SIGCONT')
      client.evalsha = evalsha
      await region.close()
    }
  })
})

withRedis('thousands of writes of one call', standalone, (at) => {
  it('go in slices, so that other callers come in between and each slice has a deadline of its own', async () => {
    const backend = at().open({ timeout: '60s' })
    const prefix = freshKey('slices')
    await backend.get(prefix)
    let isOver = false
    const writes = Array.from({ length: 8_000 }, (_, i) => [`${prefix} ${i}`, bytes(`${i}`), {}] as const)
    const written = Promise.resolve(backend.setMulti(writes)).finally(() => {
      isOver = true
    })
    let between = 0
    while (!isOver) {
      await backend.get(prefix)
      if (!isOver) between++
    }
    expect(between).toBeGreaterThanOrEqual(4)
    expect(new Set(await written)).toEqual(new Set(['stored']))
    expect(await backend.getMulti(writes.map(([key]) => key))).toHaveLength(writes.length)
    await backend.close()
  })
})

withRedis('commands that wait for their turn', standalone, (at) => {
  it('are bounded in number, and have one timeout when the server hangs', async () => {
    const backend = at().open({ timeout: '500ms', maxPending: 2, maxWaiting: 3, breaker: false })
    const [server] = at().servers
    await until(async () => (await backend.get('warm')) === undefined)
    await server?.kill('SIGSTOP')
    const codes = await Promise.all(
      Array.from({ length: 9 }, async (_, i) => {
        try {
          await backend.delete(`${i}`)
          return 'done'
        } catch (error) {
          return (error as { code?: string }).code
        }
      }),
    )
    await server?.kill('SIGCONT')
    expect(codes).toEqual([...Array(5).fill('ERR_TIMEOUT'), ...Array(4).fill('ERR_UNAVAILABLE')])
  })

  it('wait longer than one timeout as long as replies come', async () => {
    const now = clock.now.bind(clock)
    let ahead = 0
    clock.now = () => now() + ahead
    try {
      const backend = at().open({ timeout: '20s', maxPending: 1, breaker: false, recovery: false })
      await backend.get('warm')
      // Each reply comes eleven seconds after the one before it, on the clock that deadlines are read from.
      const waiting = [1, 2, 3].map(async (i) => {
        await backend.delete(`${i}`)
        ahead += 11_000
      })
      await Promise.all(waiting)
      expect(await backend.get('warm')).toBeUndefined()
    } finally {
      clock.now = now
    }
  })

  it('are written with the time that begins with their turn', async () => {
    const now = clock.now.bind(clock)
    let ahead = 0
    const { admin } = at()
    const client = admin as unknown as { evalsha(...given: unknown[]): unknown }
    const evalsha = client.evalsha.bind(client)
    const deadlines: number[] = []
    client.evalsha = (sha, count, ...given) => {
      deadlines.push(Number(given.flat()[Number(count) + 4]))
      return evalsha(sha, count, ...given)
    }
    clock.now = () => now() + ahead
    try {
      const { redis } = await import('../../../backends/redis/index.js')
      const backend = redis({ client: admin as never, timeout: '20s', maxPending: 1, breaker: false })
      await backend.get('warm')
      const waiting = [1, 2, 3].map(async (i) => {
        await backend.set(`w${i}`, bytes('v'), {})
        ahead += 11_000
      })
      await Promise.all(waiting)
      await backend.close()
    } finally {
      clock.now = now
      client.evalsha = evalsha
    }
    // The server refuses a write after its time, in µs. The third one waited for two replies, eleven seconds each.
    expect((deadlines.at(-1) as number) - (deadlines[0] as number)).toBeGreaterThan(10_000_000)
  })

  it('go on in the asynchronous context of their own caller', async () => {
    const tenant = new AsyncLocalStorage<number>()
    const seen: (number | undefined)[] = []
    const backend = at().open({ maxPending: 1 })
    await until(async () => (await backend.get('warm')) === undefined)
    const { admin } = at()
    const client = admin as unknown as { evalsha(...given: unknown[]): unknown }
    const evalsha = client.evalsha.bind(client)
    client.evalsha = (...given) => {
      seen.push(tenant.getStore())
      return evalsha(...given)
    }
    const { redis } = await import('../../../backends/redis/index.js')
    const over = redis({ client: admin as never, maxPending: 1 })
    await Promise.all([1, 2, 3].map((i) => tenant.run(i, async () => over.set(`c${i}`, bytes('v'), {}))))
    await turn()
    await over.close()
    expect(seen).toEqual([1, 2, 3])
  })
})
