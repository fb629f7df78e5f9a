/** The handlers of Next.js, called in the order in which Next calls them: read, render, write. */
import { setTimeout as pause } from 'node:timers/promises'
import type { CacheEntry, CacheHandler } from 'next/dist/server/lib/cache-handlers/types.js'
import type { CacheHandler as IsrHandler } from 'next/dist/server/lib/incremental-cache/index.js'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { memory } from '../../../backends/memory/index.js'
import { diagnostics, makeRegion, type Region } from '../../../src/index.js'
import { nextIsrHandler, nextUseCacheHandler } from '../../../src/integrations/next/index.js'
import { type Place, places } from '../../support/regions.js'

const HOUR = 3_600

/** An entry whose rendering begins now, by the clock of Next. */
function rendered(text: string, more: Partial<CacheEntry> = {}): CacheEntry {
  const value = new Response(text).body as ReadableStream<Uint8Array>
  const timestamp = performance.timeOrigin + performance.now()
  return { value, tags: ['articles'], stale: 30, timestamp, revalidate: HOUR, expire: 2 * HOUR, ...more }
}

/** The keys and reasons of `corral:unstored` while the work runs. */
async function unstored(work: () => unknown): Promise<unknown[]> {
  const told: unknown[] = []
  const listen = ({ key, reason }: { key: string; reason: string }) => void told.push([key, reason])
  diagnostics('unstored').subscribe(listen as never)
  await work()
  diagnostics('unstored').unsubscribe(listen as never)
  return told
}

const SOFT = ['_N_T_/layout', '_N_T_/page']

