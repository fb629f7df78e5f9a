import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { redis } from '../../../backends/redis/index.js'
import { dependencies } from '../../../proxies/dependencies.js'
import { json } from '../../../proxies/json.js'
import { type CorralError, makeRegion, NO_VALUE, wrap } from '../../../src/index.js'
import { type Server, startRedis } from '../../support/servers.js'
import { until } from '../../support/waiting.js'
import { bytes, freshKey, granted, text } from './suite.js'

const refusal = async (work: () => unknown): Promise<CorralError> => {
  try {
    await work()
  } catch (error) {
    return error as CorralError
  }
  throw new Error('Expected it to reject')
}

describe.skipIf(inject('servers').redis === null)('a Redis with a replica', () => {
  let [primary, copy]: Server[] = []
  let reader: Redis
  beforeAll(async () => {
    primary = await startRedis()
    copy = await startRedis({ args: ['--replicaof', '127.0.0.1', `${primary.port}`] })
    reader = new Redis({ port: copy.port })
    await until(async () => (await reader.info('replication')).includes('master_link_status:up'))
  }, 60_000)
  afterAll(async () => {
    reader?.disconnect()
    await copy?.kill('SIGCONT')
    await copy?.stop()
    await primary?.stop()
  })
  const open = (timeout: '300ms' | '5s' = '300ms') =>
    redis({ url: `redis://127.0.0.1:${primary?.port}`, timeout: '10s', replicas: { count: 1, timeout } })

  it('has every invalidation and every plain write before it counts', async () => {
    // On a busy machine a replica is slow: this is not about time.
    const backend = open('5s')
    try {
      for (let i = 0; i < 20; i++) {
        const [one, other] = [freshKey(), freshKey()]
        await backend.set(one, bytes('1'), {})
        expect(await reader.get(one)).toBe('1')
        await backend.setMulti([
          [one, bytes('2'), {}],
          [other, bytes('3'), {}],
        ])
        expect(await reader.mget(one, other)).toEqual(['2', '3'])
        await backend.delete(one)
        expect(await reader.get(one)).toBeNull()
      }
    } finally {
      await backend.close()
    }
  })

  it('rejects them in its time while the replica is away, and does them when it is back', async () => {
    const backend = open()
    const theirs = redis(`redis://127.0.0.1:${primary?.port}`)
    const region = makeRegion<string>({ name: 'copied', backend: wrap(backend, json(), dependencies()) })
    try {
      const [key, other] = [freshKey(), freshKey()]
      await backend.set(key, bytes('withheld'), {})
      await region.getOrCreate('whole', () => 'before')
      await copy?.kill('SIGSTOP')
      const began = performance.now()
      for (const work of [
        () => backend.delete(key),
        () => backend.set(other, bytes('x'), {}),
        () => backend.setMulti([[other, bytes('y'), {}]]),
        () => backend.setMulti([other, freshKey()].map((one) => [one, bytes('z'), {}])),
        () => region.invalidate(),
      ]) {
        const error = await refusal(work)
        expect(error.code).toBe('ERR_BACKEND')
        expect(error.message).toContain('Expected 1 replicas to have the write within 300 ms, 0 had it')
      }
      // Each in 300 ms: nothing was sent again, and no timeout of commands was waited for.
      expect(performance.now() - began).toBeLessThan(6_000)
      // A rejected invalidation hides its key in this process until the store has it.
      expect(await backend.get(key)).toBeUndefined()
      expect(await region.get('whole')).toBe(NO_VALUE)
      // A fill waits for no replica: losing it costs one creation.
      const filled = freshKey()
      const token = await granted(backend, filled)
      expect(await backend.set(filled, bytes('made'), { token })).toBe('stored')
      await copy?.kill('SIGCONT')
      await until(async () => (await theirs.get(other)) === undefined)
      await until(async () => text(await backend.get(filled)) === 'made')
      expect(await region.getOrCreate('whole', () => 'after')).toBe('after')
      // The replica may first have to catch up.
      await until(async () => typeof (await backend.delete(filled)) === 'boolean')
      expect(await reader.get(filled)).toBeNull()
    } finally {
      await region.close()
      await theirs.close()
    }
  }, 30_000)
})

it('has less time for replicas than for commands', () => {
  expect(() => redis({ url: 'redis://localhost', timeout: '400ms', replicas: { count: 1 } })).toThrow(
    /`replicas.timeout` to be less than `timeout` \(400 ms\), and at most 24 days, got '500ms'/,
  )
  expect(() =>
    redis({
      url: 'redis://localhost',
      timeout: Number.POSITIVE_INFINITY,
      replicas: { count: 1, timeout: '25d' },
    }),
  ).toThrow('at most 24 days')
})
