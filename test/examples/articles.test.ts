import Libsql from 'libsql'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { faultProxy } from '../support/faultproxy.js'
import { bundleProgram, type Program } from '../support/programs.js'
import { startRedis } from '../support/servers.js'
import { until } from '../support/waiting.js'
import { closeSite, openSite, type Site, temporary } from './site.js'

let program: Program
const ends: (() => unknown)[] = []
beforeAll(async () => {
  program = await bundleProgram('examples/articles.ts')
  ends.push(program.end)
})
afterAll(async () => {
  for (const end of ends.reverse()) await end()
})

type Environment = Record<string, string>

async function open(environment: Environment): Promise<Site> {
  const site = await openSite(program.path, environment)
  ends.push(() => closeSite(site))
  return site
}

/** A database, and a cache in a file. */
function files(): Environment {
  const folder = temporary('corral-articles-')
  ends.push(folder.remove)
  const { path } = folder
  return { DATABASE: `${path}/articles.sqlite`, CACHE_BACKEND__PATH: `${path}/cache.lmdb` }
}

async function overRedis(): Promise<Environment> {
  const server = await startRedis()
  ends.push(server.stop)
  const { DATABASE } = files() as { DATABASE: string }
  return { DATABASE, REDIS_URL: `redis://127.0.0.1:${server.port}` }
}

const FIRST = {
  title: 'Why a list is hard to cache',
  text: 'x',
  author: '1',
  category: '1',
  published: 'true',
}

