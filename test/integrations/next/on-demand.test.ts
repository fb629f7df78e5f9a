/** Next's own caches over the handler: what it renders on demand, or sooner than the entry says, reaches the next visitor. */
import { AsyncLocalStorage } from 'node:async_hooks'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { nextIsrHandler } from '../../../src/integrations/next/index.js'
import { type Place, places } from '../../support/regions.js'
import { turn } from '../../support/waiting.js'

// A server of Next puts it there before it loads any of these.
Object.assign(globalThis, { AsyncLocalStorage })
const { IncrementalCache } = await import('next/dist/server/lib/incremental-cache/index.js')
const responses = await import('next/dist/server/response-cache/index.js')
const ResponseCache = responses.default as unknown as typeof responses.default.default
const { unstable_cache } = await import('next/cache.js')

interface Rendered {
  readonly value: { readonly html: { toUnchunkedString(): unknown } }
}

const HOUR = 3_600
const ON_DEMAND = { 'x-prerender-revalidate': 'secret' }

describe.each(Object.entries(places))('Next.js, on demand, over %s', (_, open) => {
  let place: Place
  beforeEach(async () => {
    place = await open()
  })
  afterEach(() => place.end())

  /** The cache of one request. */
  const requestCache = (requestHeaders = {}) =>
    new IncrementalCache({
      ...{ dev: false, minimalMode: false, serverDistDir: '/nowhere', requestHeaders },
      previewProps: { previewModeId: 'secret' },
      prerenderManifest: { routes: {}, dynamicRoutes: {}, notFoundRoutes: [] },
      CurCacheHandler: nextIsrHandler(place.region),
    } as never)

  it('serves after res.revalidate() the page that it rendered', async () => {
    let row = 'old'
    let renderings = 0
    const files = { bundlePath: 'pages/page', filename: '' }
    const route = { kind: 'PAGES', page: '/page', pathname: '/page', sourceRoute: '/page', ...files }
    const visit = async (headers = {}) => {
      const cache = new ResponseCache({ minimalMode: false, route } as never)
      const context = { routeKind: 'PAGES', isOnDemandRevalidate: headers === ON_DEMAND, isFallback: false }
      const render = async () => {
        renderings++
        const html = { toUnchunkedString: async () => row, isDynamic: false, contentType: 'text/html' }
        const value = { kind: 'PAGES', html, pageData: {}, headers: {}, status: 200 }
        return { value, cacheControl: { revalidate: HOUR, expire: 2 * HOUR } }
      }
      const response = await cache.get(
        '/page',
        render as never,
        {
          ...context,
          incrementalCache: requestCache(headers),
        } as never,
      )
      return (response as unknown as Rendered).value.html.toUnchunkedString()
    }
    expect([await visit(), await visit()]).toEqual(['old', 'old'])
    row = 'new'
    expect([await visit(), await visit(ON_DEMAND)]).toEqual(['old', 'new'])
    expect([await visit(), await visit(), renderings]).toEqual(['new', 'new', 2])
  })

  it('serves new data after a page that reads it was revalidated on demand', async () => {
    let row = 'old'
    const visit = (headers = {}) => {
      Object.assign(globalThis, { __incrementalCache: requestCache(headers) })
      return unstable_cache(async () => row, ['row'], { revalidate: HOUR })()
    }
    try {
      expect([await visit(), await visit()]).toEqual(['old', 'old'])
      row = 'new'
      expect([await visit(), await visit(ON_DEMAND)]).toEqual(['old', 'new'])
      expect([await visit(), await visit()]).toEqual(['new', 'new'])
    } finally {
      Object.assign(globalThis, { __incrementalCache: undefined })
    }
  })

  it('renews data for a reader whose time to revalidate is shorter than that of the entry', async () => {
    const read = async (text: string, revalidate: number) => {
      const start = Date.now()
      while (Date.now() === start) await turn()
      const cache = requestCache()
      const found = await cache.get('key', { kind: 'FETCH', revalidate, tags: [], softTags: [] } as never)
      const value = { kind: 'FETCH', data: { headers: {}, body: text, status: 200, url: '' }, revalidate }
      // As unstable_cache does: what is stale is served, and renewed behind the visitor.
      if (!found || found.isStale)
        await cache.set('key', value as never, { fetchCache: true, tags: [] } as never)
      return found && (found.value as unknown as typeof value).data.body
    }
    await read('old', 24 * HOUR)
    expect([await read('new', Number.MIN_VALUE), await read('newer', HOUR)]).toEqual(['old', 'new'])
  })
})
