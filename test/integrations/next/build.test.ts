/** `examples/next` as its user runs it: built, then served by two processes over one Redis. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { root } from '../../../.ci/entries.mjs'
import { staleSource } from '../../package/pack.js'
import { freePort, type Server, startRedis } from '../../support/servers.js'

let folder: string
let server: Server
const children: ChildProcess[] = []
const bases: string[] = []

function next(...args: readonly string[]): ChildProcess {
  const child = spawn(process.execPath, [join(root, 'node_modules/next/dist/bin/next'), ...args], {
    cwd: folder,
    // A group of its own: a server starts workers, which have to end with it.
    detached: true,
    env: {
      ...process.env,
      NODE_ENV: 'production',
      NEXT_TELEMETRY_DISABLED: '1',
      REDIS_URL: `redis://127.0.0.1:${server.port}`,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  children.push(child)
  return child
}

async function ended(child: ChildProcess): Promise<{ code: number; output: string }> {
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => (output += chunk))
  const [code] = (await once(child, 'close')) as [number]
  return { code, output }
}

beforeAll(async () => {
  expect(staleSource()).toBeUndefined()
  server = await startRedis()
  // In the tree, so that Next finds its packages above. Its compiler follows no links out of its root.
  folder = mkdtempSync(join(root, '.example-next-'))
  cpSync(join(root, 'examples/next'), folder, { recursive: true })
  const installed = join(folder, 'node_modules/corral')
  for (const part of ['dist', 'package.json'])
    cpSync(join(root, part), join(installed, part), { recursive: true })
  expect(await ended(next('build'))).toMatchObject({ code: 0 })
  for (let i = 0; i < 2; i++) {
    const port = await freePort()
    const started = next('start', '-H', '127.0.0.1', '-p', `${port}`)
    let log = ''
    await new Promise<void>((resolve, reject) => {
      started.stdout?.on('data', (chunk) => {
        log += chunk
        if (log.includes('Ready')) resolve()
      })
      started.once('exit', () => reject(new Error(`next start ended: ${log}`)))
    })
    bases.push(`http://127.0.0.1:${port}`)
  }
}, 600_000)

afterAll(async () => {
  for (const child of children) {
    if (child.pid === undefined || child.exitCode !== null) continue
    const closed = once(child, 'close')
    process.kill(-child.pid, 'SIGKILL')
    await closed
  }
  await server?.stop()
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true })
}, 60_000)

/** The time at which a part of a page was rendered, and by which process. */
async function made(at: 0 | 1, path: string): Promise<string> {
  const response = await fetch(`${bases[at]}${path}`)
  expect(response.status).toBe(200)
  const [found = ''] = /(?:list|article|hours) \d+ [\d.]+/.exec(await response.text()) ?? []
  expect(found).not.toBe('')
  return found
}

const revalidate = async (at: 0 | 1, query: string) =>
  expect((await fetch(`${bases[at]}/revalidate?${query}`, { method: 'POST' })).status).toBe(200)

const PATHS = ['/', '/articles/5', '/hours']

it('serves in one process what another rendered, page, remote cache and route', async () => {
  for (const path of PATHS) {
    const first = await made(0, path)
    expect(await made(1, path)).toBe(first)
    expect(await made(0, path)).toBe(first)
  }
})

/** Next sends the response of a route before it revalidates. */
const renewed = (at: 0 | 1, path: string, old: string) =>
  expect.poll(() => made(at, path), { timeout: 60_000, interval: 100 }).not.toBe(old)

it('loses with a tag what depends on it, in both processes, and nothing else', async () => {
  const [list, article, hours] = [await made(0, '/'), await made(0, '/articles/5'), await made(0, '/hours')]
  await revalidate(0, 'tag=articles')
  await renewed(1, '/', list)
  await renewed(1, '/articles/5', article)
  const second = await made(1, '/articles/5')
  expect(await made(0, '/articles/5')).toBe(second)
  expect(await made(1, '/hours')).toBe(hours)
  await revalidate(1, 'tag=article-5')
  await renewed(0, '/articles/5', second)
})

it('renders a path again that was revalidated', async () => {
  const [article, hours] = [await made(0, '/articles/5'), await made(0, '/hours')]
  await revalidate(0, 'path=/articles/5')
  await renewed(1, '/articles/5', article)
  expect(await made(1, '/hours')).toBe(hours)
  const list = await made(1, '/')
  await revalidate(1, 'path=/')
  await renewed(0, '/', list)
})

it('serves once more what was revalidated softly, while it is rendered again', async () => {
  const paths = ['/', '/articles/5']
  const old = [await made(0, '/'), await made(0, '/articles/5')]
  await revalidate(1, 'tag=articles&life=max')
  for (const [i, path] of paths.entries()) {
    expect(await made(0, path)).toBe(old[i])
    await expect.poll(() => made(1, path), { timeout: 60_000, interval: 250 }).not.toBe(old[i])
  }
})
