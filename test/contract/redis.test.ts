import { randomUUID } from 'node:crypto'
import { describe, it } from 'vitest'
import { json } from '../../proxies/json.js'
import { prefix } from '../../proxies/prefix.js'
import { makeRegion, wrap } from '../../src/index.js'
import { backendContract } from '../../src/testing/index.js'
import { bytes, everywhere } from '../backends/redis/suite.js'

/** A key of 1 MB takes its time on a Cluster, and more of it on a busy machine. */
const PATIENCE = 180_000
const runner = {
  describe,
  it: (title: string, body: () => void | Promise<void>) => void it(title, body, PATIENCE),
}
const values = [bytes('one'), bytes('two'), Buffer.from([0, 255, 10])] as const

everywhere('the contract', (at) => {
  // One server for all cases: each has keys of its own.
  backendContract('redis', () => wrap(at().open(), prefix(`${randomUUID()}:`)), { values, runner })

  it('of a region holds over it', async ({ expect }) => {
    const [here, there] = [at().open(), at().open()].map((backend) =>
      makeRegion<number>({ name: 'contract', backend: wrap(backend, json()) }),
    )
    if (here === undefined || there === undefined) throw new Error('unreachable')
    let runs = 0
    const create = () => ++runs
    expect(await here.getOrCreate('k', create)).toBe(1)
    expect(await there.getOrCreate('k', create)).toBe(1)
    await there.delete('k')
    expect(await here.getOrCreate('k', create)).toBe(2)
    await there.invalidate('soft')
    expect(await here.get('k', { ignoreExpiration: true })).toBe(2)
    expect(await here.getOrCreate('k', create)).toBe(3)
    await there.invalidate()
    expect(await there.getOrCreate('k', create)).toBe(4)
    expect(await here.getOrCreate('k', create)).toBe(4)
    await there.expire('k')
    expect(await here.getOrCreate('k', create)).toBe(5)
  })
})
