import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { type IncomingMessage, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, describe, expect, it } from 'vitest'
import { root } from '../../.ci/entries.mjs'
import { type Server, startRedis } from '../support/servers.js'
import { until } from '../support/waiting.js'

/** One process of the example, as its user starts it. */
interface Shop {
  readonly process: ChildProcess
  readonly base: string
  /** The lines of its log so far. */
  readonly log: readonly string[]
  get(path: string): Promise<Answer>
  /** Sends a form and, as a browser does, goes where the answer sends it. */
  post(path: string, form: Record<string, string>, redirect?: 'follow' | 'manual'): Promise<Answer>
}

interface Answer {
  readonly status: number
  readonly page: string
  /** How many queries the page says that it cost. */
  readonly queries: number
}

/** The server says `continue` when it has begun with the request. */
const FORM = { 'content-type': 'application/x-www-form-urlencoded', expect: '100-continue' }

const ends: (() => unknown)[] = []
afterAll(async () => {
  for (const end of ends.reverse()) await end()
})

async function open(environment: Record<string, string>): Promise<Shop> {
  const child = spawn(process.execPath, ['.ci/run-ts.mjs', 'examples/web.ts'], {
    cwd: root,
    env: { ...process.env, DATABASE: temporary(), ...environment, PORT: '0' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  ends.push(() => close(child))
  const log: string[] = []
  createInterface(child.stderr).on('line', (line) => log.push(line))
  const [base] = (await once(createInterface(child.stdout), 'line')) as [string]
  const answer = async (response: Response): Promise<Answer> => {
    const page = await response.text()
    return { status: response.status, page, queries: Number(/data-queries="(\d+)"/.exec(page)?.[1]) }
  }
  return {
    process: child,
    base,
    log,
    get: async (path) => answer(await fetch(new URL(path, base))),
    post: async (path, form, redirect = 'follow') =>
      answer(await fetch(new URL(path, base), { method: 'POST', body: new URLSearchParams(form), redirect })),
  }
}

async function close(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) {
    const left = once(child, 'exit')
    child.kill('SIGTERM')
    await left
  }
  return child.exitCode
}

function temporary(): string {
  const folder = mkdtempSync(join(tmpdir(), 'corral-web-'))
  ends.push(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

async function fileSettings(): Promise<Record<string, string>> {
  return { DATABASE: temporary(), CACHE_BACKEND: 'lmdb', CACHE_BACKEND__PATH: join(temporary(), 'shop.lmdb') }
}

async function redisSettings(): Promise<Record<string, string>> {
  return settingsFor((await redis()).port)
}

/** Each process keeps copies. */
async function nearSettings(): Promise<Record<string, string>> {
  return {
    ...(await redisSettings()),
    CACHE_PROXIES: 'msgpack,prefix,near,dependencies',
    CACHE_PROXIES__NEAR__MAX_STALENESS: '1s',
  }
}

async function redis(port?: number): Promise<Server> {
  const server = await startRedis(port === undefined ? {} : { port })
  ends.push(() => server.stop())
  return server
}

function settingsFor(port: number): Record<string, string> {
  return { DATABASE: temporary(), CACHE_BACKEND: 'redis', CACHE_BACKEND__URL: `redis://127.0.0.1:${port}` }
}

const shelfOf = (page: string, name: string): string =>
  new RegExp(`<h2>${name} [\\s\\S]*?</section>`).exec(page)?.[0] ?? ''

describe.each([
  ['memory', async () => ({ CACHE_BACKEND: 'memory' })],
  ['a file', fileSettings],
  ['Redis', redisSettings],
  ['Redis with near caches', nearSettings],
])('the web example over %s', (_, settings) => {
  it('serves its pages from the cache until their data changes', async () => {
    const shop = await open(await settings())

    const cold = await shop.get('/')
    expect(cold.queries).toBeGreaterThan(0)
    const warm = await shop.get('/')
    expect(warm.queries).toBe(0)
    expect(shelfOf(warm.page, 'nature')).toContain('Silent Spring')

    // A book leaves one shelf and enters another; the third is not touched.
    const moved = { title: 'Silent Spring', author: 'Rachel Carson', shelf: 'essays' }
    expect((await shop.post('/books/8', moved)).status).toBe(200)
    const after = await shop.get('/')
    expect(shelfOf(after.page, 'nature')).not.toContain('Silent Spring')
    expect(shelfOf(after.page, 'essays')).toContain('Silent Spring')
    expect(shelfOf(after.page, 'fiction')).toContain('Orlando')
    expect((await shop.get('/')).queries).toBe(0)

    // The revision has moved on, so the version check has the authors counted again.
    await shop.post('/books/8', { ...moved, author: 'R. Carson' })
    expect((await shop.get('/')).page).toContain('R. Carson')

    // A form invalidates a group: every shelf with a book of this author, and nothing else.
    await shop.get('/')
    await shop.post('/authors/forget', { author: 'Virginia Woolf' })
    const told = await shop.get('/explain?shelf=fiction')
    expect(told.page).toContain('group:author:Virginia Woolf')
    expect((await shop.get('/explain?shelf=nature')).page).toContain('nature: hit')
    expect((await shop.get('/')).queries).toBe(0)
    expect(await close(shop.process)).toBe(0)
  })
})

describe('the web example', () => {
  it('of several processes is one shop', async () => {
    const settings = await redisSettings()
    const [one, other] = await Promise.all([open(settings), open(settings)])
    await one.get('/')
    expect((await other.get('/books/4')).queries).toBe(0)
    await one.post('/authors/forget', { author: 'Italo Calvino' }, 'manual')
    expect((await other.get('/books/4')).queries).toBe(1)
    expect((await one.get('/books/4')).queries).toBe(0)

    const moved = { title: 'Cities', author: 'Italo Calvino', shelf: 'essays' }
    await one.post('/books/4', moved, 'manual')
    expect(shelfOf((await other.get('/')).page, 'essays')).toContain('Cities')
    expect(shelfOf((await one.get('/')).page, 'fiction')).not.toContain('Cities')
  })

  it('of several processes with near caches is one shop too, after at most the bound', async () => {
    const settings = await nearSettings()
    const [one, other] = await Promise.all([open(settings), open(settings)])
    for (const shop of [one, other, one, other]) await shop.get('/')
    expect((await other.get('/')).queries).toBe(0)

    const moved = { title: 'Cities', author: 'Italo Calvino', shelf: 'essays' }
    await one.post('/books/4', moved, 'manual')
    expect(shelfOf((await one.get('/')).page, 'essays')).toContain('Cities')
    await until(async () => shelfOf((await other.get('/')).page, 'essays').includes('Cities'))
    expect(shelfOf((await other.get('/')).page, 'fiction')).not.toContain('Cities')
  })

  it('ends the work under way before it closes, so that saved data is also invalidated', async () => {
    const settings = await redisSettings()
    const [one, other] = await Promise.all([open(settings), open(settings)])
    await other.get('/books/5')
    const form = request(new URL('/books/5', one.base), { method: 'POST', headers: FORM }).on(
      'error',
      () => {},
    )
    form.flushHeaders()
    await once(form, 'continue')
    const closed = close(one.process)
    while (await one.get('/').catch(() => undefined));
    form.end('title=Six&author=I. Calvino&shelf=essays')
    const [response] = (await once(form, 'response')) as [IncomingMessage]
    expect(response.statusCode).toBe(303)
    response.resume()
    expect(await closed).toBe(0)
    expect((await other.get('/books/5')).page).toContain('I. Calvino')
  })

  it('without its Redis stays open, says so kindly, and invalidates when Redis is back', async () => {
    const { port, stop } = await redis()
    const settings = settingsFor(port)
    const [one, other] = await Promise.all([open(settings), open(settings)])
    await other.get('/books/5')
    await stop()

    const shop = await one.get('/')
    expect(shop.status).toBe(200)
    expect(shelfOf(shop.page, 'fiction')).toContain('Orlando')
    const saved = await one.post('/books/5', { title: 'Six', author: 'I. Calvino', shelf: 'essays' })
    expect(saved.status).toBe(202)
    expect(saved.page).toContain('It is saved.')
    const forgotten = await one.post('/authors/forget', { author: 'Virginia Woolf' })
    expect(forgotten.status).toBe(503)
    expect(forgotten.page).toContain('The shop works without it')
    expect((await one.get('/books/5')).page).toContain('I. Calvino')
    expect(one.log.filter((line) => line.startsWith('cache failure, redis'))).not.toEqual([])
    expect(one.log.join('\n')).not.toContain('book|')

    await redis(port)
    while (!(await other.get('/books/5')).page.includes('I. Calvino'));
    while ((await one.get('/')).queries > 0);
  }, 120_000)

  it('shows its headings as they are written, and explains its buttons', async () => {
    const { page } = await (await open({ CACHE_BACKEND: 'memory' })).get('/')
    expect(page).not.toContain('text-transform')
    expect(page).toContain('<button>Forget</button>')
    expect(page).toContain('No book is deleted.')
  })

  it('over a file starts warm', async () => {
    const settings = await fileSettings()
    const first = await open(settings)
    await first.get('/')
    expect(await close(first.process)).toBe(0)
    expect((await (await open(settings)).get('/books/4')).queries).toBe(0)
  })

  it('keeps hostile input out of its pages and its cache', async () => {
    const shop = await open({ CACHE_BACKEND: 'memory' })
    const title = `<script>alert("1")</script>'&`
    await shop.post('/books/1', { title, author: 'N\0:\\', shelf: 'fiction' })
    const { page } = await shop.get('/')
    expect(page).not.toContain('<script>')
    expect(page).toContain('&#60;script&#62;')
    expect((await shop.post('/books/1', { title: '', author: 'a', shelf: 'fiction' })).status).toBe(400)
    expect((await shop.post('/books/1', { title: 'a', author: 'a', shelf: 'attic' })).status).toBe(400)
    expect((await shop.post('/books/1', { title: 'x'.repeat(20_000) })).status).toBe(413)
    expect((await shop.get('/books/999')).status).toBe(404)
    expect((await shop.get('/nowhere')).status).toBe(404)
    expect((await fetch(shop.base, { method: 'HEAD' })).status).toBe(200)
    expect((await fetch(shop.base, { method: 'PUT' })).status).toBe(405)
    const foreign = { method: 'POST', headers: { 'sec-fetch-site': 'cross-site' } }
    expect((await fetch(new URL('/authors/forget', shop.base), foreign)).status).toBe(403)
    const [nowhere] = (await once(request(shop.base, { path: '//' }).end(), 'response')) as [IncomingMessage]
    expect(nowhere.resume().statusCode).toBe(400)
  })

  it.each([
    [{ CACHE_BACKEND: 'paper' }, "No backend is registered as 'paper'"],
    [{ CACHE_BACKEND: 'lmdb' }, 'CACHE_BACKEND__PATH'],
    [{ CACHE_BACKEND: 'redis', CACHE_BACKEND__URL: '' }, 'CACHE_BACKEND__URL'],
  ])('reports the mistake in %o, and does not start', async (settings, message) => {
    const child = spawn(process.execPath, ['.ci/run-ts.mjs', 'examples/web.ts'], {
      cwd: root,
      env: { ...process.env, DATABASE: temporary(), ...settings, PORT: '0' },
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    let said = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text
    })
    const [code] = (await once(child, 'exit')) as [number]
    expect(code).toBe(1)
    expect(said).toContain(message)
  })
})