describe.each(Object.entries(places))('Next.js over %s', (_, open) => {
  let place: Place
  beforeEach(async () => {
    place = await open()
  })
  afterEach(() => place.end())
  const handlerOf = (region: Region) => nextUseCacheHandler(region) satisfies CacheHandler
  const textOf = async (handler: CacheHandler, key: string, soft = SOFT) => {
    const found = await handler.get(key, soft)
    return found && new Response(found.value).text()
  }
  const render = async (handler: CacheHandler, key: string, text: string) => {
    await handler.get(key, SOFT)
    await handler.set(key, Promise.resolve(rendered(text)))
  }

  describe("'use cache'", () => {
    it('returns what was rendered, with a stream for each read', async () => {
      const handler = handlerOf(place.region)
      expect(await handler.get('k', SOFT)).toBeUndefined()
      const entry = rendered('one')
      await handler.set('k', Promise.resolve(entry))
      expect(await textOf(handler, 'k')).toBe('one')
      const { value, ...rest } = (await handler.get('k', SOFT)) as CacheEntry
      expect(await new Response(value).text()).toBe('one')
      const { value: _, ...given } = entry
      expect(rest).toEqual(given)
    })

    it('does not store a rendering that began before its tag was revalidated', async () => {
      const handler = handlerOf(place.region)
      await handler.get('k', SOFT)
      const old = rendered('old')
      await handlerOf(place.region).updateTags(['articles'])
      await handler.set('k', Promise.resolve(old))
      expect(await textOf(handler, 'k')).toBeUndefined()
      await render(handler, 'k', 'new')
      expect(await textOf(handler, 'k')).toBe('new')
    })

    it('gives no rendering a moment after it began, be it of a later visitor', async () => {
      const handler = handlerOf(place.region)
      await handler.get('k', SOFT)
      await handler.get('k', SOFT)
      const [first, second, third] = ['first', 'second', 'third'].map((text) => rendered(text))
      await handler.set('k', Promise.resolve(first as CacheEntry))
      await handler.updateTags(['articles'])
      expect(await textOf(handler, 'k')).toBeUndefined()
      for (const late of [second, third]) {
        await handler.set('k', Promise.resolve(late as CacheEntry))
        expect(await textOf(handler, 'k')).toBeUndefined()
      }
    })

    it('replaces on demand, without a read, an entry that is fresh', async () => {
      const handler = handlerOf(place.region)
      await render(handler, 'k', 'old')
      await handler.set('k', Promise.resolve(rendered('new')))
      expect(await textOf(handler, 'k')).toBe('new')
    })

    it('loses on demand an entry if it cannot know of changes since the rendering began, and says so', async () => {
      await render(handlerOf(place.region), 'k', 'old')
      const other = handlerOf(place.region)
      const told = await unstored(() => other.set('k', Promise.resolve(rendered('new'))))
      expect(told).toEqual([['use-cache:k', 'the moment before its rendering is not known']])
      expect(await textOf(other, 'k')).toBeUndefined()
    })

    it('stores under a key that a function with root parameters did not read', async () => {
      const handler = handlerOf(place.region)
      expect(await handler.get('k', SOFT)).toBeUndefined()
      await Promise.all([
        handler.set('k:en', Promise.resolve(rendered('page'))),
        handler.set('k', Promise.resolve(rendered('redirect'))),
      ])
      expect([await textOf(handler, 'k'), await textOf(handler, 'k:en')]).toEqual(['redirect', 'page'])
    })

    it.each([
      ['hard without a time to go on', undefined],
      ['hard with expire: 0', { expire: 0 }],
    ])('loses an entry whose tag was revalidated %s', async (_, durations) => {
      const handler = handlerOf(place.region)
      await render(handler, 'k', 'old')
      await handler.updateTags(['others'], durations)
      expect(await textOf(handler, 'k')).toBe('old')
      await handler.updateTags(['others', 'articles'], durations)
      expect(await textOf(handler, 'k')).toBeUndefined()
    })

    it('lets an entry go on as stale until it is rendered again, if its tag was revalidated softly', async () => {
      const handler = handlerOf(place.region)
      await render(handler, 'k', 'old')
      await handler.updateTags(['articles'], { expire: HOUR })
      expect(await handler.get('k', SOFT)).toMatchObject({ revalidate: -1, tags: ['articles'] })
      await handler.set('k', Promise.resolve(rendered('new')))
      expect(await handler.get('k', SOFT)).toMatchObject({ revalidate: HOUR })
      expect(await textOf(handler, 'k')).toBe('new')
      await handler.updateTags(['articles'])
      expect(await textOf(handler, 'k')).toBeUndefined()
    })

    it('judges the soft tags of the route that reads', async () => {
      const handler = handlerOf(place.region)
      await render(handler, 'k', 'old')
      await handler.updateTags([SOFT[1] as string])
      expect(await textOf(handler, 'k')).toBeUndefined()
      await render(handler, 'k', 'new')
      // A route that has not read it yet has tags that the ledger may not know: once it is a miss.
      const other = ['_N_T_/layout', '_N_T_/other/page']
      if ((await textOf(handler, 'k', other)) === undefined)
        await handler.set('k', Promise.resolve(rendered('newer')))
      for (const soft of [other, SOFT, other]) expect(await textOf(handler, 'k', soft)).toMatch(/^new/)
      await handler.updateTags([other[1] as string])
      expect(await textOf(handler, 'k', SOFT)).toMatch(/^new/)
      expect(await textOf(handler, 'k', other)).toBeUndefined()
    })

    it('reads the tags of an entry, and those of a read, at the call', async () => {
      const handler = handlerOf(place.region)
      await handler.get('k', SOFT)
      const tags = ['articles']
      const pull = (stream: ReadableStreamDefaultController<Uint8Array>) => {
        tags[0] = 'other'
        stream.enqueue(new Uint8Array([97]))
        stream.close()
      }
      const value = new ReadableStream({ pull }, { highWaterMark: 0 })
      await handler.set('k', Promise.resolve(rendered('', { value, tags })))
      expect(await textOf(handler, 'k')).toBe('a')
      await handler.updateTags(['layout'])
      const soft = ['layout']
      const reading = textOf(handler, 'k', soft)
      soft.pop()
      expect(await reading).toBeUndefined()
      await handler.updateTags(['articles'])
      expect(await textOf(handler, 'k')).toBeUndefined()
    })

    it('lets a read wait for the entry that is being rendered', async () => {
      const handler = handlerOf(place.region)
      await handler.get('k', SOFT)
      let finish: (entry: CacheEntry) => void = () => {}
      const writing = handler.set('k', new Promise((resolve) => (finish = resolve)))
      const reading = textOf(handler, 'k')
      finish(rendered('late'))
      expect(await reading).toBe('late')
      await writing
    })

    it('is a miss after a rendering that fails, or whose stream breaks off, and says so', async () => {
      const handler = handlerOf(place.region)
      const failures: unknown[] = []
      const listen = (message: unknown) => void failures.push((message as { where: string }).where)
      diagnostics('failure').subscribe(listen)
      const broken = new ReadableStream<Uint8Array>({
        start(controller) {
          controller.enqueue(Buffer.from('half'))
          controller.error(new Error('cut'))
        },
      })
      for (const render of [
        () => Promise.reject(new Error('down')),
        async () => rendered('', { value: broken }),
      ]) {
        await handler.get('k', SOFT)
        await handler.set('k', render())
        expect(await textOf(handler, 'k')).toBeUndefined()
      }
      diagnostics('failure').unsubscribe(listen)
      expect(failures).toEqual(['next', 'next'])
    })

    it('stores nothing that may not be used at all, and an endless life without an end', async () => {
      const handler = handlerOf(place.region)
      await handler.get('k', SOFT)
      await handler.set('k', Promise.resolve(rendered('never', { expire: 0 })))
      expect(await textOf(handler, 'k')).toBeUndefined()
      await handler.set('k', Promise.resolve(rendered('endless', { expire: 0xfffffffe })))
      expect(await textOf(handler, 'k')).toBe('endless')
    })

    it('renews an entry that is past its time to revalidate', async () => {
      const handler = handlerOf(place.region)
      await handler.get('k', SOFT)
      await handler.set('k', Promise.resolve(rendered('old', { revalidate: -1 })))
      expect(await textOf(handler, 'k')).toBe('old')
      await handler.set('k', Promise.resolve(rendered('new')))
      expect(await textOf(handler, 'k')).toBe('new')
    })
  })

  describe('pages, routes and fetch', () => {
    const isrOf = (region: Region): IsrHandler => new (nextIsrHandler(region))() as IsrHandler
    const page = (html: string, tags = 'articles,_N_T_/page') =>
      ({
        kind: 'APP_PAGE',
        html,
        rscData: Buffer.from([1, 2, 255]),
        headers: { 'x-next-cache-tags': tags },
        postponed: undefined,
        status: 200,
        segmentData: new Map([['/_tree', Buffer.from('tree')]]),
      }) as never
    const control = { cacheControl: { revalidate: HOUR, expire: 2 * HOUR } } as never
    const read = { kind: 'APP_PAGE', isFallback: false } as never

    it('keeps a page as it is, with its Map and Buffers and its cache control', async () => {
      const handler = isrOf(place.region)
      expect(await handler.get('/p', read)).toBeNull()
      await handler.set('/p', page('one'), control)
      const found = await isrOf(place.region).get('/p', read)
      expect(found).toMatchObject({ cacheControl: { revalidate: HOUR, expire: 2 * HOUR } })
      expect(found?.value).toEqual(page('one'))
      await handler.set('/p', null, {} as never)
      expect(await handler.get('/p', read)).toBeNull()
    })

    it('loses it with a tag of its headers, and does not store one rendered before that', async () => {
      const handler = isrOf(place.region)
      await handler.get('/p', read)
      await handler.revalidateTag('articles')
      await handler.set('/p', page('old'), control)
      expect(await handler.get('/p', read)).toBeNull()
      await handler.set('/p', page('new'), control)
      expect((await handler.get('/p', read))?.value).toEqual(page('new'))
      await handler.revalidateTag(['_N_T_/page'])
      expect(await handler.get('/p', read)).toBeNull()
    })

    it('does not take the moment of another request’s rendering', async () => {
      const [first, second, third] = [1, 2, 3].map(() => isrOf(place.region)) as IsrHandler[]
      for (const handler of [first, second]) await handler?.get('/p', read)
      await first?.set('/p', page('old'), control)
      await third?.revalidateTag('articles')
      expect(await third?.get('/p', read)).toBeNull()
      const told = await unstored(() => second?.set('/p', page('old'), control))
      expect(told).toEqual([['isr:/p', 'one of its tags was revalidated after its rendering began']])
      expect(await third?.get('/p', read)).toBeNull()
    })

    it('does not take the moment of a later rendering of the same request', async () => {
      const handler = isrOf(place.region)
      await handler.get('/p', read)
      await handler.revalidateTag('articles')
      expect(await handler.get('/p', read)).toBeNull()
      await handler.set('/p', page('old'), control)
      expect(await isrOf(place.region).get('/p', read)).toBeNull()
    })

    it('stores both of two renderings of one request, and loses what one without a read replaces', async () => {
      const handler = isrOf(place.region)
      for (let i = 0; i < 2; i++) await handler.get('/p', read)
      for (const html of ['one', 'two']) {
        await handler.set('/p', page(html), control)
        expect((await isrOf(place.region).get('/p', read))?.value).toEqual(page(html))
      }
      const told = await unstored(() => handler.set('/p', page('three'), control))
      expect(told).toEqual([['isr:/p', 'the moment before its rendering is not known']])
      expect(await isrOf(place.region).get('/p', read)).toBeNull()
    })

    it('says of a page whose tag was revalidated softly that its time is past, not over', async () => {
      const handler = isrOf(place.region)
      await handler.get('/p', read)
      await handler.set('/p', page('old'), control)
      await handler.revalidateTag('articles', { expire: HOUR })
      const { lastModified = 0 } = (await handler.get('/p', read)) ?? {}
      expect(lastModified + HOUR * 1_000).toBeLessThan(Date.now())
      expect(lastModified + 2 * HOUR * 1_000).toBeGreaterThan(Date.now())
      await handler.set('/p', page('new'), control)
      const renewed = await handler.get('/p', read)
      expect(renewed?.value).toEqual(page('new'))
      expect((renewed?.lastModified ?? 0) + HOUR * 1_000).toBeGreaterThan(Date.now())
    })

    it('lets a visitor wait for a page without a time to revalidate whose tag was revalidated softly', async () => {
      const handler = isrOf(place.region)
      await handler.get('/p', read)
      await handler.set('/p', page('old'), { cacheControl: { revalidate: false } } as never)
      await handler.revalidateTag('articles', { expire: HOUR })
      expect((await handler.get('/p', read))?.lastModified).toBe(-1)
    })

    it('judges a response of fetch by its own tags and those of the route', async () => {
      const handler = isrOf(place.region)
      const fetched = (body: string) =>
        ({
          kind: 'FETCH',
          data: { headers: {}, body, url: 'http://x', status: 200 },
          revalidate: HOUR,
        }) as never
      const reading = { kind: 'FETCH', tags: ['prices'], softTags: ['_N_T_/shop/page'] } as never
      const store = async (body: string) => {
        await handler.get('f', reading)
        await handler.set('f', fetched(body), { fetchCache: true, tags: ['prices'] } as never)
        return (await handler.get('f', reading))?.value
      }
      for (const tag of ['prices', '_N_T_/shop/page']) {
        expect(await store(tag)).toEqual(fetched(tag))
        await handler.revalidateTag(tag)
        expect(await handler.get('f', reading)).toBeNull()
      }
    })
  })
})

describe('handlers of Next.js over two regions on one store', () => {
  it('see each other’s entries and invalidations, also after a pause between read and write', async () => {
    const place = await places.Redis()
    const [one, other] = [nextUseCacheHandler(place.region), nextUseCacheHandler(place.region)]
    await one.get('k', SOFT)
    const old = rendered('old')
    await pause(5)
    await other.updateTags(['articles'])
    await one.set('k', Promise.resolve(old))
    expect(await other.get('k', SOFT)).toBeUndefined()
    await place.end()
  })
})

describe('a handler of Next.js', () => {
  it.each([nextUseCacheHandler, nextIsrHandler])('is refused without a region: %o', (make) => {
    for (const wrong of [undefined, null, {}, 'region'])
      expect(() => make(wrong as never)).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }))
  })

  it('tells of a region without dependencies()', async () => {
    const handler = nextUseCacheHandler(makeRegion({ name: 'plain', backend: memory() }))
    await expect(handler.get('k', SOFT)).rejects.toMatchObject({ code: 'ERR_NO_LEDGER' })
  })
})
