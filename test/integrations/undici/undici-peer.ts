/** Runs on Node 24, which undici 8 needs: the cache interceptor over regions, in front of a real server. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, describe, it } from 'node:test'
import { Agent, type cacheStores, interceptors } from 'undici'
import { diagnostics, type Region } from '../../../src/index.js'
import { undiciStore } from '../../../src/integrations/undici.js'
import { places } from '../../support/regions.js'
import { turn } from '../../support/waiting.js'

type CacheStore = Pick<
  InstanceType<typeof cacheStores.MemoryCacheStore>,
  'get' | 'createWriteStream' | 'delete'
>
type Answer = (request: IncomingMessage, response: ServerResponse) => unknown

/** A server whose answer a test sets, and the number of requests that reached it. */
async function serve() {
  const state = { answer: (() => undefined) as Answer, requests: 0 }
  const server = createServer((request, response) => {
    state.requests++
    void state.answer(request, response)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    state,
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () => server.close(),
  }
}

const { state, origin, close } = await serve()
after(close)
const cacheable: Answer = (_, response) => {
  response.setHeader('cache-control', 'public, max-age=60')
  response.end(`answer ${state.requests}`)
}

const clients: { close(): Promise<void> }[] = []
after(() => Promise.all(clients.map((client) => client.close())))

function clientOf(store: CacheStore) {
  const client = new Agent().compose(interceptors.cache({ store, methods: ['GET', 'HEAD'] }))
  clients.push(client)
  return async (path: string, method = 'GET', headers: Record<string, string> = {}) => {
    const response = await client.request({ origin, path, method: method as 'GET', headers })
    return Buffer.from(await response.body.arrayBuffer())
  }
}
const text = async (body: Promise<Buffer>) => (await body).toString()

let running = 0

/** The region, whose operations are counted while they run. */
function counted(region: Region): Region {
  const names = ['get', 'getMulti', 'set', 'asOf', 'invalidateDependencies'] as const
  const count =
    (name: (typeof names)[number]) =>
    async (...values: unknown[]) => {
      running++
      try {
        return await (region[name] as (...values: unknown[]) => Promise<unknown>)(...values)
      } finally {
        running--
      }
    }
  return Object.assign({ ...region }, Object.fromEntries(names.map((name) => [name, count(name)])))
}

/** Waits until the streams of responses have ended, and no operation of a region runs. */
async function settled(): Promise<void> {
  for (let quiet = 0; quiet < 20; quiet++) {
    await turn()
    if (running > 0) quiet = 0
  }
}

for (const [name, open] of Object.entries(places)) {
  const place = await open()
  let paths = 0
  const fresh = () => `/${name.replace(' ', '')}/${++paths}`
  const region = counted(place.region)
  const store = undiciStore(region) satisfies CacheStore
  // The other client shares the region only: a process of its own would.
  const [here, there] = [clientOf(store), clientOf(undiciStore(region))]

  describe(`undici over ${name}`, () => {
    after(() => place.end())

    it('answers from the region, also another client, without a request', async () => {
      state.answer = cacheable
      const path = fresh()
      const first = await text(here(path))
      await settled()
      const before = state.requests
      assert.deepEqual([await text(here(path)), await text(there(path))], [first, first])
      assert.equal(state.requests, before)
    })

    it('keeps bodies byte by byte, and empty ones', async () => {
      const bytes = Buffer.from(Array.from({ length: 200_000 }, (_, i) => i % 256))
      for (const body of [bytes, Buffer.alloc(0)]) {
        state.answer = (_, response) => {
          response.setHeader('cache-control', 'public, max-age=60')
          response.end(body)
        }
        const path = fresh()
        await here(path)
        await settled()
        const before = state.requests
        assert.ok((await there(path)).equals(body))
        assert.equal(state.requests, before)
      }
    })

    it('keeps the variants of an address apart, and an unsafe request ends all of them', async () => {
      state.answer = (request, response) => {
        response.setHeader('vary', 'Accept-Language')
        response.setHeader('cache-control', 'public, max-age=60')
        response.end(`${request.headers['accept-language']} ${state.requests}`)
      }
      const path = fresh()
      const [en, de] = [{ 'accept-language': 'en' }, { 'Accept-Language': 'de' }]
      const english = await text(here(path, 'GET', en))
      await settled()
      const german = await text(here(path, 'GET', de))
      await settled()
      assert.deepEqual(
        [await text(there(path, 'GET', en)), await text(there(path, 'GET', de))],
        [english, german],
      )
      await here(path, 'POST')
      await settled()
      for (const [headers, old] of [
        [en, english],
        [de, german],
      ] as const)
        assert.notEqual(await text(there(path, 'GET', headers)), old)
    })

    for (const [title, headers] of [
      ['a request', {}],
      ['a request past a fresh response', { 'cache-control': 'no-cache' }],
    ] as const)
      it(`does not store a response to ${title} that was sent before an invalidation`, async () => {
        const path = fresh()
        if ('cache-control' in headers) {
          state.answer = cacheable
          await text(here(path))
          await settled()
        }
        let sent!: () => void
        const held = new Promise<void>((resolve) => {
          sent = resolve
        })
        let arrived!: () => void
        const reached = new Promise<void>((resolve) => {
          arrived = resolve
        })
        state.answer = async (request, response) => {
          if (request.method === 'POST') return response.end()
          response.setHeader('cache-control', 'public, max-age=60')
          arrived()
          await held
          response.end('old')
        }
        const old = text(here(path, 'GET', headers))
        await reached
        await there(path, 'POST')
        await settled()
        sent()
        assert.equal(await old, 'old')
        await settled()
        state.answer = (_, response) => response.end('new')
        assert.equal(await text(here(path)), 'new')
      })

    it('renews a stale response by its etag, and keeps the body', async () => {
      const path = fresh()
      let revalidations = 0
      state.answer = (request, response) => {
        response.setHeader('etag', '"1"')
        response.setHeader('cache-control', 'public, max-age=60, no-cache')
        if (request.headers['if-none-match'] === '"1"') {
          revalidations++
          response.statusCode = 304
          return response.end()
        }
        return response.end('body')
      }
      assert.equal(await text(here(path)), 'body')
      await settled()
      assert.equal(await text(there(path)), 'body')
      assert.equal(revalidations, 1)
    })

    it('stores no body above its limit', async () => {
      state.answer = cacheable
      const path = fresh()
      const small = clientOf(undiciStore(region, { maxEntrySize: 3 }))
      const first = await text(small(path))
      await settled()
      assert.notEqual(await text(small(path)), first)
    })
  })
}

describe('undiciStore()', () => {
  it('finds in the same turn a response that is still on its way into the store', async () => {
    const place = await places['msgpack bytes']()
    const store = undiciStore(place.region)
    const key = { origin, method: 'GET', path: '/turn' }
    const now = Date.now()
    const times = { cachedAt: now, staleAt: now + 60_000, deleteAt: now + 60_000 }
    const value = { statusCode: 200, statusMessage: 'OK', headers: {}, ...times }
    const stream = store.createWriteStream(key, value)
    stream?.end('body')
    assert.equal((await store.get({ ...key }))?.body.toString(), 'body')
    await store.delete(key)
    assert.equal(await store.get({ ...key }), undefined)
    const destroyed = store.createWriteStream(key, value)
    destroyed?.write('half')
    destroyed?.destroy()
    await settled()
    assert.equal(await store.get({ ...key }), undefined)
    assert.equal(store.createWriteStream(key, { ...value, deleteAt: now - 1 }), undefined)
    await place.end()
  })

  it('answers a request after a POST from behind its invalidation, for which undici does not wait', async () => {
    const place = await places.memory()
    let release!: () => void
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    const invalidateDependencies: Region['invalidateDependencies'] = async (names) => {
      await held
      await place.region.invalidateDependencies(names)
    }
    const request = clientOf(undiciStore(counted({ ...place.region, invalidateDependencies })))
    state.answer = cacheable
    const old = await text(request('/late'))
    for (let i = 0; i < 20; i++) await turn()
    assert.equal(await text(request('/late')), old)
    await request('/late', 'POST')
    const next = text(request('/late'))
    for (let i = 0; i < 20; i++) await turn()
    release()
    const renewed = await next
    assert.notEqual(renewed, old)
    await settled()
    assert.equal(await text(request('/late')), renewed)
    await place.end()
  })

  it('does not find a response on its way that was asked for before a deletion', async () => {
    const place = await places.memory()
    const store = undiciStore(place.region)
    const key = { origin, method: 'GET', path: '/before' }
    assert.equal(await store.get(key), undefined)
    const now = Date.now()
    const times = { cachedAt: now, staleAt: now + 60_000, deleteAt: now + 60_000 }
    const stream = store.createWriteStream(key, {
      statusCode: 200,
      statusMessage: 'OK',
      headers: {},
      ...times,
    })
    stream?.write('old')
    await store.delete(key)
    stream?.end()
    assert.equal(await store.get({ ...key }), undefined)
    await settled()
    assert.equal(await store.get({ ...key }), undefined)
    await place.end()
  })

  it('stores a response as it was passed, and reads for the key of the call', async () => {
    const place = await places.memory()
    const store = undiciStore(place.region)
    const [key, other] = ['/one', '/two'].map((path) => ({
      ...{ origin, method: 'GET', path, headers: { accept: 'a' } as Record<string, string> },
    })) as [Parameters<CacheStore['get']>[0] & { headers: Record<string, string> }, object]
    const asked = { ...key, headers: { ...key.headers } }
    await store.get(key)
    const now = Date.now()
    const headers: Record<string, string> = { 'x-of': 'one' }
    const vary: Record<string, string> = { accept: 'a' }
    const times = { cachedAt: now, staleAt: now + 60_000, deleteAt: now + 60_000 }
    const head = { statusCode: 200, statusMessage: 'OK', headers, vary, cacheControlDirectives: {}, ...times }
    const stream = store.createWriteStream(key, head)
    const chunk = Buffer.from('abc')
    stream?.write(chunk)
    chunk.fill('z')
    Object.assign(key, other)
    key.headers = { accept: 'b' }
    vary.accept = 'b'
    headers['x-of'] = 'two'
    head.deleteAt = 0
    stream?.end()
    for (let i = 0; i < 20; i++) await turn()
    const reading = { ...asked, headers: { ...asked.headers } }
    const read = store.get(reading)
    reading.headers.accept = 'b'
    const found = await read
    assert.equal(String(found?.body), 'abc')
    assert.deepEqual(found?.headers, { 'x-of': 'one' })
    assert.equal(await store.get({ ...key }), undefined)
    await place.end()
  })

  it('neither rejects nor fails a request when the store is away, and reports it', async () => {
    const place = await places.memory()
    const away = () => Promise.reject(new Error('away'))
    const region = { ...place.region, getMulti: away, asOf: away, invalidateDependencies: away, set: away }
    const failures: unknown[] = []
    const note = (message: unknown) => void failures.push(message)
    diagnostics('failure').subscribe(note)
    const request = clientOf(undiciStore(region as never))
    state.answer = cacheable
    assert.match(await text(request('/away')), /^answer/)
    await request('/away', 'POST')
    await settled()
    diagnostics('failure').unsubscribe(note)
    assert.ok(failures.length >= 3)
    await place.end()
  })
})
