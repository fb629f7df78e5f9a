import type { ChildProcess } from 'node:child_process'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { redisBus } from '../../backends/redis/index.js'
import { broadcast } from '../../proxies/broadcast.js'
import { dependencies } from '../../proxies/dependencies.js'
import { dep, dependsOn, type Invalidation, makeRegion, wrap } from '../../src/index.js'
import { relay } from '../../src/signals/index.js'
import { standalone } from '../backends/redis/deployments.js'
import { withRedis } from '../backends/redis/suite.js'
import { bundleProgram, type Program } from '../support/programs.js'
import { sharedNow as now, sleep, until } from '../support/waiting.js'

const MAX_DELAY = 300

interface Read {
  readonly began: number
  readonly value: number
  readonly made: boolean
}

withRedis('two processes on one bus', standalone, (at) => {
  let program: Program
  let child: ChildProcess
  const reads: Read[] = []
  const heard: Invalidation[] = []
  let answers = 0

  beforeAll(async () => {
    program = await bundleProgram('test/signals/peer.ts')
    child = await program.start(`${at().servers[0]?.port}`, `${MAX_DELAY}`)
    child.on('message', (message: Partial<Read> & { heard?: Invalidation; done?: true }) => {
      if (message.heard !== undefined) heard.push(message.heard)
      else if (message.done) answers++
      else reads.push(message as Read)
    })
  })
  afterAll(() => {
    program?.end()
  })

  const tell = async (message: object) => {
    const before = answers
    child.send(message)
    await until(() => answers > before)
  }

  const joined = () => {
    const bus = redisBus(`redis://127.0.0.1:${at().servers[0]?.port}`, {
      channel: 'peers',
      maxDelay: MAX_DELAY,
    })
    const region = makeRegion<number>({
      name: 'peers',
      backend: wrap(memory(), broadcast(bus, { name: 'peers' }), dependencies()),
    })
    return { bus, region }
  }

  it('receive each other’s invalidations, and drop their entries', async () => {
    const { bus, region } = joined()
    const relayed = relay(bus, [region])
    try {
      await until(() => relayed.live)
      const told: Invalidation[] = []
      region.on('invalidate', (event) => told.push(event))
      const ways = [
        () => region.delete('key', { reason: 'test', meta: { by: [1, null] } }),
        () => region.invalidateDependencies(dep.id('row', 1)),
        () => region.invalidate('hard'),
      ]
      for (const [i, invalidate] of ways.entries()) {
        await tell({ set: i + 1 })
        await invalidate()
        await until(() => reads.at(-1)?.value === i + 1 && !reads.at(-1)?.made)
      }
      await until(() => heard.filter(({ origin }) => origin === 'remote').length === 3)
      expect(heard[0]).toEqual({
        ...{ region: 'peers', what: 'key', names: ['key'], mode: 'hard' },
        ...{ reason: 'test', meta: { by: [1, null] }, origin: 'remote' },
      })
      for (const invalidate of ['key', 'name', 'region']) {
        const fill = () => (dependsOn(dep.id('row', 1)), 7)
        await region.getOrCreate('key', fill)
        expect(await region.has('key')).toBe(true)
        await tell({ invalidate })
        await until(async () => !(await region.has('key')))
      }
      await until(() => told.filter(({ origin }) => origin === 'remote').length === 3)
      expect(told.find(({ origin }) => origin === 'remote')).toMatchObject({
        reason: 'from the peer',
        meta: { pid: child.pid },
      })
    } finally {
      await relayed.close()
      await region.close()
      await bus.close()
    }
  })

  it('do not return an older value when they wake from standing still', async () => {
    const { bus, region } = joined()
    try {
      await until(async () => {
        await region.set('warm', 1)
        return region.has('warm')
      })
      const late: Read[] = []
      for (let version = 100; version < 110; version++) {
        await tell({ set: version })
        child.kill('SIGSTOP')
        await sleep(10)
        // The peer keeps its entries, and receives no message while it stands still.
        await region.delete('key')
        const acknowledged = now()
        await sleep(MAX_DELAY + 50)
        child.kill('SIGCONT')
        await until(
          () => (reads.at(-1)?.began ?? 0) > acknowledged + MAX_DELAY && reads.at(-1)?.value === version,
        )
        late.push(...reads.filter(({ began }) => began > acknowledged + MAX_DELAY))
        expect(late.filter(({ value }) => value < version)).toEqual([])
        late.length = 0
        await until(() => reads.at(-1)?.made === false)
      }
    } finally {
      await region.close()
      await bus.close()
    }
  })
})