describe.each([
  ['a file, as it is without settings', async () => files()],
  ['Redis', overRedis],
])('the articles example over %s', (_, environment) => {
  it('serves pages from the cache, and makes those anew that a change concerns', async () => {
    const site = await open(await environment())
    expect((await site.get('/')).status).toMatch(/^corral; fwd=miss; detail="nothing is stored/)
    expect((await site.get('/')).status).toBe('corral; hit; detail="fresh"')
    // The smallest doll is there since the front page was made.
    expect((await site.get('/articles/1')).status).toMatch(/; hit;/)
    for (const category of [1, 2, 3]) await site.get(`/categories/${category}`)

    // From one list to another: the third holds nothing of it.
    const moved = await site.post('/articles/1', { ...FIRST, title: 'Moved', category: '2', version: '1' })
    expect([moved.code, moved.page]).toEqual([200, expect.stringContaining('Moved')])
    const front = await site.get('/')
    expect(front.status).toMatch(/fwd=miss; detail="invalidated: .*id:Article:1/)
    expect(front.page).toContain('Moved')
    expect((await site.get('/categories/1')).page).not.toContain('/articles/1"')
    expect((await site.get('/categories/2')).page).toContain('/articles/1"')
    expect((await site.get('/categories/3')).status).toMatch(/; hit;/)

    // A change of an author concerns all that holds the name, and nothing else.
    await site.get('/')
    await site.post('/authors/2', { name: 'N. Halim' })
    expect((await site.get('/articles/2')).page).toContain('N. Halim')
    expect((await site.get('/')).page).toContain('N. Halim')
    expect((await site.get('/articles/3')).status).toMatch(/; hit;/)
  })

  it('notices what enters and leaves lists: new articles, drafts, deletions', async () => {
    const site = await open(await environment())
    const list = async () => (await site.get('/categories/3')).page
    expect(await list()).not.toContain('A draft')
    const published = { title: 'A draft', text: 'x', author: '2', category: '3', published: 'true' }
    await site.post('/articles/8', { ...published, version: '1' })
    expect(await list()).toContain('A draft')
    const { published: _, ...draft } = published
    await site.post('/articles/8', { ...draft, version: '2' })
    expect(await list()).not.toContain('A draft')

    // The visitor asked for an article before it was there.
    expect((await site.get('/articles/9')).code).toBe(404)
    const added = await site.post('/articles', { ...published, title: 'The ninth' })
    expect([added.path, added.code]).toEqual(['/articles/9', 200])
    expect(await list()).toContain('The ninth')
    await site.post('/articles/9/delete', {})
    expect(await list()).not.toContain('The ninth')
    expect((await site.get('/articles/9')).code).toBe(404)
  })

  it('serves a stale page at once, and says so, while it is made anew', async () => {
    const site = await open(await environment())
    await site.get('/articles/1')
    await site.post('/articles/1/expire', {}, 'manual')
    const stale = await site.get('/articles/1')
    expect([stale.code, stale.status]).toEqual([200, expect.stringContaining('fwd=stale; detail="soft')])
    await until(async () => /; hit;/.test((await site.get('/articles/1')).status))
  })
})

describe('the articles example', () => {
  it('of two processes is one site', async () => {
    const environment = files()
    // Both find the database empty.
    const [one, other] = await Promise.all([open(environment), open(environment)])
    await one.get('/')
    expect((await other.get('/')).status).toMatch(/; hit;/)
    await one.post('/articles/1', { ...FIRST, title: 'From one', version: '1' })
    expect((await other.get('/')).page).toContain('From one')
    expect((await other.get('/articles/1')).page).toContain('From one')
    // The other has its form open since before.
    const late = await other.post('/articles/1', { ...FIRST, title: 'Late', version: '1' })
    expect([late.code, late.page]).toEqual([409, expect.stringContaining('Another visitor')])
    expect((await one.get('/articles/1')).page).toContain('From one')
  })

  it('of which one process is killed in the middle of a write goes on with the other', async () => {
    const environment = files()
    const [one, other] = await Promise.all([open(environment), open(environment)])
    await other.get('/articles/1')
    // As long as this connection has the write lock, the transaction of the site cannot end.
    const database = new Libsql(environment.DATABASE as string)
    database.exec('BEGIN IMMEDIATE')
    const lost = one.post('/articles/1', { ...FIRST, title: 'Never', version: '1' }).catch(() => 'lost')
    // It waits for the lock without doing anything else.
    await until(async () => !(await one.answers(250)))
    await closeSite(one, 'SIGKILL')
    expect(await lost).toBe('lost')
    database.exec('ROLLBACK')
    database.close()

    expect((await other.get('/articles/1')).status).toMatch(/; hit;/)
    expect((await other.get('/articles/1')).page).not.toContain('Never')
    await other.post('/articles/1', { ...FIRST, title: 'After', version: '1' })
    expect((await other.get('/')).page).toContain('After')
    const again = await open(environment)
    expect((await again.get('/')).status).toMatch(/; hit;/)
    expect((await again.get('/')).page).toContain('After')
  })

  it('of which one process is killed between its commit and the invalidation shows no page of before', async () => {
    const server = await startRedis()
    const proxy = await faultProxy(server)
    ends.push(server.stop, proxy.close)
    const { DATABASE } = files() as { DATABASE: string }
    const over = (port: number) => open({ DATABASE, REDIS_URL: `redis://127.0.0.1:${port}` })
    const [one, other] = await Promise.all([over(proxy.port), over(server.port)])
    // Its Redis has the script of marks from now on.
    await one.post('/articles/1', { ...FIRST, title: 'Before', version: '1' })
    for (const path of ['/', '/articles/1']) {
      await other.get(path)
      expect((await other.get(path)).status).toMatch(/; hit;/)
    }
    // The first request of the change is the mark, before the commit; the invalidation follows the commit.
    proxy.set({ kind: 'last request', text: 'id:Article:1' })
    const lost = one.post('/articles/1', { ...FIRST, title: 'Committed', version: '2' }).catch(() => 'lost')
    const database = new Libsql(DATABASE)
    const titles = database.prepare('SELECT title FROM article WHERE id = 1')
    await until(() => (titles.get() as { title: string }).title === 'Committed')
    database.close()
    await closeSite(one, 'SIGKILL')
    expect(await lost).toBe('lost')

    for (const path of ['/', '/articles/1', '/articles/1']) {
      const { page, status } = await other.get(path)
      expect([status, page]).toEqual([
        expect.stringMatching(/fwd=miss; detail="invalidated: .*id:Article:1/),
        expect.stringContaining('Committed'),
      ])
    }
    expect((await other.get('/articles/2')).status).toMatch(/; hit;/)
  })

  it('has the log, the metrics and the probe of a service, and starts warm after a restart', async () => {
    const environment = files()
    const site = await open(environment)
    for (const path of ['/', '/', '/articles/1']) await site.get(path)
    const { page } = await site.get('/metrics')
    expect(page).toContain('corral_reads_total{region="pages",namespace="front",result="hit"} 1')
    expect(page).toMatch(/http_request_duration_seconds_count\{route="\/articles\/:id",status="200"\} 1/)
    expect((await site.get('/ready')).page).toBe('{"cache":true}')
    expect(await closeSite(site)).toBe(0)
    expect(site.log.map(({ msg }) => msg)).toContain('corral: a region was configured')
    expect(site.log.filter(({ level }) => level >= 40)).toEqual([])
    expect((await (await open(environment)).get('/')).status).toMatch(/; hit;/)
  })

  it('keeps hostile input out of its pages, headers and statements', async () => {
    const site = await open(files())
    const title = `<script>alert(1)</script>'); DROP TABLE article; --`
    const saved = await site.post('/articles/1', { ...FIRST, title, version: '1' })
    expect(saved.page).not.toContain('<script>')
    expect(saved.page).toContain('&#60;script&#62;')
    expect((await site.get('/')).code).toBe(200)
    const refused = (code: number, path: string, form?: Record<string, string>) =>
      expect((form ? site.post(path, form) : site.get(path)).then((reply) => reply.code)).resolves.toBe(code)
    await refused(400, '/articles/1', { ...FIRST, title: ' ', version: '2' })
    await refused(400, '/articles/1', { ...FIRST, category: 'x', version: '2' })
    await refused(400, '/articles/x')
    await refused(413, '/articles', { ...FIRST, text: 'x'.repeat(30_000) })
    await refused(404, '/articles/999')
    await refused(404, '/nowhere')
    const foreign = { method: 'POST', headers: { 'sec-fetch-site': 'cross-site' } }
    expect((await fetch(new URL('/articles/1/delete', site.base), foreign)).status).toBe(403)
    expect((await site.get('/articles/1')).code).toBe(200)
  })
})
