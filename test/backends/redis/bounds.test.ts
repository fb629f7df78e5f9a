import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect, it } from 'vitest'
import { type RedisBackendOptions, redis } from '../../../backends/redis/index.js'
import { dependencies } from '../../../proxies/dependencies.js'
import { json } from '../../../proxies/json.js'
import { type CorralError, dependsOn, makeRegion, NO_VALUE, wrap } from '../../../src/index.js'
import { afterCommit, invalidateAfterCommit } from '../../../src/signals/index.js'
import { freePort } from '../../support/servers.js'
import { blockFor, sleep, turn, until } from '../../support/waiting.js'
import { cluster, standalone } from './deployments.js'
import { bytes, freshKey, text, withRedis } from './suite.js'

/** The code of the error, if the work fails, how many ms it took, and when it ended. */
async function fate(
  work: unknown,
): Promise<{ readonly code: string | undefined; readonly ms: number; readonly at: number }> {
  const began = performance.now()
  const code = await Promise.resolve(work).then(
    () => undefined,
    (error: CorralError) => error.code,
  )
  const at = performance.now()
  return { code, ms: at - began, at }
}

withRedis('the time and the number of requests to Redis', standalone, (at) => {
  const frozen = async <T>(work: () => Promise<T>): Promise<T> => {
    const [server] = at().servers
    await server?.kill('SIGSTOP')
    try {
      return await work()
    } finally {
      await server?.kill('SIGCONT')
    }
  }

  it.each<[string, RedisBackendOptions]>([
    ['stamps that are kept for ever', { stampLifetime: Number.POSITIVE_INFINITY }],
    ['stamps that are kept beyond all times', { stampLifetime: 1e21 }],
    ['stamps that are kept for part of a ms', { stampLifetime: 86_400_000.5 }],
    ['marks that live for part of a ms', { pendingFor: 30_000.5 }],
  ])('take any duration: %s', async (_, options) => {
    const region = makeRegion<number>({
      name: freshKey('durations'),
      backend: wrap(at().open(options), json(), dependencies()),
    })
    expect(await region.set('a', 1, { dependencies: ['name'], asOf: 'now' })).toBe('stored')
    expect(await region.getOrCreate('b', () => (dependsOn('name'), 2))).toBe(2)
    expect(await region.getMulti(['a', 'b'])).toEqual([1, 2])
    await afterCommit(() => invalidateAfterCommit(region, 'name'))
    expect(await region.getMulti(['a', 'b'])).toEqual([NO_VALUE, NO_VALUE])
    await region.close()
  })

  it('waits for replicas for whole ms, as WAIT takes them', async () => {
    const backend = at().open({ replicas: { count: 1, timeout: 20.5 } })
    await expect(Promise.resolve(backend.delete('k'))).rejects.toThrow(
      'replicas to have the write within 21 ms',
    )
  })

  it('does not count the time for which this process was busy: the first call is in time', async () => {
    const backend = at().open({ timeout: '2s', breaker: false })
    const calls = Promise.all([backend.get('a'), backend.set('b', bytes('v'), {}), backend.delete('c')])
    blockFor(3_000)
    expect(await calls).toEqual([undefined, 'stored', false])
  })

  it('reads that wait for others to be answered have no more time than those', async () => {
    const backend = at().open({ timeout: '1s', maxBatch: 1, breaker: false })
    await until(async () => (await backend.get('warm')) === undefined)
    const fates = await frozen(async () => {
      const reads: ReturnType<typeof fate>[] = []
      for (let i = 0; i < 24; i++) {
        reads.push(fate(backend.get(`waits ${i}`)))
        await turn()
      }
      return Promise.all(reads)
    })
    expect(new Set(fates.map(({ code }) => code))).toEqual(new Set(['ERR_TIMEOUT']))
    // The last ones would end five timeouts after the first if each four had their own. A busy machine puts off all ends alike.
    const ends = fates.map(({ at }) => at)
    expect(Math.max(...ends) - Math.min(...ends)).toBeLessThan(3_000)
  })

  it('reads that wait are bounded in number', async () => {
    const backend = at().open({ timeout: '500ms', maxBatch: 1, maxWaiting: 10, breaker: false })
    await until(async () => (await backend.get('warm')) === undefined)
    const fates = await frozen(() =>
      Promise.all(Array.from({ length: 20 }, (_, i) => fate(backend.get(`one of many ${i}`)))),
    )
    expect(fates.filter(({ code }) => code === 'ERR_UNAVAILABLE').length).toBe(9)
    expect(fates.filter(({ code }) => code === 'ERR_TIMEOUT').length).toBe(11)
    await until(async () => (await backend.get('warm')) === undefined)
  })

  it.each([Number.POSITIVE_INFINITY, '30d'] as const)(
    'a timeout that no timer can take is kept: %s',
    async (timeout) => {
      const warnings: string[] = []
      const warned = ({ name }: Error) => warnings.push(name)
      process.on('warning', warned)
      const backend = at().open({ timeout })
      await backend.set('patient', bytes('v'), {})
      const reading = await frozen(async () => {
        const asked = [backend.get('patient')]
        await sleep(200)
        return asked
      })
      expect((await Promise.all(reading)).map(text)).toEqual(['v'])
      await backend.close()
      await turn()
      process.off('warning', warned)
      expect(warnings).toEqual([])
    },
  )

  it('a request that was given up is not kept while there is no server', async () => {
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as () => void
    const backend = redis({
      url: `redis://127.0.0.1:${await freePort()}`,
      timeout: '100ms',
      breaker: false,
      recovery: false,
    })
    const given: WeakRef<Buffer>[] = []
    await Promise.all(
      Array.from({ length: 50 }, (_, i) => {
        const value = Buffer.alloc(10_000)
        given.push(new WeakRef(value))
        return fate(backend.set(`${i}`, value, {}))
      }),
    )
    await until(() => {
      collect()
      return given.filter((one) => one.deref() !== undefined).length < 5
    })
    await backend.close()
  })

  it('a reply that arrived while this process was busy counts as arrived in time', async () => {
    const region = makeRegion<string>({
      name: freshKey('busy'),
      backend: wrap(at().open({ timeout: '300ms', recovery: false }), json()),
    })
    // The server knows every script by then: one that it has to be told is a second round trip, and that is late.
    await until(async () => {
      await region.delete('b')
      await region.invalidate()
      await region.getOrCreate('a', () => 'v')
      return (await region.getOrCreate('b', () => 'v')) === 'v'
    })
    const work = Promise.all([region.get('a'), region.delete('b'), region.invalidate()].map(fate))
    await turn()
    await turn()
    const began = performance.now()
    while (performance.now() - began < 1_000);
    expect((await work).map(({ code }) => code)).toEqual([undefined, undefined, undefined])
  })

  it('a lease that was granted too late is given back', async () => {
    const [mine, theirs] = [at().open({ timeout: '300ms' }), at().open()]
    const key = freshKey('orphan')
    await Promise.all([mine.get(key), theirs.get(key)])
    const { code } = await frozen(() => fate(mine.acquire(key, 600_000)))
    expect(code).toBe('ERR_TIMEOUT')
    await until(async () => (await theirs.acquire(key, 600_000)).token !== undefined)
  })
})

