import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { redis } from '../../../backends/redis/index.js'
import { json } from '../../../proxies/json.js'
import { type Backend, type Bytes, makeRegion, NO_VALUE, wrap } from '../../../src/index.js'
import { judge } from '../../support/ledgers.js'
import { bundleProgram } from '../../support/programs.js'
import { startRedis } from '../../support/servers.js'
import { cluster, standalone } from './deployments.js'
import { bytes, freshKey, withRedis } from './suite.js'

const OPERATIONS: Readonly<Record<string, (backend: Backend<Bytes>) => unknown>> = {
  get: (backend) => backend.get('k'),
  getMulti: (backend) => backend.getMulti(['k', 'l']),
  set: (backend) => backend.set('k', bytes('w'), {}),
  setMulti: (backend) => backend.setMulti([['k', bytes('w'), {}]]),
  delete: (backend) => backend.delete('k'),
  acquire: (backend) => backend.acquire('k', 10, { steal: true }),
  held: (backend) => backend.held('k'),
  'ledger.read': (backend) => backend.ledger?.open('closing').read(['n']),
  'ledger.begin': (backend) => backend.ledger?.open('closing').now(['n']),
  'ledger.judge': (backend) =>
    judge(backend.ledger, 'closing', { epoch: 'e', groups: [{ asOf: 1, names: ['n'] }] }),
  'ledger.invalidate': (backend) => backend.ledger?.open('closing').invalidate(['n'], 'hard'),
}

for (const [where, start] of Object.entries({ 'a standalone Redis': standalone, 'a Cluster': cluster }))
  withRedis(`closing, on ${where}`, start, (at) => {
    it.each(Object.entries(OPERATIONS))('lets operations end that began before: %s', async (_, operation) => {
      for (const first of [true, false]) {
        const backend = redis({ timeout: '10s', ...at().where })
        // An operation that waits for the connection counts as begun.
        if (!first) await backend.get('k')
        const [done, closed] = [operation(backend), backend.close()]
        await done
        await closed
        await expect(async () => operation(backend)).rejects.toMatchObject({ code: 'ERR_CLOSED' })
      }
    })

    it('loses no invalidation that began before', async () => {
      const name = freshKey('closing')
      const open = () =>
        makeRegion<string>({ name, backend: wrap(redis({ timeout: '10s', ...at().where }), json()) })
      const [reader, writer] = [open(), open()]
      await reader.getOrCreate('k', () => 'old')
      expect(await writer.get('k')).toBe('old')
      const invalidation = writer.invalidate()
      await writer.close()
      await invalidation
      expect(await reader.get('k')).toBe(NO_VALUE)
      await reader.close()
    })
  })

it('lets the process end soon after it was closed, also while nothing listens at its address', async () => {
  const program = await bundleProgram('test/backends/redis/closing-peer.ts')
  const { stdout } = await promisify(execFile)(process.execPath, [program.path])
  program.end()
  // ioredis waits for two seconds of its own accord.
  expect(Number(stdout)).toBeLessThan(1_500)
})

it('lets the process end after it was closed, though a Sentinel that took the connection is frozen', async () => {
  const server = await startRedis({})
  await server.kill('SIGSTOP')
  const program = await bundleProgram('test/backends/redis/closing-peer.ts')
  const { stdout } = await promisify(execFile)(process.execPath, [program.path, `${server.port}`], {
    timeout: 60_000,
  })
  expect(Number(stdout)).toBeGreaterThan(0)
  program.end()
  await server.stop()
})
