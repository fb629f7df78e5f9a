/** Nest's CacheModule and its interceptor over a region, and a region as a provider; two applications over one Redis. */
import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { build } from 'esbuild'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { aliases, root } from '../../../.ci/entries.mjs'
import { redis } from '../../../backends/redis/index.js'
import { dependencies } from '../../../proxies/dependencies.js'
import { msgpack } from '../../../proxies/msgpack.js'
import { makeRegion, type Region, wrap } from '../../../src/index.js'
import { type Server, startRedis } from '../../support/servers.js'

let server: Server
let folder: string
interface App {
  getUrl(): Promise<string>
  close(): Promise<void>
}
type Start = (given: { name: string; users: Region<string>; responses: Region }) => Promise<App>
const apps: App[] = []
const bases: string[] = []

beforeAll(async () => {
  server = await startRedis()
  const cache = join(root, 'node_modules/.cache')
  mkdirSync(cache, { recursive: true })
  // Inside of node_modules, so that the packages of Nest resolve.
  folder = mkdtempSync(join(cache, 'nest-'))
  const outfile = join(folder, 'app.mjs')
  await build({
    entryPoints: [join(root, 'test/integrations/nest/app/index.ts')],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    alias: aliases(),
    packages: 'external',
    tsconfigRaw: { compilerOptions: { experimentalDecorators: true, target: 'es2022' } },
  })
  const { startNest: start } = (await import(pathToFileURL(outfile).href)) as { startNest: Start }
  const open = <V>(name: string) =>
    makeRegion<V>({
      name,
      expirationTime: '1h',
      backend: wrap(
        redis({ url: `redis://127.0.0.1:${server.port}`, timeout: '20s' }),
        msgpack(),
        dependencies(),
      ),
    })
  for (const name of ['A', 'B']) {
    const app = await start({ name, users: open<string>('users'), responses: open('responses') })
    apps.push(app)
    bases.push(await app.getUrl())
  }
}, 120_000)

afterAll(async () => {
  for (const app of apps) await app.close()
  await server?.stop()
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true })
})

it('compiles with the decorators of Nest', async () => {
  const compiler = join(root, 'node_modules/typescript-7.0/bin/tsc')
  const project = join(root, 'test/integrations/nest/app')
  const result = await promisify(execFile)(process.execPath, [compiler, '--project', project]).catch(
    ({ stdout }: { stdout: string }) => ({ stdout }),
  )
  expect(result.stdout).toBe('')
}, 120_000)

const get = async (at: 0 | 1, path: string) => (await fetch(bases[at] + path)).text()
const post = async (at: 0 | 1, path: string) =>
  expect((await fetch(bases[at] + path, { method: 'POST' })).status).toBe(201)

it('caches the decorated method of a provider for all processes, until it is invalidated in one', async () => {
  const first = await get(0, '/users/5')
  expect(first).toMatch(/^user 5, run \d+ of A$/)
  expect(await get(1, '/users/5')).toBe(first)
  await post(1, '/users/5')
  const second = await get(1, '/users/5')
  expect(second).toMatch(/ of B$/)
  expect(await get(0, '/users/5')).toBe(second)
})

it('keeps the responses that the interceptor of Nest caches, for all processes', async () => {
  const first = await get(0, '/users/7/page')
  expect(JSON.parse(first)).toMatchObject({ page: '7', of: 'A' })
  // The interceptor does not wait for its write.
  await expect.poll(() => get(1, '/users/7/page'), { timeout: 20_000 }).toBe(first)
  await post(1, '/users/7/page')
  expect(JSON.parse(await get(1, '/users/7/page'))).toMatchObject({ page: '7', of: 'B' })
})

it('closes its region when the application is closed', async () => {
  const app = apps.pop() as App
  await app.close()
  expect(await get(0, '/users/5')).toMatch(/^user 5/)
})