withRedis('the time of requests to a Cluster', cluster, (at) => {
  it('reads of a frozen node have one timeout, and no others wait for them', async () => {
    const backend = at().open({ timeout: '2s', breaker: false })
    const keys = Array.from({ length: 30 }, (_, i) => `spread ${i}`)
    await backend.setMulti(keys.map((key) => [key, bytes(key), {}]))
    await backend.getMulti(keys)
    const [, node] = at().servers
    await node?.kill('SIGSTOP')
    const order: string[] = []
    let longest = 0
    const read = async (key: string) => {
      const { code = 'answered', ms } = await fate(backend.get(key))
      order.push(code)
      longest = Math.max(longest, ms)
    }
    try {
      const reads: Promise<void>[] = []
      for (let tick = 0; tick < 8; tick++) {
        reads.push(...keys.map(read))
        await turn()
      }
      await Promise.all(reads)
    } finally {
      await node?.kill('SIGCONT')
    }
    const answered = order.filter((one) => one === 'answered').length
    expect(answered).toBeGreaterThan(50)
    expect(order.length - answered).toBeGreaterThan(20)
    expect(new Set(order.slice(0, answered))).toEqual(new Set(['answered']))
    expect(new Set(order.slice(answered))).toEqual(new Set(['ERR_TIMEOUT']))
    expect(longest).toBeLessThan(3_500)
  })
})
